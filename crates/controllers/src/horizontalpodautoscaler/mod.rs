//! HorizontalPodAutoscalers: as many replicas of a target as its metrics ask for, within bounds and not too fast.
//!
//! What is asked of the server (the target's scale, the metrics) comes in by `observe`; what metrics ask for is
//! `calculate`'s, what is said when they cannot tell `proposal`'s, and what becomes of it `behavior`'s.

mod behavior;
mod calculate;
mod kinds;
mod metrics;
mod proposal;
mod status;
#[cfg(test)]
mod tests;

use crate::ownership::is_terminating;
use crate::plan::{Action, Attempt, Failure, Lists, Patch, Plan};
use crate::pod::Pod;
use crate::{Controller, World};
use apimachinery::selector::Selector;
use async_trait::async_trait;
use behavior::{Bounds, History};
use calculate::{Scene, Tolerances};
use client::kube::{Client, Error, ResourceExt};
use client::{Change, ObjectKey, Reader, WorkQueue, by_namespace};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v2::{
    HPAScalingRules, HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec, MetricStatus,
};
use kinds::{Kinds, ScaleTarget};
use metrics::{Metrics, Reading};
use proposal::{Proposal, Unknown, propose};
use serde_json::json;
use status::Report;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How often each is looked at: upstream's.
const PERIOD: SignedDuration = SignedDuration::from_secs(15);
/// How far usage may be off its target: upstream's.
const TOLERANCE: f64 = 0.1;
/// For how long a pod may be starting, which takes CPU time: upstream's.
const CPU_INITIALIZATION: SignedDuration = SignedDuration::from_mins(5);
/// A pod that became unready within this time of its start has never been ready: upstream's.
const INITIAL_READINESS: SignedDuration = SignedDuration::from_secs(30);

/// The controller; see the module.
pub struct HorizontalPodAutoscalers {
    autoscalers: Reader<HorizontalPodAutoscaler>,
    pods: Reader<Pod>,
    client: Client,
    kinds: Kinds,
    /// Which pods each one scales, as it was found last.
    selectors: Mutex<HashMap<ObjectKey, Selector>>,
}

/// What it looks at.
#[derive(Default)]
pub struct View {
    /// The autoscaler, unless it is gone.
    pub autoscaler: Option<Arc<HorizontalPodAutoscaler>>,
    /// What it scales, or why that cannot be found.
    pub target: Option<Result<ScaleTarget, String>>,
    /// Which pods its target selects.
    pub selected: Selected,
    /// What each of its metrics is now, or why that cannot be told.
    pub metrics: Vec<Result<Reading, String>>,
}

/// The pods of a target.
#[derive(Default)]
pub enum Selected {
    /// The target does not say which.
    #[default]
    Missing,
    /// What it says makes no sense.
    Invalid(String),
    /// These.
    Pods {
        /// The pods.
        pods: Vec<Arc<Pod>>,
        /// Whoever scales any of these, this autoscaler included.
        scaled_by: Vec<ObjectKey>,
    },
}

/// What is remembered of an autoscaler.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Memory {
    history: History,
    /// What was tried last. That it worked is seen by the scale.
    rescale: Option<Rescale>,
    /// Why that did not work.
    failure: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
struct Rescale {
    from: i32,
    to: i32,
    why: String,
    at: Timestamp,
}

#[async_trait]
impl Controller for HorizontalPodAutoscalers {
    const NAME: &'static str = "horizontal-pod-autoscaler";
    type Key = ObjectKey;
    type View = View;
    type Memory = Memory;

    fn wire(world: &World, queue: &Arc<WorkQueue<ObjectKey>>) -> Self {
        let (autoscalers, pods) = (world.reader::<HorizontalPodAutoscaler>(), world.pods());
        pods.informer().index_by(by_namespace());
        let add = queue.clone();
        autoscalers.informer().on_change(move |change| {
            if asks_for_else(change) {
                add.add(ObjectKey::of(&**change.object()));
            }
        });
        let client = world.client().clone();
        let kinds = Kinds::new(client.clone(), world.ambient().clone());
        Self { autoscalers, pods, client, kinds, selectors: Mutex::default() }
    }

    fn view(&self, key: &ObjectKey) -> View {
        let autoscaler = self.autoscalers.get(key).filter(|autoscaler| !is_terminating(&**autoscaler));
        if autoscaler.is_none() {
            self.selectors().remove(key);
        }
        View { autoscaler, ..View::default() }
    }

