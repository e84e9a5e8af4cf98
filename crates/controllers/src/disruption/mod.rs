//! PodDisruptionBudgets: how many pods may go now. Evictions ask the budget, which is as right as its status; so when it
//! cannot be counted, none may go.

mod scales;
#[cfg(test)]
mod tests;

use crate::merge::difference;
use crate::ownership::{controller_ref, is_terminating, selects};
use crate::percent::scaled;
use crate::plan::{Action, Plan, merge_status, patch_status, tell};
use crate::pod::Pod;
use crate::pods::{is_finished, ready_since};
use crate::{Controller, World};
use async_trait::async_trait;
use client::kube::core::Selector;
use client::kube::{Client, Error, ResourceExt};
use client::{Change, EventType, ObjectKey, Reader, WorkQueue, by_namespace};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use scales::{Scale, Scales, Workloads};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// How long a pod may take from its eviction until it is seen to be deleted, and how long it may be said to be about to be
/// disrupted; after that it is taken to stay.
const PATIENCE: SignedDuration = SignedDuration::from_mins(2);
/// When to count again what could not be counted.
const RETRY: SignedDuration = SignedDuration::from_secs(30);

/// The controller; see the module.
pub struct Disruptions {
    budgets: Reader<PodDisruptionBudget>,
    pods: Reader<Pod>,
    workloads: Workloads,
    client: Client,
}

/// What may need a look.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// A budget.
    Budget(ObjectKey),
    /// A pod that is said to be about to be disrupted, or that has come under several budgets.
    Pod(ObjectKey),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Budget(key) => write!(f, "budget {key}"),
            Self::Pod(key) => write!(f, "pod {key}"),
        }
    }
}

/// What it looks at.
#[derive(Default)]
pub struct View {
    /// The budget, unless it is gone.
    pub budget: Option<Arc<PodDisruptionBudget>>,
    /// Its pods, or the pod that the key means.
    pub pods: Vec<Arc<Pod>>,
    /// The sizes of what controls its pods, where they count.
    pub scales: Scales,
    /// The budgets that the pod is under.
    pub under: Vec<String>,
}

#[async_trait]
impl Controller for Disruptions {
    const NAME: &'static str = "controllermanager";
    type Key = Key;
    type View = View;
    type Memory = ();

    fn wire(world: &World, queue: &Arc<WorkQueue<Key>>) -> Self {
        let (budgets, pods) = (world.reader::<PodDisruptionBudget>(), world.pods());
        budgets.informer().index_by(by_namespace());
        pods.informer().index_by(by_namespace());
        let add = queue.clone();
        budgets.informer().on_change(move |change| add.add(Key::Budget(ObjectKey::of(&**change.object()))));
        let (add, all) = (queue.clone(), budgets.clone());
        pods.informer().on_change(move |change| wake(&add, &all, change));
        let (workloads, add, all) = (Workloads::of(world), queue.clone(), budgets.clone());
        workloads.on_resize(move |namespace| {
            for budget in all.informer().store().by_index("namespace", namespace) {
                if counts_scales(&budget) {
                    add.add(Key::Budget(ObjectKey::of(&*budget)));
                }
            }
        });
        Self { budgets, pods, workloads, client: world.client().clone() }
    }

    fn view(&self, key: &Key) -> View {
        match key {
            Key::Budget(key) => self.of_budget(key),
            Key::Pod(key) => self.of_pod(key),
        }
    }

    async fn observe(&self, key: &Key, view: &mut View) -> Result<(), Error> {
        if let Key::Budget(key) = key {
            view.scales.ask(&self.client, &key.namespace).await;
        }
        Ok(())
    }

    fn plan(key: &Key, view: &View, (): &(), now: Timestamp) -> Plan<()> {
        match key {
            Key::Budget(_) => plan_budget(view, now),
            Key::Pod(_) => plan_pod(view, now),
        }
    }
}

