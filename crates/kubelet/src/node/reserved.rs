//! What a node keeps from its pods: for the plane's own processes, for the rest of the system, and what pods would be evicted
//! before they had it.

use std::collections::BTreeMap;

use apimachinery::quantity::Quantity;

use super::Machine;
use crate::eviction::{Eviction, Signal};

/// By resource name.
pub(crate) type Amounts = BTreeMap<String, Quantity>;

/// What is kept for processes that are no pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reserved {
    /// For the plane's own (`--kube-reserved`).
    pub kube: BTreeMap<String, Quantity>,
    /// For the rest (`--system-reserved`).
    pub system: BTreeMap<String, Quantity>,
}

impl Reserved {
    /// Reads `cpu=100m,memory=1Gi`.
    ///
    /// # Errors
    /// When it cannot be read; the message says which part.
    pub fn parse(text: &str) -> Result<BTreeMap<String, Quantity>, String> {
        let mut amounts = BTreeMap::new();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (name, amount) =
                pair.split_once('=').ok_or_else(|| format!("{pair:?} is not of the form resource=amount"))?;
            if !matches!(name, "cpu" | "memory" | "ephemeral-storage" | "pid") {
                return Err(format!(
                    "cannot reserve {name:?} resource: cpu, memory, ephemeral-storage and pid can be"
                ));
            }
            let read = amount.parse::<Quantity>().ok().filter(|amount| amount.signum() >= 0);
            let read = read.ok_or_else(|| format!("{name}: {amount:?} is no amount"))?;
            amounts.insert(name.to_owned(), read);
        }
        Ok(amounts)
    }

    fn of(&self, name: &str) -> Quantity {
        [&self.kube, &self.system].into_iter().filter_map(|kept| kept.get(name).copied()).sum()
    }
}

/// All that the machine has, by resource name.
pub(crate) fn capacity(machine: &Machine, max_pods: u32) -> Amounts {
    let fixed = [
        ("cpu".to_owned(), Quantity::from_milli(machine.milli_cpus)),
        ("memory".to_owned(), Quantity::from_bytes(machine.memory)),
        ("pods".to_owned(), Quantity::from_units(i64::from(max_pods))),
    ];
    let storage = (machine.storage > 0)
        .then(|| ("ephemeral-storage".to_owned(), Quantity::from_bytes(machine.storage)));
    let pages = machine.huge_pages.iter().map(|(size, bytes)| {
        (format!("hugepages-{}", Quantity::from_bytes(*size)), Quantity::from_bytes(*bytes))
    });
    fixed.into_iter().chain(storage).chain(pages).collect()
}

/// What pods may have together, which their control group holds them to.
pub(crate) fn of_pods(capacity: &Amounts, reserved: &Reserved) -> Amounts {
    let kept = |name: &str| reserved.of(name);
    capacity.iter().map(|(name, amount)| (name.clone(), less(*amount, kept(name)))).collect()
}

/// What the scheduler may count on: less by what pods would be evicted before they had it.
pub(crate) fn allocatable(of_pods: &Amounts, capacity: &Amounts, eviction: &Eviction) -> Amounts {
    let kept = |name: &str| {
        let signal = match name {
            "memory" => Signal::MemoryAvailable,
            "ephemeral-storage" => Signal::NodefsAvailable,
            _ => return Quantity::default(),
        };
        let whole = capacity.get(name).map_or(0, Quantity::value);
        Quantity::from_bytes(eviction.kept(signal, whole))
    };
    of_pods.iter().map(|(name, amount)| (name.clone(), less(*amount, kept(name)))).collect()
}

fn less(amount: Quantity, by: Quantity) -> Quantity {
    if by.is_zero() { amount } else { (amount - by).max(Quantity::default()) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::eviction::Written;

    #[test]
    fn what_is_kept_is_taken_away() {
        let machine = Machine {
            milli_cpus: 4000,
            memory: 8 << 30,
            storage: 100 << 30,
            huge_pages: [(2 << 20, 64 << 20)].into(),
            ..Machine::default()
        };
        let reserved = Reserved {
            kube: Reserved::parse("cpu=100m,memory=1Gi").unwrap(),
            system: Reserved::parse("cpu=0.4, ephemeral-storage=10Gi").unwrap(),
        };
        let written = Written { hard: "memory.available<1Gi,nodefs.available<10%", ..Written::default() };
        let eviction = Eviction::parse(written, Duration::ZERO, Duration::ZERO).unwrap();
        let capacity = capacity(&machine, 110);
        let of_pods = of_pods(&capacity, &reserved);
        let allocatable = allocatable(&of_pods, &capacity, &eviction);
        let shown = |amounts: &Amounts| {
            let names = ["cpu", "memory", "ephemeral-storage", "pods", "hugepages-2Mi"];
            names.map(|name| amounts[name].to_string()).join(" ")
        };
        assert_eq!(shown(&capacity), "4 8Gi 100Gi 110 64Mi");
        assert_eq!(shown(&of_pods), "3500m 7Gi 90Gi 110 64Mi");
        assert_eq!(shown(&allocatable), "3500m 6Gi 80Gi 110 64Mi");
        assert!(Reserved::parse("gpu=1").unwrap_err().contains("cannot reserve"));
        assert!(Reserved::parse("cpu=-1").is_err() && Reserved::parse("cpu").is_err());
    }
}
