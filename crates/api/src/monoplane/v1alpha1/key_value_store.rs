//! Key-value stores.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CapabilityStatus, shape};

/// The fields of the spec of which exactly one is set.
pub(super) const BACKENDS: [&str; 2] = ["embedded", "redis"];

/// A key-value store that components may be given. What keeps the entries can be changed here at any time; the components
/// do not notice.
#[derive(CustomResource, Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq, Default)]
#[kube(
    group = "monoplane.dev",
    version = "v1alpha1",
    kind = "KeyValueStore",
    namespaced,
    status = "CapabilityStatus",
    derive = "PartialEq",
    derive = "Default",
    shortname = "kvs",
    category = "all",
    doc = "A key-value store that components may be given. What keeps the entries can be changed here at any time; the components do not notice.",
    printcolumn = r#"{"name":"Backend","type":"string","jsonPath":".status.backend"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct KeyValueStoreSpec {
    /// The edge keeps the entries itself, on its own disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedded: Option<EmbeddedStore>,
    /// A Redis server keeps the entries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<RedisStore>,
}

/// The edge keeps the entries itself, on its own disk.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq, Default)]
pub struct EmbeddedStore {}

/// A Redis server keeps the entries.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct RedisStore {
    /// Where it is: redis://HOST:PORT/DATABASE.
    #[schemars(schema_with = "shape::redis_address")]
    pub address: String,
    /// What the keys of this store begin with on the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_prefix: Option<String>,
    /// A Secret with the password and, if there is one, the username.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,
}

impl KeyValueStoreSpec {
    /// The name of the backend that is chosen; `None` unless it is exactly one.
    pub fn backend(&self) -> Option<&'static str> {
        let set = [self.embedded.is_some(), self.redis.is_some()];
        let mut chosen = BACKENDS.into_iter().zip(set).filter_map(|(name, set)| set.then_some(name));
        chosen.next().filter(|_| chosen.next().is_none())
    }

    /// The Secret that the chosen backend's credentials are in.
    pub fn secret_name(&self) -> Option<&str> {
        self.redis.as_ref()?.secret_name.as_deref()
    }
}
