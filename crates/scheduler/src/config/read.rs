//! From the file: the shape of upstream's `KubeSchedulerConfiguration`, as far as there is something here to set.

use super::{CandidateArgs, Config, FitArgs, Named, Packing, Profile, Shape, Weighted};
use crate::amounts::Resource;
use crate::plugins::{self, PluginName};
use crate::terms::{Labels, Spread};
use k8s_openapi::api::core::v1::{NodeAffinity, TopologySpreadConstraint};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// What is wrong with a configuration, and where.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct ConfigError(String);

fn wrong<T>(field: &str, why: impl std::fmt::Display) -> Result<T, ConfigError> {
    Err(ConfigError(format!("{field}: {why}")))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    percentage_of_nodes_to_score: Option<i64>,
    pod_initial_backoff_seconds: Option<u64>,
    pod_max_backoff_seconds: Option<u64>,
    #[serde(default)]
    profiles: Vec<FileProfile>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FileProfile {
    scheduler_name: Option<String>,
    percentage_of_nodes_to_score: Option<i64>,
    #[serde(default)]
    plugins: Points,
    #[serde(default)]
    plugin_config: Vec<PluginConfig>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Points {
    #[serde(default)]
    multi_point: Set,
    #[serde(default)]
    filter: Set,
    #[serde(default)]
    post_filter: Set,
    #[serde(default)]
    score: Set,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Set {
    #[serde(default)]
    enabled: Vec<Entry>,
    #[serde(default)]
    disabled: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    #[serde(default)]
    weight: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PluginConfig {
    name: String,
    #[serde(default)]
    args: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FitFile {
    #[serde(default)]
    ignored_resources: Vec<String>,
    #[serde(default)]
    ignored_resource_groups: Vec<String>,
    scoring_strategy: Option<StrategyFile>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct StrategyFile {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    resources: Vec<Entry>,
    requested_to_capacity_ratio: Option<RatioFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RatioFile {
    shape: Vec<PointFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PointFile {
    utilization: i64,
    score: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BalanceFile {
    resources: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct InterPodFile {
    hard_pod_affinity_weight: Option<i64>,
    #[serde(default)]
    ignore_preferred_terms_of_existing_pods: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NodeAffinityFile {
    added_affinity: Option<NodeAffinity>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SpreadFile {
    #[serde(default)]
    default_constraints: Vec<TopologySpreadConstraint>,
    defaulting_type: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct VolumeFile {
    bind_timeout_seconds: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PreemptionFile {
    min_candidate_nodes_percentage: Option<i64>,
    min_candidate_nodes_absolute: Option<i64>,
}

pub(super) fn read(text: &str) -> Result<Config, ConfigError> {
    let file: File = serde_yaml_ng::from_str(text).map_err(|error| ConfigError(error.to_string()))?;
    if file.api_version != "kubescheduler.config.k8s.io/v1" {
        return wrong("apiVersion", format!("{:?} is not kubescheduler.config.k8s.io/v1", file.api_version));
    }
    if file.kind != "KubeSchedulerConfiguration" {
        return wrong("kind", format!("{:?} is not KubeSchedulerConfiguration", file.kind));
    }
    let mut config = Config::default();
    if let Some(seconds) = file.pod_initial_backoff_seconds {
        config.first_pause = Duration::from_secs(seconds);
    }
    if let Some(seconds) = file.pod_max_backoff_seconds {
        config.longest_pause = Duration::from_secs(seconds);
    }
    if config.first_pause.is_zero() {
        return wrong("podInitialBackoffSeconds", "must be greater than 0");
    }
    if config.longest_pause < config.first_pause {
        return wrong("podMaxBackoffSeconds", "must be greater than or equal to podInitialBackoffSeconds");
    }
    let percentage = percent("percentageOfNodesToScore", file.percentage_of_nodes_to_score.unwrap_or(0))?;
    let given = if file.profiles.is_empty() { vec![FileProfile::default()] } else { file.profiles };
    let mut profiles: Vec<Arc<Profile>> = Vec::new();
    for (index, given) in given.into_iter().enumerate() {
        let field = format!("profiles[{index}]");
        let profile = profile(given, percentage, &field)?;
        if profiles.iter().any(|known| known.scheduler_name == profile.scheduler_name) {
            return wrong(
                &format!("{field}.schedulerName"),
                format!("{:?} is there twice", profile.scheduler_name),
            );
        }
        profiles.push(Arc::new(profile));
    }
    Ok(Config { profiles, ..config })
}

fn percent(field: &str, value: i64) -> Result<usize, ConfigError> {
    match usize::try_from(value) {
        Ok(percent) if percent <= 100 => Ok(percent),
        _ => wrong(field, format!("{value} is not between 0 and 100")),
    }
}

fn profile(given: FileProfile, percentage: usize, field: &str) -> Result<Profile, ConfigError> {
    let mut profile = Profile { percentage_of_nodes_to_score: percentage, ..Profile::default() };
    if let Some(name) = given.scheduler_name {
        if name.is_empty() {
            return wrong(&format!("{field}.schedulerName"), "must not be empty");
        }
        profile.scheduler_name = name;
    }
    if let Some(own) = given.percentage_of_nodes_to_score {
        profile.percentage_of_nodes_to_score = percent(&format!("{field}.percentageOfNodesToScore"), own)?;
    }
    let points = format!("{field}.plugins");
    let Points { multi_point, filter, post_filter, score } = given.plugins;
    let everywhere = Point { filters: true, scores: true, preempts: true };
    choose(&mut profile, multi_point, everywhere, &format!("{points}.multiPoint"))?;
    choose(&mut profile, filter, Point { filters: true, ..Point::default() }, &format!("{points}.filter"))?;
    choose(&mut profile, score, Point { scores: true, ..Point::default() }, &format!("{points}.score"))?;
    let preempting = Point { preempts: true, ..Point::default() };
    choose(&mut profile, post_filter, preempting, &format!("{points}.postFilter"))?;
    for (index, config) in given.plugin_config.into_iter().enumerate() {
        arguments(&mut profile, config, &format!("{field}.pluginConfig[{index}]"))?;
    }
    Ok(profile)
}

/// What a set of plugins is about.
#[derive(Clone, Copy, Default)]
struct Point {
    filters: bool,
    scores: bool,
    preempts: bool,
}

/// Always there, and never in another order.
const FIXED: [&str; 3] = ["PrioritySort", "SchedulingGates", "DefaultBinder"];

fn named(name: &str, field: &str) -> Result<PluginName, ConfigError> {
    let known = plugins::ALL.into_iter().map(|plugin| plugin.name).chain([PluginName::DefaultPreemption]);
    let mut all = known.clone();
    all.find(|known| known.to_string() == name).map_or_else(
        || {
            let names: Vec<_> = known.map(|name| name.to_string()).collect();
            wrong(field, format!("there is no plugin {name:?}; there are {}", names.join(", ")))
        },
        Ok,
    )
}

fn choose(profile: &mut Profile, set: Set, point: Point, field: &str) -> Result<(), ConfigError> {
    for (index, entry) in set.disabled.iter().enumerate() {
        let field = format!("{field}.disabled[{index}].name");
        let any = entry.name == "*";
        let name = if any { None } else { Some(named(&entry.name, &field)?) };
        let goes = |known: PluginName| name.is_none_or(|name| name == known);
        profile.filters.retain(|known| !(point.filters && goes(known.0)));
        profile.scores.retain(|(known, _)| !(point.scores && goes(known.0)));
        profile.preempts &= !(point.preempts && goes(PluginName::DefaultPreemption));
    }
    for (index, entry) in set.enabled.iter().enumerate() {
        if FIXED.contains(&entry.name.as_str()) {
            continue;
        }
        let field = format!("{field}.enabled[{index}]");
        let name = named(&entry.name, &format!("{field}.name"))?;
        if entry.weight < 0 {
            return wrong(&format!("{field}.weight"), "must not be below 0");
        }
        enable(profile, name, entry.weight, point);
    }
    Ok(())
}

fn enable(profile: &mut Profile, name: PluginName, weight: i64, point: Point) {
    profile.preempts |= point.preempts && name == PluginName::DefaultPreemption;
    let Some(plugin) = plugins::of(name) else { return };
    if point.filters && plugin.filter.is_some() && !profile.filters.contains(&Named(name)) {
        profile.filters.push(Named(name));
    }
    if point.scores && plugin.score.is_some() {
        profile.scores.retain(|(known, _)| known.0 != name);
        let by_default = if plugin.weight > 0 { plugin.weight } else { 1 };
        profile.scores.push((Named(name), if weight > 0 { weight } else { by_default }));
    }
}

fn args<T: DeserializeOwned>(mut args: Value, kind: &str, field: &str) -> Result<T, ConfigError> {
    if let Some(object) = args.as_object_mut() {
        object.remove("apiVersion");
        if let Some(given) = object.remove("kind")
            && given != kind
        {
            return wrong(&format!("{field}.args.kind"), format!("{given} is not {kind}"));
        }
    } else if args.is_null() {
        args = Value::Object(Default::default());
    }
    serde_json::from_value(args).or_else(|error| wrong(&format!("{field}.args"), error))
}

fn arguments(profile: &mut Profile, config: PluginConfig, field: &str) -> Result<(), ConfigError> {
    let name = named(&config.name, &format!("{field}.name"))?;
    let kind = format!("{name}Args");
    let at = |part: &str| format!("{field}.args.{part}");
    match name {
        PluginName::NodeResourcesFit => {
            profile.fit = fit(args(config.args, &kind, field)?, &format!("{field}.args"))?;
        }
        PluginName::NodeResourcesBalancedAllocation => {
            let given: BalanceFile = args(config.args, &kind, field)?;
            profile.balance = weighted(given.resources, &at("resources"))?;
        }
        PluginName::InterPodAffinity => {
            let given: InterPodFile = args(config.args, &kind, field)?;
            let weight = given.hard_pod_affinity_weight.unwrap_or(1);
            percent(&at("hardPodAffinityWeight"), weight)?;
            profile.hard_pod_affinity_weight = weight;
            profile.ignore_preferences_of_placed = given.ignore_preferred_terms_of_existing_pods;
        }
        PluginName::NodeAffinity => {
            profile.added_affinity = args::<NodeAffinityFile>(config.args, &kind, field)?.added_affinity;
        }
        PluginName::PodTopologySpread => spread(profile, args(config.args, &kind, field)?, &at)?,
        PluginName::VolumeBinding => {
            let given: VolumeFile = args(config.args, &kind, field)?;
            profile.bind_timeout = Duration::from_secs(given.bind_timeout_seconds.unwrap_or(600));
        }
        PluginName::DefaultPreemption => {
            let given: PreemptionFile = args(config.args, &kind, field)?;
            let default = CandidateArgs::default();
            let share = given.min_candidate_nodes_percentage.unwrap_or(10);
            let least = given.min_candidate_nodes_absolute.map_or(Ok(default.least), usize::try_from);
            let Ok(least) = least else {
                return wrong(&at("minCandidateNodesAbsolute"), "must not be below 0");
            };
            let percentage = percent(&at("minCandidateNodesPercentage"), share)?;
            profile.candidates = CandidateArgs { percentage, least };
        }
        _ => return wrong(&format!("{field}.name"), format!("{name} takes no arguments")),
    }
    Ok(())
}

fn weighted(resources: Vec<Entry>, field: &str) -> Result<Vec<Weighted>, ConfigError> {
    let one = |(index, entry): (usize, Entry)| match entry.weight {
        0 => Ok(Weighted { resource: Resource::named(&entry.name), weight: 1 }),
        1..=100 => Ok(Weighted { resource: Resource::named(&entry.name), weight: entry.weight }),
        other => wrong(&format!("{field}[{index}].weight"), format!("{other} is not between 1 and 100")),
    };
    resources.into_iter().enumerate().map(one).collect()
}

fn fit(given: FitFile, field: &str) -> Result<FitArgs, ConfigError> {
    let mut fit = FitArgs {
        ignored: given.ignored_resources,
        ignored_groups: given.ignored_resource_groups,
        ..FitArgs::default()
    };
    let Some(strategy) = given.scoring_strategy else { return Ok(fit) };
    let field = format!("{field}.scoringStrategy");
    let shape = match strategy.kind.as_deref().unwrap_or("LeastAllocated") {
        "LeastAllocated" => Shape::LeastAllocated,
        "MostAllocated" => Shape::MostAllocated,
        "RequestedToCapacityRatio" => {
            let field = format!("{field}.requestedToCapacityRatio.shape");
            let points = strategy.requested_to_capacity_ratio.map(|ratio| ratio.shape).unwrap_or_default();
            Shape::RequestedToCapacityRatio(ratio(&points, &field)?)
        }
        other => {
            let why = format!("{other:?} is none of LeastAllocated, MostAllocated, RequestedToCapacityRatio");
            return wrong(&format!("{field}.type"), why);
        }
    };
    let mut resources = weighted(strategy.resources, &format!("{field}.resources"))?;
    if resources.is_empty() {
        resources = Weighted::cpu_and_memory();
    }
    fit.packing = Packing { resources, shape };
    Ok(fit)
}

/// Scores are given of 10, and kept of 100.
fn ratio(points: &[PointFile], field: &str) -> Result<Vec<(i64, i64)>, ConfigError> {
    if points.is_empty() {
        return wrong(field, "at least one point must be specified");
    }
    let rising = points.windows(2).all(|two| two[0].utilization < two[1].utilization);
    if !rising {
        return wrong(field, "utilization values must be sorted in increasing order");
    }
    for (index, point) in points.iter().enumerate() {
        percent(&format!("{field}[{index}].utilization"), point.utilization)?;
        if !(0..=10).contains(&point.score) {
            return wrong(
                &format!("{field}[{index}].score"),
                format!("{} is not between 0 and 10", point.score),
            );
        }
    }
    Ok(points.iter().map(|point| (point.utilization, point.score * 10)).collect())
}

fn spread(profile: &mut Profile, given: SpreadFile, at: &dyn Fn(&str) -> String) -> Result<(), ConfigError> {
    let constraints = at("defaultConstraints");
    match given.defaulting_type.as_deref().unwrap_or("System") {
        "System" if given.default_constraints.is_empty() => return Ok(()),
        "System" => return wrong(&constraints, "when .defaultingType is System, must be empty"),
        "List" => {}
        other => return wrong(&at("defaultingType"), format!("{other:?} is neither System nor List")),
    }
    for (index, constraint) in given.default_constraints.iter().enumerate() {
        let field = format!("{constraints}[{index}]");
        if constraint.max_skew <= 0 {
            return wrong(&format!("{field}.maxSkew"), "must be greater than zero");
        }
        if constraint.topology_key.is_empty() {
            return wrong(&format!("{field}.topologyKey"), "can not be empty");
        }
        if !matches!(constraint.when_unsatisfiable.as_str(), "DoNotSchedule" | "ScheduleAnyway") {
            return wrong(&format!("{field}.whenUnsatisfiable"), "must be DoNotSchedule or ScheduleAnyway");
        }
        if constraint.label_selector.is_some() {
            return wrong(&format!("{field}.labelSelector"), "constraint must not define a selector");
        }
    }
    let all = given.default_constraints.iter();
    profile.default_spread = all.map(|constraint| Spread::of(constraint, &Labels::new())).collect();
    profile.default_spread_is_the_systems = false;
    Ok(())
}
