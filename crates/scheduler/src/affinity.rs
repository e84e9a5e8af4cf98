//! Taints and tolerations: what pods and nodes say about each other.

use api::taints::tolerates;
use k8s_openapi::api::core::v1::{Taint, Toleration};

/// The first of the node's taints with one of these effects that nothing tolerates.
pub(crate) fn untolerated<'a>(
    taints: &'a [Taint],
    tolerations: &[Toleration],
    effects: &[&str],
) -> Option<&'a Taint> {
    let concerns = |taint: &&Taint| effects.contains(&taint.effect.as_str());
    taints
        .iter()
        .filter(concerns)
        .find(|taint| !tolerations.iter().any(|toleration| tolerates(toleration, taint)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    #[test]
    fn tolerations_cover_what_they_say() {
        let taint: Taint = from_value(json!({ "key": "k", "value": "v", "effect": "NoSchedule" })).unwrap();
        for (toleration, want) in [
            (json!({ "key": "k", "value": "v", "effect": "NoSchedule" }), true),
            (json!({ "key": "k", "value": "v" }), true),
            (json!({ "key": "k", "operator": "Exists" }), true),
            (json!({ "operator": "Exists" }), true),
            (json!({ "key": "k", "value": "w" }), false),
            (json!({ "key": "k", "operator": "Exists", "effect": "NoExecute" }), false),
            (json!({ "key": "j", "operator": "Exists" }), false),
        ] {
            assert_eq!(tolerates(&from_value(toleration.clone()).unwrap(), &taint), want, "{toleration}");
        }
    }
}
