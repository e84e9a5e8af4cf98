//! ComponentStatuses: made from the server's own health at each request, as they are nowhere stored.
//!
//! Upstream deprecated them, and shows two other processes and the store. Here these are parts of the server's own process,
//! so that whoever gets an answer knows that they run; the store has a check of its own.

use apimachinery::status::Status;
use registry::Kind;
use serde_json::{Value, json};

use crate::server::ApiServer;

/// Whether that kind is this one.
pub(crate) fn is(kind: &Kind) -> bool {
    kind.group.is_empty() && kind.plural == "componentstatuses"
}

/// All of them.
pub(super) fn all(server: &ApiServer) -> Vec<Value> {
    let store = server.registry.is_following();
    let parts = [("controller-manager", true), ("etcd-0", store), ("scheduler", true)];
    parts.into_iter().map(|(name, is_healthy)| component(name, is_healthy)).collect()
}

/// The one of that name.
pub(super) fn one(server: &ApiServer, kind: &Kind, name: &str) -> Result<Value, Status> {
    let found = all(server).into_iter().find(|component| component["metadata"]["name"] == name);
    let resource = apimachinery::gvk::GroupResource::new(kind.group.clone(), kind.plural.clone());
    found.ok_or_else(|| Status::not_found(&resource, name))
}

fn component(name: &str, is_healthy: bool) -> Value {
    let condition = if is_healthy {
        json!({"type": "Healthy", "status": "True", "message": "ok"})
    } else {
        json!({"type": "Healthy", "status": "False", "error": "the store does not answer"})
    };
    json!({"metadata": {"name": name}, "conditions": [condition]})
}
