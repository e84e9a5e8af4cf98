//! A container's environment, from the pod's words and what they refer to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use api::k8s::api::core::v1::{
    ConfigMap, Container, EnvVar, EnvVarSource, FileKeySelector, ObjectFieldSelector, Pod,
    ResourceFieldSelector, Secret,
};
use apimachinery::quantity::Quantity;

use crate::env_file;
use crate::resources;

/// What a pod's environment and volumes are made from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    /// The config maps and secrets that it names, by name; those that are missing are absent.
    pub(crate) config_maps: BTreeMap<String, ConfigMap>,
    pub(crate) secrets: BTreeMap<String, Secret>,
    /// Files of its volumes, by the volume's name and the path in it: none, or why it cannot be read.
    pub(crate) files: BTreeMap<(String, String), Result<Option<String>, String>>,
}

/// What is known of where a pod runs.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) host_ips: Vec<IpAddr>,
    pub(crate) pod_ips: Vec<IpAddr>,
    /// What limits default to, by resource name.
    pub(crate) allocatable: BTreeMap<String, Quantity>,
}

/// Why a container cannot be configured; becomes `CreateContainerConfigError`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unresolved(pub(crate) String);

fn unresolved<T>(message: impl Into<String>) -> Result<T, Unresolved> {
    Err(Unresolved(message.into()))
}

/// Names of the config maps and secrets that the environment of these containers takes.
pub(crate) fn references<'a>(
    containers: impl Iterator<Item = &'a Container>,
) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut config_maps, mut secrets) = (BTreeSet::new(), BTreeSet::new());
    for container in containers {
        for from in container.env_from.iter().flatten() {
            config_maps.extend(from.config_map_ref.as_ref().map(|reference| reference.name.clone()));
            secrets.extend(from.secret_ref.as_ref().map(|reference| reference.name.clone()));
        }
        for source in container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref()) {
            config_maps.extend(source.config_map_key_ref.as_ref().map(|reference| reference.name.clone()));
            secrets.extend(source.secret_key_ref.as_ref().map(|reference| reference.name.clone()));
        }
    }
    (config_maps, secrets)
}

/// Files of volumes that a container's environment takes: the volume's name and the path in it.
pub(crate) fn files(container: &Container) -> BTreeSet<(String, String)> {
    let sources = container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref());
    let files = sources.filter_map(|source| source.file_key_ref.as_ref());
    files.map(|file| (file.volume_name.clone(), file.path.clone())).collect()
}

/// The environment, in order; a name occurs once, with its last value. `services` are the variables that Services make:
/// the pod's own words come before them.
pub(crate) fn of(
    pod: &Pod,
    container: &Container,
    sources: &Sources,
    place: &Place,
    services: Vec<(String, String)>,
) -> Result<Vec<(String, String)>, Unresolved> {
    let mut environment = Environment::default();
    services.into_iter().for_each(|(name, value)| environment.set(name, value));
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        if let Some(reference) = &from.config_map_ref {
            match sources.config_maps.get(&reference.name) {
                Some(map) => {
                    environment.extend(prefix, map.data.iter().flatten().map(|(k, v)| (k, v.clone())))
                }
                None if reference.optional == Some(true) => {}
                None => return unresolved(format!("configmap \"{}\" not found", reference.name)),
            }
        }
        if let Some(reference) = &from.secret_ref {
            match sources.secrets.get(&reference.name) {
                Some(secret) => {
                    let data = secret.data.iter().flatten();
                    environment
                        .extend(prefix, data.map(|(k, v)| (k, String::from_utf8_lossy(&v.0).into_owned())));
                }
                None if reference.optional == Some(true) => {}
                None => return unresolved(format!("secret \"{}\" not found", reference.name)),
            }
        }
    }
    for variable in container.env.iter().flatten() {
        if let Some(value) = value_of(pod, container, variable, sources, place, &environment)? {
            environment.set(variable.name.clone(), value);
        }
    }
    Ok(environment.order)
}

/// Variables in the order of their first mention.
#[derive(Default)]
struct Environment {
    order: Vec<(String, String)>,
    at: BTreeMap<String, usize>,
}

