//! What is made of the replicas that metrics ask for: what was asked for lately, how fast the target may change, and
//! between which bounds.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v2::{HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscalerBehavior};

/// How long the highest of what was asked for holds, where nothing else is said.
const DOWN_STABILIZATION: i32 = 300;
/// The longest period that a policy may have.
const LONGEST_PERIOD: i32 = 1800;
/// Of each list at most so much is remembered; a window of an hour has 240 looks.
const REMEMBERED: usize = 1024;

/// What happened lately, the latest last.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct History {
    /// What metrics asked for.
    pub(super) recommended: Vec<(Timestamp, i32)>,
    /// Replicas that were added.
    pub(super) added: Vec<(Timestamp, i32)>,
    /// Replicas that were taken away.
    pub(super) removed: Vec<(Timestamp, i32)>,
}

impl History {
    /// Notes what was asked for.
    fn recommend(&mut self, wanted: i32, keep: SignedDuration, now: Timestamp) {
        forget(&mut self.recommended, keep, now);
        self.recommended.push((now, wanted));
    }

    /// Notes that the target was scaled, for policies will ask.
    pub(super) fn scaled(&mut self, change: (i32, i32), at: Timestamp) {
        let (from, to) = change;
        let list = if to > from { &mut self.added } else { &mut self.removed };
        forget(list, seconds(LONGEST_PERIOD), at);
        list.push((at, (to - from).abs()));
    }
}

fn forget(list: &mut Vec<(Timestamp, i32)>, keep: SignedDuration, now: Timestamp) {
    list.retain(|(at, _)| now.duration_since(*at) <= keep);
    if list.len() >= REMEMBERED {
        list.drain(..=list.len() - REMEMBERED);
    }
}

/// Between what the target may be, and what it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) least: i32,
    pub(super) most: i32,
    pub(super) current: i32,
}

/// A reason and words for it.
pub(super) type Said = (&'static str, &'static str);

/// What becomes of what metrics ask for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Settled {
    pub(super) replicas: i32,
    /// Why it is able to scale.
    pub(super) able: Said,
    /// Whether something keeps it from what was asked for, and what.
    pub(super) limited: (bool, Said),
}

const READY: Said = ("ReadyForNewScale", "recommended size matches current size");
const WITHIN: Said = ("DesiredWithinRange", "the desired count is within the acceptable range");
const UP_STABILIZED: Said = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
);
const DOWN_STABILIZED: Said = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
);
const TOO_FAST_UP: Said =
    ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate");
const TOO_FAST_DOWN: Said =
    ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate");
const TOO_MANY: Said =
    ("TooManyReplicas", "the desired replica count is more than the maximum replica count");
const TOO_FEW: Said = ("TooFewReplicas", "the desired replica count is less than the minimum replica count");

/// Settles on a number, and remembers what was asked for.
pub(super) fn settle(
    behavior: Option<&HorizontalPodAutoscalerBehavior>,
    history: &mut History,
    bounds: Bounds,
    wanted: i32,
    now: Timestamp,
) -> Settled {
    let (stable, replicas, why, stabilized) = match behavior {
        None => {
            let stable = highest(history, wanted, now);
            let (replicas, why) = limit(bounds, stable);
            (stable, replicas, why, DOWN_STABILIZED)
        }
        Some(behavior) => {
            let stable = stabilize(behavior, history, bounds.current, wanted, now);
            let (replicas, why) = pace(behavior, history, bounds, stable, now);
            (stable, replicas, why, if wanted >= bounds.current { UP_STABILIZED } else { DOWN_STABILIZED })
        }
    };
    let able = if stable == wanted { READY } else { stabilized };
    Settled { replicas, able, limited: (replicas != stable, why) }
}

/// Without a behavior: the highest that was asked for lately.
fn highest(history: &mut History, wanted: i32, now: Timestamp) -> i32 {
    let window = seconds(DOWN_STABILIZATION);
    let recent = history.recommended.iter().filter(|(at, _)| now.duration_since(*at) <= window);
    let highest = recent.map(|(_, replicas)| *replicas).fold(wanted, i32::max);
    history.recommend(wanted, window, now);
    highest
}

/// Without a behavior: twice as many at a time, or four.
fn limit(bounds: Bounds, wanted: i32) -> (i32, Said) {
    let fastest = bounds.current.saturating_mul(2).max(4);
    let (most, why) = match bounds.most > fastest {
        true => (fastest, TOO_FAST_UP),
        false => (bounds.most, TOO_MANY),
    };
    match wanted {
        few if few < bounds.least => (bounds.least, TOO_FEW),
        many if many > most => (most, why),
        within => (within, WITHIN),
    }
}

