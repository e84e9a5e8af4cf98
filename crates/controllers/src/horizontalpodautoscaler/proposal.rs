//! What one metric of a HorizontalPodAutoscaler asks for, in upstream's words where it cannot tell.

use super::calculate::{self, Scene, Target, Usage, thousandths};
use super::metrics::Reading;
use apimachinery::quantity::Quantity as Amount;
use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricSource, ContainerResourceMetricStatus, CrossVersionObjectReference,
    ExternalMetricSource, ExternalMetricStatus, MetricIdentifier, MetricSpec, MetricStatus, MetricTarget,
    MetricValueStatus, ObjectMetricSource, ObjectMetricStatus, PodsMetricSource, PodsMetricStatus,
    ResourceMetricSource, ResourceMetricStatus,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// So many replicas, because of that metric.
#[derive(Clone, Debug)]
pub(super) struct Proposal {
    pub(super) replicas: i32,
    pub(super) metric: String,
    pub(super) status: MetricStatus,
}

/// Why there is no proposal.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Unknown {
    /// Of the event and the condition.
    pub(super) reason: &'static str,
    /// What the event and the condition say.
    pub(super) why: String,
    /// The same, in what is said of all metrics together.
    pub(super) error: String,
}

/// What is read of a metric, or why it cannot be.
pub(super) type Read<'a> = Result<&'a Reading, &'a str>;

/// What a metric asks for.
pub(super) fn propose(
    spec: &MetricSpec,
    namespace: &str,
    read: Read<'_>,
    scene: Scene<'_>,
) -> Result<Proposal, Unknown> {
    let whole = |status: MetricStatus| MetricStatus { type_: spec.type_.clone(), ..status };
    let proposal = if let Some(source) = &spec.resource {
        resource(source, read, scene)
    } else if let Some(source) = &spec.container_resource {
        container_resource(source, read, scene)
    } else if let Some(source) = &spec.pods {
        pods(source, read, scene)
    } else if let Some(source) = &spec.object {
        object(source, namespace, read, scene)
    } else if let Some(source) = &spec.external {
        external(source, namespace, read, scene)
    } else {
        let why = format!("unknown metric source type {:?}", spec.type_);
        Err(Unknown { reason: "InvalidMetricSourceType", error: why.clone(), why })
    };
    proposal.map(|proposal| Proposal { status: whole(proposal.status), ..proposal })
}

fn resource(source: &ResourceMetricSource, read: Read<'_>, scene: Scene<'_>) -> Result<Proposal, Unknown> {
    let name = &source.name;
    let (replicas, current, metric) =
        of_resource(name, None, &source.target, read, scene).map_err(|why| Unknown {
            reason: "FailedGetResourceMetric",
            error: format!("failed to get {name} resource metric value: {why}"),
            why,
        })?;
    let status = ResourceMetricStatus { name: name.clone(), current };
    Ok(Proposal {
        replicas,
        metric,
        status: MetricStatus { resource: Some(status), ..MetricStatus::default() },
    })
}

fn container_resource(
    source: &ContainerResourceMetricSource,
    read: Read<'_>,
    scene: Scene<'_>,
) -> Result<Proposal, Unknown> {
    let (name, container) = (&source.name, &source.container);
    let (replicas, current, metric) = of_resource(name, Some(container), &source.target, read, scene)
        .map_err(|why| Unknown {
            reason: "FailedGetContainerResourceMetric",
            error: format!("failed to get {container} container metric value: {why}"),
            why,
        })?;
    let status = ContainerResourceMetricStatus { name: name.clone(), container: container.clone(), current };
    let status = MetricStatus { container_resource: Some(status), ..MetricStatus::default() };
    Ok(Proposal { replicas, metric, status })
}

