use super::world::Decision;
use super::*;
use crate::pod::PodFacts;
use client::Error;
use clock::{ManualClock, SeededRandom};
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, from_value, json};
use testkit::FakeApi;

fn scheduler() -> Scheduler {
    let clock = Arc::new(ManualClock::new("2026-01-02T03:04:05Z".parse().unwrap()));
    let ambient = Ambient { clock, random: Arc::new(SeededRandom::new(1)) };
    let client = FakeApi::new(ambient.clone()).client();
    let tasks = Tasks::default();
    Scheduler {
        world: Mutex::new(World::new(Config::default())),
        wake: Notify::new(),
        slots: Arc::new(Semaphore::new(1)),
        recorder: EventRecorder::start(client.clone(), "test", None, ambient.clone(), &tasks),
        client,
        ambient,
        claims_changed: tokio::sync::watch::Sender::new(()),
    }
}

fn pod(node: Option<&str>) -> Pod {
    let pod: Value = json!({
        "metadata": { "name": "p", "namespace": "x", "uid": "p" },
        "spec": {
            "nodeName": node, "containers": [{ "name": "c", "resources": { "requests": { "cpu": "1" } } }],
        },
    });
    from_value(pod).unwrap()
}

fn changed(scheduler: &Scheduler, pod: &Pod) {
    scheduler.told(|world, now| world.pod_changed(pod, PodFacts::of(pod), now));
}

fn timed_out() -> Error {
    Error::Service("the answer was lost".into())
}

#[tokio::test]
async fn a_binding_that_failed_gives_its_place_back_unless_the_watch_saw_it_happen() {
    let scheduler = scheduler();
    let node: Node = from_value(json!({
        "metadata": { "name": "n" }, "status": { "allocatable": { "cpu": "1", "pods": "10" } },
    }))
    .unwrap();
    scheduler.told(|world, now| world.node_changed("n", Some(&node), now));
    changed(&scheduler, &pod(None));
    let decision = scheduler.world().decide(scheduler.ambient.clock.monotonic(), 0);
    let Some(Decision::Bind(facts, placement)) = decision else { panic!("there is room") };
    scheduler.not_bound(&facts, &placement.volumes, &timed_out());
    assert!(!scheduler.world().snapshot.holds("p"));

    let now = scheduler.ambient.clock.monotonic() + std::time::Duration::from_secs(60);
    assert!(scheduler.world().queue.next(now).is_some());
    scheduler.world().snapshot.place("n", facts.clone());
    // The request was carried out, though its answer was lost; the watch says so first.
    changed(&scheduler, &pod(Some("n")));
    scheduler.not_bound(&facts, &placement.volumes, &timed_out());
    assert!(scheduler.world().snapshot.holds("p"), "its place is taken");
}
