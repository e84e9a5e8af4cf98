//! How many replicas a metric asks for: upstream's arithmetic, over plain values. Amounts are thousandths.

use super::{CPU_INITIALIZATION, INITIAL_READINESS};
use crate::pod::{Container, Phase, Pod};
use crate::pods::ready_since;
use apimachinery::quantity::Quantity;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a pod used, of one resource or metric.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sample {
    pub(super) at: Timestamp,
    pub(super) window: SignedDuration,
    pub(super) value: i64,
}

/// By pod.
pub(super) type Samples = BTreeMap<String, Sample>;

/// How far usage may be off the target, as a part of it, before anything is done about it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tolerances {
    pub(super) up: f64,
    pub(super) down: f64,
}

impl Tolerances {
    fn cover(self, ratio: f64) -> bool {
        (1.0 - self.down) <= ratio && ratio <= (1.0 + self.up)
    }
}

/// What each pod should use.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target<'a> {
    /// A percentage of what it requests of a resource, or one of its containers does.
    Utilization { percent: i32, resource: &'a str, container: Option<&'a str> },
    /// An amount.
    Average { value: i64, resource: Option<&'a str> },
}

/// What pods used, all in all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Usage {
    /// Of the target.
    ratio: f64,
    /// Percent of what they request.
    pub(super) percent: Option<i32>,
    /// A pod.
    pub(super) average: i64,
}

/// What is the same for all metrics of one look.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    /// What the target should have now.
    pub(super) current: i32,
    /// What the target says that it has.
    pub(super) reported: i32,
    /// The pods that its selector selects.
    pub(super) pods: &'a [Arc<Pod>],
    pub(super) tolerances: Tolerances,
    pub(super) now: Timestamp,
}

/// The replicas that pods' samples ask for, and what they used.
pub(super) fn by_pods(
    scene: Scene<'_>,
    target: Target<'_>,
    mut samples: Samples,
) -> Result<(i32, Usage), String> {
    some(scene.pods)?;
    let resource = match target {
        Target::Utilization { resource, .. } => Some(resource),
        Target::Average { resource, .. } => resource,
    };
    let groups = Groups::of(scene, &samples, resource);
    samples.retain(|pod, _| !groups.passed_over.contains(&pod.as_str()));
    if samples.is_empty() {
        return Err("did not receive metrics for targeted pods (pods might be unready)".into());
    }
    let aim = Aim::new(target, scene.pods)?;
    let mut used: BTreeMap<&str, i64> =
        samples.iter().map(|(pod, each)| (pod.as_str(), each.value)).collect();
    let usage = aim.usage(&used)?;
    let up_with_unready = !groups.unready.is_empty() && usage.ratio > 1.0;
    if !up_with_unready && groups.missing.is_empty() {
        let wanted = match scene.tolerances.cover(usage.ratio) {
            true => scene.current,
            false => whole(usage.ratio * count(groups.ready)),
        };
        return Ok((wanted, usage));
    }
    // What is not known is taken to speak against the change.
    if usage.ratio < 1.0 {
        used.extend(groups.missing.iter().map(|pod| (*pod, aim.assumed(pod))));
    } else if usage.ratio > 1.0 {
        used.extend(groups.missing.iter().map(|pod| (*pod, 0)));
    }
    if up_with_unready {
        used.extend(groups.unready.iter().map(|pod| (*pod, 0)));
    }
    let again = aim.usage(&used)?.ratio;
    let turned = |ratio: f64| (usage.ratio < 1.0 && ratio > 1.0) || (usage.ratio > 1.0 && ratio < 1.0);
    if scene.tolerances.cover(again) || turned(again) {
        return Ok((scene.current, usage));
    }
    let wanted = whole(again * count(used.len()));
    let wrong_way = (again < 1.0 && wanted > scene.current) || (again > 1.0 && wanted < scene.current);
    Ok((if wrong_way { scene.current } else { wanted }, usage))
}

