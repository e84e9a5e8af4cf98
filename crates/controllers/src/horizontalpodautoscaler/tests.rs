use super::calculate::{Sample, Samples, Target, Usage, by_average, by_pods, by_value};
use super::metrics::PodReadings;
use super::*;
use client::ApiResource;
use client::discovery::Served;
use k8s_openapi::api::apps::v1::Deployment;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, from_value};

fn now() -> Timestamp {
    "2026-01-02T03:04:05Z".parse().unwrap()
}

fn ago(seconds: i64) -> Timestamp {
    now() - SignedDuration::from_secs(seconds)
}

/// A pod that has been ready for an hour, changed by that.
fn pod(name: &str, change: &Value) -> Arc<Pod> {
    let hour = ago(3600).to_string();
    let mut pod = json!({
        "metadata": { "name": name, "namespace": "x", "labels": { "app": "web" } },
        "spec": { "containers": [{ "name": "c", "resources": { "requests": { "cpu": "1", "memory": "1Gi" } } }] },
        "status": { "phase": "Running", "startTime": hour,
            "conditions": [{ "type": "Ready", "status": "True", "lastTransitionTime": hour }] },
    });
    testkit::merge(&mut pod, change);
    Arc::new(from_value(pod).unwrap())
}

fn pods(number: usize) -> Vec<Arc<Pod>> {
    (0..number).map(|number| pod(&format!("p{number}"), &json!({}))).collect()
}

fn sample(value: i64) -> Sample {
    Sample { at: now(), window: SignedDuration::from_secs(15), value }
}

fn samples(values: &[i64]) -> Samples {
    values.iter().enumerate().map(|(number, value)| (format!("p{number}"), sample(*value))).collect()
}

fn autoscaler(spec: &Value) -> HorizontalPodAutoscaler {
    let mut whole = json!({
        "metadata": { "name": "web", "namespace": "x", "uid": "u", "resourceVersion": "7" },
        "spec": { "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "web" },
            "minReplicas": 1, "maxReplicas": 10, "metrics": [{ "type": "Resource", "resource": { "name": "cpu",
                "target": { "type": "Utilization", "averageUtilization": 50 } } }] },
    });
    testkit::merge(&mut whole, &json!({ "spec": spec }));
    from_value(whole).unwrap()
}

fn target(replicas: i32) -> ScaleTarget {
    let resource = ApiResource::erase::<Deployment>(&());
    let scale = from_value(json!({
        "metadata": { "name": "web", "namespace": "x", "uid": "d", "resourceVersion": "9" },
        "spec": { "replicas": replicas }, "status": { "replicas": replicas, "selector": "app=web" },
    }));
    ScaleTarget { kind: Served { resource, namespaced: true, verbs: Vec::new() }, scale: scale.unwrap() }
}

/// An autoscaler of so many pods, each of which uses so much of the CPU.
fn view(spec: &Value, used: &[i64]) -> View {
    let replicas = i32::try_from(used.len()).unwrap();
    let scaled_by = vec![ObjectKey::new("x", "web")];
    View {
        autoscaler: Some(Arc::new(autoscaler(spec))),
        target: Some(Ok(target(replicas))),
        selected: Selected::Pods { pods: pods(used.len()), scaled_by },
        metrics: vec![Ok(Reading::Pods(Box::new(PodReadings(samples(used)))))],
    }
}

/// What a plan does, in words: `scale N`, the reasons of events, and conditions as `type status reason`.
fn told(plan: &Plan<Memory>) -> Vec<String> {
    let mut words = Vec::new();
    for action in &plan.actions {
        match action {
            Action::Patch(patch) if patch.subresource == Some("scale") => {
                words.push(format!(
                    "scale {} at {}",
                    patch.body["spec"]["replicas"], patch.body["metadata"]["resourceVersion"]
                ));
            }
            Action::Patch(patch) => {
                let conditions = patch.body["status"]["conditions"].as_array().into_iter().flatten();
                words.extend(conditions.map(|condition| {
                    let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
                    format!("{} {} {}", text("type"), text("status"), text("reason"))
                }));
            }
            Action::Tell { reason, message, .. } => words.push(format!("{reason}: {message}")),
            other => panic!("{other:?}"),
        }
    }
    words
}