impl Environment {
    fn set(&mut self, name: String, value: String) {
        match self.at.get(&name) {
            Some(at) => self.order[*at].1 = value,
            None => {
                self.at.insert(name.clone(), self.order.len());
                self.order.push((name, value));
            }
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.at.get(name).map(|at| self.order[*at].1.as_str())
    }

    fn extend<'a>(&mut self, prefix: &str, pairs: impl Iterator<Item = (&'a String, String)>) {
        for (key, value) in pairs {
            // A key that no environment can hold is left out, as upstream does.
            if !key.contains('=') && !value.contains('\0') {
                self.set(format!("{prefix}{key}"), value);
            }
        }
    }
}

fn value_of(
    pod: &Pod,
    container: &Container,
    variable: &EnvVar,
    sources: &Sources,
    place: &Place,
    before: &Environment,
) -> Result<Option<String>, Unresolved> {
    match &variable.value_from {
        None => {
            let value = variable.value.as_deref().unwrap_or_default();
            Ok(Some(expand(value, |name| before.get(name).map(str::to_owned))))
        }
        Some(source) => referred(pod, container, source, sources, place),
    }
}

fn referred(
    pod: &Pod,
    container: &Container,
    source: &EnvVarSource,
    sources: &Sources,
    place: &Place,
) -> Result<Option<String>, Unresolved> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    if let Some(field) = &source.field_ref {
        return field_value(pod, field, place).map(Some);
    }
    if let Some(field) = &source.resource_field_ref {
        return resource_value(container, field, place).map(Some);
    }
    if let Some(key) = &source.config_map_key_ref {
        let map = sources.config_maps.get(&key.name);
        let value = map.and_then(|map| map.data.as_ref()?.get(&key.key).cloned());
        return match (map, value) {
            (_, Some(value)) => Ok(Some(value)),
            _ if key.optional == Some(true) => Ok(None),
            (None, _) => unresolved(format!("configmap \"{}\" not found", key.name)),
            (Some(_), None) => {
                unresolved(format!("couldn't find key {} in ConfigMap {namespace}/{}", key.key, key.name))
            }
        };
    }
    if let Some(key) = &source.secret_key_ref {
        let secret = sources.secrets.get(&key.name);
        let value = secret.and_then(|secret| secret.data.as_ref()?.get(&key.key));
        return match (secret, value) {
            (_, Some(value)) => Ok(Some(String::from_utf8_lossy(&value.0).into_owned())),
            _ if key.optional == Some(true) => Ok(None),
            (None, _) => unresolved(format!("secret \"{}\" not found", key.name)),
            (Some(_), None) => {
                unresolved(format!("couldn't find key {} in Secret {namespace}/{}", key.key, key.name))
            }
        };
    }
    if let Some(key) = &source.file_key_ref {
        return of_file(key, sources);
    }
    unresolved("the variable's valueFrom names no source that this node knows")
}

/// The value that a file of a volume gives. One that is empty counts as none, as upstream.
fn of_file(key: &FileKeySelector, sources: &Sources) -> Result<Option<String>, Unresolved> {
    let FileKeySelector { key, optional, path, volume_name } = key;
    let file = sources.files.get(&(volume_name.clone(), path.clone()));
    let faulty = |why: String| {
        Unresolved(format!("couldn't parse env file: {path:?} of volume {volume_name:?}: {why}"))
    };
    let value = match file {
        None => {
            return unresolved(format!("cannot find the volume {volume_name:?} referenced by FileKeyRef"));
        }
        Some(Err(why)) => return Err(faulty(why.clone())),
        Some(Ok(None)) if *optional == Some(true) => return Ok(None),
        Some(Ok(None)) => return Err(faulty("there is no such file".to_owned())),
        Some(Ok(Some(text))) => env_file::value(text, key).map_err(faulty)?,
    };
    match value.filter(|value| !value.is_empty()) {
        None if *optional != Some(true) => {
            unresolved(format!("environment variable key {key:?} not found in file {path:?}"))
        }
        value => Ok(value),
    }
}

