//! Networks for real, each test in a network namespace of its own. Needs root; says so and passes without.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)] // a test

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use network::{Config, Error, Network};
use nix::sched::{CloneFlags, setns, unshare};
use rtnetlink::{LinkUnspec, LinkVeth};

mod dual;
mod overlay;
mod policies;
mod services;

/// Runs a test on a machine without any interface but its loopback.
fn with_machine<F: Future<Output = ()>>(test: impl FnOnce(Config, PathBuf) -> F) {
    // A new namespace for this thread alone, which is the test's only one.
    if unshare(CloneFlags::CLONE_NEWNET).is_err() {
        eprintln!("SKIPPED: networks need root");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let config = Config {
        bridge: "mono-test".into(),
        owner: "one".into(),
        subnet: "10.77.0.0/24".parse().unwrap(),
        subnet6: None,
        state_dir: directory.path().join("state"),
        masquerade: true,
        services: Some("10.96.0.0/16".parse().unwrap()),
        services6: None,
        overlay: None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().unwrap();
        let connection = tokio::spawn(connection);
        handle.link().set(LinkUnspec::new_with_name("lo").up().build()).execute().await.unwrap();
        connection.abort();
        test(config, directory.path().to_owned()).await;
    });
}

/// A network namespace, alive as long as its thread.
struct Namespace {
    path: PathBuf,
    _end: std::sync::mpsc::Sender<()>,
}

impl Namespace {
    fn new() -> Self {
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let (told, tell) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let thread = std::fs::read_link("/proc/thread-self").unwrap();
            told.send(Path::new("/proc").join(thread).join("ns/net")).unwrap();
            let _ = ended.recv();
        });
        Self { path: tell.recv().unwrap(), _end: end }
    }

    /// Runs something in it.
    fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let namespace = File::open(&self.path).unwrap();
        let thread = std::thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        });
        thread.join().unwrap()
    }
}

fn interfaces() -> Vec<String> {
    let text = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    text.lines().skip(2).map(|line| line.split(':').next().unwrap().trim().to_owned()).collect()
}

/// Who a server sees when connected to from a namespace.
fn seen(client: &Namespace, listener: &TcpListener, address: SocketAddr) -> IpAddr {
    client.run(move || {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(10)).unwrap();
        stream.write_all(b"x").unwrap();
    });
    let (mut stream, peer) = listener.accept().unwrap();
    stream.read_exact(&mut [0]).unwrap();
    peer.ip()
}

