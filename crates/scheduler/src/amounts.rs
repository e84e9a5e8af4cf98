//! Amounts of what nodes have.

use apimachinery::quantity::Quantity;
use k8s_openapi::apimachinery::pkg::api::resource;
use serde::Serialize;
use std::collections::BTreeMap;

/// CPU in thousandths of a core, everything else in its own unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Amounts {
    pub(crate) milli_cpu: i64,
    pub(crate) memory: i64,
    pub(crate) ephemeral_storage: i64,
    pub(crate) extended: BTreeMap<String, i64>,
}

/// A resource, of which the name is looked at once and not for each node anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    Cpu,
    Memory,
    EphemeralStorage,
    Extended(String),
}

impl Resource {
    /// As it is named in manifests.
    pub(crate) fn named(name: &str) -> Self {
        match name {
            "cpu" => Self::Cpu,
            "memory" => Self::Memory,
            "ephemeral-storage" => Self::EphemeralStorage,
            _ => Self::Extended(name.to_owned()),
        }
    }

    /// Whether every node is weighed by it, whatever pods ask for.
    pub(crate) fn always_counts(&self) -> bool {
        matches!(self, Self::Cpu | Self::Memory)
    }
}

impl Amounts {
    pub(crate) fn of<'a>(list: impl IntoIterator<Item = (&'a String, &'a resource::Quantity)>) -> Self {
        let mut amounts = Self::default();
        for (name, quantity) in list {
            let Ok(quantity) = quantity.0.parse::<Quantity>() else { continue };
            match name.as_str() {
                "cpu" => amounts.milli_cpu = quantity.milli_value(),
                "memory" => amounts.memory = quantity.value(),
                "ephemeral-storage" => amounts.ephemeral_storage = quantity.value(),
                "pods" => {}
                _ => {
                    amounts.extended.insert(name.clone(), quantity.value());
                }
            }
        }
        amounts
    }

    /// How much of a resource.
    pub(crate) fn get(&self, resource: &Resource) -> i64 {
        match resource {
            Resource::Cpu => self.milli_cpu,
            Resource::Memory => self.memory,
            Resource::EphemeralStorage => self.ephemeral_storage,
            Resource::Extended(name) => self.extended(name),
        }
    }

    /// How much of a resource that Kubernetes itself knows nothing of.
    pub(crate) fn extended(&self, name: &str) -> i64 {
        self.extended.get(name).copied().unwrap_or(0)
    }

    fn zip(&mut self, other: &Self, merge: fn(i64, i64) -> i64) {
        self.milli_cpu = merge(self.milli_cpu, other.milli_cpu);
        self.memory = merge(self.memory, other.memory);
        self.ephemeral_storage = merge(self.ephemeral_storage, other.ephemeral_storage);
        for (name, amount) in &other.extended {
            let entry = self.extended.entry(name.clone()).or_insert(0);
            *entry = merge(*entry, *amount);
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.zip(other, i64::saturating_add);
    }

    pub(crate) fn subtract(&mut self, other: &Self) {
        self.zip(other, i64::saturating_sub);
    }

    pub(crate) fn raise_to(&mut self, other: &Self) {
        self.zip(other, i64::max);
    }

    /// These, with what is named in `whole` from there instead.
    pub(crate) fn overridden(mut self, whole: &BTreeMap<String, resource::Quantity>) -> Self {
        let given = Self::of(whole);
        for name in whole.keys() {
            match name.as_str() {
                "cpu" => self.milli_cpu = given.milli_cpu,
                "memory" => self.memory = given.memory,
                "ephemeral-storage" => self.ephemeral_storage = given.ephemeral_storage,
                _ => {
                    self.extended.insert(name.clone(), given.extended(name));
                }
            }
        }
        self
    }
}
