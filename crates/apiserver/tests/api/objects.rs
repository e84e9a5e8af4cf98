//! The verbs and their options, as HTTP shows them. What kinds mean is tested in `registry`.

use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::ask::Asker;
use crate::{directory, start};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn config_map(name: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {"k": "v"}})
}

#[tokio::test]
async fn a_life() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let admin = Asker::admin(&plane);
    let path = format!("{CONFIG_MAPS}/one");
    let created = admin.post(CONFIG_MAPS, &config_map("one")).await.ok();
    let taken = admin.post(CONFIG_MAPS, &config_map("one")).await.failure();
    assert_eq!(taken, (409, "AlreadyExists".into(), "configmaps \"one\" already exists".into()));

    let patched = admin.patch(&path, "merge-patch", &json!({"data": {"a": "b"}})).await.ok();
    assert_eq!(patched["data"], json!({"a": "b", "k": "v"}));
    let patched = admin.patch(&path, "json-patch", &json!([{"op": "remove", "path": "/data/k"}])).await.ok();
    assert_eq!(patched["data"], json!({"a": "b"}));
    let patched = admin
        .patch(&path, "strategic-merge-patch", &json!({"data": {"$patch": "replace", "c": "d"}}))
        .await
        .ok();
    assert_eq!(patched["data"], json!({"c": "d"}));

    let mut stale = created.clone();
    stale["data"] = json!({});
    let (code, reason, _) = admin.put(&path, &stale).await.failure();
    assert_eq!((code, reason.as_str()), (409, "Conflict"));
    stale["metadata"]["resourceVersion"] = patched["metadata"]["resourceVersion"].clone();
    let updated = admin.put(&path, &stale).await.ok();
    assert_ne!(updated["metadata"]["resourceVersion"], patched["metadata"]["resourceVersion"]);

    let dry = admin.delete(&format!("{path}?dryRun=All")).await;
    assert_eq!(dry.code, 200);
    let deleted = admin.delete(&path).await.ok();
    assert_eq!(
        (&deleted["status"], &deleted["details"]["uid"]),
        (&json!("Success"), &created["metadata"]["uid"])
    );
    let gone = admin.get(&path).await.failure();
    assert_eq!(gone, (404, "NotFound".into(), "configmaps \"one\" not found".into()));
    plane.stop().await;
}

#[tokio::test]
async fn collections() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let admin = Asker::admin(&plane);
    for index in 0..5 {
        let mut body = config_map(&format!("c{index}"));
        body["metadata"]["labels"] = json!({"parity": if index % 2 == 0 { "even" } else { "odd" }});
        admin.post(CONFIG_MAPS, &body).await.ok();
    }
    let names = |list: &Value| -> Vec<String> {
        let items = list["items"].as_array().unwrap().iter();
        items.map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    let page = admin.get(&format!("{CONFIG_MAPS}?limit=2")).await.ok();
    assert_eq!(
        (names(&page), &page["metadata"]["remainingItemCount"]),
        (vec!["c0".into(), "c1".into()], &json!(3))
    );
    let token = page["metadata"]["continue"].as_str().unwrap();
    let rest = admin.get(&format!("{CONFIG_MAPS}?limit=5&continue={token}")).await.ok();
    assert_eq!(names(&rest), ["c2", "c3", "c4"]);
    assert_eq!(
        names(&admin.get(&format!("{CONFIG_MAPS}?labelSelector=parity%3Dodd")).await.ok()),
        ["c1", "c3"]
    );
    assert_eq!(names(&admin.get("/api/v1/configmaps?fieldSelector=metadata.name%3Dc4").await.ok()), ["c4"]);
    let bad = admin.get(&format!("{CONFIG_MAPS}?labelSelector=%21%21")).await.failure();
    assert_eq!(bad.0, 400);

    let deleted = admin.delete(&format!("{CONFIG_MAPS}?labelSelector=parity%3Deven")).await.ok();
    assert_eq!(names(&deleted), ["c0", "c2", "c4"]);
    assert_eq!(names(&admin.get(CONFIG_MAPS).await.ok()), ["c1", "c3"]);
    plane.stop().await;
}

