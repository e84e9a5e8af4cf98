//! Custom resources in several versions, converted by a webhook that the test plays.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use registry::{AskWebhook, ListOptions, Options, Part, Patch, RequestContext, WatchEvent};
use serde_json::{Value, json};

use crate::world::{World, cx, names, options, until};

const CRD: &str = "customresourcedefinitions.apiextensions.k8s.io";
const HOSTS: &str = "hosts.stable.example.com";
const OLD: &str = "hosts.stable.example.com@v1beta1";

/// v1beta1 has `hostPort: "h:1"`, v1 has `host: h` and `port: "1"`.
#[derive(Default)]
struct Splitter {
    /// How many objects each call had.
    calls: Mutex<Vec<usize>>,
    down: AtomicBool,
}

impl Splitter {
    fn calls(&self) -> Vec<usize> {
        std::mem::take(&mut *self.calls.lock().unwrap())
    }
}

#[async_trait]
impl AskWebhook for Splitter {
    async fn ask(&self, client_config: &Value, review: &Value) -> Result<Value, String> {
        assert_eq!(client_config["url"], "https://hook.example/convert");
        if self.down.load(Ordering::Relaxed) {
            return Err("Post \"https://hook.example:443/convert\": connection refused".to_owned());
        }
        let request = &review["request"];
        let mut objects = request["objects"].as_array().unwrap().clone();
        self.calls.lock().unwrap().push(objects.len());
        for object in &mut objects {
            convert(object, request["desiredAPIVersion"].as_str().unwrap());
        }
        Ok(json!({"apiVersion": review["apiVersion"], "kind": "ConversionReview", "response": {
            "uid": request["uid"], "convertedObjects": objects, "result": {"status": "Success"},
        }}))
    }
}

fn convert(object: &mut Value, to: &str) {
    assert_ne!(object["apiVersion"], to, "{object}");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let map = object.as_object_mut().unwrap();
    if to == "stable.example.com/v1" {
        let both = text(&map.remove("hostPort").unwrap_or_default());
        let (host, port) = both.split_once(':').unwrap_or((&both, ""));
        map.insert("host".into(), host.into());
        map.insert("port".into(), port.into());
    } else {
        let (host, port) = (map.remove("host").unwrap_or_default(), map.remove("port").unwrap_or_default());
        map.insert("hostPort".into(), format!("{}:{}", text(&host), text(&port)).into());
    }
    map.insert("apiVersion".into(), to.into());
}

fn definition(storage: &str) -> Value {
    let version = |name: &str, fields: Value| {
        json!({"name": name, "served": true, "storage": name == storage, "schema": {"openAPIV3Schema": {
            "type": "object", "properties": fields,
        }}})
    };
    let text = json!({"type": "string"});
    json!({
        "metadata": {"name": HOSTS},
        "spec": {
            "group": "stable.example.com", "scope": "Namespaced", "names": {"plural": "hosts", "kind": "Host"},
            "versions": [
                version("v1beta1", json!({"hostPort": text})),
                version("v1", json!({"host": text, "port": text, "zone": {"type": "string", "default": "a"}})),
            ],
            "conversion": {"strategy": "Webhook", "webhook": {
                "clientConfig": {"url": "https://hook.example/convert"}, "conversionReviewVersions": ["v1"],
            }},
        },
    })
}

fn host(name: &str) -> Value {
    json!({"apiVersion": "stable.example.com/v1", "kind": "Host", "metadata": {"name": name}, "host": name, "port": "1"})
}

async fn world(storage: &str) -> (World, Arc<Splitter>, Options) {
    let hook = Arc::new(Splitter::default());
    let options = Options { webhooks: hook.clone(), ..options() };
    let world = World::with(options.clone()).await;
    world.create(CRD, definition(storage)).await.unwrap();
    until(async || world.registry.kinds().lookup("stable.example.com", "v1", "hosts").is_some()).await;
    (world, hook, options)
}

async fn restored(world: &World, name: &str, storage: &str) {
    world.merge(CRD, name, definition(storage)).await.unwrap();
    until(async || world.kind(&format!("{name}@{storage}")).storage).await;
}

