//! What the standard chain does to writes, as data: who writes what, and what becomes of it.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;

use admission::plugins::NodeRestriction;
use admission::{Attributes, Chain, Lookup, NoOptions, Operation};
use apimachinery::gvk::{GroupResource, GroupVersionKind};
use apimachinery::status::Status;
use apimachinery::warnings::Warnings;
use async_trait::async_trait;
use auth::UserInfo;
use serde_json::{Value, json};

/// What no plugin looks at.
const UNNAMED: GroupVersionKind = GroupVersionKind::of("", "v1", "");

/// Objects by `resource/namespace/name`.
#[derive(Default)]
struct World(BTreeMap<String, Value>);

#[async_trait]
impl Lookup for World {
    async fn get(
        &self,
        resource: &GroupResource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, Status> {
        Ok(self.0.get(&format!("{resource}/{namespace}/{name}")).cloned())
    }

    async fn list(&self, resource: &GroupResource, namespace: &str) -> Result<Vec<Value>, Status> {
        let prefix =
            if namespace.is_empty() { format!("{resource}/") } else { format!("{resource}/{namespace}/") };
        let found = self.0.iter().filter(|(key, _)| key.starts_with(&prefix));
        Ok(found.map(|(_, object)| object.clone()).collect())
    }

    async fn replace_status(&self, _: &GroupResource, _: Value) -> Result<bool, Status> {
        Ok(true)
    }
}

fn world() -> World {
    let mut world = World::default();
    let mut add = |key: &str, object: Value| world.0.insert(key.to_owned(), object);
    add("namespaces//work", json!({"metadata": {"name": "work"}}));
    add(
        "namespaces//leaving",
        json!({"metadata": {"name": "leaving", "deletionTimestamp": "2026-01-01T00:00:00Z"}}),
    );
    let labels = json!({"pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/warn": "restricted",
        "pod-security.kubernetes.io/warn-version": "v1.30"});
    add("namespaces//strict", json!({"metadata": {"name": "strict", "labels": labels}}));
    add("serviceaccounts/strict/default", json!({}));
    for name in ["old-2", "old-1"] {
        add(&format!("pods/strict/{name}"), json!({"metadata": {"name": name}, "spec": {"hostPID": true}}));
    }
    add("serviceaccounts/work/default", json!({"imagePullSecrets": [{"name": "pull"}]}));
    add("serviceaccounts/work/quiet", json!({"automountServiceAccountToken": false}));
    add("nodes//one", json!({"metadata": {"name": "one", "uid": "u1"}}));
    add(
        "runtimeclasses.node.k8s.io//wasm",
        json!({"handler": "wasm", "overhead": {"podFixed": {"memory": "8Mi"}},
            "scheduling": {"nodeSelector": {"wasm": "yes"}, "tolerations": [{"key": "wasm", "operator": "Exists"}]}}),
    );
    let class = |name: &str, created: &str, default: &str| {
        json!({"metadata": {"name": name, "creationTimestamp": created,
            "annotations": {"ingressclass.kubernetes.io/is-default-class": default}}})
    };
    for (name, created, default) in [
        ("older", "2026-01-01T00:00:00Z", "true"),
        ("newer", "2026-01-02T00:00:00Z", "true"),
        ("newest", "2026-01-03T00:00:00Z", "false"),
    ] {
        add(&format!("ingressclasses.networking.k8s.io//{name}"), class(name, created, default));
    }
    let class = |value: i64| json!({"value": value, "preemptionPolicy": "PreemptLowerPriority"});
    add("priorityclasses.scheduling.k8s.io//system-node-critical", class(2_000_001_000));
    add(
        "priorityclasses.scheduling.k8s.io//quiet",
        json!({"metadata": {"name": "quiet"}, "value": 7, "preemptionPolicy": "Never"}),
    );
    world
}

fn standard() -> Chain {
    let clock = clock::ManualClock::new("2026-01-01T00:00:00Z".parse().unwrap());
    Chain::standard(std::sync::Arc::new(clock), std::sync::Arc::new(clock::SeededRandom::new(7)))
}

struct Write {
    operation: Operation,
    resource: GroupResource,
    subresource: &'static str,
    namespace: &'static str,
    name: &'static str,
    user: UserInfo,
    old: Option<Value>,
    warnings: Warnings,
}

impl Write {
    fn of(resource: GroupResource, namespace: &'static str, name: &'static str) -> Self {
        let user = UserInfo { name: "someone".into(), ..UserInfo::default() };
        Self {
            operation: Operation::Create,
            resource,
            subresource: "",
            namespace,
            name,
            user,
            old: None,
            warnings: Warnings::default(),
        }
    }