fn status(plan: &Plan<Memory>) -> &Value {
    let patch = plan.actions.iter().find_map(|action| match action {
        Action::Patch(patch) if patch.subresource == Some("status") => Some(&patch.body["status"]),
        _ => None,
    });
    patch.expect("a status")
}

fn planned(view: &View) -> Plan<Memory> {
    plan(view, &Memory::default(), now())
}

#[test]
fn pods_above_their_target_become_more() {
    let plan = planned(&view(&json!({}), &[900, 900]));
    let wanted = [
        "scale 4 at \"9\"",
        "SuccessfulRescale: New size: 4; reason: cpu resource utilization (percentage of request) above target",
        "AbleToScale True SucceededRescale",
        "ScalingActive True ValidMetricFound",
        "ScalingLimited False DesiredWithinRange",
    ];
    assert_eq!(told(&plan), wanted);
    let status = status(&plan);
    assert_eq!((&status["currentReplicas"], &status["desiredReplicas"]), (&json!(2), &json!(4)));
    assert_eq!(status["lastScaleTime"], "2026-01-02T03:04:05Z");
    let current = json!({ "averageUtilization": 90, "averageValue": "900m" });
    assert_eq!(status["currentMetrics"][0]["resource"], json!({ "name": "cpu", "current": current }));
    assert_eq!(plan.requeue_at, Some(now() + PERIOD));
}

#[test]
fn what_nothing_changes_is_written_once() {
    let mut view = view(&json!({}), &[500, 500]);
    let first = planned(&view);
    assert_eq!(told(&first)[0], "AbleToScale True ReadyForNewScale");
    let mut known = HorizontalPodAutoscaler::clone(view.autoscaler.as_ref().unwrap());
    known.status = from_value(status(&first).clone()).unwrap();
    view.autoscaler = Some(Arc::new(known));
    assert!(plan(&view, first.memory.as_ref().unwrap(), now()).actions.is_empty());
}

#[test]
fn bounds_go_before_metrics() {
    let sized = |replicas: usize, spec: &Value| {
        let mut view = view(spec, &vec![1; replicas]);
        view.metrics.clear();
        told(&planned(&view))
    };
    let above = sized(12, &json!({}));
    assert_eq!(above[0], "scale 10 at \"9\"");
    assert!(above[1].ends_with("reason: Current number of replicas above Spec.MaxReplicas"), "{above:?}");
    let below = sized(1, &json!({ "minReplicas": 3 }));
    assert_eq!(below[0], "scale 3 at \"9\"");
    let disabled = sized(0, &json!({}));
    assert_eq!(disabled, ["AbleToScale True SucceededGetScale", "ScalingActive False ScalingDisabled"]);
}

#[test]
fn it_says_why_it_cannot_scale() {
    let mut lost = view(&json!({}), &[1]);
    lost.target = Some(Err("deployments.apps \"web\" not found".into()));
    let wanted = ["FailedGetScale: deployments.apps \"web\" not found", "AbleToScale False FailedGetScale"];
    assert_eq!(told(&planned(&lost)), wanted);
    let mut blind = view(&json!({}), &[1]);
    blind.metrics = vec![Err("unable to fetch metrics from resource metrics API: gone".into())];
    let why = "failed to get cpu utilization: unable to get metrics for resource cpu: \
               unable to fetch metrics from resource metrics API: gone";
    let wanted = [
        format!("FailedGetResourceMetric: {why}"),
        format!(
            "FailedComputeMetricsReplicas: invalid metrics (1 invalid out of 1), first error is: \
             failed to get cpu resource metric value: {why}"
        ),
        "AbleToScale True SucceededGetScale".to_owned(),
        "ScalingActive False FailedGetResourceMetric".to_owned(),
    ];
    assert_eq!(told(&planned(&blind)), wanted);
    let mut shared = view(&json!({}), &[900]);
    let scaled_by = vec![ObjectKey::new("x", "other"), ObjectKey::new("x", "web")];
    shared.selected = Selected::Pods { pods: pods(1), scaled_by };
    let words = told(&planned(&shared));
    let why = "pods by selector app=web are controlled by multiple HPAs: [{other x} {web x}]";
    assert_eq!(words[0], format!("AmbiguousSelector: {why}"));
    assert_eq!(words[3], "ScalingActive False AmbiguousSelector");
}

