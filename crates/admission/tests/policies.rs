//! What ValidatingAdmissionPolicies come to: which requests they concern, what their expressions see, and what follows.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::sync::Arc;

use admission::policy::{Part, Policies};
use admission::{Attributes, Chain, Form, Lookup, Operation, Options, Place};
use apimachinery::gvk::{GroupResource, GroupVersionKind, GroupVersionResource};
use apimachinery::status::Status;
use apimachinery::warnings::Warnings;
use async_trait::async_trait;
use auth::{Authorizer, Decision, UserInfo};
use serde_json::{Value, json};

/// Limits of `example.com` in namespaces, and one for the cluster.
struct World;

fn place(plural: &'static str, kind: &'static str, namespaced: bool) -> Place {
    let form = Form {
        resource: GroupVersionResource::of("example.com", "v1", plural),
        kind: GroupVersionKind::of("example.com", "v1", kind),
    };
    Place { form, namespaced }
}

fn limit(namespace: &str, name: &str, max: i64, labels: &Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Limit", "max": max,
        "metadata": {"name": name, "namespace": namespace, "labels": labels}})
}

#[async_trait]
impl Lookup for World {
    async fn get(
        &self,
        resource: &GroupResource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, Status> {
        if resource.resource == "namespaces" {
            let known = name == "work";
            return Ok(known.then(
                || json!({"metadata": {"name": name, "labels": {"team": "blue"}, "managedFields": []}}),
            ));
        }
        let all = self.list(resource, namespace).await?;
        Ok(all.into_iter().find(|object| object["metadata"]["name"] == name))
    }

    async fn list(&self, resource: &GroupResource, namespace: &str) -> Result<Vec<Value>, Status> {
        let all = match &*resource.resource {
            "limits" => vec![
                limit("work", "low", 3, &json!({"set": "a"})),
                limit("work", "high", 5, &json!({"set": "a"})),
                limit("other", "low", 1, &json!({})),
            ],
            "clusterlimits" => vec![limit("", "all", 2, &json!({}))],
            _ => Vec::new(),
        };
        let within = |object: &Value| namespace.is_empty() || object["metadata"]["namespace"] == namespace;
        Ok(all.into_iter().filter(within).collect())
    }

    async fn replace_status(&self, _: &GroupResource, _: Value) -> Result<bool, Status> {
        Ok(true)
    }

    fn place_of(&self, kind: &GroupVersionKind) -> Option<Place> {
        match &*kind.kind {
            "Limit" => Some(place("limits", "Limit", true)),
            "ClusterLimit" => Some(place("clusterlimits", "ClusterLimit", false)),
            _ => None,
        }
    }

    async fn convert(&self, object: Value, _: &Form) -> Result<Value, Status> {
        Ok(object)
    }
}

/// Lets bob do what begins with a vowel.
struct Vowels;

impl Authorizer for Vowels {
    fn authorize(&self, attributes: &auth::Attributes<'_>) -> Decision {
        match attributes.user.name == "bob" && attributes.verb.starts_with(['a', 'e', 'i', 'o', 'u']) {
            true => Decision::Allow("a vowel".into()),
            false => Decision::nothing(),
        }
    }
}

#[derive(Debug)]
struct Said;

impl Options for Said {
    fn object(&self, _: Operation) -> Value {
        json!({"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1", "fieldManager": "me"})
    }
}

/// One policy about Widgets with its bindings, and one request.
struct Case {
    policies: Arc<Policies>,
    operation: Operation,
    namespace: &'static str,
    old: Option<Value>,
    warnings: Warnings,
}

impl Case {
    fn new(spec: &Value, bindings: &[Value]) -> Self {
        let clock = Arc::new(clock::ManualClock::new("2026-01-01T00:00:00Z".parse().unwrap()));
        let policies = Policies::new(Arc::new(Vowels), clock);
        let mut policy = json!({"metadata": {"name": "p"}, "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {},
                "resourceRules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"],
                    "resources": ["widgets", "gadgets"], "scope": "*"}]},
        }});
        for (name, value) in spec.as_object().unwrap() {
            policy["spec"][name] = value.clone();
        }
        policies.replace(Part::Policy, &[policy]);
        let bindings: Vec<Value> = bindings
            .iter()
            .enumerate()
            .map(|(number, more)| {
                let mut spec = json!({"policyName": "p", "validationActions": ["Deny"]});
                for (name, value) in more.as_object().unwrap() {
                    spec[name] = value.clone();
                }
                json!({"metadata": {"name": format!("b{number}")}, "spec": spec})
            })
            .collect();
        policies.replace(Part::Binding, &bindings);
        Self {
            policies: Arc::new(policies),
            operation: Operation::Create,
            namespace: "work",
            old: None,
            warnings: Warnings::default(),
        }
    }

    async fn run(&self, object: Value) -> Result<(), Status> {
        let resource = GroupResource::of("example.com", "widgets");
        let user = UserInfo { name: "bob".into(), groups: vec!["dev".into()], ..UserInfo::default() };
        let kind = GroupVersionKind::of("example.com", "v1", "Widget");
        let attributes = Attributes {
            operation: self.operation,
            resource: &resource,
            version: "v1",
            kind: &kind,
            subresource: "",
            namespace: self.namespace,
            name: "a",
            user: &user,
            old: self.old.as_ref(),
            warnings: &self.warnings,
            dry_run: false,
            options: &Said,
        };
        let chain = Chain::new(Vec::new()).with_policies(self.policies.clone());
        let given = (self.operation != Operation::Delete).then_some(&object);
        chain.validate(&attributes, given, &World).await
    }
}

