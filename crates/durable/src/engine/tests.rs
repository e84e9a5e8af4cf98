//! Tables of commands and what follows from them, over a disk of maps.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::tables::split_invocation_key;

const NOON: i64 = 1_800_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(NOON + second).unwrap()
}

fn limits() -> Limits {
    Limits {
        running: 2,
        running_each: 3,
        prefetch: 4,
        unfinished: 1000,
        unfinished_bytes: 1000,
        free_space: 50,
        attempts: 3,
        backoff: Duration::from_secs(4),
        backoff_limit: Duration::from_secs(10),
        retention: Duration::from_secs(100),
    }
}

/// An engine with its disk and its world.
struct Driver {
    engine: Engine,
    rows: BTreeMap<(Table, Vec<u8>), Vec<u8>>,
    now: Timestamp,
    /// What runs, in order of its start.
    runs: Vec<Invocation>,
    answers: Vec<Answer>,
    endings: Vec<(u64, String)>,
    /// What every component says of itself.
    surroundings: Surroundings,
    terms: Terms,
}

impl Driver {
    fn new() -> Self {
        Self::over(limits(), BTreeMap::new())
    }

    /// As after a crash: nothing but the disk is left.
    fn over(limits: Limits, rows: BTreeMap<(Table, Vec<u8>), Vec<u8>>) -> Self {
        let number = |bytes: &Vec<u8>| u64::from_be_bytes(bytes.as_slice().try_into().unwrap());
        let of = |table| {
            rows.iter().filter(move |((found, _), _)| *found == table).map(|((_, key), value)| (key, value))
        };
        let recovered = Recovered {
            next: rows.get(&(Table::Meta, RESERVED.to_vec())).map_or(1, number),
            nearest: of(Table::Due).next().and_then(|(key, _)| tables::due_time(key)),
            lanes: of(Table::Lanes)
                .map(|(key, value)| (String::from_utf8_lossy(key).into(), Unfinished::decode(value).unwrap()))
                .collect(),
        };
        let (engine, actions) = Engine::recover(limits, recovered);
        let mut driver = Self {
            engine,
            rows,
            now: at(0),
            runs: vec![],
            answers: vec![],
            endings: vec![],
            surroundings: Surroundings::default(),
            terms: Terms::suspending_after(Duration::from_secs(1)),
        };
        driver.perform(actions);
        driver
    }

    fn crash(self) -> Self {
        let mut after = Self::over(self.engine.limits, self.rows);
        after.now = self.now;
        after
    }

    fn table(&self, table: Table) -> impl Iterator<Item = (&Vec<u8>, &Vec<u8>)> {
        self.rows.iter().filter(move |((found, _), _)| *found == table).map(|((_, key), value)| (key, value))
    }

    fn known(&self, name: &str, id: &str) -> Option<Invocation> {
        let key = tables::invocation_key(name, id);
        self.rows.get(&(Table::Invocations, key.clone())).map(|row| Invocation::decode(&key, row).unwrap())
    }

    fn perform(&mut self, actions: Vec<Action>) {
        let ranges = |action: &Action| !matches!(action, Action::Write(Mutation::DeleteRange(..)));
        let (rest, first): (Vec<_>, Vec<_>) = actions.into_iter().partition(ranges);
        let mut loads = Vec::new();
        for action in first.into_iter().chain(rest) {
            match action {
                Action::Write(Mutation::Put(table, key, value)) => {
                    self.rows.insert((table, key), value);
                }
                Action::Write(Mutation::Delete(table, key)) => {
                    self.rows.remove(&(table, key));
                }
                Action::Write(Mutation::DeleteRange(table, from, to)) => {
                    self.rows.retain(|(found, key), _| *found != table || *key < from || *key >= to);
                }
                Action::Start { invocation, .. } => self.runs.push(invocation),
                Action::Stop { sequence } => {
                    self.end_run(sequence, Outcome::Stopped);
                }
                Action::Answer { answer, .. } => self.answers.push(answer),
                Action::Ended { sequence, ending } => {
                    let text = match ending {
                        Ending::Completed(reply) => String::from_utf8_lossy(reply.body()).into_owned(),
                        Ending::Failed { attempts, error } => format!("{error} x{attempts}"),
                        Ending::Cancelled => "cancelled".into(),
                    };
                    self.endings.push((sequence, text));
                }
                Action::Load { component, after, limit } => loads.push((component, after, limit)),
            }
        }
        for (component, after, limit) in loads {
            self.load(component, after, limit);
        }
    }

