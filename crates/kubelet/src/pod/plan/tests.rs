//! Plans and statuses as tables: what is there, what is wanted, what follows.

use runtime::{ContainerMetadata, SandboxMetadata, SandboxStatus};
use serde_json::json;

use super::super::memory::{Failure, Probed};
use super::super::status::{Surroundings, status};
use super::*;

const NOW: i64 = 1_800_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(NOW + seconds).unwrap()
}

fn nanos(seconds: i64) -> i64 {
    (NOW + seconds) * 1_000_000_000
}

fn pod(spec: serde_json::Value) -> Pod {
    let mut pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "n", "uid": "u"},
        "spec": spec,
    }))
    .unwrap();
    for container in pod.spec.as_mut().unwrap().containers.iter_mut() {
        container.image = Some("i".into());
    }
    pod
}

fn simple(policy: &str) -> Pod {
    pod(json!({"restartPolicy": policy, "containers": [{"name": "a"}]}))
}

fn sandbox(attempt: u32, ready: bool) -> SandboxStatus {
    SandboxStatus {
        id: format!("s{attempt}"),
        metadata: SandboxMetadata { uid: "u".into(), attempt, ..Default::default() },
        state: if ready { SandboxState::Ready } else { SandboxState::NotReady },
        created_at: nanos(-100),
        ips: vec!["10.0.0.9".parse().unwrap()],
        labels: Default::default(),
        annotations: Default::default(),
    }
}

fn run(name: &str, attempt: u32, state: ContainerState, code: i32) -> ContainerStatus {
    ContainerStatus {
        id: format!("{name}{attempt}"),
        sandbox_id: "s0".into(),
        metadata: ContainerMetadata { name: name.into(), attempt },
        state,
        created_at: nanos(-60),
        started_at: nanos(-60),
        finished_at: if state == ContainerState::Exited { nanos(-1) } else { 0 },
        exit_code: code,
        reason: String::new(),
        message: String::new(),
        image: "i".into(),
        image_id: "sha256:0".into(),
        resources: Default::default(),
        image_ref: String::new(),
        mounted_images: Vec::new(),
        log_path: Default::default(),
        labels: Default::default(),
        annotations: Default::default(),
    }
}

fn running(name: &str, attempt: u32) -> ContainerStatus {
    run(name, attempt, ContainerState::Running, 0)
}

fn exited(name: &str, attempt: u32, code: i32) -> ContainerStatus {
    run(name, attempt, ContainerState::Exited, code)
}

/// The plan in short words, and the phase that is told with it.
fn outcome(pod: &Pod, goal: &Goal, observed: &Observed, memory: &Memory) -> (Vec<String>, String, Plan) {
    outcome_at(pod, goal, observed, memory, at(0))
}

fn outcome_at(
    pod: &Pod,
    goal: &Goal,
    observed: &Observed,
    memory: &Memory,
    now: Timestamp,
) -> (Vec<String>, String, Plan) {
    let plan = plan(pod, goal, observed, memory, now);
    let words = plan.actions.iter().map(|action| match action {
        Action::RunSandbox { attempt } => format!("sandbox {attempt}"),
        Action::StopSandbox { id } => format!("stop {id}"),
        Action::RemoveSandbox { id } => format!("remove {id}"),
        Action::Start { container, attempt, .. } => format!("start {container} {attempt}"),
        Action::Stop { id, deadline, .. } => format!("stop {id} {}", deadline.as_second() - now.as_second()),
        Action::Remove { id } => format!("remove {id}"),
        Action::RenewVolumes => "renew".to_owned(),
        Action::ReleaseVolumes => "release".to_owned(),
        Action::Resize { runs, pod } => {
            let limits = |resources: &Resources| resources.memory_limit.unwrap_or(0);
            let runs = runs.iter().map(|(id, resources)| format!("{id} {}", limits(resources)));
            format!("resize {} in {}", runs.collect::<Vec<_>>().join(" "), limits(pod))
        }
        Action::Abandon { key } => format!("abandon {key:?}"),
    });
    let around = Surroundings { host_ips: &[], handler: "h", now };
    let told = status(pod, goal, observed, &plan, &around);
    (words.collect(), told.phase.unwrap(), plan)
}

