//! Pods must meet the level of their namespace (`pod-security.kubernetes.io/enforce`), and whoever writes one that would not
//! meet another (`…/warn`) is told. A namespace's labels must make sense, and its pods are looked at when they change.
//!
//! See the [Pod Security Standards](https://kubernetes.io/docs/concepts/security/pod-security-standards/). Nobody is exempt,
//! and a namespace without labels is privileged. Levels for `…/audit` are checked for their form alone.

mod checks;
mod pod;
mod policy;

use std::collections::BTreeMap;

use apimachinery::gvk::{GroupKind, GroupResource};
use apimachinery::status::Status;
use async_trait::async_trait;
use serde_json::Value;

use self::checks::Violations;
use self::pod::Pod;
use self::policy::{Level, Policy, Standard};
use crate::tree::{at, items, text};
use crate::{Attributes, Lookup, Operation, Plugin};

const NAMESPACES: GroupResource = GroupResource::of("", "namespaces");
const PODS: GroupResource = GroupResource::of("", "pods");
/// Of pods that are there, as many are looked at when their namespace's level changes.
const MAX_PODS: usize = 3000;
/// Parts of a pod that say nothing of what it may do.
const HARMLESS: [&str; 8] =
    ["exec", "attach", "binding", "eviction", "log", "portforward", "proxy", "status"];
/// What makes pods, and where in it they are described.
const TEMPLATES: [(&str, &str, &[&str]); 8] = [
    ("", "replicationcontrollers", &["spec", "template"]),
    ("", "podtemplates", &["template"]),
    ("apps", "replicasets", &["spec", "template"]),
    ("apps", "deployments", &["spec", "template"]),
    ("apps", "statefulsets", &["spec", "template"]),
    ("apps", "daemonsets", &["spec", "template"]),
    ("batch", "jobs", &["spec", "template"]),
    ("batch", "cronjobs", &["spec", "jobTemplate", "spec", "template"]),
];

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct PodSecurity;

#[async_trait]
impl Plugin for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        let of_pod = attributes.is_any("", "pods") && !HARMLESS.contains(&attributes.subresource);
        attributes.operation != Operation::Delete
            && (of_pod || attributes.is("", "namespaces") || template_of(attributes).is_some())
    }

    async fn validate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&Value>,
        lookup: &dyn Lookup,
    ) -> Result<(), Status> {
        let Some(object) = object else { return Ok(()) };
        if attributes.is("", "namespaces") {
            return check_namespace(attributes, object, lookup).await;
        }
        let Some(namespace) = lookup.get(&NAMESPACES, "", attributes.namespace).await? else {
            return Ok(());
        };
        let (policy, _) = Policy::of(&namespace);
        if policy.is_privileged() {
            return Ok(());
        }
        let warn = |violations: &Violations| {
            let message = format!("would violate PodSecurity \"{}\": {violations}", policy.warn);
            attributes.warnings.add(message);
        };
        match template_of(attributes) {
            Some(path) => {
                let template = at(object, path).filter(|template| template.is_object());
                let violations = template.map(|template| checks::of(&policy.warn, &Pod::new(template)));
                violations.iter().filter(|violations| !violations.is_empty()).for_each(warn);
            }
            None if attributes.old.is_some_and(|old| !is_significant(object, old)) => {}
            None => {
                let pod = Pod::new(object);
                let violations = checks::of(&policy.enforce, &pod);
                if !violations.is_empty() {
                    return Err(attributes
                        .forbid(format!("violates PodSecurity \"{}\": {violations}", policy.enforce)));
                }
                let violations = checks::of(&policy.warn, &pod);
                if !violations.is_empty() {
                    warn(&violations);
                }
            }
        }
        Ok(())
    }
}

fn template_of(attributes: &Attributes<'_>) -> Option<&'static [&'static str]> {
    let known = TEMPLATES.iter().find(|(group, plural, _)| attributes.is(group, plural));
    known.map(|(_, _, path)| *path)
}

async fn check_namespace(
    attributes: &Attributes<'_>,
    namespace: &Value,
    lookup: &dyn Lookup,
) -> Result<(), Status> {
    let (policy, errors) = Policy::of(namespace);
    let (before, errors_before) = match attributes.old {
        Some(old) => Policy::of(old),
        None => (policy, Vec::new()),
    };
    if !errors.is_empty() && errors != errors_before {
        let name = text(namespace, &["metadata", "name"]);
        return Err(Status::invalid(&GroupKind::of("", "Namespace"), name, errors));
    }
    let (new, old) = (policy.enforce, before.enforce);
    let relaxed = new.version == old.version && new.level <= old.level;
    if new != old && new.level != Level::Privileged && !relaxed {
        check_pods(attributes, &new, lookup).await?;
    }
    Ok(())
}

/// Warns of the pods that are there and could not be made any more.
async fn check_pods(
    attributes: &Attributes<'_>,
    standard: &Standard,
    lookup: &dyn Lookup,
) -> Result<(), Status> {
    let pods = lookup.list(&PODS, attributes.name).await?;
    let mut names: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for pod in pods.iter().take(MAX_PODS) {
        let violations = checks::of(standard, &Pod::new(pod));
        if !violations.is_empty() {
            names.entry(violations.reasons()).or_default().push(text(pod, &["metadata", "name"]));
        }
    }
    if pods.len() > MAX_PODS {
        attributes.warnings.add(format!(
            "new PodSecurity enforce level only checked against the first {MAX_PODS} of {} existing pods",
            pods.len()
        ));
    }
    if !names.is_empty() {
        attributes.warnings.add(format!(
            "existing pods in namespace \"{}\" violate the new PodSecurity enforce level \"{standard}\"",
            attributes.name
        ));
    }
    let mut lines: Vec<String> = names
        .into_iter()
        .filter_map(|(reasons, pods)| {
            let first = pods.iter().min()?;
            Some(match pods.len() {
                1 => format!("{first}: {reasons}"),
                2 => format!("{first} (and 1 other pod): {reasons}"),
                more => format!("{first} (and {} other pods): {reasons}", more - 1),
            })
        })
        .collect();
    lines.sort();
    lines.into_iter().for_each(|line| attributes.warnings.add(line));
    Ok(())
}

/// Whether a change of a pod may change what it can do: another image, or a further container.
fn is_significant(pod: &Value, old: &Value) -> bool {
    let containers = |pod: &'_ Value, list: &str| -> BTreeMap<String, String> {
        let all = items(pod, &["spec", list]).iter();
        all.map(|one| (text(one, &["name"]).to_owned(), text(one, &["image"]).to_owned())).collect()
    };
    let differs = |list: &str| containers(pod, list) != containers(old, list);
    let seccomp = |pod: &Value| -> Vec<(String, Value)> {
        let all = crate::tree::entries(pod, &["metadata", "annotations"]);
        let told = all.filter(|(name, _)| name.contains("seccomp.security.alpha.kubernetes.io/"));
        told.map(|(name, value)| (name.clone(), value.clone())).collect()
    };
    ["containers", "initContainers", "ephemeralContainers"].into_iter().any(differs)
        || seccomp(pod) != seccomp(old)
}
