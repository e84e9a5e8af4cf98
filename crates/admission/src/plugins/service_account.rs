//! Every pod runs as a service account that exists, and finds a token of it where clients look for one.

use std::sync::Arc;

use apimachinery::gvk::GroupResource;
use apimachinery::status::Status;
use async_trait::async_trait;
use auth::node::Referenced;
use clock::Random;
use serde_json::{Value, json};

use crate::tree::{at, is_mirror, items, refers_to, set_spec, spec_list, text};
use crate::{Attributes, Lookup, Operation, Plugin};

const DEFAULT: &str = "default";
const SERVICE_ACCOUNTS: GroupResource = GroupResource::of("", "serviceaccounts");

/// What names of our volumes begin with.
const VOLUME_PREFIX: &str = "kube-api-access-";
/// Where clients look for credentials.
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// How long the token lives: upstream's number. The kubelet renews it long before.
const TOKEN_SECONDS: i64 = 3607;

/// See the module.
#[derive(Clone)]
pub struct ServiceAccount {
    random: Arc<dyn Random>,
}

impl ServiceAccount {
    /// A plugin that names volumes by chance.
    pub fn new(random: Arc<dyn Random>) -> Self {
        Self { random }
    }

    /// Gives every container the account's credentials, unless it has something else in their place.
    fn mount_credentials(&self, pod: &mut Value) {
        let volumes = items(pod, &["spec", "volumes"]).iter().map(|volume| text(volume, &["name"]));
        let known = volumes.clone().find(|name| name.starts_with(VOLUME_PREFIX)).map(str::to_owned);
        let is_there = known.is_some();
        let name = known.unwrap_or_else(|| format!("{VOLUME_PREFIX}{}", self.random.suffix(5)));
        let mut is_needed = false;
        for list in ["initContainers", "containers"] {
            let containers = pod.get_mut("spec").and_then(|spec| spec.get_mut(list));
            for container in containers.and_then(Value::as_array_mut).into_iter().flatten() {
                is_needed |= mount(container, &name);
            }
        }
        if is_needed
            && !is_there
            && let Some(volumes) = spec_list(pod, "volumes")
        {
            volumes.push(credentials(&name));
        }
    }
}

/// Mounts the volume where clients look; `false` if something is there.
fn mount(container: &mut Value, volume: &str) -> bool {
    let is_taken =
        items(container, &["volumeMounts"]).iter().any(|mount| text(mount, &["mountPath"]) == MOUNT_PATH);
    let Some(container) = container.as_object_mut().filter(|_| !is_taken) else { return false };
    let mounts = container.entry("volumeMounts").or_insert_with(|| json!([]));
    let Some(mounts) = mounts.as_array_mut() else { return false };
    mounts.push(json!({"name": volume, "readOnly": true, "mountPath": MOUNT_PATH}));
    true
}

/// The token, whom to trust, and where one is.
fn credentials(name: &str) -> Value {
    json!({
        "name": name,
        "projected": {
            "defaultMode": 0o644,
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
                {"configMap": {
                    "name": "kube-root-ca.crt",
                    "items": [{"key": "ca.crt", "path": "ca.crt"}],
                }},
                {"downwardAPI": {"items": [{
                    "path": "namespace",
                    "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
                }]}},
            ],
        },
    })
}

#[async_trait]
impl Plugin for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Create && attributes.is("", "pods")
    }

    async fn mutate(
        &self,
        attributes: &Attributes<'_>,
        pod: &mut Value,
        lookup: &dyn Lookup,
    ) -> Result<(), Status> {
        if is_mirror(pod) {
            if !text(pod, &["spec", "serviceAccountName"]).is_empty() {
                return Err(attributes.forbid("a mirror pod may not reference service accounts"));
            }
            if refers_to(pod, Referenced::Secret) {
                return Err(attributes.forbid("a mirror pod may not reference secrets"));
            }
            let tokens = |volume: &Value| {
                let sources = items(volume, &["projected", "sources"]);
                sources.iter().any(|source| source.get("serviceAccountToken").is_some())
            };
            if items(pod, &["spec", "volumes"]).iter().any(tokens) {
                return Err(
                    attributes.forbid("a mirror pod may not use ServiceAccountToken volume projections")
                );
            }
            return Ok(());
        }
        if text(pod, &["spec", "serviceAccountName"]).is_empty() {
            set_spec(pod, "serviceAccountName", DEFAULT);
        }
        let name = text(pod, &["spec", "serviceAccountName"]).to_owned();
        // The field's old name goes along with it.
        set_spec(pod, "serviceAccount", name.clone());
        let namespace = attributes.namespace;
        let Some(account) = lookup.get(&SERVICE_ACCOUNTS, namespace, &name).await? else {
            let why = format!(
                "error looking up service account {namespace}/{name}: serviceaccount {} not found",
                apimachinery::field::quote(&name)
            );
            return Err(attributes.forbid(why));
        };
        let says = |object: &Value, path: &[&str]| at(object, path).and_then(Value::as_bool);
        const FIELD: &str = "automountServiceAccountToken";
        if says(pod, &["spec", FIELD]).or_else(|| says(&account, &[FIELD])).unwrap_or(true) {
            self.mount_credentials(pod);
        }
        let secrets = items(&account, &["imagePullSecrets"]);
        if items(pod, &["spec", "imagePullSecrets"]).is_empty() && !secrets.is_empty() {
            set_spec(pod, "imagePullSecrets", secrets.to_vec());
        }
        Ok(())
    }
}