fn check(
    pod: &Pod,
    goal: &Goal,
    sandboxes: &[SandboxStatus],
    containers: &[ContainerStatus],
    expected: (&[&str], &str),
) {
    let observed = Observed::of("u", sandboxes.to_vec(), containers.to_vec());
    let (words, phase, _) = outcome(pod, goal, &observed, &Memory::default());
    assert_eq!(
        (words.iter().map(String::as_str).collect::<Vec<_>>(), phase.as_str()),
        (expected.0.to_vec(), expected.1)
    );
}

#[test]
fn from_nothing_to_running() {
    let pod = simple("Always");
    let goal = Goal::Run;
    check(&pod, &goal, &[], &[], (&["sandbox 0"], "Pending"));
    check(&pod, &goal, &[sandbox(0, true)], &[], (&["start a 0"], "Pending"));
    check(&pod, &goal, &[sandbox(0, true)], &[running("a", 0)], (&[], "Running"));
}

#[test]
fn restart_policies() {
    let sandboxes = [sandbox(0, true)];
    let check = |policy: &str, run: ContainerStatus, expected: (&[&str], &str)| {
        check(&simple(policy), &Goal::Run, &sandboxes, &[run], expected);
    };
    check("Always", exited("a", 0, 0), (&["start a 1"], "Running"));
    check("Always", exited("a", 3, 1), (&["start a 4"], "Running"));
    check("OnFailure", exited("a", 0, 1), (&["start a 1"], "Running"));
    check("OnFailure", exited("a", 0, 0), (&["stop s0"], "Succeeded"));
    check("Never", exited("a", 0, 0), (&["stop s0"], "Succeeded"));
    check("Never", exited("a", 0, 1), (&["stop s0"], "Failed"));
    check("Never", running("a", 0), (&[], "Running"));
    // Lost between being made and being started.
    check("Always", run("a", 0, ContainerState::Created, 0), (&["remove a0"], "Pending"));
    check("Always", run("a", 0, ContainerState::Unknown, 0), (&["stop a0 0"], "Running"));
}

/// What is remembered once the starts of a plan have begun.
fn begun(plan: &Plan) -> Memory {
    let mut memory = plan.memory.clone();
    for action in &plan.actions {
        if let Action::Start { container, crash, .. } = action {
            memory.container(container).crash = *crash;
        }
    }
    memory
}

#[test]
fn crashing_waits_longer_each_time() {
    let pod = simple("Always");
    let observed = |attempt| Observed::of("u", vec![sandbox(0, true)], vec![exited("a", attempt, 1)]);
    let (words, _, first) = outcome(&pod, &Goal::Run, &observed(0), &Memory::default());
    assert_eq!(words, ["start a 1"]);
    let memory = begun(&first);
    let (words, phase, second) = outcome(&pod, &Goal::Run, &observed(1), &memory);
    assert_eq!((words.len(), phase.as_str()), (0, "Running"));
    assert_eq!(second.waiting["a"].reason, "CrashLoopBackOff");
    assert_eq!(second.waiting["a"].message, "back-off 10s restarting failed container=a pod=p_n(u)");
    assert_eq!(second.wake_at, Some(at(9)));
}

#[test]
fn what_failed_to_start_is_tried_again_in_time() {
    let pod = simple("Always");
    let observed = Observed::of("u", vec![sandbox(0, true)], vec![]);
    let mut memory = Memory::default();
    let failure = |age: i64, left: i64| Failure {
        what: Waiting::new("ErrImagePull", "no"),
        then: Some(Waiting::new("ImagePullBackOff", "later")),
        at: at(-age),
        retry_at: at(left),
    };
    memory.container("a").failure = Some(failure(0, 10));
    let (words, phase, plan) = outcome(&pod, &Goal::Run, &observed, &memory);
    assert_eq!((words.len(), phase.as_str()), (0, "Pending"));
    assert_eq!((plan.waiting["a"].reason.as_str(), plan.wake_at), ("ErrImagePull", Some(at(2))));
    memory.container("a").failure = Some(failure(5, 5));
    let (_, _, plan) = outcome(&pod, &Goal::Run, &observed, &memory);
    assert_eq!((plan.waiting["a"].reason.as_str(), plan.wake_at), ("ImagePullBackOff", Some(at(5))));
    memory.container("a").failure = Some(failure(10, 0));
    assert_eq!(outcome(&pod, &Goal::Run, &observed, &memory).0, ["start a 0"]);
}

