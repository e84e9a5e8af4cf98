//! Random operations against a naive model: what a list shows is what the operations left, and replaying a watch from any
//! earlier list gives any later one.

use std::collections::BTreeMap;

use proptest::prelude::*;
use registry::{ListOptions, WatchEvent};
use serde_json::{Value, json};

use crate::world::{World, config_map, options};

#[derive(Clone, Debug)]
enum Operation {
    Create(u8, u8),
    Update(u8, u8),
    Label(u8, bool),
    Delete(u8),
    /// Takes a list and a watch from it, with or without a selector.
    Look(bool),
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        3 => (0..6u8, 0..4u8).prop_map(|(name, value)| Operation::Create(name, value)),
        3 => (0..6u8, 0..4u8).prop_map(|(name, value)| Operation::Update(name, value)),
        2 => (0..6u8, any::<bool>()).prop_map(|(name, on)| Operation::Label(name, on)),
        2 => (0..6u8).prop_map(Operation::Delete),
        1 => any::<bool>().prop_map(Operation::Look),
    ]
}

/// Objects by name: value and label.
type Model = BTreeMap<String, (String, bool)>;

fn apply(model: &mut Model, operation: &Operation) -> bool {
    match operation {
        Operation::Create(name, value) => {
            let known = model.contains_key(&format!("c{name}"));
            model.entry(format!("c{name}")).or_insert((value.to_string(), false));
            !known
        }
        Operation::Update(name, value) => {
            model.get_mut(&format!("c{name}")).map(|object| object.0 = value.to_string()).is_some()
        }
        Operation::Label(name, on) => {
            model.get_mut(&format!("c{name}")).map(|object| object.1 = *on).is_some()
        }
        Operation::Delete(name) => model.remove(&format!("c{name}")).is_some(),
        Operation::Look(_) => true,
    }
}

async fn perform(world: &World, operation: &Operation) -> bool {
    let name = |name: &u8| format!("c{name}");
    match operation {
        Operation::Create(n, value) => {
            world.create("configmaps", config_map(&name(n), &value.to_string())).await.is_ok()
        }
        Operation::Update(n, value) => {
            world.merge("configmaps", &name(n), json!({"data": {"value": value.to_string()}})).await.is_ok()
        }
        Operation::Label(n, on) => {
            let labels = if *on { json!({"on": "yes"}) } else { Value::Null };
            world.merge("configmaps", &name(n), json!({"metadata": {"labels": labels}})).await.is_ok()
        }
        Operation::Delete(n) => world.delete("configmaps", &name(n)).await.is_ok(),
        Operation::Look(_) => true,
    }
}

fn selector(labelled: bool) -> ListOptions {
    let label_selector = if labelled { "on=yes".to_owned() } else { String::new() };
    ListOptions { label_selector, ..ListOptions::default() }
}

async fn state(world: &World, labelled: bool) -> (BTreeMap<String, Value>, u64) {
    let list = world.list("configmaps", selector(labelled)).await.unwrap();
    let objects = list.objects().map(|object| object.tree());
    (
        objects.map(|tree| (tree["metadata"]["name"].as_str().unwrap().to_owned(), tree)).collect(),
        list.resource_version(),
    )
}

fn replay(objects: &mut BTreeMap<String, Value>, event: &WatchEvent) {
    let tree = event.object().unwrap().tree();
    let name = tree["metadata"]["name"].as_str().unwrap().to_owned();
    let known = objects.contains_key(&name);
    match event {
        WatchEvent::Added(_) => assert!(!known, "added twice: {name}"),
        WatchEvent::Modified(_) | WatchEvent::Deleted(_) => {
            assert!(known, "changed before it was there: {name}")
        }
        WatchEvent::Bookmark { .. } => unreachable!("none was asked for"),
        WatchEvent::Failed(status) => panic!("{status}"),
    }
    match event {
        WatchEvent::Deleted(_) => objects.remove(&name),
        _ => objects.insert(name, tree),
    };
}

async fn run(operations: Vec<Operation>) {
    let world = World::with(options()).await;
    let mut model = Model::new();
    let mut looks = Vec::new();
    for operation in &operations {
        assert_eq!(perform(&world, operation).await, apply(&mut model, operation), "{operation:?}");
        if let Operation::Look(labelled) = operation {
            let (objects, revision) = state(&world, *labelled).await;
            let from = ListOptions { resource_version: revision.to_string(), ..selector(*labelled) };
            // Half of the watches begin now, the others at the end, from the window.
            let watch = if looks.len() % 2 == 0 {
                Some(world.watch("configmaps", from.clone()).await.unwrap())
            } else {
                None
            };
            looks.push((objects, *labelled, from, watch));
        }
        let (shown, _) = state(&world, false).await;
        let shown: Model = shown
            .into_iter()
            .map(|(name, tree)| {
                let on = tree["metadata"]["labels"]["on"] == "yes";
                (name, (tree["data"]["value"].as_str().unwrap().to_owned(), on))
            })
            .collect();
        assert_eq!(shown, model);
    }
    for (mut objects, labelled, from, watch) in looks {
        let mut watch = match watch {
            Some(watch) => watch,
            None => world.watch("configmaps", from).await.unwrap(),
        };
        while let Some(event) = watch.try_next() {
            replay(&mut objects, &event);
        }
        assert_eq!(objects, state(&world, labelled).await.0);
    }
    // What a restart reads from the store is what was shown before it.
    let before =
        world.list("configmaps", ListOptions::default()).await.unwrap().into_segments()[1..].concat();
    let again = world.again().await;
    assert_eq!(
        again.list("configmaps", ListOptions::default()).await.unwrap().into_segments()[1..].concat(),
        before
    );
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases * 3 / 16,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn lists_and_watches_agree_with_the_model(operations in prop::collection::vec(operation(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(operations));
    }
}
