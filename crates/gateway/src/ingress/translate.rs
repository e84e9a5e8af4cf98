//! What an Ingress asks for, as routes and names. Pure.

use std::sync::Arc;

use client::ResourceExt as _;
use k8s_openapi::api::networking::v1::{HTTPIngressPath, Ingress, IngressBackend, IngressClass};

use crate::routing::{HostPattern, InvalidRoute, PathMatch, PathPrefix};

/// The controller that IngressClasses of ours name.
pub const CONTROLLER: &str = "monoplane.dev/gateway";
/// How a class was named before there was a field for it.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

/// A port of a Service in the Ingress's namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct BackendRef {
    pub(super) service: String,
    pub(super) port: PortRef,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum PortRef {
    Number(i32),
    Name(String),
}

impl std::fmt::Display for PortRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// Something of an Ingress that is not served as it says: the reason and the message of an event.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Problem {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Problem {
    pub(super) fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// A certificate's Secret, and the hosts that it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Encrypted {
    pub(super) secret: String,
    pub(super) hosts: Vec<HostPattern>,
}

/// What an Ingress asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) routes: Vec<(HostPattern, PathMatch, BackendRef)>,
    pub(super) encrypted: Vec<Encrypted>,
    pub(super) problems: Vec<Problem>,
}

/// Whether the Ingress is this controller's: by its class, or by the annotation that did the same once.
pub(super) fn is_ours(ingress: &Ingress, classes: &[Arc<IngressClass>]) -> bool {
    let named = ingress.spec.as_ref().and_then(|spec| spec.ingress_class_name.as_deref());
    let named = named.or_else(|| ingress.annotations().get(CLASS_ANNOTATION).map(String::as_str));
    let Some(class) = classes.iter().find(|class| Some(class.name_any().as_str()) == named) else {
        return false;
    };
    class.spec.as_ref().and_then(|spec| spec.controller.as_deref()) == Some(CONTROLLER)
}

/// Reads an Ingress. What cannot be served is a problem, and the rest is served.
pub(super) fn wanted(ingress: &Ingress) -> Wanted {
    let mut found = Wanted::default();
    let Some(spec) = &ingress.spec else { return found };
    let mut hosts: Vec<HostPattern> = Vec::new();
    for (index, rule) in spec.rules.iter().flatten().enumerate() {
        let Some(host) = found.host(rule.host.as_deref(), &format!("spec.rules[{index}]")) else { continue };
        // The same host may stand in more than one rule.
        if !hosts.contains(&host) {
            hosts.push(host.clone());
        }
        let paths = rule.http.iter().flat_map(|http| &http.paths).enumerate();
        for (number, path) in paths {
            found.path(&host, path, &format!("spec.rules[{index}].http.paths[{number}]"));
        }
    }
    if let Some(backend) = &spec.default_backend
        && let Some(backend) = found.backend(backend, "spec.defaultBackend")
    {
        // What none of its rules takes, and then what nobody's do.
        let mut fallback = hosts.clone();
        if !fallback.contains(&HostPattern::Any) {
            fallback.push(HostPattern::Any);
        }
        found.routes.extend(fallback.into_iter().map(|host| (host, PathMatch::Rest, backend.clone())));
    }
    for (index, tls) in spec.tls.iter().flatten().enumerate() {
        let Some(secret) = tls.secret_name.clone().filter(|name| !name.is_empty()) else { continue };
        let own = tls.hosts.as_deref().unwrap_or_default();
        let named = |host: &String| found.host(Some(host), &format!("spec.tls[{index}]"));
        // Without hosts it is for all of the Ingress's.
        let hosts = if own.is_empty() { hosts.clone() } else { own.iter().filter_map(named).collect() };
        found.encrypted.push(Encrypted { secret, hosts });
    }
    found
}

impl Wanted {
    fn host(&mut self, host: Option<&str>, at: &str) -> Option<HostPattern> {
        match HostPattern::parse(host.filter(|host| !host.is_empty())) {
            Ok(host) => Some(host.of_one_label()),
            Err(error) => {
                self.problems.push(Problem::new("HostInvalid", format!("{at}.{error}")));
                None
            }
        }
    }

    fn path(&mut self, host: &HostPattern, path: &HTTPIngressPath, at: &str) {
        let text = path.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
        let read: Result<PathMatch, InvalidRoute> = match path.path_type.as_str() {
            "Exact" => Ok(PathMatch::Exact(text.into())),
            // What is specific to this implementation is that it is a prefix.
            _ => PathPrefix::parse(text).map(PathMatch::from),
        };
        match read {
            Ok(matched) => {
                if let Some(backend) = self.backend(&path.backend, &format!("{at}.backend")) {
                    self.routes.push((host.clone(), matched, backend));
                }
            }
            Err(error) => self.problems.push(Problem::new("PathInvalid", format!("{at}.{error}"))),
        }
    }

