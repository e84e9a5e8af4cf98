//! Version `v1alpha1`: components and key-value stores.

mod backend;
mod key_value_store;

use std::collections::BTreeMap;

use apimachinery::quantity::Quantity;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime};
use kube::core::Duration;
use kube::{CustomResource, CustomResourceExt as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shape;

pub use backend::CapabilityStatus;
pub use key_value_store::{EmbeddedStore, KeyValueStore, KeyValueStoreSpec, RedisStore};

/// The group and version of every kind here.
pub const API_VERSION: &str = "monoplane.dev/v1alpha1";

/// The type of the condition that says whether an object works.
pub const READY: &str = "Ready";

/// Why a component is ready, or is not.
pub mod component_reason {
    /// It answers requests.
    pub const READY: &str = "Ready";
    /// Its code is being compiled.
    pub const COMPILING: &str = "Compiling";
    /// The source cannot be had, or is no component.
    pub const SOURCE_INVALID: &str = "SourceInvalid";
    /// The compiler refused it, or took too much.
    pub const COMPILE_FAILED: &str = "CompileFailed";
    /// It imports what no capability offers.
    pub const IMPORTS_UNSATISFIED: &str = "ImportsUnsatisfied";
    /// A store that it binds does not exist or is not ready.
    pub const STORE_NOT_FOUND: &str = "StoreNotFound";
    /// An older object has one of its routes.
    pub const ROUTE_CONFLICT: &str = "RouteConflict";
}

/// A WebAssembly component that is served on demand: each request to one of its routes gets a fresh instance. It can
/// reach nothing but what is granted here.
#[derive(CustomResource, Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Default)]
#[kube(
    group = "monoplane.dev",
    version = "v1alpha1",
    kind = "Component",
    namespaced,
    status = "ComponentStatus",
    derive = "PartialEq",
    derive = "Default",
    category = "all",
    doc = "A WebAssembly component that is served on demand: each request to one of its routes gets a fresh instance. It can reach nothing but what is granted here.",
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].reason"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ComponentSpec {
    /// Where the component's bytes come from: exactly one of the fields.
    pub source: ComponentSource,
    /// Which requests reach the component. The longest matching path wins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Key-value stores that the component may open, by the names that it knows them by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "shape::key_value")]
    pub key_value: Vec<KeyValueBinding>,
    /// Environment variables that the component sees.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "shape::environment")]
    pub environment: Vec<EnvironmentVariable>,
    /// Hosts that the component may send HTTP requests to, such as http://example.com:8080.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "shape::outbound_hosts")]
    pub allowed_outbound_hosts: Vec<String>,
    /// What one request may take.
    #[serde(default)]
    pub limits: Limits,
    /// Makes each invocation durable: its calls to the host are journaled, and it goes on after a crash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durable: Option<Durable>,
}

/// Where a component's bytes come from: exactly one of the fields.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ComponentSource {
    /// The bytes of the component, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "shape::inline_source")]
    pub inline: Option<String>,
    /// A file on the machine of the edge. For development on one machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "shape::path_source")]
    pub path: Option<String>,
}

/// Requests that reach a component.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// A host name, *.suffix for every host below one, or nothing for every host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "shape::host")]
    pub host: Option<String>,
    /// The beginning of the path, segment by segment.
    #[serde(default = "root")]
    #[schemars(schema_with = "shape::route_path")]
    pub path: String,
}

fn root() -> String {
    "/".to_owned()
}

impl Default for Route {
    fn default() -> Self {
        Self { host: None, path: root() }
    }
}

/// A key-value store that a component may open.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct KeyValueBinding {
    /// The name by which the component opens the store.
    #[serde(default = "default_store")]
    #[schemars(schema_with = "shape::binding_name")]
    pub name: String,
    /// The KeyValueStore of the same namespace that it gets.
    pub store: String,
}

fn default_store() -> String {
    "default".to_owned()
}

/// An environment variable.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentVariable {
    /// Its name.
    pub name: String,
    /// Its value.
    #[serde(default)]
    pub value: String,
}

/// What one request may take.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Limits {
    /// Memory of one instance.
    #[schemars(schema_with = "shape::memory")]
    pub memory: Quantity,
    /// Time from the request to the end of the answer, without durable sleeps.
    #[schemars(schema_with = "shape::wall_time")]
    pub wall_time: Duration,
    /// Requests at the same time; more wait.
    #[schemars(schema_with = "shape::concurrency")]
    pub concurrency: u32,
    /// Bytes of a request's body.
    #[schemars(schema_with = "shape::request_body")]
    pub request_body: Quantity,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: Quantity::from_bytes(128 << 20),
            wall_time: std::time::Duration::from_secs(30).into(),
            concurrency: 1000,
            request_body: Quantity::from_bytes(1 << 20),
        }
    }
}

/// How durable invocations behave.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Durable {
    /// A sleep longer than this takes the invocation out of memory until it is over.
    #[schemars(schema_with = "shape::suspend_after")]
    pub suspend_after: Duration,
    /// How long an invocation's id and reply are kept after its end. The same id begins a new invocation then.
    #[schemars(schema_with = "shape::retention")]
    pub retention: Duration,
}

impl Default for Durable {
    fn default() -> Self {
        Self {
            suspend_after: std::time::Duration::from_secs(1).into(),
            retention: std::time::Duration::from_secs(24 * 60 * 60).into(),
        }
    }
}

/// What is known about a component.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ComponentStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Since when the component claims each of its hosts: the first namespace to claim a host owns it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "shape::claimed_hosts")]
    pub hosts: Option<Vec<ClaimedHost>>,
    /// SHA-256 of the component's bytes, as sha256:HEX.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Whether the component answers, and if not, why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "shape::conditions")]
    pub conditions: Vec<Condition>,
}

/// A host that a component claims.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ClaimedHost {
    /// As in the component's routes; * where none is named.
    pub host: String,
    /// Since when.
    pub claimed_at: MicroTime,
}

/// The kinds' definitions, made from these types.
pub fn crds() -> Vec<CustomResourceDefinition> {
    let mut component = Component::crd();
    shape::exactly_one(&mut component, &["spec", "source"], &["inline", "path"]);
    shape::never_null(&mut component, &["spec", "limits", "memory"]);
    shape::never_null(&mut component, &["spec", "limits", "requestBody"]);
    let mut store = KeyValueStore::crd();
    shape::exactly_one(&mut store, &["spec"], &key_value_store::BACKENDS);
    vec![component, store]
}

/// The environment of a component as a map.
pub fn environment(spec: &ComponentSpec) -> BTreeMap<&str, &str> {
    spec.environment.iter().map(|entry| (entry.name.as_str(), entry.value.as_str())).collect()
}