/// The replicas that one amount for all of them asks for, by how many of them are ready.
pub(super) fn by_value(scene: Scene<'_>, used: i64, target: i64) -> Result<i32, String> {
    let ratio = float(used) / float(target);
    if scene.current == 0 {
        return Ok(whole(ratio));
    }
    if scene.tolerances.cover(ratio) {
        return Ok(scene.current);
    }
    some(scene.pods).map_err(|error| format!("unable to calculate ready pods: {error}"))?;
    let ready = |pod: &&Arc<Pod>| pod.status.phase == Phase::Running && ready_since(pod).is_some();
    Ok(whole(ratio * count(scene.pods.iter().filter(ready).count())))
}

/// The replicas that one amount asks for of which each should have so much, and what each has.
pub(super) fn by_average(scene: Scene<'_>, used: i64, target: i64) -> (i32, i64) {
    let ratio = float(used) / (float(target) * f64::from(scene.reported));
    let wanted = match scene.tolerances.cover(ratio) {
        true => scene.reported,
        false => whole(float(used) / float(target)),
    };
    let each = match scene.reported {
        0 => used,
        reported => ceiling(float(used) / f64::from(reported)),
    };
    (wanted, each)
}

/// What several series have together.
pub(super) fn total(values: &[i64]) -> i64 {
    values.iter().fold(0, |sum, value| sum.saturating_add(*value))
}

fn some(pods: &[Arc<Pod>]) -> Result<(), String> {
    match pods {
        [] => Err("no pods returned by selector while calculating replica count".into()),
        _ => Ok(()),
    }
}

/// Pods by what their samples say.
struct Groups<'a> {
    ready: usize,
    unready: Vec<&'a str>,
    missing: Vec<&'a str>,
    /// Those whose samples say nothing: the unready, and those that end.
    passed_over: Vec<&'a str>,
}

impl<'a> Groups<'a> {
    fn of(scene: Scene<'a>, samples: &Samples, resource: Option<&str>) -> Self {
        let mut groups = Self { ready: 0, unready: Vec::new(), missing: Vec::new(), passed_over: Vec::new() };
        for pod in scene.pods {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            if pod.metadata.deletion_timestamp.is_some() || pod.status.phase == Phase::Failed {
                groups.passed_over.push(name);
            } else if pod.status.phase == Phase::Pending {
                groups.unready.push(name);
            } else if let Some(sample) = samples.get(name) {
                match resource == Some("cpu") && is_unready(pod, sample, scene.now) {
                    true => groups.unready.push(name),
                    false => groups.ready += 1,
                }
            } else {
                groups.missing.push(name);
            }
        }
        groups.passed_over.extend(&groups.unready);
        groups
    }
}

/// Whether what a pod used of the CPU says nothing, because it is still starting or has never been ready.
fn is_unready(pod: &Pod, sample: &Sample, now: Timestamp) -> bool {
    let since = pod.status.ready_since.or(pod.status.unready_since);
    let (Some(since), Some(started)) = (since, pod.status.started_at) else { return true };
    let is_ready = pod.status.ready_since.is_some();
    let after = |at: Timestamp, wait: SignedDuration| at.checked_add(wait).unwrap_or(Timestamp::MAX);
    if after(started, CPU_INITIALIZATION) > now {
        return !is_ready || sample.at < after(since, sample.window);
    }
    !is_ready && after(started, INITIAL_READINESS) > since
}

/// A target, with what it takes to compare usage with it.
enum Aim<'a> {
    Utilization { percent: i32, requests: BTreeMap<&'a str, i64> },
    Average(i64),
}