    fn load(&mut self, component: Arc<str>, after: Option<u64>, limit: usize) {
        let from = tables::ready_key(&component, after.map_or(0, |place| place + 1));
        let end = tables::ready_end(&component);
        let found: Vec<_> = self
            .table(Table::Ready)
            .filter(|(key, _)| **key >= from && **key < end)
            .take(limit)
            .map(|(key, id)| (tables::ready_place(key), String::from_utf8(id.clone()).unwrap()))
            .collect();
        let read = found.last().and_then(|(place, _)| *place);
        let name = crate::unpinned(&component).to_owned();
        let invocations = found.iter().map(|(_, id)| self.known(&name, id).unwrap()).collect();
        let more = found.len() == limit;
        self.step(Command::Loaded { component, invocations, read, more });
    }

    fn step(&mut self, command: Command) {
        let actions = self.engine.step(command);
        self.perform(actions);
    }

    fn submit(&mut self, component: &str, id: &str, body: &'static str) -> Answer {
        let request = Request::new(Bytes::from_static(body.as_bytes()));
        let submission = NewInvocation::new(component.into(), id.into(), request, self.terms);
        let known = self.known(crate::unpinned(component), id);
        let surroundings = self.surroundings;
        let submission = Box::new(submission);
        self.step(Command::Submit { token: 0, submission, known, surroundings, now: self.now });
        self.answers.pop().unwrap()
    }

    fn cancel(&mut self, name: &str, id: &str) -> Answer {
        let known = self.known(name, id);
        self.step(Command::Cancel { token: 0, known, now: self.now });
        self.answers.pop().unwrap()
    }

    fn end_run(&mut self, sequence: u64, outcome: Outcome) {
        self.runs.retain(|run| run.sequence != sequence);
        self.step(Command::Ended { sequence, outcome, now: self.now });
    }

    /// Ends the run that began first.
    fn end_first(&mut self, outcome: Outcome) {
        let sequence = self.runs[0].sequence;
        self.end_run(sequence, outcome);
    }

    fn advance(&mut self, seconds: u64) {
        self.now = later(self.now, Duration::from_secs(seconds));
        while self.engine.nearest().is_some_and(|nearest| nearest <= self.now) {
            let due: Vec<_> = self
                .table(Table::Due)
                .filter(|(key, _)| tables::due_time(key).unwrap() <= self.now)
                .take(2)
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            let last = due.last().map(|(key, _)| key.clone()).unwrap_or_default();
            let nearest = self
                .table(Table::Due)
                .find(|(key, _)| **key > last)
                .and_then(|(key, _)| tables::due_time(key));
            let rows = due
                .into_iter()
                .map(|(key, name)| {
                    let (component, id) = split_invocation_key(&name).unwrap();
                    DueRow { key, invocation: self.known(component, id) }
                })
                .collect();
            self.step(Command::Due { rows, nearest, now: self.now });
        }
    }

    fn running(&self) -> Vec<&str> {
        self.runs.iter().map(|run| &*run.id).collect()
    }
}

fn replied(text: &'static str) -> Outcome {
    Outcome::Replied(effects::Reply::new(Bytes::from_static(text.as_bytes())))
}

fn asleep(driver: &Driver, seconds: u64) -> Outcome {
    Outcome::Suspended { until: later(driver.now, Duration::from_secs(seconds)), entries: vec![] }
}

