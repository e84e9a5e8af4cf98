//! ValidatingAdmissionPolicies, and match conditions of webhooks, as users of kubectl meet them. No node: objects only.

use harness::{Plane, Webhook, eventually};
use serde_json::json;

use crate::start;

const POLICY: &str = "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: replicas}
spec:
  paramKind: {apiVersion: v1, kind: ConfigMap}
  matchConstraints:
    resourceRules:
    - {apiGroups: [apps], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [deployments]}
  variables:
  - {name: wanted, expression: 'object.spec.replicas'}
  validations:
  - expression: variables.wanted <= int(params.data.max)
    messageExpression: \"'at most ' + params.data.max + ' replicas, not ' + string(variables.wanted)\"
";

const BINDING: &str = "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: small}
spec:
  policyName: replicas
  validationActions: [ACTION]
  paramRef: {name: limits, namespace: default, parameterNotFoundAction: Deny}
  matchResources:
    namespaceSelector: {matchLabels: {size: small}}
";

fn create(plane: &Plane, replicas: u32) -> harness::Said {
    let replicas = format!("--replicas={replicas}");
    plane.kubectl(&["create", "deployment", "web", "-n", "small", "--image=i", &replicas, "--dry-run=server"])
}

#[test]
fn a_policy_with_parameters_denies_warns_and_lets_go() {
    let plane = start(&["--disable", "node,edge"]);
    plane.kubectl_ok(&["create", "namespace", "small"]);
    plane.kubectl_ok(&["label", "namespace", "small", "size=small"]);
    plane.apply(POLICY);
    plane.apply(&BINDING.replace("ACTION", "Deny"));
    let missing = eventually("a policy without its parameters", || {
        let said = create(&plane, 1);
        (!said.ok).then_some(said.err)
    });
    assert!(
        missing.contains("no params found for policy binding with `Deny` parameterNotFoundAction"),
        "{missing}"
    );
    plane.kubectl_ok(&["create", "configmap", "limits", "--from-literal=max=3"]);
    assert!(create(&plane, 3).ok);
    let refused = create(&plane, 5);
    let words = "denied request: at most 3 replicas, not 5";
    assert!(
        !refused.ok && refused.err.contains("ValidatingAdmissionPolicy 'replicas' with binding 'small'"),
        "{refused:?}"
    );
    assert!(refused.err.contains(words), "{}", refused.err);
    // Another namespace is not bound.
    plane.kubectl_ok(&["create", "deployment", "web", "--image=i", "--replicas=5"]);

    plane.apply(&BINDING.replace("ACTION", "Warn"));
    let warned = eventually("a warning", || {
        let said = create(&plane, 5);
        said.ok.then_some(said.err)
    });
    assert!(
        warned.contains(
            "Warning: Validation failed for ValidatingAdmissionPolicy 'replicas' with binding 'small'"
        ),
        "{warned}"
    );
}

#[test]
fn expressions_are_compiled_when_they_are_written() {
    let plane = start(&["--disable", "node,edge"]);
    // What is wrong of the kinds alone that it is about is told of, and not refused.
    plane.apply(&POLICY.replace("variables.wanted <=", "object.spec.replcas <="));
    let status = eventually("the policy is looked at", || {
        let policy = plane.get(&["validatingadmissionpolicy", "replicas"]);
        (policy["status"]["observedGeneration"] == 1).then(|| policy["status"].clone())
    });
    let warning = &status["typeChecking"]["expressionWarnings"][0];
    assert_eq!(warning["fieldRef"], "spec.validations[0].expression", "{status}");
    plane.apply(POLICY);
    eventually("it is right now", || {
        let status = plane.get(&["validatingadmissionpolicy", "replicas"])["status"].clone();
        let none = status["typeChecking"]["expressionWarnings"].is_null();
        (status["observedGeneration"] == 2 && none).then_some(())
    });
    let broken = POLICY.replace("variables.wanted <= int(params.data.max)", "variables.wnted <= 1");
    let said = plane.kubectl_with(&["apply", "-f", "-"], &broken);
    assert!(!said.ok && said.err.contains("spec.validations[0].expression: Invalid value: \"variables.wnted <= 1\": compilation failed: ERROR: <input>:1:10: undefined field 'wnted'"), "{}", said.err);
    let wrong = POLICY.replace("variables.wanted <= int(params.data.max)", "string(1)");
    let said = plane.kubectl_with(&["apply", "-f", "-"], &wrong);
    assert!(said.err.contains("must evaluate to bool but got string"), "{}", said.err);
    let webhook = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "hook"},
        "webhooks": [{"name": "hook.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "clientConfig": {"url": "https://127.0.0.1:1/"}, "matchConditions": [{"name": "c", "expression": "object.x"}, {"name": "d", "expression": "1 + 1"}]}],
    });
    let said = plane.kubectl_with(&["apply", "-f", "-"], &webhook.to_string());
    assert!(said.err.contains("webhooks[0].matchConditions[1].expression: Invalid value: \"1 + 1\": must evaluate to bool but got int"), "{}", said.err);
    assert!(said.err.contains("webhooks[0].matchConditions[0].expression: Invalid value: \"object.x\": must evaluate to bool but got dyn"), "{}", said.err);
}

#[test]
fn a_webhooks_conditions_keep_requests_from_it() {
    let plane = start(&["--disable", "node,edge", "--webhook-allow", "127.0.0.1"]);
    let hook = Webhook::start(&[], |_, review| {
        let response = json!({"uid": review["request"]["uid"], "allowed": false});
        Some(json!({"apiVersion": review["apiVersion"], "kind": "AdmissionReview", "response": response}))
    });
    let configuration = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "hook"},
        "webhooks": [{"name": "hook.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "clientConfig": {"url": hook.url("/"), "caBundle": hook.ca_bundle},
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}],
            "matchConditions": [
                {"name": "asked", "expression": "object.metadata.name.startsWith('asked')"},
                {"name": "not-masters", "expression": "!('system:nodes' in request.userInfo.groups)"},
                {"name": "may", "expression": "authorizer.group('').resource('configmaps').namespace('default').check('create').allowed()"},
            ]}],
    });
    plane.apply(&configuration.to_string());
    eventually("a refusal", || {
        (!plane.kubectl(&["create", "configmap", "asked-1", "--dry-run=server"]).ok).then_some(())
    });
    plane.kubectl_ok(&["create", "configmap", "not-asked"]);
    assert!(hook.heard().iter().all(|heard| heard.body["request"]["name"] == "asked-1"));
}
