//! The client against a fake API server, in memory.
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests are tests

use client::election::{Election, ElectionConfig};
use client::reflector::Selection;
use client::{
    Ambient, Api, Body, Change, Client, EventRecorder, EventType, Informer, InformerOptions, Informers,
    ObjectKey, ObjectMeta, PostParams, Reader, ResourceExt, by_label, kube,
};
use clock::{Clock, ManualClock, SeededRandom, Tasks};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use testkit::FakeApi;
use tokio_util::sync::CancellationToken;

struct Bench {
    clock: Arc<ManualClock>,
    ambient: Ambient,
    api: FakeApi,
    tasks: Tasks,
}

fn bench() -> Bench {
    let clock = Arc::new(ManualClock::new("2026-01-02T03:04:05Z".parse().unwrap()));
    let ambient = Ambient { clock: clock.clone(), random: Arc::new(SeededRandom::new(1)) };
    Bench { clock, api: FakeApi::new(ambient.clone()), ambient, tasks: Tasks::default() }
}

fn config_map(name: &str, app: &str) -> ConfigMap {
    let labels = Some([("app".to_owned(), app.to_owned())].into());
    ConfigMap {
        metadata: ObjectMeta { name: Some(name.into()), labels, ..Default::default() },
        ..Default::default()
    }
}

/// Lets every other task run until nothing is left to do.
async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_informer_follows_through_hang_ups_and_compaction() {
    let Bench { clock, ambient, api, tasks } = bench();
    let maps: Api<ConfigMap> = Api::namespaced(api.client(), "x");
    let create = |name: &'static str| {
        let maps = maps.clone();
        async move { maps.create(&PostParams::default(), &config_map(name, "web")).await.unwrap() }
    };
    create("a").await;
    let informers = Informers::new(api.client(), ambient, tasks.clone());
    let informer = informers.of::<ConfigMap>();
    informer.index_by(by_label("app"));
    let told = Arc::new(Mutex::new(Vec::new()));
    let log = told.clone();
    informer.on_change(move |change| {
        let what = match change {
            Change::Added(_) => "added",
            Change::Updated { .. } => "updated",
            Change::Deleted(_) => "deleted",
        };
        log.lock().unwrap().push(format!("{what} {}", change.object().name_any()));
    });
    informer.ready().await;
    create("b").await;
    settle().await;
    assert_eq!(informer.store().by_index("app", "web").len(), 2);

    // A watch that ends is resumed where it was, without a list.
    api.hang_up();
    settle().await;
    clock.advance(Duration::from_secs(1));
    create("c").await;
    settle().await;
    assert_eq!(informer.store().len(), 3);
    assert_eq!(api.requests("LIST", "configmaps"), 1);

    // A watch that cannot be resumed is begun anew, and what went meanwhile is found to be gone.
    api.refuse("WATCH", "configmaps", 503, "ServiceUnavailable", "not now");
    api.hang_up();
    settle().await;
    maps.delete("a", &Default::default()).await.unwrap();
    create("d").await;
    api.compact();
    api.accept();
    for _ in 0..4 {
        clock.advance(Duration::from_secs(30));
        settle().await;
    }
    assert_eq!(api.requests("LIST", "configmaps"), 2);
    let told = told.lock().unwrap().clone();
    assert_eq!(told, ["added a", "added b", "added c", "added d", "deleted a"]);
    tasks.stop().await;
}

#[tokio::test]
async fn a_server_that_ends_watches_at_once_is_not_hammered() {
    let Bench { ambient, api, tasks, .. } = bench();
    let informers = Informers::new(api.client(), ambient, tasks.clone());
    informers.of::<ConfigMap>().ready().await;
    for _ in 0..20 {
        api.hang_up();
        settle().await;
    }
    assert!(api.requests("WATCH", "configmaps") <= 2, "the clock stands still, so must the reflector");
    tasks.stop().await;
}