#[test]
fn an_id_is_used_once() {
    let mut driver = Driver::new();
    assert!(matches!(driver.submit("ns/a@1", "x", "body"), Answer::Started(_)));
    assert!(matches!(driver.submit("ns/a@1", "x", "body"), Answer::Attached(_)));
    assert_eq!(driver.submit("ns/a@1", "x", "other"), Answer::Mismatch);
    // Another revision of the component is the same component; another component is not.
    assert!(matches!(driver.submit("ns/a@2", "x", "body"), Answer::Attached(_)));
    assert!(matches!(driver.submit("ns/b@1", "x", "other"), Answer::Started(_)));
    driver.end_first(replied("done"));
    let Answer::Attached(found) = driver.submit("ns/a@1", "x", "body") else { panic!() };
    assert_eq!(found.phase, Phase::Completed { at: at(0) });
}

#[test]
fn lanes_take_turns() {
    let mut driver = Driver::new();
    for id in ["a1", "a2", "a3", "a4"] {
        driver.submit("ns/a@1", id, "");
    }
    driver.submit("ns/b@1", "b1", "");
    driver.submit("ns/b@1", "b2", "");
    let mut order = Vec::new();
    while !driver.runs.is_empty() {
        order.push(driver.runs[0].id.to_string());
        driver.end_first(replied(""));
    }
    assert_eq!(order, ["a1", "a2", "a3", "b1", "a4", "b2"]);
}

#[test]
fn what_does_not_fit_in_memory_waits_on_disk_in_order() {
    let mut driver = Driver::new();
    let ids: Vec<_> = (0..40).map(|n| format!("{n:02}")).collect();
    for id in &ids {
        driver.submit("ns/a@1", id, "");
        assert!(driver.running().len() <= 2);
    }
    let mut order = Vec::new();
    while !driver.runs.is_empty() {
        order.push(driver.runs[0].id.to_string());
        driver.end_first(replied(""));
    }
    assert_eq!(order, ids);
}

#[test]
fn a_sleep_gives_its_place_free_and_survives_a_crash() {
    let mut driver = Driver::new();
    driver.submit("ns/a@1", "x", "");
    let outcome = asleep(&driver, 60);
    driver.end_first(outcome);
    assert_eq!(driver.table(Table::Ready).count(), 0);
    driver.advance(59);
    assert!(driver.running().is_empty());
    let mut driver = driver.crash();
    assert_eq!(driver.engine.nearest(), Some(at(60)));
    driver.advance(1);
    assert_eq!(driver.running(), ["x"]);
}

#[test]
fn failures_are_retried_with_growing_waits_then_given_up() {
    let mut driver = Driver::new();
    driver.submit("ns/a@1", "x", "");
    let mut waits = Vec::new();
    while driver.endings.is_empty() {
        driver.end_first(Outcome::Failed("trap".into()));
        let Some(nearest) = driver.engine.nearest().filter(|_| driver.endings.is_empty()) else { break };
        waits.push(nearest.duration_since(driver.now).as_secs());
        driver.advance(11);
    }
    assert_eq!(driver.endings, [(1, "trap x3".to_owned())]);
    assert!(waits[0] <= 4 && waits[0] >= 3 && waits[1] <= 8 && waits[1] >= 6, "{waits:?}");
    let Answer::Attached(kept) = driver.submit("ns/a@1", "x", "") else { panic!() };
    assert_eq!((kept.attempts, kept.phase.ended().is_some()), (3, true));
}

#[test]
fn what_is_this_process_s_fault_is_no_attempt() {
    let mut driver = Driver::new();
    driver.submit("ns/a@1", "x", "");
    let mut waits = Vec::new();
    for _ in 0..10 {
        driver.end_first(Outcome::Interrupted("disk".into()));
        waits.push(driver.engine.nearest().unwrap().duration_since(driver.now).as_secs());
        driver.advance(11);
    }
    assert_eq!(driver.running(), ["x"]);
    assert!(waits[0] <= 4 && waits[1] >= 6 && waits[9] >= 7, "{waits:?}");
    driver.end_first(Outcome::Refused("a socket".into()));
    assert_eq!(driver.endings, [(1, "a socket x1".to_owned())]);
}

