use super::world::{Decision, Nominated};
use super::*;
use crate::instruments::Outcome;
use crate::pod::PodFacts;
use client::Error;
use clock::{ManualClock, SeededRandom};
use instruments::Page;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, from_value, json};
use testkit::FakeApi;

fn scheduler() -> Scheduler {
    let clock = Arc::new(ManualClock::new("2026-01-02T03:04:05Z".parse().unwrap()));
    let ambient = Ambient { clock, random: Arc::new(SeededRandom::new(1)) };
    let client = FakeApi::new(ambient.clone()).client();
    let (tasks, counts) = (Tasks::default(), Arc::<Instruments>::default());
    Scheduler {
        world: Mutex::new(World::new(Config::default(), counts.clone())),
        wake: Notify::new(),
        counts,
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
    let Some(Decision::Bind(facts, placement, _)) = decision else { panic!("there is room") };
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

#[tokio::test]
async fn what_is_done_is_counted() {
    let scheduler = scheduler();
    let clock = scheduler.ambient.clock.clone();
    let named = |uid: &str, priority: i32| -> Pod {
        let pod = json!({
            "metadata": { "name": uid, "namespace": "x", "uid": uid },
            "spec": { "priority": priority, "containers": [
                { "name": "c", "resources": { "requests": { "cpu": "1" } } },
            ] },
        });
        from_value(pod).unwrap()
    };
    let page = |scheduler: &Scheduler| {
        let mut page = Page::default();
        scheduler.counts.write(&mut page);
        page.finish()
    };
    let has = |scheduler: &Scheduler, lines: &[&str]| {
        let page = page(scheduler);
        lines.iter().for_each(|line| assert!(page.contains(&format!("{line}\n")), "{line}: {page}"));
    };
    changed(&scheduler, &named("low", 0));
    has(&scheduler, &["scheduler_pending_pods{queue=\"active\"} 1"]);
    let Some(nowhere) = scheduler.world().decide(clock.monotonic(), 0) else { panic!("it is tried") };
    scheduler.carry_out(nowhere).await;
    has(
        &scheduler,
        &[
            "scheduler_pending_pods{queue=\"active\"} 0",
            "scheduler_pending_pods{queue=\"unschedulable\"} 1",
            "scheduler_schedule_attempts_total{result=\"unschedulable\",profile=\"default-scheduler\"} 1",
        ],
    );
    let node: Node = from_value(json!({
        "metadata": { "name": "n" }, "status": { "allocatable": { "cpu": "1", "pods": "10" } },
    }))
    .unwrap();
    scheduler.told(|world, now| world.node_changed("n", Some(&node), now));
    has(
        &scheduler,
        &[
            "scheduler_pending_pods{queue=\"backoff\"} 1",
            "scheduler_queue_incoming_pods_total{queue=\"backoff\",event=\"NodeAdd\"} 1",
        ],
    );
    let later = clock.monotonic() + std::time::Duration::from_secs(5);
    let Some(Decision::Bind(facts, placement, turn)) = scheduler.world().decide(later, 0) else {
        panic!("there is room")
    };
    assert_eq!((turn.attempts, turn.came, turn.began), (2, clock.monotonic(), later));
    scheduler.counts.ended(&facts.scheduler_name, Outcome::Scheduled, turn, later);
    scheduler.told(|world, now| world.pod_changed(&named("high", 9), PodFacts::of(&named("high", 9)), now));
    let Some(Decision::Wait { nominated: Nominated::By(_), .. }) = scheduler.world().decide(later, 0) else {
        panic!("{} has to go for it", placement.node)
    };
    has(
        &scheduler,
        &[
            "scheduler_pod_scheduling_attempts_bucket{le=\"2\"} 1",
            "scheduler_pod_scheduling_sli_duration_seconds_sum{attempts=\"2\"} 5",
            "scheduler_preemption_attempts_total 1",
            "scheduler_preemption_victims_sum 1",
            "scheduler_preemption_victims_count 1",
        ],
    );
    scheduler.told(|world, _| world.queue.pause("high", later));
    has(&scheduler, &["scheduler_pending_pods{queue=\"backoff\"} 1"]);
    let counts = scheduler.counts.clone();
    drop(scheduler);
    let mut page = Page::default();
    counts.write(&mut page);
    assert!(page.finish().contains("scheduler_pending_pods{queue=\"backoff\"} 0\n"), "nobody knows of any");
}