impl<'a> Aim<'a> {
    fn new(target: Target<'_>, pods: &'a [Arc<Pod>]) -> Result<Self, String> {
        Ok(match target {
            Target::Average { value, .. } => Self::Average(value),
            Target::Utilization { percent, resource, container } => {
                let named = pods.iter().map(|pod| {
                    let name = pod.metadata.name.as_deref().unwrap_or_default();
                    requested(pod, name, resource, container).map(|request| (name, request))
                });
                Self::Utilization { percent, requests: named.collect::<Result<_, _>>()? }
            }
        })
    }

    fn usage(&self, used: &BTreeMap<&str, i64>) -> Result<Usage, String> {
        match self {
            Self::Average(target) => {
                let entries = i64::try_from(used.len()).unwrap_or(i64::MAX).max(1);
                let average = total(&used.values().copied().collect::<Vec<_>>()) / entries;
                Ok(Usage { ratio: float(average) / float(*target), percent: None, average })
            }
            Self::Utilization { percent, requests } => {
                let (mut amount, mut asked, mut entries) = (0_i128, 0_i128, 0_i128);
                for (pod, value) in used {
                    if let Some(request) = requests.get(pod) {
                        (amount, asked, entries) =
                            (amount + i128::from(*value), asked + i128::from(*request), entries + 1);
                    }
                }
                if asked == 0 {
                    return Err("no metrics returned matched known pods".into());
                }
                let current = i32::try_from(amount * 100 / asked).unwrap_or(i32::MAX);
                let average = i64::try_from(amount / entries).unwrap_or(i64::MAX);
                let ratio = f64::from(current) / f64::from(*percent);
                Ok(Usage { ratio, percent: Some(current), average })
            }
        }
    }

    /// What a pod is taken to use of which nothing is known, where that makes replicas no fewer.
    fn assumed(&self, pod: &str) -> i64 {
        match self {
            Self::Average(target) => *target,
            Self::Utilization { percent, requests } => {
                let request = requests.get(pod).copied().unwrap_or_default();
                request.saturating_mul(i64::from((*percent).max(100))) / 100
            }
        }
    }
}

/// What a pod requests of a resource: a container of it, the pod as a whole, or all of its containers.
fn requested(pod: &Pod, name: &str, resource: &str, container: Option<&str>) -> Result<i64, String> {
    let of_pod = pod.spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    if container.is_none()
        && let Some(requests) = of_pod.filter(|requests| !requests.is_empty())
    {
        if let Some(request) = requests.get(resource) {
            return Ok(thousandths(&request.0));
        }
        return Err(format!("missing pod-level request for {resource} in Pod {name}"));
    }
    let beside = |each: &&Container| each.restart_policy.as_deref() == Some("Always");
    let all = pod.spec.containers.iter().chain(pod.spec.init_containers.iter().filter(beside));
    let mut sum = 0_i64;
    let mut found = false;
    for each in all.filter(|each| container.is_none_or(|wanted| wanted == each.name)) {
        let requests = each.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        let Some(request) = requests.and_then(|requests| requests.get(resource)) else {
            return Err(format!("missing request for {resource} in container {} of Pod {name}", each.name));
        };
        sum = sum.saturating_add(thousandths(&request.0));
        found = true;
    }
    match container {
        Some(wanted) if !found => Err(format!("container {wanted} not found in Pod {name}")),
        _ => Ok(sum),
    }
}

/// A quantity that the server has validated, in thousandths.
pub(super) fn thousandths(text: &str) -> i64 {
    text.parse::<Quantity>().map(|amount| amount.milli_value()).unwrap_or_default()
}

/// Rounded up, and within what replicas may be.
#[allow(clippy::cast_possible_truncation)]
fn whole(replicas: f64) -> i32 {
    replicas.ceil() as i32
}

#[allow(clippy::cast_possible_truncation)]
fn ceiling(amount: f64) -> i64 {
    amount.ceil() as i64
}

#[allow(clippy::cast_precision_loss)]
fn float(amount: i64) -> f64 {
    amount as f64
}

#[allow(clippy::cast_precision_loss)]
fn count(of: usize) -> f64 {
    of as f64
}