#[test]
fn init_containers_come_first_and_in_order() {
    let of = |policy: &str| {
        pod(json!({
            "restartPolicy": policy,
            "initContainers": [{"name": "x"}, {"name": "y"}],
            "containers": [{"name": "a"}],
        }))
    };
    let sandboxes = [sandbox(0, true)];
    let check = |policy: &str, runs: &[ContainerStatus], expected: (&[&str], &str)| {
        check(&of(policy), &Goal::Run, &sandboxes, runs, expected);
    };
    check("Always", &[], (&["start x 0"], "Pending"));
    check("Always", &[running("x", 0)], (&[], "Pending"));
    check("Always", &[exited("x", 0, 0)], (&["start y 0"], "Pending"));
    check("Always", &[exited("x", 0, 1)], (&["start x 1"], "Pending"));
    check("Never", &[exited("x", 0, 1)], (&["stop s0"], "Failed"));
    check("Always", &[exited("x", 0, 0), exited("y", 0, 0)], (&["start a 0"], "Pending"));
    check("Always", &[exited("x", 0, 0), exited("y", 0, 0), running("a", 0)], (&[], "Running"));
    // They are not run again because an app container ended, even if they are forgotten.
    check("Always", &[exited("a", 0, 1)], (&["start a 1"], "Running"));
}

#[test]
fn sidecars_start_before_the_others_and_end_after_them() {
    let pod = pod(json!({
        "restartPolicy": "Never",
        "initContainers": [{"name": "side", "restartPolicy": "Always"}],
        "containers": [{"name": "a"}],
    }));
    let sandboxes = [sandbox(0, true)];
    check(&pod, &Goal::Run, &sandboxes, &[], (&["start side 0"], "Pending"));
    check(&pod, &Goal::Run, &sandboxes, &[running("side", 0)], (&["start a 0"], "Pending"));
    let both = [running("side", 0), running("a", 0)];
    check(&pod, &Goal::Run, &sandboxes, &both, (&[], "Running"));
    check(
        &pod,
        &Goal::Run,
        &sandboxes,
        &[exited("side", 0, 0), running("a", 0)],
        (&["start side 1"], "Running"),
    );
    check(
        &pod,
        &Goal::Run,
        &sandboxes,
        &[running("side", 0), exited("a", 0, 0)],
        (&["stop side0 30"], "Succeeded"),
    );
    let leave = Goal::Leave(Duration::from_secs(5));
    check(&pod, &leave, &sandboxes, &both, (&["stop a0 5"], "Running"));
    check(
        &pod,
        &leave,
        &sandboxes,
        &[running("side", 0), exited("a", 0, 0)],
        (&["stop side0 5"], "Succeeded"),
    );
}

#[test]
fn a_lost_sandbox_is_replaced_where_something_has_to_run() {
    let check = |policy: &str, runs: &[ContainerStatus], expected: (&[&str], &str)| {
        check(&simple(policy), &Goal::Run, &[sandbox(0, false)], runs, expected);
    };
    check("Always", &[exited("a", 2, 137)], (&["sandbox 1"], "Running"));
    check("Always", &[running("a", 0)], (&["stop a0 30"], "Running"));
    check("OnFailure", &[exited("a", 0, 137)], (&["sandbox 1"], "Running"));
    check("Never", &[exited("a", 0, 137)], (&[], "Failed"));
    check("OnFailure", &[exited("a", 0, 0)], (&[], "Succeeded"));

    let mut young = sandbox(0, false);
    young.created_at = nanos(-2);
    let observed = Observed::of("u", vec![young], vec![]);
    let (words, _, plan) = outcome(&simple("Always"), &Goal::Run, &observed, &Memory::default());
    assert_eq!(
        (words.len(), plan.wake_at),
        (0, Some(at(3))),
        "one that is lost at once is not replaced at once"
    );
}

#[test]
fn old_runs_are_forgotten_and_two_are_kept() {
    let pod = simple("Always");
    let runs = [exited("a", 0, 1), exited("a", 1, 1), running("a", 2)];
    check(&pod, &Goal::Run, &[sandbox(0, true)], &runs, (&["remove a0"], "Running"));
    let mut newest = running("a", 2);
    newest.sandbox_id = "s1".into();
    let sandboxes = [sandbox(0, false), sandbox(1, true)];
    check(&pod, &Goal::Run, &sandboxes, &[exited("a", 1, 1), newest.clone()], (&[], "Running"));
    newest.sandbox_id = "s2".into();
    let sandboxes = [sandbox(0, false), sandbox(1, false), sandbox(2, true)];
    check(&pod, &Goal::Run, &sandboxes, &[exited("a", 1, 1), newest], (&["remove s1"], "Running"));
}