    fn pod(name: &'static str) -> Self {
        Self::of(GroupResource::of("", "pods"), "work", name)
    }

    fn by_node(mut self, node: &str) -> Self {
        self.user = UserInfo {
            name: format!("system:node:{node}"),
            groups: vec!["system:nodes".into()],
            ..UserInfo::default()
        };
        self
    }

    fn update(self, old: Value) -> Self {
        Self { operation: Operation::Update, old: Some(old), ..self }
    }

    fn delete(self) -> Self {
        Self { operation: Operation::Delete, ..self }
    }

    async fn run(&self, object: Value) -> Result<Value, String> {
        self.run_through(&standard(), object).await
    }

    async fn run_through(&self, chain: &Chain, object: Value) -> Result<Value, String> {
        self.run_in(&world(), chain, object).await
    }

    async fn run_in(&self, world: &World, chain: &Chain, object: Value) -> Result<Value, String> {
        let attributes = Attributes {
            operation: self.operation,
            resource: &self.resource,
            version: "v1",
            kind: &UNNAMED,
            subresource: self.subresource,
            namespace: self.namespace,
            name: self.name,
            user: &self.user,
            old: self.old.as_ref(),
            warnings: &self.warnings,
            dry_run: false,
            options: &NoOptions,
        };
        let mut object = object;
        let result = async {
            chain.mutate(&attributes, &mut object, world).await?;
            let given = (self.operation != Operation::Delete).then_some(&object);
            chain.validate(&attributes, given, world).await
        };
        result.await.map_err(|status: Status| format!("{} {}", status.code, status.message))?;
        Ok(object)
    }

