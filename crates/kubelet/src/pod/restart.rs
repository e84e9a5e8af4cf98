//! Whether a run that has ended is followed by another: by the container's own rules and policy, or else by the pod's.

use api::k8s::api::core::v1::{Container, ContainerRestartRule, Pod};

use super::config;
use super::containers;

/// The action by which one container's end starts all of the pod's anew.
const ALL: &str = "RestartAllContainers";

/// Whether the container is to run again after it ended with this code, for a container that need not run to its end once.
pub(crate) fn again(pod: &Pod, container: &Container, exit_code: i32) -> bool {
    let own = container.restart_policy.as_deref();
    let rules = container.restart_policy_rules.iter().flatten();
    if own.is_some() && rules.into_iter().any(|rule| applies(rule, exit_code)) {
        return true;
    }
    match own.unwrap_or(config::restart_policy(pod)) {
        "Never" => false,
        "OnFailure" => exit_code != 0,
        _ => true,
    }
}

/// Whether its end with this code is one after which all of the pod's containers begin anew. The first rule that applies
/// decides.
pub(crate) fn begins_all_anew(container: &Container, exit_code: i32) -> bool {
    let mut rules = container.restart_policy_rules.iter().flatten();
    let first = rules.find(|rule| applies(rule, exit_code));
    container.restart_policy.is_some() && first.is_some_and(|rule| rule.action == ALL)
}

/// Whether the end of any of the pod's containers may be such a one.
pub(crate) fn may_begin_all_anew(pod: &Pod) -> bool {
    let rules = |container: &Container| container.restart_policy_rules.clone().unwrap_or_default();
    containers::all(pod).any(|one| rules(&one.spec).iter().any(|rule| rule.action == ALL))
}

fn applies(rule: &ContainerRestartRule, exit_code: i32) -> bool {
    let Some(codes) = rule.exit_codes.as_ref().filter(|_| ["Restart", ALL].contains(&rule.action.as_str()))
    else {
        return false;
    };
    let listed = codes.values.iter().flatten().any(|code| *code == exit_code);
    match codes.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn rules_come_before_the_policy_and_its_own_before_the_pods() {
        let check = |pod_policy: &str, container: Value, expected: [bool; 3]| {
            let mut container = container;
            container["name"] = "a".into();
            let pod: Pod = serde_json::from_value(
                json!({"spec": {"restartPolicy": pod_policy, "containers": [container]}}),
            )
            .unwrap();
            let container = &pod.spec.as_ref().unwrap().containers[0];
            assert_eq!([0, 1, 42].map(|code| again(&pod, container, code)), expected, "{container:?}");
        };
        check("Always", json!({}), [true, true, true]);
        check("OnFailure", json!({}), [false, true, true]);
        check("Never", json!({}), [false, false, false]);
        check("Never", json!({"restartPolicy": "OnFailure"}), [false, true, true]);
        check("Always", json!({"restartPolicy": "Never"}), [false, false, false]);
        let rule = |operator: &str| json!([{"action": "Restart", "exitCodes": {"operator": operator, "values": [42, 43]}}]);
        check(
            "Always",
            json!({"restartPolicy": "Never", "restartPolicyRules": rule("In")}),
            [false, false, true],
        );
        check(
            "Never",
            json!({"restartPolicy": "Never", "restartPolicyRules": rule("NotIn")}),
            [true, true, false],
        );
        check("Never", json!({"restartPolicyRules": rule("In")}), [false, false, false]);
    }

    #[test]
    fn the_first_rule_that_applies_decides() {
        let rule = |action: &str, code: i32| json!({"action": action, "exitCodes": {"operator": "In", "values": [code]}});
        let check = |rules: Value, expected: [bool; 3]| {
            let container = json!({"name": "a", "restartPolicy": "Never", "restartPolicyRules": rules});
            let container: Container = serde_json::from_value(container).unwrap();
            assert_eq!([0, 1, 42].map(|code| begins_all_anew(&container, code)), expected, "{rules}");
        };
        check(json!([rule(ALL, 42)]), [false, false, true]);
        check(json!([rule("Restart", 42), rule(ALL, 42), rule(ALL, 1)]), [false, true, false]);
    }
}
