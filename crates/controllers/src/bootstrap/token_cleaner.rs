//! Takes bootstrap tokens away when they have expired.

use super::{secrets, token_of};
use crate::plan::{Plan, delete};
use crate::{Controller, World};
use auth::bootstrap_token::Expiry;
use client::{ObjectKey, Reader, WorkQueue};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use std::sync::Arc;

/// The controller; see the module.
pub struct TokenCleaner {
    secrets: Reader<Secret>,
}

impl Controller for TokenCleaner {
    const NAME: &'static str = "tokencleaner";
    type Key = ObjectKey;
    type View = Option<Arc<Secret>>;
    type Memory = ();

    fn wire(world: &World, queue: &Arc<WorkQueue<ObjectKey>>) -> Self {
        let secrets = secrets(world);
        let add = queue.clone();
        secrets.informer().on_change(move |change| add.add(ObjectKey::of(&**change.object())));
        Self { secrets }
    }

    fn view(&self, key: &ObjectKey) -> Self::View {
        self.secrets.get(key)
    }

    fn plan(_: &ObjectKey, view: &Self::View, (): &(), now: Timestamp) -> Plan<()> {
        let mut plan = Plan::default();
        let Some((secret, token)) = view.as_deref().and_then(|secret| Some((secret, token_of(secret)?)))
        else {
            return plan;
        };
        match token.expiry() {
            Expiry::Never => {}
            Expiry::At(end) if now < end => plan.look_again(end),
            // What nobody can read has expired, as upstream has it.
            Expiry::At(_) | Expiry::Unreadable => plan.then(delete(secret)),
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::{from_value, json};

    #[test]
    fn a_token_goes_when_it_has_expired() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let plan = |kind: &str, expiration: Option<&str>| {
            let data = expiration.map(|text| json!({ "expiration": STANDARD.encode(text) }));
            let secret = from_value(json!({
                "metadata": { "name": "bootstrap-token-abcdef", "namespace": "kube-system", "uid": "u" },
                "type": kind, "data": data,
            }));
            let key = ObjectKey::new("kube-system", "bootstrap-token-abcdef");
            let plan = TokenCleaner::plan(&key, &Some(Arc::new(secret.unwrap())), &(), now);
            (plan.actions.len(), plan.requeue_at.map(|at| at.to_string()))
        };
        let kind = "bootstrap.kubernetes.io/token";
        assert_eq!(plan(kind, None), (0, None));
        let at = "2026-01-02T03:04:06Z";
        assert_eq!(plan(kind, Some(at)), (0, Some(at.to_owned())));
        assert_eq!(plan(kind, Some("2026-01-02T03:04:05Z")), (1, None));
        assert_eq!(plan(kind, Some("soon")), (1, None));
        assert_eq!(plan("Opaque", Some("soon")), (0, None));
    }
}
