//! Functions that cannot be replayed: in a durable component they are there, and calling one ends the invocation.

use effects::Halt;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker};

use crate::choke::halted;
use crate::class;
use crate::guest::Guest;

/// Puts a refusal in the place of every function of refused interfaces that `component` imports. Their resources stay as
/// linked; none is ever made.
pub(crate) fn link(linker: &mut Linker<Guest>, component: &Component) -> wasmtime::Result<()> {
    let engine = component.engine().clone();
    let ty = component.component_type();
    for (import, item) in ty.imports(&engine) {
        let ComponentItem::ComponentInstance(instance) = item.ty else { continue };
        let Some(interface) = class::find(import).filter(|interface| interface.refused()) else { continue };
        let mut linked = linker.instance(import)?;
        for (name, item) in instance.exports(&engine) {
            if matches!(item.ty, ComponentItem::ComponentFunc(_)) {
                let refused = format!("{}#{name}", interface.name);
                linked.func_new(name, move |_, _, _, _| Err(halted(Halt::Refused(refused.clone()))))?;
            }
        }
    }
    Ok(())
}