#[tokio::test]
async fn readers_of_the_stored_version_never_wait_for_the_webhook() {
    let (world, hook, _) = world("v1").await;
    hook.down.store(true, Ordering::Relaxed);
    let mut watch = world.watch(HOSTS, ListOptions::default()).await.unwrap();
    let made = world.create(HOSTS, host("a")).await.unwrap();
    assert_eq!(made["zone"], "a");
    world.merge(HOSTS, "a", json!({"port": "2"})).await.unwrap();
    assert_eq!(world.get(HOSTS, "a").await.unwrap()["port"], "2");
    assert_eq!(world.list(HOSTS, ListOptions::default()).await.unwrap().len(), 1);
    assert!(matches!(watch.next().await, Some(WatchEvent::Added(_))));
    assert!(matches!(watch.next().await, Some(WatchEvent::Modified(_))));
    world.delete(HOSTS, "a").await.unwrap();
    assert!(hook.calls().is_empty());
}

#[tokio::test]
async fn other_versions_are_made_once_and_many_at_a_time() {
    let (world, hook, _) = world("v1").await;
    let count = 250;
    for index in 0..count {
        world.create(HOSTS, host(&format!("h{index:03}"))).await.unwrap();
    }
    let list = world.list(OLD, ListOptions::default()).await.unwrap();
    assert_eq!(hook.calls(), [100, 100, 50]);
    let tree: Value = serde_json::from_slice(&list.to_bytes()).unwrap();
    assert_eq!(tree["items"][7]["apiVersion"], "stable.example.com/v1beta1");
    assert_eq!(tree["items"][7]["hostPort"], "h007:1");
    let one = world.get(OLD, "h007").await.unwrap();
    assert_eq!((&one["hostPort"], one.get("zone")), (&json!("h007:1"), None));
    let mut watch = world.watch(OLD, ListOptions::default()).await.unwrap();
    for _ in 0..count {
        let Some(WatchEvent::Added(object)) = watch.next().await else { panic!("an addition") };
        assert!(object.tree()["hostPort"].is_string());
    }
    assert!(hook.calls().is_empty());
    let limited = ListOptions { limit: 3, ..ListOptions::default() };
    assert_eq!(names(world.list(OLD, limited).await.unwrap().objects()), ["h000", "h001", "h002"]);
}

#[tokio::test]
async fn writes_of_another_version_are_stored_in_the_stored_one() {
    let (world, hook, options) = world("v1").await;
    let old = json!({"apiVersion": "stable.example.com/v1beta1", "kind": "Host",
        "metadata": {"name": "a", "labels": {"x": "y"}}, "hostPort": "h:1"});
    let dry = RequestContext { dry_run: true, ..cx() };
    let shown = world.create_in(&dry, OLD, "default", old.clone()).await.unwrap();
    assert_eq!((&shown["hostPort"], shown["metadata"].get("resourceVersion")), (&json!("h:1"), None));
    let mut watch = world.watch(OLD, ListOptions::default()).await.unwrap();
    let made = world.create(OLD, old).await.unwrap();
    assert_eq!(made["hostPort"], "h:1");
    assert_eq!(world.get(HOSTS, "a").await.unwrap()["host"], "h");
    let patched = world.patch(OLD, "a", Part::Whole, Patch::Merge(json!({"hostPort": "i:2"}))).await.unwrap();
    assert_eq!((&patched["hostPort"], &patched["metadata"]["generation"]), (&json!("i:2"), &json!(2)));
    let same = world.merge(OLD, "a", json!({"hostPort": "i:2"})).await.unwrap();
    assert_eq!(same["metadata"]["resourceVersion"], patched["metadata"]["resourceVersion"]);
    assert_eq!(world.get(HOSTS, "a").await.unwrap()["port"], "2");
    world.delete(HOSTS, "a").await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let event = watch.next().await.unwrap();
        seen.push((event.type_name(), event.object().unwrap().tree()["hostPort"].clone()));
    }
    let expected = [("ADDED", json!("h:1")), ("MODIFIED", json!("i:2")), ("DELETED", json!("i:2"))];
    assert_eq!(seen, expected);
    // What is stored says which version it is of, and a restart reads that.
    world.create(HOSTS, host("b")).await.unwrap();
    world.registry.close().await;
    hook.calls();
    let again = World::over(world.store.clone(), options).await;
    assert_eq!(again.get(HOSTS, "b").await.unwrap()["host"], "b");
    assert!(hook.calls().is_empty());
    assert_eq!(again.get(OLD, "b").await.unwrap()["hostPort"], "b:1");
}

