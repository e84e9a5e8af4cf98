//! What a container's program is made to be just before it is executed: of its user, with its privileges, behind its filters.
//! A container's first process and the commands in it go the same steps, whose order is what keeps them confined.

use std::fs::File;

use container::Process;
use container::privileges::{self, Identity, Limits};
use container::program::Program;
use container::seccomp;

use super::control::{self, Made};
use crate::capabilities;
use crate::files::Plan;

/// The steps, for one process.
pub(crate) struct Confinement<'a> {
    process: &'a Process,
    plan: &'a Plan,
    made: &'a Made,
    /// Where the program's AppArmor profile is written; `None`: it has none.
    apparmor: Option<File>,
}

impl<'a> Confinement<'a> {
    /// To be called while the machine's `/proc` is there.
    pub(crate) fn new(process: &'a Process, plan: &'a Plan, made: &'a Made) -> Result<Self, String> {
        // An engine is the machine's program, and confines itself.
        let profile = process.apparmor_profile.as_ref().filter(|_| made.workload.is_none());
        Ok(Self { process, plan, made, apparmor: control::open_apparmor(profile)? })
    }

    /// Becomes the user, and finds what is executed; `None` where that is an engine. The caller is the container's root.
    pub(crate) fn become_user(
        &self,
        command: &[String],
        environment: &[String],
    ) -> Result<Option<Program>, String> {
        let has_engine = self.made.workload.is_some();
        let limits = Limits {
            capabilities: capabilities::bits(&self.process.capabilities.permitted),
            no_new_privileges: self.process.no_new_privileges,
            // An engine needs no privilege to be confined: it never gains any.
            filter: self.plan.seccomp.as_ref().filter(|filter| filter.privileged && !has_engine),
        };
        let Made { uid, gid, groups, .. } = self.made;
        privileges::become_user(&Identity { uid: *uid, gid: *gid, groups: groups.clone() }, limits)?;
        privileges::enter_directory(&self.process.cwd)?;
        let program = if has_engine { None } else { Some(Program::find(command, environment)?) };
        privileges::confine(limits)?;
        Ok(program)
    }

    /// The very last: whatever else is called after it, a profile would have to allow.
    pub(crate) fn seal(&self) -> Result<(), String> {
        control::confine_by_apparmor(self.apparmor.as_ref(), self.process.apparmor_profile.as_ref())?;
        match self.plan.seccomp.as_ref().filter(|filter| !filter.privileged) {
            Some(filter) => seccomp::install(filter).map_err(|error| format!("seccomp: {error}")),
            None => Ok(()),
        }
    }
}
