//! What the documents of OpenAPI say to people: every field of every kind, as `kubectl explain` goes through them.

use std::collections::BTreeSet;

use http::Method;
use serde_json::{Value, json};

use crate::ask::Asker;
use crate::{directory, start};

/// Names of definitions that were gone through, and what was found without a description.
#[derive(Default)]
struct Explained {
    seen: BTreeSet<String>,
    fields: usize,
    silent: Vec<String>,
}

impl Explained {
    fn definition(&mut self, schemas: &Value, name: &str) {
        if !self.seen.insert(name.to_owned()) {
            return;
        }
        let schema = &schemas[name];
        assert!(schema.is_object(), "{name} is not defined");
        self.check(schema, name);
        self.below(schemas, schema, name);
    }

    fn check(&mut self, schema: &Value, path: &str) {
        self.fields += 1;
        if schema["description"].as_str().is_none_or(str::is_empty) {
            self.silent.push(path.to_owned());
        }
    }

    fn below(&mut self, schemas: &Value, schema: &Value, path: &str) {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            self.check(property, &path);
            self.refer(schemas, property, &path);
        }
    }

    fn refer(&mut self, schemas: &Value, schema: &Value, path: &str) {
        let all = schema["allOf"].as_array().into_iter().flatten();
        for each in
            all.chain([schema, &schema["items"], &schema["additionalProperties"], &schema["items"]["items"]])
        {
            if let Some(reference) = each["$ref"].as_str() {
                self.definition(schemas, reference.rsplit('/').next().unwrap());
            } else if each["properties"].is_object() && !std::ptr::eq(each, schema) {
                self.below(schemas, each, path);
            }
        }
        if schema["properties"].is_object() {
            self.below(schemas, schema, path);
        }
    }
}

fn custom() -> Value {
    json!({
        "metadata": {"name": "widgets.example.org"},
        "spec": {
            "group": "example.org", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "description": "A widget.", "properties": {
                    "spec": {"type": "object", "description": "As wanted.", "properties": {
                        "size": {"type": "integer", "description": "How large."},
                    }},
                },
            }}}],
        },
    })
}

#[tokio::test]
async fn every_field_of_every_kind_is_described_in_both_versions() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let admin = Asker::admin(&plane);
    admin.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &custom()).await.ok();
    let crds = "/apis/example.org/v1";
    for _ in 0..2000 {
        if admin.get(crds).await.code == 200 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let v2 = admin.get("/openapi/v2").await.ok();
    let mut explained = Explained::default();
    let root = admin.get("/openapi/v3").await.ok();
    let mut kinds = 0;
    for (path, at) in root["paths"].as_object().unwrap() {
        let document = admin.get(at["serverRelativeURL"].as_str().unwrap()).await.ok();
        let schemas = &document["components"]["schemas"];
        let mut here = Explained::default();
        for resource in admin.get(&format!("/{path}")).await.ok()["resources"].as_array().unwrap() {
            if resource["name"].as_str().unwrap().contains('/') {
                continue;
            }
            let (group, version) = path.trim_start_matches("apis/").split_once('/').unwrap();
            let group = if group == "api" { "" } else { group };
            let gvk = json!({"group": group, "version": version, "kind": resource["kind"]});
            let is_it = |schema: &Value| {
                schema["x-kubernetes-group-version-kind"].as_array().is_some_and(|all| all.contains(&gvk))
            };
            let found = schemas.as_object().unwrap().iter().find(|(_, schema)| is_it(schema));
            let (name, _) = found.unwrap_or_else(|| panic!("{gvk} is not in {path}"));
            here.definition(schemas, name);
            explained.definition(&v2["definitions"], name);
            kinds += 1;
        }
        assert!(here.silent.is_empty(), "{path}: nothing is said of {:#?}", here.silent);
    }
    assert!(explained.silent.is_empty(), "v2: nothing is said of {:#?}", explained.silent);
    assert!(kinds >= 60 && explained.fields > 2200, "{kinds} kinds, {} fields", explained.fields);
    plane.stop().await;
}