#[test]
fn a_metric_that_cannot_tell_keeps_others_from_scaling_down_only() {
    let two = json!({ "metrics": [
        { "type": "Resource", "resource": { "name": "cpu", "target": { "type": "Utilization", "averageUtilization": 50 } } },
        { "type": "External", "external": { "metric": { "name": "queue" }, "target": { "type": "Value", "value": "1" } } },
    ] });
    let with = |used: &[i64]| {
        let mut view = view(&two, used);
        view.metrics.push(Err("away".into()));
        planned(&view)
    };
    let up = with(&[900, 900]);
    assert_eq!(told(&up)[0], "scale 4 at \"9\"");
    assert_eq!(status(&up)["currentMetrics"][1], json!({ "type": "External" }));
    let down = told(&with(&[1, 1, 1]));
    assert!(down.iter().all(|word| !word.starts_with("scale")), "{down:?}");
    assert!(down.contains(&"ScalingActive False FailedGetExternalMetric".to_owned()), "{down:?}");
}

#[test]
fn a_scale_that_could_not_be_written_is_told_of_and_tried_later() {
    let view = view(&json!({ "behavior": { "scaleUp": {} } }), &[900, 900]);
    let first = planned(&view);
    let mut memory = first.memory.unwrap();
    assert!(memory.rescale.is_some());
    let failure = Failure { attempt: Attempt::Update, plural: "deployments".into(), message: "no".into() };
    HorizontalPodAutoscalers::failed(&mut memory, &failure);
    let second = plan(&view, &memory, now());
    let words = told(&second);
    assert!(
        words[0].starts_with("FailedRescale: New size: 4; reason: cpu") && words[0].ends_with("error: no")
    );
    assert_eq!(words[1..], ["AbleToScale False FailedUpdateScale"]);
    let memory = second.memory.unwrap();
    assert!(memory.history.added.is_empty(), "it was not scaled");
    let third = plan(&view, &memory, now());
    assert_eq!(told(&third)[0], "scale 4 at \"9\"");
    // It worked: the next look sees it, and policies will know.
    let mut view = view;
    view.target = Some(Ok(target(4)));
    let fourth = plan(&view, &third.memory.unwrap(), now());
    assert_eq!(fourth.memory.unwrap().history.added, [(now(), 2)]);
}

#[test]
fn down_waits_for_the_window_and_goes_by_the_policies() {
    let behavior = json!({ "scaleDown": { "stabilizationWindowSeconds": 60, "selectPolicy": "Max",
        "policies": [{ "type": "Pods", "value": 1, "periodSeconds": 60 }] } });
    let spec = json!({ "behavior": behavior });
    let idle = view(&spec, &[10, 10, 10, 10]);
    let mut memory = planned(&view(&spec, &[500, 500, 500, 500])).memory.unwrap();
    let later = |seconds: i64| now() + SignedDuration::from_secs(seconds);
    let waiting = plan(&idle, &memory, later(30));
    assert!(told(&waiting).contains(&"AbleToScale True ScaleDownStabilized".to_owned()));
    memory = waiting.memory.unwrap();
    let down = plan(&idle, &memory, later(61));
    assert_eq!(
        told(&down)[..2],
        ["scale 3 at \"9\"", "SuccessfulRescale: New size: 3; reason: All metrics below target"]
    );
    assert!(told(&down).contains(&"ScalingLimited True ScaleDownLimit".to_owned()));
    let three = view(&spec, &[10, 10, 10]);
    let paced = plan(&three, &down.memory.unwrap(), later(76));
    assert!(told(&paced).contains(&"ScalingLimited True ScaleDownLimit".to_owned()));
    let next = plan(&three, &paced.memory.unwrap(), later(122));
    assert_eq!(told(&next)[0], "scale 2 at \"9\"");
}