impl Disruptions {
    fn of_budget(&self, key: &ObjectKey) -> View {
        let Some(budget) = self.budgets.get(key) else { return View::default() };
        let mut pods = self.pods.by_index("namespace", &key.namespace);
        let selector = selector(&budget);
        pods.retain(|pod| selector.as_ref().is_some_and(|selector| selects(selector, &**pod)));
        let scales = if counts_scales(&budget) { self.workloads.scales(&pods) } else { Scales::default() };
        View { budget: Some(budget), pods, scales, under: Vec::new() }
    }

    fn of_pod(&self, key: &ObjectKey) -> View {
        let pods: Vec<_> = self.pods.get(key).into_iter().collect();
        let budgets = self.budgets.by_index("namespace", &key.namespace);
        let mut under: Vec<_> = budgets
            .iter()
            .filter(|budget| pods.iter().any(|pod| covers(budget, pod)))
            .map(|budget| budget.name_any())
            .collect();
        under.sort();
        View { pods, under, ..View::default() }
    }
}

/// A budget without a selector is for no pod, one whose selector is empty for all.
fn selector(budget: &PodDisruptionBudget) -> Option<Selector> {
    Selector::try_from(budget.spec.as_ref()?.selector.clone()?).ok()
}

fn covers(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    selector(budget).is_some_and(|selector| selects(&selector, pod))
}

/// Whether it is about a part of what there should be, rather than about a number of pods.
fn counts_scales(budget: &PodDisruptionBudget) -> bool {
    let spec = budget.spec.as_ref();
    let available = spec.and_then(|spec| spec.min_available.as_ref());
    spec.is_some_and(|spec| spec.max_unavailable.is_some())
        || matches!(available, Some(IntOrString::String(_)))
}

/// A pod concerns the budgets that it is under, and those that it was under.
fn wake(queue: &WorkQueue<Key>, all: &Reader<PodDisruptionBudget>, change: &Change<Pod>) {
    let namespace = change.object().namespace().unwrap_or_default();
    let mut under = 0;
    for budget in all.informer().store().by_index("namespace", &namespace) {
        let covered = change.after().is_some_and(|pod| covers(&budget, pod));
        under += usize::from(covered);
        if covered || change.before().is_some_and(|pod| covers(&budget, pod)) {
            queue.add(Key::Budget(ObjectKey::of(&*budget)));
        }
    }
    let Some(pod) = change.after() else { return };
    let relabelled = change.before().is_none_or(|before| before.metadata.labels != pod.metadata.labels);
    if stale_since(pod).is_some() || under > 1 && relabelled {
        queue.add(Key::Pod(ObjectKey::of(&**pod)));
    }
}

/// Since when a pod that stays is said to be about to be disrupted.
fn stale_since(pod: &Pod) -> Option<Timestamp> {
    pod.status.disrupted_since.filter(|_| !is_terminating(pod) && !is_finished(pod))
}

/// Says that a pod is no longer about to be disrupted when nothing has come of it.
fn plan_pod(view: &View, now: Timestamp) -> Plan<()> {
    let mut plan = Plan::default();
    let Some(pod) = view.pods.first() else { return plan };
    if let [first, _, ..] = &view.under[..] {
        let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
        let message = format!(
            "Pod {namespace:?}/{name:?} matches multiple PodDisruptionBudgets.  Chose {first:?} arbitrarily."
        );
        plan.then(tell(&**pod, EventType::Warning, "MultiplePodDisruptionBudgets", message));
    }
    if let Some(over) = stale_since(pod).and_then(|since| since.checked_add(PATIENCE).ok()) {
        if now < over {
            plan.look_again(over);
        } else {
            let stays = json!({
                "type": "DisruptionTarget", "status": "False", "reason": null, "message": null,
                "lastTransitionTime": Time(now),
            });
            plan.then(merge_status(&**pod, json!({ "conditions": [stays] })));
        }
    }
    plan
}

/// What a budget asks for.
struct Demand {
    /// How many pods there should be.
    expected: i32,
    /// How many of them must be healthy.
    healthy: i32,
    /// Whether there are pods of which nobody says how many there should be.
    has_unmanaged: bool,
}

