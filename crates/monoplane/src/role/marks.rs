//! What a node makes outside of its directory goes by these names. They are written down before anything is made, so that
//! `monoplane clean` finds all of it, whatever flags it is given and whatever state the node was left in.

use std::io::Read;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::flags::Machine;
use crate::layout::{Layout, make_directory, write_file};
use crate::ranges::Ranges;

/// `node/marks.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Marks {
    /// Whose they are: the same for as long as the data directory.
    pub plane: String,
    /// The bridge that pods hang on.
    pub bridge: String,
    /// Parent of all its cgroups.
    pub cgroup_root: String,
    /// The pods' addresses, as CIDR; behind a comma those of IPv6, if they have such.
    pub pod_cidr: String,
    /// Services' addresses, in the same form; empty where an earlier release left the marks.
    pub service_cidr: String,
}

impl Marks {
    /// Those of the node in this data directory, if one was started there.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn read(layout: &Layout) -> Result<Option<Self>> {
        let path = layout.marks();
        match std::fs::read(&path) {
            Ok(bytes) => {
                let marks = serde_json::from_slice(&bytes);
                marks.map(Some).with_context(|| format!("reading {}", path.display()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    /// Those that the flags ask for, written down.
    ///
    /// # Errors
    /// When things of other names may still be there, or nothing can be written.
    pub fn settle(layout: &Layout, machine: &Machine, pod_cidr: &str, service_cidr: &str) -> Result<Self> {
        let before = Self::read(layout)?.unwrap_or_default();
        for (flag, was, wanted) in [
            ("--bridge", &before.bridge, &machine.bridge),
            ("--cgroup-root", &before.cgroup_root, &machine.cgroup_root),
        ] {
            if !was.is_empty() && was != wanted {
                bail!(
                    "this node's pods were started with {flag} {was}: keep that, or run `monoplane clean` first"
                );
            }
        }
        // Routes and rules of that range would be left behind, and pods' addresses.
        let six = |cidrs: &str| cidrs.split_once(',').map(|(_, six)| six.to_owned());
        if let Some(was) = six(&before.pod_cidr).filter(|was| six(pod_cidr).as_ref() != Some(was)) {
            bail!(
                "this node's pods were started with --pod-cidr …,{was}: keep that range of IPv6, or run `monoplane clean` first"
            );
        }
        if six(service_cidr).is_some() && six(pod_cidr).is_none() {
            bail!("--service-cidr has a range of IPv6: --pod-cidr needs one, too");
        }
        let plane = if before.plane.is_empty() { new_id()? } else { before.plane };
        let marks = Self {
            plane,
            bridge: machine.bridge.clone(),
            cgroup_root: machine.cgroup_root.clone(),
            pod_cidr: pod_cidr.to_owned(),
            service_cidr: service_cidr.to_owned(),
        };
        make_directory(&layout.node(), 0o700)?;
        write_file(&layout.marks(), &serde_json::to_vec_pretty(&marks)?, 0o600)?;
        Ok(marks)
    }

    /// Parent of all pods' cgroups.
    pub fn pods_cgroup(&self) -> String {
        format!("{}/kubepods", self.cgroup_root)
    }

    /// What `network` is told.
    ///
    /// # Errors
    /// When a CIDR is none.
    pub fn network(&self, layout: &Layout) -> Result<network::Config> {
        let services = Some(self.service_cidr.as_str()).filter(|cidr| !cidr.is_empty());
        let services: Option<Ranges> = services
            .map(|cidrs| cidrs.parse().with_context(|| format!("--service-cidr {cidrs}")))
            .transpose()?;
        let pods: Ranges = self.pod_cidr.parse().with_context(|| format!("--pod-cidr {}", self.pod_cidr))?;
        Ok(network::Config {
            bridge: self.bridge.clone(),
            owner: self.plane.clone(),
            subnet: pods.four,
            subnet6: pods.six,
            state_dir: layout.node().join("network"),
            masquerade: true,
            services: services.map(|services| services.four),
            services6: services.and_then(|services| services.six),
            overlay: None,
        })
    }
}

fn new_id() -> Result<String> {
    let mut bytes = [0; 8];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.context("reading /dev/urandom")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::flags::AtDataDir;

    #[test]
    fn marks_stay_until_they_are_cleaned_away() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(&AtDataDir { data_dir: Some(directory.path().to_owned()) }).unwrap();
        assert_eq!(Marks::read(&layout).unwrap(), None);
        #[derive(clap::Parser)]
        struct Flags {
            #[command(flatten)]
            machine: Machine,
        }
        let machine = |bridge: &str| Flags::parse_from(["node", "--bridge", bridge]).machine;
        let one = |bridge: &str| Marks::settle(&layout, &machine(bridge), "10.42.0.0/24", "10.43.0.0/16");
        let first = one("one").unwrap();
        assert_eq!(first.plane.len(), 16);
        assert_eq!(one("one").unwrap(), first);
        let error = one("two").unwrap_err().to_string();
        assert!(error.contains("--bridge one"), "{error}");
        assert_eq!(Marks::read(&layout).unwrap(), Some(first));
        // Addresses of IPv6 may come later, and then stay.
        let settle = |cidrs: &str, services: &str| Marks::settle(&layout, &machine("one"), cidrs, services);
        let (both, services) = ("10.42.0.0/24,fd00:42::/64", "10.43.0.0/16,fd00:43::/112");
        let error = settle("10.42.0.0/24", services).unwrap_err().to_string();
        assert!(error.contains("--pod-cidr needs one"), "{error}");
        let network = settle(both, services).unwrap().network(&layout).unwrap();
        assert_eq!(network.subnet6.unwrap().to_string(), "fd00:42::/64");
        assert_eq!(network.services6.unwrap().to_string(), "fd00:43::/112");
        for other in ["10.42.0.0/24", "10.42.0.0/24,fd00:44::/64"] {
            assert!(settle(other, "10.43.0.0/16").unwrap_err().to_string().contains("fd00:42::/64"));
        }
    }
}
