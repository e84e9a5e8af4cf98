//! What the edge gives up before it runs anybody else's code: system calls that no component host needs and that a guest
//! which escaped would want.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

/// Calls that change the machine, look into other processes, or widen the kernel's surface. They fail with EPERM.
const REFUSED: &[libc::c_long] = &[
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_delete_module,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pivot_root,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
];

/// Namespaces that a new process could be born into: a user namespace makes anybody root of a kernel's lesser-tried half.
const NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWUTS,
];

/// Gives them up, for this process and all it starts, for good.
///
/// # Errors
/// When the kernel has no seccomp; the caller decides whether to go on without.
pub fn give_up() -> Result<()> {
    let arch: TargetArch =
        std::env::consts::ARCH.try_into().context("this architecture has no seccomp filter")?;
    let mut rules: BTreeMap<i64, Vec<_>> = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    rules.insert(libc::SYS_clone, NAMESPACES.into_iter().map(born_into).collect::<Result<_>>()?);
    apply(rules, libc::EPERM, arch)?;
    // Its flags lie in memory, where a filter cannot look. Told that there is no such call, everybody takes `clone`.
    apply([(libc::SYS_clone3, Vec::new())].into(), libc::ENOSYS, arch)
}

fn born_into(namespace: libc::c_int) -> Result<SeccompRule> {
    let flag = u64::from(namespace.unsigned_abs());
    let asked = SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(flag), flag);
    SeccompRule::new(vec![asked.context("building the filter")?]).context("building the filter")
}

fn apply(rules: BTreeMap<i64, Vec<SeccompRule>>, error: libc::c_int, arch: TargetArch) -> Result<()> {
    let refused = SeccompAction::Errno(error.unsigned_abs());
    let filter =
        SeccompFilter::new(rules, SeccompAction::Allow, refused, arch).context("building the filter")?;
    let program: BpfProgram = filter.try_into().context("compiling the filter")?;
    seccompiler::apply_filter(&program).context("the kernel refused the filter")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A filter binds the thread that applies it, and what it starts.
    #[test]
    fn threads_and_processes_start_and_namespaces_do_not() {
        let confined = std::thread::spawn(|| {
            give_up().unwrap();
            std::thread::spawn(|| ()).join().unwrap();
            let status = std::process::Command::new("true").status().unwrap();
            let namespace = std::process::Command::new("unshare").args(["--uts", "true"]).output();
            (status.success(), namespace.map(|output| output.status.success()).unwrap_or(false))
        });
        assert_eq!(confined.join().unwrap(), (true, false));
    }
}
