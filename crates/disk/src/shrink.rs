//! Giving space back: when the writer's thread makes the next step.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::{Engine, Error, Shrunk};

/// How long no request comes before a step is made.
pub(crate) const PAUSE: Duration = Duration::from_millis(2);
/// How long it is between two steps while requests keep coming.
const REST: Duration = Duration::from_millis(20);
/// How long it goes on at most, so that whoever asked for it gets to something else.
const MOST: Duration = Duration::from_secs(60);
/// How long nothing is gained, as while a snapshot holds on to the log, before it is left to the next time.
const PATIENCE: Duration = Duration::from_secs(2);

/// Who waits for the end of it, and how far it is.
pub(crate) struct Shrinking {
    done: oneshot::Sender<Result<(), Error>>,
    begun: Instant,
    /// When the last step was made.
    stepped: Option<Instant>,
    /// When something was gained.
    gained: Instant,
}

impl Shrinking {
    pub(crate) fn new(done: oneshot::Sender<Result<(), Error>>) -> Self {
        let now = Instant::now();
        Self { done, begun: now, stepped: None, gained: now }
    }

    /// Makes a step if nobody waits for the engine, or the last one is long ago. Returns what is left to do, if anything;
    /// an error if the engine has failed for good.
    pub(crate) fn step(mut self, is_idle: bool, engine: &mut dyn Engine) -> Result<Option<Self>, Error> {
        let now = Instant::now();
        if !is_idle && self.stepped.is_some_and(|stepped| now - stepped < REST) {
            return Ok(Some(self));
        }
        let outcome = engine.shrink();
        let now = Instant::now();
        self.stepped = Some(now);
        match outcome {
            Ok(Shrunk::More) => self.gained = now,
            Ok(Shrunk::Settling) => {}
            Ok(Shrunk::Enough) => {
                self.end(Ok(()));
                return Ok(None);
            }
            Err(error @ Error::NoRoom(_)) => {
                self.end(Err(error));
                return Ok(None);
            }
            Err(error) => {
                self.end(Err(error.clone()));
                return Err(error);
            }
        }
        if now - self.gained > PATIENCE || now - self.begun > MOST {
            self.end(Ok(()));
            return Ok(None);
        }
        Ok(Some(self))
    }

    /// Tells whoever waits.
    pub(crate) fn end(self, outcome: Result<(), Error>) {
        // Nobody listens any more if the caller was dropped.
        let _ = self.done.send(outcome);
    }
}
