//! What admission sees of writes, and what becomes of what it makes of them.

use std::sync::{Arc, Mutex};

use apimachinery::gvk::GroupVersionKind;
use apimachinery::status::Status;
use async_trait::async_trait;
use registry::{Admit, Attributes, Part, Patch, RequestContext};
use serde_json::{Value, json};

use crate::world::{World, config_map, now};

/// Changes objects by a merge patch, and writes down what it was shown.
struct Merging {
    patch: Value,
    seen: Mutex<Vec<(String, Value, Option<Value>)>>,
}

impl Merging {
    fn of(patch: Value) -> (Arc<Self>, RequestContext) {
        let merging = Arc::new(Self { patch, seen: Mutex::default() });
        (merging.clone(), RequestContext::new(now(), merging))
    }
}

#[async_trait]
impl Admit for Merging {
    async fn mutate(&self, attributes: Attributes<'_>, object: &mut Value) -> Result<(), Status> {
        let what = format!("{} {}", attributes.kind.plural, attributes.subresource);
        self.seen.lock().unwrap().push((what, object.clone(), attributes.old.cloned()));
        apimachinery::patch::merge::apply(object, &self.patch);
        Ok(())
    }

    async fn validate(&self, attributes: Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
        let what = format!("{} {} judged", attributes.kind.plural, attributes.subresource);
        let object = object.cloned().unwrap_or_default();
        self.seen.lock().unwrap().push((what, object, attributes.old.cloned()));
        Ok(())
    }
}

fn deployment(replicas: i64) -> Value {
    json!({"metadata": {"name": "web"}, "spec": {"replicas": replicas, "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
}

#[tokio::test]
async fn a_scale_is_admitted_as_a_scale() {
    let world = World::new().await;
    world.create("deployments.apps", deployment(1)).await.unwrap();
    let (merging, cx) = Merging::of(json!({"spec": {"replicas": 3}}));
    let kind = world.kind("deployments.apps");
    let patch = Patch::Merge(json!({"spec": {"replicas": 2}}));
    world.registry.patch(&cx, &kind, "default", "web", Part::Scale, &patch).await.unwrap();
    let seen = merging.seen.lock().unwrap().clone();
    let shown: Vec<_> = seen
        .iter()
        .map(|(what, object, old)| {
            let old = old.as_ref().unwrap();
            (what.as_str(), object["kind"].as_str().unwrap(), &object["spec"], &old["spec"])
        })
        .collect();
    let of = |replicas: i64| json!({"replicas": replicas});
    assert_eq!(
        shown,
        [
            ("deployments scale", "Scale", &of(2), &of(1)),
            ("deployments scale judged", "Scale", &of(3), &of(1)),
        ]
    );
    assert_eq!(world.get("deployments.apps", "web").await.unwrap()["spec"]["replicas"], 3);
}

#[tokio::test]
async fn admission_may_name_an_object_and_not_move_it() {
    let world = World::new().await;
    let kind = world.kind("configmaps");
    let (_, cx) = Merging::of(json!({"metadata": {"name": "named"}}));
    let body = json!({"metadata": {"generateName": "x-"}});
    let made = world.registry.create(&cx, &kind, "default", body).await.unwrap();
    assert_eq!(made.names().1, "named");
    let (_, cx) = Merging::of(json!({"metadata": {"namespace": "elsewhere"}}));
    let moved = "the namespace of the provided object does not match the namespace sent on the request";
    let refused = world.registry.create(&cx, &kind, "default", config_map("a", "1")).await.unwrap_err();
    assert_eq!((refused.code, refused.message.as_str()), (400, moved));
    let body = config_map("named", "2");
    let refused = world.registry.update(&cx, &kind, "default", "named", Part::Whole, body).await.unwrap_err();
    assert_eq!((refused.code, refused.message.as_str()), (400, moved));
}

#[tokio::test]
async fn what_admission_adds_is_nobodys() {
    let world = World::new().await;
    let kind = world.kind("configmaps");
    let (_, mut cx) = Merging::of(json!({"metadata": {"labels": {"by": "webhook"}}}));
    cx.field_manager = "me".into();
    let made = world.registry.create(&cx, &kind, "default", config_map("a", "1")).await.unwrap().tree();
    assert_eq!(made["metadata"]["labels"]["by"], "webhook");
    let managed = made["metadata"]["managedFields"].to_string();
    assert!(managed.contains("f:value") && !managed.contains("f:by"), "{managed}");
}

#[tokio::test]
async fn objects_are_brought_into_form_again() {
    let world = World::new().await;
    let kinds = world.registry.kinds();
    let gvk = GroupVersionKind::of("apps", "v1", "Deployment");
    let mut object = deployment(1);
    object["spec"]["unknown"] = json!(1);
    object["spec"].as_object_mut().unwrap().remove("replicas");
    kinds.conform(&gvk, &mut object).unwrap();
    assert_eq!((&object["spec"]["replicas"], object["spec"].get("unknown")), (&json!(1), None));
    object["spec"]["replicas"] = json!("many");
    assert!(kinds.conform(&gvk, &mut object).unwrap_err().message.contains("spec.replicas of type int32"));
    let mut other = json!({"apiVersion": "v1", "kind": "Pod"});
    assert_eq!(kinds.conform(&gvk, &mut other).unwrap_err().code, 400);
    // Kinds that are sent and never stored are known as far as they are described.
    let mut binding = json!({"target": {"name": "n", "unknown": 1}});
    kinds.conform(&GroupVersionKind::of("", "v1", "Binding"), &mut binding).unwrap();
    assert_eq!(binding["target"], json!({"name": "n"}));
    let mut options = json!({"command": ["ls"]});
    kinds.conform(&GroupVersionKind::of("", "v1", "PodExecOptions"), &mut options).unwrap();
    assert_eq!(options, json!({"apiVersion": "v1", "kind": "PodExecOptions", "command": ["ls"]}));
}

#[tokio::test]
async fn equivalent_kinds_are_forms_of_the_same_objects() {
    let world = World::new().await;
    let kinds = world.registry.kinds();
    let others = |resource: &str| -> Vec<String> {
        kinds.equivalents(&world.kind(resource)).map(|kind| kind.api_version()).collect()
    };
    assert_eq!(others("events"), ["events.k8s.io/v1"]);
    assert_eq!(others("horizontalpodautoscalers.autoscaling"), ["autoscaling/v2"]);
    assert!(others("pods").is_empty());
    let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "message": "m"});
    let converted = world.kind("events").in_form(event, &world.kind("events.events.k8s.io")).await.unwrap();
    assert_eq!(
        converted,
        json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"}, "note": "m"})
    );
}