fn scene(pods: &[Arc<Pod>], current: i32) -> Scene<'_> {
    let tolerances = Tolerances { up: 0.1, down: 0.1 };
    Scene { current, reported: current, pods, tolerances, now: now() }
}

const CPU: Target<'static> = Target::Utilization { percent: 100, resource: "cpu", container: None };

#[test]
fn starting_pods_count_for_nothing_on_the_way_up() {
    let ready_for = |seconds: i64, status: &str| {
        let at = ago(seconds).to_string();
        json!({ "status": { "startTime": ago(100).to_string(),
            "conditions": [{ "type": "Ready", "status": status, "lastTransitionTime": at }] } })
    };
    let count = |changes: &[Value], used: &[i64]| {
        let pods: Vec<_> =
            changes.iter().enumerate().map(|(number, change)| pod(&format!("p{number}"), change)).collect();
        by_pods(scene(&pods, i32::try_from(pods.len()).unwrap()), CPU, samples(used))
            .map(|(replicas, _)| replicas)
    };
    assert_eq!(count(&[json!({}), json!({})], &[3000, 3000]), Ok(6));
    assert_eq!(count(&[json!({}), ready_for(20, "True")], &[3000, 3000]), Ok(6), "a whole window since");
    assert_eq!(count(&[json!({}), ready_for(10, "True")], &[3000, 3000]), Ok(3), "less than a window");
    assert_eq!(count(&[json!({}), ready_for(20, "False")], &[3000, 3000]), Ok(3));
    assert_eq!(count(&[json!({}), json!({ "status": { "phase": "Pending" } })], &[3000]), Ok(3));
    assert_eq!(count(&[json!({}), json!({ "status": { "phase": "Failed" } })], &[3000, 3000]), Ok(3));
    assert_eq!(count(&[json!({}), json!({})], &[3000]), Ok(3), "one is missing");
    assert_eq!(count(&[json!({}), json!({})], &[100]), Ok(2), "and is taken to be busy");
    assert!(count(&[ready_for(20, "False")], &[3000]).is_err());
    assert!(count(&[], &[]).is_err());
}

#[test]
fn requests_are_those_of_the_pod_or_of_all_its_containers() {
    let utilization = |change: &Value, container: Option<&str>| {
        let pods = [pod("p0", change)];
        let target = Target::Utilization { percent: 100, resource: "cpu", container };
        by_pods(scene(&pods, 1), target, samples(&[600])).map(|(_, usage)| usage.percent)
    };
    assert_eq!(utilization(&json!({}), None), Ok(Some(60)));
    let sidecar = json!({ "spec": { "initContainers": [
        { "name": "s", "restartPolicy": "Always", "resources": { "requests": { "cpu": "500m" } } },
        { "name": "i", "resources": { "requests": { "cpu": "7" } } }] } });
    assert_eq!(
        (utilization(&sidecar, None), utilization(&sidecar, Some("s"))),
        (Ok(Some(40)), Ok(Some(120)))
    );
    let whole = json!({ "spec": { "resources": { "requests": { "cpu": "3" } } } });
    assert_eq!((utilization(&whole, None), utilization(&whole, Some("c"))), (Ok(Some(20)), Ok(Some(60))));
    let error = "container z not found in Pod p0".to_owned();
    assert_eq!(utilization(&json!({}), Some("z")), Err(error));
    let none = json!({ "spec": { "containers": [{ "name": "c" }] } });
    assert_eq!(utilization(&none, None), Err("missing request for cpu in container c of Pod p0".to_owned()));
}

