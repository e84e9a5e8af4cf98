//! A command in a container that runs: a child of the shim that enters the container's namespaces and control group, and
//! becomes what the container's first process is, of the same user and confined alike.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

use container::privileges::Identity;
use container::{Configuration, terminal};
use nix::sched::{CloneFlags, setns};

use super::confinement::Confinement;
use super::control::{self, Control, Made, Word};
use super::{user, user_namespace};
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
        let process = &configuration.process;
        let Made { uid, gid, groups, home, .. } = self.made;
        let identity = Identity { uid: *uid, gid: *gid, groups: groups.clone() };
        control::own_pipes(user::on_machine(&identity, plan.user_namespace)?);
        self.tree.enter_self(self.group).map_err(|error| format!("control group: {error}"))?;
        control::set_oom_score(process.oom_score_adj);
        let confinement = Confinement::new(process, &plan, self.made)?;
        self.enter_namespaces(&configuration)?;
        let _ = nix::unistd::setsid();
        if self.terminal {
            let root = File::open("/").map_err(|error| format!("root: {error}"))?;
            let master = terminal::open(root.as_fd())?.take(identity.uid)?;
            control.say(&Word::Terminal, Some(master.as_fd()))?;
        }
        let environment = control::completed(&process.env, home, self.terminal);
        let program = confinement.become_user(self.command, &environment)?;
        confinement.seal()?;
        Err(program.map_or_else(String::new, |program| program.execute()))
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