/// The value of a pod's field, as the downward API gives it.
pub(crate) fn field_value(
    pod: &Pod,
    field: &ObjectFieldSelector,
    place: &Place,
) -> Result<String, Unresolved> {
    let (meta, spec) = (&pod.metadata, pod.spec.as_ref());
    let text = |value: Option<&String>| Ok(value.cloned().unwrap_or_default());
    let joined = |ips: &[IpAddr]| ips.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(",");
    let first = |ips: &[IpAddr]| ips.first().map(IpAddr::to_string).unwrap_or_default();
    match field.field_path.as_str() {
        "metadata.name" => text(meta.name.as_ref()),
        "metadata.namespace" => text(meta.namespace.as_ref()),
        "metadata.uid" => text(meta.uid.as_ref()),
        "metadata.labels" => Ok(lines(meta.labels.as_ref())),
        "metadata.annotations" => Ok(lines(meta.annotations.as_ref())),
        "spec.nodeName" => text(spec.and_then(|spec| spec.node_name.as_ref())),
        "spec.serviceAccountName" => text(spec.and_then(|spec| spec.service_account_name.as_ref())),
        "status.hostIP" => Ok(first(&place.host_ips)),
        "status.hostIPs" => Ok(joined(&place.host_ips)),
        "status.podIP" => Ok(first(&place.pod_ips)),
        "status.podIPs" => Ok(joined(&place.pod_ips)),
        path => {
            let of = |map: Option<&BTreeMap<String, String>>, key: &str| {
                Ok(map.and_then(|map| map.get(key)).cloned().unwrap_or_default())
            };
            let subscript = |name: &str| path.strip_prefix(name)?.strip_prefix("['")?.strip_suffix("']");
            if let Some(key) = subscript("metadata.labels") {
                return of(meta.labels.as_ref(), key);
            }
            if let Some(key) = subscript("metadata.annotations") {
                return of(meta.annotations.as_ref(), key);
            }
            unresolved(format!("unsupported fieldPath: {path}"))
        }
    }
}

/// `key="value"` lines, as a downward API file shows labels.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    map.into_iter().flatten().map(|(key, value)| format!("{key}={value:?}")).collect::<Vec<_>>().join("\n")
}

/// The value of a container's request or limit, as the downward API gives it.
pub(crate) fn resource_value(
    container: &Container,
    field: &ResourceFieldSelector,
    place: &Place,
) -> Result<String, Unresolved> {
    let divisor = match &field.divisor {
        Some(divisor) if divisor.0 != "0" && !divisor.0.is_empty() => divisor.0.parse::<Quantity>(),
        _ => Ok(Quantity::from_units(1)),
    };
    let Ok(divisor) = divisor else { return unresolved("the divisor is not a quantity") };
    let Some((kind, name)) = field.resource.split_once('.') else {
        return unresolved(format!("unsupported container resource : {}", field.resource));
    };
    let amount = match kind {
        "requests" => resources::request(container, name).unwrap_or_default(),
        "limits" => match resources::limit(container, name).filter(|amount| !amount.is_zero()) {
            Some(amount) => amount,
            None => place.allocatable.get(name).copied().unwrap_or_default(),
        },
        _ => return unresolved(format!("unsupported container resource : {}", field.resource)),
    };
    // Both in thousandths, so that a divisor of 1m works; rounded up as upstream does.
    let divided = if name == "cpu" {
        div_ceil(amount.milli_value(), divisor.milli_value())
    } else {
        div_ceil(amount.value(), divisor.value())
    };
    Ok(divided.to_string())
}

fn div_ceil(amount: i64, by: i64) -> i64 {
    let by = by.max(1);
    amount / by + i64::from(amount % by > 0)
}

