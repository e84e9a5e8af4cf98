//! What this machine knows of registries: a file in the shape of K3s's `registries.yaml`.

use std::path::Path;

use anyhow::{Context, Result};
use egress::Policy;
use images::{Registries, RegistryConfig};

use crate::flags::Machine;
use crate::layout::Layout;

/// Registries as the node reaches them. What is in the file may be anywhere; a registry that only a pod names is not reached
/// on this machine itself, its link, or where clouds tell their secrets.
///
/// # Errors
/// When the file is wrong; the message names the field.
pub fn of_node(layout: &Layout, machine: &Machine) -> Result<Registries> {
    with(layout, machine.registries.as_deref(), Policy::default())
}

/// Registries as whoever runs this program reaches them: wherever they are.
///
/// # Errors
/// When the file is wrong; the message names the field.
pub fn of_person(layout: &Layout, file: Option<&Path>) -> Result<Registries> {
    let anywhere = ["0.0.0.0/0", "::/0"].iter().map(|network| network.parse());
    let allow = anywhere.collect::<Result<_, _>>().context("all networks")?;
    with(layout, file, Policy { allow, ..Policy::default() })
}

fn with(layout: &Layout, file: Option<&Path>, policy: Policy) -> Result<Registries> {
    let usual = layout.registries();
    let path = file.unwrap_or(&usual);
    let config = match std::fs::read(path) {
        Ok(bytes) => {
            let read = serde_yaml_ng::from_slice::<Option<RegistryConfig>>(&bytes);
            read.with_context(|| format!("reading {}", path.display()))?.unwrap_or_default()
        }
        // A file that was named has to be there.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && file.is_none() => {
            RegistryConfig::default()
        }
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    Registries::new(config, policy).with_context(|| format!("in {}", path.display()))
}
