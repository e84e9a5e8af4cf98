//! Media types, sizes, warnings and failures.

use apiserver::Limits;
use http::Method;
use serde_json::{Value, json};

use crate::ask::Asker;
use crate::plane::Plane;
use crate::{TOKENS, directory, start};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
const PARTIAL: &str = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";

fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"a": "b"}}, "data": {"k": "v"}})
}

#[tokio::test]
async fn an_object_in_each_form() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let admin = Asker::admin(&plane);
    let created = admin.post(CONFIG_MAPS, &config_map("one")).await;
    assert_eq!(created.code, 201);
    let created = created.json();
    let path = format!("{CONFIG_MAPS}/one");

    let json = admin.get(&path).await;
    assert_eq!(json.header("content-type"), "application/json");
    assert_eq!(json.json(), created);
    assert!(json.text().starts_with(r#"{"apiVersion":"v1","kind":"ConfigMap","#), "{}", json.text());

    let yaml = admin.get_as(&path, "application/yaml").await;
    assert_eq!(yaml.header("content-type"), "application/yaml");
    assert_eq!(serde_yaml_ng::from_slice::<Value>(&yaml.body).unwrap(), created);

    let table = admin.get_as(&path, TABLE).await.json();
    assert_eq!((&table["kind"], &table["apiVersion"]), (&json!("Table"), &json!("meta.k8s.io/v1")));
    assert_eq!(table["columnDefinitions"][0]["name"], "Name");
    assert_eq!(table["rows"][0]["cells"][0], "one");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(table["rows"][0]["object"]["metadata"], created["metadata"]);

    let partial = admin.get_as(CONFIG_MAPS, PARTIAL).await.json();
    assert_eq!(partial["kind"], "PartialObjectMetadataList");
    let item = json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": created["metadata"]});
    assert_eq!(partial["items"][0], item);

    let list = admin.get(CONFIG_MAPS).await.json();
    assert_eq!((&list["kind"], &list["items"][0]["data"]), (&json!("ConfigMapList"), &json!({"k": "v"})));
    let with_objects = admin.get_as(&format!("{CONFIG_MAPS}?includeObject=Object"), TABLE).await.json();
    assert_eq!(with_objects["rows"][0]["object"], created);
    let without = admin.get_as(&format!("{CONFIG_MAPS}?includeObject=None"), TABLE).await.json();
    assert_eq!(without["rows"][0].get("object"), None);

    let yaml = "kind: ConfigMap\napiVersion: v1\nmetadata: {name: two}\ndata: {a: 'true'}\n";
    let created = admin.send(Method::POST, CONFIG_MAPS, &[("content-type", "application/yaml")], yaml).await;
    assert_eq!(created.ok()["data"], json!({"a": "true"}));
    plane.stop().await;
}

#[tokio::test]
async fn what_cannot_be_read_or_written_says_what_can() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let admin = Asker::admin(&plane);
    let protobuf = "application/vnd.kubernetes.protobuf";
    let answer = admin.get_as(CONFIG_MAPS, protobuf).await.failure();
    let accepted = "only the following media types are accepted: application/json, application/yaml";
    assert_eq!(answer, (406, "NotAcceptable".into(), accepted.into()));
    let answer = admin.send(Method::POST, CONFIG_MAPS, &[("content-type", protobuf)], "k8s").await.failure();
    assert_eq!((answer.0, answer.1.as_str()), (400, "BadRequest"));
    let answer =
        admin.send(Method::POST, CONFIG_MAPS, &[("content-type", "text/html")], "<p>").await.failure();
    assert_eq!((answer.0, answer.1.as_str()), (415, "UnsupportedMediaType"));
    // Applying is served in YAML alone.
    let path = format!("{CONFIG_MAPS}/x?fieldManager=me");
    let answer =
        admin.send(Method::PATCH, &path, &[("content-type", "application/apply-patch+cbor")], "{}").await;
    assert_eq!(answer.failure().0, 415);
    assert_eq!(admin.send(Method::POST, CONFIG_MAPS, &[], "{").await.failure().0, 400);

    let large = "x".repeat(3 * 1024 * 1024 + 1);
    let answer = admin.send(Method::POST, CONFIG_MAPS, &[], &large).await.failure();
    assert_eq!((answer.0, answer.1.as_str()), (413, "RequestEntityTooLarge"));

    for path in [
        "/nothing",
        "/api/v2/pods",
        "/apis/apps/v1/nothing",
        "/api/v1/namespaces/default/nodes",
        "/api/v1/nodes/a/nothing",
        "/api/v1/namespaces/default/pods/a/log/b",
    ] {
        let (code, reason, message) = admin.get(path).await.failure();
        assert_eq!((code, reason.as_str()), (404, "NotFound"), "{path}");
        assert_eq!(message, "the server could not find the requested resource", "{path}");
    }
    let (code, reason, _) = admin.put(CONFIG_MAPS, &config_map("x")).await.failure();
    assert_eq!((code, reason.as_str()), (405, "MethodNotAllowed"));
    plane.stop().await;
}

