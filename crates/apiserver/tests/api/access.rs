//! Who is asking, and may they.

use auth::UserInfo;
use http::Method;
use pki::{Authority, Identity};
use serde_json::{Value, json};

use crate::ask::Asker;
use crate::{directory, start};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

#[tokio::test]
async fn certificates_tokens_and_nobody() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let who = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let name = |answer: Value| answer["status"]["userInfo"]["username"].as_str().unwrap().to_owned();
    let ask = json!({});
    assert_eq!(name(Asker::admin(&plane).post(who, &ask).await.ok()), "kubernetes-admin");
    let carol = Asker::token(&plane, "carol-token").post(who, &ask).await.ok();
    assert_eq!(carol["status"]["userInfo"]["groups"], json!(["dev", "ops", "system:authenticated"]));
    assert_eq!(carol["kind"], "SelfSubjectReview");

    let wrong = Asker::token(&plane, "wrong").get("/api/v1/pods").await;
    assert_eq!(wrong.failure(), (401, "Unauthorized".into(), "Unauthorized".into()));
    let (code, reason, message) = Asker::nobody(&plane).get("/api").await.failure();
    assert_eq!((code, reason.as_str()), (403, "Forbidden"));
    assert_eq!(message, r#"forbidden: User "system:anonymous" cannot get path "/api""#);
    assert_eq!(Asker::nobody(&plane).get("/version").await.code, 200);

    // A certificate of another authority is none.
    let other = Authority::open(&directory.path().join("other"), plane.clock.now()).unwrap();
    let stranger = other.client(&Identity::Admin, plane.clock.now()).unwrap();
    assert!(plane.server.connect(&[stranger.certificate], None).is_err());
    plane.stop().await;
}

#[tokio::test]
async fn refusals_are_in_upstreams_words() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let bob = Asker::token(&plane, "bob-token");
    for (answer, expected) in [
        (
            bob.get("/api/v1/namespaces/default/configmaps/x").await,
            r#"configmaps "x" is forbidden: User "bob" cannot get resource "configmaps" in API group "" in the namespace "default""#,
        ),
        (
            bob.get("/apis/apps/v1/deployments").await,
            r#"deployments.apps is forbidden: User "bob" cannot list resource "deployments" in API group "apps" at the cluster scope"#,
        ),
        (
            bob.delete("/api/v1/namespaces/default/pods/p/").await,
            r#"pods "p" is forbidden: User "bob" cannot delete resource "pods" in API group "" in the namespace "default""#,
        ),
        (
            // What is not there is not told to those who may not look.
            bob.get("/apis/nothing.example.org/v1/things").await,
            r#"things.nothing.example.org is forbidden: User "bob" cannot list resource "things" in API group "nothing.example.org" at the cluster scope"#,
        ),
    ] {
        assert_eq!(answer.failure(), (403, "Forbidden".into(), expected.into()));
        assert_eq!(answer.header("content-type"), "application/json");
    }
    plane.stop().await;
}

#[tokio::test]
async fn a_binding_counts_as_soon_as_it_is_seen_and_no_longer_than_it_is_there() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let (admin, bob) = (Asker::admin(&plane), Asker::token(&plane, "bob-token"));
    let binding = json!({
        "metadata": {"name": "bob-views"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "bob"}],
    });
    admin.post(&format!("{RBAC}/namespaces/default/rolebindings"), &binding).await.ok();
    let list = "/api/v1/namespaces/default/configmaps";
    until(async || bob.get(list).await.code == 200).await;
    assert_eq!(bob.get("/api/v1/namespaces/kube-system/configmaps").await.code, 403);
    assert_eq!(bob.get("/api/v1/namespaces/default/secrets").await.code, 403);

    let rules = json!({"spec": {"namespace": "default"}});
    let rules = bob.post("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", &rules).await.ok();
    let has = |rule: &Value| rule["resources"].as_array().unwrap().contains(&json!("pods/log"));
    assert!(rules["status"]["resourceRules"].as_array().unwrap().iter().any(has), "{rules}");
    assert_eq!(rules["status"]["incomplete"], false);

    admin.delete(&format!("{RBAC}/namespaces/default/rolebindings/bob-views")).await.ok();
    until(async || bob.get(list).await.code == 403).await;
    plane.stop().await;
}

