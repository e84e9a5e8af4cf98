//! A container's first process, from the fork of the shim to the container's program.
//!
//! First it is the machine's root: it mounts the image's layers, finds what is bound, makes the control group ([`prepare`]).
//! Then it is the root of the container, in its namespaces, where all is mounted ([`contain`]); then the container's user,
//! who says that all is made and waits for the start. With a user namespace and a process namespace of its own there are two
//! processes, the first of which ends half-way: the second namespace has to be made from within the first, and only
//! children are in it. So it is where a workload loads its program, which is the machine's work and none of a process 1.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use container::privileges::Identity;
use container::process::{self, ProcessNamespace};
use container::{Configuration, mounts, root, terminal};
use nix::sched::{CloneFlags, setns, unshare};

use super::confinement::Confinement;
use super::control::{self, Control, Made, Word};
use super::workload::{self, Engine, Workloads};
use super::{mounts as sources, rootfs, user, user_namespace};
use crate::cgroup::Tree;
use crate::files::{self, ContainerFiles, Plan};

/// What a container is made of. The namespaces are the pod's.
pub(crate) struct Creation<'a> {
    pub(crate) files: &'a ContainerFiles,
    pub(crate) tree: &'a Tree,
    pub(crate) process_namespace: ProcessNamespace<'a>,
    pub(crate) user_namespace: Option<BorrowedFd<'a>>,
    /// The machine's mount namespace, for those whose mounts are to show there.
    pub(crate) machine: Option<BorrowedFd<'a>>,
    /// Whether a workload is asked.
    pub(crate) is_offered: bool,
    pub(crate) workloads: Workloads,
}

/// What the machine's root has prepared.
struct Prepared {
    configuration: Configuration,
    plan: Plan,
    made: Made,
    /// The container's root, hanging nowhere.
    root: OwnedFd,
    /// One for each of the configuration's mounts.
    bound: Vec<Option<OwnedFd>>,
    /// By which the container's control group is entered.
    groups: Vec<File>,
    engine: Option<Engine>,
}

