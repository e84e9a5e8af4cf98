//! A container's own control group: made with the limits of its configuration.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use container::Resources;

use super::{Tree, relative, write_setting};
use crate::devices;

/// Files of a v1 cpuset that have to say something before a process may be in it.
const CPUSET: [&str; 2] = ["cpuset.cpus", "cpuset.mems"];

impl Tree {
    /// Makes a container's group, and gives the files by which a process of whatever namespaces enters it. The group above
    /// is there. `limit_devices`: to those that every container has, where that is not among the limits as text.
    pub(crate) fn create_container(
        &self,
        group: &str,
        resources: &Resources,
        limit_devices: bool,
    ) -> io::Result<Vec<File>> {
        let directories = self.directories(group);
        for directory in &directories {
            make(directory)?;
        }
        self.limit(group, &limits(resources))?;
        match self {
            Self::V1(_) => self.limit_v1(group, resources)?,
            Self::V2(root) => {
                let group = relative(root, group);
                for (file, value) in &resources.unified {
                    write_setting(&group.join(file), value)?;
                }
                if limit_devices {
                    devices::limit(&group, &devices::DEFAULT).map_err(|error| {
                        let group = group.display();
                        io::Error::other(format!(
                            "control group {group}: its devices cannot be limited: {error}"
                        ))
                    })?;
                }
            }
        }
        let cpuset = self.directory("cpuset", group).filter(|_| matches!(self, Self::V1(_)));
        let enterable =
            |directory: &&PathBuf| cpuset.as_ref() != Some(*directory) || inherit(directory).is_ok();
        let open = |directory: &PathBuf| File::options().write(true).open(directory.join(self.own_entry()));
        directories.iter().filter(enterable).map(open).collect()
    }

    fn limit_v1(&self, group: &str, resources: &Resources) -> io::Result<()> {
        if let (Some(swap), Some(memory)) = (resources.memory.swap, self.directory("memory", group)) {
            write_setting(&memory.join("memory.memsw.limit_in_bytes"), &swap.to_string())?;
        }
        if let Some(devices) = self.directory("devices", group) {
            let open = |file: &str| File::options().write(true).open(devices.join(file));
            let (mut allow, mut deny) = (open("devices.allow")?, open("devices.deny")?);
            for rule in &resources.devices {
                let file = if rule.allow { &mut allow } else { &mut deny };
                file.write_all(rule.line().as_bytes()).map_err(|error| {
                    let (rule, group) = (rule.line(), devices.display());
                    io::Error::new(error.kind(), format!("device rule {rule:?} of {group}: {error}"))
                })?;
            }
        }
        Ok(())
    }

    /// Removes a group that nothing runs in. An error says that something does, or did until just now.
    pub(crate) fn remove_idle(&self, group: &str) -> io::Result<()> {
        self.all_directories(group).iter().try_for_each(|directory| match fs::remove_dir(directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        })
    }
}

impl Tree {
    /// Has a v1 cpuset, and all that are made below it from now on, have what the one above has.
    pub(crate) fn share_cpuset(&self, group: &str) {
        let cpuset = self.directory("cpuset", group).filter(|_| matches!(self, Self::V1(_)));
        // One that lacks it is given it with the first container in it.
        if let Some(cpuset) = cpuset
            && inherit(&cpuset).is_ok()
        {
            let _ = fs::write(cpuset.join("cgroup.clone_children"), "1");
        }
    }
}

fn limits(resources: &Resources) -> runtime::Resources {
    runtime::Resources {
        cpu_shares: resources.cpu.shares,
        cpu_quota: resources.cpu.quota,
        cpu_period: resources.cpu.period,
        memory_limit: resources.memory.limit,
        pids_limit: resources.pids.limit,
        ..runtime::Resources::default()
    }
}

fn make(directory: &Path) -> io::Result<()> {
    match fs::create_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::create_dir_all(directory),
        other => other,
    }
    .map_err(|error| io::Error::new(error.kind(), format!("control group {}: {error}", directory.display())))
}

/// Gives a v1 cpuset what the one above it has, and that one first if it has nothing itself.
fn inherit(group: &Path) -> io::Result<()> {
    for file in CPUSET {
        if !fs::read_to_string(group.join(file))?.trim().is_empty() {
            continue;
        }
        let above = group.parent().ok_or(io::ErrorKind::NotFound)?;
        let mut value = fs::read_to_string(above.join(file))?;
        if value.trim().is_empty() {
            inherit(above)?;
            value = fs::read_to_string(above.join(file))?;
        }
        fs::write(group.join(file), value.trim())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpuset_has_what_the_ones_above_have() {
        let directory = tempfile::tempdir().unwrap();
        let (pod, own) = (directory.path().join("pod"), directory.path().join("pod/own"));
        fs::create_dir_all(&own).unwrap();
        for (at, cpus) in [(directory.path(), "0-3\n"), (pod.as_path(), "\n"), (own.as_path(), "")] {
            fs::write(at.join("cpuset.cpus"), cpus).unwrap();
            fs::write(at.join("cpuset.mems"), "0\n").unwrap();
        }
        inherit(&own).unwrap();
        assert_eq!(fs::read_to_string(own.join("cpuset.cpus")).unwrap(), "0-3");
        assert_eq!(fs::read_to_string(pod.join("cpuset.cpus")).unwrap(), "0-3");
        assert_eq!(fs::read_to_string(own.join("cpuset.mems")).unwrap(), "0\n");
    }

    #[test]
    fn a_v2_group_takes_what_the_configuration_says() {
        let directory = tempfile::tempdir().unwrap();
        let tree = Tree::V2(directory.path().to_owned());
        fs::create_dir_all(directory.path().join("pod/own")).unwrap();
        fs::write(directory.path().join("pod/own/cgroup.procs"), "").unwrap();
        let text = r#"{"memory":{"limit":1048576},"cpu":{"quota":1000},"unified":{"memory.swap.max":"0"}}"#;
        let resources: Resources = serde_json::from_str(text).unwrap();
        assert_eq!(tree.create_container("/pod/own", &resources, false).unwrap().len(), 1);
        let read = |file: &str| fs::read_to_string(directory.path().join("pod/own").join(file)).unwrap();
        assert_eq!((read("memory.max").as_str(), read("cpu.max").as_str()), ("1048576", "1000 100000"));
        assert_eq!(read("memory.swap.max"), "0");
    }
}