#[tokio::test]
async fn objects_stay_readable_when_another_version_is_stored_from_now_on() {
    let (world, hook, _) = world("v1beta1").await;
    world.create(HOSTS, host("a")).await.unwrap();
    restored(&world, HOSTS, "v1").await;
    let crd = world.get(CRD, HOSTS).await.unwrap();
    assert_eq!(crd["status"]["storedVersions"], json!(["v1beta1", "v1"]));
    hook.calls();
    let now = world.get(HOSTS, "a").await.unwrap();
    assert_eq!((&now["host"], &now["zone"], hook.calls()), (&json!("a"), &json!("a"), vec![1]));
    assert_eq!(world.get(OLD, "a").await.unwrap()["hostPort"], "a:1");
    assert!(hook.calls().is_empty(), "it is still stored so");
    // An empty write stores it anew: how objects are migrated.
    let moved = world.merge(HOSTS, "a", json!({})).await.unwrap();
    assert_ne!(moved["metadata"]["resourceVersion"], now["metadata"]["resourceVersion"]);
    hook.calls();
    hook.down.store(true, Ordering::Relaxed);
    assert_eq!(world.get(HOSTS, "a").await.unwrap()["host"], "a");
    let again = world.merge(HOSTS, "a", json!({})).await.unwrap();
    assert_eq!(again["metadata"]["resourceVersion"], moved["metadata"]["resourceVersion"]);
}

#[tokio::test]
async fn a_webhook_that_is_down_fails_those_who_need_it() {
    let (world, hook, _) = world("v1").await;
    world.create(HOSTS, host("a")).await.unwrap();
    hook.down.store(true, Ordering::Relaxed);
    let expected = "conversion webhook for stable.example.com/v1, Kind=Host failed: Post \
                    \"https://hook.example:443/convert\": connection refused";
    for refused in [
        world.get(OLD, "a").await.unwrap_err(),
        world.list(OLD, ListOptions::default()).await.unwrap_err(),
        world.merge(OLD, "a", json!({"hostPort": "x:1"})).await.unwrap_err(),
        world.delete(OLD, "a").await.unwrap_err(),
    ] {
        assert_eq!((refused.code, refused.message.as_str()), (500, expected));
    }
    let mut watch = world.watch(OLD, ListOptions::default()).await.unwrap();
    let Some(WatchEvent::Failed(status)) = watch.next().await else { panic!("a failure") };
    assert_eq!(status.message, expected);
    assert!(watch.next().await.is_none());
    let old = json!({"apiVersion": "stable.example.com/v1beta1", "kind": "Host", "metadata": {"name": "b"},
        "hostPort": "h:1"});
    let refused = world.create(OLD, old).await.unwrap_err();
    assert!(
        refused.message.starts_with("conversion webhook for stable.example.com/v1beta1, Kind=Host failed: ")
    );
    assert_eq!(world.get(HOSTS, "b").await.unwrap_err().code, 404);
    hook.down.store(false, Ordering::Relaxed);
    assert_eq!(world.get(OLD, "a").await.unwrap()["hostPort"], "a:1");
}