#[tokio::test]
async fn a_long_list_comes_in_pages_and_begins_anew_when_they_are_forgotten() {
    let Bench { ambient, api, tasks, .. } = bench();
    let maps: Api<ConfigMap> = Api::namespaced(api.client(), "x");
    for number in 0..1200 {
        maps.create(&PostParams::default(), &config_map(&format!("m{number}"), "web")).await.unwrap();
    }
    maps.create(&PostParams::default(), &config_map("other", "db")).await.unwrap();
    let web = || Selection { labels: Some("app=web".to_owned()), fields: None };
    let start = |client: Client, selection: Selection| {
        let options = InformerOptions { selection, ..InformerOptions::default() };
        Informer::start(Api::<ConfigMap>::all(client), options, &ambient, &tasks)
    };
    let paged = start(api.client(), web());
    paged.ready().await;
    assert_eq!((paged.store().len(), api.requests("LIST", "configmaps")), (1200, 3));

    // Another begins; as it asks for its second page the first is no longer true, and the rest forgotten.
    let (direct, server) = (maps.clone(), api.clone());
    let forgetful = client::transport::in_memory(tower::service_fn(move |request: http::Request<Body>| {
        let (maps, api) = (direct.clone(), server.clone());
        async move {
            if request.uri().query().is_some_and(|query| query.contains("continue=")) {
                maps.delete("m0", &Default::default()).await.unwrap();
                api.compact();
            }
            api.client().send(request).await
        }
    }));
    let cut = start(forgetful, web());
    cut.ready().await;
    assert_eq!((cut.store().len(), api.requests("LIST", "configmaps")), (1199, 6), "the rest was one list");
    tasks.stop().await;
}

#[tokio::test]
async fn a_reflector_that_lost_its_place_lists_anew() {
    for (code, reason) in [(400, "BadRequest"), (410, "Expired"), (504, "Timeout")] {
        let Bench { ambient, api, tasks, clock } = bench();
        let informers = Informers::new(api.client(), ambient, tasks.clone());
        informers.of::<ConfigMap>().ready().await;
        api.refuse("WATCH", "configmaps", code, reason, "Too large resource version: 7, current: 3");
        api.hang_up();
        settle().await;
        for _ in 0..10 {
            clock.advance(Duration::from_secs(1));
            settle().await;
        }
        assert!(api.requests("LIST", "configmaps") >= 2, "{code}");
        tasks.stop().await;
    }
}