#[test]
fn pods_reach_the_machine_and_each_other() {
    with_machine(async |config, _| {
        let network = Network::open(config).await.unwrap();
        let (one, two) = (Namespace::new(), Namespace::new());
        let first = network.attach("one", &one.path).await.unwrap()[0];
        let second = network.attach("two", &two.path).await.unwrap()[0];
        assert_ne!(first, second);
        let listener = TcpListener::bind((network.gateway(), 0)).unwrap();
        assert_eq!(seen(&one, &listener, listener.local_addr().unwrap()), first);

        let listener = two.run(move || TcpListener::bind((second, 0)).unwrap());
        assert_eq!(seen(&one, &listener, listener.local_addr().unwrap()), first);
        // The loopback is up too.
        one.run(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        // Again gives the same, and works again.
        assert_eq!(network.attach("one", &one.path).await.unwrap(), [first]);
        assert_eq!(seen(&one, &listener, listener.local_addr().unwrap()), first);
        network.teardown().await.unwrap();
    });
}

#[test]
fn the_outside_sees_the_machine_and_not_the_pod() {
    with_machine(async |config, _| {
        let network = Network::open(config).await.unwrap();
        let (pod, outside) = (Namespace::new(), Namespace::new());
        let pod_address = network.attach("pod", &pod.path).await.unwrap()[0];
        let (machine, far) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
        connect(&outside, machine, far).await;
        let listener = outside.run(move || TcpListener::bind((far, 0)).unwrap());
        let seen = seen(&pod, &listener, listener.local_addr().unwrap());
        assert_eq!(seen, IpAddr::V4(machine), "not {pod_address}");
        network.teardown().await.unwrap();
    });
}

/// A cable from this machine to another.
async fn connect(other: &Namespace, near: impl Into<IpAddr>, far: impl Into<IpAddr>) {
    let (connection, handle, _) = rtnetlink::new_connection().unwrap();
    tokio::spawn(connection);
    handle.link().add(LinkVeth::new("uplink", "far").build()).execute().await.unwrap();
    let namespace = File::open(&other.path).unwrap();
    let moved = LinkUnspec::new_with_name("far").setns_by_fd(namespace.as_raw_fd()).build();
    handle.link().set(moved).execute().await.unwrap();
    up(&handle, "uplink", near.into()).await;
    up(&inside(other), "far", far.into()).await;
}

/// Netlink in a namespace.
fn inside(namespace: &Namespace) -> rtnetlink::Handle {
    let runtime = tokio::runtime::Handle::current();
    let (connection, handle, _) = namespace.run(move || {
        let _guard = runtime.enter();
        rtnetlink::new_connection().unwrap()
    });
    tokio::spawn(connection);
    handle
}

async fn index(handle: &rtnetlink::Handle, name: &str) -> u32 {
    use futures::TryStreamExt;
    let mut links = std::pin::pin!(handle.link().get().match_name(name).execute());
    links.try_next().await.unwrap().unwrap().header.index
}

async fn up(handle: &rtnetlink::Handle, name: &str, address: IpAddr) {
    let index = index(handle, name).await;
    add_address(handle, index, address, if address.is_ipv4() { 24 } else { 64 }).await;
    handle.link().set(LinkUnspec::new_with_index(index).up().build()).execute().await.unwrap();
}

/// Gives an interface an address that is used at once.
async fn add_address(handle: &rtnetlink::Handle, index: u32, address: IpAddr, prefix: u8) {
    use rtnetlink::packet_route::address::AddressHeaderFlags;
    let mut request = handle.address().add(index, address, prefix);
    if address.is_ipv6() {
        request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
    }
    request.execute().await.unwrap();
}

#[test]
fn pods_send_no_more_at_once_than_the_uplink_carries() {
    with_machine(async |config, _| {
        use futures::TryStreamExt;
        let network = Network::open(config).await.unwrap();
        let (first, second, outside) = (Namespace::new(), Namespace::new(), Namespace::new());
        network.attach("first", &first.path).await.unwrap();
        let (machine, far) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
        connect(&outside, machine, far).await;
        let (connection, handle, _) = rtnetlink::new_connection().unwrap();
        tokio::spawn(connection);
        let index = index(&handle, "uplink").await;
        let narrow = LinkUnspec::new_with_index(index).mtu(1380).build();
        handle.link().set(narrow).execute().await.unwrap();
        let default = rtnetlink::RouteMessageBuilder::<Ipv4Addr>::new().gateway(far).build();
        handle.route().add(default).execute().await.unwrap();
        network.attach("second", &second.path).await.unwrap();
        for (pod, expected) in [(&first, 1500), (&second, 1380)] {
            let handle = inside(pod);
            let mut links = std::pin::pin!(handle.link().get().match_name("eth0").execute());
            let link = links.try_next().await.unwrap().unwrap();
            let mtu = rtnetlink::packet_route::link::LinkAttribute::Mtu(expected);
            assert!(link.attributes.contains(&mtu), "{:?}", link.attributes);
        }
        network.teardown().await.unwrap();
    });
}

#[test]
fn another_process_goes_on_and_takes_back_what_is_left_over() {
    with_machine(async |config, _| {
        let network = Network::open(config.clone()).await.unwrap();
        let (one, two) = (Namespace::new(), Namespace::new());
        let first = network.attach("one", &one.path).await.unwrap();
        network.attach("two", &two.path).await.unwrap();
        drop(network);
        let network = Network::open(config).await.unwrap();
        network.retain(&["one".to_owned()]).await.unwrap();
        assert_eq!(interfaces().iter().filter(|name| name.starts_with("mp")).count(), 1);
        assert_eq!(network.attach("one", &one.path).await.unwrap(), first);
        network.detach("one").await.unwrap();
        network.detach("one").await.unwrap();
        assert_eq!(interfaces().iter().filter(|name| name.starts_with("mp")).count(), 0);
        network.teardown().await.unwrap();
    });
}

#[test]
fn nothing_is_left_of_a_network_that_is_torn_down() {
    with_machine(async |config, directory| {
        let before = interfaces();
        let network = Network::open(config.clone()).await.unwrap();
        let other = Config {
            bridge: "mono-other".into(),
            subnet: "10.78.0.0/24".parse().unwrap(),
            state_dir: directory.join("other"),
            ..config.clone()
        };
        let other_network = Network::open(other.clone()).await.unwrap();
        let pod = Namespace::new();
        network.attach("pod", &pod.path).await.unwrap();
        network.teardown().await.unwrap();
        assert!(interfaces().contains(&other.bridge));
        assert_eq!(forwarding(), "1");
        drop(other_network);
        // Without opening it, twice.
        Network::remove(&other).await.unwrap();
        Network::remove(&other).await.unwrap();
        assert_eq!(interfaces(), before);
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
    });
}

fn forwarding() -> String {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap().trim().to_owned()
}

#[test]
fn forwarding_is_put_back_as_it_was() {
    with_machine(async |config, _| {
        for before in ["0", "1"] {
            std::fs::write("/proc/sys/net/ipv4/ip_forward", before).unwrap();
            let network = Network::open(config.clone()).await.unwrap();
            assert_eq!(forwarding(), "1");
            network.teardown().await.unwrap();
            assert_eq!(forwarding(), before);
        }
    });
}

#[test]
fn what_cannot_be_attached_keeps_no_address() {
    with_machine(async |config, _| {
        let network = Network::open(config.clone()).await.unwrap();
        let error = network.attach("pod", Path::new("/proc/0/ns/net")).await.unwrap_err();
        assert!(matches!(error, Error::File { .. }), "{error}");
        assert_eq!(interfaces().iter().filter(|name| name.starts_with("mp")).count(), 0);
        network.teardown().await.unwrap();
    });
}

#[test]
fn a_bridge_has_one_owner() {
    with_machine(async |config, directory| {
        let network = Network::open(config.clone()).await.unwrap();
        let other = Config { owner: "two".into(), state_dir: directory.join("two"), ..config.clone() };
        assert!(matches!(Network::open(other.clone()).await, Err(Error::Anothers { .. })));
        // Nor does the other's end take it away.
        Network::remove(&other).await.unwrap();
        assert!(interfaces().contains(&config.bridge));
        drop(network);
        let network = Network::open(config.clone()).await.unwrap();
        network.teardown().await.unwrap();
        assert!(!interfaces().contains(&config.bridge));
        Network::open(other).await.unwrap().teardown().await.unwrap();
    });
}

#[test]
fn an_interface_that_is_not_ours_is_left_alone() {
    with_machine(async |config, _| {
        let (connection, handle, _) = rtnetlink::new_connection().unwrap();
        tokio::spawn(connection);
        handle.link().add(LinkVeth::new(&config.bridge, "somebodys").build()).execute().await.unwrap();
        assert!(matches!(Network::open(config).await, Err(Error::Taken { .. })));
    });
}
