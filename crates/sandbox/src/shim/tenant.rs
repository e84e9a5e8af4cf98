//! A command in a container that runs: a child of the shim that enters the container's namespaces and control group, and
//! becomes what the container's first process is, of the same user and confined alike.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

use container::privileges::{self, Identity, Limits};
use container::program::Program;
use container::{Configuration, seccomp, terminal};
use nix::sched::{CloneFlags, setns};

use super::control::{self, Control, Made, Word};
use super::{user, user_namespace};
use crate::capabilities;
use crate::cgroup::Tree;
use crate::files::{self, ContainerFiles, Plan};

/// A command. The process that runs this is in the container's process namespace already.
pub(crate) struct Tenant<'a> {
    pub(crate) files: &'a ContainerFiles,
    pub(crate) tree: &'a Tree,
    /// The container's control group.
    pub(crate) group: &'a str,
    pub(crate) made: &'a Made,
    /// The container's first process.
    pub(crate) first: BorrowedFd<'a>,
    pub(crate) has_user_namespace: bool,
    pub(crate) command: &'a [String],
    /// Whether it runs on a terminal of the container's.
    pub(crate) terminal: bool,
}

impl Tenant<'_> {
    /// The work of the shim's child. Returns when the command is not to be.
    pub(crate) fn run(&self, control: &Control) -> Result<(), String> {
        if let Some(workload) = &self.made.workload {
            return Err(format!("a {workload} container runs no other program than its own"));
        }
        let plan: Plan = files::read_record(&self.files.plan()).map_err(|error| error.to_string())?;
        let configuration: Configuration =
            files::read(&self.files.spec()).map_err(|error| error.to_string())?;
        let mut process = configuration.process.clone();
        let Made { uid, gid, groups, home, .. } = self.made.clone();
        let identity = Identity { uid, gid, groups };
        control::own_pipes(user::on_machine(&identity, plan.user_namespace)?);
        self.tree.enter_self(self.group).map_err(|error| format!("control group: {error}"))?;
        control::set_oom_score(process.oom_score_adj);
        let apparmor = control::open_apparmor(process.apparmor_profile.as_ref())?;
        self.enter_namespaces(&configuration)?;
        let _ = nix::unistd::setsid();
        if self.terminal {
            let root = File::open("/").map_err(|error| format!("root: {error}"))?;
            let master = terminal::open(root.as_fd())?.take(identity.uid)?;
            control.say(&Word::Terminal, Some(master.as_fd()))?;
        }
        let privileged = plan.seccomp.as_ref().filter(|filter| filter.privileged);
        let limits = Limits {
            capabilities: capabilities::bits(&process.capabilities.permitted),
            no_new_privileges: process.no_new_privileges,
            filter: privileged,
        };
        privileges::become_user(&identity, limits)?;
        privileges::enter_directory(&process.cwd)?;
        control::complete(&mut process.env, &home, self.terminal);
        let program = Program::find(self.command, &process.env)?;
        privileges::confine(limits)?;
        control::confine_by_apparmor(apparmor.as_ref(), process.apparmor_profile.as_ref())?;
        if let Some(filter) = plan.seccomp.as_ref().filter(|filter| !filter.privileged) {
            seccomp::install(filter).map_err(|error| format!("seccomp: {error}"))?;
        }
        Err(program.execute())
    }

    fn enter_namespaces(&self, configuration: &Configuration) -> Result<(), String> {
        let lost = |error: nix::Error| format!("the container's namespaces: {error}");
        let mut flags = CloneFlags::CLONE_NEWNS;
        flags.set(CloneFlags::CLONE_NEWCGROUP, configuration.linux.has_namespace("cgroup"));
        flags.set(CloneFlags::CLONE_NEWUSER, self.has_user_namespace);
        setns(self.first, flags).map_err(lost)?;
        if self.has_user_namespace {
            user_namespace::be_root().map_err(lost)?;
        }
        Ok(())
    }
}
