//! Whether the store answers: asked when somebody wants to know, at most once a second, once at a time, and not waited for
//! longer than upstream waits for etcd.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clock::{Clock, Instant, Tasks};
use tokio::sync::watch;

/// As upstream's `--etcd-healthcheck-timeout` and `--etcd-readycheck-timeout` are by default.
const PATIENCE: Duration = Duration::from_secs(2);
/// How old an answer may be. Upstream asks twice in the time that it waits.
const EVERY: Duration = Duration::from_secs(1);

type Outcome = Result<(), String>;

/// The store's health, as it was found last.
#[derive(Debug, Default)]
pub(super) struct StoreHealth(Mutex<Asked>);

#[derive(Debug, Default)]
struct Asked {
    /// When it was asked, and what will come of it.
    running: Option<(Instant, watch::Receiver<Option<Outcome>>)>,
    /// What came of it.
    last: Option<Outcome>,
}

impl Asked {
    /// Whether it is time to ask.
    fn is_due(&mut self, now: Instant) -> bool {
        let Some((begun, outcome)) = &self.running else { return true };
        // Whoever asked has ended without an answer where the other half is gone.
        let has_ended = outcome.has_changed().is_err();
        if let Some(outcome) = outcome.borrow().clone() {
            self.last = Some(outcome);
        } else if !has_ended {
            return false;
        }
        now.since(*begun) >= EVERY
    }
}

impl StoreHealth {
    /// What `ask` finds, or has found less than a second ago. While it is being asked, what was found before counts.
    ///
    /// It is asked in a task of its own: whoever wants to know may have less patience.
    pub(super) async fn outcome<F>(
        &self,
        (clock, tasks): (&Arc<dyn Clock>, &Tasks),
        ask: impl FnOnce() -> F,
    ) -> Outcome
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let mut outcome = {
            let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let now = clock.monotonic();
            match (asked.is_due(now), &asked.running, &asked.last) {
                (false, _, Some(last)) => return last.clone(),
                (false, Some((_, outcome)), None) => outcome.clone(),
                _ => {
                    let (answer, outcome) = watch::channel(None);
                    asked.running = Some((now, outcome.clone()));
                    tasks.spawn("store health", run(ask(), answer, clock.clone()));
                    outcome
                }
            }
        };
        match outcome.wait_for(Option::is_some).await.map(|answer| answer.clone()) {
            Ok(Some(answer)) => answer,
            _ => Err("the server ends".to_owned()),
        }
    }
}

async fn run(
    asked: impl Future<Output = Outcome>,
    answer: watch::Sender<Option<Outcome>>,
    clock: Arc<dyn Clock>,
) {
    let found = tokio::select! {
        found = asked => found,
        () = clock.sleep(PATIENCE) => Err("the store does not answer: context deadline exceeded".to_owned()),
    };
    // Nobody may want to know it any more.
    let _ = answer.send(Some(found));
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use clock::ManualClock;

    use super::*;

    struct Bench {
        health: Arc<StoreHealth>,
        clock: Arc<ManualClock>,
        tasks: Tasks,
        asked: AtomicUsize,
    }

    impl Bench {
        fn new() -> Self {
            let clock = Arc::new(ManualClock::new(jiff::Timestamp::UNIX_EPOCH));
            Self { health: Arc::default(), clock, tasks: Tasks::default(), asked: AtomicUsize::new(0) }
        }

        async fn outcome(&self, answers: bool) -> Outcome {
            let clock: Arc<dyn Clock> = self.clock.clone();
            let ask = || {
                self.asked.fetch_add(1, Ordering::Relaxed);
                async move { if answers { Ok(()) } else { std::future::pending().await } }
            };
            self.health.outcome((&clock, &self.tasks), ask).await
        }

        fn asked(&self) -> usize {
            self.asked.load(Ordering::Relaxed)
        }
    }

    #[tokio::test]
    async fn an_answer_counts_for_a_second() {
        let bench = Bench::new();
        for _ in 0..3 {
            assert_eq!(bench.outcome(true).await, Ok(()));
        }
        assert_eq!(bench.asked(), 1);
        bench.clock.advance(EVERY);
        assert_eq!(bench.outcome(true).await, Ok(()));
        assert_eq!(bench.asked(), 2);
    }

    #[tokio::test]
    async fn a_store_that_hangs_is_asked_once_at_a_time_and_given_up() {
        let bench = Bench::new();
        let advance = async {
            bench.clock.until_sleepers(1).await;
            bench.clock.advance(PATIENCE);
        };
        let (one, two, ()) = tokio::join!(bench.outcome(false), bench.outcome(false), advance);
        assert!(one.is_err_and(|why| why.contains("deadline")) && two.is_err());
        assert_eq!(bench.asked(), 1);
        // The next one is asked; whoever comes meanwhile is told what was found before, at once.
        let next = tokio::select! {
            biased;
            next = bench.outcome(true) => next,
            () = std::future::ready(()) => bench.outcome(false).await,
        };
        assert!(next.is_err(), "{next:?}");
        assert_eq!(bench.asked(), 2);
        // Although nobody waited for the answer, it is there.
        while bench.tasks.running() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(bench.outcome(false).await, Ok(()));
        assert_eq!(bench.asked(), 2);
        bench.tasks.stop().await;
    }
}