/// The replicas that usage of a resource asks for, the usage, and what it is called.
fn of_resource(
    name: &str,
    container: Option<&str>,
    target: &MetricTarget,
    read: Read<'_>,
    scene: Scene<'_>,
) -> Result<(i32, MetricValueStatus, String), String> {
    let by = |wanted: Target<'_>| -> Result<(i32, Usage), String> {
        let samples =
            of_pods(read).map_err(|why| format!("unable to get metrics for resource {name}: {why}"))?;
        calculate::by_pods(scene, wanted, samples)
    };
    if let Some(value) = milli(target.average_value.as_ref()) {
        let (replicas, usage) = by(Target::Average { value, resource: Some(name) })
            .map_err(|why| format!("failed to get {name} usage: {why}"))?;
        return Ok((replicas, average(usage.average), format!("{name} resource")));
    }
    let Some(percent) = target.average_utilization else {
        return Err(
            "invalid resource metric source: neither an average utilization target nor an average value \
                    (usage) target was set"
                .into(),
        );
    };
    let (replicas, usage) = by(Target::Utilization { percent, resource: name, container })
        .map_err(|why| format!("failed to get {name} utilization: {why}"))?;
    let current = MetricValueStatus { average_utilization: usage.percent, ..average(usage.average) };
    let of = if container.is_some() { "container resource" } else { "resource" };
    Ok((replicas, current, format!("{name} {of} utilization (percentage of request)")))
}

fn pods(source: &PodsMetricSource, read: Read<'_>, scene: Scene<'_>) -> Result<Proposal, Unknown> {
    let name = &source.metric.name;
    let failed = |why: String| Unknown {
        reason: "FailedGetPodsMetric",
        error: format!("failed to get pods metric value: {why}"),
        why,
    };
    let samples = of_pods(read).map_err(|why| failed(format!("unable to get metric {name}: {why}")))?;
    let value = milli(source.target.average_value.as_ref()).unwrap_or_default();
    let (replicas, usage) =
        calculate::by_pods(scene, Target::Average { value, resource: None }, samples).map_err(failed)?;
    let status = PodsMetricStatus { metric: source.metric.clone(), current: average(usage.average) };
    let status = MetricStatus { pods: Some(status), ..MetricStatus::default() };
    Ok(Proposal { replicas, metric: format!("pods metric {name}"), status })
}

fn object(
    source: &ObjectMetricSource,
    namespace: &str,
    read: Read<'_>,
    scene: Scene<'_>,
) -> Result<Proposal, Unknown> {
    let (object, metric) = (&source.described_object, &source.metric);
    let failed = |why: String, error: Option<String>| Unknown {
        reason: "FailedGetObjectMetric",
        error: format!("failed to get object metric value: {}", error.as_ref().unwrap_or(&why)),
        why,
    };
    let (replicas, current, called) = match (&*source.target.type_, &source.target) {
        ("Value", MetricTarget { value: Some(target), .. }) => {
            let of_object = |why: String| failed(of_object(metric, object, namespace, &why), None);
            let used = of_series(read).map_err(of_object)?;
            let replicas =
                calculate::by_value(scene, used, thousandths(&target.0)).map_err(|why| failed(why, None))?;
            (replicas, value(used), format!("{} metric {}", object.kind, metric.name))
        }
        ("AverageValue", MetricTarget { average_value: Some(target), .. }) => {
            let used = of_series(read).map_err(|why| {
                let why = of_object(metric, object, namespace, &why);
                let error = format!("failed to get {} object metric: {why}", metric.name);
                failed(why, Some(error))
            })?;
            let (replicas, each) = calculate::by_average(scene, used, thousandths(&target.0));
            (replicas, average(each), external_name(metric))
        }
        _ => {
            let why =
                "invalid object metric source: neither a value target nor an average value target was set";
            return Err(failed(why.into(), None));
        }
    };
    let status = ObjectMetricStatus { described_object: object.clone(), metric: metric.clone(), current };
    let status = MetricStatus { object: Some(status), ..MetricStatus::default() };
    Ok(Proposal { replicas, metric: called, status })
}

