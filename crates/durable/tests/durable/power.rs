//! Power fails at any batch, any number of times; what clients and the world saw stays true.

use std::sync::Arc;
use std::time::Duration;

use clock::{Clock, ManualClock, SeededRandom};
use durable::engine::Ending;
use durable::tables::Table;
use durable::{Config, Limits, Terms, Worker};
use jiff::Timestamp;
use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

use crate::model::{Failure, Platter};
use crate::script::{Guests, Step, request, text};

/// Nothing is purged while a test looks at it, however much time passes.
const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

pub fn config() -> Config {
    Config {
        limits: Limits { running: 3, prefetch: 2, attempts: 10, retention: CENTURY, ..Limits::default() },
        ..Config::default()
    }
}

/// Moves the clock whenever nothing else can happen.
pub async fn passing(clock: Arc<ManualClock>) {
    loop {
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
        if let Some(deadline) = clock.next_deadline() {
            clock.advance(deadline - clock.monotonic());
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Read),
        3 => (1..100u32).prop_map(Step::Write),
        1 => (0..900u64).prop_map(Step::Sleep),
        1 => (1_000..100_000_000u64).prop_map(Step::Sleep),
        1 => (1..3u32).prop_map(Step::Trap),
    ]
}

/// Runs all scripts until the power fails or all have ended; what was told to clients is added to `told`.
async fn life(
    platter: &Platter,
    failure: Option<Failure>,
    guests: &Guests,
    clock: &Arc<ManualClock>,
    scripts: &[Vec<Step>],
    told: &mut [Option<String>],
) {
    let random = SeededRandom::new(1);
    let invoker = Arc::new(guests.clone());
    let stop = CancellationToken::new();
    let opened = Worker::open(platter.disk(failure), invoker, clock.clone(), &random, config(), stop).await;
    let Ok(worker) = opened else { return };
    let mut waiting = Vec::new();
    for (index, script) in scripts.iter().enumerate() {
        let id = index.to_string();
        let (worker, request) = (worker.clone(), request(&id, script));
        waiting.push(async move {
            let submitted = worker
                .submit("ns/guest@1", &id, request, Terms::suspending_after(Duration::from_secs(1)))
                .await;
            submitted.ok()?.ending().await.ok()
        });
    }
    let endings = tokio::select! {
        endings = futures_join(waiting) => endings,
        () = passing(clock.clone()) => unreachable!("time does not end"),
    };
    for (told, ending) in told.iter_mut().zip(endings) {
        let Some(ending) = ending else { continue };
        let found = text(&ending);
        assert!(matches!(ending, Ending::Completed(_)), "{found}");
        // Who was told once is told the same for ever.
        assert_eq!(told.get_or_insert_with(|| found.clone()), &found);
    }
    worker.stop().await;
}

async fn futures_join<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(move |context| {
        let mut waiting = false;
        for (future, output) in &mut futures {
            if output.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(found) => *output = Some(found),
                    std::task::Poll::Pending => waiting = true,
                }
            }
        }
        if waiting {
            return std::task::Poll::Pending;
        }
        std::task::Poll::Ready(futures.iter_mut().filter_map(|(_, output)| output.take()).collect())
    })
    .await
}

fn check(scripts: &[Vec<Step>], failures: &[Failure]) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let platter = Platter::default();
    let guests = Guests::default();
    let clock = Arc::new(ManualClock::new(Timestamp::from_second(1_800_000_000).unwrap()));
    let mut told = vec![None; scripts.len()];
    runtime.block_on(async {
        for failure in failures {
            life(&platter, Some(*failure), &guests, &clock, scripts, &mut told).await;
        }
        life(&platter, None, &guests, &clock, scripts, &mut told).await;
    });
    let world = guests.world.lock().unwrap();
    assert_eq!(world.faults, Vec::<String>::new());
    let writes = scripts.iter().flatten().filter(|step| matches!(step, Step::Write(_))).count();
    assert_eq!(world.writes.len(), writes, "each write has one key in all its lives");
    let wanted: u64 =
        scripts.iter().flatten().map(|step| if let Step::Write(n) = step { u64::from(*n) } else { 0 }).sum();
    assert_eq!(world.sum, wanted);
    for (script, told) in scripts.iter().zip(&told) {
        let told = told.as_ref().unwrap();
        assert_eq!(told.split_whitespace().count(), script.len(), "{told}");
        let seen = told.split_whitespace().zip(script);
        for (value, _) in seen.filter(|(_, step)| matches!(step, Step::Write(_))) {
            let value: u64 = value.parse().unwrap();
            assert!(world.writes.values().any(|(_, result, _)| *result == value), "{value}");
        }
    }
    assert_eq!(platter.rows(Table::Lanes).len() + platter.rows(Table::Ready).len(), 0);
}

fn failures() -> impl Strategy<Value = Vec<Failure>> {
    prop::collection::vec(
        (0..14usize, any::<bool>()).prop_map(|(after, torn_off)| Failure { after, torn_off }),
        0..8,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases * 3 / 4, ..ProptestConfig::default() })]

    #[test]
    fn whenever_the_power_fails_each_effect_happens_once_and_replies_stand(
        scripts in prop::collection::vec(prop::collection::vec(step(), 0..8), 1..6),
        failures in failures(),
    ) {
        check(&scripts, &failures);
    }
}

/// Every single point of one script, one after the other: nothing is left to chance.
#[test]
fn the_power_fails_at_every_batch_of_a_life() {
    let script = Step::parse("r w1 r s50 w2 s5000 r w3 t1 w4");
    for after in 0..24 {
        for torn_off in [false, true] {
            check(std::slice::from_ref(&script), &[Failure { after, torn_off }]);
        }
    }
}
