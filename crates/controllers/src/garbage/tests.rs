use super::graph::{Graph, KindName};
use super::*;
use crate::Settings;
use client::Ambient;
use client::kube::api::{ApiResource, DeleteParams, PostParams};
use clock::{ManualClock, SeededRandom, Tasks};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use serde_json::from_value;
use std::collections::BTreeSet;
use testkit::FakeApi;

fn kind(name: &str, namespaced: bool) -> Arc<Served> {
    let resource = ApiResource {
        group: String::new(),
        version: "v1".into(),
        api_version: "v1".into(),
        kind: name.into(),
        plural: format!("{}s", name.to_lowercase()),
    };
    Arc::new(Served { resource, namespaced, verbs: Vec::new() })
}

fn reference(uid: &str, block: bool) -> OwnerReference {
    OwnerReference {
        api_version: "v1".into(),
        kind: "ConfigMap".into(),
        name: uid.into(),
        uid: uid.into(),
        controller: None,
        block_owner_deletion: Some(block),
    }
}

fn uids<const N: usize>(names: [&str; N]) -> Vec<Uid> {
    names.map(Uid::from).into()
}

/// An object whose name is its UID.
fn item(uid: &str, owners: &[&str]) -> Item {
    Item {
        kind: kind("ConfigMap", true),
        key: ObjectKey::new("x", uid),
        uid: uid.into(),
        resource_version: Some("7".into()),
        owners: owners.iter().map(|owner| reference(owner, true)).collect(),
        deleting: false,
        finalizers: Vec::new(),
    }
}

fn going(uid: &str, owners: &[&str], finalizers: &[&str]) -> Item {
    let finalizers = finalizers.iter().map(|&finalizer| finalizer.to_owned()).collect();
    Item { deleting: true, finalizers, ..item(uid, owners) }
}

/// What is done about an item, in short.
fn check(item: &Item, states: &[Owner], dependents: &[Item], expected: &[&str]) {
    assert_eq!(item.owners.len(), states.len());
    let owners = item.owners.iter().cloned().zip(states.iter().copied()).collect();
    let view = View::new(item.clone(), owners, || dependents.iter());
    let planned = plan(&view, Timestamp::UNIX_EPOCH);
    let mut done: Vec<String> = planned.actions.iter().map(short).collect();
    done.extend(planned.requeue_at.map(|_| "again".to_owned()));
    assert_eq!(done, expected, "{states:?} {dependents:?}");
}

