//! Many writers, watchers and readers at once, over a store that fails, forgets its history and drops its watches: no event is
//! lost, repeated or out of order, and every list is what the events up to its revision come to.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use apimachinery::status::Status;
use clock::{Random, SeededRandom};
use proptest::test_runner::Config;
use registry::{ListOptions, WatchEvent};
use serde_json::{Value, json};
use store::{Embedded, Etcd, EtcdOptions, Fault, Faulty, History, Store};

use crate::world::{World, config_map, options};

const WRITERS: u64 = 6;
const WATCHERS: u64 = 4;
const READERS: u64 = 2;
const NAMES: u64 = 40;

/// Operations of one storm: a multiple of the cases that properties are asked for, 20,000 unless something else is.
fn operations() -> u64 {
    u64::from(Config::default().cases) * 80
}

/// What an object is at a revision; `None`: gone.
type State = Option<String>;

/// What is known to have happened: every write that was acknowledged, by its revision.
type Acknowledged = BTreeMap<u64, (String, State)>;

/// What one watch told, from just after one revision up to another.
struct Told {
    after: u64,
    upto: u64,
    events: Vec<(u64, String, State)>,
}

/// What one list showed.
struct Shown {
    revision: u64,
    objects: BTreeMap<String, String>,
}

struct Storm<S> {
    world: World,
    store: Arc<Faulty<S>>,
    random: SeededRandom,
    left: AtomicU64,
    over: AtomicBool,
    acknowledged: Mutex<Acknowledged>,
    told: Mutex<Vec<Told>>,
    shown: Mutex<Vec<Shown>>,
}

fn named(tree: &Value) -> (u64, String, String) {
    let meta = &tree["metadata"];
    let revision = meta["resourceVersion"].as_str().unwrap().parse().unwrap();
    let value = tree["data"]["value"].as_str().unwrap().to_owned();
    (revision, meta["name"].as_str().unwrap().to_owned(), value)
}

impl<S: Store> Storm<S> {
    async fn over(store: S, seed: u64) -> Arc<Self> {
        let store = Arc::new(Faulty::new(store));
        Arc::new(Self {
            world: World::over(store.clone(), options()).await,
            store,
            random: SeededRandom::new(seed),
            left: AtomicU64::new(operations()),
            over: AtomicBool::new(false),
            acknowledged: Mutex::default(),
            told: Mutex::default(),
            shown: Mutex::default(),
        })
    }

    fn dice(&self, sides: u64) -> u64 {
        self.random.u64() % sides
    }

