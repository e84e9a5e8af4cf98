//! Which webhooks are asked, what they are told, and what becomes of their answers. The webhooks are functions here; how
//! they are reached over the network is tested where the sockets are.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

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
type Answer = Arc<dyn Fn(&Value) -> Result<Value, String> + Send + Sync>;

/// Webhooks by the last part of their URL, and what they were sent.
#[derive(Clone, Default)]
struct Servers {
    answers: BTreeMap<&'static str, Answer>,
    heard: Arc<Mutex<Vec<(String, Value, Duration)>>>,
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
struct World;

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
struct Nobody;

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
struct Write {
    servers: Servers,
    webhooks: Arc<Webhooks>,
    operation: Operation,
    group: &'static str,
    plural: &'static str,
    version: &'static str,
    subresource: &'static str,
    namespace: &'static str,
    old: Option<Value>,
    dry_run: bool,
    warnings: Warnings,
}

impl Write {
    fn with(answers: &[(&'static str, Answer)]) -> Self {
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
    fn set(self, configured: Configured, name: &str, webhooks: &[Value]) -> Self {
        let webhooks: Vec<Value> = webhooks.iter().map(webhook).collect();
        let configuration = json!({"metadata": {"name": name}, "webhooks": webhooks});
        self.webhooks.set(configured, &configuration);
        self
    }

    async fn run(&self, object: Value) -> Result<Value, String> {
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
    fn asked(&self) -> Vec<String> {
        self.servers.heard.lock().unwrap().iter().map(|(name, ..)| name.clone()).collect()
    }
}

fn webhook(more: &Value) -> Value {
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

fn at(server: &str, more: Value) -> Value {
    let mut webhook = more;
    webhook["clientConfig"] = json!({"url": format!("https://x/{server}")});
    webhook
}

fn widget() -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "a", "labels": {"app": "x"}}, "size": 1})
}

fn patch(operations: &Value) -> Value {
    json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(operations.to_string())})
}

fn named(
    name: &'static str,
    answer: impl Fn(&Value) -> Result<Value, String> + Send + Sync + 'static,
) -> (&'static str, Answer) {
    (name, Arc::new(answer))
}

/// A webhook that always says the same.
fn fixed(name: &'static str, answer: Value) -> (&'static str, Answer) {
    named(name, move |_| Ok(answer.clone()))
}

fn allow() -> (&'static str, Answer) {
    fixed("allow", json!({"allowed": true}))
}

fn deny() -> (&'static str, Answer) {
    fixed("deny", json!({"allowed": false, "status": {"message": "too big", "code": 403}}))
}

/// Makes a Widget larger by one.
fn grow() -> (&'static str, Answer) {
    named("grow", |request| {
        let object = &request["object"];
        let field = if object["extent"].is_null() { "size" } else { "extent" };
        let size = object[field].as_u64().unwrap() + 1;
        Ok(patch(&json!([{"op": "replace", "path": format!("/{field}"), "value": size}])))
    })
}

/// Marks an object as seen, once.
fn label() -> (&'static str, Answer) {
    named("label", |request| match request["object"]["metadata"]["labels"]["seen"].is_null() {
        true => Ok(patch(&json!([{"op": "add", "path": "/metadata/labels/seen", "value": "yes"}]))),
        false => Ok(json!({"allowed": true})),
    })
}

#[tokio::test]
async fn a_webhook_is_told_all_of_the_request() {
    let write = Write::with(&[allow()]).set(Configured::Validating, "c", &[json!({})]);
    let write = Write { operation: Operation::Update, old: Some(widget()), dry_run: true, ..write };
    let mut changed = widget();
    changed["size"] = json!(2);
    write.run(changed.clone()).await.unwrap();
    let heard = write.servers.heard.lock().unwrap();
    let (_, review, patience) = &heard[0];
    assert_eq!(*patience, Duration::from_secs(7));
    let uid = review["request"]["uid"].as_str().unwrap();
    assert_eq!(uid.len(), 36);
    let kind = json!({"group": "example.com", "version": "v1", "kind": "Widget"});
    let resource = json!({"group": "example.com", "version": "v1", "resource": "widgets"});
    assert_eq!(
        *review,
        json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": uid, "kind": kind, "resource": resource, "requestKind": kind, "requestResource": resource,
                "name": "a", "namespace": "work", "operation": "UPDATE",
                "userInfo": {"username": "bob", "groups": ["dev"]},
                "object": changed, "oldObject": widget(), "dryRun": true,
                "options": {"kind": "Options", "for": "UPDATE"},
            },
        })
    );
}