fn widget(size: i64) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "a"}, "size": size})
}

fn says(expression: &str) -> Value {
    json!({"validations": [{"expression": expression}]})
}

async fn holds(expression: &str) -> bool {
    Case::new(&says(expression), &[json!({})]).run(widget(2)).await.is_ok()
}

#[tokio::test]
async fn a_denial_is_told_as_upstream_tells_it() {
    let validation = |more: Value| {
        let mut validation = json!({"expression": "object.size < 2"});
        for (name, value) in more.as_object().unwrap() {
            validation[name] = value.clone();
        }
        json!({"validations": [validation]})
    };
    for (more, code, reason, message) in [
        (json!({}), 422, "Invalid", "failed expression: object.size < 2"),
        (json!({"message": " too big "}), 422, "Invalid", "too big"),
        (
            json!({"message": "m", "messageExpression": "'size is ' + string(object.size)"}),
            422,
            "Invalid",
            "size is 2",
        ),
        (json!({"message": "m", "messageExpression": "'a\\nb'"}), 422, "Invalid", "m"),
        (json!({"message": "m", "messageExpression": "string(object.none)"}), 422, "Invalid", "m"),
        (json!({"reason": "Forbidden"}), 403, "Forbidden", "failed expression: object.size < 2"),
        (
            json!({"reason": "RequestEntityTooLarge"}),
            413,
            "RequestEntityTooLarge",
            "failed expression: object.size < 2",
        ),
    ] {
        let refused = Case::new(&validation(more), &[json!({})]).run(widget(2)).await.unwrap_err();
        let message = format!("ValidatingAdmissionPolicy 'p' with binding 'b0' denied request: {message}");
        assert_eq!((refused.code, refused.reason.as_str()), (code, reason));
        assert_eq!(refused.message, format!("widgets.example.com \"a\" is forbidden: {message}"));
        assert_eq!(refused.details.unwrap().causes[0].message, message);
    }
    Case::new(&validation(json!({})), &[json!({})]).run(widget(1)).await.unwrap();
    Case::new(&validation(json!({})), &[]).run(widget(2)).await.unwrap();
}

