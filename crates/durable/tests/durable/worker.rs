//! What the worker promises, one thing a test.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use clock::{ManualClock, SeededRandom};
use durable::engine::Ending;
use durable::tables::Table;
use durable::{Config, Error, JournalLimits, Keeper, Limits, OpenStorage, Parts, Phase, Terms, Worker};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::model::{Failure, Platter};
use crate::power::passing;
use crate::script::{Guests, Step, request, text};

const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

struct Bench {
    platter: Platter,
    guests: Guests,
    clock: Arc<ManualClock>,
    config: Config,
}

impl Bench {
    fn new() -> Self {
        Self {
            platter: Platter::default(),
            guests: Guests::default(),
            clock: Arc::new(ManualClock::new(Timestamp::from_second(1_800_000_000).unwrap())),
            config: Config {
                limits: Limits { running: 2, attempts: 3, ..Limits::default() },
                ..Config::default()
            },
        }
    }

    async fn open(&self) -> Worker {
        let invoker = Arc::new(self.guests.clone());
        let (random, stop) = (SeededRandom::new(1), CancellationToken::new());
        let disk = self.platter.disk(None);
        Worker::open(disk, invoker, self.clock.clone(), &random, self.config.clone(), stop).await.unwrap()
    }

    /// Runs a future while time passes by itself.
    async fn in_time<T>(&self, future: impl Future<Output = T>) -> T {
        tokio::select! {
            output = future => output,
            () = passing(self.clock.clone()) => unreachable!("time does not end"),
        }
    }
}

async fn submit(worker: &Worker, id: &str, script: &str) -> durable::Submission {
    let request = request(id, &Step::parse(script));
    worker.submit("ns/guest@1", id, request, Terms::suspending_after(Duration::from_secs(1))).await.unwrap()
}

