//! A request, the webhooks that it meets, and what there is beside it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use admission::webhook::{Caller, Configured, Endpoint, Webhooks};
use admission::{Attributes, Chain, Form, Lookup, Operation, Options, Plugin};
use apimachinery::gvk::{GroupResource, GroupVersionKind, GroupVersionResource};
use apimachinery::status::Status;
use apimachinery::warnings::Warnings;
use async_trait::async_trait;
use auth::{Authorizer, Decision, UserInfo};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// What a webhook says to a request.
pub(crate) type Answer = Arc<dyn Fn(&Value) -> Result<Value, String> + Send + Sync>;

/// Webhooks by the last part of their URL, and what they were sent.
#[derive(Clone, Default)]
pub(crate) struct Servers {
    pub(crate) answers: BTreeMap<&'static str, Answer>,
    pub(crate) heard: Arc<Mutex<Vec<(String, Value, Duration)>>>,
}

struct Server {
    name: String,
    answer: Option<Answer>,
    heard: Arc<Mutex<Vec<(String, Value, Duration)>>>,
}

#[async_trait]
impl Endpoint for Server {
    async fn call(&self, review: &Value, patience: Duration) -> Result<Value, String> {
        self.heard.lock().unwrap().push((self.name.clone(), review.clone(), patience));
        let answer = self.answer.as_ref().ok_or(format!("Post {:?}: connection refused", self.name))?;
        let mut response = answer(&review["request"])?;
        if response.get("response").is_some() {
            return Ok(response);
        }
        response["uid"] = review["request"]["uid"].clone();
        Ok(json!({"apiVersion": review["apiVersion"], "kind": "AdmissionReview", "response": response}))
    }
}

impl Caller for Servers {
    fn endpoint(&self, config: &Value) -> Result<Arc<dyn Endpoint>, String> {
        let url = config["url"].as_str().ok_or("webhook configuration must have either service or URL")?;
        let name = url.rsplit('/').next().unwrap_or_default().to_owned();
        let answer = self.answers.get(name.as_str()).cloned();
        Ok(Arc::new(Server { name, answer, heard: self.heard.clone() }))
    }
}

/// Namespaces, and Widgets of `example.com` in two versions: in v2 their size is called extent.
pub(crate) struct World;

#[async_trait]
impl Lookup for World {
    async fn get(&self, resource: &GroupResource, _: &str, name: &str) -> Result<Option<Value>, Status> {
        let labels = match (&*resource.resource, name) {
            ("namespaces", "work") => json!({"team": "blue"}),
            ("namespaces", "other") => json!({}),
            _ => return Ok(None),
        };
        Ok(Some(json!({"metadata": {"name": name, "labels": labels}})))
    }

    async fn list(&self, _: &GroupResource, _: &str) -> Result<Vec<Value>, Status> {
        Ok(Vec::new())
    }

    async fn replace_status(&self, _: &GroupResource, _: Value) -> Result<bool, Status> {
        Ok(true)
    }

    fn equivalents(&self, resource: &GroupResource, version: &str, _: &str) -> Vec<Form> {
        let others =
            ["v1", "v2"].into_iter().filter(|other| *other != version && resource.resource == "widgets");
        let form = |version| Form {
            resource: GroupVersionResource::of("example.com", version, "widgets"),
            kind: GroupVersionKind::of("example.com", version, "Widget"),
        };
        others.map(form).collect()
    }

    async fn convert(&self, mut object: Value, to: &Form) -> Result<Value, Status> {
        let (from, into) = if to.kind.version == "v2" { ("size", "extent") } else { ("extent", "size") };
        let map = object.as_object_mut().unwrap();
        if let Some(size) = map.remove(from) {
            map.insert(into.to_owned(), size);
        }
        map.insert("apiVersion".to_owned(), to.kind.api_version().into());
        Ok(object)
    }

    fn conform(&self, _: &GroupVersionKind, object: &mut Value) -> Result<(), Status> {
        let map = object.as_object_mut().unwrap();
        map.remove("unknown");
        let metadata = map.get("metadata").filter(|metadata| metadata.is_object());
        let metadata = metadata.ok_or_else(|| Status::bad_request("metadata is of the wrong type"))?;
        if metadata.get("annotations").is_some_and(|annotations| !annotations.is_object()) {
            return Err(Status::bad_request("annotations are of the wrong type"));
        }
        match map.get("size").filter(|size| !size.is_number()) {
            Some(_) => Err(Status::bad_request("size is of the wrong type")),
            None => Ok(()),
        }
    }
}

#[derive(Debug)]
struct Said;

impl Options for Said {
    fn object(&self, operation: Operation) -> Value {
        json!({"kind": "Options", "for": operation.as_str()})
    }
}

/// Lets nobody do anything.
pub(crate) struct Nobody;

impl Authorizer for Nobody {
    fn authorize(&self, _: &auth::Attributes<'_>) -> Decision {
        Decision::nothing()
    }
}

/// A plugin of the server that counts how often it changes an object.
struct Counting;

#[async_trait]
impl Plugin for Counting {
    fn name(&self) -> &'static str {
        "Counting"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Create
    }

    async fn mutate(&self, _: &Attributes<'_>, object: &mut Value, _: &dyn Lookup) -> Result<(), Status> {
        let times = object["metadata"]["annotations"]["times"].as_u64().unwrap_or_default();
        object["metadata"]["annotations"]["times"] = (times + 1).into();
        Ok(())
    }
}

