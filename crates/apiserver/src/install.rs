//! What the server itself brings in at each start: the objects that every plane begins with, and the bootstrap roles and
//! bindings, through its own front door.

use std::sync::Arc;
use std::time::Duration;

use apimachinery::status::Status;
use auth::bootstrap::{self, Step};
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full};
use serde_json::Value;

use crate::{ApiServer, Connection};

/// What makes a step of one stored object (if there is one) and the wanted one.
type Reconcile = fn(&Value, Option<&Value>) -> Step;

/// How often it is looked whether the policy is in force, and for how long in between.
const LOOKS: usize = 1000;
const LOOK: Duration = Duration::from_millis(5);

/// How often a step is tried again when somebody wrote in between.
const TRIES: usize = 5;

impl ApiServer {
    /// Creates these objects, each before the next, where they are missing, and then installs the policy; over a
    /// connection of the bootstrap identity. Afterwards the server is ready.
    ///
    /// # Errors
    /// When a request is refused or cannot be served.
    pub async fn install(self: &Arc<Self>, connection: &Connection, objects: &[Value]) -> Result<(), Status> {
        for object in objects {
            let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            let api_version = text("/apiVersion");
            let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
            let kinds = self.registry.kinds();
            let kind = kinds.by_kind(group, version, text("/kind")).ok_or_else(Status::no_such_path)?;
            let root = if group.is_empty() { "/api" } else { "/apis" };
            let (namespace, name) = names(object);
            let within =
                if namespace.is_empty() { String::new() } else { format!("/namespaces/{namespace}") };
            let path = format!("{root}/{api_version}{within}/{}", kind.plural);
            if self.call(connection, Method::GET, &format!("{path}/{name}"), None).await.is_ok() {
                // No webhook is asked about what is there already: it may be down until this server is up.
                continue;
            }
            match self.call(connection, Method::POST, &path, Some(object)).await {
                // Somebody has taken what it needs: the plane lives without it, and says so.
                Err(status) if status.code == 422 => {
                    tracing::warn!(path, error = status.message, "an object of every plane cannot be made");
                }
                Err(status) if !status.is_already_exists() => return Err(status),
                _ => {}
            }
        }
        self.install_policy(connection).await
    }

    /// Brings the stored roles and bindings up to upstream's, and waits until they are in force.
    async fn install_policy(self: &Arc<Self>, connection: &Connection) -> Result<(), Status> {
        let tables: [(&str, Vec<Value>, Reconcile); 4] = [
            ("clusterroles", bootstrap::cluster_roles(), bootstrap::reconcile_role),
            ("clusterrolebindings", bootstrap::cluster_role_bindings(), bootstrap::reconcile_binding),
            ("roles", bootstrap::roles(), bootstrap::reconcile_role),
            ("rolebindings", bootstrap::role_bindings(), bootstrap::reconcile_binding),
        ];
        for (plural, wanted, reconcile) in &tables {
            // One list rather than a read for each: most starts find everything in place.
            let stored = self.call(connection, Method::GET, &format!("{API}/{plural}"), None).await?;
            let stored = stored["items"].as_array().cloned().unwrap_or_default();
            let steps = wanted.iter().map(|object| {
                let known = stored.iter().find(|known| names(known) == names(object));
                async move { self.bring_in(connection, plural, object, known.cloned(), *reconcile).await }
            });
            // Side by side: the store makes one group commit of many.
            futures::future::try_join_all(steps).await?;
        }
        self.authorization.synced().await;
        // What was just written reaches the authorizer by its own watch. If somebody takes it away again, so be it.
        let wanted =
            || tables.iter().flat_map(|(plural, wanted, _)| wanted.iter().map(move |each| (*plural, each)));
        for _ in 0..LOOKS {
            if wanted().all(|(plural, object)| self.authorization.has(plural, names(object))) {
                break;
            }
            self.clock.sleep(LOOK).await;
        }
        self.readiness.policy_is_installed();
        Ok(())
    }

    async fn bring_in(
        self: &Arc<Self>,
        connection: &Connection,
        plural: &str,
        wanted: &Value,
        mut stored: Option<Value>,
        reconcile: Reconcile,
    ) -> Result<(), Status> {
        let (namespace, name) = names(wanted);
        let within = if namespace.is_empty() { String::new() } else { format!("/namespaces/{namespace}") };
        let (collection, object) =
            (format!("{API}{within}/{plural}"), format!("{API}{within}/{plural}/{name}"));
        let mut outcome = Ok(());
        for _ in 0..TRIES {
            outcome = match reconcile(wanted, stored.as_ref()) {
                Step::Nothing => return Ok(()),
                Step::Create(body) => self.call(connection, Method::POST, &collection, Some(&body)).await,
                Step::Update(body) => self.call(connection, Method::PUT, &object, Some(&body)).await,
                Step::Replace(body) => {
                    self.call(connection, Method::DELETE, &object, None).await?;
                    self.call(connection, Method::POST, &collection, Some(&body)).await
                }
            }
            .map(|_| ());
            match &outcome {
                Err(status) if status.is_conflict() || status.is_already_exists() => {}
                _ => return outcome,
            }
            stored = match self.call(connection, Method::GET, &object, None).await {
                Ok(object) => Some(object),
                Err(status) if status.is_not_found() => None,
                Err(status) => return Err(status),
            };
        }
        outcome
    }

    /// One request through the front door.
    async fn call(
        self: &Arc<Self>,
        connection: &Connection,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Status> {
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, "monoplane")
            .body(Full::new(body))
            .map_err(Status::internal_error)?;
        let response = self.handle(request, connection).await;
        let is_success = response.status().is_success();
        let bytes = response.into_body().collect().await.map_err(Status::internal_error)?.to_bytes();
        if !is_success {
            let unreadable = || Status::internal_error("an answer that is no Status");
            return Err(Status::from_json(&bytes).unwrap_or_else(unreadable));
        }
        serde_json::from_slice(&bytes).map_err(Status::internal_error)
    }
}

const API: &str = "/apis/rbac.authorization.k8s.io/v1";

/// Namespace and name.
fn names(object: &Value) -> (&str, &str) {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    (text("/metadata/namespace"), text("/metadata/name"))
}