/// Waits for what a watch brings about.
async fn until(condition: impl AsyncFn() -> bool) {
    for _ in 0..2000 {
        if condition().await {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("never came true");
}

#[tokio::test]
async fn an_update_creates_only_for_who_may_create() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let (admin, bob) = (Asker::admin(&plane), Asker::token(&plane, "bob-token"));
    let role = |verbs: Value| {
        json!({
            "metadata": {"name": "services"},
            "rules": [{"apiGroups": [""], "resources": ["services"], "verbs": verbs}],
        })
    };
    let roles = format!("{RBAC}/namespaces/default/roles");
    admin.post(&roles, &role(json!(["update", "patch"]))).await.ok();
    let binding = json!({
        "metadata": {"name": "bob"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "services"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "bob"}],
    });
    admin.post(&format!("{RBAC}/namespaces/default/rolebindings"), &binding).await.ok();
    let service = json!({"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}});
    let path = "/api/v1/namespaces/default/services/web";
    let why = r#"services "web" is forbidden: User "bob" cannot create resource "services" in API group "" in the namespace "default""#;
    until(async || {
        let answer = bob.put(path, &service).await;
        answer.code != 403 || answer.failure().2 == why
    })
    .await;
    assert_eq!(bob.put(path, &service).await.failure().2, why);
    let config = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80}]}\n";
    let headers = [("content-type", "application/apply-patch+yaml")];
    let applied = bob.send(Method::PATCH, &format!("{path}?fieldManager=bob"), &headers, config).await;
    assert_eq!(applied.failure().2, why);
    assert_eq!(admin.get(path).await.code, 404);
    admin.put(&format!("{roles}/services"), &role(json!(["update", "create"]))).await.ok();
    until(async || bob.put(path, &service).await.code == 201).await;
    plane.stop().await;
}