/// One write of a Widget in `work`.
pub(crate) struct Write {
    pub(crate) servers: Servers,
    pub(crate) webhooks: Arc<Webhooks>,
    pub(crate) operation: Operation,
    pub(crate) group: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) version: &'static str,
    pub(crate) subresource: &'static str,
    pub(crate) namespace: &'static str,
    pub(crate) old: Option<Value>,
    pub(crate) dry_run: bool,
    pub(crate) warnings: Warnings,
}

impl Write {
    pub(crate) fn with(answers: &[(&'static str, Answer)]) -> Self {
        let servers = Servers { answers: answers.iter().cloned().collect(), ..Servers::default() };
        let clock = Arc::new(clock::ManualClock::new("2026-01-01T00:00:00Z".parse().unwrap()));
        let random = Arc::new(clock::SeededRandom::new(7));
        let webhooks = Arc::new(Webhooks::new(Arc::new(servers.clone()), Arc::new(Nobody), clock, random));
        webhooks.replace(Configured::Mutating, &[]);
        webhooks.replace(Configured::Validating, &[]);
        Self {
            servers,
            webhooks,
            operation: Operation::Create,
            group: "example.com",
            plural: "widgets",
            version: "v1",
            subresource: "",
            namespace: "work",
            old: None,
            dry_run: false,
            warnings: Warnings::default(),
        }
    }

    /// A configuration of webhooks, each of which says what is particular to it.
    pub(crate) fn set(self, configured: Configured, name: &str, webhooks: &[Value]) -> Self {
        let webhooks: Vec<Value> = webhooks.iter().map(webhook).collect();
        let configuration = json!({"metadata": {"name": name}, "webhooks": webhooks});
        self.webhooks.set(configured, &configuration);
        self
    }

    pub(crate) async fn run(&self, object: Value) -> Result<Value, String> {
        let (resource, user) = (
            GroupResource::of(self.group, self.plural),
            UserInfo { name: "bob".into(), groups: vec!["dev".into()], ..UserInfo::default() },
        );
        let kind = GroupVersionKind::of(self.group, self.version, "Widget");
        let attributes = Attributes {
            operation: self.operation,
            resource: &resource,
            version: self.version,
            kind: &kind,
            subresource: self.subresource,
            namespace: self.namespace,
            name: "a",
            user: &user,
            old: self.old.as_ref(),
            warnings: &self.warnings,
            dry_run: self.dry_run,
            options: &Said,
        };
        let chain = Chain::new(vec![Box::new(Counting)]).with_webhooks(self.webhooks.clone());
        let mut object = object;
        let result = async {
            chain.mutate(&attributes, &mut object, &World).await?;
            let given = (self.operation != Operation::Delete).then_some(&object);
            chain.validate(&attributes, given, &World).await
        };
        result
            .await
            .map_err(|status: Status| format!("{} {} {}", status.code, status.reason, status.message))?;
        Ok(object)
    }

    /// Who was asked, in order.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.servers.heard.lock().unwrap().iter().map(|(name, ..)| name.clone()).collect()
    }
}

pub(crate) fn webhook(more: &Value) -> Value {
    let mut webhook = json!({
        "name": "w.example.com", "clientConfig": {"url": "https://x/allow"}, "sideEffects": "None",
        "admissionReviewVersions": ["v1"], "failurePolicy": "Fail", "matchPolicy": "Equivalent",
        "timeoutSeconds": 7, "namespaceSelector": {}, "objectSelector": {},
        "rules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"], "scope": "*"}],
    });
    for (name, value) in more.as_object().unwrap() {
        webhook[name] = value.clone();
    }
    webhook
}

pub(crate) fn at(server: &str, more: Value) -> Value {
    let mut webhook = more;
    webhook["clientConfig"] = json!({"url": format!("https://x/{server}")});
    webhook
}

pub(crate) fn widget() -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "a", "labels": {"app": "x"}}, "size": 1})
}

pub(crate) fn patch(operations: &Value) -> Value {
    json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(operations.to_string())})
}

pub(crate) fn named(
    name: &'static str,
    answer: impl Fn(&Value) -> Result<Value, String> + Send + Sync + 'static,
) -> (&'static str, Answer) {
    (name, Arc::new(answer))
}

/// A webhook that always says the same.
pub(crate) fn fixed(name: &'static str, answer: Value) -> (&'static str, Answer) {
    named(name, move |_| Ok(answer.clone()))
}

pub(crate) fn allow() -> (&'static str, Answer) {
    fixed("allow", json!({"allowed": true}))
}

pub(crate) fn deny() -> (&'static str, Answer) {
    fixed("deny", json!({"allowed": false, "status": {"message": "too big", "code": 403}}))
}

/// Makes a Widget larger by one.
pub(crate) fn grow() -> (&'static str, Answer) {
    named("grow", |request| {
        let object = &request["object"];
        let field = if object["extent"].is_null() { "size" } else { "extent" };
        let size = object[field].as_u64().unwrap() + 1;
        Ok(patch(&json!([{"op": "replace", "path": format!("/{field}"), "value": size}])))
    })
}

/// Marks an object as seen, once.
pub(crate) fn label() -> (&'static str, Answer) {
    named("label", |request| match request["object"]["metadata"]["labels"]["seen"].is_null() {
        true => Ok(patch(&json!([{"op": "add", "path": "/metadata/labels/seen", "value": "yes"}]))),
        false => Ok(json!({"allowed": true})),
    })
}