    async fn observe(&self, key: &ObjectKey, view: &mut View) -> Result<(), Error> {
        let Some(autoscaler) = view.autoscaler.clone() else { return Ok(()) };
        let spec = &autoscaler.spec;
        let target = self.kinds.scale_of(&key.namespace, &spec.scale_target_ref).await;
        if let Ok(target) = &target {
            let text = target.scale.status.as_ref().and_then(|status| status.selector.as_deref());
            let text = text.unwrap_or_default();
            view.selected = self.select(key, text);
            if matches!(&view.selected, Selected::Pods { .. }) && is_measured(spec, replicas(target)) {
                let metrics = Metrics {
                    client: &self.client,
                    kinds: &self.kinds,
                    namespace: &key.namespace,
                    selector: text,
                };
                for metric in spec.metrics.iter().flatten() {
                    view.metrics.push(metrics.read(metric).await);
                }
            }
        }
        view.target = Some(target);
        Ok(())
    }

    fn plan(_key: &ObjectKey, view: &View, memory: &Memory, now: Timestamp) -> Plan<Memory> {
        plan(view, memory, now)
    }

    fn failed(memory: &mut Memory, failure: &Failure) {
        // Its own status is written again at the next look; a scale that could not be is told of then.
        if failure.attempt == Attempt::Update && failure.plural != "horizontalpodautoscalers" {
            memory.failure = Some(failure.message.clone());
        }
    }
}

impl HorizontalPodAutoscalers {
    fn selectors(&self) -> MutexGuard<'_, HashMap<ObjectKey, Selector>> {
        self.selectors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pods of the target, and who else scales them.
    fn select(&self, key: &ObjectKey, text: &str) -> Selected {
        if text.is_empty() {
            return Selected::Missing;
        }
        let selector = match Selector::parse(text) {
            Ok(selector) => selector,
            Err(error) => return Selected::Invalid(error.to_string()),
        };
        let mut pods = self.pods.by_index("namespace", &key.namespace);
        pods.retain(|pod| selects(&selector, pod));
        let mut selectors = self.selectors();
        selectors.insert(key.clone(), selector);
        let neighbours = selectors.iter().filter(|(other, _)| other.namespace == key.namespace);
        let scaling = neighbours.filter(|(_, theirs)| pods.iter().any(|pod| selects(theirs, pod)));
        let mut scaled_by: Vec<_> = scaling.map(|(other, _)| other.clone()).collect();
        scaled_by.sort();
        Selected::Pods { pods, scaled_by }
    }
}

/// Whether it is new, gone, or asks for something else than before; its own status is no news.
fn asks_for_else(change: &Change<HorizontalPodAutoscaler>) -> bool {
    change.before().map(|before| &before.spec) != change.after().map(|after| &after.spec)
}

fn selects(selector: &Selector, pod: &Arc<Pod>) -> bool {
    selector.matches_with(|name| pod.labels().get(name).map(String::as_str))
}

fn replicas(target: &ScaleTarget) -> i32 {
    target.scale.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0)
}

fn least(spec: &HorizontalPodAutoscalerSpec) -> i32 {
    spec.min_replicas.unwrap_or(1)
}

/// Whether metrics decide.
fn is_measured(spec: &HorizontalPodAutoscalerSpec, current: i32) -> bool {
    (current != 0 || least(spec) == 0) && (least(spec)..=spec.max_replicas).contains(&current)
}

/// Decides what to do about one HorizontalPodAutoscaler; pure.
pub fn plan(view: &View, memory: &Memory, now: Timestamp) -> Plan<Memory> {
    let Some(autoscaler) = view.autoscaler.as_deref() else { return Plan::default() };
    let mut memory = memory.clone();
    let mut report = Report::new(autoscaler, now);
    let scale = match &view.target {
        Some(Ok(target)) => decide(autoscaler, target, view, &mut memory, &mut report),
        other => {
            let why = match other {
                Some(Err(why)) => why.as_str(),
                _ => "it has not been asked for",
            };
            report.warn("FailedGetScale", why);
            let message = format!("the HPA controller was unable to get the target's current scale: {why}");
            report.set("AbleToScale", false, "FailedGetScale", message);
            None
        }
    };
    let mut plan = Plan { memory: Some(memory), ..Plan::default() };
    plan.then(scale);
    plan.actions.extend(report.actions());
    plan.look_again(now.checked_add(PERIOD).ok());
    plan
}