#[test]
fn a_missing_component_is_waited_for_without_holding_up_others() {
    let mut driver = Driver::new();
    driver.submit("ns/a@1", "a1", "");
    driver.submit("ns/a@1", "a2", "");
    driver.submit("ns/a@1", "a3", "");
    driver.submit("ns/b@1", "b1", "");
    driver.end_first(Outcome::NotReady);
    driver.end_first(Outcome::NotReady);
    assert_eq!(driver.running(), ["b1"]);
    assert!(
        driver.engine.lanes().any(|lane| &*lane.component == "ns/a@1" && lane.absent && lane.unfinished == 3)
    );
    driver.advance(1000);
    assert_eq!(driver.running(), ["b1"]);
    driver.step(Command::ComponentReady { component: "ns/a@1".into(), concurrency: None });
    assert_eq!(driver.running(), ["b1", "a1"]);
}

#[test]
fn a_busy_component_is_asked_again_and_no_more_of_it_runs_than_it_takes() {
    let mut driver = Driver::new();
    driver.submit("ns/a@1", "a1", "");
    driver.end_first(Outcome::Busy);
    assert!(driver.engine.lanes().all(|lane| !lane.absent));
    driver.advance(1);
    assert_eq!(driver.running(), ["a1"]);
    assert_eq!(driver.runs[0].attempts, 0);

    driver.surroundings.concurrency = Some(1);
    driver.submit("ns/a@1", "a2", "");
    driver.submit("ns/b@1", "b1", "");
    assert_eq!(driver.running(), ["a1", "b1"]);
    driver.end_first(replied(""));
    assert_eq!(driver.running(), ["b1", "a2"]);
    driver.submit("ns/a@1", "a3", "");
    driver.step(Command::ComponentReady { component: "ns/a@1".into(), concurrency: Some(2) });
    driver.end_first(replied(""));
    assert_eq!(driver.running(), ["a2", "a3"]);
}

#[test]
fn a_component_that_came_while_a_run_was_looking_for_it_is_not_missed() {
    let mut driver = Driver::new();
    driver.submit("ns/a@1", "x", "");
    driver.step(Command::ComponentReady { component: "ns/a@1".into(), concurrency: None });
    driver.end_first(Outcome::NotReady);
    assert_eq!(driver.running(), ["x"]);
}

#[test]
fn cancelling_works_wherever_an_invocation_stands() {
    let mut driver = Driver::new();
    for id in ["runs", "sleeps", "queued", "late"] {
        driver.submit("ns/a@1", id, "");
    }
    assert_eq!(driver.cancel("ns/a", "queued"), Answer::Cancelled);
    let outcome = asleep(&driver, 60);
    let sleeps = driver.runs[1].sequence;
    driver.end_run(sleeps, outcome);
    assert_eq!(driver.cancel("ns/a", "sleeps"), Answer::Cancelled);
    assert_eq!(driver.cancel("ns/a", "runs"), Answer::Cancelled);
    assert_eq!(driver.running(), ["late"]);
    driver.end_first(replied("done"));
    assert_eq!(driver.cancel("ns/a", "late"), Answer::Ended);
    assert_eq!(driver.cancel("ns/a", "never"), Answer::NotFound);
    assert_eq!((driver.table(Table::Ready).count(), driver.table(Table::Lanes).count()), (0, 0));
}

#[test]
fn ended_invocations_are_kept_for_their_time_then_purged_whole() {
    let mut driver = Driver::new();
    driver.submit("ns/a@1", "x", "");
    driver.submit("ns/a@1", "y", "");
    driver.end_first(replied("done"));
    driver.end_first(Outcome::Refused("no".into()));
    driver.advance(99);
    assert!(driver.known("ns/a", "x").is_some());
    driver.advance(1);
    let left: BTreeSet<_> = driver.rows.keys().map(|(table, _)| *table).collect();
    assert_eq!(left, BTreeSet::from([Table::Meta]));
    // The id is free again, and the number is not.
    driver.terms.retention = Some(Duration::from_secs(5));
    let Answer::Started(again) = driver.submit("ns/a@1", "x", "other") else { panic!() };
    assert_eq!(again.sequence, 3);
    driver.end_first(replied("done"));
    driver.advance(4);
    assert!(driver.known("ns/a", "x").is_some());
    driver.advance(1);
    assert!(driver.known("ns/a", "x").is_none());
}

