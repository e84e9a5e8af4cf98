//! What whoever writes a pod or a template is told about it, though nothing of it is wrong.

use std::collections::{BTreeMap, BTreeSet};

use apimachinery::field::{Path, quote};
use apimachinery::meta;
use serde_json::Value;

use super::pod_affinity::{OF_PODS, PREFERRED, REQUIRED};
use super::pod_annotations::{APPARMOR_CONTAINER, SECCOMP_CONTAINER, SECCOMP_POD};
use super::{pod_network, pod_overlaps};
use crate::checks::amount;
use crate::tree::{at, entries, items, number, text};

const NULL_SELECTOR: &str = "a null labelSelector results in matching no pod";
const SECCOMP: &str = "non-functional in v1.27+; use the \"seccompProfile\" field instead";

/// Labels of nodes that have better names by now, or mean nothing.
const OLD_LABELS: &[(&str, &str)] = &[
    ("beta.kubernetes.io/arch", "deprecated since v1.14; use \"kubernetes.io/arch\" instead"),
    ("beta.kubernetes.io/os", "deprecated since v1.14; use \"kubernetes.io/os\" instead"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
    ),
    (
        "beta.kubernetes.io/instance-type",
        "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead",
    ),
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    (
        "scheduler.alpha.kubernetes.io/preferAvoidPods",
        "deprecated since v1.22; use Taints and Tolerations instead",
    ),
    ("node-role.kubernetes.io/master", "use \"node-role.kubernetes.io/control-plane\" instead"),
];
/// Annotations that nothing reads any more.
const OLD_ANNOTATIONS: &[(&str, &str)] = &[
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    ("security.alpha.kubernetes.io/sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
];
/// Sources of volumes that nothing serves any more: field, its name in warnings, since when.
const OLD_VOLUMES: &[(&str, &str, &str)] = &[
    ("photonPersistentDisk", "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "storageOS", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
];
/// In the order in which upstream looks through them.
const LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// About a pod.
pub(crate) fn of_pod(pod: &Value) -> Vec<String> {
    of(pod, &Path::empty(), false)
}

/// About a template.
pub(crate) fn of_template(template: &Value, path: &Path<'_>) -> Vec<String> {
    of(template, path, true)
}

fn of(pod: &Value, path: &Path<'_>, is_template: bool) -> Vec<String> {
    let spec = pod.get("spec").unwrap_or(&Value::Null);
    let (at_spec, mut found) = (path.child("spec"), Vec::new());
    place(spec, &at_spec, &mut found);
    annotations(pod, spec, is_template, path, &mut found);
    volumes(spec, &at_spec, &mut found);
    found.extend(pod_overlaps::warnings(spec));
    repeated(spec, &at_spec, &mut found);
    fractions(spec.get("overhead"), &at_spec.child("overhead"), &mut found);
    let mut ports = Ports::default();
    for list in LISTS {
        let at_list = at_spec.child(list);
        for (index, container) in items(spec, &[list]).iter().enumerate() {
            let at_one = at_list.index(index);
            let at_resources = at_one.child("resources");
            for kind in ["limits", "requests"] {
                fractions(at(container, &["resources", kind]), &at_resources.child(kind), &mut found);
            }
            hidden_variables(container, &at_one.child("env"), &mut found);
            ports.add(container, &at_one.child("ports"), &mut found);
        }
    }
    let grace = "terminationGracePeriodSeconds";
    if number(spec, &[grace]).is_some_and(|seconds| seconds < 0) {
        let why = "must be >= 0; negative values are invalid and will be treated as 1";
        found.push(format!("{}: {why}", at_spec.child(grace)));
    }
    found.extend(pod_network::warnings(spec, &at_spec));
    found
}

fn old_label(key: &str) -> Option<&'static str> {
    OLD_LABELS.iter().find(|(old, _)| *old == key).map(|(_, why)| *why)
}

/// About nodes and other pods that it wants to be near.
fn place(spec: &Value, path: &Path<'_>, found: &mut Vec<String>) {
    let at_labels = path.child("nodeSelector");
    for (key, _) in entries(spec, &["nodeSelector"]) {
        found.extend(old_label(key).map(|why| format!("{}: {why}", at_labels.key(key))));
    }
    let at_affinity = path.child("affinity");
    let at_nodes = at_affinity.child("nodeAffinity");
    let at_required = at_nodes.child(REQUIRED);
    let at_terms = at_required.child("nodeSelectorTerms");
    let terms = items(spec, &["affinity", "nodeAffinity", REQUIRED, "nodeSelectorTerms"]);
    for (index, term) in terms.iter().enumerate() {
        node_term(term, &at_terms.index(index), false, found);
    }
    let at_preferred = at_nodes.child(PREFERRED);
    for (index, term) in items(spec, &["affinity", "nodeAffinity", PREFERRED]).iter().enumerate() {
        let at_term = at_preferred.index(index);
        let preference = term.get("preference").unwrap_or(&Value::Null);
        node_term(preference, &at_term.child("preference"), true, found);
    }
    let at_spread = path.child("topologySpreadConstraints");
    for (index, constraint) in items(spec, &["topologySpreadConstraints"]).iter().enumerate() {
        let (at_one, key) = (at_spread.index(index), text(constraint, &["topologyKey"]));
        found.extend(old_label(key).map(|why| format!("{}: {key} is {why}", at_one.child("topologyKey"))));
        no_selector(constraint, &at_one, found);
    }
    for kind in OF_PODS {
        let at_kind = at_affinity.child(kind);
        let at_required = at_kind.child(REQUIRED);
        for (index, term) in items(spec, &["affinity", kind, REQUIRED]).iter().enumerate() {
            no_selector(term, &at_required.index(index), found);
        }
        let at_preferred = at_kind.child(PREFERRED);
        for (index, term) in items(spec, &["affinity", kind, PREFERRED]).iter().enumerate() {
            let at_one = at_preferred.index(index);
            let term = term.get("podAffinityTerm").unwrap_or(&Value::Null);
            no_selector(term, &at_one.child("podAffinityTerm"), found);
        }
    }
}

/// `is_loose`: its values have not been checked before.
fn node_term(term: &Value, path: &Path<'_>, is_loose: bool, found: &mut Vec<String>) {
    let at_expressions = path.child("matchExpressions");
    for (index, expression) in items(term, &["matchExpressions"]).iter().enumerate() {
        let (at_one, key) = (at_expressions.index(index), text(expression, &["key"]));
        found.extend(old_label(key).map(|why| format!("{}: {key} is {why}", at_one.child("key"))));
        let at_values = at_one.child("values");
        for (index, value) in items(expression, &["values"]).iter().enumerate().filter(|_| is_loose) {
            let value = value.as_str().unwrap_or_default();
            let faults = meta::names::label_value(value).into_iter();
            let (at_value, value) = (at_values.index(index), quote(value));
            found.extend(faults.map(|why| format!("{at_value}: {value} is invalid, {why}")));
        }
    }
}

fn no_selector(term: &Value, path: &Path<'_>, found: &mut Vec<String>) {
    if term.get("labelSelector").is_none() {
        found.push(format!("{}: {NULL_SELECTOR}", path.child("labelSelector")));
    }
}

fn annotations(pod: &Value, spec: &Value, is_template: bool, path: &Path<'_>, found: &mut Vec<String>) {
    let metadata = path.child("metadata");
    let path = metadata.child("annotations");
    let mut warn = |name: &str, why: &str| {
        if meta::annotation(pod, name).is_some() {
            found.push(format!("{}: {why}", path.key(name)));
        }
    };
    for (name, why) in OLD_ANNOTATIONS {
        warn(name, why);
    }
    let says = |tree: &Value, field: &str| at(tree, &["securityContext", field]).is_some();
    if !says(spec, "seccompProfile") {
        warn(SECCOMP_POD, SECCOMP);
    }
    for container in LISTS.iter().flat_map(|list| items(spec, &[list])) {
        let name = text(container, &["name"]);
        if !says(container, "seccompProfile") {
            warn(&format!("{SECCOMP_CONTAINER}{name}"), SECCOMP);
        }
        // A pod's annotation becomes a field of it, and is told about there.
        if is_template && !says(container, "appArmorProfile") && !says(spec, "appArmorProfile") {
            let why = "deprecated since v1.30; use the \"appArmorProfile\" field instead";
            warn(&format!("{APPARMOR_CONTAINER}{name}"), why);
        }
    }
}

fn volumes(spec: &Value, path: &Path<'_>, found: &mut Vec<String>) {
    let at_volumes = path.child("volumes");
    for (index, volume) in items(spec, &["volumes"]).iter().enumerate() {
        let at_one = at_volumes.index(index);
        for (_, name, why) in OLD_VOLUMES.iter().filter(|(field, _, _)| volume.get(*field).is_some()) {
            found.push(format!("{}: {why}", at_one.child(name)));
        }
    }
}

/// Entries of lists that say the same again, or nothing.
fn repeated(spec: &Value, path: &Path<'_>, found: &mut Vec<String>) {
    for (list, field) in [("hostAliases", "ip"), ("imagePullSecrets", "name")] {
        let (at_list, mut seen) = (path.child(list), BTreeSet::new());
        for (index, item) in items(spec, &[list]).iter().enumerate() {
            let (at_one, value) = (at_list.index(index), text(item, &[field]));
            if !seen.insert(value) {
                found.push(format!("{}: duplicate {field} {}", at_one.child(field), quote(value)));
            }
            if value.is_empty() && field == "name" {
                found.push(format!("{}: invalid empty name \"\"", at_one.child(field)));
            }
        }
    }
}

/// Parts of bytes.
fn fractions(amounts: Option<&Value>, path: &Path<'_>, found: &mut Vec<String>) {
    for name in ["memory", "ephemeral-storage"] {
        if let Some(value) = amounts.and_then(|amounts| amount(amounts, &[name]))
            && value.milli_value() % 1000 != 0
        {
            let at = path.key(name);
            found.push(format!("{at}: fractional byte value \"{value}\" is invalid, must be an integer"));
        }
    }
}

/// Variables that take the place of others without making use of them.
fn hidden_variables(container: &Value, path: &Path<'_>, found: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for (index, variable) in items(container, &["env"]).iter().enumerate() {
        let (name, value) = (text(variable, &["name"]), text(variable, &["value"]));
        let reference = format!("$({name})");
        let hides = variable.get("valueFrom").is_some() || value == reference || !value.contains(&reference);
        if !seen.insert(name) && hides {
            found.push(format!(
                "{}: hides previous definition of {}, which may be dropped when using apply",
                path.index(index),
                quote(name)
            ));
        }
    }
}

