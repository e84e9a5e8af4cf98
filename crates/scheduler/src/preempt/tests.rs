use super::*;
use crate::config::Profile;
use crate::place::attempt;
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, from_value, json};

fn node(name: &str, cpu: &str) -> Node {
    from_value(json!({
        "metadata": { "name": name, "labels": { "kubernetes.io/hostname": name } },
        "status": { "allocatable": { "cpu": cpu, "memory": "8Gi", "pods": "110" } },
    }))
    .unwrap()
}

fn pod(name: &str, priority: i32, cpu: &str, more: Value) -> Arc<PodFacts> {
    let mut pod = json!({
        "metadata": { "name": name, "namespace": "x", "uid": name, "labels": { "app": name } },
        "spec": { "priority": priority, "containers": [{ "name": "c", "resources": { "requests": { "cpu": cpu } } }] },
    });
    for (path, value) in more.as_object().unwrap() {
        *pod.pointer_mut(path.rsplit_once('/').unwrap().0)
            .unwrap()
            .as_object_mut()
            .unwrap()
            .entry(path.rsplit_once('/').unwrap().1)
            .or_insert(Value::Null) = value.clone();
    }
    Arc::new(PodFacts::of(&from_value(pod).unwrap()))
}

fn plain(name: &str, priority: i32, cpu: &str) -> Arc<PodFacts> {
    pod(name, priority, cpu, json!({}))
}

fn snapshot(nodes: &[(&str, &str)], placed: &[(&str, Arc<PodFacts>)]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    nodes.iter().for_each(|(name, cpu)| snapshot.set_node(&node(name, cpu)));
    placed.iter().for_each(|(node, pod)| snapshot.place(node, pod.clone()));
    snapshot
}

fn outcome(snapshot: &mut Snapshot, pod: &Arc<PodFacts>) -> Result<(String, Vec<String>), String> {
    let (cycle, why) = attempt(pod, &Arc::<Profile>::default(), snapshot, 0).unwrap_err();
    let before = snapshot.pods();
    let made = preempt(&cycle.unwrap(), snapshot, &why, 0);
    assert_eq!(snapshot.pods(), before, "it was only thought through");
    made.map(|made| {
        (made.node.to_string(), made.victims.iter().map(|victim| victim.name.to_string()).collect())
    })
}

fn made(node: &str, victims: &[&str]) -> Result<(String, Vec<String>), String> {
    Ok((node.to_owned(), victims.iter().map(ToString::to_string).collect()))
}

#[test]
fn only_those_go_who_stand_in_the_way() {
    let mut world = snapshot(
        &[("a", "4")],
        &[("a", plain("low", 1, "1")), ("a", plain("mid", 2, "1")), ("a", plain("high", 9, "2"))],
    );
    assert_eq!(outcome(&mut world, &plain("new", 5, "1")), made("a", &["low"]));
    assert_eq!(outcome(&mut world, &plain("new", 5, "2")), made("a", &["mid", "low"]));
    assert_eq!(
        outcome(&mut world, &plain("new", 5, "3")),
        Err("0/1 nodes are available: 1 Insufficient cpu.".to_owned())
    );
    assert_eq!(
        outcome(&mut world, &plain("new", 5, "5")),
        Err("0/1 nodes are available: 1 Preemption is not helpful for scheduling.".to_owned())
    );
    assert_eq!(
        outcome(&mut world, &plain("new", 1, "1")),
        Err("0/1 nodes are available: 1 No preemption victims found for incoming pod.".to_owned())
    );
}

