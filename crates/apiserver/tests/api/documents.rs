//! Discovery, OpenAPI, the version and health.

use http::Method;
use serde_json::{Value, json};

use crate::ask::Asker;
use crate::{directory, start};

const AGGREGATED: &str =
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";

fn named<'a>(list: &'a Value, key: &str, name: &str) -> &'a Value {
    let all = list.as_array().unwrap();
    all.iter().find(|each| each[key] == name).unwrap_or_else(|| panic!("no {name} in {list}"))
}

fn widgets() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.org"},
        "spec": {
            "group": "example.org",
            "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList", "shortNames": ["wd"]},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "properties": {"size": {"type": "integer", "description": "How large."}}},
                }}},
                "subresources": {"status": {}},
            }],
        },
    })
}

#[tokio::test]
async fn discovery_in_both_forms() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let admin = Asker::admin(&plane);
    assert_eq!(admin.get("/api").await.ok()["versions"], json!(["v1"]));
    let groups = admin.get("/apis").await.ok();
    assert_eq!(named(&groups["groups"], "name", "apps")["preferredVersion"]["groupVersion"], "apps/v1");
    assert_eq!(admin.get("/apis/apps").await.ok()["kind"], "APIGroup");
    let core = admin.get("/api/v1").await.ok();
    let pods = named(&core["resources"], "name", "pods");
    assert_eq!(
        (&pods["kind"], &pods["namespaced"], &pods["shortNames"]),
        (&json!("Pod"), &json!(true), &json!(["po"]))
    );
    named(&core["resources"], "name", "pods/log");
    named(&core["resources"], "name", "pods/binding");
    let apps = admin.get("/apis/apps/v1").await.ok();
    let scale = named(&apps["resources"], "name", "deployments/scale");
    assert_eq!(
        (&scale["group"], &scale["version"], &scale["kind"]),
        (&json!("autoscaling"), &json!("v1"), &json!("Scale"))
    );
    let reviews = admin.get("/apis/authorization.k8s.io/v1").await.ok();
    assert_eq!(named(&reviews["resources"], "name", "selfsubjectaccessreviews")["verbs"], json!(["create"]));

    let aggregated = admin.get_as("/apis", AGGREGATED).await;
    assert_eq!(
        aggregated.header("content-type"),
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    );
    let etag = aggregated.header("etag").to_owned();
    let items = aggregated.ok()["items"].clone();
    let apps = items.as_array().unwrap().iter().find(|item| item["metadata"]["name"] == "apps").unwrap();
    let deployments = named(&apps["versions"][0]["resources"], "resource", "deployments");
    assert_eq!(deployments["responseKind"], json!({"group": "apps", "version": "v1", "kind": "Deployment"}));
    assert_eq!(
        named(&deployments["subresources"], "subresource", "status")["responseKind"]["kind"],
        "Deployment"
    );
    let known = [("accept", AGGREGATED), ("if-none-match", etag.as_str())];
    assert_eq!(admin.send(Method::GET, "/apis", &known, "").await.code, 304);

    // A new kind is in the next answer.
    admin.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &widgets()).await.ok();
    until_served(&admin).await;
    assert_eq!(admin.send(Method::GET, "/apis", &known, "").await.code, 200);
    let custom = admin.get("/apis/example.org/v1").await.ok();
    assert_eq!(named(&custom["resources"], "name", "widgets")["kind"], "Widget");
    plane.stop().await;
}

async fn until_served(admin: &Asker<'_>) {
    for _ in 0..2000 {
        if admin.get("/apis/example.org/v1").await.code == 200 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("never served");
}

#[tokio::test]
async fn openapi_is_what_kubectl_looks_for() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let admin = Asker::admin(&plane);
    admin.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &widgets()).await.ok();
    until_served(&admin).await;

    let root = admin.get("/openapi/v3").await.ok();
    let url = root["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap().to_owned();
    let answer = admin.get(&url).await;
    assert_eq!(answer.header("cache-control"), "public, immutable");
    let apps = answer.ok();
    let deployment = &apps["components"]["schemas"]["io.k8s.api.apps.v1.Deployment"];
    assert_eq!(deployment["x-kubernetes-group-version-kind"][0]["kind"], "Deployment");
    assert!(
        apps["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"].is_object()
    );
    let patch = &apps["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "Deployment");
    named(&patch["parameters"], "name", "fieldValidation");

    let url = root["paths"]["apis/example.org/v1"]["serverRelativeURL"].as_str().unwrap();
    let custom = admin.get(url).await.ok();
    let widget = &custom["components"]["schemas"]["org.example.v1.Widget"];
    assert_eq!(widget["properties"]["spec"]["properties"]["size"]["description"], "How large.");
    assert!(custom["components"]["schemas"]["io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"].is_object());

    let all = admin.get("/openapi/v2").await.ok();
    assert_eq!(all["swagger"], "2.0");
    assert_all_references_resolve(&all, &all["definitions"], "#/definitions/");
    assert_all_references_resolve(&apps, &apps["components"]["schemas"], "#/components/schemas/");
    plane.stop().await;
}

fn assert_all_references_resolve(tree: &Value, definitions: &Value, prefix: &str) {
    match tree {
        Value::Object(map) => {
            if let Some(reference) = map.get("$ref").and_then(Value::as_str) {
                let name = reference.strip_prefix(prefix).expect(reference);
                assert!(definitions.get(name).is_some(), "{reference}");
            }
            map.values().for_each(|value| assert_all_references_resolve(value, definitions, prefix));
        }
        Value::Array(list) => {
            list.iter().for_each(|value| assert_all_references_resolve(value, definitions, prefix))
        }
        _ => {}
    }
}

#[tokio::test]
async fn version_and_health() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let nobody = Asker::nobody(&plane);
    let version = nobody.get("/version").await.ok();
    assert!(version["gitVersion"].as_str().unwrap().starts_with("v1.36.0+monoplane."), "{version}");
    for path in ["/healthz", "/livez", "/readyz"] {
        let answer = nobody.get(path).await;
        assert_eq!((answer.code, answer.text()), (200, "ok"), "{path}");
    }
    let verbose = async |path| nobody.get(path).await.text().to_owned();
    let all = "[+]ping ok\n[+]etcd ok\n[+]etcd-readiness ok\n[+]informer-sync ok\n\
               [+]poststarthook/rbac/bootstrap-roles ok\n[+]shutdown ok\nreadyz check passed\n";
    assert_eq!(verbose("/readyz?verbose").await, all);
    let alive = "[+]ping ok\n[+]etcd ok\n[+]poststarthook/rbac/bootstrap-roles ok\nlivez check passed\n";
    assert_eq!(verbose("/livez?verbose").await, alive);
    let told = "[+]ping ok\n[+]etcd excluded: ok\n[+]poststarthook/rbac/bootstrap-roles ok\n\
                warn: some health checks cannot be excluded: no matches for \"no\",\"shutdown\"\nhealthz check passed\n";
    assert_eq!(verbose("/healthz?verbose&exclude=shutdown&exclude=etcd&exclude=no").await, told);
    let admin = Asker::admin(&plane);
    assert_eq!(admin.get("/readyz/etcd-readiness").await.text(), "ok");
    assert_eq!(admin.get("/livez/etcd-readiness").await.code, 404);
    assert_eq!(admin.get("/livez/ping").await.text(), "ok");
    assert_eq!(admin.get("/livez/nothing").await.code, 404);
    assert!(admin.get("/").await.ok()["paths"].as_array().unwrap().contains(&json!("/apis/apps/v1")));
    plane.stop().await;
}
