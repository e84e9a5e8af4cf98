//! What a Job's policies make of a pod that failed and of the indexes that succeeded.

use super::indexes::Indexes;
use crate::pod::Pod;
use client::kube::ResourceExt;
use k8s_openapi::api::batch::v1::{
    PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement as ExitCodes, PodFailurePolicyRule,
    SuccessPolicy,
};

/// What a failure comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It counts towards the limit.
    Counts,
    /// It does not.
    Ignored,
    /// The pod's index has failed for good.
    FailsIndex,
    /// The whole Job has, for this reason.
    FailsJob(String),
}

/// What the first rule that fits says.
pub(super) fn judge(policy: Option<&PodFailurePolicy>, pod: &Pod) -> Verdict {
    let rules = policy.iter().flat_map(|policy| &policy.rules).enumerate();
    for (index, rule) in rules {
        let Some(what) = fits(rule, pod) else { continue };
        match rule.action.as_str() {
            "Ignore" => return Verdict::Ignored,
            "Count" => return Verdict::Counts,
            "FailIndex" => return Verdict::FailsIndex,
            "FailJob" => {
                return Verdict::FailsJob(format!("{what} matching {} rule at index {index}", rule.action));
            }
            // One that is not known here must not decide anything.
            _ => {}
        }
    }
    Verdict::Counts
}

/// What about the pod fits the rule, in upstream's words.
fn fits(rule: &PodFailurePolicyRule, pod: &Pod) -> Option<String> {
    let name = || format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
    let end = pod.status.end.as_ref()?;
    if let Some(codes) = &rule.on_exit_codes {
        let exit = end.exits.iter().find(|exit| {
            codes.container_name.as_deref().is_none_or(|name| *name == *exit.container)
                && has(codes, exit.code)
        })?;
        let (container, code) = (&exit.container, exit.code);
        return Some(format!("Container {container} for pod {} failed with exit code {code}", name()));
    }
    let patterns = rule.on_pod_conditions.as_ref()?;
    let (kind, _) = end.conditions.iter().find(|(kind, status)| {
        patterns.iter().any(|pattern| {
            *pattern.type_ == **kind && pattern.status.as_deref().unwrap_or("True") == &**status
        })
    })?;
    Some(format!("Pod {} has condition {kind}", name()))
}

fn has(codes: &ExitCodes, code: i32) -> bool {
    match codes.operator.as_str() {
        "In" => codes.values.contains(&code),
        "NotIn" => !codes.values.contains(&code),
        _ => false,
    }
}

/// Whether enough has succeeded, and by which rule.
pub(super) fn met(policy: Option<&SuccessPolicy>, completions: u32, done: &Indexes) -> Option<String> {
    if done.count() == 0 {
        return None;
    }
    let is_met = |at: &usize| {
        let rule = policy.and_then(|policy| policy.rules.get(*at));
        let Some(rule) = rule else { return false };
        let enough = |count: usize| {
            rule.succeeded_count
                .is_some_and(|wanted| usize::try_from(wanted).is_ok_and(|wanted| count >= wanted))
        };
        let Some(indexes) = &rule.succeeded_indexes else { return enough(done.count()) };
        let wanted = Indexes::parse(indexes, completions);
        let both = wanted.shared(done);
        wanted.count() > 0 && (both == wanted.count() || enough(both))
    };
    let mut rules = 0..policy.map_or(0, |policy| policy.rules.len());
    rules.find(is_met).map(|at| format!("Matched rules at index {at}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    fn pod(code: i32) -> Pod {
        from_value(json!({
            "metadata": { "name": "p", "namespace": "x" },
            "status": {
                "phase": "Failed", "conditions": [{ "type": "DisruptionTarget", "status": "True" }],
                "containerStatuses": [{ "name": "main", "state": { "terminated": { "exitCode": code } } }],
            },
        }))
        .unwrap()
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let policy: PodFailurePolicy = from_value(json!({ "rules": [
            { "action": "Count", "onExitCodes": { "containerName": "other", "operator": "NotIn", "values": [0] } },
            { "action": "FailJob", "onExitCodes": { "operator": "In", "values": [42] } },
            { "action": "FailIndex", "onExitCodes": { "containerName": "main", "operator": "In", "values": [1] } },
            { "action": "Ignore", "onPodConditions": [{ "type": "DisruptionTarget", "status": "True" }] },
        ] }))
        .unwrap();
        let why = "Container main for pod x/p failed with exit code 42 matching FailJob rule at index 1";
        assert_eq!(judge(Some(&policy), &pod(42)), Verdict::FailsJob(why.into()));
        assert_eq!(judge(Some(&policy), &pod(1)), Verdict::FailsIndex);
        assert_eq!(judge(Some(&policy), &pod(7)), Verdict::Ignored);
        assert_eq!(judge(None, &pod(7)), Verdict::Counts);
    }

    #[test]
    fn enough_is_enough() {
        let policy =
            |rules: serde_json::Value| from_value::<SuccessPolicy>(json!({ "rules": rules })).unwrap();
        let done = Indexes::default().with([0, 3, 4]);
        for (rules, expected) in [
            (json!([{ "succeededIndexes": "0" }]), Some("Matched rules at index 0")),
            (
                json!([{ "succeededIndexes": "0-2" }, { "succeededCount": 3 }]),
                Some("Matched rules at index 1"),
            ),
            (json!([{ "succeededIndexes": "0-5", "succeededCount": 3 }]), Some("Matched rules at index 0")),
            (json!([{ "succeededIndexes": "0-2", "succeededCount": 2 }, { "succeededCount": 4 }]), None),
        ] {
            assert_eq!(met(Some(&policy(rules.clone())), 6, &done).as_deref(), expected, "{rules}");
        }
        assert_eq!(met(None, 6, &done), None);
    }
}