#[test]
fn the_least_harm_is_chosen_in_upstreams_order() {
    let full = |a: Vec<Arc<PodFacts>>, b: Vec<Arc<PodFacts>>| {
        let on = |node: &'static str, pods: Vec<Arc<PodFacts>>| pods.into_iter().map(move |pod| (node, pod));
        snapshot(&[("a", "2"), ("b", "2")], &on("a", a).chain(on("b", b)).collect::<Vec<_>>())
    };
    let new = plain("new", 9, "2");
    // A lower highest priority.
    let mut world = full(vec![plain("a1", 5, "2")], vec![plain("b1", 4, "2")]);
    assert_eq!(outcome(&mut world, &new), made("b", &["b1"]));
    // Then a smaller sum, which is fewer pods, too.
    let mut world = full(vec![plain("a1", 4, "1"), plain("a2", 4, "1")], vec![plain("b1", 4, "2")]);
    assert_eq!(outcome(&mut world, &new), made("b", &["b1"]));
    // Then whose most important has been there for less long.
    let since = |name: &str, at: &str| pod(name, 4, "2", json!({ "/status": { "startTime": at } }));
    let mut world =
        full(vec![since("a1", "2026-01-01T00:00:00Z")], vec![since("b1", "2026-01-02T00:00:00Z")]);
    assert_eq!(outcome(&mut world, &new), made("b", &["b1"]));
    // Before all of that: a budget that is kept.
    let budget = json!({
        "metadata": { "name": "b" }, "spec": { "selector": { "matchLabels": { "app": "b1" } } },
        "status": { "disruptionsAllowed": 0 },
    });
    world.budgets.set(&("x".into(), "b".into()), Some(from_value(budget).unwrap()));
    assert_eq!(outcome(&mut world, &new), made("a", &["a1"]));
}

#[test]
fn a_budget_keeps_its_pods_as_long_as_others_will_do() {
    let mut world = snapshot(&[("a", "2")], &[("a", plain("kept", 1, "1")), ("a", plain("other", 3, "1"))]);
    let new = plain("new", 9, "1");
    assert_eq!(outcome(&mut world, &new), made("a", &["kept"]));
    let budget = json!({
        "spec": { "selector": { "matchLabels": { "app": "kept" } } }, "status": { "disruptionsAllowed": 0 },
    });
    world.budgets.set(&("x".into(), "b".into()), Some(from_value(budget).unwrap()));
    assert_eq!(outcome(&mut world, &new), made("a", &["other"]));
    assert_eq!(outcome(&mut world, &plain("new", 9, "2")), made("a", &["other", "kept"]));
}

#[test]
fn who_may_not_preempt_is_told_why() {
    let mut world = snapshot(&[("a", "1")], &[("a", plain("low", 1, "1"))]);
    let never = pod("never", 9, "1", json!({ "/spec/preemptionPolicy": "Never" }));
    assert_eq!(outcome(&mut world, &never), Err("not eligible due to preemptionPolicy=Never.".to_owned()));

    let condition =
        json!([{ "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler" }]);
    let going = json!({ "/metadata/deletionTimestamp": "2026-01-01T00:00:00Z", "/status": { "conditions": condition } });
    world.place("a", pod("low", 1, "1", going));
    let new = plain("new", 9, "1");
    world.nominate(&new, Some("a"));
    assert_eq!(
        outcome(&mut world, &new),
        Err("not eligible due to a terminating pod on the nominated node.".to_owned())
    );
}

#[test]
fn anti_affinity_is_cured_by_eviction_and_a_taint_is_not() {
    let apart = json!({ "/spec/affinity": { "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [
        { "topologyKey": "kubernetes.io/hostname", "labelSelector": { "matchLabels": { "app": "low" } } },
    ] } } });
    let mut world =
        snapshot(&[("a", "4")], &[("a", plain("low", 1, "1")), ("a", plain("bystander", 1, "1"))]);
    assert_eq!(outcome(&mut world, &pod("new", 9, "1", apart)), made("a", &["low"]));
}

#[test]
fn room_that_was_made_is_kept_from_the_less_important() {
    let mut world = snapshot(&[("a", "2")], &[]);
    let first = plain("first", 5, "2");
    world.nominate(&first, Some("a"));
    let place = |world: &mut Snapshot, pod: &Arc<PodFacts>| {
        crate::place(pod, &Arc::default(), world, 0).map(|placement| placement.node.to_string())
    };
    assert!(place(&mut world, &plain("other", 5, "1")).is_err(), "as important, and later");
    assert_eq!(place(&mut world, &plain("better", 6, "1")), Ok("a".to_owned()));
    assert_eq!(place(&mut world, &first), Ok("a".to_owned()));
}
