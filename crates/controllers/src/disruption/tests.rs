use super::*;
use crate::Settings;
use client::Ambient;
use client::kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use clock::{ManualClock, SeededRandom, Tasks};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::ReplicationController;
use proptest::prelude::*;
use serde_json::from_value;
use testkit::{FakeApi, merge};

const START: &str = "2026-01-02T03:04:05Z";

fn now() -> Timestamp {
    START.parse().unwrap()
}

fn budget(spec: Value, status: Value) -> Arc<PodDisruptionBudget> {
    let mut budget = json!({
        "metadata": { "name": "guard", "namespace": "x", "uid": "b", "generation": 3, "resourceVersion": "9" },
        "spec": { "selector": { "matchLabels": { "app": "web" } } }, "status": status,
    });
    merge(&mut budget, &json!({ "spec": spec }));
    Arc::new(from_value(budget).unwrap())
}

fn pod(name: &str, owner: Option<&str>, more: Value) -> Arc<Pod> {
    let mut pod = json!({
        "metadata": { "name": name, "namespace": "x", "uid": name, "labels": { "app": "web" } },
        "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] },
    });
    if let Some(owner) = owner {
        pod["metadata"]["ownerReferences"] = json!([{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": owner, "controller": true }]);
    }
    merge(&mut pod, &more);
    Arc::new(from_value(pod).unwrap())
}

fn ready(count: usize, owner: Option<&str>) -> Vec<Arc<Pod>> {
    (0..count).map(|number| pod(&format!("p{number}"), owner, json!({}))).collect()
}

fn of(replicas: i32) -> Scales {
    Scales::default().with("rs", Scale::Of { uid: "rs".into(), replicas })
}

fn view(spec: Value, status: Value, pods: Vec<Arc<Pod>>, scales: Scales) -> View {
    View { budget: Some(budget(spec, status)), pods, scales, under: Vec::new() }
}

/// The status that a plan writes.
fn status(plan: &Plan<()>) -> Value {
    let mut patches = plan.actions.iter().filter_map(|action| match action {
        Action::Patch(patch) => Some(patch.body["status"].clone()),
        _ => None,
    });
    patches.next().unwrap_or_default()
}

fn reasons(plan: &Plan<()>) -> Vec<&'static str> {
    let told = plan.actions.iter().filter_map(|action| match action {
        Action::Tell { reason, .. } => Some(*reason),
        _ => None,
    });
    told.collect()
}

/// Expected, desired, current, allowed.
fn counts(spec: Value, pods: Vec<Arc<Pod>>, scales: Scales) -> [i64; 4] {
    let status = status(&plan_budget(&view(spec, Value::Null, pods, scales), now()));
    ["expectedPods", "desiredHealthy", "currentHealthy", "disruptionsAllowed"]
        .map(|field| status[field].as_i64().unwrap())
}

#[test]
fn numbers_and_parts_are_counted() {
    let pods = || ready(5, Some("rs"));
    assert_eq!(counts(json!({ "minAvailable": 3 }), pods(), Scales::default()), [5, 3, 5, 2]);
    assert_eq!(counts(json!({ "minAvailable": "50%" }), pods(), of(7)), [7, 4, 5, 1]);
    assert_eq!(counts(json!({ "maxUnavailable": 1 }), pods(), of(5)), [5, 4, 5, 1]);
    assert_eq!(counts(json!({ "maxUnavailable": "30%" }), pods(), of(5)), [5, 3, 5, 2]);
    assert_eq!(counts(json!({ "maxUnavailable": 9 }), pods(), of(5)), [5, 0, 5, 5]);
    assert_eq!(counts(json!({ "maxUnavailable": 1 }), pods(), of(9)), [9, 8, 5, 0], "four are missing");
    assert_eq!(
        counts(json!({ "maxUnavailable": 1 }), pods(), of(0)),
        [0, 0, 5, 0],
        "they are going, or it is early"
    );
    assert_eq!(counts(json!({ "minAvailable": 0 }), vec![], Scales::default()), [0, 0, 0, 0]);
}

#[test]
fn only_pods_that_stay_and_are_ready_are_healthy() {
    let pods = vec![
        pod("ready", None, json!({})),
        pod("unready", None, json!({ "status": { "conditions": null } })),
        pod("going", None, json!({ "metadata": { "deletionTimestamp": START } })),
        pod("evicted", None, json!({})),
        pod("forgotten", None, json!({})),
    ];
    let recent = now() - SignedDuration::from_secs(60);
    let disrupted = json!({ "evicted": Time(recent), "forgotten": "2026-01-01T00:00:00Z", "going": Time(recent),
        "gone": Time(recent) });
    let before = json!({ "disruptedPods": disrupted });
    let plan = plan_budget(&view(json!({ "minAvailable": 1 }), before, pods, Scales::default()), now());
    let status = status(&plan);
    assert_eq!((&status["currentHealthy"], &status["disruptionsAllowed"]), (&json!(2), &json!(1)));
    assert_eq!(status["disruptedPods"], json!({ "forgotten": null, "going": null, "gone": null }));
    assert_eq!(reasons(&plan), ["NotDeleted"]);
    assert_eq!(plan.requeue_at, Some(recent + PATIENCE));
}

#[test]
fn the_condition_says_whether_and_since_when() {
    let condition = |pods: usize, before: Value| {
        let view = view(json!({ "minAvailable": 2 }), before, ready(pods, None), Scales::default());
        status(&plan_budget(&view, now()))["conditions"][0].clone()
    };
    let fresh = condition(3, Value::Null);
    assert_eq!(
        (&fresh["type"], &fresh["status"], &fresh["reason"]),
        (&json!("DisruptionAllowed"), &json!("True"), &json!("SufficientPods"))
    );
    assert_eq!((&fresh["observedGeneration"], &fresh["lastTransitionTime"]), (&json!(3), &json!(START)));
    let earlier = json!({ "conditions": [{ "type": "DisruptionAllowed", "status": "True", "reason": "SufficientPods",
        "message": "", "observedGeneration": 2, "lastTransitionTime": "2025-01-01T00:00:00Z" }] });
    assert_eq!(condition(3, earlier.clone())["lastTransitionTime"], "2025-01-01T00:00:00Z");
    let short = condition(2, earlier);
    assert_eq!(
        (&short["status"], &short["reason"], &short["lastTransitionTime"]),
        (&json!("False"), &json!("InsufficientPods"), &json!(START))
    );
}

#[test]
fn at_rest_nothing_is_written() {
    let mut view = view(json!({ "minAvailable": 1 }), Value::Null, ready(2, None), Scales::default());
    let written = status(&plan_budget(&view, now()));
    view.budget = Some(budget(json!({ "minAvailable": 1 }), written));
    assert!(plan_budget(&view, now()).actions.is_empty());
}

#[test]
fn what_cannot_be_counted_allows_nothing() {
    let scale =
        |scale: Option<Scale>| scale.map_or(Scales::default(), |scale| Scales::default().with("rs", scale));
    let said = |known: Option<Scale>| {
        let before = json!({ "disruptionsAllowed": 2, "observedGeneration": 3 });
        let plan = plan_budget(
            &view(json!({ "maxUnavailable": 1 }), before, ready(3, Some("rs")), scale(known)),
            now(),
        );
        assert_eq!(reasons(&plan), ["CalculateExpectedPodCountFailed"]);
        let status = status(&plan);
        let condition = &status["conditions"][0];
        assert_eq!((&status["disruptionsAllowed"], &condition["reason"]), (&json!(0), &json!("SyncFailed")));
        assert!(plan.requeue_at.is_some());
        condition["message"].as_str().unwrap().to_owned()
    };
    assert_eq!(said(Some(Scale::Gone)), "found no controllers for pod \"p0\"");
    assert_eq!(said(Some(Scale::Unknown("no scale".into()))), "no scale");
}

#[test]
fn pods_that_nothing_controls_are_told_of_where_parts_are_counted() {
    let unmanaged = plan_budget(
        &view(json!({ "maxUnavailable": 1 }), Value::Null, ready(2, None), Scales::default()),
        now(),
    );
    assert_eq!(reasons(&unmanaged), ["UnmanagedPods"]);
    let Action::Tell { message, .. } = &unmanaged.actions[0] else { panic!() };
    assert!(message.contains("(selector: &LabelSelector{MatchLabels:map[string]string{app: web,},MatchExpressions:[]LabelSelectorRequirement{},})"), "{message}");
    assert_eq!(status(&unmanaged)["disruptionsAllowed"], 0);
    let none =
        plan_budget(&view(json!({ "minAvailable": 1 }), Value::Null, vec![], Scales::default()), now());
    assert_eq!(reasons(&none), ["NoPods"]);
}

#[test]
fn selectors_select_nothing_or_all() {
    let web = pod("p", None, json!({}));
    let of = |selector: Value| {
        let budget: PodDisruptionBudget = from_value(json!({ "spec": { "selector": selector } })).unwrap();
        covers(&budget, &web)
    };
    assert_eq!(
        [of(Value::Null), of(json!({})), of(json!({ "matchLabels": { "app": "db" } }))],
        [false, true, false]
    );
}

#[test]
fn a_pod_that_was_to_be_disrupted_and_stays_is_said_to_stay() {
    let said = |since: &str, more: Value| {
        let condition = json!({ "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "lastTransitionTime": since });
        let mut status = json!({ "status": { "conditions": [condition] } });
        merge(&mut status, &more);
        plan_pod(&View { pods: vec![pod("p", None, status)], ..View::default() }, now())
    };
    let stale = said("2026-01-02T03:02:05Z", json!({}));
    let [Action::Patch(patch)] = &stale.actions[..] else { panic!("{stale:?}") };
    let condition = &patch.body["status"]["conditions"][0];
    assert_eq!((&condition["status"], &condition["reason"]), (&json!("False"), &Value::Null));
    let recent = said("2026-01-02T03:03:05Z", json!({}));
    assert!(recent.actions.is_empty());
    assert_eq!(recent.requeue_at, Some(now() + SignedDuration::from_secs(60)));
    for over in
        [json!({ "metadata": { "deletionTimestamp": START } }), json!({ "status": { "phase": "Failed" } })]
    {
        assert_eq!(said("2026-01-02T03:02:05Z", over), Plan::default());
    }
}

#[test]
fn a_pod_under_two_budgets_is_told_of() {
    let view = View {
        pods: vec![pod("p", None, json!({}))],
        under: vec!["a".into(), "b".into()],
        ..View::default()
    };
    assert_eq!(reasons(&plan_pod(&view, now())), ["MultiplePodDisruptionBudgets"]);
}

/// The controller over a server of its own, where only the keys that wait are looked at.
struct Wired {
    api: FakeApi,
    world: World,
    queue: Arc<WorkQueue<Key>>,
    controller: Disruptions,
}

impl Wired {
    async fn with(objects: &[(ApiResource, Value)]) -> Self {
        let clock = Arc::new(ManualClock::new(now()));
        let ambient = Ambient { clock, random: Arc::new(SeededRandom::new(1)) };
        let api = FakeApi::new(ambient.clone());
        for (resource, object) in objects {
            let object = from_value(object.clone()).unwrap();
            of_kind(&api, resource).create(&PostParams::default(), &object).await.unwrap();
        }
        let world = World::new(api.client(), ambient.clone(), Settings::default(), Tasks::default());
        let queue = WorkQueue::new(ambient);
        let controller = Disruptions::wire(&world, &queue);
        world.ready().await;
        let wired = Self { api, world, queue, controller };
        wired.waiting().await;
        wired
    }

    /// Changes an object, and says which keys wait once the informers have seen it.
    async fn after(&self, resource: &ApiResource, name: &str, patch: Value) -> Vec<Key> {
        let patch = Patch::Merge(patch);
        let patched =
            of_kind(&self.api, resource).patch(name, &PatchParams::default(), &patch).await.unwrap();
        let version = patched.metadata.resource_version;
        while self.seen(resource, name) != version {
            tokio::task::yield_now().await;
        }
        self.waiting().await
    }

    fn seen(&self, resource: &ApiResource, name: &str) -> Option<String> {
        fn version<K>(world: &World, name: &str) -> Option<String>
        where
            K: client::kube::Resource<DynamicType = ()>
                + Clone
                + serde::de::DeserializeOwned
                + fmt::Debug
                + Send
                + Sync
                + 'static,
        {
            let seen = world.reader::<K>().informer().store().get(&ObjectKey::new("x", name))?;
            seen.meta().resource_version.clone()
        }
        match &*resource.kind {
            "Deployment" => version::<Deployment>(&self.world, name),
            "ReplicaSet" => version::<ReplicaSet>(&self.world, name),
            "StatefulSet" => version::<StatefulSet>(&self.world, name),
            _ => version::<ReplicationController>(&self.world, name),
        }
    }

    async fn waiting(&self) -> Vec<Key> {
        let mut keys = Vec::new();
        while !self.queue.is_empty() {
            keys.extend(self.queue.next().await.map(|working| working.key().clone()));
        }
        keys.sort();
        keys
    }

    /// How many must be healthy, by what the controller would now write of the budget.
    fn desired(&self) -> Value {
        let view = self.controller.view(&guard());
        status(&plan_budget(&view, now()))["desiredHealthy"].clone()
    }
}

fn of_kind(api: &FakeApi, resource: &ApiResource) -> Api<DynamicObject> {
    Api::namespaced_with(api.client(), "x", resource)
}

fn guard() -> Key {
    Key::Budget(ObjectKey::new("x", "guard"))
}

fn named(name: &str, spec: Value) -> Value {
    json!({ "metadata": { "name": name, "namespace": "x" }, "spec": spec })
}

/// A budget that counts what there should be, and one that does not.
fn two_budgets() -> [(ApiResource, Value); 2] {
    let budgets = ApiResource::erase::<PodDisruptionBudget>(&());
    let selector = json!({ "matchLabels": { "app": "web" } });
    [
        (budgets.clone(), named("guard", json!({ "maxUnavailable": 1, "selector": selector }))),
        (budgets, named("number", json!({ "minAvailable": 1, "selector": selector }))),
    ]
}

/// Nothing but a workload's size says how many pods are expected: no pod changes where it is set, nor has to afterwards.
#[tokio::test]
async fn a_budget_is_counted_again_when_the_size_of_a_workload_changes() {
    let kinds = [
        ApiResource::erase::<Deployment>(&()),
        ApiResource::erase::<ReplicaSet>(&()),
        ApiResource::erase::<StatefulSet>(&()),
        ApiResource::erase::<ReplicationController>(&()),
    ];
    for kind in kinds {
        let mut objects = two_budgets().to_vec();
        objects.push((kind.clone(), named("web", json!({ "replicas": 5 }))));
        let wired = Wired::with(&objects).await;
        let resized = wired.after(&kind, "web", json!({ "spec": { "replicas": 9 } })).await;
        assert_eq!(resized, [guard()], "{}", kind.kind);
        let said = wired.after(&kind, "web", json!({ "status": { "replicas": 5 } })).await;
        assert_eq!(said, [], "what {} says of itself changes no size", kind.kind);
    }
}

#[tokio::test]
async fn the_size_that_counts_is_that_of_the_deployment_from_when_it_has_the_set() {
    let (sets, deployments) = (ApiResource::erase::<ReplicaSet>(&()), ApiResource::erase::<Deployment>(&()));
    let mut objects = two_budgets().to_vec();
    objects.push((sets.clone(), named("web-1", json!({ "replicas": 5 }))));
    objects.push((deployments.clone(), named("web", json!({ "replicas": 9 }))));
    let wired = Wired::with(&objects).await;
    let uid = |plural: &str| wired.api.objects(plural)[0]["metadata"]["uid"].clone();
    let owner = |kind: &str, name: &str, uid: Value| json!([{ "apiVersion": "apps/v1", "kind": kind, "name": name, "uid": uid, "controller": true }]);
    let references = owner("ReplicaSet", "web-1", uid("replicasets"));
    let pod =
        json!({ "metadata": { "name": "p", "labels": { "app": "web" }, "ownerReferences": references } });
    let pods = of_kind(&wired.api, &ApiResource::erase::<k8s_openapi::api::core::v1::Pod>(&()));
    pods.create(&PostParams::default(), &from_value(pod).unwrap()).await.unwrap();
    while wired.world.pods().get(&ObjectKey::new("x", "p")).is_none() {
        tokio::task::yield_now().await;
    }
    wired.waiting().await;
    assert_eq!(wired.desired(), 4);
    let above = json!({ "metadata": { "ownerReferences": owner("Deployment", "web", uid("deployments")) } });
    assert_eq!(wired.after(&sets, "web-1", above).await, [guard()]);
    assert_eq!(wired.desired(), 8);
    assert_eq!(wired.after(&deployments, "web", json!({ "spec": { "replicas": 3 } })).await, [guard()]);
    assert_eq!(wired.desired(), 2);
}

proptest! {
    /// Whatever is asked for: letting all go that may go leaves as many healthy as must be, unless too few were.
    #[test]
    fn what_may_go_leaves_enough(
        healthy in 0..12usize,
        replicas in 0..15i32,
        amount in 0..15i32,
        shape in 0..4,
    ) {
        let percent = format!("{}%", amount * 7);
        let spec = match shape {
            0 => json!({ "minAvailable": amount }),
            1 => json!({ "minAvailable": percent }),
            2 => json!({ "maxUnavailable": amount }),
            _ => json!({ "maxUnavailable": percent }),
        };
        let [_, desired, current, allowed] = counts(spec, ready(healthy, Some("rs")), of(replicas));
        prop_assert!(allowed >= 0 && (allowed == 0 || current - allowed >= desired));
    }
}
