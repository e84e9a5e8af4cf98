//! What PersistentVolumeClaims take: themselves and storage, in all and of their class.

use apimachinery::meta::annotation;
use apimachinery::quantity::Quantity;
use serde_json::Value;

use super::{Amounts, text};

const CLAIMS: &str = "persistentvolumeclaims";
const STORAGE: &str = "requests.storage";
const OF_CLASS: &str = ".storageclass.storage.k8s.io/";
/// How a class was named before there was a field for it.
const NAMED: &str = "volume.beta.kubernetes.io/storage-class";

pub(super) fn concerns(name: &str) -> bool {
    let own = name.split_once(OF_CLASS).map_or(name, |(_, own)| own);
    own == CLAIMS || own == STORAGE
}

pub(super) fn add(used: &mut Amounts, claim: &Value) {
    let class = annotation(claim, NAMED).unwrap_or_else(|| text(claim, &["spec", "storageClassName"]));
    let mut take = |name: &str, amount: Quantity| {
        used.insert(name.to_owned(), amount);
        if !class.is_empty() {
            used.insert(format!("{class}{OF_CLASS}{name}"), amount);
        }
    };
    take(CLAIMS, Quantity::from_units(1));
    let Ok(asked) = text(claim, &["spec", "resources", "requests", "storage"]).parse::<Quantity>() else {
        return;
    };
    let allocated = text(claim, &["status", "allocatedResources", "storage"]).parse().unwrap_or_default();
    take(STORAGE, whole(asked.max(allocated)));
}

/// Whole bytes: a quota holds nothing else.
fn whole(amount: Quantity) -> Quantity {
    if amount.milli_value() % 1000 == 0 { amount } else { Quantity::from_units(amount.value()) }
}