#[tokio::test]
async fn operations_are_named_and_marked_as_upstreams() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let admin = Asker::admin(&plane);
    let v2 = admin.get("/openapi/v2").await.ok();
    let pods = "/api/v1/namespaces/{namespace}/pods";
    let cases = [
        ("/api/v1/pods", "get", "listCoreV1PodForAllNamespaces", "list"),
        (pods, "get", "listCoreV1NamespacedPod", "list"),
        (pods, "post", "createCoreV1NamespacedPod", "post"),
        (pods, "delete", "deleteCoreV1CollectionNamespacedPod", "deletecollection"),
        ("/api/v1/namespaces/{namespace}/pods/{name}", "get", "readCoreV1NamespacedPod", "get"),
        ("/api/v1/namespaces/{namespace}/pods/{name}", "put", "replaceCoreV1NamespacedPod", "put"),
        ("/api/v1/namespaces/{namespace}/pods/{name}", "delete", "deleteCoreV1NamespacedPod", "delete"),
        (
            "/api/v1/namespaces/{namespace}/pods/{name}/status",
            "patch",
            "patchCoreV1NamespacedPodStatus",
            "patch",
        ),
        (
            "/api/v1/namespaces/{namespace}/pods/{name}/binding",
            "post",
            "createCoreV1NamespacedPodBinding",
            "post",
        ),
        (
            "/api/v1/namespaces/{namespace}/pods/{name}/eviction",
            "post",
            "createCoreV1NamespacedPodEviction",
            "post",
        ),
        (
            "/api/v1/namespaces/{namespace}/pods/{name}/exec",
            "get",
            "connectCoreV1GetNamespacedPodExec",
            "connect",
        ),
        (
            "/api/v1/namespaces/{namespace}/pods/{name}/exec",
            "post",
            "connectCoreV1PostNamespacedPodExec",
            "connect",
        ),
        ("/api/v1/namespaces/{namespace}/pods/{name}/log", "get", "readCoreV1NamespacedPodLog", "get"),
        ("/api/v1/watch/pods", "get", "watchCoreV1PodListForAllNamespaces", "watchlist"),
        ("/api/v1/watch/namespaces/{namespace}/pods", "get", "watchCoreV1NamespacedPodList", "watchlist"),
        ("/api/v1/watch/namespaces/{namespace}/pods/{name}", "get", "watchCoreV1NamespacedPod", "watch"),
        (
            "/apis/rbac.authorization.k8s.io/v1/clusterroles",
            "get",
            "listRbacAuthorizationV1ClusterRole",
            "list",
        ),
        (
            "/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale",
            "get",
            "readAppsV1NamespacedDeploymentScale",
            "get",
        ),
        (
            "/apis/authorization.k8s.io/v1/subjectaccessreviews",
            "post",
            "createAuthorizationV1SubjectAccessReview",
            "post",
        ),
    ];
    for (path, method, id, action) in cases {
        let operation = &v2["paths"][path][method];
        assert_eq!(
            (&operation["operationId"], &operation["x-kubernetes-action"]),
            (&json!(id), &json!(action)),
            "{method} {path}"
        );
        assert!(operation["x-kubernetes-group-version-kind"]["kind"].is_string(), "{method} {path}");
    }
    let scale = "/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale";
    let scale = &v2["paths"][scale]["get"];
    assert_eq!(scale["x-kubernetes-group-version-kind"]["group"], "autoscaling");
    assert_eq!(scale["responses"]["200"]["schema"]["$ref"], "#/definitions/io.k8s.api.autoscaling.v1.Scale");
    assert_eq!(v2["paths"]["/api/v1/"]["get"]["operationId"], "getCoreV1APIResources");
    assert_eq!(
        v2["paths"][pods]["get"]["responses"]["200"]["schema"]["$ref"],
        "#/definitions/io.k8s.api.core.v1.PodList"
    );
    plane.stop().await;
}

#[tokio::test]
async fn large_documents_come_compressed_to_who_takes_them_so() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let admin = Asker::admin(&plane);
    let packed = admin.send(Method::GET, "/openapi/v2", &[("accept-encoding", "gzip")], "").await;
    let plain = admin.get("/openapi/v2").await;
    assert_eq!((packed.header("content-encoding"), plain.header("content-encoding")), ("gzip", ""));
    assert_eq!(packed.header("etag"), plain.header("etag"));
    assert!(packed.body.len() * 4 < plain.body.len(), "{} of {}", packed.body.len(), plain.body.len());
    plane.stop().await;
}
