//! From an object's spec to the component host's plain values. Pure.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use api::monoplane::v1alpha1::{
    Component, ComponentSource, Limits as SpecLimits, component_reason as reason,
};
use base64::Engine as _;
use bytes::Bytes;
use durable::Terms;
use kube::ResourceExt as _;
use wasm::{AllowedHost, Artifact, ComponentSpec, Limits};

use crate::routing::{HostPattern, PathPrefix};

/// The reason of a component one of whose routes cannot be one.
pub(super) const ROUTE_INVALID: &str = "RouteInvalid";
/// The reason of a component one of whose other fields the host cannot take.
pub(super) const SPEC_INVALID: &str = "SpecInvalid";

/// The most that components may ask for. What asks for more is refused, and its condition names the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Maxima {
    /// Bytes of an instance's memory.
    pub memory: u64,
    /// Bytes of a request's body.
    pub request_body: u64,
    /// Time from the request to the end of the answer.
    pub wall_time: Duration,
    /// Requests at the same time.
    pub concurrency: u32,
}

impl Default for Maxima {
    fn default() -> Self {
        Self {
            memory: 1 << 30,
            request_body: 64 << 20,
            wall_time: Duration::from_secs(15 * 60),
            concurrency: 10_000,
        }
    }
}

/// Why a component does not answer: what its condition will say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(reason: &'static str, message: impl fmt::Display) -> Self {
        Self { reason, message: message.to_string() }
    }
}

/// Where the bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Inline(Bytes),
    File(PathBuf),
}

/// Reads where a component's bytes are. Files only where the operator lets components name them.
pub(super) fn source(source: &ComponentSource, allow_files: bool) -> Result<Source, Refusal> {
    let invalid = |message: String| Err(Refusal::new(reason::SOURCE_INVALID, message));
    match (&source.inline, &source.path) {
        (Some(inline), None) => match base64::engine::general_purpose::STANDARD.decode(inline) {
            Ok(bytes) => Ok(Source::Inline(bytes.into())),
            Err(error) => invalid(format!("spec.source.inline: Invalid value: not base64: {error}")),
        },
        (None, Some(_)) if !allow_files => {
            invalid("spec.source.path: Forbidden: this edge does not read components from files".into())
        }
        (None, Some(path)) => Ok(Source::File(path.into())),
        _ => invalid("spec.source: Required value: exactly one of inline and path".into()),
    }
}

/// The routes of a component; those that cannot be ones are left out and named in the refusal.
pub(super) fn routes(component: &Component) -> (Vec<(HostPattern, PathPrefix)>, Option<Refusal>) {
    let mut routes = Vec::new();
    let mut refusal = None;
    for (index, route) in component.spec.routes.iter().enumerate() {
        let parsed = HostPattern::parse(route.host.as_deref())
            .and_then(|host| PathPrefix::parse(&route.path).map(|path| (host, path)));
        match parsed {
            Ok(route) => routes.push(route),
            Err(error) => {
                let message = format!("spec.routes[{index}].{error}");
                refusal.get_or_insert(Refusal::new(ROUTE_INVALID, message));
            }
        }
    }
    (routes, refusal)
}

/// The full names of the stores that a component binds, by the names that it knows them by.
pub(super) fn stores(component: &Component) -> impl Iterator<Item = (&str, String)> {
    let namespace = component.namespace().unwrap_or_default();
    let bindings = component.spec.key_value.iter();
    bindings.map(move |binding| (binding.name.as_str(), format!("{namespace}/{}", binding.store)))
}

/// How invocations of a durable component are treated; `None` for other components.
pub(super) fn terms(component: &Component) -> Option<Terms> {
    let durable = component.spec.durable.as_ref()?;
    let retention = Some(positive(durable.retention));
    Some(Terms { suspend_after: positive(durable.suspend_after), retention })
}

/// What the host is told to give the compiled component.
pub(super) fn spec(
    component: &Component,
    artifact: Artifact,
    maxima: &Maxima,
    store: impl Fn(&str) -> capabilities::Store,
) -> Result<ComponentSpec, Refusal> {
    let hosts = component.spec.allowed_outbound_hosts.iter().enumerate();
    let hosts = hosts.map(|(index, host)| {
        host.parse::<AllowedHost>().map_err(|error| {
            Refusal::new(SPEC_INVALID, format!("spec.allowedOutboundHosts[{index}]: Invalid value: {error}"))
        })
    });
    let environment =
        component.spec.environment.iter().map(|entry| (entry.name.clone(), entry.value.clone()));
    Ok(ComponentSpec {
        environment: environment.collect(),
        key_value: stores(component).map(|(name, full)| (name.to_owned(), store(&full))).collect(),
        allowed_outbound_hosts: hosts.collect::<Result<_, _>>()?,
        limits: limits(&component.spec.limits, maxima)?,
        durable: component.spec.durable.is_some(),
        ..ComponentSpec::new(artifact)
    })
}

