//! What replaces upstream's functions in durable components: clocks, randomness and waiting, each by way of the recorder.
//!
//! Everything that a durable guest can see must come out the same when it is run again. Readings are recorded. Waiting
//! is put in order: handles that are ready by themselves come first, then requests, one at a time and each to its end,
//! and when only times are left to wait for, the earliest is one [`effects::Recorder::sleep`]. So which handle a `poll`
//! reports follows from the guest's own calls and from recorded results, and needs no record of its own.

use std::collections::HashMap;
use std::sync::Arc;

use clock::Random;
use effects::Recorder as _;
use http::header::HeaderName;
use tokio::sync::oneshot;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, LinkerInstance, Resource, ResourceType};
use wasmtime_wasi::p2::bindings::clocks::wall_clock::Datetime;
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::p2::bindings::http::outgoing_handler::Host as _;
use wasmtime_wasi_http::p2::bindings::http::types::{
    ErrorCode, HostFutureIncomingResponse as _, RequestOptions,
};
use wasmtime_wasi_http::p2::types::{HostFutureIncomingResponse, HostOutgoingRequest};
use wasmtime_wasi_io::bindings::wasi::io::poll::{Host as _, HostPollable as _};

use crate::choke::{Function, Recording, halted, through};
use crate::guest::Guest;

/// The version under which upstream's crates define the interfaces that are replaced here.
const UPSTREAM: &str = "0.2.12";
/// Random bytes in one call: they go into the journal.
const RANDOM_LIMIT: u64 = 64 << 10;

/// What sends its receiver's own repetitions apart, as the IETF's draft has it.
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// What a durable guest waits for.
#[derive(Default)]
pub(crate) struct Waits {
    /// By the pollable's number.
    pollables: HashMap<u32, Wait>,
    /// Requests that have not been sent, by the future's number: sending into the channel lets one go.
    unsent: HashMap<u32, oneshot::Sender<()>>,
    /// Nanoseconds slept so far.
    slept: u64,
    /// The latest reading of the monotonic clock.
    monotonic: u64,
}

#[derive(Clone, Copy)]
enum Wait {
    /// For the answer to a request, by the future's number.
    Answer(u32),
    /// For so long, counted from when so much had been slept.
    Duration { nanoseconds: u64, from: u64 },
    /// For a reading of the monotonic clock.
    Instant(u64),
}

/// Behind a pollable that waits for a time. Its readiness is [`Waits`]' to decide.
struct Time;

#[async_trait::async_trait]
impl Pollable for Time {
    async fn ready(&mut self) {
        std::future::pending().await
    }
}

/// Every function that is replaced, for the test that holds this list against the table of classes.
#[cfg(test)]
pub(crate) const REPLACED: &[(&str, &str)] = &[
    ("wasi:clocks/wall-clock", "now"),
    ("wasi:clocks/monotonic-clock", "now"),
    ("wasi:random/random", "get-random-bytes"),
    ("wasi:random/random", "get-random-u64"),
    ("wasi:random/insecure", "get-insecure-random-bytes"),
    ("wasi:random/insecure", "get-insecure-random-u64"),
    ("wasi:random/insecure-seed", "insecure-seed"),
    ("wasi:io/poll", "poll"),
    ("wasi:io/poll", "[method]pollable.block"),
    ("wasi:io/poll", "[method]pollable.ready"),
    ("wasi:http/outgoing-handler", "handle"),
];

/// Lays the replacements over upstream's functions.
pub(crate) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    link_clocks(linker)?;
    link_random(linker)?;
    link_poll(linker)?;
    link_http(linker)
}

fn interface<'a>(linker: &'a mut Linker<Guest>, name: &str) -> wasmtime::Result<LinkerInstance<'a, Guest>> {
    linker.instance(&format!("{name}@{UPSTREAM}"))
}

fn link_clocks(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let mut wall = interface(linker, "wasi:clocks/wall-clock")?;
    wall.func_wrap_async("now", |store, (): ()| {
        Box::new(async move {
            let (recording, clock) =
                (store.data().recording.clone(), store.data().component.host.clock.clone());
            let now = |_| async move { clock.now().as_nanosecond().max(0) };
            let function = Function::new("wasi:clocks/wall-clock", "now");
            let nanoseconds: i128 = through(&recording, function, &(), now).await?;
            let seconds = u64::try_from(nanoseconds / 1_000_000_000).unwrap_or(u64::MAX);
            let nanoseconds = u32::try_from(nanoseconds % 1_000_000_000).unwrap_or(0);
            Ok((Datetime { seconds, nanoseconds },))
        })
    })?;
    let mut monotonic = interface(linker, "wasi:clocks/monotonic-clock")?;
    monotonic.func_wrap_async("now", |mut store, (): ()| {
        Box::new(async move { Ok((monotonic_now(store.data_mut()).await?,)) })
    })?;
    monotonic.func_wrap("subscribe-duration", |mut store, (nanoseconds,): (u64,)| {
        let guest = store.data_mut();
        let from = guest.waits.slept;
        Ok((subscribe_time(guest, Wait::Duration { nanoseconds, from })?,))
    })?;
    monotonic.func_wrap("subscribe-instant", |mut store, (instant,): (u64,)| {
        Ok((subscribe_time(store.data_mut(), Wait::Instant(instant))?,))
    })
}