#[tokio::test]
async fn what_expressions_see() {
    for expression in [
        "object.size == 2 && oldObject == null",
        "request.operation == 'CREATE' && request.kind.kind == 'Widget' && request.resource.resource == 'widgets'",
        "request.requestKind.version == 'v1' && request.namespace == 'work' && request.name == 'a'",
        "request.userInfo.username == 'bob' && 'dev' in request.userInfo.groups",
        "request.options.fieldManager == 'me' && !request.dryRun",
        "namespaceObject.metadata.labels['team'] == 'blue'",
        "authorizer.group('').resource('pods').namespace('work').check('update').allowed()",
        "!authorizer.group('').resource('pods').check('get').allowed()",
        "!authorizer.serviceAccount('work', 'sa').group('').resource('pods').check('update').allowed()",
        "authorizer.requestResource.check('evict').reason() == 'a vowel'",
    ] {
        assert!(holds(expression).await, "{expression}");
    }
    assert!(!holds("object.size == 3").await);
    let deletes = Case {
        operation: Operation::Delete,
        old: Some(widget(7)),
        ..Case::new(&says("object == null && oldObject.size == 7"), &[json!({})])
    };
    deletes.run(Value::Null).await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_made_out_follows_the_policy() {
    for (expression, why) in [
        ("object.none == 1", "expression 'object.none == 1' resulted in error: no such key: none"),
        ("1 / 0 == 1", "expression '1 / 0 == 1' resulted in error: division by zero"),
        ("object.size", "compilation error: must evaluate to bool but got dyn"),
        (
            "nothing == 1",
            "compilation error: compilation failed: ERROR: <input>:1:1: undeclared reference to 'nothing'",
        ),
    ] {
        let run = async |policy: &str| {
            let mut spec = says(expression);
            spec["failurePolicy"] = json!(policy);
            Case::new(&spec, &[json!({})]).run(widget(2)).await
        };
        run("Ignore").await.unwrap();
        let refused = run("Fail").await.unwrap_err().message;
        assert!(refused.contains(why), "{refused}");
    }
}

#[tokio::test]
async fn an_expression_may_cost_only_so_much() {
    let spec = says(
        "[1,2,3,4,5,6,7,8,9,10].all(a, [1,2,3,4,5,6,7,8,9,10].all(b, [1,2,3,4,5,6,7,8,9,10].all(c, \
        [1,2,3,4,5,6,7,8,9,10].all(d, [1,2,3,4,5,6,7,8,9,10].all(e, [1,2,3,4,5,6,7,8,9,10].all(f, a+b+c+d+e+f > 0))))))",
    );
    let refused = Case::new(&spec, &[json!({})]).run(widget(2)).await.unwrap_err().message;
    assert!(refused.contains("cost limit exceeded"), "{refused}");
}

#[tokio::test]
async fn actions_say_what_follows() {
    let warns = Case::new(&says("object.size < 2"), &[json!({"validationActions": ["Warn", "Audit"]})]);
    warns.run(widget(2)).await.unwrap();
    assert_eq!(
        warns.warnings.take(),
        [
            "Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b0': failed expression: object.size < 2"
        ]
    );
    let audits = Case::new(&says("object.size < 2"), &[json!({"validationActions": ["Audit"]})]);
    audits.run(widget(2)).await.unwrap();
    assert!(audits.warnings.take().is_empty());
}

#[tokio::test]
async fn variables_are_there_for_all_and_made_when_needed() {
    let spec = json!({
        "variables": [
            {"name": "twice", "expression": "object.size * 2"},
            {"name": "more", "expression": "variables.twice + 1"},
            {"name": "broken", "expression": "object.none"},
        ],
        "validations": [
            {"expression": "variables.more == 5"},
            {"expression": "true || variables.broken == 1"},
        ],
    });
    Case::new(&spec, &[json!({})]).run(widget(2)).await.unwrap();
    let mut broken = spec.clone();
    broken["validations"] = json!([{"expression": "variables.broken == 1"}]);
    let refused = Case::new(&broken, &[json!({})]).run(widget(2)).await.unwrap_err().message;
    assert!(
        refused.contains("composited variable \"broken\" fails to evaluate: no such key: none"),
        "{refused}"
    );
}

#[tokio::test]
async fn conditions_say_whether_it_is_asked_at_all() {
    let spec =
        |conditions: Value| json!({"matchConditions": conditions, "validations": [{"expression": "false"}]});
    let condition = |expression: &str| json!({"name": "c", "expression": expression});
    let run = async |conditions: Value| Case::new(&spec(conditions), &[json!({})]).run(widget(2)).await;
    run(json!([condition("object.size > 2")])).await.unwrap();
    run(json!([condition("object.none == 1"), condition("false")])).await.unwrap();
    run(json!([condition("object.size == 2")])).await.unwrap_err();
    let refused = run(json!([condition("true"), condition("object.none == 1")])).await.unwrap_err().message;
    assert!(
        refused.contains("expression 'object.none == 1' resulted in error: no such key: none"),
        "{refused}"
    );
}

#[tokio::test]
async fn parameters_are_objects_that_the_binding_names() {
    let spec = |kind: &str| {
        json!({"paramKind": {"apiVersion": "example.com/v1", "kind": kind},
            "validations": [{"expression": "params == null || object.size <= params.max", "messageExpression":
                "'more than ' + string(params.max)"}]})
    };
    let run = async |kind: &str, reference: Value, size| {
        let case = Case::new(&spec(kind), &[json!({"paramRef": reference})]);
        case.run(widget(size)).await.map_err(|status| status.message)
    };
    let low = json!({"name": "low", "parameterNotFoundAction": "Deny"});
    run("Limit", low.clone(), 3).await.unwrap();
    assert!(run("Limit", low, 4).await.unwrap_err().ends_with("denied request: more than 3"));
    let elsewhere = json!({"name": "low", "namespace": "other", "parameterNotFoundAction": "Deny"});
    assert!(run("Limit", elsewhere, 2).await.unwrap_err().ends_with("more than 1"));
    let both = json!({"selector": {"matchLabels": {"set": "a"}}, "parameterNotFoundAction": "Deny"});
    run("Limit", both.clone(), 3).await.unwrap();
    assert!(run("Limit", both, 4).await.unwrap_err().ends_with("more than 3"));
    run("ClusterLimit", json!({"name": "all", "parameterNotFoundAction": "Deny"}), 2).await.unwrap();
    let none = |action: &str| json!({"name": "none", "parameterNotFoundAction": action});
    run("Limit", none("Allow"), 9).await.unwrap();
    let refused = run("Limit", none("Deny"), 1).await.unwrap_err();
    assert!(refused.ends_with("failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"), "{refused}");
    let refused = run("ClusterLimit", json!({"name": "all", "namespace": "work"}), 1).await.unwrap_err();
    assert!(
        refused.ends_with("paramRef.namespace must not be provided for a cluster-scoped `paramKind`"),
        "{refused}"
    );
    let refused = run("Nothing", none("Allow"), 1).await.unwrap_err();
    assert!(refused.ends_with("ValidatingAdmissionPolicy 'p' denied request: failed to configure policy: failed to find resource referenced by paramKind: 'example.com/v1, Kind=Nothing'"), "{refused}");
    // A binding need not bring any.
    Case::new(&spec("Limit"), &[json!({})]).run(widget(9)).await.unwrap();
}

#[tokio::test]
async fn bindings_narrow_what_a_policy_matches() {
    let only = |rules: Value| json!({"matchResources": {"matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {}, "resourceRules": rules}});
    let of = |plural: &str, names: Value| json!([{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": [plural], "resourceNames": names}]);
    let run = async |binding: Value| Case::new(&says("false"), &[binding]).run(widget(1)).await;
    run(only(of("gadgets", json!([])))).await.unwrap();
    run(only(of("widgets", json!(["b"])))).await.unwrap();
    run(only(of("widgets", json!(["a"])))).await.unwrap_err();
    run(json!({"matchResources": {"objectSelector": {"matchLabels": {"a": "b"}}}})).await.unwrap();
    let excluded = json!({"matchResources": {"excludeResourceRules": of("widgets", json!([]))}});
    run(excluded).await.unwrap();
}

#[tokio::test]
async fn audit_annotations_that_cannot_be_made_count() {
    let spec = |expression: &str, policy: &str| json!({"failurePolicy": policy, "auditAnnotations": [{"key": "k", "valueExpression": expression}]});
    let run = async |expression: &str, policy: &str| {
        Case::new(&spec(expression, policy), &[json!({})]).run(widget(1)).await
    };
    run("'size ' + string(object.size)", "Fail").await.unwrap();
    run("null", "Fail").await.unwrap();
    run("string(object.none)", "Ignore").await.unwrap();
    let refused = run("string(object.none)", "Fail").await.unwrap_err().message;
    assert!(refused.contains("no such key: none"), "{refused}");
}
