//! A pod stays for five minutes on a node that is not ready or not reachable, unless it says otherwise.

use apimachinery::status::Status;
use async_trait::async_trait;
use serde_json::{Value, json};

use crate::tree::{items, spec_list, text};
use crate::{Attributes, Lookup, Operation, Plugin};

const SECONDS: i64 = 300;
const TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct DefaultTolerationSeconds;

#[async_trait]
impl Plugin for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation != Operation::Delete && attributes.is("", "pods")
    }

    async fn mutate(&self, _: &Attributes<'_>, pod: &mut Value, _: &dyn Lookup) -> Result<(), Status> {
        for taint in TAINTS {
            let tolerated = items(pod, &["spec", "tolerations"]).iter().any(|toleration| {
                let (key, effect) = (text(toleration, &["key"]), text(toleration, &["effect"]));
                (key.is_empty() || key == taint) && (effect.is_empty() || effect == "NoExecute")
            });
            if !tolerated && let Some(tolerations) = spec_list(pod, "tolerations") {
                tolerations.push(json!({
                    "key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS,
                }));
            }
        }
        Ok(())
    }
}