/// Decides by what is known of the target: the write that scales it, if it has to be.
fn decide(
    autoscaler: &HorizontalPodAutoscaler,
    target: &ScaleTarget,
    view: &View,
    memory: &mut Memory,
    report: &mut Report<'_>,
) -> Option<Action> {
    let spec = &autoscaler.spec;
    let current = replicas(target);
    let said = ("SucceededGetScale", "the HPA controller was able to get the target's current scale");
    report.set("AbleToScale", true, said.0, said.1);
    if memory.history.recommended.is_empty() {
        memory.history.recommended.push((report.now, current));
    }
    if let Some(why) = memory.failure.take() {
        return failed_to_scale(memory, current, &why, report);
    }
    if let Some(rescale) = memory.rescale.take()
        && rescale.to == current
    {
        memory.history.scaled((rescale.from, rescale.to), rescale.at);
    }
    let (wanted, why) = if current == 0 && least(spec) != 0 {
        let message = "scaling is disabled since the replica count of the target is zero";
        report.set("ScalingActive", false, "ScalingDisabled", message);
        (0, String::new())
    } else if current > spec.max_replicas {
        (spec.max_replicas, "Current number of replicas above Spec.MaxReplicas".to_owned())
    } else if current < least(spec) {
        (least(spec), "Current number of replicas below Spec.MinReplicas".to_owned())
    } else {
        measure(autoscaler, target, view, memory, report)?
    };
    report.replicas(current, wanted, wanted != current);
    if wanted == current {
        return None;
    }
    let message = format!("the HPA controller was able to update the target scale to {wanted}");
    report.set("AbleToScale", true, "SucceededRescale", message);
    report.tell("SuccessfulRescale", format!("New size: {wanted}; reason: {why}"));
    memory.rescale = Some(Rescale { from: current, to: wanted, why, at: report.now });
    Some(rescaled(target, wanted))
}

/// Tells that the last attempt did not work. The next one is made after the usual time.
fn failed_to_scale(
    memory: &mut Memory,
    current: i32,
    error: &str,
    report: &mut Report<'_>,
) -> Option<Action> {
    if let Some(Rescale { to, why, .. }) = memory.rescale.take() {
        report.warn("FailedRescale", format!("New size: {to}; reason: {why}; error: {error}"));
    }
    let message = format!("the HPA controller was unable to update the target scale: {error}");
    report.set("AbleToScale", false, "FailedUpdateScale", message);
    report.current(current);
    None
}

/// What metrics ask for, settled, and why it is asked for; nothing where that cannot be told.
fn measure(
    autoscaler: &HorizontalPodAutoscaler,
    target: &ScaleTarget,
    view: &View,
    memory: &mut Memory,
    report: &mut Report<'_>,
) -> Option<(i32, String)> {
    let spec = &autoscaler.spec;
    let current = replicas(target);
    let computed = match pods(&view.selected, target, report) {
        Ok(pods) => {
            let scene = Scene {
                current,
                reported: target.scale.status.as_ref().map_or(0, |status| status.replicas),
                pods,
                tolerances: tolerances(spec),
                now: report.now,
            };
            highest(autoscaler, spec, &view.metrics, scene, report)
        }
        Err(error) => Err(error),
    };
    let (asked, metric) = match computed {
        Ok(computed) => computed,
        Err(error) => {
            report.current(current);
            report.warn("FailedComputeMetricsReplicas", error);
            return None;
        }
    };
    let why = match asked.cmp(&current) {
        std::cmp::Ordering::Greater => format!("{metric} above target"),
        std::cmp::Ordering::Less => "All metrics below target".to_owned(),
        std::cmp::Ordering::Equal => String::new(),
    };
    let bounds = Bounds { least: least(spec), most: spec.max_replicas, current };
    let history = &mut memory.history;
    let settled = behavior::settle(spec.behavior.as_ref(), history, bounds, asked, report.now);
    report.set("AbleToScale", true, settled.able.0, settled.able.1);
    let (is_limited, (reason, message)) = settled.limited;
    report.set("ScalingLimited", is_limited, reason, message);
    Some((settled.replicas, why))
}