#[test]
fn leaving_ends_what_runs_then_what_held_it() {
    let pod = simple("Always");
    let leave = Goal::Leave(Duration::from_secs(7));
    check(&pod, &leave, &[sandbox(0, true)], &[running("a", 0)], (&["stop a0 7"], "Running"));
    check(&pod, &leave, &[sandbox(0, true)], &[exited("a", 0, 137)], (&["remove s0"], "Failed"));
    check(&pod, &leave, &[sandbox(0, true)], &[exited("a", 0, 0)], (&["remove s0"], "Succeeded"));
}

#[test]
fn failed_probes_and_changed_definitions_end_a_run() {
    let pod = simple("Always");
    let observed = Observed::of("u", vec![sandbox(0, true)], vec![running("a", 0)]);
    let mut memory = Memory::default();
    memory.container("a").probes = Some(Probed {
        container_id: "a0".into(),
        started: true,
        ready: true,
        fatal: Some(("Container a failed liveness probe, will be restarted".into(), None)),
    });
    assert_eq!(outcome(&pod, &Goal::Run, &observed, &memory).0, ["stop a0 30"]);
    let own = &mut memory.container("a").probes.as_mut().unwrap().fatal.as_mut().unwrap().1;
    *own = Some(Duration::from_secs(3));
    assert_eq!(outcome(&pod, &Goal::Run, &observed, &memory).0, ["stop a0 3"]);
    let mut other = running("a", 0);
    other.annotations.insert(config::HASH.into(), "another".into());
    check(&pod, &Goal::Run, &[sandbox(0, true)], &[other], (&["stop a0 30"], "Running"));
    let mut same = running("a", 0);
    same.annotations.insert(config::HASH.into(), config::hash(&pod.spec.as_ref().unwrap().containers[0]));
    check(&pod, &Goal::Run, &[sandbox(0, true)], &[same], (&[], "Running"));
}

#[test]
fn what_was_replaced_runs_again_whatever_the_policy() {
    let mut pod = simple("OnFailure");
    let sandboxes = || vec![sandbox(0, true)];
    let mut old = running("a", 0);
    old.annotations.insert(config::HASH.into(), "another".into());
    let observed = Observed::of("u", sandboxes(), vec![old]);
    let (_, _, before) = outcome(&pod, &Goal::Run, &observed, &Memory::default());
    let ended = Observed::of("u", sandboxes(), vec![exited("a", 0, 0)]);
    assert_eq!(outcome(&pod, &Goal::Run, &ended, &before.memory).0, ["start a 1"]);
    // A rule of its own starts what the pod's policy would not.
    pod.spec.as_mut().unwrap().containers[0] = serde_json::from_value(json!({
        "name": "a", "restartPolicy": "Never", "restartPolicyRules":
            [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}],
    }))
    .unwrap();
    check(&pod, &Goal::Run, &sandboxes(), &[exited("a", 0, 42)], (&["start a 1"], "Running"));
    check(&pod, &Goal::Run, &sandboxes(), &[exited("a", 0, 1)], (&["stop s0"], "Failed"));
}