fn short(action: &Action) -> String {
    match action {
        Action::Patch(patch) => {
            let metadata = &patch.body["metadata"];
            assert_eq!(metadata["resourceVersion"], "7", "a stale collector must not succeed");
            let owners = metadata["ownerReferences"].as_array().into_iter().flatten();
            let owners = owners.map(|owner| {
                let blocks = owner["blockOwnerDeletion"] == true;
                format!(" {}{}", owner["uid"].as_str().unwrap(), if blocks { "!" } else { "" })
            });
            let what = if metadata["finalizers"].is_array() { "released" } else { "owned by" };
            format!("{} {what}{}", patch.key.name, owners.collect::<String>())
        }
        Action::Delete(delete) => {
            assert_eq!(delete.resource_version.as_deref(), Some("7"), "its owners may have changed since");
            format!("{} deleted {:?}", delete.key.name, delete.propagation.as_ref().unwrap())
        }
        Action::Tell { reason, .. } => (*reason).to_owned(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn owners_decide() {
    use Owner::{Gone, Misplaced, Solid, Unknowable, Unseen, Waiting};
    let one = item("a", &["o"]);
    check(&one, &[Solid], &[], &[]);
    check(&one, &[Gone], &[], &["a deleted Background"]);
    check(&one, &[Waiting], &[], &["a deleted Background"]);
    check(&one, &[Unseen], &[], &["again"]);
    check(&one, &[Unknowable], &[], &["again"]);
    check(&one, &[Misplaced], &[], &["OwnerRefInvalidNamespace"]);
    let two = item("a", &["o", "p"]);
    check(&two, &[Gone, Solid], &[], &["a owned by p!"]);
    check(&two, &[Solid, Waiting], &[], &["a owned by o!"]);
    check(&two, &[Gone, Waiting], &[], &["a deleted Background"]);
    check(&two, &[Gone, Unknowable], &[], &["again"]);
    check(&two, &[Gone, Misplaced], &[], &["OwnerRefInvalidNamespace"]);
}

#[test]
fn the_way_it_was_to_go_is_the_way_it_goes() {
    let held = |finalizer: &str| Item { finalizers: vec![finalizer.into()], ..item("a", &["o"]) };
    check(&held(ORPHAN), &[Owner::Gone], &[], &["a deleted Orphan"]);
    check(&held(FOREGROUND), &[Owner::Gone], &[], &["a deleted Foreground"]);
}

#[test]
fn who_is_waited_for_waits_in_turn_and_a_circle_is_broken_first() {
    let one = item("a", &["o"]);
    check(&one, &[Owner::Waiting], &[item("d", &["a"])], &["a deleted Foreground"]);
    let waiting = going("d", &["a"], &[FOREGROUND]);
    check(&one, &[Owner::Waiting], std::slice::from_ref(&waiting), &["a owned by o"]);
    // That patch done, it holds nobody up any more.
    let mut free = one;
    Arc::make_mut(&mut free.owners)[0].block_owner_deletion = Some(false);
    check(&free, &[Owner::Waiting], &[waiting], &["a deleted Foreground"]);
}

#[test]
fn what_goes_lets_go_in_its_order() {
    check(&going("a", &[], &[FOREGROUND]), &[], &[item("d", &["a"])], &[]);
    let mut free = item("d", &["a"]);
    Arc::make_mut(&mut free.owners)[0].block_owner_deletion = None;
    check(&going("a", &[], &[FOREGROUND]), &[], &[free], &["a released"]);
    let dependents = [item("d", &["a", "b"]), item("e", &["a"])];
    check(&going("a", &[], &[ORPHAN]), &[], &dependents, &["d owned by b!", "e owned by", "a released"]);
    check(&going("a", &["o"], &["example.com/theirs"]), &[Owner::Gone], &[], &[]);
}

#[test]
fn an_owner_is_who_has_the_kind_the_name_and_the_uid() {
    let mut graph = Graph::default();
    graph.set(item("o", &[]));
    assert_eq!(graph.owner("x", &reference("o", true)), Owner::Solid);
    assert_eq!(graph.owner("y", &reference("o", true)), Owner::Unseen);
    let other = OwnerReference { name: "p".into(), ..reference("o", true) };
    assert_eq!(graph.owner("x", &other), Owner::Unseen);
    graph.remember_not_found("x", &other);
    assert_eq!(graph.owner("x", &other), Owner::Gone);
    assert_eq!(
        graph.owner("x", &reference("o", true)),
        Owner::Solid,
        "that says nothing about the right one"
    );
    graph.set(going("o", &[], &[FOREGROUND]));
    assert_eq!(graph.owner("x", &reference("o", true)), Owner::Waiting);
}

#[test]
fn only_what_owns_or_goes_is_kept() {
    let mut graph = Graph::default();
    assert!(graph.set(item("alone", &[])).is_empty());
    assert!(graph.get("alone").is_none());
    assert_eq!(graph.set(item("d", &["alone"])), uids(["d"]));
    assert!(graph.get("d").is_some());
    // Its only owner is gone, though nothing but its name was kept.
    assert_eq!(graph.forget(&KindName::of(&kind("ConfigMap", true)), "x/alone"), uids(["d"]));
    assert_eq!(graph.owner("x", &reference("alone", true)), Owner::Gone);
    graph.set(item("d", &[]));
    assert!(graph.get("d").is_none());
}

#[test]
fn what_a_list_leaves_out_is_gone_and_a_kind_out_of_sight_tells_nothing() {
    let maps = KindName::of(&kind("ConfigMap", true));
    let filled = || {
        let mut graph = Graph::default();
        graph.set(item("o", &[]));
        graph.set(Item { kind: kind("Secret", true), ..item("d", &["o"]) });
        graph
    };
    let mut graph = filled();
    assert_eq!(graph.names(&maps), BTreeSet::from(["x/o".into()]));
    assert_eq!(graph.forget(&maps, "x/o"), uids(["d"]));
    assert_eq!(graph.owner("x", &reference("o", true)), Owner::Gone);
    let mut graph = filled();
    assert_eq!(graph.lose_sight_of(&maps), uids(["d"]));
    assert_eq!(graph.owner("x", &reference("o", true)), Owner::Unseen);
    // Another of the same name.
    let mut graph = filled();
    let again = Item { key: ObjectKey::new("x", "o"), ..item("other", &[]) };
    assert_eq!(graph.set(again), uids(["d"]));
    assert_eq!(graph.owner("x", &reference("o", true)), Owner::Gone);
}

/// Its watch may begin after it went, and then nothing tells of its end.
#[tokio::test]
async fn an_owner_that_no_watch_has_shown_is_asked_for_again() {
    let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
    let ambient = Ambient { clock: Arc::new(ManualClock::new(now)), random: Arc::new(SeededRandom::new(1)) };
    let api = FakeApi::new(ambient.clone());
    let (maps, pods) =
        (Api::<ConfigMap>::namespaced(api.client(), "x"), Api::<Pod>::namespaced(api.client(), "x"));
    let owner = from_value(json!({ "metadata": { "name": "owner" } })).unwrap();
    let owner = maps.create(&PostParams::default(), &owner).await.unwrap().metadata.uid;
    let references = json!([{ "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner }]);
    let pod = from_value(json!({ "metadata": { "name": "p", "ownerReferences": references } })).unwrap();
    let uid: Uid = pods.create(&PostParams::default(), &pod).await.unwrap().metadata.uid.unwrap().into();
    api.refuse("LIST", "configmaps", 503, "ServiceUnavailable", "not now");
    let world = World::new(api.client(), ambient.clone(), Settings::default(), Tasks::default());
    let collector = GarbageCollector::wire(&world, &WorkQueue::new(ambient));
    while collector.view(&uid).item.is_none() {
        tokio::task::yield_now().await;
    }
    let planned = async || {
        let mut view = collector.view(&uid);
        collector.observe(&uid, &mut view).await.unwrap();
        plan(&view, now)
    };
    let there = planned().await;
    assert_eq!((there.actions.len(), there.requeue_at), (0, now.checked_add(AGAIN).ok()));
    maps.delete("owner", &DeleteParams::default()).await.unwrap();
    let gone = planned().await;
    assert_eq!(gone.actions.iter().map(short_delete).collect::<Vec<_>>(), ["p"]);
}

fn short_delete(action: &Action) -> &str {
    let Action::Delete(delete) = action else { panic!("{action:?}") };
    &delete.key.name
}
