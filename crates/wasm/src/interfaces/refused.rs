//! Functions that cannot be replayed: in a durable component they are there, and calling one ends the invocation.

use effects::Halt;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker, ResourceType};

use crate::choke::halted;
use crate::class;
use crate::guest::Guest;

/// Stands for every resource of a refused interface. None is ever made.
struct Never;

/// Puts a refusal in the place of every function of refused interfaces that `component` imports.
pub(crate) fn link(linker: &mut Linker<Guest>, component: &Component) -> wasmtime::Result<()> {
    let engine = component.engine().clone();
    let ty = component.component_type();
    for (import, item) in ty.imports(&engine) {
        let ComponentItem::ComponentInstance(instance) = item.ty else { continue };
        let Some(interface) = class::find(import).filter(|interface| interface.refused()) else { continue };
        let mut linked = linker.instance(import)?;
        for (name, item) in instance.exports(&engine) {
            match item.ty {
                ComponentItem::ComponentFunc(_) => {
                    let refused = format!("{}#{name}", interface.name);
                    linked.func_new(name, move |_, _, _, _| Err(halted(Halt::Refused(refused.clone()))))?;
                }
                ComponentItem::Resource(_) => {
                    linked.resource(name, ResourceType::host::<Never>(), |_, _| Ok(()))?;
                }
                _ => {}
            }
        }
    }
    Ok(())
}
