//! Which capabilities a container gets.

use runtime::SecurityContext;

/// What containers get by default: containerd's set without MKNOD. Nobody but the device cgroup would keep a container from
/// using the nodes that it makes, and that is not there on every machine.
const DEFAULT: [&str; 13] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// All that Linux has, in the kernel's order.
const ALL: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The names, with `CAP_`, in the kernel's order. `available` are those that there are to give, as the kernel numbers them.
/// `devices_limited`: whether the kernel keeps a container from devices that are not given to it. Where it does not,
/// whoever may make a device node has the machine's disks, so nobody unprivileged may.
pub(crate) fn granted(
    security: &SecurityContext,
    available: u64,
    devices_limited: bool,
) -> Result<Vec<String>, String> {
    let known = ALL.iter().enumerate().filter(|(number, _)| available >> number & 1 == 1);
    let known: Vec<&str> = known.map(|(_, name)| *name).collect();
    let plain = |name: &String| {
        let upper = name.to_ascii_uppercase();
        upper.strip_prefix("CAP_").unwrap_or(&upper).to_owned()
    };
    let add: Vec<String> = security.add_capabilities.iter().map(plain).collect();
    let drop: Vec<String> = security.drop_capabilities.iter().map(plain).collect();
    for name in add.iter().chain(&drop) {
        if name != "ALL" && !ALL.contains(&name.as_str()) {
            return Err(format!("capability {name:?} does not exist"));
        }
    }
    if !devices_limited && !security.privileged && add.iter().any(|name| name == "MKNOD") {
        return Err(
            "MKNOD is for privileged containers only on this machine: its cgroups do not limit devices"
                .to_owned(),
        );
    }
    let has = |list: &[String], name: &str| list.iter().any(|listed| listed == name);
    let granted = known.into_iter().filter(|name| {
        if security.privileged {
            return true;
        }
        // A name beats ALL, and of two names dropping wins.
        match (has(&add, name), has(&drop, name)) {
            (_, true) => false,
            (true, false) => true,
            (false, false) if has(&add, "ALL") => devices_limited || *name != "MKNOD",
            (false, false) => !has(&drop, "ALL") && DEFAULT.contains(name),
        }
    });
    Ok(granted.map(|name| format!("CAP_{name}")).collect())
}

/// Names, with `CAP_`, as the kernel numbers them.
pub(crate) fn bits(names: &[String]) -> u64 {
    let has = |name: &str| names.iter().any(|listed| listed.strip_prefix("CAP_") == Some(name));
    ALL.iter().enumerate().filter(|(_, name)| has(name)).fold(0, |bits, (number, _)| bits | 1 << number)
}

/// What this process has itself, and so can give: root may have less than all where it is itself confined.
pub(crate) fn available() -> u64 {
    rustix::thread::capabilities(None).map_or(u64::MAX, |sets| sets.permitted.bits())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(add: &[&str], drop: &[&str], privileged: bool) -> Result<Vec<String>, String> {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let context = SecurityContext {
            privileged,
            add_capabilities: own(add),
            drop_capabilities: own(drop),
            ..SecurityContext::default()
        };
        granted(&context, u64::MAX, true)
    }

    #[test]
    fn names_are_added_and_dropped_as_kubernetes_means_them() {
        assert_eq!(check(&[], &[], false).unwrap().len(), DEFAULT.len());
        assert_eq!(check(&["NET_BIND_SERVICE"], &["ALL"], false).unwrap(), ["CAP_NET_BIND_SERVICE"]);
        assert_eq!(check(&["ALL"], &["SYS_ADMIN"], false).unwrap().len(), ALL.len() - 1);
        assert!(check(&["cap_net_admin"], &[], false).unwrap().contains(&"CAP_NET_ADMIN".to_owned()));
        assert_eq!(check(&[], &[], true).unwrap().len(), ALL.len());
        assert!(check(&["FLY"], &[], false).unwrap_err().contains("FLY"));
        // Who has less gives less.
        let privileged = SecurityContext { privileged: true, ..SecurityContext::default() };
        assert_eq!(granted(&privileged, 0b101, true).unwrap(), ["CAP_CHOWN", "CAP_DAC_READ_SEARCH"]);
    }

    #[test]
    fn who_is_not_kept_from_devices_makes_none() {
        let context = |add: &str, privileged| SecurityContext {
            privileged,
            add_capabilities: vec![add.to_owned()],
            ..SecurityContext::default()
        };
        let all = u64::MAX;
        assert!(granted(&context("MKNOD", false), all, false).unwrap_err().contains("MKNOD"));
        let mknod = "CAP_MKNOD".to_owned();
        assert!(!granted(&context("ALL", false), all, false).unwrap().contains(&mknod));
        assert!(granted(&context("ALL", false), all, true).unwrap().contains(&mknod));
        assert!(granted(&context("MKNOD", true), all, false).unwrap().contains(&mknod));
    }
}
