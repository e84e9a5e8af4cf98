//! `wasi:config`: the environment that the component was given, by name.

use wasmtime::component::{HasData, Linker};

use super::bindings::wasi::config::store;
use crate::guest::Guest;

/// Implements the interface on a guest.
pub(crate) struct ConfigView<'a>(&'a mut Guest);

struct Config;

impl HasData for Config {
    type Data<'a> = ConfigView<'a>;
}

pub(crate) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    store::add_to_linker::<Guest, Config>(linker, |guest| ConfigView(guest))
}

impl store::Host for ConfigView<'_> {
    async fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<String>, store::Error>> {
        let mut pairs = self.0.component.spec.environment.iter();
        Ok(Ok(pairs.find(|(name, _)| *name == key).map(|(_, value)| value.clone())))
    }

    async fn get_all(&mut self) -> wasmtime::Result<Result<Vec<(String, String)>, store::Error>> {
        Ok(Ok(self.0.component.spec.environment.clone()))
    }
}