#[test]
fn limits_follow_the_spec_while_it_runs() {
    let limits = |memory: &str, policy: &str| {
        let policy = json!([{"resourceName": "memory", "restartPolicy": policy}]);
        let resources = json!({"limits": {"memory": memory, "cpu": "1"}});
        pod(json!({"containers": [{"name": "a", "resources": resources, "resizePolicy": policy}]}))
    };
    let with = |memory: i64| {
        let mut run = running("a", 0);
        let before = limits(&memory.to_string(), "NotRequired");
        run.resources = resources::of_container(&before, &before.spec.as_ref().unwrap().containers[0], 1);
        Observed::of("u", vec![sandbox(0, true)], vec![run])
    };
    let words = |pod: &Pod, observed: &Observed, memory: &Memory| outcome(pod, &Goal::Run, observed, memory);
    let bigger = limits("200", "NotRequired");
    let none = Memory::default();
    assert!(words(&limits("100", "NotRequired"), &with(100), &none).0.is_empty());
    let (actions, _, plan) = words(&bigger, &with(100), &none);
    assert_eq!((actions, plan.resizing), (vec!["resize a0 200 in 200".to_owned()], true));
    assert_eq!(words(&limits("200", "RestartContainer"), &with(100), &none).0, ["stop a0 30"]);
    let cpu_only = with(200);
    assert!(words(&limits("200", "RestartContainer"), &cpu_only, &none).0.is_empty());
    // What failed is tried again later, and told of until it is done.
    let mut memory = Memory::default();
    memory.resize.failed = Some(("no".into(), at(5)));
    let (actions, _, plan) = words(&bigger, &with(100), &memory);
    assert_eq!((actions.len(), plan.wake_at), (0, Some(at(5))));
    let around = Surroundings { host_ips: &[], handler: "h", now: at(0) };
    let told = status(&bigger, &Goal::Run, &with(100), &plan, &around);
    let found = told.conditions.unwrap().into_iter().find(|one| one.type_ == "PodResizeInProgress").unwrap();
    assert_eq!((found.reason.as_deref(), found.message.as_deref()), (Some("Error"), Some("no")));
    let told = &told.container_statuses.unwrap()[0];
    let shown = |resources: &serde_json::Value| resources["limits"]["memory"].as_str().unwrap().to_owned();
    assert_eq!(shown(&json!(told.resources)), "100", "what it has, not what it shall have");
    assert_eq!(words(&bigger, &with(200), &memory).2.memory.resize.failed, None);
}

#[test]
fn a_status_tells_of_each_container() {
    let pod = simple("Always");
    let mut memory = Memory::default();
    let tell = |memory: &Memory, runs: Vec<ContainerStatus>| {
        let observed = Observed::of("u", vec![sandbox(0, true)], runs);
        let plan = plan(&pod, &Goal::Run, &observed, memory, at(0));
        let around = Surroundings { host_ips: &["10.0.0.1".parse().unwrap()], handler: "runc", now: at(0) };
        let told = status(&pod, &Goal::Run, &observed, &plan, &around);
        (serde_json::to_value(&told).unwrap(), begun(&plan))
    };
    let (told, _) = tell(&memory, vec![]);
    assert_eq!(told["containerStatuses"][0]["state"]["waiting"]["reason"], "ContainerCreating");
    assert_eq!((told["podIP"].as_str(), told["qosClass"].as_str()), (Some("10.0.0.9"), Some("BestEffort")));

    let (told, after) = tell(&memory, vec![exited("a", 0, 1)]);
    assert_eq!(told["containerStatuses"][0]["state"]["terminated"]["reason"], "Error");
    memory = after;
    let (told, _) = tell(&memory, vec![exited("a", 0, 2), exited("a", 1, 1)]);
    let container = &told["containerStatuses"][0];
    assert_eq!(container["state"]["waiting"]["reason"], "CrashLoopBackOff");
    assert_eq!(container["lastState"]["terminated"]["exitCode"], 1);
    assert_eq!((container["restartCount"].as_i64(), container["ready"].as_bool()), (Some(1), Some(false)));

    let (told, _) = tell(&memory, vec![exited("a", 0, 2), running("a", 1)]);
    let container = &told["containerStatuses"][0];
    assert_eq!(container["containerID"], "runc://a1");
    assert_eq!(container["lastState"]["terminated"]["exitCode"], 2);
    assert_eq!((container["ready"].as_bool(), container["started"].as_bool()), (Some(true), Some(true)));
    let ready = |told: &serde_json::Value, name: &str| {
        let all = told["conditions"].as_array().unwrap();
        all.iter().find(|condition| condition["type"] == name).unwrap()["status"].as_str().unwrap().to_owned()
    };
    for name in ["PodScheduled", "PodReadyToStartContainers", "Initialized", "ContainersReady", "Ready"] {
        assert_eq!(ready(&told, name), "True", "{name}");
    }
}

#[test]
fn a_status_does_not_change_by_being_told() {
    let mut pod = simple("Always");
    let observed = Observed::of("u", vec![sandbox(0, true)], vec![running("a", 0)]);
    let tell = |pod: &Pod, now| {
        let plan = plan(pod, &Goal::Run, &observed, &Memory::default(), now);
        status(pod, &Goal::Run, &observed, &plan, &Surroundings { host_ips: &[], handler: "h", now })
    };
    let first = tell(&pod, at(0));
    // As it comes back from the API.
    pod.status = Some(serde_json::from_value(serde_json::to_value(&first).unwrap()).unwrap());
    assert_eq!(Some(tell(&pod, at(50))), pod.status);
}