/// The pods of the target, if they are this autoscaler's alone.
fn pods<'a>(
    selected: &'a Selected,
    target: &ScaleTarget,
    report: &mut Report<'_>,
) -> Result<&'a [Arc<Pod>], String> {
    let (reason, event, error, message) = match selected {
        Selected::Pods { pods, scaled_by } if scaled_by.len() <= 1 => return Ok(pods),
        Selected::Pods { scaled_by, .. } => {
            let selector = target.scale.status.as_ref().and_then(|status| status.selector.as_deref());
            let all: Vec<_> =
                scaled_by.iter().map(|key| format!("{{{} {}}}", key.name, key.namespace)).collect();
            let error = format!(
                "pods by selector {} are controlled by multiple HPAs: [{}]",
                selector.unwrap_or_default(),
                all.join(" ")
            );
            ("AmbiguousSelector", "AmbiguousSelector", error.clone(), error)
        }
        Selected::Missing => {
            let message = "the HPA target's scale is missing a selector".to_owned();
            ("InvalidSelector", "SelectorRequired", "selector is required".to_owned(), message)
        }
        Selected::Invalid(why) => {
            let error =
                format!("couldn't convert selector into a corresponding internal selector object: {why}");
            ("InvalidSelector", "InvalidSelector", error.clone(), error)
        }
    };
    report.warn(event, &*error);
    report.set("ScalingActive", false, reason, message);
    Err(error)
}

/// The most that any metric asks for. Metrics that cannot tell keep the others from scaling down, not up.
fn highest(
    autoscaler: &HorizontalPodAutoscaler,
    spec: &HorizontalPodAutoscalerSpec,
    readings: &[Result<Reading, String>],
    scene: Scene<'_>,
    report: &mut Report<'_>,
) -> Result<(i32, String), String> {
    let namespace = autoscaler.namespace().unwrap_or_default();
    let metrics = spec.metrics.as_deref().unwrap_or_default();
    let (mut highest, mut first, mut failed): (Option<Proposal>, Option<Unknown>, usize) = (None, None, 0);
    for (number, metric) in metrics.iter().enumerate() {
        let read = match readings.get(number) {
            Some(read) => read.as_ref().map_err(String::as_str),
            None => Err("it has not been asked for"),
        };
        match propose(metric, &namespace, read, scene) {
            Ok(proposal) => {
                report.metric(proposal.status.clone());
                if highest
                    .as_ref()
                    .is_none_or(|known| known.replicas == 0 || proposal.replicas > known.replicas)
                {
                    highest = Some(proposal);
                }
            }
            Err(unknown) => {
                // In the place of its metric, so that others are in theirs.
                report.metric(MetricStatus { type_: metric.type_.clone(), ..MetricStatus::default() });
                report.warn(unknown.reason, &*unknown.why);
                failed += 1;
                first.get_or_insert(unknown);
            }
        }
    }
    let known = highest.filter(|highest| first.is_none() || highest.replicas >= scene.current);
    match (known, first) {
        (Some(highest), _) => {
            let found = "the HPA was able to successfully calculate a replica count from";
            report.set("ScalingActive", true, "ValidMetricFound", format!("{found} {}", highest.metric));
            Ok((highest.replicas, highest.metric))
        }
        (None, Some(first)) => {
            let message = format!("the HPA was unable to compute the replica count: {}", first.why);
            report.set("ScalingActive", false, first.reason, message);
            let of = metrics.len();
            Err(format!("invalid metrics ({failed} invalid out of {of}), first error is: {}", first.error))
        }
        (None, None) => Err("there are no metrics".into()),
    }
}

fn tolerances(spec: &HorizontalPodAutoscalerSpec) -> Tolerances {
    let of = |rules: Option<&HPAScalingRules>| {
        let text = rules.and_then(|rules| rules.tolerance.as_ref());
        let given = text.and_then(|text| text.0.parse::<apimachinery::quantity::Quantity>().ok());
        given.map_or(TOLERANCE, |given| given.approximate())
    };
    let behavior = spec.behavior.as_ref();
    Tolerances {
        up: of(behavior.and_then(|behavior| behavior.scale_up.as_ref())),
        down: of(behavior.and_then(|behavior| behavior.scale_down.as_ref())),
    }
}

/// The write that gives a target its size, if it is still as it was when that was decided.
fn rescaled(target: &ScaleTarget, replicas: i32) -> Action {
    let meta = &target.scale.metadata;
    Action::Patch(Patch {
        resource: target.kind.resource.clone(),
        key: ObjectKey::of(&target.scale),
        subresource: Some("scale"),
        body: json!({
            "metadata": { "uid": meta.uid, "resourceVersion": meta.resource_version },
            "spec": { "replicas": replicas },
        }),
        lists: Lists::Replaced,
    })
}