    /// Takes one of the operations that are left.
    fn turn(&self) -> Option<u64> {
        let less = |left: u64| left.checked_sub(1);
        self.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, less).ok()
    }

    async fn write(&self) {
        while let Some(turn) = self.turn() {
            let name = format!("c{}", self.dice(NAMES));
            let value = turn.to_string();
            match self.dice(100) {
                0..=3 => self.store.inject([Fault::Before]),
                4..=7 => self.store.inject([Fault::After]),
                8..=11 => self.store.inject([Fault::Delay(Duration::from_millis(self.dice(3)))]),
                _ => {}
            }
            let done = match self.dice(5) {
                0 | 1 => self.world.create("configmaps", config_map(&name, &value)).await.map(Some),
                2 | 3 => {
                    self.world.merge("configmaps", &name, json!({"data": {"value": value}})).await.map(Some)
                }
                _ => self.world.delete("configmaps", &name).await.map(|_| None),
            };
            if let Ok(Some(tree)) = done {
                let (revision, name, value) = named(&tree);
                let known = self.acknowledged.lock().unwrap().insert(revision, (name, Some(value)));
                assert_eq!(known, None, "two writes were acknowledged at one revision");
            }
        }
    }

    /// Breaks the feed's watch now and then, and has the store forget.
    async fn disturb(&self) {
        while !self.over.load(Ordering::Acquire) {
            if self.dice(10) == 0 {
                self.store.sever();
            }
            let head = self.store.inner().head().await.unwrap_or_default();
            // It may be compacted further already.
            let _ = self.store.inner().compact(head.saturating_sub(self.dice(1000))).await;
            tokio::time::sleep(Duration::from_millis(self.dice(200))).await;
        }
    }

    /// Lists, follows from there, leaves at random and goes on from the last revision that it saw: as any informer does.
    async fn watch(&self) {
        let mut place = None;
        while !self.over.load(Ordering::Acquire) {
            let after = match place {
                Some(after) => after,
                None => match self.list(0).await {
                    Ok(revision) => revision,
                    Err(_) => continue,
                },
            };
            match self.follow(after).await {
                Ok(upto) => place = Some(upto),
                Err(status) if status.code == 410 => place = None,
                Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
        // To the end, so that what was written last is told too.
        let last = self.acknowledged.lock().unwrap().keys().next_back().copied().unwrap_or_default();
        let mut after = match place {
            Some(after) => after,
            None => self.list(0).await.unwrap(),
        };
        while after < last {
            after = match self.follow(after).await {
                Ok(upto) => upto,
                Err(status) if status.code == 410 => self.list(0).await.unwrap(),
                Err(status) => panic!("{status:?}"),
            };
        }
    }

    /// One watch, for some events: the revision that it got to.
    async fn follow(&self, after: u64) -> Result<u64, Status> {
        let from = ListOptions {
            resource_version: after.to_string(),
            allow_bookmarks: true,
            ..ListOptions::default()
        };
        let mut watch = self.world.watch("configmaps", from).await?;
        let patience = self.dice(400);
        let mut told = Told { after, upto: after, events: Vec::new() };
        for _ in 0..patience {
            let next = tokio::time::timeout(Duration::from_millis(200), watch.next()).await;
            let Ok(Some(event)) = next else { break };
            let (object, deleted) = match &event {
                WatchEvent::Bookmark { revision, .. } => {
                    told.upto = told.upto.max(*revision);
                    continue;
                }
                WatchEvent::Deleted(object) => (object, true),
                WatchEvent::Added(object) | WatchEvent::Modified(object) => (object, false),
                WatchEvent::Failed(status) => panic!("{status}"),
            };
            let (revision, name, value) = named(&object.tree());
            assert!(revision > told.upto, "{name}: {revision} was told after {}", told.upto);
            told.upto = revision;
            told.events.push((revision, name, (!deleted).then_some(value)));
        }
        let upto = told.upto;
        self.told.lock().unwrap().push(told);
        Ok(upto)
    }

    /// A list in pages of so many (0: whole), all of one revision, which is what comes back.
    async fn list(&self, limit: u64) -> Result<u64, Status> {
        let (mut objects, mut revision, mut token) = (BTreeMap::new(), None, String::new());
        loop {
            let page = ListOptions { limit, continue_token: token, ..ListOptions::default() };
            let list = self.world.list("configmaps", page).await?;
            let first = *revision.get_or_insert(list.resource_version());
            assert_eq!(list.resource_version(), first, "pages of different revisions");
            for object in list.objects() {
                let (_, name, value) = named(&object.tree());
                assert_eq!(objects.insert(name, value), None, "listed twice");
            }
            match list.continue_token() {
                Some(more) => token = more.to_owned(),
                None => {
                    self.shown.lock().unwrap().push(Shown { revision: first, objects });
                    return Ok(first);
                }
            }
            tokio::task::yield_now().await;
        }
    }

    async fn read(&self) {
        while !self.over.load(Ordering::Acquire) {
            // It may be that a page's revision was compacted away, or that the store failed.
            let _ = self.list(self.dice(12)).await;
            tokio::time::sleep(Duration::from_millis(self.dice(10))).await;
        }
    }

    async fn rage(self: &Arc<Self>) {
        let spawn = |count: u64, what: fn(Arc<Self>) -> futures::future::BoxFuture<'static, ()>| {
            (0..count).map(|_| tokio::spawn(what(self.clone()))).collect::<Vec<_>>()
        };
        let writers = spawn(WRITERS, |storm| Box::pin(async move { storm.write().await }));
        let others = [
            spawn(WATCHERS, |storm| Box::pin(async move { storm.watch().await })),
            spawn(READERS, |storm| Box::pin(async move { storm.read().await })),
            spawn(1, |storm| Box::pin(async move { storm.disturb().await })),
        ];
        for writer in writers {
            writer.await.unwrap();
        }
        // The watchers still have to get to the end: nothing fails from here on.
        self.over.store(true, Ordering::Release);
        for other in others.into_iter().flatten() {
            other.await.unwrap();
        }
        self.judge();
    }

    /// Holds what the watches told, the lists showed and the writers were answered against one another.
    fn judge(&self) {
        let (told, shown) = (self.told.lock().unwrap(), self.shown.lock().unwrap());
        let acknowledged = self.acknowledged.lock().unwrap();
        // Whatever anybody was told happened; all who were told of a revision were told the same.
        let mut history: BTreeMap<u64, (String, State)> = BTreeMap::new();
        for (revision, name, state) in told.iter().flat_map(|told| &told.events) {
            let event = (name.clone(), state.clone());
            let known = history.insert(*revision, event.clone());
            assert!(known.is_none_or(|known| known == event), "{revision} was told differently");
        }
        for watch in told.iter().filter(|watch| watch.upto > watch.after) {
            let seen = watch.events.iter().map(|(revision, ..)| *revision).collect::<Vec<_>>();
            let behind = (watch.after + 1)..=watch.upto;
            let expected = history.range(behind.clone()).map(|(revision, _)| *revision).collect::<Vec<_>>();
            assert_eq!(seen, expected, "a watch after {} was not told what others were", watch.after);
            for (revision, (name, state)) in acknowledged.range(behind) {
                let told = history.get(revision);
                assert_eq!(told, Some(&(name.clone(), state.clone())), "{revision} was lost");
            }
        }
        assert!(told.iter().map(|watch| watch.events.len()).sum::<usize>() > 100, "hardly anything was told");
        self.judge_lists(&shown, &history, &told);
    }

    /// Two lists differ by exactly what was told in between, wherever one watch or a chain of them covers that.
    fn judge_lists(&self, shown: &[Shown], history: &BTreeMap<u64, (String, State)>, told: &[Told]) {
        let mut shown: Vec<&Shown> = shown.iter().collect();
        shown.sort_by_key(|list| list.revision);
        let mut compared = 0;
        for pair in shown.windows(2) {
            let (before, after) = (pair[0], pair[1]);
            if !is_covered(told, before.revision, after.revision) {
                continue;
            }
            let mut objects = before.objects.clone();
            let between = history.range(before.revision + 1..after.revision + 1);
            for (name, state) in between.map(|(_, event)| event) {
                match state {
                    Some(value) => objects.insert(name.clone(), value.clone()),
                    None => objects.remove(name),
                };
            }
            assert_eq!(objects, after.objects, "the list at {}", after.revision);
            compared += 1;
        }
        assert!(compared > 10, "hardly any list was compared");
    }
}