#[test]
fn what_a_runtime_lost_track_of_is_stopped_once() {
    let pod = simple("Always");
    let lost = || run("a", 0, ContainerState::Unknown, 0);
    let observed = Observed::of("u", vec![sandbox(0, true)], vec![lost()]);
    let (words, _, plan) = outcome(&pod, &Goal::Run, &observed, &Memory::default());
    assert_eq!(words, ["stop a0 0"]);
    let mut memory = plan.memory;
    memory.stops.get_mut("a0").unwrap().done = true;
    assert_eq!(outcome(&pod, &Goal::Run, &observed, &memory).0, ["start a 1"]);
    let leave = Goal::Leave(Duration::from_secs(5));
    assert_eq!(outcome(&pod, &leave, &observed, &memory).0, ["remove s0"]);
}

#[test]
fn what_is_being_done_holds_up_only_what_depends_on_it() {
    let pod = pod(json!({"restartPolicy": "Always", "containers": [{"name": "a"}, {"name": "b"}]}));
    let words = |in_flight: &[Key], runs: &[ContainerStatus]| {
        let mut observed = Observed::of("u", vec![sandbox(0, true)], runs.to_vec());
        observed.in_flight = in_flight.iter().cloned().collect();
        outcome(&pod, &Goal::Run, &observed, &Memory::default()).0
    };
    let none: [&str; 0] = [];
    assert_eq!(words(&[], &[]), ["start a 0"], "b begins when a has");
    assert_eq!(words(&[Key::Start("a".into())], &[]), none);
    let hooking = Key::PostStart("a0".into());
    assert_eq!(words(std::slice::from_ref(&hooking), &[running("a", 0)]), none);
    assert_eq!(words(&[], &[running("a", 0)]), ["start b 0"]);
    // A restart waits for nobody.
    assert_eq!(words(&[hooking], &[running("a", 0), exited("b", 0, 1)]), ["start b 1"]);
    assert_eq!(words(&[Key::Stop("a0".into())], &[running("a", 0), exited("b", 0, 1)]), ["start b 1"]);
    assert_eq!(words(&[Key::Start("b".into())], &[running("a", 0), exited("b", 0, 1)]), none);
}

#[test]
fn leaving_waits_for_what_is_half_made() {
    let pod = simple("Always");
    let leave = Goal::Leave(Duration::from_secs(5));
    let words = |in_flight: Key, sandboxes: &[SandboxStatus], runs: &[ContainerStatus]| {
        let mut observed = Observed::of("u", sandboxes.to_vec(), runs.to_vec());
        observed.in_flight = [in_flight].into();
        outcome(&pod, &leave, &observed, &Memory::default()).0
    };
    assert_eq!(words(Key::Pod, &[], &[]), ["abandon Pod"]);
    let starting = Key::Start("a".into());
    assert_eq!(words(starting, &[sandbox(0, true)], &[]), ["abandon Start(\"a\")"]);
    let stopping = Key::Stop("a0".into());
    assert_eq!(words(stopping, &[sandbox(0, true)], &[running("a", 0)]), ["stop a0 5"]);
}

#[test]
fn a_pods_end_has_one_deadline() {
    let pod = pod(json!({
        "initContainers": [{"name": "s", "restartPolicy": "Always"}, {"name": "t", "restartPolicy": "Always"}],
        "containers": [{"name": "a"}],
    }));
    let look = |runs: &[ContainerStatus], grace: u64, memory: &Memory, now: i64| {
        let observed = Observed::of("u", vec![sandbox(0, true)], runs.to_vec());
        let (words, _, plan) =
            outcome_at(&pod, &Goal::Leave(Duration::from_secs(grace)), &observed, memory, at(now));
        (words, plan.memory)
    };
    let all = [running("s", 0), running("t", 0), running("a", 0)];
    let (words, memory) = look(&all, 10, &Memory::default(), 0);
    assert_eq!(words, ["stop a0 10"]);
    // Asked again: it is the same end.
    assert_eq!(look(&all, 10, &memory, 4).0, ["stop a0 6"]);
    // Less is given later: it comes sooner. More is given: it does not come later.
    assert_eq!(look(&all, 3, &memory, 4).0, ["stop a0 3"]);
    assert_eq!(look(&all, 30, &memory, 4).0, ["stop a0 6"]);
    assert_eq!(look(&all, 0, &memory, 4).0, ["stop a0 0"]);
    let (words, memory) = look(&[running("s", 0), running("t", 0)], 10, &memory, 7);
    assert_eq!(words, ["stop t0 3"], "the last sidecar first, in what is left");
    let (words, memory) = look(&[running("s", 0)], 10, &memory, 10);
    assert_eq!(words, ["stop s0 2"], "and never less than two seconds");
    assert_eq!(look(&[running("s", 0)], 10, &memory, 11).0, ["stop s0 1"]);
}