/// Upstream's words, in which the namespace stands before the object's name.
fn of_object(
    metric: &MetricIdentifier,
    object: &CrossVersionObjectReference,
    namespace: &str,
    why: &str,
) -> String {
    format!("unable to get metric {}: {} on {namespace} {}/{why}", metric.name, object.kind, object.name)
}

fn external(
    source: &ExternalMetricSource,
    namespace: &str,
    read: Read<'_>,
    scene: Scene<'_>,
) -> Result<Proposal, Unknown> {
    let metric = &source.metric;
    let name = &metric.name;
    let failed = |why: String, words: String| Unknown {
        reason: "FailedGetExternalMetric",
        error: format!("failed to get {name} external metric value: {words}{why}"),
        why,
    };
    let unable = |why: String| {
        let selector = shown(metric.selector.as_ref());
        format!("unable to get external metric {namespace}/{name}/{selector}: {why}")
    };
    let (replicas, current) = match &source.target {
        MetricTarget { average_value: Some(target), .. } => {
            let words = format!("failed to get {name} external metric: ");
            let used = of_series(read).map_err(|why| failed(unable(why), words))?;
            let (replicas, each) = calculate::by_average(scene, used, thousandths(&target.0));
            (replicas, average(each))
        }
        MetricTarget { value: Some(target), .. } => {
            let words = || format!("failed to get external metric {name}: ");
            let used = of_series(read).map_err(|why| failed(unable(why), words()))?;
            let replicas = calculate::by_value(scene, used, thousandths(&target.0))
                .map_err(|why| failed(why, words()))?;
            (replicas, value(used))
        }
        _ => {
            let why =
                "invalid external metric source: neither a value target nor an average value target was set";
            return Err(failed(why.into(), String::new()));
        }
    };
    let status = ExternalMetricStatus { metric: metric.clone(), current };
    let status = MetricStatus { external: Some(status), ..MetricStatus::default() };
    Ok(Proposal { replicas, metric: external_name(metric), status })
}

fn external_name(metric: &MetricIdentifier) -> String {
    format!("external metric {}({})", metric.name, shown(metric.selector.as_ref()))
}

/// A selector as upstream's programs print it.
fn shown(selector: Option<&LabelSelector>) -> String {
    let Some(selector) = selector else { return "nil".into() };
    let labels = selector.match_labels.iter().flatten();
    let labels: String = labels.map(|(name, value)| format!("{name}: {value},")).collect();
    let expressions = selector.match_expressions.iter().flatten().map(|each| {
        let values = each.values.clone().unwrap_or_default().join(" ");
        format!("LabelSelectorRequirement{{Key:{},Operator:{},Values:[{values}],}},", each.key, each.operator)
    });
    let expressions: String = expressions.collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},\
         MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )
}

fn of_pods(read: Read<'_>) -> Result<calculate::Samples, String> {
    match read? {
        Reading::Pods(samples) => Ok(samples.0.clone()),
        Reading::Series(_) => Err("a metric of pods has no pods".into()),
    }
}

fn of_series(read: Read<'_>) -> Result<i64, String> {
    match read? {
        Reading::Series(values) => Ok(calculate::total(values)),
        Reading::Pods(_) => Err("a metric of all is one of pods".into()),
    }
}

fn milli(amount: Option<&Quantity>) -> Option<i64> {
    amount.map(|amount| thousandths(&amount.0))
}

fn quantity(thousandths: i64) -> Option<Quantity> {
    Some(Quantity(Amount::from_milli(thousandths).to_string()))
}

fn average(amount: i64) -> MetricValueStatus {
    MetricValueStatus { average_value: quantity(amount), ..MetricValueStatus::default() }
}

fn value(amount: i64) -> MetricValueStatus {
    MetricValueStatus { value: quantity(amount), ..MetricValueStatus::default() }
}