#[tokio::test]
async fn rules_and_selectors_choose() {
    let rule = |more: Value| {
        let mut rule = json!({"operations": ["CREATE"], "apiGroups": ["example.com"], "apiVersions": ["v1"],
            "resources": ["widgets"], "scope": "*"});
        for (name, value) in more.as_object().unwrap() {
            rule[name] = value.clone();
        }
        json!({"rules": [rule], "matchPolicy": "Exact"})
    };
    for (more, asked) in [
        (rule(json!({})), true),
        (rule(json!({"operations": ["UPDATE", "DELETE"]})), false),
        (rule(json!({"apiGroups": ["", "apps"]})), false),
        (rule(json!({"apiVersions": ["v2"]})), false),
        (rule(json!({"resources": ["widgets/*"]})), true),
        (rule(json!({"resources": ["widgets/status"]})), false),
        (rule(json!({"resources": ["*/status", "gadgets"]})), false),
        (rule(json!({"scope": "Namespaced"})), true),
        (rule(json!({"scope": "Cluster"})), false),
        (json!({"objectSelector": {"matchLabels": {"app": "x"}}}), true),
        (json!({"objectSelector": {"matchLabels": {"app": "y"}}}), false),
        (json!({"namespaceSelector": {"matchLabels": {"team": "blue"}}}), true),
        (
            json!({"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]}}),
            false,
        ),
        (json!({"rules": []}), false),
    ] {
        let write = Write::with(&[allow()]).set(Configured::Validating, "c", std::slice::from_ref(&more));
        write.run(widget()).await.unwrap();
        assert_eq!(!write.asked().is_empty(), asked, "{more}");
    }
}

#[tokio::test]
async fn a_namespace_that_is_not_there_matters_only_to_who_looks_at_it() {
    let selects = json!({"namespaceSelector": {"matchLabels": {"team": "blue"}}});
    let write = Write::with(&[allow()]).set(Configured::Validating, "c", &[selects]);
    let write = Write { namespace: "gone", ..write };
    assert_eq!(write.run(widget()).await.unwrap_err(), "404 NotFound namespaces \"gone\" not found");
    let elsewhere = json!({"rules": [], "namespaceSelector": {"matchLabels": {"team": "blue"}}});
    let write =
        Write { namespace: "gone", ..Write::with(&[]).set(Configured::Validating, "c", &[elsewhere]) };
    write.run(widget()).await.unwrap();
}

#[tokio::test]
async fn configurations_of_admission_are_nobodys_but_the_servers() {
    let write = Write::with(&[deny()]).set(Configured::Validating, "c", &[at("deny", json!({}))]);
    let write = write.set(Configured::Mutating, "c", &[at("deny", json!({}))]);
    let of = |group, plural| Write {
        group,
        plural,
        servers: write.servers.clone(),
        webhooks: write.webhooks.clone(),
        ..Write::with(&[])
    };
    of("admissionregistration.k8s.io", "validatingwebhookconfigurations").run(widget()).await.unwrap();
    of("admissionregistration.k8s.io", "validatingadmissionpolicies").run(widget()).await.unwrap();
    of("other.example.com", "validatingwebhookconfigurations").run(widget()).await.unwrap_err();
}

#[tokio::test]
async fn equivalent_versions_are_asked_about_in_the_version_that_the_rule_names() {
    let of_v2 = json!([{"operations": ["*"], "apiGroups": ["example.com"], "apiVersions": ["v2"], "resources": ["widgets"]}]);
    let grows = at("grow", json!({"rules": of_v2}));
    let write = Write::with(&[grow(), allow()])
        .set(Configured::Mutating, "c", std::slice::from_ref(&grows))
        .set(Configured::Validating, "c", &[json!({"rules": of_v2})]);
    let write = Write { operation: Operation::Update, old: Some(widget()), ..write };
    let changed = write.run(widget()).await.unwrap();
    assert_eq!((&changed["size"], &changed["apiVersion"]), (&json!(2), &json!("example.com/v1")));
    for (_, review, _) in write.servers.heard.lock().unwrap().iter() {
        let request = &review["request"];
        assert_eq!(
            (&request["kind"]["version"], &request["resource"]["version"]),
            (&json!("v2"), &json!("v2"))
        );
        assert_eq!(request["requestKind"]["version"], "v1");
        assert_eq!(request["object"]["apiVersion"], "example.com/v2");
        assert_eq!(request["oldObject"]["extent"], 1);
    }
    let exact = at("grow", json!({"rules": of_v2, "matchPolicy": "Exact"}));
    let write = Write::with(&[grow()]).set(Configured::Mutating, "c", &[exact]);
    assert_eq!(write.run(widget()).await.unwrap()["size"], 1);
}

#[tokio::test]
async fn those_that_change_follow_one_another_and_may_see_more() {
    let first = |policy: &str| at("label", json!({"name": "l.example.com", "reinvocationPolicy": policy}));
    let second = || at("grow", json!({"name": "g.example.com"}));
    let write = Write::with(&[label(), grow()]);
    let write = write.set(Configured::Mutating, "b", &[second()]).set(
        Configured::Mutating,
        "a",
        &[first("IfNeeded")],
    );
    let changed = write.run(widget()).await.unwrap();
    assert_eq!(
        write.asked(),
        ["label", "grow", "label"],
        "by the names of the configurations, and once more"
    );
    assert_eq!((&changed["size"], &changed["metadata"]["labels"]["seen"]), (&json!(2), &json!("yes")));
    assert_eq!(changed["metadata"]["annotations"]["times"], 2, "plugins see what webhooks changed");

    let write = Write::with(&[label(), grow()]);
    let write =
        write.set(Configured::Mutating, "b", &[second()]).set(Configured::Mutating, "a", &[first("Never")]);
    write.run(widget()).await.unwrap();
    assert_eq!(write.asked(), ["label", "grow"]);

    // What the server's own plugins do the second time is a change, too.
    let write = Write::with(&[label()]).set(Configured::Mutating, "a", &[first("IfNeeded")]);
    write.run(widget()).await.unwrap();
    assert_eq!(write.asked(), ["label", "label"]);
}

#[tokio::test]
async fn what_a_patch_makes_is_brought_into_form() {
    let patched = async |operations: Value, more: Value| {
        let write = Write::with(&[fixed("fixed", patch(&operations))]);
        write.set(Configured::Mutating, "c", &[at("fixed", more)]).run(widget()).await
    };
    let added = json!([{"op": "add", "path": "/unknown", "value": 1}, {"op": "add", "path": "/metadata/x", "value": 1}]);
    let changed = patched(added, json!({})).await.unwrap();
    assert!(changed.get("unknown").is_none());
    for (operations, message) in [
        (json!([{"op": "replace", "path": "/size", "value": "big"}]), "size is of the wrong type"),
        (
            json!([{"op": "replace", "path": "/a/b", "value": 1}]),
            "replace operation does not apply: doc is missing path: /a/b: missing value",
        ),
        (
            json!([{"op": "replace", "path": "", "value": 1}]),
            "couldn't get version/kind: the patched object is no object",
        ),
    ] {
        // Whatever its failure policy: the webhook was heard, and said something wrong.
        let refused = patched(operations, json!({"failurePolicy": "Ignore"})).await.unwrap_err();
        assert_eq!(refused, format!("500 InternalError Internal error occurred: {message}"));
    }
    let refused = patched(json!({"op": "add"}), json!({})).await.unwrap_err();
    assert!(
        refused.contains("failed calling webhook \"w.example.com\": received undecodable patch"),
        "{refused}"
    );
}

#[tokio::test]
async fn who_manages_what_stays_readable() {
    let managers = json!([{"manager": "kubectl", "operation": "Update", "apiVersion": "example.com/v1",
        "fieldsType": "FieldsV1", "fieldsV1": {"f:size": {}}}]);
    let mut object = widget();
    object["metadata"]["managedFields"] = managers.clone();
    let patched = async |value: Value| {
        let operations = json!([{"op": "replace", "path": "/metadata/managedFields", "value": value}]);
        let write = Write::with(&[fixed("fixed", patch(&operations))]);
        let write = write.set(Configured::Mutating, "c", &[at("fixed", json!({}))]);
        let changed = write.run(object.clone()).await.unwrap();
        (changed["metadata"]["managedFields"].clone(), write.warnings.take())
    };
    let (kept, warnings) = patched(json!([{"operation": "Nonsense"}])).await;
    assert_eq!(kept, managers);
    assert!(
        warnings[0].starts_with(".metadata.managedFields was in an invalid state after admission;"),
        "{warnings:?}"
    );
    let (cleared, warnings) = patched(json!([])).await;
    assert_eq!((cleared, warnings.len()), (json!([]), 0));
}

#[tokio::test]
async fn deletions_may_be_refused_by_both_and_changed_by_none() {
    let delete = |write: Write| Write { operation: Operation::Delete, old: Some(widget()), ..write };
    let write = Write::with(&[deny(), allow()]).set(Configured::Mutating, "c", &[json!({})]).set(
        Configured::Validating,
        "c",
        &[at("deny", json!({}))],
    );
    let write = delete(write);
    let refused = write.run(Value::Null).await.unwrap_err();
    assert_eq!(refused, "403  admission webhook \"w.example.com\" denied the request: too big");
    for (_, review, _) in write.servers.heard.lock().unwrap().iter() {
        assert_eq!(
            (&review["request"]["object"], &review["request"]["oldObject"]),
            (&Value::Null, &widget())
        );
    }
    assert_eq!(write.asked(), ["allow", "deny"]);
    let operations = json!([{"op": "add", "path": "/x", "value": 1}]);
    let write = Write::with(&[fixed("fixed", patch(&operations))]);
    let write = delete(write.set(Configured::Mutating, "c", &[at("fixed", json!({}))]));
    assert_eq!(
        write.run(Value::Null).await.unwrap_err(),
        "500 InternalError Internal error occurred: admission webhook \"w.example.com\" attempted to modify the object, \
         which is not supported for this operation"
    );
}

#[tokio::test]
async fn refusals_are_told_as_upstream_tells_them() {
    for (status, expected) in [
        (json!(null), "400  admission webhook \"w.example.com\" denied the request without explanation"),
        (
            json!({"code": 200, "status": "Success"}),
            "400  admission webhook \"w.example.com\" denied the request without explanation",
        ),
        (
            json!({"reason": "Forbidden", "code": 403}),
            "403 Forbidden admission webhook \"w.example.com\" denied the request: Forbidden",
        ),
        (
            json!({"reason": "Odd", "message": "no"}),
            "400  admission webhook \"w.example.com\" denied the request: no",
        ),
    ] {
        let answer =
            json!({"allowed": false, "status": status, "warnings": ["mind"], "auditAnnotations": {"k": "v"}});
        let write = Write::with(&[fixed("fixed", answer)]);
        let write =
            write.set(Configured::Validating, "c", &[at("fixed", json!({"failurePolicy": "Ignore"}))]);
        assert_eq!(write.run(widget()).await.unwrap_err(), expected);
        assert_eq!(write.warnings.take(), ["mind"]);
    }
}

#[tokio::test]
async fn of_those_that_judge_all_are_asked_and_the_first_refusal_counts() {
    let write = Write::with(&[deny(), allow()]).set(
        Configured::Validating,
        "c",
        &[at("allow", json!({})), at("down", json!({"name": "d.example.com"})), at("deny", json!({}))],
    );
    let refused = write.run(widget()).await.unwrap_err();
    assert_eq!(
        refused,
        "500 InternalError Internal error occurred: failed calling webhook \"d.example.com\": failed to call webhook: \
         Post \"down\": connection refused"
    );
    assert_eq!(write.asked(), ["allow", "down", "deny"]);
}

#[tokio::test]
async fn what_is_not_heard_follows_the_policy() {
    let whole = |response: Value| json!({"response": response});
    let v1 = |response: Value| json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
    for (answer, why) in [
        (
            json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": null}),
            "received invalid webhook response: webhook response was absent",
        ),
        (
            v1(json!({"uid": "other", "allowed": true})),
            "received invalid webhook response: expected response.uid=\"",
        ),
        (
            whole(json!({"uid": "UID", "allowed": true})),
            "received invalid webhook response: expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got /, Kind=",
        ),
        (
            json!({"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview", "response": {}}),
            "failed to call webhook: converting (v1beta1.AdmissionReview) to (v1.AdmissionReview): unknown conversion",
        ),
        (v1(json!({"uid": "UID", "allowed": "yes"})), "failed to call webhook: allowed is of the wrong type"),
        (
            v1(json!({"uid": "UID", "allowed": true, "patch": "%"})),
            "failed to call webhook: patch is of the wrong type",
        ),
        (
            v1(json!({"uid": "UID", "allowed": true, "patch": "W10="})),
            "received invalid webhook response: webhook returned response.patch but not response.patchType",
        ),
        (
            v1(json!({"uid": "UID", "allowed": true, "patchType": "JSONPatch"})),
            "received invalid webhook response: webhook returned response.patchType but not response.patch",
        ),
        (
            v1(json!({"uid": "UID", "allowed": true, "patchType": "Merge", "patch": "W3t9XQ=="})),
            "unsupported patch type \"Merge\"",
        ),
    ] {
        let said = named("odd", move |request| {
            let mut answer = answer.clone();
            if answer["response"]["uid"] == "UID" {
                answer["response"]["uid"] = request["uid"].clone();
            }
            Ok(answer)
        });
        let run = async |policy: &str| {
            let write = Write::with(std::slice::from_ref(&said));
            let odd = at("odd", json!({"failurePolicy": policy}));
            write.set(Configured::Mutating, "c", &[odd]).run(widget()).await
        };
        run("Ignore").await.unwrap();
        let refused = run("Fail").await.unwrap_err();
        let expected = format!(
            "500 InternalError Internal error occurred: failed calling webhook \"w.example.com\": {why}"
        );
        assert!(refused.starts_with(&expected), "{refused}\n{expected}");
    }
}

#[tokio::test]
async fn who_judges_may_not_change_and_the_older_version_is_forgiving() {
    let answer =
        || fixed("fixed", patch(&json!([{"op": "add", "path": "/metadata/labels/x", "value": "y"}])));
    let run = async |configured, versions: &[&str]| {
        let write = Write::with(&[answer()]);
        let webhook = at("fixed", json!({"admissionReviewVersions": versions}));
        write.set(configured, "c", &[webhook]).run(widget()).await
    };
    let refused = run(Configured::Validating, &["v1"]).await.unwrap_err();
    assert!(refused.ends_with("validating webhook may not return response.patch"), "{refused}");
    run(Configured::Validating, &["v0", "v1beta1", "v1"]).await.unwrap();
    assert_eq!(run(Configured::Mutating, &["v1beta1"]).await.unwrap()["metadata"]["labels"]["x"], "y");
    let refused = run(Configured::Mutating, &["v0"]).await.unwrap_err();
    assert!(
        refused.contains("webhook does not accept known AdmissionReview versions (v1, v1beta1)"),
        "{refused}"
    );
}

#[tokio::test]
async fn who_does_something_is_not_asked_about_what_will_not_happen() {
    let ignores = json!({"sideEffects": "Some", "failurePolicy": "Ignore"});
    let write = Write::with(&[allow()]).set(Configured::Mutating, "c", &[ignores]);
    let write = Write { dry_run: true, ..write };
    let refused = write.run(widget()).await.unwrap_err();
    assert_eq!(refused, "400 BadRequest admission webhook \"w.example.com\" does not support dry run");
    assert!(write.asked().is_empty());
}

#[tokio::test]
async fn configurations_come_and_go() {
    let write = Write::with(&[deny()]).set(Configured::Validating, "c", &[at("deny", json!({}))]);
    write.run(widget()).await.unwrap_err();
    write.webhooks.remove(Configured::Validating, "c");
    write.run(widget()).await.unwrap();
}

#[tokio::test]
async fn nobody_slips_through_before_the_webhooks_are_known() {
    let clock = Arc::new(clock::ManualClock::new("2026-01-01T00:00:00Z".parse().unwrap()));
    let random = Arc::new(clock::SeededRandom::new(7));
    let servers = Servers { answers: [deny()].into_iter().collect(), ..Servers::default() };
    let webhooks = Arc::new(Webhooks::new(Arc::new(servers), Arc::new(Nobody), clock.clone(), random));
    webhooks.replace(Configured::Mutating, &[]);
    let write = Write { webhooks: webhooks.clone(), ..Write::with(&[]) };
    let (run, learn) = (write.run(widget()), async {
        clock.until_sleepers(1).await;
        let configuration = json!({"metadata": {"name": "c"}, "webhooks": [webhook(&at("deny", json!({})))]});
        webhooks.replace(Configured::Validating, &[configuration]);
    });
    let (refused, ()) = futures::join!(run, learn);
    assert!(refused.unwrap_err().ends_with("denied the request: too big"));
    let unready = Arc::new(Webhooks::new(
        Arc::new(Servers::default()),
        Arc::new(Nobody),
        clock.clone(),
        Arc::new(clock::SeededRandom::new(8)),
    ));
    let write = Write { webhooks: unready, ..Write::with(&[]) };
    let (refused, ()) = futures::join!(write.run(widget()), async {
        clock.until_sleepers(1).await;
        clock.advance(Duration::from_secs(10));
    });
    assert_eq!(
        refused.unwrap_err(),
        "403 Forbidden widgets.example.com \"a\" is forbidden: not yet ready to handle request"
    );
}

#[tokio::test]
async fn conditions_keep_requests_from_a_webhook() {
    let with = |expressions: &[&str], policy: &str| {
        let conditions: Vec<Value> =
            expressions.iter().map(|one| json!({"name": "c", "expression": one})).collect();
        at("deny", json!({"matchConditions": conditions, "failurePolicy": policy}))
    };
    let run = async |expressions: &[&str], policy: &str| {
        let write = Write::with(&[deny()]).set(Configured::Validating, "c", &[with(expressions, policy)]);
        write.run(widget()).await.err().unwrap_or_default()
    };
    let denied = "403  admission webhook \"w.example.com\" denied the request: too big";
    assert_eq!(run(&["object.size == 1", "request.userInfo.username == 'bob'"], "Fail").await, denied);
    assert_eq!(run(&["object.size == 1", "oldObject != null"], "Fail").await, "");
    assert_eq!(run(&["authorizer.group('').resource('pods').check('get').allowed()"], "Fail").await, "");
    // One that does not hold counts, whatever is wrong with others; else the policy does.
    assert_eq!(run(&["object.none == 1", "false"], "Fail").await, "");
    assert_eq!(run(&["object.none == 1", "true"], "Ignore").await, "");
    assert_eq!(
        run(&["object.none == 1", "true"], "Fail").await,
        "403 Forbidden widgets.example.com \"a\" is forbidden: expression 'object.none == 1' resulted in error: no such \
         key: none"
    );
}