/// Upstream's formula, written out: of ready pods with samples (`Some`), pods without (`None`), and pending ones.
fn naive(used: &[Option<i64>], pending: usize, target: i64, current: i32) -> Option<i32> {
    let known: Vec<i64> = used.iter().flatten().copied().collect();
    let average = |values: &[i64]| {
        #[allow(clippy::cast_precision_loss)]
        let ratio = (values.iter().sum::<i64>() / values.len() as i64) as f64 / target as f64;
        ratio
    };
    if known.is_empty() {
        return None;
    }
    let near = |ratio: f64| (0.9..=1.1).contains(&ratio);
    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
    let times = |ratio: f64, count: usize| (ratio * count as f64).ceil() as i32;
    let (first, missing) = (average(&known), used.len() - known.len());
    let unready_matter = pending > 0 && first > 1.0;
    if missing == 0 && !unready_matter {
        return Some(if near(first) { current } else { times(first, known.len()) });
    }
    let mut all = known;
    if first < 1.0 {
        all.extend(std::iter::repeat_n(target, missing));
    }
    if first > 1.0 {
        all.extend(std::iter::repeat_n(0, missing));
    }
    if unready_matter {
        all.extend(std::iter::repeat_n(0, pending));
    }
    let second = average(&all);
    let wanted = times(second, all.len());
    let stays = near(second)
        || (first < 1.0 && second > 1.0)
        || (first > 1.0 && second < 1.0)
        || (second < 1.0 && wanted > current)
        || (second > 1.0 && wanted < current);
    Some(if stays { current } else { wanted })
}

/// What policies allow, written out: the number of replicas at which each period began, and so many more or fewer.
fn naive_limit(
    up: bool,
    select: &str,
    policies: &[(bool, i32, i32)],
    events: &[(bool, i64, i32)],
    current: i32,
) -> i32 {
    if select == "Disabled" {
        return current;
    }
    let mut limits = Vec::new();
    for (is_percent, value, period) in policies {
        let mut began = current;
        for (added, age, change) in events {
            if *age < i64::from(*period) {
                began += if *added { -change } else { *change };
            }
        }
        let part = f64::from(began) * (1.0 + f64::from(if up { *value } else { -value }) / 100.0);
        #[allow(clippy::cast_possible_truncation)]
        limits.push(match (is_percent, up) {
            (true, true) => part.ceil() as i32,
            (true, false) => part as i32,
            (false, true) => began + value,
            (false, false) => began - value,
        });
    }
    let smallest_change = select == "Min";
    let chosen = if smallest_change == up { limits.into_iter().min() } else { limits.into_iter().max() };
    chosen.unwrap_or(current)
}