#[tokio::test]
async fn nobody_grants_what_they_do_not_have() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let (admin, bob) = (Asker::admin(&plane), Asker::token(&plane, "bob-token"));
    let bind = |role: &str, to: &str| {
        json!({
            "metadata": {"name": format!("{to}-{role}")},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": to}],
        })
    };
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    admin.post(&bindings, &bind("admin", "bob")).await.ok();
    until(async || bob.get(&bindings).await.code == 200).await;

    // What an admin of the namespace has, they may pass on there.
    bob.post(&bindings, &bind("edit", "carol")).await.ok();
    let (code, _, message) = bob.post(&bindings, &bind("cluster-admin", "bob")).await.failure();
    assert_eq!(code, 403);
    assert!(message.contains(r#"user "bob" (groups=["system:authenticated"]) is attempting to grant RBAC permissions not currently held"#), "{message}");
    let role = |resource: &str| json!({"metadata": {"name": resource}, "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": [resource]}]});
    let roles = format!("{RBAC}/namespaces/default/roles");
    bob.post(&roles, &role("secrets")).await.ok();
    let (_, _, message) = bob.post(&roles, &role("nodes")).await.failure();
    assert!(message.ends_with(r#"{APIGroups:[""], Resources:["nodes"], Verbs:["get"]}"#), "{message}");
    plane.stop().await;
}

#[tokio::test]
async fn a_role_or_binding_that_grants_more_is_left_alone() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let (admin, bob) = (Asker::admin(&plane), Asker::token(&plane, "bob-token"));
    let rule = json!({
        "verbs": ["list", "create", "patch"],
        "apiGroups": ["rbac.authorization.k8s.io"],
        "resources": ["clusterroles", "clusterrolebindings"],
    });
    admin
        .post(&format!("{RBAC}/clusterroles"), &json!({"metadata": {"name": "roles"}, "rules": [rule]}))
        .await
        .ok();
    let mine = json!({
        "metadata": {"name": "roles"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "roles"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "bob"}],
    });
    admin.post(&format!("{RBAC}/clusterrolebindings"), &mine).await.ok();
    let roles = format!("{RBAC}/clusterroles");
    until(async || bob.get(&roles).await.code == 200).await;

    let labels = json!({"metadata": {"labels": {"a": "b"}}});
    let finalizers = json!({"metadata": {"finalizers": ["example.com/held"]}});
    for place in [format!("{roles}/cluster-admin"), format!("{RBAC}/clusterrolebindings/cluster-admin")] {
        let (code, _, message) = bob.patch(&place, "merge-patch", &labels).await.failure();
        assert_eq!(code, 403);
        assert!(message.contains("is attempting to grant RBAC permissions not currently held"), "{message}");
        // The garbage collector must get on with its work.
        bob.patch(&place, "merge-patch", &finalizers).await.ok();
    }
    bob.patch(&format!("{roles}/roles"), "merge-patch", &labels).await.ok();
    // What was or is gathered is everything, for all that one can know.
    let selector = json!({"clusterRoleSelectors": [{"matchLabels": {"x": "y"}}]});
    let gathered = json!({"metadata": {"name": "gathered"}, "aggregationRule": selector, "rules": []});
    assert_eq!(bob.post(&roles, &gathered).await.code, 403);
    admin.post(&roles, &gathered).await.ok();
    for patch in [labels.clone(), json!({"aggregationRule": null})] {
        assert_eq!(bob.patch(&format!("{roles}/gathered"), "merge-patch", &patch).await.code, 403, "{patch}");
    }
    // Who gathers says what was gathered, and nothing else.
    let gatherer = Asker::of(&plane, &Identity::ControllerManager);
    let rules = json!({"rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"]}]});
    gatherer.patch(&format!("{roles}/gathered"), "merge-patch", &rules).await.ok();
    let mut both = labels;
    let all = json!({"rules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]});
    both["rules"] = rules["rules"].clone();
    for (role, patch) in
        [("gathered", &both), ("gathered", &json!({"aggregationRule": null})), ("roles", &all)]
    {
        let code = gatherer.patch(&format!("{roles}/{role}"), "merge-patch", patch).await.code;
        assert_eq!(code, 403, "{role} {patch}");
    }
    plane.stop().await;
}

#[tokio::test]
async fn a_namespace_in_a_namespace_is_nothing() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let (admin, bob) = (Asker::admin(&plane), Asker::token(&plane, "bob-token"));
    for name in ["mine", "theirs"] {
        admin.post("/api/v1/namespaces", &json!({"metadata": {"name": name}})).await.ok();
    }
    let rule = json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]});
    let role = json!({"metadata": {"name": "all"}, "rules": [rule]});
    admin.post(&format!("{RBAC}/namespaces/mine/roles"), &role).await.ok();
    let binding = json!({
        "metadata": {"name": "all"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "all"},
        "subjects": [{"kind": "User", "name": "bob"}],
    });
    admin.post(&format!("{RBAC}/namespaces/mine/rolebindings"), &binding).await.ok();
    until(async || bob.get("/api/v1/namespaces/mine").await.code == 200).await;
    let body = json!({"metadata": {"name": "theirs", "labels": {"a": "b"}}});
    for path in
        ["/api/v1/namespaces/mine/namespaces/theirs", "/api/v1/namespaces/mine/namespaces/theirs/finalize"]
    {
        for answer in [bob.get(path).await, bob.delete(path).await, bob.put(path, &body).await] {
            assert_eq!(answer.code, 404, "{path}: {answer:?}");
        }
    }
    for answer in [
        bob.get("/api/v1/namespaces/mine/namespaces").await,
        bob.post("/api/v1/namespaces/mine/namespaces", &body).await,
        bob.delete("/api/v1/namespaces/mine/namespaces").await,
        bob.get("/api/v1/watch/namespaces/mine/namespaces/theirs?timeoutSeconds=1").await,
    ] {
        assert_eq!(answer.code, 404, "{answer:?}");
    }
    assert_eq!(bob.get("/api/v1/namespaces/theirs").await.code, 403);
    assert_eq!(admin.delete("/api/v1/namespaces").await.code, 405);
    let theirs = admin.get("/api/v1/namespaces/theirs").await.ok();
    assert_eq!(theirs["status"]["phase"], "Active");
    plane.stop().await;
}

