//! An object of every kind through every verb: what is the same for all of them.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::ask::{Answer, Asker};
use crate::coverage::{AGGREGATED, Served, discovered};
use crate::{directory, start};

const SAMPLES: &str = include_str!("samples.yaml");
/// Kinds whose names say what they are: only one object can be made of their sample.
const NAMED_BY_CONTENT: [&str; 3] = ["CustomResourceDefinition", "APIService", "IPAddress"];
const STRICT: &str = "fieldValidation=Strict";

/// One kind, its sample, and where its objects are.
struct Life<'a> {
    admin: &'a Asker<'a>,
    kind: String,
    plural: String,
    verbs: BTreeSet<String>,
    parts: BTreeSet<String>,
    collection: String,
    sample: Value,
    name: String,
}

impl Life<'_> {
    fn item(&self) -> String {
        format!("{}/{}", self.collection, self.name)
    }

    fn of(&self, name: &str) -> Value {
        let mut object = self.sample.clone();
        object["metadata"]["name"] = json!(name);
        object["metadata"]["labels"] = json!({"sample": "yes"});
        object
    }

    async fn whole(&self) {
        self.refusals().await;
        self.creation().await;
        self.reading().await;
        self.changes().await;
        self.parts().await;
        self.deletion().await;
        self.many().await;
    }

    async fn refusals(&self) {
        let kind = &self.kind;
        let mut odd = self.of(&self.name);
        odd["unheardOf"] = json!(1);
        let refused = self.admin.post(&format!("{}?{STRICT}", self.collection), &odd).await.failure();
        let said = "strict decoding error: unknown field \"unheardOf\"";
        assert_eq!((refused.0, refused.1.as_str()), (400, "BadRequest"), "{kind}: {refused:?}");
        assert!(refused.2.contains(said), "{kind}: {refused:?}");
        let mut nameless = self.of("");
        nameless["metadata"].as_object_mut().unwrap().remove("name");
        let (code, reason, message) = self.admin.post(&self.collection, &nameless).await.failure();
        assert_eq!((code, reason.as_str()), (422, "Invalid"), "{kind}: {message}");
        assert!(message.contains("metadata.name: Required value"), "{kind}: {message}");
        let (code, reason, message) =
            self.admin.post(&self.collection, &self.of("Not%/a name")).await.failure();
        assert_eq!((code, reason.as_str()), (422, "Invalid"), "{kind}: {message}");
        assert!(message.contains("metadata.name: Invalid value"), "{kind}: {message}");
        let mut other = self.of(&self.name);
        other["kind"] = json!("Other");
        let (code, reason, message) = self.admin.post(&self.collection, &other).await.failure();
        assert_eq!((code, reason.as_str()), (400, "BadRequest"), "{kind}: {message}");
        if self.collection.contains("/namespaces/default/") {
            let elsewhere = self.collection.replace("/default/", "/nowhere/");
            let (code, reason, message) = self.admin.post(&elsewhere, &self.of(&self.name)).await.failure();
            assert_eq!((code, reason.as_str()), (404, "NotFound"), "{kind}: {message}");
            assert_eq!(message, "namespaces \"nowhere\" not found", "{kind}");
        }
        let at_item = self.admin.post(&self.item(), &self.of(&self.name)).await.failure();
        assert_eq!((at_item.0, at_item.1.as_str()), (405, "MethodNotAllowed"), "{kind}: {at_item:?}");
        for missing in [
            self.admin.get(&self.item()).await,
            self.admin.delete(&self.item()).await,
            self.admin.patch(&self.item(), "merge-patch", &json!({})).await,
        ] {
            let (code, reason, message) = missing.failure();
            assert_eq!((code, reason.as_str()), (404, "NotFound"), "{kind}: {message}");
            assert!(message.ends_with(&format!(" \"{}\" not found", self.name)), "{kind}: {message}");
            assert!(message.starts_with(&self.plural), "{kind}: {message}");
        }
    }

    async fn creation(&self) {
        let (kind, sample) = (&self.kind, self.of(&self.name));
        let dry = self.admin.post(&format!("{}?dryRun=All&{STRICT}", self.collection), &sample).await;
        assert_eq!(dry.code, 201, "{kind}: {}", dry.text());
        assert_eq!(self.admin.get(&self.item()).await.code, 404, "{kind}: a dry run left something");
        let made =
            self.admin.post(&format!("{}?{STRICT}&fieldManager=maker", self.collection), &sample).await;
        assert_eq!(made.code, 201, "{kind}: {}", made.text());
        let made = made.json();
        let metadata = &made["metadata"];
        assert_eq!((&made["kind"], &metadata["name"]), (&json!(kind), &json!(self.name)));
        for field in ["uid", "creationTimestamp", "resourceVersion"] {
            assert!(metadata[field].is_string(), "{kind}: no {field}: {metadata}");
        }
        assert_eq!(metadata["managedFields"][0]["manager"], "maker", "{kind}: {metadata}");
        let again = self.admin.post(&self.collection, &sample).await.failure();
        assert_eq!((again.0, again.1.as_str()), (409, "AlreadyExists"), "{kind}: {again:?}");
    }

    async fn reading(&self) {
        let kind = &self.kind;
        let object = self.admin.get(&self.item()).await.ok();
        let table =
            self.admin.get_as(&self.item(), "application/json;as=Table;g=meta.k8s.io;v=v1").await.ok();
        assert_eq!((&table["kind"], table["rows"].as_array().unwrap().len()), (&json!("Table"), 1), "{kind}");
        let columns = table["columnDefinitions"].as_array().unwrap();
        assert_eq!(columns.len(), table["rows"][0]["cells"].as_array().unwrap().len(), "{kind}: {table}");
        let as_metadata = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
        let partial = self.admin.get_as(&self.item(), as_metadata).await.ok();
        assert_eq!(partial["metadata"], object["metadata"], "{kind}");
        assert_eq!(partial.as_object().unwrap().len(), 3, "{kind}: {partial}");
        for selector in
            ["labelSelector=sample%3Dyes", &format!("fieldSelector=metadata.name%3D{}", self.name)]
        {
            let list = self.admin.get(&format!("{}?{selector}", self.collection)).await.ok();
            assert_eq!(list["kind"], format!("{kind}List"), "{kind}");
            let names: Vec<&Value> =
                list["items"].as_array().unwrap().iter().map(|item| &item["metadata"]["name"]).collect();
            assert_eq!(names, [&json!(self.name)], "{kind}: {selector}");
        }
        let wrong = self.admin.get(&format!("{}?fieldSelector=spec.unheardOf%3D1", self.collection)).await;
        assert_eq!(wrong.code, 400, "{kind}: {}", wrong.text());
    }

    async fn changes(&self) {
        let (kind, item) = (&self.kind, self.item());
        let before = self.admin.get(&item).await.ok();
        let version = before["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
        let label = |value: &str| json!({"metadata": {"labels": {"changed": value}}});
        let labelled = |answer: Answer, value: &str| {
            assert_eq!(answer.code, 200, "{kind}: {}", answer.text());
            assert_eq!(answer.json()["metadata"]["labels"]["changed"], value, "{kind}");
        };
        let dry = self.admin.patch(&format!("{item}?dryRun=All"), "merge-patch", &label("dry")).await;
        labelled(dry, "dry");
        assert_eq!(self.admin.get(&item).await.ok(), before, "{kind}: a dry run changed something");
        labelled(self.admin.patch(&item, "merge-patch", &label("merged")).await, "merged");
        labelled(self.admin.patch(&item, "strategic-merge-patch", &label("strategic")).await, "strategic");
        let operations = json!([{"op": "replace", "path": "/metadata/labels/changed", "value": "replaced"}]);
        labelled(self.admin.patch(&item, "json-patch", &operations).await, "replaced");
        let mut stale = before.clone();
        stale["metadata"]["labels"]["changed"] = json!("stale");
        let refused = self.admin.put(&item, &stale).await.failure();
        assert_eq!((refused.0, refused.1.as_str()), (409, "Conflict"), "{kind}: {refused:?}");
        let mut fresh = self.admin.get(&item).await.ok();
        fresh["metadata"]["labels"]["changed"] = json!("put");
        labelled(self.admin.put(&format!("{item}?{STRICT}"), &fresh).await, "put");
        let mut applied = label("put");
        (applied["apiVersion"], applied["kind"]) = (fresh["apiVersion"].clone(), fresh["kind"].clone());
        let owner = format!("{item}?fieldManager=owner");
        labelled(self.apply(&owner, &applied).await, "put");
        applied["metadata"]["labels"]["changed"] = json!("applied");
        let conflict = self.apply(&owner, &applied).await.failure();
        assert_eq!((conflict.0, conflict.1.as_str()), (409, "Conflict"), "{kind}: {conflict:?}");
        labelled(self.apply(&format!("{owner}&force=true"), &applied).await, "applied");
        self.shown(&version).await;
    }

    async fn apply(&self, path: &str, body: &Value) -> Answer {
        let apply = [("content-type", "application/apply-patch+yaml")];
        self.admin.send(Method::PATCH, path, &apply, &body.to_string()).await
    }

    /// A watch from before the changes shows them all.
    async fn shown(&self, version: &str) {
        let selector = format!("fieldSelector=metadata.name%3D{}", self.name);
        let path =
            format!("{}?watch=true&resourceVersion={version}&timeoutSeconds=1&{selector}", self.collection);
        let events = self.admin.get(&path).await;
        let events: Vec<Value> =
            events.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let seen: Vec<&str> = events
            .iter()
            .filter_map(|event| event["object"]["metadata"]["labels"]["changed"].as_str())
            .collect();
        let mut distinct = seen.clone();
        distinct.dedup();
        assert!(events.iter().all(|event| event["type"] == "MODIFIED"), "{}: {events:?}", self.kind);
        assert_eq!(distinct, ["merged", "strategic", "replaced", "put", "applied"], "{}", self.kind);
    }

    async fn parts(&self) {
        let (kind, item) = (&self.kind, self.item());
        if self.parts.contains("status") {
            let path = format!("{item}/status");
            let shown = self.admin.get(&path).await.ok();
            assert_eq!(shown["kind"], json!(kind));
            let again = self.admin.put(&path, &shown).await;
            assert_eq!(again.code, 200, "{kind}: {}", again.text());
        }
        if self.parts.contains("scale") {
            let path = format!("{item}/scale");
            let mut scale = self.admin.get(&path).await.ok();
            assert_eq!((&scale["kind"], &scale["apiVersion"]), (&json!("Scale"), &json!("autoscaling/v1")));
            scale["spec"]["replicas"] = json!(3);
            assert_eq!(self.admin.put(&path, &scale).await.ok()["spec"]["replicas"], 3, "{kind}");
            let patch = json!({"spec": {"replicas": 2}});
            assert_eq!(
                self.admin.patch(&path, "merge-patch", &patch).await.ok()["spec"]["replicas"],
                2,
                "{kind}"
            );
            assert_eq!(self.admin.get(&item).await.ok()["spec"]["replicas"], 2, "{kind}");
        }
    }

    async fn deletion(&self) {
        let (kind, item) = (&self.kind, self.item());
        let options = json!({"kind": "DeleteOptions", "apiVersion": "v1",
            "preconditions": {"uid": "00000000-0000-0000-0000-000000000000"}});
        let json = [("content-type", "application/json")];
        let other = self.admin.send(Method::DELETE, &item, &json, &options.to_string()).await.failure();
        assert_eq!((other.0, other.1.as_str()), (409, "Conflict"), "{kind}: {other:?}");
        let dry = self.admin.delete(&format!("{item}?dryRun=All")).await;
        assert_eq!(dry.code, 200, "{kind}: {}", dry.text());
        let still = self.admin.get(&item).await.ok();
        assert!(still["metadata"]["deletionTimestamp"].is_null(), "{kind}: a dry run deleted it");
        let gone = self.admin.delete(&format!("{item}?gracePeriodSeconds=0")).await;
        assert!(matches!(gone.code, 200 | 202), "{kind}: {}", gone.text());
        self.let_go(&self.name).await;
        assert_eq!(self.admin.get(&item).await.code, 404, "{kind}");
    }

    /// Takes what holds an object that is deleted: who does so otherwise does not run here.
    async fn let_go(&self, name: &str) {
        let item = format!("{}/{name}", self.collection);
        if self.kind == "CustomResourceDefinition" {
            // The server does it by itself once the kind's objects are gone.
            while self.admin.get(&item).await.code != 404 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            return;
        }
        if self.kind == "Namespace" {
            let mut namespace = self.admin.get(&item).await.ok();
            assert_eq!(namespace["status"]["phase"], "Terminating");
            namespace["spec"]["finalizers"] = json!([]);
            self.admin.put(&format!("{item}/finalize"), &namespace).await.ok();
            return;
        }
        let held = self.admin.get(&item).await;
        if held.code == 404 {
            return;
        }
        let held = held.json();
        assert!(held["metadata"]["deletionTimestamp"].is_string(), "{}: {held}", self.kind);
        let released = json!({"metadata": {"finalizers": null}});
        self.admin.patch(&item, "merge-patch", &released).await.ok();
    }

    async fn many(&self) {
        let kind = &self.kind;
        let names: Vec<String> = if NAMED_BY_CONTENT.contains(&kind.as_str()) {
            vec![self.name.clone()]
        } else {
            let mut named = self.of("");
            named["metadata"].as_object_mut().unwrap().remove("name");
            named["metadata"]["generateName"] = json!("sample-");
            let mut names = Vec::new();
            for _ in 0..2 {
                let made = self.admin.post(&self.collection, &named).await;
                assert_eq!(made.code, 201, "{kind}: {}", made.text());
                names.push(made.json()["metadata"]["name"].as_str().unwrap().to_owned());
            }
            assert!(names.iter().all(|name| name.len() == "sample-".len() + 5), "{kind}: {names:?}");
            names
        };
        if NAMED_BY_CONTENT.contains(&kind.as_str()) {
            let made = self.admin.post(&self.collection, &self.of(&names[0])).await;
            assert_eq!(made.code, 201, "{kind}: {}", made.text());
        }
        let selected = format!("{}?labelSelector=sample%3Dyes", self.collection);
        if self.verbs.contains("deletecollection") {
            let first = self.admin.get(&format!("{selected}&limit=1")).await.ok();
            assert_eq!(first["items"].as_array().unwrap().len(), 1, "{kind}");
            assert_eq!(first["metadata"]["continue"].is_string(), names.len() > 1, "{kind}: {first}");
            let deleted = self.admin.delete(&format!("{selected}&gracePeriodSeconds=0")).await;
            assert_eq!(deleted.code, 200, "{kind}: {}", deleted.text());
        } else {
            for name in &names {
                self.admin.delete(&format!("{}/{name}", self.collection)).await.ok();
            }
        }
        for name in &names {
            self.let_go(name).await;
        }
        let left = self.admin.get(&selected).await.ok();
        assert_eq!(left["items"], json!([]), "{kind}");
    }
}

