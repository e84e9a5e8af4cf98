//! Networks of machines on one Linux machine: a network namespace each, with a cable to a switch in one of its own. Nothing
//! of it is reachable from outside.

use std::ffi::OsStr;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use network::{Config, Network};
use nix::sched::{CloneFlags, setns};

/// What machines are plugged into. Dropping it takes all of them away.
pub(crate) struct Switch {
    mark: String,
    hosts: u8,
    /// Removes the namespaces when it is told to, or when this process is killed.
    guard: Child,
}

/// The router of the machines' network, which knows no other one.
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 254);
/// The interface of every machine.
const INTERFACE: &str = "eth0";
/// An address on the switch that nobody has.
const NOBODY: &str = "02:00:00:00:00:01";

impl Switch {
    pub(crate) fn new() -> Self {
        let mark = format!("mt{}", std::process::id());
        let remove = format!(
            "cat > /dev/null; for name in $(ip netns list | cut -d' ' -f1 | grep '^{mark}-'); do ip netns del $name; done"
        );
        let mut guard = Command::new("sh");
        guard.args(["-c", &remove]).stdin(Stdio::piped()).process_group(0);
        let switch = Self { mark, hosts: 0, guard: guard.spawn().expect("a shell") };
        let name = switch.namespace();
        ip(&format!("netns add {name}"));
        ip(&format!("-n {name} link add switch type bridge"));
        ip(&format!("-n {name} addr add {ROUTER}/24 dev switch"));
        ip(&format!("-n {name} link set switch up"));
        switch
    }

    /// Another machine's network.
    pub(crate) fn plug_in(&mut self) -> Host {
        self.hosts += 1;
        let number = self.hosts;
        let host = Host {
            name: format!("{}-{number}", self.mark),
            switch: self.namespace(),
            port: format!("port{number}"),
            router: None,
            address: Ipv4Addr::new(10, 99, 0, number),
        };
        host.make();
        host
    }

    /// Another machine's network, behind a router that shows its own address for what comes out of it: it reaches others, and
    /// nobody reaches it.
    pub(crate) fn hide(&mut self) -> Host {
        let router = self.plug_in();
        let name = format!("{}-hidden", router.name);
        ip(&format!("netns add {name}"));
        let state = tempfile::tempdir().expect("a directory");
        let config = Config {
            bridge: "inside".to_owned(),
            owner: name.clone(),
            subnet: "192.168.77.0/24".parse().expect("a subnet"),
            subnet6: None,
            state_dir: state.path().join("state"),
            masquerade: true,
            services: None,
            services6: None,
            overlay: None,
        };
        let host = Host { name, ..router.clone() };
        let address = route(router.namespace(), config, host.namespace());
        Host { router: Some(router.name), address, ..host }
    }

    fn namespace(&self) -> String {
        format!("{}-switch", self.mark)
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

/// The network of one machine.
#[derive(Clone)]
pub struct Host {
    name: String,
    switch: String,
    port: String,
    /// The network of the router that it is behind.
    router: Option<String>,
    address: Ipv4Addr,
}

impl Host {
    /// The address by which others reach it.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Where the namespace is found.
    pub fn namespace(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    /// A program in this network.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        // Its own mounts: /sys/fs/cgroup stays what it is.
        command.arg(format!("--net={}", self.namespace().display())).arg("--").arg(program);
        command
    }

    /// Whether somebody listens on a port of its address.
    pub(crate) fn listens(&self, port: u16) -> bool {
        let (namespace, at) = (self.namespace(), (self.address, port));
        let asking = std::thread::spawn(move || {
            enter(&namespace);
            TcpStream::connect(at).is_ok()
        });
        asking.join().expect("an end")
    }

    fn make(&self) {
        let Self { name, switch, port, .. } = self;
        ip(&format!("netns add {name}"));
        ip(&format!("-n {switch} link add {port} type veth peer name {INTERFACE} netns {name}"));
        ip(&format!("-n {switch} link set {port} master switch up"));
        ip(&format!("-n {name} link set lo up"));
        self.configure();
    }

    /// Is as after a power cut: nothing is left of what was made in it.
    pub fn begin_anew(&self) {
        ip(&format!("netns del {}", self.name));
        ip(&format!("-n {} link del {}", self.switch, self.port));
        self.make();
    }

    /// Pulls the cable.
    pub fn unplug(&self) {
        ip(&format!("-n {} link set {} down", self.switch, self.port));
    }

    /// Plugs it in again.
    pub fn plug(&self) {
        ip(&format!("-n {} link set {} up", self.switch, self.port));
    }

    /// The router in front of it forgets all connections that go through it, and tells nobody.
    pub fn forget(&self) {
        let router = self.router.as_deref().expect("a router");
        // It takes no packet for the beginning of a connection that is none, as most do.
        let strict = "echo 0 > /proc/sys/net/netfilter/nf_conntrack_tcp_loose";
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{router}")).args(["--", "sh", "-c", strict]);
        assert!(command.status().expect("nsenter runs").success(), "connections cannot be forgotten");
        // What it showed its own address for went by this interface.
        ip(&format!("-n {router} link set {INTERFACE} down"));
        ip(&format!("-n {router} link set {INTERFACE} up"));
        ip(&format!("-n {router} route replace default via {ROUTER}"));
    }

    /// Loses everything that it and another say to each other, silently; what they say to others arrives.
    pub fn cut(&self, other: &Self) {
        for (at, far) in [(self, other), (other, self)] {
            let words =
                format!("neigh replace {} lladdr {NOBODY} dev {INTERFACE} nud permanent", far.address);
            ip(&format!("-n {} {words}", at.name));
        }
    }

    /// Loses nothing of that any more.
    pub fn mend(&self, other: &Self) {
        for (at, far) in [(self, other), (other, self)] {
            ip(&format!("-n {} neigh del {} dev {INTERFACE}", at.name, far.address));
        }
    }

    /// Has another address from now on, and no more the one before.
    pub fn move_to(&mut self, last: u8) {
        ip(&format!("-n {} addr flush dev {INTERFACE}", self.name));
        self.address = Ipv4Addr::new(10, 99, 0, last);
        self.configure();
    }

    fn configure(&self) {
        ip(&format!("-n {} addr add {}/24 dev {INTERFACE}", self.name, self.address));
        ip(&format!("-n {} link set {INTERFACE} up", self.name));
        ip(&format!("-n {} route replace default via {ROUTER}", self.name));
    }
}

/// Makes a router of a namespace, with one machine behind it, whose address is given: what carries pods carries it, too.
fn route(router: PathBuf, config: Config, behind: PathBuf) -> Ipv4Addr {
    let work = move || {
        enter(&router);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let attached = runtime.block_on(async {
            Network::open(config).await.expect("a network").attach("machine", &behind).await
        });
        match attached.expect("a machine")[0] {
            IpAddr::V4(address) => address,
            IpAddr::V6(address) => panic!("{address} is none of the subnet"),
        }
    };
    // A thread is in its own namespace.
    std::thread::spawn(work).join().expect("a router")
}

/// This thread alone goes there.
fn enter(namespace: &Path) {
    setns(File::open(namespace).expect("a namespace"), CloneFlags::CLONE_NEWNET).expect("root");
}

#[track_caller]
fn ip(words: &str) {
    let said = Command::new("ip").args(words.split_whitespace()).output().expect("ip runs");
    assert!(said.status.success(), "ip {words}: {}", String::from_utf8_lossy(&said.stderr));
}
