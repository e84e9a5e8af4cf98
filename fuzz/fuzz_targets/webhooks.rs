//! Whatever a webhook answers, a request is admitted or refused: an object stays an object no deeper than may be stored, and
//! one that is refused is refused with a code that says so. An answer costs no more than any input may, asked for as often as
//! it takes.

#![no_main]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use admission::webhook::{Caller, Configured, Endpoint, Webhooks};
use admission::{Attributes, Chain, Lookup, NoOptions, Operation};
use apimachinery::gvk::{GroupResource, GroupVersionKind};
use apimachinery::json::{MAX_DEPTH, depth, parse};
use apimachinery::status::Status;
use apimachinery::warnings::Warnings;
use async_trait::async_trait;
use auth::{Authorizer, Decision, UserInfo};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// What the webhook says next.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<Value>>);

impl Caller for Server {
    fn endpoint(&self, _: &Value) -> Result<Arc<dyn Endpoint>, String> {
        Ok(Arc::new(self.clone()))
    }
}

#[async_trait]
impl Endpoint for Server {
    async fn call(&self, review: &Value, _: Duration) -> Result<Value, String> {
        let mut answer = self.0.lock().unwrap().clone();
        // Otherwise hardly any answer would get past this.
        if let Some(response) = answer.get_mut("response").and_then(Value::as_object_mut) {
            if response.get("uid").is_some_and(|uid| uid == "") {
                response.insert("uid".into(), review["request"]["uid"].clone());
            }
            // A patch as JSON stands for its encoded text.
            if let Some(patch @ Value::Array(_)) = response.get_mut("patch") {
                *patch = STANDARD.encode(patch.to_string()).into();
            }
        }
        Ok(answer)
    }
}

struct Nobody;

impl Authorizer for Nobody {
    fn authorize(&self, _: &auth::Attributes<'_>) -> Decision {
        Decision::nothing()
    }
}

struct Nothing;

#[async_trait]
impl Lookup for Nothing {
    async fn get(&self, _: &GroupResource, _: &str, _: &str) -> Result<Option<Value>, Status> {
        Ok(None)
    }

    async fn list(&self, _: &GroupResource, _: &str) -> Result<Vec<Value>, Status> {
        Ok(Vec::new())
    }

    async fn replace_status(&self, _: &GroupResource, _: Value) -> Result<bool, Status> {
        Ok(false)
    }
}

fn admit(chain: &Chain, object: &mut Value) -> Result<(), Status> {
    let (resource, kind) = (GroupResource::of("", "configmaps"), GroupVersionKind::of("", "v1", "ConfigMap"));
    let (user, warnings) = (UserInfo::default(), Warnings::default());
    let attributes = Attributes {
        operation: Operation::Create,
        resource: &resource,
        version: "v1",
        kind: &kind,
        subresource: "",
        namespace: "",
        name: "a",
        user: &user,
        old: None,
        warnings: &warnings,
        dry_run: false,
        options: &NoOptions,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        chain.mutate(&attributes, object, &Nothing).await?;
        chain.validate(&attributes, Some(object), &Nothing).await
    })
}

fn run(text: &[u8]) {
    let Ok(answer) = parse(text) else { return };
    let server = Server::default();
    *server.0.lock().unwrap() = answer.tree;
    let clock = Arc::new(clock::SystemClock::default());
    let webhooks = Arc::new(Webhooks::new(
        Arc::new(server),
        Arc::new(Nobody),
        clock,
        Arc::new(clock::SeededRandom::new(1)),
    ));
    let webhook = |version: &str| {
        json!({
            "name": "w.example.com", "admissionReviewVersions": [version], "sideEffects": "None",
            "reinvocationPolicy": "IfNeeded",
            "rules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]}],
        })
    };
    let configuration = json!({"metadata": {"name": "c"}, "webhooks": [webhook("v1"), webhook("v1beta1")]});
    webhooks.replace(Configured::Mutating, &[configuration.clone()]);
    webhooks.replace(Configured::Validating, &[configuration]);
    let chain = Chain::new(Vec::new()).with_webhooks(webhooks);
    let mut object =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"x": "y"}});
    if let Err(status) = admit(&chain, &mut object) {
        assert!(status.code >= 400, "{status:?}");
    }
    assert!(object.is_object() && depth(&object) <= MAX_DEPTH);
}

libfuzzer_sys::fuzz_target!(|text: &[u8]| fuzz::bounded(text.len(), || run(text)));