#[tokio::test]
async fn definitions_say_how_they_convert() {
    let (world, ..) = world("v1").await;
    let refused = async |conversion: Value| {
        let merged = world.merge(CRD, HOSTS, json!({"spec": {"conversion": conversion}})).await;
        crate::world::findings(&merged.unwrap_err()).to_owned()
    };
    assert_eq!(
        refused(json!({"strategy": "None"})).await,
        "[spec.conversion.webhookClientConfig: Forbidden: should not be set when strategy is not set to Webhook, \
         spec.conversion.conversionReviewVersions: Forbidden: should not be set when strategy is not set to Webhook]"
    );
    assert_eq!(
        refused(json!({"webhook": {"conversionReviewVersions": ["v9"]}})).await,
        "spec.conversion.conversionReviewVersions: Invalid value: [\"v9\"]: must include at least one of v1, v1beta1"
    );
    assert_eq!(
        refused(json!({"webhook": {"clientConfig": null}})).await,
        "spec.conversion.webhookClientConfig: Required value: required when strategy is set to Webhook"
    );
    assert_eq!(
        refused(json!({"webhook": {"clientConfig": {"url": "http://x"}}})).await,
        "spec.conversion.webhookClientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; \
         desired format: https://host[/path]"
    );
    assert_eq!(
        refused(json!({"strategy": "Other"})).await.split(',').next(),
        Some("[spec.conversion.strategy: Unsupported value: \"Other\": supported values: \"None\"")
    );
}

#[tokio::test]
async fn managers_of_one_version_see_what_is_done_in_another() {
    let (world, hook, _) = world("v1").await;
    let by = |manager: &str| RequestContext { field_manager: manager.into(), ..cx() };
    let apply = async |manager: &str, resource: &str, config: Value, force: bool| {
        let kind = world.kind(resource);
        let configuration = registry::Configuration { config, force };
        let done =
            world.registry.apply(&by(manager), &kind, "default", "a", Part::Whole, &configuration).await;
        done.map(|updated| updated.object.tree())
    };
    let config = |version: &str, fields: Value| {
        let mut config = json!({"apiVersion": format!("stable.example.com/{version}"), "kind": "Host",
            "metadata": {"name": "a"}});
        config.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        config
    };
    apply("old", OLD, config("v1beta1", json!({"hostPort": "h:1"})), false).await.unwrap();
    let owners = |object: &Value| -> Vec<String> {
        let all = object["metadata"]["managedFields"].as_array().unwrap().iter();
        all.map(|entry| {
            format!(
                "{} {} {}",
                entry["manager"].as_str().unwrap(),
                entry["apiVersion"].as_str().unwrap(),
                entry["fieldsV1"]
            )
        })
        .collect()
    };
    // The same in the other version is no conflict; something else is, in the words of the one who owns it.
    let same = apply("new", HOSTS, config("v1", json!({"host": "h", "port": "1"})), false).await.unwrap();
    assert_eq!(
        owners(&same),
        [
            r#"new stable.example.com/v1 {"f:host":{},"f:port":{}}"#,
            r#"old stable.example.com/v1beta1 {"f:hostPort":{}}"#
        ]
    );
    let conflict = apply("third", HOSTS, config("v1", json!({"port": "2"})), false).await.unwrap_err();
    assert_eq!(conflict.code, 409);
    let said = "Apply failed with 2 conflicts: conflicts with \"new\":\n- .port\nconflicts with \"old\":\n- .hostPort";
    assert_eq!(conflict.message, said);
    // By force, or by an update in one version, what is owned in the other is taken.
    let forced = apply("third", HOSTS, config("v1", json!({"port": "2"})), true).await.unwrap();
    assert_eq!(
        owners(&forced),
        [r#"new stable.example.com/v1 {"f:host":{}}"#, r#"third stable.example.com/v1 {"f:port":{}}"#]
    );
    let updated = world.merge(OLD, "a", json!({"hostPort": "i:3"})).await.unwrap();
    assert_eq!(owners(&updated), [r#"unknown stable.example.com/v1beta1 {"f:hostPort":{}}"#]);
    // Nobody can say what it is to others while the webhook is down; who writes the stored version goes on.
    hook.down.store(true, Ordering::Relaxed);
    world.merge(HOSTS, "a", json!({"zone": "b"})).await.unwrap();
}
