//! The state of one instance: what its host functions work on.

use std::sync::Arc;

use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::choke::Recording;
use crate::component::Component;
use crate::gate::Place;
use crate::interfaces::replay::Waits;
use crate::limiter::Limiter;
use crate::logs::{LineStream, LogSink, LogStream};
use crate::outgoing::Outgoing;
use crate::ticker::Running;

/// One instance's state. Dropped with the instance; nothing of it passes to the next.
pub(crate) struct Guest {
    pub(crate) table: ResourceTable,
    /// Made when the guest first asks for something of it: most requests never do, and making it is dear.
    wasi: Option<Box<WasiCtx>>,
    http: WasiHttpCtx,
    pub(crate) outgoing: Outgoing,
    pub(crate) limiter: Limiter,
    pub(crate) component: Arc<Component>,
    pub(crate) recording: Recording,
    /// What a durable guest waits for.
    pub(crate) waits: Waits,
    /// Where pages of keys go on, by the number that the guest has for it.
    pub(crate) cursors: Vec<String>,
    _places: [Place; 2],
    _running: Running,
}

impl Guest {
    pub(crate) fn new(component: Arc<Component>, recording: Recording, places: [Place; 2]) -> Self {
        Self {
            table: ResourceTable::new(),
            wasi: None,
            http: WasiHttpCtx::new(),
            outgoing: Outgoing::new(component.clone(), recording.clone()),
            limiter: Limiter::new(component.spec.limits.memory),
            recording,
            waits: Waits::default(),
            cursors: Vec::new(),
            _places: places,
            _running: component.host.ticker.run(),
            component,
        }
    }

    /// Nothing but the environment granted, streams into the log, and what of its surroundings it was given: for most, no
    /// directory, no socket, no name to look up.
    fn make_wasi(component: &Component, recording: &Recording) -> Box<WasiCtx> {
        let logs: Arc<dyn LogSink> = match recording {
            Some(hold) => hold.clone(),
            None => component.host.logs.clone(),
        };
        let line = |stream| LineStream::new(component.name.clone(), stream, logs.clone());
        let mut builder = WasiCtx::builder();
        builder
            .envs(&component.spec.environment)
            .stdout(line(LogStream::Stdout))
            .stderr(line(LogStream::Stderr))
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false);
        component.spec.surroundings.grant(&mut builder);
        Box::new(builder.build())
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let wasi = self.wasi.get_or_insert_with(|| Self::make_wasi(&self.component, &self.recording));
        WasiCtxView { ctx: wasi, table: &mut self.table }
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.outgoing }
    }
}
