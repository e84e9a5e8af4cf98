//! A recorder in memory: the smallest journal that keeps the seam's promises, with accidents on demand.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use effects::{Class, Decision, Halt, Operation, Recorder, Ticket};

#[derive(Clone, Debug)]
enum Entry {
    Call { operation: Operation, result: Option<Bytes> },
    Slept,
}

/// What outlives the instance.
#[derive(Clone, Default)]
pub(crate) struct Journal {
    entries: Arc<Mutex<Vec<Entry>>>,
    /// How long a sleep takes, whatever was asked for.
    nap: std::time::Duration,
}

/// One life of the invocation.
pub(crate) struct Life {
    journal: Journal,
    state: Mutex<State>,
}

struct State {
    position: usize,
    /// Steps until this life ends in an accident.
    left: usize,
}

impl Journal {
    /// One whose every sleep takes so long.
    pub(crate) fn napping(nap: std::time::Duration) -> Self {
        Self { nap, ..Self::default() }
    }

    /// A life that comes to an accident after so many steps: before or after the call of a step is performed.
    pub(crate) fn life(&self, steps: usize) -> Arc<Life> {
        Arc::new(Life { journal: self.clone(), state: Mutex::new(State { position: 0, left: steps }) })
    }

    /// The recorded calls as `interface#function`.
    pub(crate) fn calls(&self) -> Vec<String> {
        let entries = self.entries.lock().unwrap();
        let calls = entries.iter().map(|entry| match entry {
            Entry::Call { operation, .. } => format!("{}#{}", operation.interface, operation.function),
            Entry::Slept => "sleep".into(),
        });
        calls.collect()
    }
}

impl Life {
    fn step(&self) -> Result<usize, Halt> {
        let mut state = self.state.lock().unwrap();
        state.left = state.left.checked_sub(1).ok_or(Halt::Unavailable("accident".into()))?;
        state.position += 1;
        Ok(state.position - 1)
    }
}

#[async_trait]
impl Recorder for Life {
    async fn start(&self, operation: Operation) -> Result<Decision, Halt> {
        let position = self.step()?;
        let mut entries = self.journal.entries.lock().unwrap();
        let in_doubt = match entries.get(position) {
            Some(Entry::Call { operation: recorded, result }) => {
                if *recorded != operation {
                    let name =
                        |operation: &Operation| format!("{}#{}", operation.interface, operation.function);
                    return Err(Halt::Diverged {
                        sequence: position as u64,
                        recorded: name(recorded),
                        found: name(&operation),
                    });
                }
                match result {
                    Some(result) => return Ok(Decision::Replay(result.clone())),
                    None => true,
                }
            }
            Some(Entry::Slept) => panic!("slept here before"),
            None => {
                if operation.class == Class::Refused {
                    return Err(Halt::Refused(operation.function.into()));
                }
                entries.push(Entry::Call { operation, result: None });
                false
            }
        };
        Ok(Decision::Perform(Ticket {
            sequence: position as u64,
            idempotency_key: format!("key-{position}"),
            in_doubt,
        }))
    }

    async fn finish(&self, ticket: Ticket, result: Bytes) -> Result<(), Halt> {
        {
            // The accident that leaves a write in doubt: it was performed, and its result is lost.
            let mut state = self.state.lock().unwrap();
            state.left = state.left.checked_sub(1).ok_or(Halt::Unavailable("accident".into()))?;
        }
        match &mut self.journal.entries.lock().unwrap()[ticket.sequence as usize] {
            Entry::Call { result: slot, .. } => *slot = Some(result),
            Entry::Slept => panic!("not a call"),
        }
        Ok(())
    }

    async fn sleep(&self, nanoseconds: u64) -> Result<(), Halt> {
        let position = self.step()?;
        if !self.journal.nap.is_zero() {
            tokio::time::sleep(self.journal.nap).await;
        }
        let mut entries = self.journal.entries.lock().unwrap();
        if position < entries.len() {
            return Ok(());
        }
        entries.push(Entry::Slept);
        // A long sleep leaves memory; whoever wakes it runs it again.
        if nanoseconds > 1_000_000_000 { Err(Halt::Suspended) } else { Ok(()) }
    }
}
