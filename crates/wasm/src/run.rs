//! One instance's life: made, called, timed, ended.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use effects::Halt;
use http::Request;
use tokio::sync::oneshot;
use tokio::time::Sleep;
use wasmtime::{PoolConcurrencyLimitError, Store, Trap, UpdateDeadline};
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use crate::choke::Recording;
use crate::component::Component;
use crate::gate::Place;
use crate::guest::Guest;
use crate::link::World;

/// The guest's own answer: a response, or one of WASI's error codes.
pub(crate) type Answer = Result<http::Response<HyperOutgoingBody>, ErrorCode>;

/// Why an instance ended without having come to its end.
#[derive(Clone, Debug)]
pub(crate) enum Ending {
    Halted(Halt),
    Limit(&'static str),
    /// There was no place for it.
    Busy,
    /// It trapped; the text says how.
    Failed(String),
}

/// The end of an instance that was still there at its deadline.
pub(crate) const WALL_TIME: Ending = Ending::Limit("wall time");

/// Resources of the component model that one instance may hold, and things in the host that they stand for: what these
/// take lies outside the instance's own memory.
const HANDLES: usize = 2_000;
/// Bytes that a guest may pass in one call; a list of many views of one piece of its memory is as large as it says here.
pub(crate) const CALL_BYTES: usize = 32 << 20;

/// A running instance. Dropping it ends the instance at once.
pub(crate) struct Run {
    guest: Pin<Box<dyn Future<Output = Result<(), Ending>> + Send>>,
    cpu_left: Duration,
    wall: Wall,
}

/// The limit by the clock.
struct Wall {
    deadline: Instant,
    /// Whose sleeps put the deadline off.
    recording: Recording,
    /// Made when the instance first has to wait: most never do.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Run {
    /// Prepares an instance that answers `request`; it starts when polled. Its answer comes through the receiver.
    pub(crate) fn new<B>(
        component: Arc<Component>,
        request: Request<B>,
        recording: Recording,
        places: [Place; 2],
    ) -> (Self, oneshot::Receiver<Answer>)
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<wasmtime_wasi_http::Error>,
    {
        let limits = component.spec.limits;
        let deadline = Instant::now() + limits.wall_time;
        let wall = Wall { deadline, recording: recording.clone(), timer: None };
        let (sender, receiver) = oneshot::channel();
        let guest = Box::pin(live(component, request, recording, places, sender));
        (Self { guest, cpu_left: limits.cpu_time, wall }, receiver)
    }

    /// When it ends at the latest, polled or not. A recorded one sleeps beyond any time that could be told now, and its
    /// reply is always read.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.wall.recording.is_none().then_some(self.wall.deadline)
    }
}

/// The store of a fresh instance, with its limits.
pub(crate) fn store(component: Arc<Component>, recording: Recording, places: [Place; 2]) -> Store<Guest> {
    let engine = component.world.engine().clone();
    let mut store = Store::new(&engine, Guest::new(component, recording, places));
    store.limiter(|guest| &mut guest.limiter);
    store.data_mut().table.set_max_capacity(HANDLES);
    store.set_max_component_handles(HANDLES);
    store.set_hostcall_fuel(CALL_BYTES);
    // At each tick of the epoch the guest gives its thread back; `Run` counts the time and the runtime decides who is
    // next.
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|_| Ok(UpdateDeadline::Yield(1)));
    store
}

async fn live<B>(
    component: Arc<Component>,
    request: Request<B>,
    recording: Recording,
    places: [Place; 2],
    sender: oneshot::Sender<Answer>,
) -> Result<(), Ending>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<wasmtime_wasi_http::Error>,
{
    let scheme = match request.uri().scheme_str() {
        Some("https") => Scheme::Https,
        _ => Scheme::Http,
    };
    let mut store = store(component.clone(), recording, places);
    let outcome = async {
        let mut http = store.data_mut().http();
        let request = http.new_incoming_request(scheme, request)?;
        let out = http.new_response_outparam(sender)?;
        let World::Http(proxy) = &component.world else {
            return Err(wasmtime::format_err!("it is a program and answers no requests"));
        };
        let proxy = proxy.instantiate_async(&mut store).await?;
        proxy.wasi_http_incoming_handler().call_handle(&mut store, request, out).await
    }
    .await;
    outcome.map_err(|error| ending(error, store.data().limiter.refused()))
}

/// How an instance ended that gave an error. `out_of_memory`: it was refused some before.
pub(crate) fn ending(error: wasmtime::Error, out_of_memory: bool) -> Ending {
    if error.is::<PoolConcurrencyLimitError>() {
        return Ending::Busy;
    }
    let error = match error.downcast::<Halt>() {
        Ok(halt) => return Ending::Halted(halt),
        Err(error) => error,
    };
    if out_of_memory {
        return Ending::Limit("memory");
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::StackOverflow) => Ending::Limit("stack"),
        _ => Ending::Failed(format!("{error:#}")),
    }
}

impl Future for Run {
    type Output = Result<(), Ending>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // Time inside `poll` is the guest's and its host calls': a thread that is kept off its core counts too, which
        // errs on the side of ending a guest on an overloaded machine.
        let started = Instant::now();
        let polled = self.guest.as_mut().poll(cx);
        let spent = started.elapsed();
        if polled.is_ready() {
            return polled;
        }
        let Some(left) = self.cpu_left.checked_sub(spent) else {
            return Poll::Ready(Err(Ending::Limit("cpu time")));
        };
        self.cpu_left = left;
        self.wall.poll(cx).map(|()| Err(WALL_TIME))
    }
}

impl Wall {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let slept = match &self.recording {
            // Its end wakes this task, and the deadline is looked at again.
            Some(recording) => match recording.slept() {
                Some(slept) => slept,
                None => return Poll::Pending,
            },
            None => Duration::ZERO,
        };
        let deadline = (self.deadline + slept).into();
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().poll(cx)
    }
}
