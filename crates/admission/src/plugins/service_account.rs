//! Every pod runs as a service account that exists. Its token is not mounted yet: nothing issues one.

use apimachinery::gvk::GroupResource;
use apimachinery::status::Status;
use async_trait::async_trait;
use auth::node::Referenced;
use serde_json::Value;

use crate::tree::{is_mirror, items, refers_to, set_spec, text};
use crate::{Attributes, Lookup, Operation, Plugin};

const DEFAULT: &str = "default";
const SERVICE_ACCOUNTS: GroupResource = GroupResource::of("", "serviceaccounts");

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct ServiceAccount;

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
        let secrets = items(&account, &["imagePullSecrets"]);
        if items(pod, &["spec", "imagePullSecrets"]).is_empty() && !secrets.is_empty() {
            set_spec(pod, "imagePullSecrets", secrets.to_vec());
        }
        Ok(())
    }
}