/// Waits until the worker has nothing to do but wait for the clock.
async fn settle() {
    for _ in 0..500 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_sleep_of_two_years_costs_a_row_and_survives_restarts() {
    let bench = Bench::new();
    let worker = bench.open().await;
    let submission = submit(&worker, "x", &format!("w1 s{} w2", 2 * YEAR.as_millis())).await;
    assert!(submission.started);
    settle().await;
    let status = worker.status("ns/guest", "x").unwrap().unwrap();
    assert!(matches!(status.invocation.phase, Phase::Sleeping { .. }) && !status.running, "{status:?}");
    assert_eq!((bench.platter.rows(Table::Due).len(), bench.platter.rows(Table::Ready).len()), (1, 0));
    worker.stop().await;
    assert_eq!(submission.ending().await.unwrap_err(), Error::Stopped);

    // Half of it passes while nothing runs, and some more while something does.
    bench.clock.advance(YEAR);
    let worker = bench.open().await;
    settle().await;
    bench.clock.advance(YEAR - Duration::from_secs(60));
    settle().await;
    assert_eq!(bench.guests.world.lock().unwrap().runs, 1);
    bench.clock.advance(Duration::from_secs(60));
    let ending = worker.await_reply("ns/guest", "x").await.unwrap();
    assert_eq!(text(&ending), "1 0 3");
    assert_eq!(bench.guests.world.lock().unwrap().runs, 2);
    worker.stop().await;
}

#[tokio::test]
async fn one_id_is_one_invocation() {
    let bench = Bench::new();
    let worker = bench.open().await;
    let first = submit(&worker, "x", "w5 s5000").await;
    let second = submit(&worker, "x", "w5 s5000").await;
    assert!(first.started && !second.started);
    let other = worker
        .submit("ns/guest@2", "x", request("x", &Step::parse("w6")), Terms::suspending_after(Duration::ZERO))
        .await;
    assert_eq!(other.unwrap_err(), Error::Mismatch("x".into()));
    let (first, second) = bench.in_time(async { (first.ending().await, second.ending().await) }).await;
    assert_eq!(text(&first.unwrap()), text(&second.unwrap()));
    // And when it is long over.
    assert_eq!(text(&submit(&worker, "x", "w5 s5000").await.ending().await.unwrap()), "5 0");
    assert_eq!(bench.guests.world.lock().unwrap().sum, 5);
    for bad in ["", "a b", "a\u{e9}", &"x".repeat(256)] {
        let refused = worker
            .submit("ns/guest@1", bad, request("x", &[]), Terms::suspending_after(Duration::ZERO))
            .await;
        assert_eq!(refused.unwrap_err(), Error::InvalidId);
    }
    worker.stop().await;
}

#[tokio::test]
async fn what_traps_is_tried_again_and_given_up_in_the_end() {
    let bench = Bench::new();
    let worker = bench.open().await;
    let (twice, always) = (submit(&worker, "twice", "w1 t2 w2").await, submit(&worker, "always", "t9").await);
    let (twice, always) = bench.in_time(async { (twice.ending().await, always.ending().await) }).await;
    assert_eq!(text(&twice.unwrap()), "1 0 3");
    assert_eq!(text(&always.unwrap()), "failed after 3: component failed: trap");
    assert!(matches!(
        worker.status("ns/guest", "always").unwrap().unwrap().invocation.phase,
        Phase::Failed { .. }
    ));
    worker.stop().await;
}

#[tokio::test]
async fn what_may_not_be_called_ends_the_invocation_at_once() {
    let bench = Bench::new();
    let worker = bench.open().await;
    let ending = submit(&worker, "x", "f").await.ending().await.unwrap();
    assert_eq!(
        text(&ending),
        "failed after 1: test:world/world#connect cannot be called from a durable component"
    );
    let ending = submit(&worker, "y", "x").await.ending().await.unwrap();
    assert_eq!(
        text(&ending),
        "failed after 1: test:world/world#socket cannot be called from a durable component"
    );
    worker.stop().await;
}

#[tokio::test]
async fn a_journal_that_cannot_be_read_ends_the_invocation_at_once() {
    let bench = Bench::new();
    let worker = bench.open().await;
    let torn = submit(&worker, "torn", "w1 s5000 w2").await;
    let newer = submit(&worker, "newer", "w1 s5000 w2").await;
    settle().await;
    bench.platter.spoil(Table::Journal, torn.invocation.sequence, &[1, 99]);
    bench.platter.spoil(Table::Journal, newer.invocation.sequence, &[2]);
    let ending = bench.in_time(torn.ending()).await.unwrap();
    assert_eq!(text(&ending), "failed after 1: a journal record cannot be read: its kind is unknown");
    // What a newer release wrote may be read by it again.
    bench.clock.advance(YEAR);
    settle().await;
    let phase = worker.status("ns/guest", "newer").unwrap().unwrap().invocation.phase;
    assert!(matches!(phase, Phase::Retrying { .. }), "{phase:?}");
    worker.stop().await;
}

#[tokio::test]
async fn a_journal_and_a_reply_have_their_limits() {
    let mut bench = Bench::new();
    bench.config.journal = JournalLimits { entries: 4, request: 30, reply: 8, ..JournalLimits::default() };
    let worker = bench.open().await;
    let ending = submit(&worker, "long", "r r r r r").await.ending().await.unwrap();
    assert_eq!(text(&ending), "failed after 1: its journal has more than 4 entries");
    let ending = submit(&worker, "large", "s0 w100000 w100000").await.ending().await.unwrap();
    assert_eq!(text(&ending), "failed after 1: the reply has more than 8 bytes");
    let large = request("x", &Step::parse("w100000 w100000 w100000 w100000"));
    let refused = worker.submit("ns/guest@1", "x", large, Terms::suspending_after(Duration::ZERO)).await;
    assert_eq!(refused.unwrap_err(), Error::TooLarge(30));
    worker.stop().await;
}

#[tokio::test]
async fn a_missing_component_is_waited_for() {
    let bench = Bench::new();
    *bench.guests.missing.lock().unwrap() = true;
    let worker = bench.open().await;
    let submission = submit(&worker, "x", "w1").await;
    settle().await;
    let lanes = worker.lanes().await.unwrap();
    assert!(lanes[0].absent && lanes[0].unfinished == 1, "{lanes:?}");
    *bench.guests.missing.lock().unwrap() = false;
    worker.component_ready("ns/guest@1").await.unwrap();
    assert_eq!(text(&submission.ending().await.unwrap()), "1");
    assert_eq!(worker.lanes().await.unwrap(), []);
    worker.stop().await;
}

#[tokio::test]
async fn cancelling_ends_a_run_and_a_sleep() {
    let bench = Bench::new();
    let worker = bench.open().await;
    let (runs, sleeps) =
        (submit(&worker, "runs", "w1 s900").await, submit(&worker, "sleeps", "s99999").await);
    settle().await;
    assert!(worker.status("ns/guest", "runs").unwrap().unwrap().running);
    for (id, submission) in [("runs", runs), ("sleeps", sleeps)] {
        worker.cancel("ns/guest", id).await.unwrap();
        assert_eq!(text(&submission.ending().await.unwrap()), "cancelled");
        assert_eq!(worker.cancel("ns/guest", id).await.unwrap_err(), Error::Ended);
    }
    assert_eq!(worker.cancel("ns/guest", "never").await.unwrap_err(), Error::NotFound);
    assert_eq!(worker.await_reply("ns/guest", "never").await.unwrap_err(), Error::NotFound);
    worker.stop().await;
}

#[tokio::test]
async fn ended_invocations_are_listed_until_their_time_is_over() {
    let bench = Bench::new();
    let worker = bench.open().await;
    for id in ["a", "b", "c"] {
        assert!(matches!(submit(&worker, id, "w1").await.ending().await.unwrap(), Ending::Completed(_)));
    }
    let first = worker.list(Some("ns/guest"), None, 2).unwrap();
    let second = worker.list(Some("ns/guest"), first.next.as_deref(), 2).unwrap();
    let ids: Vec<_> =
        first.invocations.iter().chain(&second.invocations).map(|found| found.id.to_string()).collect();
    assert_eq!((ids, second.next), (vec!["a".into(), "b".into(), "c".into()], None));
    assert_eq!(worker.list(Some("ns/gues"), None, 9).unwrap().invocations, []);
    assert_eq!(worker.list(None, None, 9).unwrap().invocations.len(), 3);
    settle().await;
    bench.clock.advance(Duration::from_secs(25 * 60 * 60));
    settle().await;
    assert_eq!(worker.list(None, None, 9).unwrap().invocations, []);
    assert_eq!((bench.platter.rows(Table::Journal).len(), bench.platter.rows(Table::Due).len()), (0, 0));
    worker.stop().await;
}

#[tokio::test]
async fn a_worker_whose_disk_fails_is_opened_again() {
    let bench = Bench::new();
    let (platter, times) = (bench.platter.clone(), AtomicUsize::new(0));
    let storage: OpenStorage = Box::new(move || match times.fetch_add(1, Ordering::Relaxed) {
        0 => Err("no space".into()),
        1 => Ok(platter.disk(Some(Failure { after: 2, torn_off: false }))),
        _ => Ok(platter.disk(None)),
    });
    let keeper = Keeper::start(Parts {
        storage,
        invoker: Arc::new(bench.guests.clone()),
        clock: bench.clock.clone(),
        random: Arc::new(SeededRandom::new(1)),
        config: bench.config.clone(),
    })
    .await;
    let mut worker = keeper.worker();
    assert!(worker.borrow().is_none());
    let next = async |worker: &mut tokio::sync::watch::Receiver<Option<Worker>>| {
        worker.wait_for(Option::is_some).await.unwrap().clone().unwrap()
    };
    let failing = bench.in_time(next(&mut worker)).await;
    let submission = submit(&failing, "x", "w1 w2").await;
    assert_eq!(submission.ending().await.unwrap_err(), Error::Stopped);
    drop(failing);
    let ending = bench.in_time(async {
        worker.wait_for(Option::is_none).await.unwrap();
        next(&mut worker).await.await_reply("ns/guest", "x").await
    });
    assert_eq!(text(&ending.await.unwrap()), "1 3");
    keeper.stop().await;
    assert!(worker.borrow().is_none());
}

#[tokio::test]
async fn who_is_taken_over_can_write_no_more() {
    let bench = Bench::new();
    let old = bench.open().await;
    let submission = submit(&old, "x", "w1 s500 w2").await;
    let new = bench.open().await;
    let ending = bench.in_time(new.await_reply("ns/guest", "x")).await.unwrap();
    assert_eq!(text(&ending), "1 0 3");
    // The old one finds out at its next write, and stops.
    assert_eq!(submission.ending().await.unwrap_err(), Error::Stopped);
    assert_eq!(old.stopped().await.to_string(), "the partition was taken over by another owner");
    assert_eq!(bench.guests.world.lock().unwrap().sum, 3);
    new.stop().await;
}
