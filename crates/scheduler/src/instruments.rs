//! What the scheduler counts of its work, under upstream's names.

use clock::Instant;
use instruments::{Counter, Family, Gauge, Histogram, Kind, Page};
use std::time::Duration;

/// How many profiles are told apart, and how many ways into a queue.
const PROFILES: usize = 64;
const WAYS: usize = 64;
/// So many attempts and more are one.
const MOST_ATTEMPTS: usize = 15;
/// Upstream's bounds, in nanoseconds. What is counted in pieces takes a second for each.
const ATTEMPT: &[u64] = &doubling::<15>(1_000_000);
const WHOLE: &[u64] = &doubling::<20>(10_000_000);
const VICTIMS: &[u64] = &doubling::<7>(1_000_000_000);
const ATTEMPTS: &[u64] = &doubling::<5>(1_000_000_000);

const fn doubling<const N: usize>(first: u64) -> [u64; N] {
    let mut bounds = [first; N];
    let mut at = 1;
    while at < N {
        bounds[at] = bounds[at - 1] * 2;
        at += 1;
    }
    bounds
}

/// Where a pod waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Active,
    Backoff,
    Unschedulable,
}

impl Place {
    const ALL: [Self; 3] = [Self::Active, Self::Backoff, Self::Unschedulable];

    fn label(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Backoff => "backoff",
            Self::Unschedulable => "unschedulable",
        }
    }
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Scheduled,
    Unschedulable,
    Error,
}

impl Outcome {
    const ALL: [Self; 3] = [Self::Scheduled, Self::Unschedulable, Self::Error];

    fn label(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Unschedulable => "unschedulable",
            Self::Error => "error",
        }
    }
}

/// An attempt to place a pod.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    /// When it began.
    pub(crate) began: Instant,
    /// When the pod came.
    pub(crate) came: Instant,
    /// How many there have been with this one.
    pub(crate) attempts: u32,
}

/// A way into a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Way {
    queue: &'static str,
    event: &'static str,
}

impl From<&Self> for Way {
    fn from(way: &Self) -> Self {
        *way
    }
}

/// Attempts under one profile, by their outcome.
#[derive(Debug)]
struct Attempts([Histogram; 3]);

/// The whole, for whoever shows it. It goes on counting when the lease comes back.
#[derive(Debug)]
pub struct Instruments {
    attempts: Family<Box<str>, Attempts>,
    pending: [Gauge; 3],
    incoming: Family<Way, Counter>,
    preemptions: Counter,
    victims: Histogram,
    /// Of pods that were placed: how many attempts each took, and by that how long.
    needed: Histogram,
    took: [Histogram; MOST_ATTEMPTS],
}

impl Default for Instruments {
    fn default() -> Self {
        let attempts = || Attempts([(); 3].map(|()| Histogram::new(ATTEMPT)));
        Self {
            attempts: Family::new(attempts, PROFILES),
            pending: Default::default(),
            incoming: Family::new(Counter::default, WAYS),
            preemptions: Counter::default(),
            victims: Histogram::new(VICTIMS),
            needed: Histogram::new(ATTEMPTS),
            took: std::array::from_fn(|_| Histogram::new(WHOLE)),
        }
    }
}

impl Instruments {
    /// A pod waits there from now on, for that reason.
    pub(crate) fn entered(&self, place: Place, event: &'static str) {
        self.pending[place as usize].add(1);
        self.incoming.with(&Way { queue: place.label(), event }, Counter::add_one);
    }

    /// And no more.
    pub(crate) fn left(&self, place: Place) {
        self.pending[place as usize].add(-1);
    }

    /// Who knew of all that wait has gone.
    pub(crate) fn forget_pending(&self) {
        self.pending.iter().for_each(|pending| pending.set(0));
    }

    /// It was tried to make room for a pod; so many others would have to go, if there is a way.
    pub(crate) fn preempted(&self, victims: Option<usize>) {
        self.preemptions.add_one();
        if let Some(victims) = victims {
            self.victims.observe(Duration::from_secs(victims as u64));
        }
    }

    /// An attempt under a profile has ended.
    pub(crate) fn ended(&self, profile: &str, outcome: Outcome, turn: Turn, now: Instant) {
        let took = now.since(turn.began);
        self.attempts.with(profile, |attempts| attempts.0[outcome as usize].observe(took));
        if outcome == Outcome::Scheduled {
            let attempts = turn.attempts.max(1);
            self.needed.observe(Duration::from_secs(attempts.into()));
            self.took[(attempts as usize).min(MOST_ATTEMPTS) - 1].observe(now.since(turn.came));
        }
    }

    /// Writes all of it on a page.
    pub fn write(&self, page: &mut Page) {
        self.write_attempts(page);
        page.family("scheduler_pending_pods", Kind::Gauge, "Pods that wait, by the queue.");
        for place in Place::ALL {
            page.sample(&[("queue", place.label())], self.pending[place as usize].get());
        }
        page.family(
            "scheduler_queue_incoming_pods_total",
            Kind::Counter,
            "Pods that came into a queue, and why.",
        );
        for (Way { queue, event }, counter) in self.incoming.all() {
            page.sample(&[("queue", queue), ("event", event)], counter.get());
        }
        page.family(
            "scheduler_preemption_attempts_total",
            Kind::Counter,
            "How often it was tried to make room for a pod.",
        );
        page.sample(&[], self.preemptions.get());
        page.family("scheduler_preemption_victims", Kind::Histogram, "Pods that had to go for one pod.");
        page.histogram(&[], &self.victims);
        page.family(
            "scheduler_pod_scheduling_attempts",
            Kind::Histogram,
            "Attempts that pods took until they were placed.",
        );
        page.histogram(&[], &self.needed);
        page.family(
            "scheduler_pod_scheduling_sli_duration_seconds",
            Kind::Histogram,
            "From when a pod came until it was placed, by its attempts.",
        );
        for (number, took) in (1..).zip(&self.took).filter(|(_, took)| took.count() > 0) {
            let label = if number == MOST_ATTEMPTS { format!("{number}+") } else { number.to_string() };
            page.histogram(&[("attempts", &label)], took);
        }
    }

    fn write_attempts(&self, page: &mut Page) {
        let all = self.attempts.all();
        let each = || {
            all.iter().flat_map(|(profile, attempts)| {
                Outcome::ALL.map(|outcome| {
                    ([("result", outcome.label()), ("profile", &**profile)], &attempts.0[outcome as usize])
                })
            })
        };
        page.family("scheduler_schedule_attempts_total", Kind::Counter, "Attempts to place a pod.");
        each().for_each(|(labels, took)| page.sample(&labels, took.count()));
        page.family(
            "scheduler_scheduling_attempt_duration_seconds",
            Kind::Histogram,
            "How long an attempt took, binding included.",
        );
        each().filter(|(_, took)| took.count() > 0).for_each(|(labels, took)| page.histogram(&labels, took));
    }
}