fn limits(spec: &SpecLimits, maxima: &Maxima) -> Result<Limits, Refusal> {
    let refused = |field: &str, value: String, why: String| {
        Refusal::new(SPEC_INVALID, format!("spec.limits.{field}: Invalid value: {value}: {why}"))
    };
    let zero = || "must be greater than zero".to_owned();
    let most = |most: String| format!("must be at most {most}, which is what this edge allows");
    let wall_time = positive(spec.wall_time);
    if wall_time.is_zero() {
        return Err(refused("wallTime", format!("{wall_time:?}"), zero()));
    }
    if wall_time > maxima.wall_time {
        let why = most(format!("{:?}", maxima.wall_time));
        return Err(refused("wallTime", format!("{wall_time:?}"), why));
    }
    if spec.concurrency > maxima.concurrency {
        let why = most(maxima.concurrency.to_string());
        return Err(refused("concurrency", spec.concurrency.to_string(), why));
    }
    let bytes = |field: &str, value: i64, maximum: u64| match u64::try_from(value) {
        Ok(bytes) if bytes > maximum => {
            Err(refused(field, value.to_string(), most(format!("{maximum} bytes"))))
        }
        Ok(bytes) if bytes > 0 => Ok(bytes),
        _ => Err(refused(field, value.to_string(), zero())),
    };
    let memory = bytes("memory", spec.memory.value(), maxima.memory)?;
    Ok(Limits {
        memory: usize::try_from(memory).unwrap_or(usize::MAX),
        wall_time,
        concurrency: spec.concurrency.max(1),
        request_body: bytes("requestBody", spec.request_body.value(), maxima.request_body)?,
        ..Limits::default()
    })
}

fn positive(duration: kube::core::Duration) -> Duration {
    if duration.is_negative() { Duration::ZERO } else { duration.into() }
}

#[cfg(test)]
mod tests {
    use api::monoplane::v1alpha1::{KeyValueBinding, Route};

    use super::*;

    #[test]
    fn a_source_is_one_of_two() {
        let of = |inline: Option<&str>, path: Option<&str>, allow| {
            let given = ComponentSource { inline: inline.map(Into::into), path: path.map(Into::into) };
            source(&given, allow).map_err(|refusal| refusal.message)
        };
        assert_eq!(of(Some("AGFzbQ=="), None, false), Ok(Source::Inline(Bytes::from_static(b"\0asm"))));
        assert_eq!(of(None, Some("/a.wasm"), true), Ok(Source::File("/a.wasm".into())));
        assert!(of(None, Some("/a.wasm"), false).unwrap_err().starts_with("spec.source.path: Forbidden"));
        assert!(of(Some("*"), None, true).unwrap_err().starts_with("spec.source.inline: Invalid value"));
        for (inline, path) in [(None, None), (Some("AA=="), Some("/a"))] {
            assert!(of(inline, path, true).unwrap_err().contains("exactly one of"));
        }
    }

    #[test]
    fn a_bad_route_is_named_and_the_others_stand() {
        let mut component = Component::default();
        component.spec.routes = vec![
            Route { host: None, path: "/a".into() },
            Route { host: Some("bad host".into()), path: "/".into() },
            Route { host: None, path: "b".into() },
        ];
        let (routes, refusal) = routes(&component);
        assert_eq!(routes.len(), 1);
        let refusal = refusal.unwrap();
        assert_eq!(refusal.reason, ROUTE_INVALID);
        assert!(refusal.message.starts_with("spec.routes[1].host: Invalid value"), "{}", refusal.message);
    }

    #[test]
    fn stores_stay_in_the_namespace() {
        let mut component = Component::default();
        component.metadata.namespace = Some("shop".into());
        component.spec.key_value = vec![KeyValueBinding { name: "default".into(), store: "links".into() }];
        assert_eq!(stores(&component).collect::<Vec<_>>(), [("default", "shop/links".to_owned())]);
    }

    #[test]
    fn terms_are_those_of_a_durable_component() {
        let mut component = Component::default();
        assert_eq!(terms(&component), None);
        component.spec.durable = Some(Default::default());
        let day = Duration::from_secs(24 * 60 * 60);
        let expected = Terms { suspend_after: Duration::from_secs(1), retention: Some(day) };
        assert_eq!(terms(&component), Some(expected));
    }

    #[test]
    fn limits_of_nothing_are_refused() {
        let mut spec = SpecLimits::default();
        let maxima = Maxima::default();
        let found = limits(&spec, &maxima).unwrap();
        assert_eq!((found.memory, found.concurrency), (128 << 20, 1000));
        spec.memory = "0".parse().unwrap();
        assert_eq!(limits(&spec, &maxima).unwrap_err().reason, SPEC_INVALID);
        let spec = SpecLimits { wall_time: Duration::ZERO.into(), ..SpecLimits::default() };
        assert!(limits(&spec, &maxima).unwrap_err().message.contains("wallTime"));
    }

    #[test]
    fn limits_beyond_the_operators_are_refused_by_name() {
        let maxima = Maxima::default();
        let spec = SpecLimits::default;
        for (field, spec) in [
            ("memory", SpecLimits { memory: "1025Mi".parse().unwrap(), ..spec() }),
            ("requestBody", SpecLimits { request_body: "65Mi".parse().unwrap(), ..spec() }),
            ("wallTime", SpecLimits { wall_time: Duration::from_secs(901).into(), ..spec() }),
            ("concurrency", SpecLimits { concurrency: 10_001, ..spec() }),
        ] {
            let refusal = limits(&spec, &maxima).unwrap_err();
            assert_eq!(refusal.reason, SPEC_INVALID);
            let start = format!("spec.limits.{field}: Invalid value: ");
            assert!(refusal.message.starts_with(&start), "{}", refusal.message);
            assert!(refusal.message.contains("must be at most"), "{}", refusal.message);
        }
    }
}