#[tokio::test]
async fn reviews_ask_the_same_authorizer() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let admin = Asker::admin(&plane);
    let review = |user: &str, group: &str, verb: &str, resource: &str| json!({"spec": {"user": user, "groups": [group], "resourceAttributes": {"verb": verb, "resource": resource}}});
    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let allowed = async |body: Value| admin.post(path, &body).await.ok()["status"]["allowed"].clone();
    assert_eq!(allowed(review("x", "monoplane:cluster-admins", "delete", "nodes")).await, true);
    assert_eq!(allowed(review("system:kube-scheduler", "-", "list", "pods")).await, true);
    assert_eq!(allowed(review("bob", "-", "list", "pods")).await, false);
    assert_eq!(allowed(json!({"spec": {"user": "bob", "groups": ["system:authenticated"], "nonResourceAttributes": {"path": "/api", "verb": "get"}}})).await, true);

    let bob = Asker::token(&plane, "bob-token");
    let own =
        json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "default"}}});
    let own = bob.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", &own).await.ok();
    assert_eq!(own["status"], json!({"allowed": false}));
    assert_eq!(bob.post(path, &review("bob", "-", "get", "pods")).await.code, 403);

    let (code, _, message) = admin.post(path, &json!({"spec": {"user": "bob"}})).await.failure();
    assert_eq!(code, 422);
    assert!(message.contains("exactly one of nonResourceAttributes or resourceAttributes"), "{message}");
    for (body, code, why) in [
        (json!({"spec": "s"}), 400, "cannot unmarshal string"),
        (
            json!({"metadata": {"name": "x"}, "spec": {"user": "x"}}),
            422,
            "metadata: Invalid value: {\"name\":\"x\"}: must be empty",
        ),
        (
            json!({"spec": {"nonResourceAttributes": {}}}),
            422,
            "spec.user: Invalid value: \"\": at least one of",
        ),
        (
            json!({"spec": {"user": "x", "resourceAttributes": {"fieldSelector": {}}}}),
            422,
            "spec.resourceAttributes.fieldSelector.requirements: Required value: when",
        ),
    ] {
        let refused = admin.post(path, &body).await.failure();
        assert_eq!(refused.0, code, "{body}: {refused:?}");
        assert!(refused.2.contains(why), "{body}: {refused:?}");
    }
    let token = json!({"spec": {"token": "carol-token"}});
    let token = admin.post("/apis/authentication.k8s.io/v1/tokenreviews", &token).await.ok();
    assert_eq!(token["status"]["user"]["username"], "carol");
    assert_eq!(admin.get(path).await.failure().0, 405);
    plane.stop().await;
}

#[tokio::test]
async fn acting_for_somebody_takes_the_right_to() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let who = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let as_bob = Asker::admin(&plane).with("Impersonate-User", "bob").with("Impersonate-Group", "dev");
    let answer = as_bob.post(who, &json!({})).await.ok();
    let expected =
        UserInfo { name: "bob".into(), groups: vec!["dev".into()], ..UserInfo::default() }.authenticated();
    assert_eq!(answer["status"]["userInfo"], json!(expected));
    assert_eq!(as_bob.get("/api/v1/nodes").await.code, 403);
    let bob = Asker::token(&plane, "bob-token").with("Impersonate-User", "kubernetes-admin");
    let (code, _, message) = bob.get("/api/v1/nodes").await.failure();
    assert_eq!(code, 403);
    assert!(
        message.starts_with(
            r#"users "kubernetes-admin" is forbidden: User "bob" cannot impersonate resource "users""#
        ),
        "{message}"
    );
    plane.stop().await;
}

#[tokio::test]
async fn a_kubelet_reads_what_its_pods_refer_to() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let (admin, node) = (Asker::admin(&plane), Asker::of(&plane, &Identity::Node("one".into())));
    let secret = |name: &str| json!({"metadata": {"name": name}, "stringData": {"a": "b"}});
    for name in ["used", "unused"] {
        admin.post("/api/v1/namespaces/default/secrets", &secret(name)).await.ok();
    }
    admin.post("/api/v1/nodes", &json!({"metadata": {"name": "one"}})).await.ok();
    let pod = json!({
        "metadata": {"name": "p"},
        "spec": {
            "nodeName": "one",
            "containers": [{"name": "c", "image": "i", "envFrom": [{"secretRef": {"name": "used"}}]}],
        },
    });
    admin.post("/api/v1/namespaces/default/pods", &pod).await.ok();
    // At once: a kubelet that has seen its pod does not have to wait.
    node.get("/api/v1/namespaces/default/secrets/used").await.ok();
    let (code, _, message) = node.get("/api/v1/namespaces/default/secrets/unused").await.failure();
    assert_eq!(code, 403);
    assert!(message.ends_with("no relationship found between node 'one' and this object"), "{message}");
    assert_eq!(node.get("/api/v1/pods?fieldSelector=spec.nodeName%3Done").await.code, 200);
    assert_eq!(node.get("/api/v1/pods").await.code, 403);
    plane.stop().await;
}