    async fn refused(&self, object: Value, expected: &str) {
        assert_eq!(self.run(object).await.unwrap_err(), expected);
    }
}

fn pod(spec: Value) -> Value {
    json!({"metadata": {"name": "a"}, "spec": spec})
}

#[tokio::test]
async fn namespaces_must_exist_and_stay() {
    let config_maps = || GroupResource::of("", "configmaps");
    Write::of(config_maps(), "work", "a").run(json!({})).await.unwrap();
    Write::of(config_maps(), "gone", "a").refused(json!({}), "404 namespaces \"gone\" not found").await;
    let expected = "403 configmaps \"a\" is forbidden: unable to create new content in namespace leaving because it is \
                    being terminated";
    Write::of(config_maps(), "leaving", "a").refused(json!({}), expected).await;
    // Before anything else is looked for in a namespace that is not there.
    let pods = |namespace| Write::of(GroupResource::of("", "pods"), namespace, "a");
    pods("gone").refused(pod(json!({})), "404 namespaces \"gone\" not found").await;
    let expected = "403 pods \"a\" is forbidden: unable to create new content in namespace leaving because it is being \
                    terminated";
    pods("leaving").refused(pod(json!({})), expected).await;
    Write::of(config_maps(), "leaving", "a").delete().run(json!({})).await.unwrap();
    let namespaces = GroupResource::of("", "namespaces");
    Write::of(namespaces.clone(), "", "work").delete().run(json!({})).await.unwrap();
    let expected = "403 namespaces \"default\" is forbidden: this namespace may not be deleted";
    Write::of(namespaces, "", "default").delete().refused(json!({}), expected).await;
}

#[tokio::test]
async fn a_pod_gets_account_tolerations_and_priority() {
    let admitted = Write::pod("a").run(pod(json!({}))).await.unwrap();
    let toleration = |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
    let expected = json!({
        "serviceAccountName": "default", "serviceAccount": "default", "imagePullSecrets": [{"name": "pull"}],
        "priority": 0, "preemptionPolicy": "PreemptLowerPriority",
        "tolerations": [toleration("node.kubernetes.io/not-ready"), toleration("node.kubernetes.io/unreachable")],
    });
    assert_eq!(admitted["spec"], expected);
    let own = json!({"tolerations": [{"operator": "Exists"}], "priorityClassName": "system-node-critical"});
    let admitted = Write::pod("a").run(pod(own)).await.unwrap();
    assert_eq!(admitted["spec"]["tolerations"], json!([{"operator": "Exists"}]));
    assert_eq!(admitted["spec"]["priority"], 2_000_001_000);
}

#[tokio::test]
async fn containers_find_credentials_unless_somebody_says_no() {
    let at = "/var/run/secrets/kubernetes.io/serviceaccount";
    let own = json!({"name": "own", "mountPath": at});
    let containers = json!([{"name": "a"}, {"name": "b", "volumeMounts": [own]}]);
    let spec = json!({"containers": containers, "initContainers": [{"name": "i"}]});
    let admitted = Write::pod("a").run(pod(spec.clone())).await.unwrap();
    let volume = &admitted["spec"]["volumes"][0];
    let name = volume["name"].as_str().unwrap();
    assert!(name.strip_prefix("kube-api-access-").is_some_and(|rest| rest.len() == 5), "{name}");
    let sources = volume["projected"]["sources"].as_array().unwrap();
    assert_eq!(sources[0], json!({"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}}));
    assert_eq!(sources[1]["configMap"]["name"], "kube-root-ca.crt");
    let mounts = |list: &str, at: usize| admitted["spec"][list][at]["volumeMounts"].clone();
    let given = json!([{"name": name, "readOnly": true, "mountPath": at}]);
    assert_eq!([mounts("containers", 0), mounts("initContainers", 0)], [given.clone(), given]);
    assert_eq!(mounts("containers", 1), json!([own]));
    // Written back, as a template of a pod that was read, it is not given a second volume.
    let again = Write::pod("a").run(pod(admitted["spec"].clone())).await.unwrap();
    assert_eq!(again["spec"], admitted["spec"]);

    let without = async |account: &str, says: Value| {
        let mut spec = spec.clone();
        spec["serviceAccountName"] = json!(account);
        spec["automountServiceAccountToken"] = says;
        Write::pod("a").run(pod(spec)).await.unwrap()["spec"]["volumes"].is_null()
    };
    assert!(without("default", json!(false)).await && !without("default", json!(null)).await);
    assert!(without("quiet", json!(null)).await && !without("quiet", json!(true)).await);
}

#[tokio::test]
async fn what_a_pod_names_must_exist() {
    let expected = "403 pods \"a\" is forbidden: error looking up service account work/other: serviceaccount \"other\" \
                    not found";
    Write::pod("a").refused(pod(json!({"serviceAccountName": "other"})), expected).await;
    let expected = "403 pods \"a\" is forbidden: no PriorityClass with name high was found";
    Write::pod("a").refused(pod(json!({"priorityClassName": "high"})), expected).await;
    let expected = "403 pods \"a\" is forbidden: pod rejected: RuntimeClass \"none\" not found";
    Write::pod("a").refused(pod(json!({"runtimeClassName": "none"})), expected).await;
}

#[tokio::test]
async fn a_runtime_class_says_where_and_at_what_cost() {
    let admitted = Write::pod("a").run(pod(json!({"runtimeClassName": "wasm"}))).await.unwrap();
    assert_eq!(admitted["spec"]["overhead"], json!({"memory": "8Mi"}));
    assert_eq!(admitted["spec"]["nodeSelector"], json!({"wasm": "yes"}));
    assert!(
        admitted["spec"]["tolerations"]
            .as_array()
            .unwrap()
            .contains(&json!({"key": "wasm", "operator": "Exists"}))
    );
    let other = pod(json!({"runtimeClassName": "wasm", "nodeSelector": {"wasm": "no"}}));
    let expected = "403 pods \"a\" is forbidden: conflict: runtimeClass.scheduling.nodeSelector[wasm] = yes; \
                    pod.spec.nodeSelector[wasm] = no";
    Write::pod("a").refused(other, expected).await;
    let alone = pod(json!({"overhead": {"memory": "1"}}));
    let expected = "403 pods \"a\" is forbidden: pod rejected: Pod Overhead set without corresponding RuntimeClass \
                    defined Overhead";
    Write::pod("a").refused(alone, expected).await;
}

#[tokio::test]
async fn an_ingress_without_a_class_gets_the_newest_default() {
    let write = Write::of(GroupResource::of("networking.k8s.io", "ingresses"), "work", "a");
    let admitted = write.run(json!({"spec": {}})).await.unwrap();
    assert_eq!(admitted["spec"]["ingressClassName"], "newer");
    let own = json!({"spec": {"ingressClassName": "older"}});
    assert_eq!(write.run(own.clone()).await.unwrap(), own);
    let annotated = json!({"metadata": {"annotations": {"kubernetes.io/ingress.class": "x"}}, "spec": {}});
    assert_eq!(write.run(annotated.clone()).await.unwrap(), annotated);
}

#[tokio::test]
async fn a_kubelet_keeps_to_its_node() {
    let nodes = |name| Write::of(GroupResource::of("", "nodes"), "", name).by_node("one");
    let node = |name: &str, labels: Value| json!({"metadata": {"name": name, "labels": labels}});
    nodes("one").run(node("one", json!({"kubernetes.io/os": "linux", "mine": "1"}))).await.unwrap();
    let expected = "403 nodes \"two\" is forbidden: node \"one\" is not allowed to modify node \"two\"";
    nodes("two").refused(node("two", json!({})), expected).await;
    let expected = "403 nodes \"one\" is forbidden: is not allowed to modify the following labels: \
                    node-restriction.kubernetes.io/a, x.kubernetes.io/b";
    let labels = json!({"node-restriction.kubernetes.io/a": "", "x.kubernetes.io/b": ""});
    nodes("one").update(node("one", json!({}))).refused(node("one", labels.clone()), expected).await;
    nodes("one").update(node("one", labels)).refused(node("one", json!({})), expected).await;
    let mut tainted = node("one", json!({}));
    tainted["spec"] = json!({"taints": []});
    let expected = "403 nodes \"one\" is forbidden: node \"one\" is not allowed to modify taints";
    nodes("one").update(tainted).refused(node("one", json!({})), expected).await;
    let mut owned = node("one", json!({}));
    owned["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "Node", "name": "x", "uid": "gone"}]);
    nodes("one").update(owned.clone()).run(owned.clone()).await.unwrap();
    let expected = "403 nodes \"one\" is forbidden: node \"one\" is not allowed to modify ownerReferences";
    nodes("one").update(node("one", json!({}))).refused(owned.clone(), expected).await;
    nodes("one").update(owned).refused(node("one", json!({})), expected).await;
}

#[tokio::test]
async fn a_kubelet_keeps_to_its_pods_and_lease() {
    let mine = pod(json!({"nodeName": "one"}));
    let other = pod(json!({"nodeName": "two"}));
    let mut status = Write::pod("a").by_node("one").update(mine.clone());
    status.subresource = "status";
    status.run(mine.clone()).await.unwrap();
    let mut status = Write::pod("a").by_node("one").update(other.clone());
    status.subresource = "status";
    let expected = "403 pods \"a\" is forbidden: node \"one\" can only update pod status for pods with spec.nodeName set \
                    to itself";
    status.refused(other.clone(), expected).await;
    let mut delete = Write::pod("a").by_node("one").delete();
    delete.old = Some(mine.clone());
    delete.run(Value::Null).await.unwrap();
    delete.old = Some(other);
    let expected =
        "403 pods \"a\" is forbidden: node \"one\" can only delete pods with spec.nodeName set to itself";
    delete.refused(Value::Null, expected).await;
    let expected = "403 pods \"a\" is forbidden: pod does not have \"kubernetes.io/config.mirror\" annotation, node \
                    \"one\" can only create mirror pods";
    Write::pod("a").by_node("one").refused(mine, expected).await;
    let lease = |namespace, name| {
        let leases = GroupResource::of("coordination.k8s.io", "leases");
        Write::of(leases, namespace, name).by_node("one").update(json!({}))
    };
    lease("kube-node-lease", "one").run(json!({})).await.unwrap();
    let expected = "403 leases.coordination.k8s.io \"two\" is forbidden: can only access node lease with the same name \
                    as the requesting node";
    lease("kube-node-lease", "two").refused(json!({}), expected).await;
}

fn mirror(spec: Value) -> Value {
    let mut pod = pod(spec);
    pod["spec"]["nodeName"] = "one".into();
    pod["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "hash"});
    pod["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "Node", "name": "one", "uid": "u1", "controller": true}]);
    pod
}

#[tokio::test]
async fn a_kubelet_does_no_more_to_a_volume_than_hold_it() {
    let volumes = || Write::of(GroupResource::of("", "persistentvolumes"), "", "v").by_node("one");
    let volume = |finalizers: Value, path: &str| json!({"metadata": {"name": "v", "finalizers": finalizers}, "spec": {"local": {"path": path}}});
    let (free, held) =
        (volume(json!(["other"]), "/v"), volume(json!(["other", "monoplane.dev/local-data"]), "/v"));
    volumes().update(free.clone()).run(held.clone()).await.unwrap();
    volumes().update(held.clone()).run(free.clone()).await.unwrap();
    let none = json!({"metadata": {"name": "v"}, "spec": {"local": {"path": "/v"}}});
    volumes().update(none).run(volume(json!(["monoplane.dev/local-data"]), "/v")).await.unwrap();
    let expected = "403 persistentvolumes \"v\" is forbidden: node \"one\" can only hold and let go of persistentvolumes, by \
                    the finalizer \"monoplane.dev/local-data\"";
    volumes().update(held.clone()).refused(volume(json!(["monoplane.dev/local-data"]), "/v"), expected).await;
    volumes().update(held.clone()).refused(volume(json!(["other"]), "/etc"), expected).await;
    volumes().refused(held, expected).await;
}

#[tokio::test]
async fn a_mirror_pod_is_owned_by_its_node() {
    let by_node = || Write::pod("a").by_node("one");
    by_node().run(mirror(json!({}))).await.unwrap();
    let with = |change: fn(&mut Value)| {
        let mut pod = mirror(json!({}));
        change(&mut pod["metadata"]["ownerReferences"]);
        pod
    };
    let cases = [
        (
            with(|owners| *owners = json!([])),
            "node \"one\" can only create pods with an owner reference set to itself",
        ),
        (
            with(|owners| *owners = json!([owners[0], owners[0]])),
            "node \"one\" can only create pods with a single owner reference set to itself",
        ),
        (
            with(|owners| owners[0]["name"] = "two".into()),
            "node \"one\" can only create pods with an owner reference set to itself",
        ),
        (
            with(|owners| owners[0]["controller"] = false.into()),
            "node \"one\" can only create pods with a controller owner reference set to itself",
        ),
        (
            with(|owners| owners[0]["blockOwnerDeletion"] = true.into()),
            "node \"one\" must not set blockOwnerDeletion on an owner reference",
        ),
        (with(|owners| owners[0]["uid"] = "u2".into()), "node one UID mismatch: expected u2 got u1"),
    ];
    for (pod, why) in cases {
        by_node().refused(pod, &format!("403 pods \"a\" is forbidden: {why}")).await;
    }
}

#[tokio::test]
async fn a_mirror_pod_refers_to_nothing() {
    let secret = json!({"env": [{"valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]});
    let cases = [
        (json!({"containers": [secret]}), "secrets"),
        (json!({"ephemeralContainers": [secret]}), "secrets"),
        (json!({"imagePullSecrets": [{"name": "s"}]}), "secrets"),
        (json!({"volumes": [{"projected": {"sources": [{"secret": {"name": "s"}}]}}]}), "secrets"),
        (json!({"initContainers": [{"envFrom": [{"configMapRef": {"name": "s"}}]}]}), "configmaps"),
        (json!({"volumes": [{"persistentVolumeClaim": {"claimName": "s"}}]}), "persistentvolumeclaims"),
    ];
    let say = |why: &str| format!("403 pods \"a\" is forbidden: {why}");
    for (spec, what) in cases {
        if what == "secrets" {
            // Nor may anybody else make one for a node to profit by.
            let expected = say("a mirror pod may not reference secrets");
            Write::pod("a").refused(mirror(spec.clone()), &expected).await;
        }
        let chain = Chain::new(vec![Box::new(NodeRestriction)]);
        let expected = say(&format!("node \"one\" can not create pods that reference {what}"));
        let refused = Write::pod("a").by_node("one").run_through(&chain, mirror(spec)).await;
        assert_eq!(refused.unwrap_err(), expected);
    }
    let account = mirror(json!({"serviceAccountName": "default"}));
    Write::pod("a").refused(account, &say("a mirror pod may not reference service accounts")).await;
    let token = json!({"volumes": [{"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]});
    let expected = say("a mirror pod may not use ServiceAccountToken volume projections");
    Write::pod("a").refused(mirror(token), &expected).await;
}

#[tokio::test]
async fn pods_meet_the_level_of_their_namespace_and_who_makes_others_is_warned() {
    let in_namespace = |resource, name| Write::of(resource, "strict", name);
    let pods = GroupResource::of("", "pods");
    let bad = pod(json!({"hostPID": true, "containers": [{"name": "c", "image": "i"}]}));
    let write = in_namespace(pods.clone(), "a");
    write
        .refused(
            bad.clone(),
            "403 pods \"a\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostPID=true)",
        )
        .await;
    assert!(write.warnings.take().is_empty(), "what is refused is not warned of");

    let good = pod(json!({"serviceAccountName": "default", "containers": [{"name": "c", "image": "i"}]}));
    write.run(good.clone()).await.unwrap();
    let [warning] = write.warnings.take().try_into().unwrap();
    assert!(
        warning.starts_with("would violate PodSecurity \"restricted:v1.30\": allowPrivilegeEscalation"),
        "{warning}"
    );

    // What is there stays there, unless it changes in what it runs.
    let update = in_namespace(pods.clone(), "a").update(bad.clone());
    update.run(bad.clone()).await.unwrap();
    let other = pod(json!({"hostPID": true, "containers": [{"name": "c", "image": "j"}]}));
    assert!(update.run(other).await.unwrap_err().contains("violates PodSecurity"));

    let deployment = json!({"metadata": {"name": "d"}, "spec": {"template": bad}});
    let write = in_namespace(GroupResource::of("apps", "deployments"), "d");
    write.run(deployment).await.unwrap();
    let [warning] = write.warnings.take().try_into().unwrap();
    assert!(warning.contains("host namespaces (hostPID=true)"), "{warning}");
}

#[tokio::test]
async fn a_namespaces_labels_make_sense_and_its_pods_are_looked_at() {
    let namespaces = GroupResource::of("", "namespaces");
    let labelled = |labels: Value| json!({"metadata": {"name": "strict", "labels": labels}});
    let wrong = labelled(json!({"pod-security.kubernetes.io/enforce": "some"}));
    Write::of(namespaces.clone(), "", "strict")
        .refused(
            wrong.clone(),
            "422 Namespace \"strict\" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: \
             Invalid value: \"some\": must be one of privileged, baseline, restricted",
        )
        .await;
    let update = |old: Value| Write::of(namespaces.clone(), "", "strict").update(old);
    // What was wrong before does not keep anybody from changing the rest.
    update(wrong.clone()).run(wrong).await.unwrap();

    let (none, baseline) =
        (labelled(json!({})), labelled(json!({"pod-security.kubernetes.io/enforce": "baseline"})));
    let write = update(none.clone());
    write.run(baseline.clone()).await.unwrap();
    assert_eq!(
        write.warnings.take(),
        [
            "existing pods in namespace \"strict\" violate the new PodSecurity enforce level \"baseline:latest\"",
            "old-1 (and 1 other pod): host namespaces",
        ]
    );
    let relaxed = update(baseline);
    relaxed.run(none).await.unwrap();
    assert!(relaxed.warnings.take().is_empty());
}

#[tokio::test]
async fn a_pods_priority_is_that_of_its_class() {
    let admitted = Write::pod("a").run(pod(json!({"priorityClassName": "quiet"}))).await.unwrap();
    assert_eq!(
        (&admitted["spec"]["priority"], &admitted["spec"]["preemptionPolicy"]),
        (&json!(7), &json!("Never"))
    );
    let expected = "403 pods \"a\" is forbidden: the integer value of priority (8) must not be provided in pod spec; \
                    priority admission controller computed 7 from the given PriorityClass name";
    Write::pod("a").refused(pod(json!({"priorityClassName": "quiet", "priority": 8})), expected).await;
    let expected = "403 pods \"a\" is forbidden: the string value of PreemptionPolicy (PreemptLowerPriority) must not be \
                    provided in pod spec; priority admission controller computed Never from the given PriorityClass name";
    let louder = json!({"priorityClassName": "quiet", "preemptionPolicy": "PreemptLowerPriority"});
    Write::pod("a").refused(pod(louder), expected).await;
}

#[tokio::test]
async fn one_class_is_everybodys() {
    let chain = standard();
    let classes = || GroupResource::of("scheduling.k8s.io", "priorityclasses");
    let everybodys = |name: &str| json!({"metadata": {"name": name}, "value": 3, "globalDefault": true});
    Write::of(classes(), "", "usual").run(everybodys("usual")).await.unwrap();
    let mut world = world();
    world.0.insert("priorityclasses.scheduling.k8s.io//usual".to_owned(), everybodys("usual"));
    let admitted = Write::pod("a").run_in(&world, &chain, pod(json!({}))).await.unwrap();
    let spec = &admitted["spec"];
    assert_eq!((&spec["priority"], &spec["priorityClassName"]), (&json!(3), &json!("usual")));
    let second = Write::of(classes(), "", "second").run_in(&world, &chain, everybodys("second")).await;
    let expected = "403 priorityclasses.scheduling.k8s.io \"second\" is forbidden: PriorityClass usual is already marked \
                    as default. Only one default can exist";
    assert_eq!(second.unwrap_err(), expected);
    let same = Write::of(classes(), "", "usual").update(everybodys("usual"));
    same.run_in(&world, &chain, everybodys("usual")).await.unwrap();
}

#[tokio::test]
async fn a_node_evicts_its_own_pods_only() {
    let mut world = world();
    world.0.insert("pods/work/mine".to_owned(), json!({"spec": {"nodeName": "one"}}));
    world.0.insert("pods/work/theirs".to_owned(), json!({"spec": {"nodeName": "two"}}));
    let chain = standard();
    let evict = |name: &'static str| Write { subresource: "eviction", ..Write::pod(name) }.by_node("one");
    evict("mine").run_in(&world, &chain, json!({})).await.unwrap();
    let refused = evict("theirs").run_in(&world, &chain, json!({})).await.unwrap_err();
    let expected =
        "403 pods \"theirs\" is forbidden: node one can only evict pods with spec.nodeName set to itself";
    assert_eq!(refused, expected);
}

#[tokio::test]
async fn a_node_begins_as_not_ready() {
    let create = || Write::of(GroupResource::of("", "nodes"), "", "one");
    let unready = json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"});
    for (given, expected) in [
        (json!({}), json!([unready])),
        (
            json!({"spec": {"taints": [{"key": "a", "effect": "NoExecute"}]}}),
            json!([{"key": "a", "effect": "NoExecute"}, unready]),
        ),
        (json!({"spec": {"taints": [unready]}}), json!([unready])),
    ] {
        let made = create().run(given).await.unwrap();
        assert_eq!(made["spec"]["taints"], expected);
    }
    let changed = create().update(json!({})).run(json!({"spec": {}})).await.unwrap();
    assert_eq!(changed, json!({"spec": {}}));
}
