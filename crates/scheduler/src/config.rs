//! What may be set: which plugins decide, how much each counts, and their arguments. Defaults are upstream's.

mod read;

pub use read::ConfigError;

use crate::amounts::Resource;
use crate::plugins::{self, Plugin, PluginName};
use crate::terms::Spread;
use apimachinery::selector::Selector;
use k8s_openapi::api::core::v1::NodeAffinity;
use std::sync::Arc;
use std::time::Duration;

/// A scheduler's configuration.
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) profiles: Vec<Arc<Profile>>,
    /// The pause of a pod after its first failure; it doubles.
    pub(crate) first_pause: Duration,
    /// And never becomes longer than this.
    pub(crate) longest_pause: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            profiles: vec![Arc::default()],
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(10),
        }
    }
}

impl Config {
    /// Reads a `KubeSchedulerConfiguration`, as YAML or JSON.
    ///
    /// # Errors
    /// What is wrong with which field.
    pub fn read(text: &str) -> Result<Self, ConfigError> {
        read::read(text)
    }

    /// The name under which it speaks.
    pub(crate) fn name(&self) -> &str {
        self.profiles.first().map_or("default-scheduler", |profile| &profile.scheduler_name)
    }

    /// The profile of pods that name this scheduler.
    pub(crate) fn profile(&self, scheduler_name: &str) -> Option<&Arc<Profile>> {
        self.profiles.iter().find(|profile| profile.scheduler_name == scheduler_name)
    }
}

/// How pods of one scheduler's name are placed.
#[derive(Clone, Debug)]
pub struct Profile {
    pub(crate) scheduler_name: String,
    pub(crate) filters: Vec<Named>,
    pub(crate) scores: Vec<(Named, i64)>,
    pub(crate) preempts: bool,
    /// How many of the nodes that could take a pod are looked for; zero leaves it to the number of nodes.
    pub(crate) percentage_of_nodes_to_score: usize,
    pub(crate) fit: FitArgs,
    pub(crate) balance: Vec<Weighted>,
    pub(crate) hard_pod_affinity_weight: i64,
    pub(crate) ignore_preferences_of_placed: bool,
    pub(crate) added_affinity: Option<NodeAffinity>,
    /// For pods without constraints of their own.
    pub(crate) default_spread: Vec<Spread>,
    pub(crate) default_spread_is_the_systems: bool,
    pub(crate) bind_timeout: Duration,
    pub(crate) candidates: CandidateArgs,
}

/// A plugin, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Named(pub(crate) PluginName);

impl Named {
    /// What it does.
    pub(crate) fn plugin(self) -> Option<&'static Plugin> {
        plugins::of(self.0)
    }
}

impl Default for Profile {
    fn default() -> Self {
        let all = || plugins::ALL.into_iter();
        Self {
            scheduler_name: "default-scheduler".to_owned(),
            filters: all()
                .filter(|plugin| plugin.filter.is_some())
                .map(|plugin| Named(plugin.name))
                .collect(),
            scores: all()
                .filter(|plugin| plugin.score.is_some())
                .map(|plugin| (Named(plugin.name), plugin.weight))
                .collect(),
            preempts: true,
            percentage_of_nodes_to_score: 0,
            fit: FitArgs::default(),
            balance: Weighted::cpu_and_memory(),
            hard_pod_affinity_weight: 1,
            ignore_preferences_of_placed: false,
            added_affinity: None,
            default_spread: vec![soft("kubernetes.io/hostname", 3), soft("topology.kubernetes.io/zone", 5)],
            default_spread_is_the_systems: true,
            bind_timeout: Duration::from_secs(600),
            candidates: CandidateArgs::default(),
        }
    }
}

fn soft(key: &str, max_skew: i64) -> Spread {
    Spread {
        topology_key: key.to_owned(),
        max_skew,
        min_domains: 1,
        hard: false,
        selector: Selector::nothing(),
        honor_affinity: true,
        honor_taints: false,
    }
}

/// A resource, and how much it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Weighted {
    pub(crate) resource: Resource,
    pub(crate) weight: i64,
}

impl Weighted {
    fn cpu_and_memory() -> Vec<Self> {
        [Resource::Cpu, Resource::Memory].map(|resource| Self { resource, weight: 1 }).to_vec()
    }
}

/// What `NodeResourcesFit` takes.
#[derive(Clone, Debug)]
pub(crate) struct FitArgs {
    pub(crate) ignored: Vec<String>,
    pub(crate) ignored_groups: Vec<String>,
    pub(crate) packing: Packing,
}

impl FitArgs {
    /// Whether a resource is somebody else's to look after.
    pub(crate) fn ignores(&self, name: &str) -> bool {
        let group = name.split_once('/').map(|(group, _)| group);
        self.ignored.iter().any(|ignored| ignored == name)
            || self.ignored_groups.iter().any(|ignored| Some(ignored.as_str()) == group)
    }
}

impl Default for FitArgs {
    fn default() -> Self {
        let packing = Packing { resources: Weighted::cpu_and_memory(), shape: Shape::LeastAllocated };
        Self { ignored: Vec::new(), ignored_groups: Vec::new(), packing }
    }
}

/// How full nodes should become.
#[derive(Clone, Debug)]
pub(crate) struct Packing {
    pub(crate) resources: Vec<Weighted>,
    pub(crate) shape: Shape,
}

/// What a share of a resource that is taken is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    LeastAllocated,
    MostAllocated,
    /// By percentages that are taken, rising, the scores (of 100) at these; straight lines lie between.
    RequestedToCapacityRatio(Vec<(i64, i64)>),
}

impl Shape {
    /// The score of 100, where so much of what is there would be taken.
    pub(crate) fn score(&self, have: i64, taken: i64) -> i64 {
        let percent = |amount: i64| amount.saturating_mul(100) / have;
        match self {
            Self::LeastAllocated if taken > have => 0,
            Self::LeastAllocated => percent(have - taken),
            // What is promised beyond what there is counts as all of it.
            Self::MostAllocated => percent(taken.min(have)),
            Self::RequestedToCapacityRatio(points) if taken > have => on_lines(points, 100),
            Self::RequestedToCapacityRatio(points) => on_lines(points, 100 - percent(have - taken)),
        }
    }
}

fn on_lines(points: &[(i64, i64)], at: i64) -> i64 {
    let Some(after) = points.iter().position(|(x, _)| at <= *x) else {
        return points.last().map_or(0, |(_, score)| *score);
    };
    let (x1, y1) = points[after];
    match after.checked_sub(1).map(|before| points[before]) {
        None => y1,
        Some((x0, y0)) => y0 + (y1 - y0) * (at - x0) / (x1 - x0).max(1),
    }
}

/// On how many nodes preemption is tried out: a percentage, and at least so many.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CandidateArgs {
    pub(crate) percentage: usize,
    pub(crate) least: usize,
}

impl Default for CandidateArgs {
    fn default() -> Self {
        Self { percentage: 10, least: 100 }
    }
}

#[cfg(test)]
mod tests;