/// Whether watches told of everything after `from` up to `upto`.
fn is_covered(told: &[Told], from: u64, upto: u64) -> bool {
    let mut reached = from;
    while reached < upto {
        let further = told.iter().filter(|watch| watch.after <= reached).map(|watch| watch.upto).max();
        match further.filter(|further| *further > reached) {
            Some(further) => reached = further,
            None => return false,
        }
    }
    true
}

#[allow(clippy::print_stdout, reason = "a storm that breaks something is told by its seed")]
fn run<S: Store>(open: impl AsyncFnOnce() -> S) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let seed = SeededRandom::new(u64::from(std::process::id())).u64();
        println!("seed {seed}");
        Storm::over(open().await, seed).await.rage().await;
    });
}

#[test]
fn nothing_is_lost_repeated_or_reordered_over_the_embedded_store() {
    let directory = tempfile::tempdir().unwrap();
    run(async || {
        Embedded::open(&disk::Options::new(directory.path().join("store")), History::default()).unwrap()
    });
}

#[test]
fn nothing_is_lost_repeated_or_reordered_over_etcd() {
    let server = harness::Etcd::start();
    run(async || {
        let options =
            EtcdOptions { endpoints: server.endpoints(), prefix: "/storm".into(), ..EtcdOptions::default() };
        Etcd::open(options).await.unwrap()
    });
}