#[tokio::test]
async fn unknown_fields_are_refused_warned_of_or_ignored() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let admin = Asker::admin(&plane);
    let mut body = config_map("x");
    body["nonsense"] = json!(1);
    let strict = admin.post(&format!("{CONFIG_MAPS}?fieldValidation=Strict"), &body).await.failure();
    assert_eq!(strict.0, 400);
    assert!(strict.2.contains(r#"unknown field "nonsense""#), "{}", strict.2);
    let warned = admin.post(&format!("{CONFIG_MAPS}?fieldValidation=Warn&dryRun=All"), &body).await;
    assert_eq!(warned.code, 201);
    assert_eq!(warned.header("warning"), r#"299 - "unknown field \"nonsense\"""#);
    let ignored = admin.post(&format!("{CONFIG_MAPS}?fieldValidation=Ignore"), &body).await;
    assert_eq!((ignored.code, ignored.header("warning")), (201, ""));
    let twice = r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"y"},"data":{"a":"1","a":"2"}}"#;
    let path = format!("{CONFIG_MAPS}?fieldValidation=Strict");
    let twice = admin.send(Method::POST, &path, &[], twice).await.failure();
    assert!(twice.2.contains(r#"duplicate field "data.a""#), "{}", twice.2);
    let unsupported = admin.post(&format!("{CONFIG_MAPS}?fieldValidation=Maybe"), &body).await.failure();
    assert_eq!(unsupported.0, 422);
    plane.stop().await;
}

#[tokio::test]
async fn an_answer_keeps_its_place_until_it_is_taken() {
    let directory = directory();
    let limits = Limits { reads: 1, ..Limits::default() };
    let plane = Plane::start(directory.path(), ([127, 0, 0, 1], 0).into(), "", limits).await;
    let admin = Asker::admin(&plane);
    let first = admin.begin(http::Method::GET, "/api/v1/namespaces", &[], "").await;
    assert_eq!(first.status(), 200);
    assert_eq!(admin.get("/api/v1/namespaces").await.failure().0, 429);
    drop(first);
    assert_eq!(admin.get("/api/v1/namespaces").await.code, 200);
    plane.stop().await;
}

#[tokio::test]
async fn more_at_once_than_there_are_places_are_asked_to_come_back() {
    let directory = directory();
    let limits = Limits { streams: 1, ..Limits::default() };
    let plane = Plane::start(directory.path(), ([127, 0, 0, 1], 0).into(), TOKENS, limits).await;
    let admin = Asker::admin(&plane);
    let watch = format!("{CONFIG_MAPS}?watch=true");
    let first = admin.begin(Method::GET, &watch, &[], "").await;
    assert_eq!(first.status(), 200);
    let second = admin.get(&watch).await;
    assert_eq!(second.failure().0, 429);
    assert_eq!(second.header("retry-after"), "1");
    drop(first);
    let third = admin.begin(Method::GET, &watch, &[], "").await;
    assert_eq!(third.status(), 200);
    drop(third);
    plane.stop().await;
}
