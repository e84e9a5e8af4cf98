//! Webhook configurations, admission policies and APIServices; addresses and their ranges.

use registry::Part;
use serde_json::{Value, json};

use crate::refusals::{check, check_updates, patched};
use crate::world::World;

const WEBHOOKS: &str = "mutatingwebhookconfigurations.admissionregistration.k8s.io";
const POLICIES: &str = "validatingadmissionpolicies.admissionregistration.k8s.io";
const BINDINGS: &str = "validatingadmissionpolicybindings.admissionregistration.k8s.io";
const SERVICES: &str = "apiservices.apiregistration.k8s.io";

fn rule() -> Value {
    json!({"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]})
}

fn webhook() -> Value {
    json!({"name": "a.x.test", "sideEffects": "None", "admissionReviewVersions": ["v1"], "rules": [rule()],
        "clientConfig": {"service": {"namespace": "x", "name": "hooks"}}})
}

#[tokio::test]
async fn a_webhook_gets_upstreams_defaults() {
    let world = World::new().await;
    let object = json!({"metadata": {"name": "a"}, "webhooks": [webhook()]});
    let made = world.create(WEBHOOKS, object.clone()).await.unwrap();
    let more = json!({"failurePolicy": "Fail", "matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {},
        "timeoutSeconds": 10, "reinvocationPolicy": "Never", "clientConfig": {"service": {"port": 443}}});
    let mut expected = patched(&webhook(), &more);
    expected["rules"][0]["scope"] = json!("*");
    assert_eq!(made["webhooks"], json!([expected]));
    assert_eq!(made["metadata"]["generation"], 1);
    let labelled = world.merge(WEBHOOKS, "a", json!({"metadata": {"labels": {"a": "b"}}})).await.unwrap();
    assert_eq!(labelled["metadata"]["generation"], 1);
    expected["timeoutSeconds"] = json!(5);
    let changed = world.merge(WEBHOOKS, "a", json!({"webhooks": [expected]})).await.unwrap();
    assert_eq!(changed["metadata"]["generation"], 2);
    let row = world.row(WEBHOOKS, "a").await;
    assert_eq!(row, json!({"Name": "a", "Webhooks": 1, "Age": row["Age"]}));
    let validating = "validatingwebhookconfigurations.admissionregistration.k8s.io";
    let made = world.create(validating, object).await.unwrap();
    assert!(made["webhooks"][0].get("reinvocationPolicy").is_none());
}

#[tokio::test]
async fn what_a_webhook_may_not_say() {
    let with = |change: Value| json!({"webhooks": [patched(&webhook(), &change)]});
    let ruled = |change: Value| with(json!({"rules": [patched(&rule(), &change)]}));
    let url = |url: &str| with(json!({"clientConfig": {"service": null, "url": url}}));
    let at = |path: &str| with(json!({"clientConfig": {"service": {"path": path}}}));
    let cases = [
        (
            with(json!({"name": "a.b"})),
            "webhooks[0].name: Invalid value: \"a.b\": should be a domain with at least three segments separated by dots",
        ),
        (
            with(json!({"sideEffects": null})),
            "webhooks[0].sideEffects: Required value: must specify one of None, NoneOnDryRun",
        ),
        (
            with(json!({"sideEffects": "Some"})),
            "webhooks[0].sideEffects: Unsupported value: \"Some\": supported values: \"None\", \"NoneOnDryRun\"",
        ),
        (
            with(json!({"timeoutSeconds": 31})),
            "webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds",
        ),
        (
            with(json!({"admissionReviewVersions": ["v2"]})),
            "webhooks[0].admissionReviewVersions: Invalid value: [\"v2\"]: must include at least one of v1, v1beta1",
        ),
        (
            with(json!({"clientConfig": {"service": null}})),
            "webhooks[0].clientConfig: Required value: exactly one of url or service is required",
        ),
        (
            url("http://x.test"),
            "webhooks[0].clientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: \
             https://host[/path]",
        ),
        (
            url("https://x.test/a?b=c"),
            "webhooks[0].clientConfig.url: Invalid value: \"b=c\": query parameters are not permitted in the URL",
        ),
        (at("ab"), "webhooks[0].clientConfig.service.path: Invalid value: \"ab\": must start with a '/'"),
        (
            at("/a//b"),
            "webhooks[0].clientConfig.service.path: Invalid value: \"/a//b\": segment[1] may not be empty",
        ),
        (ruled(json!({"operations": []})), "webhooks[0].rules[0].operations: Required value"),
        (
            ruled(json!({"operations": ["*", "CREATE"]})),
            "webhooks[0].rules[0].operations: Invalid value: [\"*\",\"CREATE\"]: if '*' is present, must not specify other \
             operations",
        ),
        (
            ruled(json!({"resources": ["pods/*", "pods/status"]})),
            "webhooks[0].rules[0].resources[1]: Invalid value: \"pods/status\": if 'pods/*' is present, must not specify \
             pods/status",
        ),
        (
            ruled(json!({"scope": "World"})),
            "webhooks[0].rules[0].scope: Unsupported value: \"World\": supported values: \"*\", \"Cluster\", \"Namespaced\"",
        ),
        (
            with(json!({"matchConditions": [{"name": "a", "expression": " "}]})),
            "webhooks[0].matchConditions[0].expression: Required value",
        ),
        (
            with(json!({"matchConditions": [{"name": "a", "expression": " object.spec "}]})),
            "webhooks[0].matchConditions[0].expression: Invalid value: \"object.spec\": must evaluate to bool but got dyn",
        ),
        (
            with(json!({"matchConditions": [{"name": "a", "expression": "params == null"}]})),
            "webhooks[0].matchConditions[0].expression: Invalid value: \"params == null\": compilation failed: ERROR: \
             <input>:1:1: undeclared reference to 'params' (in container '')",
        ),
        (json!({"webhooks": [webhook(), webhook()]}), "webhooks[1].name: Duplicate value: \"a.x.test\""),
    ];
    check(WEBHOOKS, &json!({"metadata": {"name": "a"}, "webhooks": [webhook()]}), &cases).await;
}

fn policy() -> Value {
    json!({"metadata": {"name": "a"}, "spec": {"matchConstraints": {"resourceRules": [rule()]},
        "validations": [{"expression": "object.spec.replicas < 5"}], "paramKind": {"apiVersion": "x.test/v1", "kind": "Limit"}}})
}

#[tokio::test]
async fn policies_and_bindings() {
    let world = World::new().await;
    let made = world.create(POLICIES, policy()).await.unwrap();
    let constraints = &made["spec"]["matchConstraints"];
    assert_eq!(
        (&made["spec"]["failurePolicy"], &constraints["matchPolicy"]),
        (&json!("Fail"), &json!("Equivalent"))
    );
    assert_eq!(
        (&constraints["namespaceSelector"], &constraints["resourceRules"][0]["scope"]),
        (&json!({}), &json!("*"))
    );
    let row = world.row(POLICIES, "a").await;
    assert_eq!(
        row,
        json!({"Name": "a", "Validations": 1, "ParamKind": "x.test/v1/Limit", "Age": row["Age"]})
    );
    let cases = [
        (json!({"spec": {"matchConstraints": null}}), "spec.matchConstraints: Required value"),
        (
            json!({"spec": {"matchConstraints": {"resourceRules": null}}}),
            "spec.matchConstraints.resourceRules: Required value",
        ),
        (
            json!({"spec": {"validations": [{"expression": ""}]}}),
            "spec.validations[0].expression: Required value: expression is not specified",
        ),
        (
            json!({"spec": {"validations": [{"expression": "true", "message": "a\nb"}]}}),
            "spec.validations[0].message: Invalid value: \"a\\nb\": message must not contain line breaks",
        ),
        (
            json!({"spec": {"paramKind": {"apiVersion": "a/b/c"}}}),
            "spec.paramKind.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c",
        ),
        (
            json!({"spec": {"variables": [{"name": "for", "expression": "1"}]}}),
            "spec.variables[0].name: Invalid value: \"for\": must be a valid CEL identifier",
        ),
        (
            json!({"spec": {"variables": [{"name": "a", "expression": "1"}], "validations": [{"expression": "variables.b == 1"}]}}),
            "spec.validations[0].expression: Invalid value: \"variables.b == 1\": compilation failed: ERROR: <input>:1:10: \
             undefined field 'b'",
        ),
        (
            json!({"spec": {"variables": [{"name": "a", "expression": "'x'"}], "validations": [{"expression": "variables.a"}]}}),
            "spec.validations[0].expression: Invalid value: \"variables.a\": must evaluate to bool but got string",
        ),
        (
            json!({"spec": {"validations": [{"expression": "true", "messageExpression": "authorizer"}]}}),
            "spec.validations[0].messageExpression: Invalid value: \"authorizer\": compilation failed: ERROR: <input>:1:1: \
             undeclared reference to 'authorizer' (in container '')",
        ),
        (
            json!({"spec": {"auditAnnotations": [{"key": "k", "valueExpression": "1"}]}}),
            "spec.auditAnnotations[0].valueExpression: Invalid value: \"1\": must evaluate to one of [string null_type] but \
             got int",
        ),
        (
            json!({"spec": {"failurePolicy": "Shrug"}}),
            "spec.failurePolicy: Unsupported value: \"Shrug\": supported values: \"Fail\", \"Ignore\"",
        ),
    ];
    check(POLICIES, &policy(), &cases).await;
    let binding = json!({"metadata": {"name": "b"}, "spec": {"policyName": "a", "validationActions": ["Deny"],
        "paramRef": {"name": "p", "namespace": "x", "parameterNotFoundAction": "Deny"}}});
    world.create(BINDINGS, binding.clone()).await.unwrap();
    let row = world.row(BINDINGS, "b").await;
    assert_eq!(row, json!({"Name": "b", "PolicyName": "a", "ParamRef": "x/p", "Age": row["Age"]}));
    let cases = [
        (json!({"spec": {"policyName": ""}}), "spec.policyName: Required value"),
        (
            json!({"spec": {"validationActions": []}}),
            "spec.validationActions: Required value: at least one validation action is required",
        ),
        (
            json!({"spec": {"paramRef": {"name": null}}}),
            "spec.paramRef: Required value: one of name or selector must be specified",
        ),
        (
            json!({"spec": {"paramRef": {"parameterNotFoundAction": null}}}),
            "spec.paramRef.parameterNotFoundAction: Required value",
        ),
    ];
    check(BINDINGS, &binding, &cases).await;
}

#[tokio::test]
async fn what_this_server_serves_itself_is_always_there() {
    let world = World::new().await;
    let local = json!({"metadata": {"name": "v1.x.test"}, "spec":
        {"group": "x.test", "version": "v1", "groupPriorityMinimum": 1000, "versionPriority": 15}});
    let made = world.create(SERVICES, local.clone()).await.unwrap();
    let condition = &made["status"]["conditions"][0];
    assert_eq!(
        (&condition["type"], &condition["status"], &condition["reason"]),
        (&json!("Available"), &json!("True"), &json!("Local"))
    );
    let row = world.row(SERVICES, "v1.x.test").await;
    assert_eq!((&row["Service"], &row["Available"]), (&json!("Local"), &json!("True")));
    let remote = json!({"metadata": {"name": "v2.x.test"}, "spec": {"version": "v2", "service": {"namespace": "n", "name": "s"}}});
    let mut made = world.create(SERVICES, patched(&local, &remote)).await.unwrap();
    assert_eq!((&made["status"], &made["spec"]["service"]["port"]), (&json!({}), &json!(443)));
    made["status"] =
        json!({"conditions": [{"type": "Available", "status": "False", "reason": "MissingEndpoints"}]});
    world.update_part(SERVICES, Part::Status, made).await.unwrap();
    let row = world.row(SERVICES, "v2.x.test").await;
    assert_eq!((&row["Service"], &row["Available"]), (&json!("n/s"), &json!("False (MissingEndpoints)")));
    let cases = [
        (
            json!({"metadata": {"name": "other"}}),
            "metadata.name: Invalid value: \"other\": must be `spec.version+\".\"+spec.group`: \"v1.x.test\"",
        ),
        (
            json!({"spec": {"groupPriorityMinimum": 0}}),
            "spec.groupPriorityMinimum: Invalid value: 0: must be positive and less than 20000",
        ),
        (
            json!({"spec": {"insecureSkipTLSVerify": true}}),
            "spec.insecureSkipTLSVerify: Invalid value: true: local APIServices may not have insecureSkipTLSVerify",
        ),
        (json!({"spec": {"service": {"name": "s"}}}), "spec.service.namespace: Required value"),
    ];
    check(SERVICES, &local, &cases).await;
}

#[tokio::test]
async fn addresses_and_ranges() {
    let addresses = "ipaddresses.networking.k8s.io";
    let address = json!({"metadata": {"name": "10.0.0.1"}, "spec": {"parentRef":
        {"group": "apps", "resource": "deployments", "namespace": "x", "name": "d"}}});
    let cases = [
        (
            json!({"metadata": {"name": "ten"}}),
            "metadata.name: Invalid value: \"ten\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ),
        (
            json!({"metadata": {"name": "2001:DB8::1"}}),
            "metadata.name: Invalid value: \"2001:DB8::1\": must be in canonical form (\"2001:db8::1\")",
        ),
        (json!({"spec": {"parentRef": null}}), "spec.parentRef: Required value"),
        (json!({"spec": {"parentRef": {"resource": ""}}}), "spec.parentRef.resource: Required value"),
    ];
    check(addresses, &address, &cases).await;
    let world = World::new().await;
    world.create(addresses, address).await.unwrap();
    assert_eq!(world.row(addresses, "10.0.0.1").await["ParentRef"], "deployments.apps/x/d");
    let ranges = "servicecidrs.networking.k8s.io";
    let range = json!({"metadata": {"name": "r"}, "spec": {"cidrs": ["10.1.0.0/16", "fd00::/112"]}});
    let of = |cidrs: Value| json!({"spec": {"cidrs": cidrs}});
    let cases = [
        (of(json!([])), "spec.cidrs: Required value: at least one CIDR required"),
        (
            of(json!(["10.1.0.1/16"])),
            "spec.cidrs[0]: Invalid value: \"10.1.0.1/16\": must not have bits set beyond the prefix length",
        ),
        (
            of(json!(["10.1.0.0/16", "10.2.0.0/16"])),
            "spec.cidrs: Invalid value: [\"10.1.0.0/16\",\"10.2.0.0/16\"]: may specify no more than one IP for \
             each IP family, i.e 192.168.0.0/24 and 2001:db8::/64",
        ),
    ];
    check(ranges, &range, &cases).await;
    world.create(ranges, range).await.unwrap();
    assert_eq!(world.row(ranges, "r").await["CIDRs"], "10.1.0.0/16,fd00::/112");
    let cases =
        [(of(json!(["10.1.0.0/16"])), "spec.cidrs: Invalid value: [\"10.1.0.0/16\"]: field is immutable")];
    check_updates(&world, ranges, "r", &cases).await;
}