proptest! {
    #[test]
    fn pods_ask_for_what_upstreams_formula_says(
        used in vec(proptest::option::weighted(0.8, 0_i64..5000), 1..12),
        pending in 0_usize..4,
        target in 1_i64..3000,
        current in 1_i32..20,
    ) {
        let waiting = json!({ "status": { "phase": "Pending" } });
        let ready = (0..used.len()).map(|number| pod(&format!("p{number}"), &json!({})));
        let pods: Vec<_> = ready.chain((0..pending).map(|number| pod(&format!("q{number}"), &waiting))).collect();
        let given = used.iter().enumerate().filter_map(|(number, value)| Some((format!("p{number}"), sample((*value)?))));
        let target_value = Target::Average { value: target, resource: None };
        let found = by_pods(scene(&pods, current), target_value, given.collect()).ok().map(|(replicas, _)| replicas);
        prop_assert_eq!(found, naive(&used, pending, target, current));
    }

    #[test]
    fn one_amount_asks_for_what_upstreams_formulas_say(
        used in 0_i64..1_000_000, target in 1_i64..10_000, current in 0_i32..50, ready in 1_usize..30,
    ) {
        let pods = pods(ready);
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
        let (ratio, ceil) = (used as f64 / target as f64, |number: f64| number.ceil() as i32);
        #[allow(clippy::cast_precision_loss)]
        let wanted = match current {
            0 => ceil(ratio),
            _ if (0.9..=1.1).contains(&ratio) => current,
            _ => ceil(ratio * ready as f64),
        };
        prop_assert_eq!(by_value(scene(&pods, current), used, target), Ok(wanted));
        if current > 0 {
            let near = (0.9..=1.1).contains(&(used as f64 / (target as f64 * f64::from(current))));
            let (replicas, each) = by_average(scene(&pods, current), used, target);
            prop_assert_eq!(replicas, if near { current } else { ceil(ratio) });
            prop_assert_eq!(each, (used + i64::from(current) - 1) / i64::from(current));
        }
    }

    #[test]
    fn behaviors_settle_as_upstreams_do(
        (current, wanted) in (1_i32..50, 1_i32..200),
        (up_select, down_select) in ("Min|Max|Disabled", "Min|Max|Disabled"),
        up in vec((any::<bool>(), 1_i32..150, 1_i32..120), 1..4),
        down in vec((any::<bool>(), 1_i32..100, 1_i32..120), 1..4),
        events in vec((any::<bool>(), 0_i64..150, 1_i32..10), 0..6),
        recommended in vec((1_i64..400, 1_i32..100), 0..8),
        (up_window, down_window) in (0_i32..200, 0_i32..400),
    ) {
        let policies = |all: &[(bool, i32, i32)]| -> Vec<Value> {
            let name = |percent: bool| if percent { "Percent" } else { "Pods" };
            all.iter().map(|(percent, value, period)| json!({ "type": name(*percent), "value": value, "periodSeconds": period })).collect()
        };
        let behavior = from_value(json!({
            "scaleUp": { "selectPolicy": up_select, "policies": policies(&up), "stabilizationWindowSeconds": up_window },
            "scaleDown": { "selectPolicy": down_select, "policies": policies(&down), "stabilizationWindowSeconds": down_window },
        })).unwrap();
        let of = |direction: bool| events.iter().filter(|(added, ..)| *added == direction).map(|(_, age, change)| (ago(*age), *change)).collect();
        let mut history = History {
            recommended: recommended.iter().map(|(age, replicas)| (ago(*age), *replicas)).collect(),
            added: of(true),
            removed: of(false),
        };
        let bounds = Bounds { least: 1, most: 100, current };
        let settled = behavior::settle(Some(&behavior), &mut history, bounds, wanted, now());

        let within = |window: i32| recommended.iter().filter(move |(age, _)| *age < i64::from(window)).map(|(_, replicas)| *replicas);
        let lowest = within(up_window).chain([wanted]).min().unwrap();
        let highest = within(down_window).chain([wanted]).max().unwrap();
        let mut stable = current;
        if stable < lowest { stable = lowest; }
        if stable > highest { stable = highest; }
        let replicas = if stable > current {
            let limit = naive_limit(true, &up_select, &up, &events, current).max(current);
            stable.min(limit.min(100))
        } else if stable < current {
            let limit = naive_limit(false, &down_select, &down, &events, current).min(current);
            stable.max(limit.max(1))
        } else {
            stable
        };
        prop_assert_eq!(settled.replicas, replicas);
        prop_assert_eq!(settled.limited.0, replicas != stable);
        prop_assert_eq!(settled.able.0 == "ReadyForNewScale", stable == wanted);
        prop_assert_eq!(history.recommended.last(), Some(&(now(), wanted)));
    }
}

#[test]
fn amounts_that_are_too_large_stay_what_they_are() {
    let pods = pods(1);
    let huge = by_value(scene(&pods, 1), i64::MAX, 1).unwrap();
    assert_eq!(huge, i32::MAX);
    assert_eq!(calculate::total(&[i64::MAX, i64::MAX]), i64::MAX);
    let usage: Result<(i32, Usage), String> = by_pods(scene(&pods, 1), CPU, samples(&[i64::MAX / 2]));
    assert_eq!(usage.unwrap().0, i32::MAX / 100 + 1);
}
