//! ResourceQuotas: what an object takes is reserved in the status of each quota that counts it, before it is written.
//!
//! The status is replaced under its resourceVersion, so that no two writes reserve the same, on however many servers. A
//! write that fails afterwards leaves a reservation that is too large; the controller that counts finds that.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use api::quota::{Amounts, add, amounts, concerns, missing, selects, tree, usage};
use apimachinery::gvk::GroupResource;
use apimachinery::meta::name;
use apimachinery::status::Status;
use async_trait::async_trait;
use clock::Clock;
use jiff::Timestamp;
use serde_json::Value;

use crate::tree::at;
use crate::{Attributes, Lookup, Operation, Plugin};

const QUOTAS: GroupResource = GroupResource::of("", "resourcequotas");
/// How often a reservation starts again because others got in between: those of other servers and the controller, as the
/// writes of this server wait for one another.
const ATTEMPTS: usize = 16;

/// See the module.
pub struct ResourceQuota {
    clock: Arc<dyn Clock>,
    /// Writes that reserve in the same namespace, one after the other.
    turns: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

impl ResourceQuota {
    /// A plugin by whose clock pods are overdue.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, turns: Mutex::default() }
    }

    fn turn(&self, namespace: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = turns.get(namespace).and_then(Weak::upgrade) {
            return turn;
        }
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::new(tokio::sync::Mutex::default());
        turns.insert(namespace.to_owned(), Arc::downgrade(&turn));
        turn
    }
}

#[async_trait]
impl Plugin for ResourceQuota {
    fn name(&self) -> &'static str {
        "ResourceQuota"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        let is = |plural| attributes.is_any("", plural);
        if attributes.namespace.is_empty() || attributes.resource.resource == "events" {
            return false;
        }
        match (attributes.operation, attributes.subresource) {
            (Operation::Create, "") => true,
            (Operation::Update, "") => is("services") || is("persistentvolumeclaims"),
            (Operation::Update, "resize") => is("pods"),
            _ => false,
        }
    }

    async fn validate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&Value>,
        lookup: &dyn Lookup,
    ) -> Result<(), Status> {
        let Some(object) = object else { return Ok(()) };
        let asks = Request { attributes, object, now: self.clock.now() };
        let quotas = lookup.known(&QUOTAS, attributes.namespace).await?;
        if asks.charge(&quotas, &BTreeSet::new())?.is_empty() || attributes.dry_run {
            return Ok(());
        }
        let turn = self.turn(attributes.namespace);
        let _turn = turn.lock().await;
        let mut settled = BTreeSet::new();
        for _ in 0..ATTEMPTS {
            let quotas = lookup.list(&QUOTAS, attributes.namespace).await?;
            let mut is_late = false;
            for quota in asks.charge(&quotas, &settled)? {
                let name = name(&quota).to_owned();
                if lookup.replace_status(&QUOTAS, quota).await? {
                    settled.insert(name);
                } else {
                    is_late = true;
                }
            }
            if !is_late {
                return Ok(());
            }
        }
        Err(Status::conflict(
            &QUOTAS,
            "",
            "others reserve in the namespace's quotas at the same time; try again",
        ))
    }
}

/// One write that takes something.
struct Request<'a> {
    attributes: &'a Attributes<'a>,
    object: &'a Value,
    now: Timestamp,
}

impl Request<'_> {
    /// The quotas that count the object, with what they will have counted; without those of these names.
    fn charge(&self, quotas: &[Value], settled: &BTreeSet<String>) -> Result<Vec<Value>, Status> {
        let resource = self.attributes.resource;
        let mut changed = Vec::new();
        for quota in quotas {
            let hard = amounts(at(quota, &["status", "hard"]));
            let names: Vec<&str> =
                hard.keys().map(String::as_str).filter(|name| concerns(resource, name)).collect();
            if names.is_empty() || !selects(quota, resource, self.object) {
                continue;
            }
            let used = amounts(at(quota, &["status", "used"]));
            self.check_complete(quota, &names, &used)?;
            let mut more = self.delta(quota);
            more.retain(|name, amount| !amount.is_zero() && hard.contains_key(name));
            if more.is_empty() || settled.contains(name(quota)) {
                continue;
            }
            let mut total = used.clone();
            add(&mut total, &more);
            let over =
                |name: &str| total.get(name).zip(hard.get(name)).is_some_and(|(total, hard)| total > hard);
            let exceeded: BTreeSet<&str> =
                more.keys().map(String::as_str).filter(|name| over(name)).collect();
            if !exceeded.is_empty() {
                let shown = |amounts: &Amounts| {
                    let kept = amounts.iter().filter(|(name, _)| exceeded.contains(name.as_str()));
                    kept.map(|(name, amount)| format!("{name}={amount}")).collect::<Vec<_>>().join(",")
                };
                return Err(self.attributes.forbid(format!(
                    "exceeded quota: {}, requested: {}, used: {}, limited: {}",
                    name(quota),
                    shown(&more),
                    shown(&used),
                    shown(&hard)
                )));
            }
            let mut quota = quota.clone();
            if let Some(status) = quota.get_mut("status").and_then(Value::as_object_mut) {
                status.insert("used".into(), tree(&total));
            }
            changed.push(quota);
        }
        Ok(changed)
    }

    /// A quota of CPU or memory takes only pods that say how much of it they want; one that has not been counted takes none.
    fn check_complete(&self, quota: &Value, names: &[&str], used: &Amounts) -> Result<(), Status> {
        let is_pod = self.attributes.is_any("", "pods");
        if let Some(missing) =
            Some(self.object).filter(|_| is_pod).and_then(|pod| missing(pod, names.iter().copied()))
        {
            return Err(self
                .attributes
                .forbid(format!("failed quota: {}: must specify {missing}", name(quota))));
        }
        if names.iter().any(|name| !used.contains_key(*name)) {
            let why = format!("status unknown for quota: {}, resources: {}", name(quota), names.join(","));
            return Err(self.attributes.forbid(why));
        }
        Ok(())
    }

    /// What the object takes more than it did.
    fn delta(&self, quota: &Value) -> Amounts {
        let resource = self.attributes.resource;
        let mut more = usage(resource, self.object, self.now);
        if let Some(old) = self.attributes.old.filter(|old| selects(quota, resource, old)) {
            let before = usage(resource, old, self.now);
            for (name, amount) in &mut more {
                if let Some(known) = before.get(name) {
                    *amount = if *amount > *known { *amount - *known } else { Default::default() };
                }
            }
        }
        more
    }
}
