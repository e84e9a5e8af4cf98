//! One webhook, read from its configuration, and the list of all that are in force.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use apimachinery::meta;
use arc_swap::ArcSwap;
use expressions::Conditions;
use serde_json::Value;

use super::review::Version;
use super::{Caller, Endpoint};
use crate::matching::Criteria;
use crate::tree::{items, text};

/// How long a webhook may take that does not say.
const PATIENCE: Duration = Duration::from_secs(10);

/// A webhook.
pub(crate) struct Hook {
    pub(crate) name: String,
    /// Distinguishes it from any other: `configuration/name/number`.
    pub(crate) id: String,
    pub(crate) criteria: Criteria,
    /// Where it is, or why nobody knows.
    pub(crate) endpoint: Result<Arc<dyn Endpoint>, String>,
    /// What it does not answer is allowed.
    pub(crate) ignores_failures: bool,
    pub(crate) patience: Duration,
    /// Asking it about what is not going to happen does no harm.
    pub(crate) dry_runs: bool,
    /// In which version it is asked; `None` where it accepts none that is known.
    pub(crate) version: Option<Version>,
    /// It wants to see what later ones make of the object.
    pub(crate) is_reinvoked: bool,
    /// The conditions under which it is asked.
    pub(crate) conditions: Conditions,
}

impl Hook {
    fn read(configuration: &str, number: usize, webhook: &Value, caller: &dyn Caller) -> Self {
        let name = text(webhook, &["name"]);
        let seconds = webhook.get("timeoutSeconds").and_then(Value::as_u64).filter(|seconds| *seconds > 0);
        let accepted = items(webhook, &["admissionReviewVersions"]).iter().filter_map(Value::as_str);
        Self {
            name: name.to_owned(),
            id: format!("{configuration}/{name}/{number}"),
            criteria: Criteria::of_webhook(webhook),
            endpoint: caller.endpoint(webhook.get("clientConfig").unwrap_or(&Value::Null)),
            ignores_failures: text(webhook, &["failurePolicy"]) == "Ignore",
            patience: seconds.map_or(PATIENCE, Duration::from_secs),
            dry_runs: matches!(text(webhook, &["sideEffects"]), "None" | "NoneOnDryRun"),
            version: Version::first(accepted),
            is_reinvoked: text(webhook, &["reinvocationPolicy"]) == "IfNeeded",
            conditions: Conditions::compile(webhook, false),
        }
    }
}

/// The webhooks of all configurations of one kind.
#[derive(Default)]
pub(crate) struct Table {
    known: Mutex<BTreeMap<String, Vec<Arc<Hook>>>>,
    /// In the order in which they are asked: by their configurations' names, and then as those have them.
    hooks: ArcSwap<Vec<Arc<Hook>>>,
}

impl Table {
    /// Those in force now.
    pub(crate) fn hooks(&self) -> Arc<Vec<Arc<Hook>>> {
        self.hooks.load_full()
    }

    /// Puts these configurations in force, and no others.
    pub(crate) fn replace(&self, configurations: &[Value], caller: &dyn Caller) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.clear();
        for configuration in configurations {
            known.insert(meta::name(configuration).to_owned(), read(configuration, caller));
        }
        self.publish(&known);
    }

    /// Puts one configuration in force as it is now.
    pub(crate) fn set(&self, configuration: &Value, caller: &dyn Caller) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(meta::name(configuration).to_owned(), read(configuration, caller));
        self.publish(&known);
    }

    /// Puts one configuration out of force.
    pub(crate) fn remove(&self, name: &str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(name);
        self.publish(&known);
    }

    fn publish(&self, known: &BTreeMap<String, Vec<Arc<Hook>>>) {
        self.hooks.store(Arc::new(known.values().flatten().cloned().collect()));
    }
}

fn read(configuration: &Value, caller: &dyn Caller) -> Vec<Arc<Hook>> {
    let name = meta::name(configuration);
    let webhooks = items(configuration, &["webhooks"]).iter().enumerate();
    webhooks.map(|(number, webhook)| Arc::new(Hook::read(name, number, webhook, caller))).collect()
}