#[test]
fn numbers_are_never_given_twice_though_everything_was_purged() {
    let mut driver = Driver::new();
    driver.submit("ns/a@1", "x", "");
    driver.end_first(replied(""));
    driver.advance(200);
    let mut driver = driver.crash();
    let Answer::Started(again) = driver.submit("ns/a@1", "x", "") else { panic!() };
    assert!(again.sequence > 1);
}

#[test]
fn a_component_has_so_many_unfinished_invocations_and_no_more() {
    let mut driver = Driver::over(Limits { unfinished: 3, ..limits() }, BTreeMap::new());
    for id in ["1", "2", "3"] {
        assert!(matches!(driver.submit("ns/a@1", id, ""), Answer::Started(_)));
    }
    assert_eq!(driver.submit("ns/a@1", "4", ""), Answer::Full);
    assert!(matches!(driver.submit("ns/a@1", "3", ""), Answer::Attached(_)));
    assert!(matches!(driver.submit("ns/b@1", "4", ""), Answer::Started(_)));
    driver.end_first(replied(""));
    assert!(matches!(driver.submit("ns/a@1", "4", ""), Answer::Started(_)));
}

#[test]
fn a_component_s_requests_have_so_many_bytes_and_leave_the_disk_some() {
    let mut driver = Driver::over(Limits { unfinished_bytes: 8, ..limits() }, BTreeMap::new());
    assert!(matches!(driver.submit("ns/a@1", "1", "1234"), Answer::Started(_)));
    assert!(matches!(driver.submit("ns/a@1", "2", "1234"), Answer::Started(_)));
    assert_eq!(driver.submit("ns/a@1", "3", "1"), Answer::Full);
    let mut driver = driver.crash();
    assert_eq!(driver.submit("ns/a@1", "3", "1"), Answer::Full);
    driver.end_first(replied(""));
    driver.surroundings.free_space = Some(50);
    assert_eq!(driver.submit("ns/a@1", "3", "1"), Answer::NoSpace);
    assert!(matches!(driver.submit("ns/a@1", "2", "1234"), Answer::Attached(_)));
    driver.surroundings.free_space = Some(51);
    assert!(matches!(driver.submit("ns/a@1", "3", "1"), Answer::Started(_)));
    while !driver.runs.is_empty() {
        driver.end_first(replied(""));
    }
    assert_eq!(driver.table(Table::Lanes).count(), 0);
}

#[test]
fn who_began_it_may_attach_and_nobody_else() {
    let mut driver = Driver::new();
    let mut submit = |authorization: &'static str| {
        let request = http::Request::post("/").header("authorization", authorization).body(Bytes::new());
        let new = NewInvocation::new("ns/a@1".into(), "x".into(), request.unwrap(), driver.terms);
        let (known, now) = (driver.known("ns/a", "x"), driver.now);
        let (submission, surroundings) = (Box::new(new), Surroundings::default());
        driver.step(Command::Submit { token: 0, submission, known, surroundings, now });
        driver.answers.pop().unwrap()
    };
    let Answer::Started(begun) = submit("me") else { panic!() };
    assert!(matches!(submit("me"), Answer::Attached(_)));
    assert_eq!(submit("you"), Answer::Mismatch);
    let headers = |value: &'static str| {
        http::HeaderMap::from_iter([(http::header::AUTHORIZATION, http::HeaderValue::from_static(value))])
    };
    assert!(begun.was_begun_by(&headers("me")) && !begun.was_begun_by(&headers("you")));
    assert!(!begun.was_begun_by(&http::HeaderMap::new()));
}