/// Counts a budget's pods, and what may go of them.
fn plan_budget(view: &View, now: Timestamp) -> Plan<()> {
    let mut plan = Plan::default();
    let Some(budget) = view.budget.as_deref() else { return plan };
    if view.pods.is_empty() {
        plan.then(tell(budget, EventType::Normal, "NoPods", "No matching pods found"));
    }
    let demand = match demand(budget, view) {
        Ok(demand) => demand,
        Err(why) => {
            let message = format!("Failed to calculate the number of expected pods: {why}");
            plan.then(tell(budget, EventType::Warning, "CalculateExpectedPodCountFailed", message));
            plan.then(forbid(budget, why, now));
            plan.look_again(now.checked_add(RETRY).ok());
            return plan;
        }
    };
    if demand.has_unmanaged {
        plan.then(tell(budget, EventType::Warning, "UnmanagedPods", unmanaged(budget)));
    }
    let disrupted = disrupted(budget, view, &mut plan, now);
    let is_healthy = |pod: &Pod| {
        !is_terminating(pod) && !disrupted.contains_key(&pod.name_any()) && ready_since(pod).is_some()
    };
    let healthy = view.pods.iter().filter(|pod| is_healthy(pod)).count();
    let healthy = i32::try_from(healthy).unwrap_or(i32::MAX);
    let spare = healthy.saturating_sub(demand.healthy).max(0);
    // Where none are expected the first may just be coming.
    let allowed = if demand.expected > 0 { spare } else { 0 };
    let before = budget.status.clone().unwrap_or_default();
    let mut status = PodDisruptionBudgetStatus {
        current_healthy: Some(healthy),
        desired_healthy: Some(demand.healthy),
        expected_pods: Some(demand.expected),
        disruptions_allowed: Some(allowed),
        disrupted_pods: Some(disrupted).filter(|disrupted| !disrupted.is_empty()),
        observed_generation: budget.metadata.generation,
        conditions: before.conditions,
    };
    let (value, reason) =
        if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    set_condition(&mut status, value, reason, String::new(), now);
    plan.then(write(budget, &status));
    plan
}

/// What the budget asks for, or why that cannot be said.
fn demand(budget: &PodDisruptionBudget, view: &View) -> Result<Demand, String> {
    let spec = budget.spec.as_ref();
    let unavailable = spec.and_then(|spec| spec.max_unavailable.as_ref());
    let available = spec.and_then(|spec| spec.min_available.as_ref());
    let mut demand = Demand { expected: 0, healthy: 0, has_unmanaged: false };
    match (unavailable, available) {
        (None, None) => {}
        (None, Some(IntOrString::Int(number))) => {
            demand.healthy = *number;
            demand.expected = i32::try_from(view.pods.len()).unwrap_or(i32::MAX);
        }
        (Some(unavailable), _) => {
            (demand.expected, demand.has_unmanaged) = expected(view)?;
            demand.healthy =
                demand.expected.saturating_sub(scaled(unavailable, demand.expected, true)).max(0);
        }
        (None, Some(available)) => {
            (demand.expected, demand.has_unmanaged) = expected(view)?;
            demand.healthy = scaled(available, demand.expected, true);
        }
    }
    Ok(demand)
}

/// How many pods there should be by what controls those that there are; and whether some are controlled by nothing.
fn expected(view: &View) -> Result<(i32, bool), String> {
    let mut by_workload: BTreeMap<&str, i32> = BTreeMap::new();
    let mut has_unmanaged = false;
    for pod in &view.pods {
        let Some(owner) = controller_ref(&**pod) else {
            has_unmanaged = true;
            continue;
        };
        match view.scales.get(owner) {
            Some(Scale::Of { uid, replicas }) => {
                by_workload.insert(uid, *replicas);
            }
            Some(Scale::Unknown(why)) => return Err(why.clone()),
            Some(Scale::Gone) | None => {
                return Err(format!("found no controllers for pod {:?}", pod.name_any()));
            }
        }
    }
    Ok((by_workload.values().fold(0, |sum: i32, count| sum.saturating_add(*count)), has_unmanaged))
}