/// A monotonic clock that outlives this process and this machine: the wall clock, kept from going back.
async fn monotonic_now(guest: &mut Guest) -> wasmtime::Result<u64> {
    let (clock, latest) = (guest.component.host.clock.clone(), guest.waits.monotonic);
    let now = |_| async move { u64::try_from(clock.now().as_nanosecond()).unwrap_or(0).max(latest) };
    let now =
        through(&guest.recording, Function::new("wasi:clocks/monotonic-clock", "now"), &(), now).await?;
    guest.waits.monotonic = now;
    Ok(now)
}

fn subscribe_time(guest: &mut Guest, wait: Wait) -> wasmtime::Result<Resource<DynPollable>> {
    let time = guest.table.push(Time)?;
    let pollable = subscribe(&mut guest.table, time)?;
    guest.waits.pollables.insert(pollable.rep(), wait);
    Ok(pollable)
}

fn link_random(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    for (name, bytes, number) in [
        ("wasi:random/random", "get-random-bytes", "get-random-u64"),
        ("wasi:random/insecure", "get-insecure-random-bytes", "get-insecure-random-u64"),
    ] {
        let mut random = interface(linker, name)?;
        let function = Function::new(name, bytes);
        random.func_wrap_async(bytes, move |store, (length,): (u64,)| {
            Box::new(async move {
                if length > RANDOM_LIMIT {
                    wasmtime::bail!("more than {RANDOM_LIMIT} random bytes in one call");
                }
                let (recording, random) = sources(store.data());
                let fill = |_| {
                    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
                    random.fill(&mut bytes);
                    std::future::ready(bytes)
                };
                Ok((through(&recording, function, &length, fill).await?,))
            })
        })?;
        let function = Function::new(name, number);
        random.func_wrap_async(number, move |store, (): ()| {
            Box::new(async move {
                let (recording, random) = sources(store.data());
                let number = |_| std::future::ready(random.u64());
                Ok((through(&recording, function, &(), number).await?,))
            })
        })?;
    }
    interface(linker, "wasi:random/insecure-seed")?.func_wrap_async("insecure-seed", |store, (): ()| {
        Box::new(async move {
            let (recording, random) = sources(store.data());
            let seed = |_| std::future::ready((random.u64(), random.u64()));
            let function = Function::new("wasi:random/insecure-seed", "insecure-seed");
            Ok((through(&recording, function, &(), seed).await?,))
        })
    })
}

fn sources(guest: &Guest) -> (Recording, Arc<dyn Random>) {
    (guest.recording.clone(), guest.component.host.random.clone())
}

fn link_poll(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let mut io = interface(linker, "wasi:io/poll")?;
    io.func_wrap_async("poll", |store, (pollables,): (Vec<Resource<DynPollable>>,)| {
        Box::new(async move { Ok((poll(store, &pollables).await?,)) })
    })?;
    io.func_wrap_async("[method]pollable.block", |store, (pollable,): (Resource<DynPollable>,)| {
        Box::new(async move { poll(store, &[pollable]).await.map(|_| ()) })
    })?;
    io.func_wrap_async("[method]pollable.ready", |mut store, (pollable,): (Resource<DynPollable>,)| {
        Box::new(async move {
            let guest = store.data_mut();
            Ok((match guest.waits.pollables.get(&pollable.rep()).copied() {
                None => guest.table.ready(pollable).await?,
                Some(Wait::Answer(future)) => {
                    // A guest that only ever asks has to get there too, and at the same place each time.
                    answer(guest, future, &pollable).await?;
                    true
                }
                Some(wait) => remaining(guest, wait).await? == 0,
            },))
        })
    })?;
    io.resource("pollable", ResourceType::host::<DynPollable>(), |mut store, rep| {
        let guest = store.data_mut();
        // Its number may come again, for something else.
        guest.waits.pollables.remove(&rep);
        wasmtime_wasi_io::bindings::wasi::io::poll::HostPollable::drop(
            &mut guest.table,
            Resource::new_own(rep),
        )
    })
}

/// Waits until at least one of the pollables is ready, and tells which are.
async fn poll(
    mut store: StoreContextMut<'_, Guest>,
    pollables: &[Resource<DynPollable>],
) -> wasmtime::Result<Vec<u32>> {
    let guest = store.data_mut();
    let waits: Vec<_> =
        pollables.iter().map(|pollable| guest.waits.pollables.get(&pollable.rep()).copied()).collect();
    let ready = ready_by_themselves(guest, pollables, &waits).await?;
    if !ready.is_empty() {
        return Ok(ready);
    }
    for (pollable, wait) in pollables.iter().zip(&waits) {
        if let Some(Wait::Answer(future)) = wait {
            answer(guest, *future, pollable).await?;
            return Ok(indices(&waits, |other| matches!(other, Some(Wait::Answer(same)) if same == future)));
        }
    }
    let mut left = Vec::new();
    for wait in &waits {
        left.push(match wait {
            Some(wait) => Some(remaining(guest, *wait).await?),
            None => None,
        });
    }
    match left.iter().flatten().min().copied() {
        Some(least) => {
            sleep(guest, least).await?;
            Ok(indices(&left, |left| left.is_some_and(|left| left <= least)))
        }
        // Streams of bodies held in memory: ready as soon as whoever takes from them has come round.
        None => {
            guest
                .table
                .poll(pollables.iter().map(|pollable| Resource::new_borrow(pollable.rep())).collect())
                .await
        }
    }
}

