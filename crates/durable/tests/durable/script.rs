//! Guests that follow a script, and the world that they change.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use durable::engine::Ending;
use effects::{Class, Decision, Halt, InvokeError, Invoker, Operation, Recorder, Reply, Request};

/// What a guest does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Asks the world for a number that is another each time.
    Read,
    /// Adds to the world; the result is how much there is then.
    Write(u32),
    /// Sleeps for so many milliseconds.
    Sleep(u64),
    /// Traps on the first runs that get here.
    Trap(u32),
    /// Calls what may not be called.
    Forbidden,
    /// Calls what the host refuses without asking the recorder.
    Refused,
}

impl Step {
    /// One letter and a number each, separated by spaces.
    pub fn parse(text: &str) -> Vec<Step> {
        let step = |word: &str| {
            let (kind, number) = word.split_at(1);
            let number: u64 = number.parse().unwrap_or(0);
            match kind {
                "r" => Step::Read,
                "w" => Step::Write(number as u32),
                "s" => Step::Sleep(number),
                "t" => Step::Trap(number as u32),
                "x" => Step::Refused,
                _ => Step::Forbidden,
            }
        };
        text.split_whitespace().map(step).collect()
    }

    pub fn print(steps: &[Step]) -> String {
        let word = |step: &Step| match step {
            Step::Read => "r".to_owned(),
            Step::Write(number) => format!("w{number}"),
            Step::Sleep(millis) => format!("s{millis}"),
            Step::Trap(times) => format!("t{times}"),
            Step::Forbidden => "f".to_owned(),
            Step::Refused => "x".to_owned(),
        };
        steps.iter().map(word).collect::<Vec<_>>().join(" ")
    }
}

/// What happened in the world.
#[derive(Debug, Default)]
pub struct World {
    pub reads: u64,
    pub sum: u64,
    /// By idempotency key: how often it was performed, its result, and whether it was acknowledged as recorded.
    pub writes: BTreeMap<String, (u32, u64, bool)>,
    pub traps: BTreeMap<String, u32>,
    pub runs: u32,
    /// What must never happen.
    pub faults: Vec<String>,
}

/// Runs the script in a request's body.
#[derive(Clone, Default)]
pub struct Guests {
    pub world: Arc<Mutex<World>>,
    pub missing: Arc<Mutex<bool>>,
}

impl Guests {
    fn write(&self, key: &str, amount: u32, in_doubt: bool) -> u64 {
        let mut world = self.world.lock().unwrap();
        let world = &mut *world;
        let entry = world.writes.entry(key.to_owned()).or_insert((0, 0, false));
        entry.0 += 1;
        if entry.0 == 1 {
            world.sum += u64::from(amount);
            entry.1 = world.sum;
        } else if !in_doubt {
            world.faults.push(format!("{key} was performed again without a doubt"));
        } else if entry.2 {
            world.faults.push(format!("{key} was performed again though its result was recorded"));
        }
        entry.1
    }

    async fn step(
        &self,
        step: &Step,
        at: usize,
        id: &str,
        recorder: &dyn Recorder,
    ) -> Result<u64, InvokeError> {
        let operation = |function, class, amount: u32| Operation {
            interface: "test:world/world",
            function,
            class,
            arguments: Bytes::copy_from_slice(&amount.to_be_bytes()),
        };
        let number = |bytes: Bytes| u64::from_be_bytes(bytes.as_ref().try_into().unwrap());
        match step {
            Step::Sleep(millis) => {
                recorder.sleep(millis * 1_000_000).await?;
                Ok(0)
            }
            Step::Trap(times) => {
                let mut world = self.world.lock().unwrap();
                let trapped = world.traps.entry(format!("{id} {at}")).or_default();
                *trapped += 1;
                if *trapped <= *times { Err(InvokeError::Failed("trap".into())) } else { Ok(0) }
            }
            Step::Forbidden => {
                recorder.start(operation("connect", Class::Refused, 0)).await?;
                Ok(0)
            }
            Step::Refused => Err(Halt::Refused("test:world/world#socket".into()).into()),
            Step::Read => match recorder.start(operation("read", Class::RemoteRead, 0)).await? {
                Decision::Replay(bytes) => Ok(number(bytes)),
                Decision::Perform(ticket) => {
                    let result = {
                        let mut world = self.world.lock().unwrap();
                        world.reads += 1;
                        world.reads
                    };
                    recorder.finish(ticket, Bytes::copy_from_slice(&result.to_be_bytes())).await?;
                    Ok(result)
                }
            },
            Step::Write(amount) => match recorder.start(operation("write", Class::Write, *amount)).await? {
                Decision::Replay(bytes) => Ok(number(bytes)),
                Decision::Perform(ticket) => {
                    let key = ticket.idempotency_key.clone();
                    let result = self.write(&key, *amount, ticket.in_doubt);
                    tokio::task::yield_now().await;
                    recorder.finish(ticket, Bytes::copy_from_slice(&result.to_be_bytes())).await?;
                    self.world.lock().unwrap().writes.get_mut(&key).unwrap().2 = true;
                    Ok(result)
                }
            },
        }
    }
}

#[async_trait]
impl Invoker for Guests {
    async fn invoke(
        &self,
        component: &str,
        request: Request,
        recorder: Arc<dyn Recorder>,
    ) -> Result<Reply, InvokeError> {
        if *self.missing.lock().unwrap() {
            return Err(InvokeError::NotReady(component.to_owned()));
        }
        self.world.lock().unwrap().runs += 1;
        let script = Step::parse(std::str::from_utf8(request.body()).unwrap());
        let id = request.uri().path().to_owned();
        let mut seen = Vec::new();
        for (at, step) in script.iter().enumerate() {
            seen.push(self.step(step, at, &id, &*recorder).await?.to_string());
        }
        Ok(Reply::new(seen.join(" ").into()))
    }
}

pub fn request(id: &str, script: &[Step]) -> Request {
    http::Request::post(format!("http://test/{id}")).body(Step::print(script).into()).unwrap()
}

pub fn text(ending: &Ending) -> String {
    match ending {
        Ending::Completed(reply) => String::from_utf8(reply.body().to_vec()).unwrap(),
        Ending::Failed { attempts, error } => format!("failed after {attempts}: {error}"),
        Ending::Cancelled => "cancelled".to_owned(),
    }
}