#[tokio::test]
async fn a_leader_whose_lease_is_deleted_makes_it_anew() {
    let Bench { clock, ambient, api, .. } = bench();
    let cancel = CancellationToken::new();
    let election = Election::new(api.client(), ElectionConfig::new("kube-system", "x", "a"), ambient);
    let (terms, token) = (Arc::new(AtomicUsize::new(0)), cancel.clone());
    let counted = terms.clone();
    let running = tokio::spawn(async move {
        let lead = |leading: CancellationToken| {
            counted.fetch_add(1, Ordering::SeqCst);
            async move { leading.cancelled().await }
        };
        election.run(&token, lead).await;
    });
    settle().await;
    let leases: Api<Lease> = Api::namespaced(api.client(), "kube-system");
    leases.delete("x", &Default::default()).await.unwrap();
    for _ in 0..60 {
        clock.advance(Duration::from_millis(500));
        settle().await;
    }
    let holder = leases.get("x").await.unwrap().spec.unwrap().holder_identity;
    assert_eq!((holder.as_deref(), terms.load(Ordering::SeqCst)), (Some("a"), 1), "within the same term");
    cancel.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn leadership_counts_from_when_it_was_asked_for() {
    let Bench { clock, ambient, api, .. } = bench();
    let config = ElectionConfig::new("kube-system", "x", "a");
    // An answer takes this long.
    let delay = Arc::new(AtomicUsize::new(4));
    let slow = tower::service_fn({
        let (clock, api, delay) = (clock.clone(), api.client(), delay.clone());
        move |request: http::Request<Body>| {
            let (clock, api, delay) = (clock.clone(), api.clone(), delay.clone());
            async move {
                let answer = api.send(request).await;
                clock.advance(Duration::from_secs(delay.load(Ordering::SeqCst) as u64));
                answer
            }
        }
    });
    let client = client::transport::in_memory(slow);
    let (cancel, lost) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
    let (token, counted) = (cancel.clone(), lost.clone());
    let running = tokio::spawn(async move {
        let lead = |leading: CancellationToken| {
            let counted = counted.clone();
            async move {
                leading.cancelled().await;
                counted.fetch_add(1, Ordering::SeqCst);
            }
        };
        Election::new(client, config, ambient).run(&token, lead).await;
    });
    settle().await;
    // Of the ten seconds after which it must give up, looking for the Lease and making it took eight.
    assert_eq!(api.requests("POST", "leases"), 1);
    delay.store(0, Ordering::SeqCst);
    api.refuse("PUT", "leases", 503, "ServiceUnavailable", "not now");
    clock.advance(Duration::from_secs(2));
    settle().await;
    assert_eq!(lost.load(Ordering::SeqCst), 1, "others may take it from then on");
    cancel.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn a_reader_shows_our_own_writes_before_the_watch_does() {
    let Bench { ambient, api, tasks, clock } = bench();
    let maps: Api<ConfigMap> = Api::namespaced(api.client(), "x");
    let informers = Informers::new(api.client(), ambient, tasks.clone());
    let reader = Reader::new(informers.of::<ConfigMap>());
    reader.informer().index_by(by_label("app"));
    reader.informer().ready().await;

    // The watch is cut, so the store cannot know.
    api.refuse("WATCH", "configmaps", 503, "ServiceUnavailable", "not now");
    api.hang_up();
    settle().await;
    let created = maps.create(&PostParams::default(), &config_map("a", "web")).await.unwrap();
    reader.wrote(created.clone());
    assert_eq!(reader.by_index("app", "web").len(), 1);
    assert_eq!(reader.by_index("app", "db").len(), 0);
    assert_eq!(reader.list().len(), 1);
    assert!(reader.informer().store().is_empty());
    maps.delete("a", &Default::default()).await.unwrap();

    // Once the watch has passed the write, it alone counts: the deletion was heard, the write must not come back.
    api.accept();
    clock.advance(Duration::from_secs(30));
    settle().await;
    assert!(reader.list().is_empty());
    reader.wrote(created);
    assert!(reader.get(&ObjectKey::new("x", "a")).is_none(), "an answer older than the store is not news");
    tasks.stop().await;
}

#[tokio::test]
async fn who_is_told_of_a_change_reads_nothing_older() {
    let Bench { ambient, api, tasks, clock } = bench();
    let maps: Api<ConfigMap> = Api::namespaced(api.client(), "x");
    let reader = Reader::new(Informers::new(api.client(), ambient, tasks.clone()).of::<ConfigMap>());
    reader.informer().ready().await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (told, reads) = (seen.clone(), reader.clone());
    reader.informer().on_change(move |change| {
        let shown = reads.get(&ObjectKey::of(&**change.object()));
        told.lock().unwrap().push((change.after().is_some(), shown.is_some()));
    });
    api.refuse("WATCH", "configmaps", 503, "ServiceUnavailable", "not now");
    api.hang_up();
    settle().await;
    // The write that takes the last finalizer away is answered with the object that is gone, as of its deletion.
    let mut last = maps.create(&PostParams::default(), &config_map("a", "web")).await.unwrap();
    maps.delete("a", &Default::default()).await.unwrap();
    let deleted = last.metadata.resource_version.as_deref().unwrap().parse::<u64>().unwrap() + 1;
    last.metadata.resource_version = Some(deleted.to_string());
    reader.wrote(last);
    assert_eq!(reader.list().len(), 1);
    api.accept();
    clock.advance(Duration::from_secs(30));
    settle().await;
    assert_eq!(*seen.lock().unwrap(), [(true, true), (false, false)]);
    tasks.stop().await;
}

#[tokio::test]
async fn who_read_an_answer_is_told_when_a_list_knows_nothing_of_it() {
    let Bench { ambient, api, tasks, clock } = bench();
    let maps: Api<ConfigMap> = Api::namespaced(api.client(), "x");
    let reader = Reader::new(Informers::new(api.client(), ambient, tasks.clone()).of::<ConfigMap>());
    reader.informer().ready().await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (told, reads) = (seen.clone(), reader.clone());
    reader.informer().on_change(move |change| {
        let shown = reads.list().len();
        told.lock().unwrap().push((change.object().name_any(), change.after().is_some(), shown));
    });
    api.refuse("WATCH", "configmaps", 503, "ServiceUnavailable", "not now");
    api.hang_up();
    settle().await;
    let made =
        async |name: &str| maps.create(&PostParams::default(), &config_map(name, "web")).await.unwrap();
    let [brief, late, passing] = [made("brief").await, made("late").await, made("passing").await];
    reader.wrote(brief);
    reader.wrote(passing.clone());
    assert_eq!(reader.list().len(), 2);
    for name in ["brief", "late", "passing"] {
        maps.delete(name, &Default::default()).await.unwrap();
    }
    reader.deleted(ObjectKey::of(&passing), passing.metadata.uid.unwrap());
    assert_eq!(*seen.lock().unwrap(), [("passing".to_owned(), false, 1)]);
    api.compact();
    api.accept();
    // The watch is refused, and then all is listed anew.
    for _ in 0..2 {
        clock.advance(Duration::from_secs(30));
        settle().await;
    }
    reader.wrote(late);
    assert_eq!(seen.lock().unwrap()[1..], [("brief".to_owned(), false, 0), ("late".to_owned(), false, 0)]);
    tasks.stop().await;
}

#[tokio::test]
async fn one_leads_at_a_time_and_hands_over() {
    let Bench { clock, ambient, api, .. } = bench();
    let leaders = Arc::new(AtomicUsize::new(0));
    let candidate = |name: &str| {
        let cancel = CancellationToken::new();
        let election =
            Election::new(api.client(), ElectionConfig::new("kube-system", "x", name), ambient.clone());
        let (leaders, token) = (leaders.clone(), cancel.clone());
        let task = tokio::spawn(async move {
            let lead = |leading: CancellationToken| {
                let leaders = leaders.clone();
                async move {
                    assert_eq!(leaders.fetch_add(1, Ordering::SeqCst), 0, "two lead");
                    leading.cancelled().await;
                    leaders.fetch_sub(1, Ordering::SeqCst);
                }
            };
            election.run(&token, lead).await;
        });
        (cancel, task)
    };
    let leases: Api<Lease> = Api::namespaced(api.client(), "kube-system");
    let holder = || async { leases.get("x").await.unwrap().spec.unwrap().holder_identity.unwrap() };
    let pass = |seconds: u64| {
        let clock = clock.clone();
        async move {
            for _ in 0..seconds * 2 {
                clock.advance(Duration::from_millis(500));
                settle().await;
            }
        }
    };

    let (cancel_a, a) = candidate("a");
    settle().await;
    let (cancel_b, b) = candidate("b");
    pass(60).await;
    assert_eq!(
        (holder().await.as_str(), leaders.load(Ordering::SeqCst)),
        ("a", 1),
        "renewed through four lease times"
    );

    // Stopping in order gives the lease back: the other leads within a few retries, not after the lease has run out.
    cancel_a.cancel();
    a.await.unwrap();
    assert_eq!(holder().await, "");
    pass(5).await;
    assert_eq!((holder().await.as_str(), leaders.load(Ordering::SeqCst)), ("b", 1));

    // A leader that cannot renew stops leading before another could begin.
    api.refuse("PUT", "leases", 503, "ServiceUnavailable", "not now");
    pass(9).await;
    assert_eq!(leaders.load(Ordering::SeqCst), 1);
    pass(5).await;
    assert_eq!(leaders.load(Ordering::SeqCst), 0);
    api.accept();
    pass(20).await;
    assert_eq!(leaders.load(Ordering::SeqCst), 1);
    let transitions = leases.get("x").await.unwrap().spec.unwrap().lease_transitions;
    assert_eq!(transitions, Some(1));
    cancel_b.cancel();
    b.await.unwrap();
}

#[tokio::test]
async fn repeated_events_are_counted_on_one_object() {
    let Bench { ambient, api, tasks, .. } = bench();
    let recorder = EventRecorder::start(api.client(), "tester", None, ambient, &tasks);
    let mut object = config_map("a", "web");
    object.metadata.namespace = Some("x".into());
    for _ in 0..3 {
        recorder.record(&object, EventType::Warning, "Odd", "something is odd");
    }
    recorder.record(&object, EventType::Normal, "Fine", "all is well");
    api.until(|api| {
        api.objects("events").iter().map(|event| event["count"].as_i64().unwrap_or(0)).sum::<i64>() == 4
    })
    .await;
    let events = api.objects("events");
    assert_eq!(events.len(), 2);
    let odd = events.iter().find(|event| event["reason"] == "Odd").unwrap();
    assert_eq!((odd["count"].as_i64(), odd["type"].as_str()), (Some(3), Some("Warning")));
    assert_eq!(odd["involvedObject"]["kind"], "ConfigMap");
    assert_eq!(odd["source"]["component"], "tester");
    tasks.stop().await;
}

#[tokio::test]
async fn discovery_names_every_kind_once() {
    let Bench { api, .. } = bench();
    api.serve(testkit::Kind::new("example.com/v1", "Widget", "widgets", true));
    let served = client::discovery::served(&api.client()).await.unwrap();
    let names: Vec<_> = served.iter().map(client::discovery::Served::group_resource).collect();
    assert!(names.contains(&"widgets.example.com".to_owned()) && names.contains(&"pods".to_owned()));
    let namespaces = served.iter().find(|kind| kind.resource.plural == "namespaces").unwrap();
    assert!(!namespaces.namespaced && namespaces.supports(&["list", "watch", "delete"]));
}

#[tokio::test]
async fn conflicts_are_retried_with_a_fresh_read_and_not_for_ever() {
    let Bench { ambient, api, clock, .. } = bench();
    let maps: Api<ConfigMap> = Api::namespaced(api.client(), "x");
    maps.create(&PostParams::default(), &config_map("a", "web")).await.unwrap();
    let attempts = AtomicUsize::new(0);
    let update = || async {
        let mut map = maps.get("a").await?;
        if attempts.fetch_add(1, Ordering::SeqCst) == 0 {
            let mut other = map.clone();
            other.data = Some([("who".to_owned(), "other".to_owned())].into());
            maps.replace("a", &PostParams::default(), &other).await?;
        }
        map.data.get_or_insert_default().insert("mine".to_owned(), "1".to_owned());
        maps.replace("a", &PostParams::default(), &map).await
    };
    let driver = async {
        loop {
            clock.until_sleepers(1).await;
            clock.advance(Duration::from_secs(1));
            settle().await;
        }
    };
    let updated = tokio::select! {
        updated = client::write::retry_on_conflict(&ambient, update) => updated.unwrap(),
        () = driver => unreachable!(),
    };
    assert_eq!(updated.data.unwrap().len(), 2, "the other's write is kept");
    api.refuse("PUT", "configmaps", 409, "Conflict", "always");
    let driver = async {
        loop {
            clock.until_sleepers(1).await;
            clock.advance(Duration::from_secs(1));
            settle().await;
        }
    };
    let lost = tokio::select! {
        lost = client::write::retry_on_conflict(&ambient, update) => lost,
        () = driver => unreachable!(),
    };
    assert!(matches!(lost, Err(kube::Error::Api(status)) if status.code == 409));
    assert!(clock.monotonic() > clock::Instant::default());
}
