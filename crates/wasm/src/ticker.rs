//! The clock that interrupts guests: one thread that advances the engine's epoch while guests run, and sleeps while
//! none do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use wasmtime::Engine;

/// How long a guest computes before others get their turn on its thread.
const TICK: Duration = Duration::from_millis(10);
/// Ticks without a new run after which the thread goes to sleep. Waking it costs a system call, so it does not happen
/// between the requests of even a slow stream of them.
const IDLE_TICKS: u32 = 100;

/// Owns the thread; dropping it ends the thread.
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
    join: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// Guests that exist now.
    running: AtomicU64,
    /// Raised by every start, lowered by the thread: whether anything ran lately.
    started: AtomicBool,
    asleep: AtomicBool,
    stop: AtomicBool,
}

/// Keeps the epoch advancing while it lives.
pub(crate) struct Running(Arc<Shared>);

impl Ticker {
    pub(crate) fn start(engine: &Engine) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (of_thread, engine) = (shared.clone(), engine.weak());
        let join = std::thread::Builder::new().name("epoch".into()).spawn(move || {
            let mut idle = 0;
            while !of_thread.stop.load(Ordering::Acquire) {
                if idle < IDLE_TICKS {
                    std::thread::sleep(TICK);
                } else {
                    of_thread.sleep_until_started();
                    idle = 0;
                }
                let busy = of_thread.started.swap(false, Ordering::AcqRel)
                    || of_thread.running.load(Ordering::Acquire) > 0;
                idle = if busy { 0 } else { idle + 1 };
                match engine.upgrade() {
                    Some(engine) => engine.increment_epoch(),
                    None => return,
                }
            }
        })?;
        Ok(Self { shared, thread: join.thread().clone(), join: Some(join) })
    }

    /// Says that a guest starts.
    pub(crate) fn run(&self) -> Running {
        self.shared.running.fetch_add(1, Ordering::AcqRel);
        // A plain load first: at full speed the flag is nearly always up, and its cache line stays shared.
        if !self.shared.started.load(Ordering::Relaxed) {
            self.shared.started.store(true, Ordering::SeqCst);
            if self.shared.asleep.load(Ordering::SeqCst) {
                self.thread.unpark();
            }
        }
        Running(self.shared.clone())
    }
}

impl Shared {
    fn sleep_until_started(&self) {
        self.asleep.store(true, Ordering::SeqCst);
        while !self.started.load(Ordering::SeqCst) && !self.stop.load(Ordering::SeqCst) {
            std::thread::park();
        }
        self.asleep.store(false, Ordering::SeqCst);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.thread.unpark();
        if let Some(join) = self.join.take() {
            // The thread looks at the flag once a tick and never panics.
            let _ = join.join();
        }
    }
}