#[test]
fn a_sidecar_holds_up_the_next_until_it_has_started() {
    let pod = pod(json!({
        "restartPolicy": "OnFailure",
        "initContainers": [
            {"name": "s", "restartPolicy": "Always", "startupProbe": {"exec": {"command": ["x"]}}},
            {"name": "i"},
        ],
        "containers": [{"name": "a"}],
    }));
    let observed = |runs: &[ContainerStatus], in_flight: &[Key]| {
        let mut observed = Observed::of("u", vec![sandbox(0, true)], runs.to_vec());
        observed.in_flight = in_flight.iter().cloned().collect();
        observed
    };
    let words = |observed: &Observed, memory: &Memory| outcome(&pod, &Goal::Run, observed, memory).0;
    let none: [&str; 0] = [];
    let mut memory = Memory::default();
    assert_eq!(words(&observed(&[running("s", 0)], &[]), &memory), none);
    let probed = Probed { container_id: "s0".into(), started: true, ready: false, fatal: None };
    memory.container("s").probes = Some(probed);
    assert_eq!(words(&observed(&[running("s", 0)], &[Key::PostStart("s0".into())]), &memory), none);
    assert_eq!(words(&observed(&[running("s", 0)], &[]), &memory), ["start i 0"]);
    // It runs again whatever the pod's policy and its exit code say.
    let runs = [exited("s", 0, 0), exited("i", 0, 0), running("a", 0)];
    assert_eq!(words(&observed(&runs, &[]), &memory), ["start s 1"]);
}

#[test]
fn an_ephemeral_container_runs_once() {
    let pod = pod(json!({
        "containers": [{"name": "a"}],
        "ephemeralContainers": [{"name": "e", "image": "debug"}],
    }));
    let sandboxes = [sandbox(0, true)];
    check(&pod, &Goal::Run, &sandboxes, &[running("a", 0)], (&["start e 0"], "Running"));
    let runs = [running("a", 0), exited("e", 0, 1)];
    check(&pod, &Goal::Run, &sandboxes, &runs, (&[], "Running"));
    let observed = Observed::of("u", sandboxes.to_vec(), runs.to_vec());
    let plan = plan(&pod, &Goal::Run, &observed, &Memory::default(), at(0));
    let around = Surroundings { host_ips: &[], handler: "h", now: at(0) };
    let told = status(&pod, &Goal::Run, &observed, &plan, &around);
    assert_eq!(told.ephemeral_container_statuses.unwrap()[0].name, "e");
}

#[test]
fn a_run_whose_hook_failed_is_ended() {
    let pod = simple("Always");
    let observed = Observed::of("u", vec![sandbox(0, true)], vec![running("a", 1)]);
    let mut memory = Memory::default();
    memory.container("a").condemned = Some(("a0".into(), "FailedPostStartHook".into()));
    assert!(outcome(&pod, &Goal::Run, &observed, &memory).0.is_empty(), "that was another run");
    memory.container("a").condemned = Some(("a1".into(), "FailedPostStartHook".into()));
    assert_eq!(outcome(&pod, &Goal::Run, &observed, &memory).0, ["stop a1 30"]);
}

#[test]
fn volumes_are_renewed_from_time_to_time() {
    let pod =
        pod(json!({"containers": [{"name": "a"}], "volumes": [{"name": "v", "configMap": {"name": "c"}}]}));
    let observed = Observed::of("u", vec![sandbox(0, true)], vec![running("a", 0)]);
    let mut memory = Memory::default();
    assert_eq!(outcome(&pod, &Goal::Run, &observed, &memory).0, ["renew"]);
    memory.renew_at = Some(at(7));
    let (words, _, plan) = outcome(&pod, &Goal::Run, &observed, &memory);
    assert_eq!((words.len(), plan.wake_at), (0, Some(at(7))));
}