    fn backend(&mut self, backend: &IngressBackend, at: &str) -> Option<BackendRef> {
        let Some(service) = &backend.service else {
            let message = format!("{at}.resource: backends other than Services are not served");
            self.problems.push(Problem::new("BackendUnsupported", message));
            return None;
        };
        let port = service.port.as_ref()?;
        let named = port.name.clone().filter(|name| !name.is_empty()).map(PortRef::Name);
        let port = named.or(port.number.map(PortRef::Number))?;
        Some(BackendRef { service: service.name.clone(), port })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(spec: Value) -> Wanted {
        wanted(&serde_json::from_value(json!({"metadata": {"name": "a"}, "spec": spec})).unwrap())
    }

    fn backend(name: &str) -> Value {
        json!({"service": {"name": name, "port": {"number": 80}}})
    }

    fn shown(wanted: &Wanted) -> Vec<String> {
        let line = |(host, path, to): &(HostPattern, PathMatch, BackendRef)| {
            let kind = match path {
                PathMatch::Exact(_) => "=",
                PathMatch::Prefix(_) => "^",
                PathMatch::Rest => "~",
            };
            format!("{host} {kind}{path} {}:{}", to.service, to.port)
        };
        wanted.routes.iter().map(line).collect()
    }

    #[test]
    fn rules_paths_and_the_default_become_routes() {
        let path = |path: &str, kind: &str, to: &str| json!({"path": path, "pathType": kind, "backend": backend(to)});
        let found = read(json!({
            "defaultBackend": {"service": {"name": "rest", "port": {"name": "http"}}},
            "rules": [
                {"host": "a.test", "http": {"paths": [
                    path("/x", "Exact", "one"), path("/y/", "Prefix", "two"), path("", "ImplementationSpecific", "three"),
                ]}},
                {"host": "*.b.test", "http": {"paths": [path("/re?x", "ImplementationSpecific", "four")]}},
                {"host": "a.test"},
            ],
        }));
        let expected = [
            "a.test =/x one:80",
            "a.test ^/y two:80",
            "a.test ^/ three:80",
            "a.test ~/ rest:http",
            "*.b.test ~/ rest:http",
            "* ~/ rest:http",
        ];
        assert_eq!(shown(&found), expected);
        let problem = &found.problems[0];
        assert_eq!((found.problems.len(), problem.reason), (1, "PathInvalid"));
        assert!(
            problem.message.starts_with("spec.rules[1].http.paths[0].path: Invalid value: \"/re?x\": "),
            "{problem:?}"
        );
    }

    #[test]
    fn a_resource_is_no_backend_that_is_served() {
        let found = read(json!({"defaultBackend": {"resource": {"kind": "Bucket", "name": "b"}}}));
        assert_eq!(found.routes, []);
        assert_eq!(found.problems[0].reason, "BackendUnsupported");
    }

    #[test]
    fn a_certificate_is_for_its_hosts_or_for_all() {
        let found = read(json!({
            "rules": [{"host": "a.test"}, {"host": "*.b.test"}],
            "tls": [{"secretName": "one", "hosts": ["c.test"]}, {"secretName": "two"}, {"hosts": ["d.test"]}],
        }));
        let shown: Vec<_> = found
            .encrypted
            .iter()
            .map(|one| (one.secret.as_str(), one.hosts.iter().map(ToString::to_string).collect::<Vec<_>>()))
            .collect();
        let expected =
            [("one", vec!["c.test".to_owned()]), ("two", vec!["a.test".to_owned(), "*.b.test".to_owned()])];
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_class_of_this_controller_makes_an_ingress_ours() {
        let class = |name: &str, controller: &str| -> Arc<IngressClass> {
            let class = json!({"metadata": {"name": name}, "spec": {"controller": controller}});
            Arc::new(serde_json::from_value(class).unwrap())
        };
        let classes = [class("own", CONTROLLER), class("other", "x.test/y")];
        for (metadata, spec, ours) in [
            (json!({}), json!({"ingressClassName": "own"}), true),
            (json!({}), json!({"ingressClassName": "other"}), false),
            (json!({}), json!({"ingressClassName": "gone"}), false),
            (json!({}), json!({}), false),
            (json!({"annotations": {CLASS_ANNOTATION: "own"}}), json!({}), true),
            (json!({"annotations": {CLASS_ANNOTATION: "own"}}), json!({"ingressClassName": "other"}), false),
        ] {
            let ingress = serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap();
            assert_eq!(is_ours(&ingress, &classes), ours, "{metadata} {spec}");
        }
    }
}