/// Replaces `$(NAME)` by what the name stands for. `$$` is a dollar; what is not known stays as it is.
pub(crate) fn expand(text: &str, value: impl Fn(&str) -> Option<String>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            expanded.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|rest| rest.split_once(')')) {
            expanded.push_str(&value(name).unwrap_or_else(|| format!("$({name})")));
            rest = after;
        } else {
            expanded.push('$');
        }
    }
    expanded + rest
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn expansion() {
        let check = |text: &str, expected: &str| {
            let value = |name: &str| (name == "A").then(|| "1".to_owned());
            assert_eq!(expand(text, value), expected, "{text}");
        };
        check("plain", "plain");
        check("$(A)$(A)-$(B)", "11-$(B)");
        check("$$(A) $$", "$(A) $");
        check("$A $( $(A", "$A $( $(A");
        check("$$$(A)", "$1");
        check("", "");
    }

    fn place() -> Place {
        Place {
            host_ips: vec!["10.0.0.1".parse().unwrap()],
            pod_ips: vec!["10.1.0.2".parse().unwrap()],
            allocatable: [("cpu".to_owned(), "4".parse().unwrap())].into(),
        }
    }

    fn resolve(container: serde_json::Value) -> Result<Vec<(String, String)>, String> {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"app": "web"}},
            "spec": {"nodeName": "here", "containers": [container]},
        }))
        .unwrap();
        let sources = Sources {
            config_maps: [(
                "c".to_owned(),
                serde_json::from_value(json!({"data": {"k": "v", "l": "w"}})).unwrap(),
            )]
            .into(),
            secrets: [("s".to_owned(), serde_json::from_value(json!({"data": {"k": "eA=="}})).unwrap())]
                .into(),
            files: [
                ("env", Ok(Some("A='1'\nE=''\n".to_owned()))),
                ("bad", Ok(Some("A=1".to_owned()))),
                ("none", Ok(None)),
            ]
            .map(|(path, read)| (("v".to_owned(), path.to_owned()), read))
            .into(),
        };
        of(&pod, &pod.spec.as_ref().unwrap().containers[0], &sources, &place(), vec![])
            .map_err(|error| error.0)
    }

    #[test]
    fn every_source() {
        let container = json!({
            "name": "c",
            "resources": {"limits": {"memory": "2Mi"}, "requests": {"cpu": "1500m"}},
            "envFrom": [
                {"prefix": "C_", "configMapRef": {"name": "c"}},
                {"secretRef": {"name": "s"}},
                {"secretRef": {"name": "none", "optional": true}},
            ],
            "env": [
                {"name": "A", "value": "1"},
                {"name": "B", "value": "$(A)/$(C_k)/$(LATER)"},
                {"name": "C_l", "value": "replaced"},
                {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                {"name": "MILLI", "valueFrom": {"resourceFieldRef": {"resource": "requests.cpu", "divisor": "1m"}}},
                {"name": "CPUS", "valueFrom": {"resourceFieldRef": {"resource": "requests.cpu"}}},
                {"name": "MIB", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
                {"name": "KEY", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}},
                {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                {"name": "FILE", "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": "env", "key": "A"}}},
                {"name": "NOT", "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": "env", "key": "B", "optional": true}}},
                {"name": "NEITHER", "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": "none", "key": "A", "optional": true}}},
                {"name": "GONE", "valueFrom": {"secretKeyRef": {"name": "s", "key": "none", "optional": true}}},
            ],
        });
        let expected = [
            ("C_k", "v"),
            ("C_l", "replaced"),
            ("k", "x"),
            ("A", "1"),
            ("B", "1/v/$(LATER)"),
            ("NAME", "p"),
            ("APP", "web"),
            ("IP", "10.1.0.2"),
            ("CPU", "4"),
            ("MILLI", "1500"),
            ("CPUS", "2"),
            ("MIB", "2"),
            ("KEY", "v"),
            ("SECRET", "x"),
            ("FILE", "1"),
        ];
        let expected: Vec<_> = expected.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        assert_eq!(resolve(container).unwrap(), expected);
    }

    #[test]
    fn what_is_missing_is_named() {
        let check = |source: serde_json::Value, message: &str| {
            let container = json!({"name": "c", "env": [{"name": "A", "valueFrom": source}]});
            assert_eq!(resolve(container).unwrap_err(), message);
        };
        check(json!({"configMapKeyRef": {"name": "no", "key": "k"}}), "configmap \"no\" not found");
        check(
            json!({"configMapKeyRef": {"name": "c", "key": "no"}}),
            "couldn't find key no in ConfigMap n/c",
        );
        check(json!({"secretKeyRef": {"name": "s", "key": "no"}}), "couldn't find key no in Secret n/s");
        let file = |volume: &str, path: &str, key: &str| json!({"fileKeyRef": {"volumeName": volume, "path": path, "key": key}});
        check(file("w", "env", "A"), "cannot find the volume \"w\" referenced by FileKeyRef");
        let parse = "couldn't parse env file: ";
        check(file("v", "none", "A"), &format!("{parse}\"none\" of volume \"v\": there is no such file"));
        let why = "line 1: the value is not in single quotes";
        check(file("v", "bad", "A"), &format!("{parse}\"bad\" of volume \"v\": {why}"));
        for key in ["B", "E"] {
            let words = format!("environment variable key \"{key}\" not found in file \"env\"");
            check(file("v", "env", key), &words);
        }
        check(json!({"fieldRef": {"fieldPath": "spec.hostname"}}), "unsupported fieldPath: spec.hostname");
    }
}