/// The pods that are being evicted and not yet seen to be deleted. One that takes too long is taken to stay.
fn disrupted(
    budget: &PodDisruptionBudget,
    view: &View,
    plan: &mut Plan<()>,
    now: Timestamp,
) -> BTreeMap<String, Time> {
    let noted = budget.status.as_ref().and_then(|status| status.disrupted_pods.as_ref());
    let mut disrupted = BTreeMap::new();
    for pod in view.pods.iter().filter(|pod| !is_terminating(&***pod)) {
        let name = pod.name_any();
        let Some(since) = noted.and_then(|noted| noted.get(&name)) else { continue };
        let over = since.0.checked_add(PATIENCE).unwrap_or(Timestamp::MAX);
        if now < over {
            plan.look_again(over);
            disrupted.insert(name, since.clone());
        } else {
            let message =
                format!("Pod was expected by PDB {} to be deleted but it wasn't", ObjectKey::of(budget));
            plan.then(tell(&**pod, EventType::Warning, "NotDeleted", message));
        }
    }
    disrupted
}

/// Allows nothing, and says why.
fn forbid(budget: &PodDisruptionBudget, why: String, now: Timestamp) -> Option<Action> {
    let mut status = budget.status.clone().unwrap_or_default();
    status.disruptions_allowed = Some(0);
    set_condition(&mut status, "False", "SyncFailed", why, now);
    write(budget, &status)
}

fn set_condition(
    status: &mut PodDisruptionBudgetStatus,
    value: &str,
    reason: &str,
    message: String,
    now: Timestamp,
) {
    const ALLOWED: &str = "DisruptionAllowed";
    let conditions = status.conditions.get_or_insert_default();
    let before = conditions.iter().position(|condition| condition.type_ == ALLOWED);
    let since = before.map(|at| &conditions[at]).filter(|before| before.status == value);
    let condition = Condition {
        type_: ALLOWED.to_owned(),
        status: value.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: status.observed_generation,
        last_transition_time: since.map_or(Time(now), |before| before.last_transition_time.clone()),
    };
    match before {
        Some(at) => conditions[at] = condition,
        None => conditions.push(condition),
    }
}

/// Writes a status that differs from what was said last.
fn write(budget: &PodDisruptionBudget, status: &PodDisruptionBudgetStatus) -> Option<Action> {
    if budget.status.as_ref() == Some(status) {
        return None;
    }
    let value = |status: &PodDisruptionBudgetStatus| serde_json::to_value(status).unwrap_or_default();
    let before: Value = budget.status.as_ref().map(value).unwrap_or_default();
    Some(patch_status(budget, difference(&before, &value(status))))
}

/// Why a budget that counts parts is not to be trusted, in upstream's words.
fn unmanaged(budget: &PodDisruptionBudget) -> String {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    format!(
        "Pods selected by this PodDisruptionBudget (selector: {}) were found to be unmanaged. As a result, the status of \
         the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods please \
         set \".spec.minAvailable\" field of the PDB to an integer value.",
        selector.map_or_else(|| "nil".to_owned(), described)
    )
}

/// A selector as upstream prints it.
fn described(selector: &LabelSelector) -> String {
    let labels = selector.match_labels.iter().flatten().map(|(name, value)| format!("{name}: {value},"));
    let requirements = selector.match_expressions.iter().flatten().map(|requirement| {
        let values = requirement.values.iter().flatten().map(String::as_str).collect::<Vec<_>>().join(" ");
        let (key, operator) = (&requirement.key, &requirement.operator);
        format!("LabelSelectorRequirement{{Key:{key},Operator:{operator},Values:[{values}],}},")
    });
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{}}},MatchExpressions:[]LabelSelectorRequirement{{{}}},}}",
        labels.collect::<String>(),
        requirements.collect::<String>()
    )
}