#[tokio::test]
async fn a_watch_shows_each_change_once_and_in_order() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let admin = Asker::admin(&plane);
    admin.post(CONFIG_MAPS, &config_map("before")).await.ok();
    let list = admin.get(CONFIG_MAPS).await.ok();
    let from = list["metadata"]["resourceVersion"].as_str().unwrap();
    let mut watch =
        Lines::begin(&admin, &format!("{CONFIG_MAPS}?watch=true&resourceVersion={from}"), "*/*").await;
    admin.post(CONFIG_MAPS, &config_map("a")).await.ok();
    admin.patch(&format!("{CONFIG_MAPS}/a"), "merge-patch", &json!({"data": {"x": "y"}})).await.ok();
    admin.delete(&format!("{CONFIG_MAPS}/a")).await.ok();
    for expected in ["ADDED", "MODIFIED", "DELETED"] {
        let event = watch.next().await;
        assert_eq!((&event["type"], &event["object"]["metadata"]["name"]), (&json!(expected), &json!("a")));
        assert_eq!(event["object"]["kind"], "ConfigMap");
    }
    // With a Table, the columns come once.
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let mut watch = Lines::begin(&admin, &format!("{CONFIG_MAPS}?watch=true"), table).await;
    let first = watch.next().await;
    assert_eq!(
        (&first["object"]["kind"], &first["object"]["rows"][0]["cells"][0]),
        (&json!("Table"), &json!("before"))
    );
    assert!(!first["object"]["columnDefinitions"].as_array().unwrap().is_empty());
    admin.post(CONFIG_MAPS, &config_map("b")).await.ok();
    let second = watch.next().await;
    assert!(second["object"]["columnDefinitions"].as_array().unwrap().is_empty());
    assert_eq!(second["object"]["rows"][0]["cells"][0], "b");

    // A watch list ends its beginning with a bookmark.
    let path = format!(
        "{CONFIG_MAPS}?watch=true&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan"
    );
    let mut watch = Lines::begin(&admin, &path, "*/*").await;
    let types =
        [watch.next().await, watch.next().await, watch.next().await].map(|event| event["type"].clone());
    assert_eq!(types, ["ADDED", "ADDED", "BOOKMARK"]);

    // A short one ends by itself; a future one is refused or waits, but never lies.
    let short = admin.get(&format!("{CONFIG_MAPS}?watch=true&timeoutSeconds=1&resourceVersion={from}")).await;
    assert_eq!(short.code, 200);
    plane.stop().await;
}

/// The lines of a watch.
struct Lines {
    body: apiserver::Body,
    read: Vec<u8>,
}

impl Lines {
    async fn begin(asker: &Asker<'_>, path: &str, accept: &str) -> Self {
        let response = asker.begin(Method::GET, path, &[("accept", accept)], "").await;
        assert_eq!(response.status(), 200);
        Self { body: response.into_body(), read: Vec::new() }
    }

    async fn next(&mut self) -> Value {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                return serde_json::from_slice(&line).unwrap();
            }
            let frame = tokio::time::timeout(std::time::Duration::from_secs(20), self.body.frame());
            let frame = frame.await.expect("no event came").expect("the watch ended").unwrap();
            self.read.extend_from_slice(&frame.into_data().unwrap());
        }
    }
}

#[tokio::test]
async fn subresources() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let admin = Asker::admin(&plane);
    let deployment = json!({
        "metadata": {"name": "d"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
        },
    });
    let path = "/apis/apps/v1/namespaces/default/deployments";
    admin.post(path, &deployment).await.ok();
    let path = format!("{path}/d");
    let mut scale = admin.get(&format!("{path}/scale")).await.ok();
    assert_eq!(
        (&scale["kind"], &scale["apiVersion"], &scale["spec"]["replicas"]),
        (&json!("Scale"), &json!("autoscaling/v1"), &json!(2))
    );
    scale["spec"]["replicas"] = json!(3);
    admin.put(&format!("{path}/scale"), &scale).await.ok();
    let patched =
        admin.patch(&format!("{path}/scale"), "merge-patch", &json!({"spec": {"replicas": 4}})).await.ok();
    assert_eq!(patched["spec"]["replicas"], 4);
    let status = json!({"status": {"observedGeneration": 1, "replicas": 4}, "spec": {"replicas": 9}});
    let after = admin.patch(&format!("{path}/status"), "merge-patch", &status).await.ok();
    assert_eq!((&after["status"]["replicas"], &after["spec"]["replicas"]), (&json!(4), &json!(4)));

    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    admin.post("/api/v1/namespaces/default/pods", &pod).await.ok();
    let path = "/api/v1/namespaces/default/pods/p";
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    let bound = admin.post(&format!("{path}/binding"), &binding).await;
    assert_eq!((bound.code, bound.json()["status"].clone()), (201, json!("Success")));
    assert_eq!(admin.get(path).await.ok()["spec"]["nodeName"], "n");
    assert_eq!(admin.post(&format!("{path}/binding"), &binding).await.failure().0, 409);
    plane.stop().await;
}

