//! Limits, quotas and what storage needs: what the standard chain does to pods and claims in a namespace that has them.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use admission::{Attributes, Chain, Lookup, NoOptions, Operation};
use apimachinery::gvk::{GroupResource, GroupVersionKind};
use apimachinery::status::Status;
use async_trait::async_trait;
use auth::UserInfo;
use serde_json::{Value, json};

/// What no plugin looks at.
const UNNAMED: GroupVersionKind = GroupVersionKind::of("", "v1", "");
const PODS: GroupResource = GroupResource::of("", "pods");
const CLAIMS: GroupResource = GroupResource::of("", "persistentvolumeclaims");
const SERVICES: GroupResource = GroupResource::of("", "services");

/// Objects by `resource/namespace/name`, each with a version.
#[derive(Default)]
struct World {
    objects: Mutex<BTreeMap<String, Value>>,
}

impl World {
    fn of(objects: &[(&str, Value)]) -> Self {
        let world = Self::default();
        world.put("namespaces//work", json!({}));
        world.put("priorityclasses.scheduling.k8s.io//system-node-critical", json!({"value": 2_000_001_000}));
        world.put("serviceaccounts/work/default", json!({"automountServiceAccountToken": false}));
        objects.iter().for_each(|(key, object)| world.put(key, object.clone()));
        world
    }

    fn put(&self, key: &str, mut object: Value) {
        let name = key.rsplit('/').next().unwrap();
        object["metadata"]["name"] = json!(name);
        object["metadata"]["namespace"] = json!("work");
        object["metadata"]["resourceVersion"] = json!("1");
        self.objects.lock().unwrap().insert(key.to_owned(), object);
    }

    fn used(&self, quota: &str) -> Value {
        self.objects.lock().unwrap()[&format!("resourcequotas/work/{quota}")]["status"]["used"].clone()
    }
}

#[async_trait]
impl Lookup for World {
    async fn get(
        &self,
        resource: &GroupResource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, Status> {
        Ok(self.objects.lock().unwrap().get(&format!("{resource}/{namespace}/{name}")).cloned())
    }

    async fn list(&self, resource: &GroupResource, namespace: &str) -> Result<Vec<Value>, Status> {
        // Others have their turn between a look and the write that it is for.
        tokio::task::yield_now().await;
        let prefix =
            if namespace.is_empty() { format!("{resource}/") } else { format!("{resource}/{namespace}/") };
        let objects = self.objects.lock().unwrap();
        Ok(objects
            .iter()
            .filter(|(key, _)| key.starts_with(&prefix))
            .map(|(_, object)| object.clone())
            .collect())
    }

    async fn replace_status(&self, resource: &GroupResource, mut object: Value) -> Result<bool, Status> {
        tokio::task::yield_now().await;
        let key = format!("{resource}/work/{}", object["metadata"]["name"].as_str().unwrap());
        let mut objects = self.objects.lock().unwrap();
        let version =
            |object: &Value| object["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap();
        if version(&objects[&key]) != version(&object) {
            return Ok(false);
        }
        object["metadata"]["resourceVersion"] = json!((version(&object) + 1).to_string());
        objects.insert(key, object);
        Ok(true)
    }
}

fn chain() -> Chain {
    let clock = clock::ManualClock::new("2026-01-01T00:00:00Z".parse().unwrap());
    Chain::standard(Arc::new(clock), Arc::new(clock::SeededRandom::new(7)))
}

async fn write(
    chain: &Chain,
    world: &World,
    resource: &GroupResource,
    object: Value,
    old: Option<&Value>,
    dry_run: bool,
) -> Result<Value, String> {
    let user = UserInfo { name: "someone".into(), ..UserInfo::default() };
    let warnings = apimachinery::warnings::Warnings::default();
    let operation = if old.is_some() { Operation::Update } else { Operation::Create };
    let attributes = Attributes {
        operation,
        resource,
        version: "v1",
        kind: &UNNAMED,
        subresource: "",
        namespace: "work",
        name: "a",
        user: &user,
        old,
        dry_run,
        warnings: &warnings,
        options: &NoOptions,
    };
    let mut object = object;
    let result = async {
        chain.mutate(&attributes, &mut object, world).await?;
        chain.validate(&attributes, Some(&object), world).await
    };
    result.await.map_err(|status: Status| format!("{} {}", status.code, status.message))?;
    Ok(object)
}

async fn create(world: &World, resource: &GroupResource, object: Value) -> Result<Value, String> {
    write(&chain(), world, resource, object, None, false).await
}

fn pod(resources: Value) -> Value {
    json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "resources": resources}]}})
}

fn range(item: Value) -> World {
    World::of(&[("limitranges/work/r", json!({"spec": {"limits": [item]}}))])
}

fn quota(spec: Value, used: Value) -> Value {
    json!({"spec": spec, "status": {"hard": spec["hard"], "used": used}})
}