fn samples() -> Vec<Value> {
    serde_yaml_ng::Deserializer::from_str(SAMPLES).map(|each| Value::deserialize(each).unwrap()).collect()
}

#[tokio::test]
async fn every_kind_lives_through_every_verb() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let admin = Asker::admin(&plane);
    let documents =
        [admin.get_as("/api", AGGREGATED).await.ok(), admin.get_as("/apis", AGGREGATED).await.ok()];
    let served = discovered(&documents);
    let mut unseen: BTreeSet<(String, String)> = served
        .iter()
        .filter(|((_, resource), served)| !resource.contains('/') && served.verbs.contains("list"))
        .filter(|(_, served)| served.verbs.contains("create"))
        .map(|((group_version, _), served)| (group_version.clone(), served.kind.clone()))
        .collect();
    let mut failed = Vec::new();
    for sample in samples() {
        let text = |field: &str| sample[field].as_str().unwrap().to_owned();
        let (group_version, kind) = (text("apiVersion"), text("kind"));
        assert!(
            unseen.remove(&(group_version.clone(), kind.clone())),
            "{group_version} {kind} is not served"
        );
        let is_it = |place: &(String, String), served: &Served| {
            place.0 == group_version && served.kind == kind && !place.1.contains('/')
        };
        let ((_, plural), served_as) = served.iter().find(|(place, served)| is_it(place, served)).unwrap();
        let root = if group_version.contains('/') { "apis" } else { "api" };
        let within = if served_as.namespaced { "/namespaces/default" } else { "" };
        let parts = served.keys().filter(|(version, _)| *version == group_version);
        let life = Life {
            admin: &admin,
            kind,
            plural: plural.clone(),
            verbs: served_as.verbs.clone(),
            parts: parts
                .filter_map(|(_, it)| it.strip_prefix(&format!("{plural}/")).map(str::to_owned))
                .collect(),
            collection: format!("/{root}/{group_version}{within}/{plural}"),
            name: sample["metadata"]["name"].as_str().unwrap_or("sample").to_owned(),
            sample,
        };
        // All that is wrong is said at once.
        if AssertUnwindSafe(life.whole()).catch_unwind().await.is_err() {
            failed.push(life.kind);
        }
    }
    let rest: Vec<_> =
        unseen.iter().filter(|(group_version, _)| !group_version.contains("monoplane")).collect();
    assert!(rest.is_empty(), "no sample of {rest:?}");
    assert!(failed.is_empty(), "{failed:?}");
    plane.stop().await;
}