#[tokio::test]
async fn some_kinds_are_answered_with_what_was_deleted() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let admin = Asker::admin(&plane);
    let metadata = json!({"name": "x"});
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata});
    let path = "/api/v1/namespaces/default/serviceaccounts";
    admin.post(path, &account).await.ok();
    let gone = admin.delete(&format!("{path}/x")).await.ok();
    assert_eq!((&gone["kind"], &gone["metadata"]["name"]), (&json!("ServiceAccount"), &json!("x")));
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata});
    admin.post(CONFIG_MAPS, &map).await.ok();
    let gone = admin.delete(&format!("{CONFIG_MAPS}/x")).await.ok();
    assert_eq!((&gone["kind"], &gone["details"]["name"]), (&json!("Status"), &json!("x")));
    plane.stop().await;
}

#[tokio::test]
async fn what_metadata_says_is_sound_and_said_once() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let admin = Asker::admin(&plane);
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": "u"});
    let map = |metadata: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata});
    let twice = map(json!({"name": "x", "ownerReferences": [owner, owner]}));
    let made = admin.post(CONFIG_MAPS, &twice).await;
    assert!(made.header("warning").contains("duplicate UID(s) observed: u"), "{made:?}");
    assert_eq!(made.json()["metadata"]["ownerReferences"], json!([owner]));
    let bare = map(json!({"name": "y", "finalizers": ["orphan", "a.io/b", "bare"]}));
    let refused = admin.post(CONFIG_MAPS, &bare).await.failure();
    assert_eq!(refused.0, 422);
    assert!(
        refused.2.contains("metadata.finalizers[2]: Invalid value: \"bare\": name is neither"),
        "{refused:?}"
    );
    // Groups that came later leave that to themselves.
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "y", "finalizers": ["bare"]}});
    admin.post("/apis/coordination.k8s.io/v1/namespaces/default/leases", &lease).await.ok();
    plane.stop().await;
}

#[tokio::test]
async fn options_of_lists_that_do_not_go_together_are_refused() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let admin = Asker::admin(&plane);
    for (query, why) in [
        ("resourceVersionMatch=Exact", "forbidden unless resourceVersion is provided"),
        ("resourceVersionMatch=Exact&resourceVersion=0", "is forbidden for resourceVersion \"0\""),
        (
            "resourceVersionMatch=Near&resourceVersion=1",
            "supported values: \"Exact\", \"NotOlderThan\", \"\"",
        ),
        ("sendInitialEvents=true", "sendInitialEvents is forbidden for list"),
        ("watch=1&sendInitialEvents=true", "requires setting resourceVersionMatch to NotOlderThan"),
        ("watch=1&resourceVersionMatch=NotOlderThan", "is forbidden for watch unless sendInitialEvents"),
    ] {
        let refused = admin.get(&format!("{CONFIG_MAPS}?{query}")).await.failure();
        assert_eq!((refused.0, refused.1.as_str()), (422, "Invalid"), "{query}: {refused:?}");
        assert!(refused.2.contains(why), "{query}: {refused:?}");
    }
    plane.stop().await;
}

#[tokio::test]
async fn who_makes_what_is_about_to_go_hears_of_it() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let admin = Asker::admin(&plane);
    let held =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "finalizers": ["a.io/b"]}});
    admin.post(CONFIG_MAPS, &held).await.ok();
    let twice = admin.post(CONFIG_MAPS, &held).await.failure();
    assert_eq!(twice, (409, "AlreadyExists".into(), "configmaps \"x\" already exists".into()));
    admin.delete(&format!("{CONFIG_MAPS}/x")).await.ok();
    for path in [CONFIG_MAPS.to_owned(), format!("{CONFIG_MAPS}?dryRun=All")] {
        let again = admin.post(&path, &held).await.failure();
        let why = "object is being deleted: configmaps \"x\" already exists";
        assert_eq!(again, (409, "AlreadyExists".into(), why.into()));
    }
    plane.stop().await;
}