#[tokio::test]
async fn containers_that_say_nothing_get_the_defaults() {
    let world = range(
        json!({"type": "Container", "default": {"cpu": "1"}, "defaultRequest": {"cpu": "500m", "memory": "1Mi"}}),
    );
    let made = create(&world, &PODS, pod(json!({"requests": {"memory": "2Mi"}}))).await.unwrap();
    let expected = json!({"requests": {"cpu": "500m", "memory": "2Mi"}, "limits": {"cpu": "1"}});
    assert_eq!(made["spec"]["containers"][0]["resources"], expected);
    let note = &made["metadata"]["annotations"]["kubernetes.io/limit-ranger"];
    assert_eq!(note, "LimitRanger plugin set: cpu request for container c; cpu limit for container c");
}

#[tokio::test]
async fn what_is_too_small_too_large_or_too_far_apart_is_refused() {
    let of = |kind: &str, rule: &str, amount: &str| json!({"type": kind, rule: {"memory": amount}});
    let both =
        |request: &str, limit: &str| json!({"requests": {"memory": request}, "limits": {"memory": limit}});
    for (item, resources, why) in [
        (
            of("Container", "min", "2Mi"),
            json!({}),
            "minimum memory usage per Container is 2Mi.  No request is specified",
        ),
        (
            of("Container", "min", "2Mi"),
            both("1Mi", "3Mi"),
            "minimum memory usage per Container is 2Mi, but request is 1Mi",
        ),
        (
            of("Container", "max", "2Mi"),
            json!({}),
            "maximum memory usage per Container is 2Mi.  No limit is specified",
        ),
        (
            of("Pod", "max", "2Mi"),
            both("1Mi", "3Mi"),
            "maximum memory usage per Pod is 2Mi, but limit is 3Mi",
        ),
        (
            of("Container", "maxLimitRequestRatio", "2"),
            both("1Mi", "3Mi"),
            "memory max limit to request ratio per Container is 2, but provided ratio is 3.000000",
        ),
    ] {
        let refused = create(&range(item), &PODS, pod(resources)).await.unwrap_err();
        assert_eq!(refused, format!("403 pods \"a\" is forbidden: {why}"));
    }
    let two = json!({"type": "Container", "min": {"cpu": "1", "memory": "1Mi"}});
    let refused = create(&range(two), &PODS, pod(json!({}))).await.unwrap_err();
    let expected = "403 pods \"a\" is forbidden: [minimum cpu usage per Container is 1.  No request is specified, minimum \
                    memory usage per Container is 1Mi.  No request is specified]";
    assert_eq!(refused, expected);
    let world = range(json!({"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}}));
    let claim = json!({"metadata": {"name": "a"}, "spec": {"resources": {"requests": {"storage": "2Gi"}}}});
    let refused = create(&world, &CLAIMS, claim).await.unwrap_err();
    let why = "maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 2Gi";
    assert_eq!(refused, format!("403 persistentvolumeclaims \"a\" is forbidden: {why}"));
}

#[tokio::test]
async fn a_quota_counts_what_is_made_and_refuses_what_is_too_much() {
    let hard = json!({"hard": {"pods": "2", "requests.cpu": "1"}});
    let counted = quota(hard, json!({"pods": "0", "requests.cpu": "0"}));
    let world = World::of(&[("resourcequotas/work/q", counted)]);
    let half = || pod(json!({"requests": {"cpu": "500m"}}));
    write(&chain(), &world, &PODS, half(), None, true).await.unwrap();
    assert_eq!(world.used("q"), json!({"pods": "0", "requests.cpu": "0"}), "nothing is written");
    create(&world, &PODS, half()).await.unwrap();
    assert_eq!(world.used("q"), json!({"pods": "1", "requests.cpu": "500m"}));
    let refused = create(&world, &PODS, pod(json!({"requests": {"cpu": "600m"}}))).await.unwrap_err();
    let why =
        "exceeded quota: q, requested: requests.cpu=600m, used: requests.cpu=500m, limited: requests.cpu=1";
    assert_eq!(refused, format!("403 pods \"a\" is forbidden: {why}"));
    let refused = create(&world, &PODS, pod(json!({}))).await.unwrap_err();
    assert_eq!(refused, "403 pods \"a\" is forbidden: failed quota: q: must specify requests.cpu for: c");
    create(&world, &PODS, half()).await.unwrap();
    let refused = create(&world, &PODS, half()).await.unwrap_err();
    assert!(
        refused.contains("requested: pods=1,requests.cpu=500m, used: pods=2,requests.cpu=1"),
        "{refused}"
    );
    create(&world, &SERVICES, json!({"spec": {}})).await.expect("nobody counts services");
}

#[tokio::test]
async fn a_quota_that_has_not_been_counted_takes_nothing() {
    let world = World::of(&[("resourcequotas/work/q", quota(json!({"hard": {"services": "2"}}), json!({})))]);
    let refused = create(&world, &SERVICES, json!({"spec": {}})).await.unwrap_err();
    assert_eq!(refused, "403 services \"a\" is forbidden: status unknown for quota: q, resources: services");
}

#[tokio::test]
async fn scopes_say_whom_a_quota_counts() {
    let scoped = |spec: Value| quota(spec, json!({"pods": "0"}));
    let world = World::of(&[
        ("resourcequotas/work/best", scoped(json!({"hard": {"pods": "9"}, "scopes": ["BestEffort"]}))),
        (
            "resourcequotas/work/other",
            scoped(json!({"hard": {"pods": "9"}, "scopes": ["NotBestEffort", "NotTerminating"]})),
        ),
        (
            "resourcequotas/work/high",
            scoped(json!({"hard": {"pods": "9"}, "scopeSelector": {"matchExpressions":
                [{"scopeName": "PriorityClass", "operator": "In", "values": ["system-node-critical"]}]}})),
        ),
    ]);
    create(&world, &PODS, pod(json!({}))).await.unwrap();
    let mut high = pod(json!({"limits": {"cpu": "1"}}));
    high["spec"]["priorityClassName"] = json!("system-node-critical");
    create(&world, &PODS, high).await.unwrap();
    create(&world, &PODS, pod(json!({"limits": {"cpu": "1"}}))).await.unwrap();
    let counts = ["best", "other", "high"].map(|name| world.used(name)["pods"].clone());
    assert_eq!(counts, [json!("1"), json!("2"), json!("1")]);
}

#[tokio::test]
async fn a_change_is_charged_for_the_difference() {
    let counted = quota(json!({"hard": {"services.nodeports": "3"}}), json!({"services.nodeports": "1"}));
    let world = World::of(&[("resourcequotas/work/q", counted)]);
    let service = |ports: usize| json!({"spec": {"type": "NodePort", "ports": vec![json!({}); ports]}});
    let (one, two, five) = (service(1), service(2), service(5));
    write(&chain(), &world, &SERVICES, two.clone(), Some(&one), false).await.unwrap();
    assert_eq!(world.used("q"), json!({"services.nodeports": "2"}));
    write(&chain(), &world, &SERVICES, one, Some(&two), false).await.unwrap();
    assert_eq!(
        world.used("q"),
        json!({"services.nodeports": "2"}),
        "the controller counts what is given back"
    );
    let refused = write(&chain(), &world, &SERVICES, five, Some(&two), false).await.unwrap_err();
    assert!(refused.contains("requested: services.nodeports=3, used: services.nodeports=2"), "{refused}");
}

#[tokio::test]
async fn no_two_writes_reserve_the_same() {
    let counted =
        quota(json!({"hard": {"pods": "10", "count/pods": "10"}}), json!({"pods": "0", "count/pods": "0"}));
    let world = World::of(&[("resourcequotas/work/q", counted)]);
    // Two servers, each of which knows of its own writes only.
    let servers = [chain(), chain()];
    let (servers, world) = (&servers, &world);
    let writes = (0..30).map(|number| async move {
        write(&servers[number % 2], world, &PODS, pod(json!({})), None, false).await
    });
    let outcomes = futures::future::join_all(writes).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 10);
    assert_eq!(world.used("q"), json!({"pods": "10", "count/pods": "10"}));
}

#[tokio::test]
async fn claims_get_the_default_class_and_are_held() {
    let class = |created: &str, default: &str| {
        json!({"metadata": {"creationTimestamp": created, "annotations":
            {"storageclass.kubernetes.io/is-default-class": default}}, "allowVolumeExpansion": true})
    };
    let world = World::of(&[
        ("storageclasses.storage.k8s.io//old", class("2026-01-01T00:00:00Z", "true")),
        ("storageclasses.storage.k8s.io//new", class("2026-01-02T00:00:00Z", "true")),
        ("storageclasses.storage.k8s.io//other", class("2026-01-03T00:00:00Z", "false")),
    ]);
    let claim = |size: &str| json!({"metadata": {"name": "a"}, "spec": {"resources": {"requests": {"storage": size}}}});
    let made = create(&world, &CLAIMS, claim("1Gi")).await.unwrap();
    assert_eq!(made["spec"]["storageClassName"], "new");
    assert_eq!(made["metadata"]["finalizers"], json!(["kubernetes.io/pvc-protection"]));
    let mut none = claim("1Gi");
    none["spec"]["storageClassName"] = json!("");
    let made = create(&world, &CLAIMS, none).await.unwrap();
    assert_eq!(made["spec"]["storageClassName"], "", "no class is a choice too");

    let grown = |class: &str, phase: &str| {
        let mut old = claim("1Gi");
        old["spec"]["storageClassName"] = json!(class);
        old["status"]["phase"] = json!(phase);
        let mut new = old.clone();
        new["spec"]["resources"]["requests"]["storage"] = json!("2Gi");
        (new, old)
    };
    let chain = chain();
    for (class, phase, expected) in [
        ("new", "Bound", None),
        ("new", "Pending", Some("Only bound persistent volume claims can be expanded")),
        (
            "gone",
            "Bound",
            Some(
                "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support \
                 resize",
            ),
        ),
    ] {
        let (new, old) = grown(class, phase);
        let outcome = write(&chain, &world, &CLAIMS, new, Some(&old), false).await;
        let expected = expected.map(|why| format!("403 persistentvolumeclaims \"a\" is forbidden: {why}"));
        assert_eq!(outcome.err(), expected);
    }
}