#[derive(Clone, Debug)]
enum Event {
    Submit(usize, usize),
    End(usize, usize),
    Cancel(usize, usize),
    Ready(usize),
    Advance(u64),
    Crash,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0..3usize, 0..20usize).prop_map(|(component, id)| Event::Submit(component, id)),
        6 => (0..2usize, 0..6usize).prop_map(|(run, outcome)| Event::End(run, outcome)),
        1 => (0..3usize, 0..20usize).prop_map(|(component, id)| Event::Cancel(component, id)),
        1 => (0..3usize).prop_map(Event::Ready),
        1 => (1..12u64).prop_map(Event::Advance),
        1 => Just(Event::Crash),
    ]
}

const COMPONENTS: [&str; 3] = ["ns/a@1", "ns/a@2", "ns/b@1"];

fn apply(mut driver: Driver, event: &Event) -> Driver {
    match *event {
        Event::Submit(component, id) => {
            driver.submit(COMPONENTS[component], &id.to_string(), "");
        }
        Event::End(run, outcome) => {
            if let Some(sequence) = driver.runs.get(run).map(|run| run.sequence) {
                let outcome = match outcome {
                    0 => asleep(&driver, 7),
                    1 => Outcome::Failed("trap".into()),
                    2 => Outcome::NotReady,
                    3 => Outcome::Busy,
                    _ => replied("done"),
                };
                driver.end_run(sequence, outcome);
            }
        }
        Event::Cancel(component, id) => {
            driver.cancel(crate::unpinned(COMPONENTS[component]), &id.to_string());
        }
        Event::Ready(component) => driver
            .step(Command::ComponentReady { component: COMPONENTS[component].into(), concurrency: None }),
        Event::Advance(seconds) => driver.advance(seconds),
        Event::Crash => driver = driver.crash(),
    }
    driver
}

/// Every invocation has the one row that brings it back, and the counts are right.
fn check_rows(driver: &Driver) {
    let mut unfinished: BTreeMap<Arc<str>, u64> = BTreeMap::new();
    let mut ready = 0;
    let mut due = 0;
    for (key, row) in driver.table(Table::Invocations) {
        let invocation = Invocation::decode(key, row).unwrap();
        let at = match &invocation.phase {
            Phase::Ready { place } => {
                ready += 1;
                let key = tables::ready_key(&invocation.component, *place);
                assert!(driver.rows.contains_key(&(Table::Ready, key)), "{invocation:?}");
                None
            }
            Phase::Sleeping { until: at } | Phase::Retrying { at, .. } => Some(*at),
            Phase::Completed { at } | Phase::Failed { at, .. } | Phase::Cancelled { at } => {
                Some(later(*at, driver.engine.limits.retention))
            }
        };
        if let Some(at) = at {
            due += 1;
            assert!(
                driver.rows.contains_key(&(Table::Due, tables::due_key(at, invocation.sequence))),
                "{invocation:?}"
            );
        }
        if invocation.phase.ended().is_none() {
            *unfinished.entry(invocation.component.clone()).or_default() += 1;
        }
    }
    assert_eq!((driver.table(Table::Ready).count(), driver.table(Table::Due).count()), (ready, due));
    let counted: BTreeMap<Arc<str>, u64> =
        driver.engine.lanes().map(|lane| (lane.component, lane.unfinished)).collect();
    assert_eq!(counted, unfinished);
    assert!(driver.runs.len() <= driver.engine.limits.running);
}

proptest! {
    #[test]
    fn whatever_happens_nothing_is_lost_and_all_can_be_finished(events in prop::collection::vec(event(), 0..120)) {
        let mut driver = Driver::new();
        for event in &events {
            driver = apply(driver, event);
            check_rows(&driver);
        }
        for component in COMPONENTS {
            driver.step(Command::ComponentReady { component: component.into(), concurrency: None });
        }
        for _ in 0..200 {
            while !driver.runs.is_empty() {
                driver.end_first(replied("done"));
            }
            if driver.engine.lanes().next().is_none() {
                break;
            }
            driver.advance(11);
        }
        prop_assert_eq!(driver.engine.lanes().count(), 0);
        check_rows(&driver);
    }
}
