//! The machine's control groups, for whoever decides on those above pods'.

use std::io;

use runtime::{Error, GroupUsage, Groups, Resources};

use crate::cgroup::Tree;
use crate::manager::failed;

/// The machine's control groups.
#[derive(Clone, Debug)]
pub struct MachineGroups(Tree);

impl MachineGroups {
    /// Finds them.
    ///
    /// # Errors
    /// When this machine has none.
    pub fn open() -> io::Result<Self> {
        Tree::detect().map(Self)
    }
}

impl Groups for MachineGroups {
    fn set(&self, group: &str, resources: &Resources) -> Result<(), Error> {
        self.0.create(group, resources).map_err(failed(&format!("control group {group}")))
    }

    fn usage(&self, group: &str) -> Result<GroupUsage, Error> {
        let used = self.0.usage(group).map_err(failed(&format!("control group {group}")))?;
        Ok(GroupUsage {
            cpu_nanoseconds: used.cpu_nanoseconds,
            memory_working_set: used.memory_working_set,
            pids: used.pids,
        })
    }
}