impl Creation<'_> {
    /// Whether the shim's child is not yet the container's first process.
    pub(crate) fn is_between(&self) -> bool {
        self.is_offered
            || (self.user_namespace.is_some() && matches!(self.process_namespace, ProcessNamespace::New))
    }

    /// The process namespace that the shim's child is to be in.
    pub(crate) fn namespace_of_first(&self) -> ProcessNamespace<'_> {
        if self.is_between() { ProcessNamespace::Inherited } else { self.process_namespace }
    }

    /// The work of the shim's child.
    pub(crate) fn run(&self, control: &Control) -> Result<(), String> {
        let prepared = self.prepare()?;
        if let Some(namespace) = self.user_namespace {
            setns(namespace, CloneFlags::CLONE_NEWUSER)
                .and_then(|()| user_namespace::be_root())
                .map_err(|error| format!("user namespace: {error}"))?;
        }
        if !self.is_between() {
            return self.contain(prepared, control);
        }
        let lost = |error: nix::Error| format!("process namespace: {error}");
        process::enter_for_children(self.process_namespace).map_err(lost)?;
        let first = process::fork(|| control::end_with(control, || self.contain(prepared, control)));
        control.say(&Word::Process(first.map_err(lost)?.as_raw()), None)
    }

    /// What only the machine's root may do.
    fn prepare(&self) -> Result<Prepared, String> {
        let plan: Plan = files::read_record(&self.files.plan()).map_err(|error| error.to_string())?;
        let mut configuration: Configuration =
            files::read(&self.files.spec()).map_err(|error| error.to_string())?;
        let ids = plan.user_namespace;
        if ids.is_some() != self.user_namespace.is_some() {
            return Err(
                "the container and its pod's shim differ on whether the pod has a user namespace".to_owned()
            );
        }
        unshare(CloneFlags::CLONE_NEWNS).map_err(|error| format!("new mount namespace: {error}"))?;
        let mut layers = rootfs::Layers::new(self.user_namespace);
        rootfs::mount_overlay(self.files, &plan, &mut layers)?;
        rootfs::mount_images(&plan.images, &mut layers)?;
        let files = File::open(plan.writable.work(self.files)).map_err(|error| format!("root: {error}"))?;
        let person = user::resolve(&files, &plan.user)?;
        let owner = user::on_machine(&person.identity, ids)?;
        control::own_pipes(owner);
        rootfs::make_directory(&files, &configuration.process.cwd, owner)?;
        let layers = [plan.layers.as_slice(), &[plan.writable.upper(self.files)]].concat();
        let engine =
            workload::offer(self.workloads, plan.workload.as_ref(), &files, &layers, &mut configuration)?;
        let linux = &configuration.linux;
        let groups = self
            .tree
            .create_container(&linux.cgroups_path, &linux.resources, plan.limit_devices)
            .map_err(|error| error.to_string())?;
        let bound =
            sources::open(&configuration.mounts, &plan.parts, self.user_namespace.as_ref(), self.machine)?;
        let root = mounts::copy(&files, false).map_err(|error| format!("root: {error}"))?;
        control::set_oom_score(configuration.process.oom_score_adj);
        let Identity { uid, gid, groups: further } = person.identity;
        let workload = engine.as_ref().map(|engine| engine.name.clone());
        let made = Made { uid, gid, groups: further, home: person.home, workload };
        Ok(Prepared { configuration, plan, made, root, bound, groups, engine })
    }

    /// What the container's root does, and then its user. Returns when the container is not to be.
    fn contain(&self, prepared: Prepared, control: &Control) -> Result<(), String> {
        let Prepared { configuration, plan, made, root, bound, groups, engine } = prepared;
        for group in groups {
            rustix::io::write(&group, b"0").map_err(|error| format!("control group: {error}"))?;
        }
        let process = &configuration.process;
        let confinement = Confinement::new(process, &plan, &made)?;
        self.enter_namespaces(&configuration)?;
        // Ends with an error where the process leads a session already, which is as good.
        let _ = nix::unistd::setsid();
        let tree = root.as_fd();
        root::attach(tree)?;
        mounts::mount_all(tree, &configuration.mounts, bound, self.user_namespace.is_some())?;
        mounts::make_nodes(tree, &configuration.linux.devices)?;
        mounts::mask(tree, &configuration.linux.masked_paths)?;
        mounts::make_readonly(tree, &configuration.linux.readonly_paths)?;
        let terminal = if process.terminal { Some(terminal::open(tree)?) } else { None };
        terminal.as_ref().map_or(Ok(()), |terminal| terminal.bind_console(tree))?;
        root::enter(tree, &configuration)?;
        drop(root);
        let master = terminal.map(|terminal| terminal.take(made.uid)).transpose()?;
        let environment = control::completed(&process.env, &made.home, process.terminal);
        let program = confinement.become_user(&process.args, &environment)?;
        control.say(&Word::Created(made.clone()), master.as_ref().map(AsFd::as_fd))?;
        control.wait_for_start()?;
        if let Some(engine) = engine {
            return Err(engine.run(plan.seccomp.as_ref(), &environment));
        }
        confinement.seal()?;
        Err(program.map_or_else(String::new, |program| program.execute()))
    }

    fn enter_namespaces(&self, configuration: &Configuration) -> Result<(), String> {
        let mut flags = CloneFlags::empty();
        // Once more, for the user namespace to own it.
        flags.set(CloneFlags::CLONE_NEWNS, self.user_namespace.is_some());
        flags.set(CloneFlags::CLONE_NEWCGROUP, configuration.linux.has_namespace("cgroup"));
        if flags.is_empty() {
            return Ok(());
        }
        unshare(flags).map_err(|error| format!("the container's namespaces: {error}"))
    }
}
