//! Control groups above those of pods: the kubelet decides on them, and whoever holds the machine's makes them.

use crate::{Error, Resources};

/// What a control group uses, with those below it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupUsage {
    /// CPU time used since it was made, in nanoseconds.
    pub cpu_nanoseconds: u64,
    /// Bytes of memory in use that cannot be reclaimed.
    pub memory_working_set: u64,
    /// Processes.
    pub pids: u64,
}

/// The machine's control groups, by paths relative to the hierarchy's root. Calls block for as long as the kernel takes.
pub trait Groups: Send + Sync + 'static {
    /// Makes a group for groups, or takes the one that is there, and sets those of its limits that are given.
    ///
    /// # Errors
    /// When the machine has no control groups, or does not let them be written.
    fn set(&self, group: &str, resources: &Resources) -> Result<(), Error>;

    /// What a group uses.
    ///
    /// # Errors
    /// When there is no such group.
    fn usage(&self, group: &str) -> Result<GroupUsage, Error>;
}