/// No more than the least, and no less than the most that was asked for in the windows of the two directions.
fn stabilize(
    behavior: &HorizontalPodAutoscalerBehavior,
    history: &mut History,
    current: i32,
    wanted: i32,
    now: Timestamp,
) -> i32 {
    let window = |rules: Option<&HPAScalingRules>, default: i32| {
        seconds(rules.and_then(|rules| rules.stabilization_window_seconds).unwrap_or(default))
    };
    let up = window(behavior.scale_up.as_ref(), 0);
    let down = window(behavior.scale_down.as_ref(), DOWN_STABILIZATION);
    let within = |window: SignedDuration| {
        let recent = history.recommended.iter().filter(move |(at, _)| now.duration_since(*at) < window);
        recent.map(|(_, replicas)| *replicas)
    };
    let lowest = within(up).fold(wanted, i32::min);
    let highest = within(down).fold(wanted, i32::max);
    history.recommend(wanted, up.max(down), now);
    current.max(lowest).min(highest)
}

/// No faster than the policies allow.
fn pace(
    behavior: &HorizontalPodAutoscalerBehavior,
    history: &History,
    bounds: Bounds,
    wanted: i32,
    now: Timestamp,
) -> (i32, Said) {
    if wanted > bounds.current {
        let fastest = fastest(behavior.scale_up.as_ref(), history, bounds.current, true, now);
        let fastest = fastest.max(bounds.current);
        let (most, why) = match bounds.most > fastest {
            true => (fastest, TOO_FAST_UP),
            false => (bounds.most, TOO_MANY),
        };
        if wanted > most {
            return (most, why);
        }
    } else if wanted < bounds.current {
        let fastest = fastest(behavior.scale_down.as_ref(), history, bounds.current, false, now);
        let fastest = fastest.min(bounds.current);
        let (least, why) = match bounds.least < fastest {
            true => (fastest, TOO_FAST_DOWN),
            false => (bounds.least, TOO_FEW),
        };
        if wanted < least {
            return (least, why);
        }
    }
    (wanted, WITHIN)
}

/// As far as policies let the target go by now.
fn fastest(
    rules: Option<&HPAScalingRules>,
    history: &History,
    current: i32,
    up: bool,
    now: Timestamp,
) -> i32 {
    let select = rules.and_then(|rules| rules.select_policy.as_deref()).unwrap_or("Max");
    if select == "Disabled" {
        return current;
    }
    let changed = |list: &[(Timestamp, i32)], period: SignedDuration| {
        let recent = list.iter().filter(|(at, _)| now.duration_since(*at) < period);
        recent.map(|(_, change)| *change).fold(0, i32::saturating_add)
    };
    let proposals = policies(rules, up).into_iter().map(|policy| {
        let period = seconds(policy.period_seconds);
        let (added, removed) = (changed(&history.added, period), changed(&history.removed, period));
        let began = current.saturating_sub(added).saturating_add(removed);
        match (policy.type_.as_str(), up) {
            ("Percent", true) => percent(began, policy.value, true),
            ("Percent", false) => percent(began, -policy.value, false),
            (_, true) => began.saturating_add(policy.value),
            (_, false) => began.saturating_sub(policy.value),
        }
    });
    // The greatest change is the highest number on the way up, and the lowest on the way down.
    match (select == "Min") == up {
        true => proposals.min(),
        false => proposals.max(),
    }
    .unwrap_or(current)
}

/// So many percent more or less: rounded up where otherwise nothing would ever be added, towards zero where taken away.
#[allow(clippy::cast_possible_truncation)]
fn percent(of: i32, change: i32, up: bool) -> i32 {
    let changed = f64::from(of) * (1.0 + f64::from(change) / 100.0);
    (if up { changed.ceil() } else { changed.trunc() }) as i32
}

/// The policies of a direction, or those that the API gives where none are said.
fn policies(rules: Option<&HPAScalingRules>, up: bool) -> Vec<HPAScalingPolicy> {
    let of = |type_: &str, value| HPAScalingPolicy { period_seconds: 15, type_: type_.to_owned(), value };
    match rules.and_then(|rules| rules.policies.as_ref()).filter(|policies| !policies.is_empty()) {
        Some(policies) => policies.clone(),
        None if up => vec![of("Pods", 4), of("Percent", 100)],
        None => vec![of("Percent", 100)],
    }
}

fn seconds(number: i32) -> SignedDuration {
    SignedDuration::from_secs(i64::from(number))
}
