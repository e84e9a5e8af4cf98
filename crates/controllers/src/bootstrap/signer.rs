//! Signs `kube-public/cluster-info` with every bootstrap token that may: a machine that holds a token alone can tell by
//! that whether what it reads, over a connection that it has no reason to trust yet, is its cluster's.

use super::{secrets, token_of};
use crate::plan::{Plan, patch};
use crate::{Controller, World};
use async_trait::async_trait;
use client::kube::Api;
use client::reflector::Selection;
use client::{Informer, InformerOptions, ObjectKey, Reader, WorkQueue};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

const NAMESPACE: &str = "kube-public";
const NAME: &str = "cluster-info";
/// What is signed.
const CONTENT: &str = "kubeconfig";
/// What the names of signatures begin with; the token's id follows.
const SIGNATURE: &str = "jws-kubeconfig-";

/// The controller; see the module.
pub struct BootstrapSigner {
    secrets: Reader<Secret>,
    /// Of its own: other controllers look at other ConfigMaps.
    information: Reader<ConfigMap>,
}

/// There is one thing to sign.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClusterInfo;

impl fmt::Display for ClusterInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{NAMESPACE}/{NAME}")
    }
}

/// What it looks at.
pub struct View {
    /// What is to be signed.
    pub information: Option<Arc<ConfigMap>>,
    /// By which tokens.
    pub secrets: Vec<Arc<Secret>>,
}

#[async_trait]
impl Controller for BootstrapSigner {
    const NAME: &'static str = "bootstrapsigner";
    type Key = ClusterInfo;
    type View = View;
    type Memory = ();

    fn wire(world: &World, queue: &Arc<WorkQueue<ClusterInfo>>) -> Self {
        let secrets = secrets(world);
        let selection = Selection { fields: Some(format!("metadata.name={NAME}")), ..Selection::default() };
        let maps = Api::<ConfigMap>::namespaced(world.client().clone(), NAMESPACE);
        let options = InformerOptions { selection, ..InformerOptions::default() };
        let information = Reader::new(Informer::start(maps, options, world.ambient(), world.tasks()));
        let add = queue.clone();
        secrets.informer().on_change(move |_| add.add(ClusterInfo));
        let add = queue.clone();
        information.informer().on_change(move |_| add.add(ClusterInfo));
        Self { secrets, information }
    }

    async fn ready(&self) {
        self.information.informer().ready().await;
    }

    fn view(&self, _: &ClusterInfo) -> View {
        View {
            information: self.information.get(&ObjectKey::new(NAMESPACE, NAME)),
            secrets: self.secrets.informer().store().list(),
        }
    }

    fn plan(_: &ClusterInfo, view: &View, (): &(), now: Timestamp) -> Plan<()> {
        let mut plan = Plan::default();
        let Some(information) = view.information.as_deref() else { return plan };
        let data = information.data.as_ref();
        let Some(content) = data.and_then(|data| data.get(CONTENT)) else { return plan };
        let mut wanted = BTreeMap::new();
        for token in view.secrets.iter().filter_map(|secret| token_of(secret)) {
            if let Some(token) = token.signing(now) {
                let signature = pki::detached_signature(content, token.id, token.secret);
                wanted.entry(format!("{SIGNATURE}{}", token.id)).or_insert(signature);
            }
        }
        let mut changes: Map<String, Value> = Map::new();
        for (name, found) in data.into_iter().flatten().filter(|(name, _)| name.starts_with(SIGNATURE)) {
            match wanted.remove(name) {
                Some(signature) if signature == *found => {}
                other => {
                    changes.insert(name.clone(), json!(other));
                }
            }
        }
        changes.extend(wanted.into_iter().map(|(name, signature)| (name, signature.into())));
        if !changes.is_empty() {
            plan.then(patch(information, json!({ "data": changes })));
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Action;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::from_value;

    fn secret(id: &str, signs: bool) -> Arc<Secret> {
        let encode = |text: &str| STANDARD.encode(text);
        let secret = from_value(json!({
            "metadata": { "name": format!("bootstrap-token-{id}"), "namespace": "kube-system" },
            "type": "bootstrap.kubernetes.io/token",
            "data": { "token-id": encode(id), "token-secret": encode("0123456789abcdef"),
                "usage-bootstrap-signing": encode(&signs.to_string()) },
        }));
        Arc::new(secret.unwrap())
    }

    fn changes(data: Value, secrets: Vec<Arc<Secret>>) -> Value {
        let information = from_value(json!({
            "metadata": { "name": NAME, "namespace": NAMESPACE, "uid": "u", "resourceVersion": "1" }, "data": data,
        }));
        let view = View { information: Some(Arc::new(information.unwrap())), secrets };
        let plan = BootstrapSigner::plan(&ClusterInfo, &view, &(), "2026-01-02T03:04:05Z".parse().unwrap());
        match plan.actions.first() {
            Some(Action::Patch(patch)) => patch.body["data"].clone(),
            None => Value::Null,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn signatures_are_those_of_the_tokens_that_may_sign() {
        let own = pki::detached_signature("text", "abcdef", "0123456789abcdef");
        let both = vec![secret("abcdef", true), secret("ghijkl", false)];
        let made = changes(json!({ "kubeconfig": "text" }), both.clone());
        assert_eq!(made, json!({ "jws-kubeconfig-abcdef": own }));
        let signed = json!({ "kubeconfig": "text", "jws-kubeconfig-abcdef": own });
        assert_eq!(changes(signed.clone(), both.clone()), Value::Null, "nothing is left to do");
        assert_eq!(changes(signed, vec![]), json!({ "jws-kubeconfig-abcdef": null }));
        let stale = json!({ "kubeconfig": "other", "jws-kubeconfig-abcdef": own, "more": "x" });
        let made = changes(stale, both.clone());
        let expected = pki::detached_signature("other", "abcdef", "0123456789abcdef");
        assert_eq!(made, json!({ "jws-kubeconfig-abcdef": expected }));
        assert_eq!(changes(json!({ "more": "x" }), both), Value::Null, "there is nothing to sign");
    }
}