/// Those that need no waiting: streams, answers that have come, durations that have passed.
async fn ready_by_themselves(
    guest: &mut Guest,
    pollables: &[Resource<DynPollable>],
    waits: &[Option<Wait>],
) -> wasmtime::Result<Vec<u32>> {
    let mut ready = Vec::new();
    for (at, (pollable, wait)) in (0..).zip(pollables.iter().zip(waits)) {
        let is_ready = match wait {
            None => guest.table.ready(Resource::new_borrow(pollable.rep())).await?,
            Some(Wait::Answer(future)) => !guest.waits.unsent.contains_key(future),
            Some(Wait::Duration { nanoseconds, from }) => guest.waits.slept - from >= *nanoseconds,
            Some(Wait::Instant(instant)) => guest.waits.monotonic >= *instant,
        };
        if is_ready {
            ready.push(at);
        }
    }
    Ok(ready)
}

fn indices<T>(of: &[T], chosen: impl Fn(&T) -> bool) -> Vec<u32> {
    (0..).zip(of).filter(|(_, item)| chosen(item)).map(|(at, _)| at).collect()
}

/// Lets a request go, if it has not gone, and waits for its answer.
async fn answer(guest: &mut Guest, future: u32, pollable: &Resource<DynPollable>) -> wasmtime::Result<()> {
    if let Some(go) = guest.waits.unsent.remove(&future) {
        // Its task is gone only if it failed before sending; that failure is then the answer.
        let _ = go.send(());
    }
    guest.table.block(Resource::new_borrow(pollable.rep())).await?;
    match guest.outgoing.halt() {
        Some(halt) => Err(halted(halt)),
        None => Ok(()),
    }
}

async fn remaining(guest: &mut Guest, wait: Wait) -> wasmtime::Result<u64> {
    Ok(match wait {
        Wait::Answer(_) => 0,
        Wait::Duration { nanoseconds, from } => nanoseconds.saturating_sub(guest.waits.slept - from),
        Wait::Instant(instant) => instant.saturating_sub(monotonic_now(guest).await?),
    })
}

async fn sleep(guest: &mut Guest, nanoseconds: u64) -> wasmtime::Result<()> {
    if let Some(recorder) = guest.recording.clone()
        && nanoseconds > 0
    {
        recorder.sleep(nanoseconds).await.map_err(halted)?;
    }
    guest.waits.slept = guest.waits.slept.saturating_add(nanoseconds);
    guest.waits.monotonic = guest.waits.monotonic.saturating_add(nanoseconds);
    Ok(())
}

type Handled = Result<Resource<HostFutureIncomingResponse>, ErrorCode>;
type HandleArguments = (Resource<HostOutgoingRequest>, Option<Resource<RequestOptions>>);

fn link_http(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let mut handler = interface(linker, "wasi:http/outgoing-handler")?;
    handler.func_wrap(
        "handle",
        |mut store: StoreContextMut<'_, Guest>, (request, options): HandleArguments| {
            let guest = store.data_mut();
            // It is sent when the guest first waits for it: between here and there the guest's other calls go first, every
            // time it is run.
            let (go, wait) = oneshot::channel();
            guest.outgoing.hold_next(wait);
            let handled: Handled = match guest.http().handle(request, options) {
                Ok(future) => Ok(future),
                Err(error) => Err(error.downcast()?),
            };
            if let Ok(future) = &handled {
                guest.waits.unsent.insert(future.rep(), go);
            }
            Ok((handled,))
        },
    )?;
    let mut types = interface(linker, "wasi:http/types")?;
    types.func_wrap(
        "[method]future-incoming-response.subscribe",
        |mut store: StoreContextMut<'_, Guest>, (future,): (Resource<HostFutureIncomingResponse>,)| {
            let guest = store.data_mut();
            let number = future.rep();
            let pollable = guest.http().subscribe(future)?;
            guest.waits.pollables.insert(pollable.rep(), Wait::Answer(number));
            Ok((pollable,))
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::{Effect, INTERFACES};

    #[test]
    fn whatever_touches_the_world_is_replaced_or_recorded_by_its_own_interface() {
        for interface in INTERFACES.iter().filter(|interface| !interface.refused()) {
            for (function, effect) in interface.named() {
                let own = interface.name.starts_with("wasi:keyvalue/");
                let replaced = REPLACED.contains(&(interface.name, function));
                assert_eq!(
                    *effect != Effect::Instance,
                    own && *effect != Effect::Instance || replaced,
                    "{function}"
                );
            }
        }
    }
}