/// Where a port stands, and its address and port on the node.
type Stated<'a> = (String, &'a str, i64);

/// Ports of the containers so far.
#[derive(Default)]
struct Ports<'a> {
    by_number: BTreeMap<(i64, &'a str), Vec<Stated<'a>>>,
    by_name: BTreeMap<&'a str, String>,
}

impl<'a> Ports<'a> {
    fn add(&mut self, container: &'a Value, path: &Path<'_>, found: &mut Vec<String>) {
        for (index, port) in items(container, &["ports"]).iter().enumerate() {
            let here = path.index(index).to_string();
            let count = |field: &str| number(port, &[field]).unwrap_or_default();
            let [name, protocol, ip] = ["name", "protocol", "hostIP"].map(|field| text(port, &[field]));
            let (own, host) = (count("containerPort"), count("hostPort"));
            if !ip.is_empty() && host == 0 {
                found.push(format!(
                    "{here}: hostIP set without hostPort: {{Name:{name} HostPort:0 ContainerPort:{own} \
                     Protocol:{protocol} HostIP:{ip}}}"
                ));
            }
            let others = self.by_number.entry((own, protocol)).or_default();
            for (there, other_ip, other) in others.iter() {
                let what = if ip == *other_ip && host == *other {
                    "duplicate"
                } else if host == 0 || *other == 0 {
                    "overlapping"
                } else if host == *other && ip.is_empty() != other_ip.is_empty() {
                    "dangerously ambiguous"
                } else {
                    continue;
                };
                found.push(format!("{here}: {what} port definition with {there}"));
            }
            others.push((here.clone(), ip, host));
            if name.is_empty() {
                continue;
            }
            match self.by_name.get(name) {
                Some(other) => found.push(format!(
                    "{here}: duplicate port name {} with {other}, services and probes that select ports by name will \
                     use {other}",
                    quote(name)
                )),
                None => {
                    self.by_name.insert(name, here);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn whoever_writes_a_template_is_told_what_upstream_tells() {
        let port = |own: i64, host: i64| json!({"containerPort": own, "hostPort": host, "protocol": "TCP"});
        let container = |more: Value| json!({"containers": [more]});
        for (spec, expected) in [
            (container(json!({})), None),
            (
                container(json!({"env": [{"name": "x"}, {"name": "x"}]})),
                Some(
                    "containers[0].env[1]: hides previous definition of \"x\", which may be dropped when using apply",
                ),
            ),
            (container(json!({"env": [{"name": "x"}, {"name": "x", "value": "$(x)y"}]})), None),
            (
                container(json!({"ports": [port(1, 0), port(1, 0)]})),
                Some(
                    "containers[0].ports[1]: duplicate port definition with template.spec.containers[0].ports[0]",
                ),
            ),
            (
                container(json!({"ports": [port(1, 0), port(1, 2)]})),
                Some(
                    "containers[0].ports[1]: overlapping port definition with template.spec.containers[0].ports[0]",
                ),
            ),
            (
                json!({"topologySpreadConstraints": [{}]}),
                Some(
                    "topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod",
                ),
            ),
            (
                json!({"terminationGracePeriodSeconds": -1}),
                Some(
                    "terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1",
                ),
            ),
            (
                json!({"overhead": {"memory": "1m"}}),
                Some("overhead[memory]: fractional byte value \"1m\" is invalid, must be an integer"),
            ),
            (json!({"imagePullSecrets": [{}]}), Some("imagePullSecrets[0].name: invalid empty name \"\"")),
        ] {
            let found = of_template(&json!({"spec": spec}), &Path::new("template"));
            let expected: Vec<String> =
                expected.map(|text| format!("template.spec.{text}")).into_iter().collect();
            assert_eq!(found, expected, "{spec}");
        }
    }

    #[test]
    fn files_of_a_volume_may_not_hide_one_another() {
        let items = json!([{"key": "a", "path": "p"}, {"key": "b", "path": "p/q"}]);
        let volume = json!({"name": "v", "configMap": {"name": "m", "items": items}});
        assert_eq!(
            of_pod(&json!({"spec": {"volumes": [volume]}})),
            ["volume \"v\" (ConfigMap \"m\"): overlapping paths: \"p/q\" with \"p\""]
        );
    }
}
