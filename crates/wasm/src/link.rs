//! What a component may import, and what happens when it imports something else.

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker};
use wasmtime::{Engine, ResourcesRequired};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi_http::p2::bindings::ProxyPre;

use crate::class;
use crate::component::DeployError;
use crate::engine::MEMORIES_PER_COMPONENT;
use crate::guest::Guest;
use crate::interfaces::{config, key_value, refused, replay};

/// The export that makes a component one that answers HTTP.
const HANDLER: &str = "wasi:http/incoming-handler";
/// The export that makes a component a program.
const RUN: &str = "wasi:cli/run";

/// Bytes of a page of linear memory.
const PAGE: u64 = 64 << 10;

/// What components are linked against, made once.
pub(crate) struct Linkers {
    plain: Linker<Guest>,
    durable: Linker<Guest>,
}

impl Linkers {
    pub(crate) fn new(engine: &Engine) -> wasmtime::Result<Self> {
        let mut plain = Linker::new(engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut plain)?;
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut plain)?;
        key_value::link(&mut plain)?;
        config::link(&mut plain)?;
        let mut durable = plain.clone();
        replay::link(&mut durable)?;
        Ok(Self { plain, durable })
    }

    /// Links a component, or says what is missing.
    pub(crate) fn link(
        &self,
        component: &Component,
        durable: bool,
        memory: usize,
    ) -> Result<World, DeployError> {
        check_imports(component, durable)?;
        // A component that instantiates modules it imports does not say; ours import no modules.
        component.resources_required().map_or(Ok(()), |needs| check_size(&needs, memory))?;
        let linked = if durable {
            let mut linker = self.durable.clone();
            refused::link(&mut linker, component).and_then(|()| linker.instantiate_pre(component))
        } else {
            self.plain.instantiate_pre(component)
        };
        // Every interface is one that we have: what remains is a function of it that is not there, or differs.
        let linked = linked
            .map_err(|error| DeployError::ImportsUnsatisfied { missing: vec![format!("{error:#}")] })?;
        if exports(component, HANDLER) {
            ProxyPre::new(linked).map(World::Http).map_err(|_| DeployError::NotHttp)
        } else if exports(component, RUN) {
            CommandPre::new(linked).map(World::Command).map_err(|_| DeployError::NotHttp)
        } else {
            Err(DeployError::NotHttp)
        }
    }
}

/// What a linked component is for. One that could be both answers HTTP.
pub(crate) enum World {
    /// It answers HTTP requests.
    Http(ProxyPre<Guest>),
    /// It runs once, from start to end.
    Command(CommandPre<Guest>),
}

impl World {
    pub(crate) fn engine(&self) -> &Engine {
        match self {
            Self::Http(proxy) => proxy.engine(),
            Self::Command(command) => command.engine(),
        }
    }
}

/// Finds the imports that this host does not have or, for a durable component, whose effect nobody has decided.
fn check_imports(component: &Component, durable: bool) -> Result<(), DeployError> {
    let engine = component.engine();
    let (mut missing, mut unclassified) = (Vec::new(), Vec::new());
    for (import, item) in component.component_type().imports(engine) {
        let Some(interface) = class::find(import) else {
            missing.push(import.to_owned());
            continue;
        };
        let ComponentItem::ComponentInstance(instance) = item.ty else { continue };
        let functions =
            instance.exports(engine).filter(|(_, item)| matches!(item.ty, ComponentItem::ComponentFunc(_)));
        let undecided = functions.filter(|(function, _)| interface.effect(function).is_none());
        unclassified.extend(undecided.map(|(function, _)| format!("{import}#{function}")));
    }
    if !missing.is_empty() {
        return Err(DeployError::ImportsUnsatisfied { missing });
    }
    if durable && !unclassified.is_empty() {
        return Err(DeployError::Unclassified { interfaces: unclassified });
    }
    Ok(())
}

/// Finds out before the first request what would fail at every one.
pub(crate) fn check_size(needs: &ResourcesRequired, memory: usize) -> Result<(), DeployError> {
    if needs.num_memories > MEMORIES_PER_COMPONENT {
        return Err(DeployError::TooLarge(format!(
            "it has {} memories, {MEMORIES_PER_COMPONENT} are allowed",
            needs.num_memories
        )));
    }
    let pages = needs.max_initial_memory_size.unwrap_or(0);
    if pages.saturating_mul(PAGE) > memory as u64 {
        return Err(DeployError::TooLarge(format!(
            "its memory begins with {} bytes, its limit is {memory}",
            pages.saturating_mul(PAGE)
        )));
    }
    Ok(())
}

fn exports(component: &Component, interface: &str) -> bool {
    let ty = component.component_type();
    let serves = |name: &str| {
        name.split_once('@').is_some_and(|(name, version)| name == interface && version.starts_with("0.2."))
    };
    ty.exports(component.engine()).any(|(name, _)| serves(name))
}
