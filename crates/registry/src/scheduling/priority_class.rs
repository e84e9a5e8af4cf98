//! PriorityClasses.

use std::sync::Arc;

use apimachinery::field::{FieldError, Path};
use apimachinery::meta;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::kind::Column;
use crate::strategy::{Builtin, Rules, Strategy};
use crate::table;
use crate::tree::{default, is_true, number, text};

/// What names of the system's own classes begin with.
const SYSTEM_PREFIX: &str = "system-";
/// The highest value that a class may have beside the system's.
const HIGHEST: i64 = 1_000_000_000;
const POLICIES: [&str; 2] = ["PreemptLowerPriority", "Never"];

/// A class that every cluster has: its name, value and description.
type System = (&'static str, i64, &'static str);
const SYSTEM: [System; 2] = [
    (
        "system-node-critical",
        2 * HIGHEST + 1000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
    (
        "system-cluster-critical",
        2 * HIGHEST,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
];

struct PriorityClass;

pub(crate) fn builtin() -> Builtin {
    Builtin {
        name: ("scheduling.k8s.io", "v1", "PriorityClass"),
        rules: Rules::default(),
        fields: Vec::new(),
        subresources: Vec::new(),
        scale: None,
        columns: Column::parse(&[
            "Name",
            "Value:integer",
            "Global-Default:boolean",
            "Age",
            "PreemptionPolicy",
        ]),
        strategy: Arc::new(PriorityClass),
    }
}

/// The classes that every cluster begins with.
pub(crate) fn system() -> impl Iterator<Item = Value> {
    SYSTEM.iter().map(|(name, value, description)| {
        json!({
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": name},
            "value": value,
            "description": description,
        })
    })
}

impl Strategy for PriorityClass {
    fn default(&self, class: &mut Value) {
        default(class, "value", 0);
        default(class, "preemptionPolicy", "PreemptLowerPriority");
    }

    fn prepare_create(&self, class: &mut Value) {
        // What could change it never does.
        meta::set_generation(class, 1);
    }

    fn validate(&self, class: &Value, errors: &mut Vec<FieldError>) {
        let name = meta::name(class);
        let value = number(class, &["value"]).unwrap_or_default();
        if name.starts_with(SYSTEM_PREFIX) {
            if let Err(why) = check_system(name, value, is_true(class, &["globalDefault"])) {
                let metadata = Path::new("metadata");
                let why = format!(
                    "priority class names with '{SYSTEM_PREFIX}' prefix are reserved for system use only. error: {why}"
                );
                errors.push(FieldError::forbidden(&metadata.child("name"), why));
            }
        } else if value > HIGHEST {
            let why = format!("maximum allowed value of a user defined priority is {HIGHEST}");
            errors.push(FieldError::forbidden(&Path::new("value"), why));
        }
        let path = Path::new("preemptionPolicy");
        match text(class, &["preemptionPolicy"]) {
            "" => errors.push(FieldError::required(&path, "")),
            policy if POLICIES.contains(&policy) => {}
            other => errors.push(FieldError::not_supported(&path, other, &POLICIES)),
        }
    }

    fn validate_update(&self, class: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        if number(class, &["value"]) != number(old, &["value"]) {
            errors.push(FieldError::forbidden(&Path::new("value"), "may not be changed in an update."));
        }
        let policy = text(class, &["preemptionPolicy"]);
        if policy != text(old, &["preemptionPolicy"]) {
            let path = Path::new("preemptionPolicy");
            errors.push(FieldError::invalid(&path, policy, "field is immutable"));
        }
    }

    fn forbids_deletion(&self, name: &str) -> Option<&'static str> {
        let is_system = SYSTEM.iter().any(|(system, ..)| *system == name);
        is_system.then_some("this is a system priority class and cannot be deleted")
    }

    fn cells(&self, class: &Value, now: Timestamp) -> Vec<Value> {
        vec![
            table::name(class),
            number(class, &["value"]).unwrap_or_default().into(),
            is_true(class, &["globalDefault"]).into(),
            table::age(class, now),
            text(class, &["preemptionPolicy"]).into(),
        ]
    }
}

fn check_system(name: &str, value: i64, is_default: bool) -> Result<(), String> {
    match SYSTEM.iter().find(|(system, ..)| *system == name) {
        None => Err(format!("{name} is not a known system priority class")),
        Some((_, wanted, _)) if *wanted != value => {
            Err(format!("value of {name} PriorityClass must be {wanted}"))
        }
        Some(_) if is_default => Err(format!("globalDefault of {name} PriorityClass must be false")),
        Some(_) => Ok(()),
    }
}