#[tokio::test]
async fn a_kubelet_reads_the_volumes_of_its_pods_and_holds_its_own() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let (admin, node) = (Asker::admin(&plane), Asker::of(&plane, &Identity::Node("one".into())));
    let volume = |name: &str, claim: &str, kept_by: &str| {
        json!({
            "metadata": {"name": name, "annotations": {
                "pv.kubernetes.io/provisioned-by": "monoplane.dev/local", "monoplane.dev/node": kept_by,
            }},
            "spec": {
                "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/v"},
                "claimRef": {"namespace": "default", "name": claim},
            },
        })
    };
    let volumes = "/api/v1/persistentvolumes";
    for (name, claim, kept_by) in [("used", "c", "two"), ("unused", "d", "two"), ("kept", "d", "one")] {
        admin.post(volumes, &volume(name, claim, kept_by)).await.ok();
    }
    admin.post("/api/v1/nodes", &json!({"metadata": {"name": "one"}})).await.ok();
    let claims = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]);
    let spec = json!({"nodeName": "one", "containers": [{"name": "c", "image": "i"}], "volumes": claims});
    let pod = json!({"metadata": {"name": "p"}, "spec": spec});
    admin.post("/api/v1/namespaces/default/pods", &pod).await.ok();
    let hold =
        json!({"metadata": {"finalizers": ["kubernetes.io/pv-protection", "monoplane.dev/local-data"]}});
    for (name, reads, holds) in
        [("used", 200, 403), ("unused", 403, 403), ("kept", 200, 200), ("none", 403, 403)]
    {
        let place = format!("{volumes}/{name}");
        assert_eq!(node.get(&place).await.code, reads, "{name}");
        assert_eq!(node.patch(&place, "merge-patch", &hold).await.code, holds, "{name}");
    }
    let other = json!({"metadata": {"labels": {"a": "b"}}});
    assert_eq!(node.patch(&format!("{volumes}/kept"), "merge-patch", &other).await.code, 403);
    assert_eq!(node.get(volumes).await.code, 403);
    assert_eq!(node.delete(&format!("{volumes}/kept")).await.code, 403);
    plane.stop().await;
}

#[tokio::test]
async fn who_may_see_one_object_sees_no_other_whatever_the_selector() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let (admin, bob) = (Asker::admin(&plane), Asker::token(&plane, "bob-token"));
    for name in ["a", "b"] {
        let body = json!({"metadata": {"name": name, "labels": {"l": "m"}}});
        admin.post("/api/v1/namespaces/default/configmaps", &body).await.ok();
    }
    let rule = json!({"verbs": ["get", "list", "watch", "deletecollection"], "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["a"]});
    let role = json!({"metadata": {"name": "a"}, "rules": [rule]});
    admin.post(&format!("{RBAC}/namespaces/default/roles"), &role).await.ok();
    let binding = json!({
        "metadata": {"name": "a"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "a"},
        "subjects": [{"kind": "User", "name": "bob"}],
    });
    admin.post(&format!("{RBAC}/namespaces/default/rolebindings"), &binding).await.ok();
    let path = "/api/v1/namespaces/default/configmaps";
    until(async || bob.get(&format!("{path}/a")).await.code == 200).await;
    assert_eq!(bob.get(path).await.code, 403);
    assert_eq!(bob.get(&format!("{path}?labelSelector=l%3Dm")).await.code, 403);
    let names = |answer: Value| -> Vec<Value> {
        answer["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].clone()).collect()
    };
    assert_eq!(names(bob.get(&format!("{path}?fieldSelector=metadata.name%3Da")).await.ok()), ["a"]);
    // The old form of a watch names one object in its path, and may carry a selector of its own.
    let old = "/api/v1/watch/namespaces/default/configmaps/a?timeoutSeconds=1&fieldSelector=metadata.namespace%3Ddefault";
    let seen = bob.get(old).await;
    assert_eq!((seen.code, seen.text().lines().count()), (200, 1), "{}", seen.text());
    assert_eq!(names(bob.delete(&format!("{path}?fieldSelector=metadata.name%3Da")).await.ok()), ["a"]);
    assert_eq!(admin.get(&format!("{path}/b")).await.code, 200);
    plane.stop().await;
}

#[tokio::test]
async fn a_restart_keeps_what_an_administrator_changed() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let admin = Asker::admin(&plane);
    let path = format!("{RBAC}/clusterroles/system:public-info-viewer");
    let mut role = admin.get(&path).await.ok();
    role["rules"] = json!([{"verbs": ["get"], "nonResourceURLs": ["/mine"]}]);
    admin.put(&path, &role).await.ok();
    admin.delete(&format!("{RBAC}/clusterroles/view")).await.ok();
    plane.stop().await;

    let plane = start(directory.path()).await;
    let admin = Asker::admin(&plane);
    let role = admin.get(&path).await.ok();
    assert_eq!(role["rules"].as_array().unwrap().len(), 2, "{role}");
    assert_eq!(role["rules"][0]["nonResourceURLs"], json!(["/mine"]));
    assert_eq!(admin.get(&format!("{RBAC}/clusterroles/view")).await.code, 200);
    plane.stop().await;
}
