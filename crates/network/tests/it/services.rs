//! Virtual addresses, with real pods and connections.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use network::Network;
use network::services::{Balancer, Frontend, Masquerade, Pool, Protocol, Services, Target};

use super::{Namespace, connect, with_machine};

const VIRTUAL: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);

fn frontend(address: Option<Ipv4Addr>, port: u16) -> Frontend {
    Frontend { address: address.unwrap_or(Ipv4Addr::UNSPECIFIED).into(), protocol: Protocol::Tcp, port }
}

/// One Service on the virtual address, and on a port of the machine.
fn one(endpoints: &[SocketAddr], affinity: Option<Duration>) -> Services {
    let mut services = Services::default();
    let pool = Pool { endpoints: endpoints.iter().copied().collect(), affinity };
    services.pools.insert("web".into(), pool);
    let target = |masquerade| Target::new("web", masquerade);
    services.frontends.insert(frontend(Some(VIRTUAL), 80), target(Masquerade::Outsiders));
    services.frontends.insert(frontend(None, 30080), target(Masquerade::Always));
    services
}

/// A server that tells its name, and whom it sees, to whoever connects; ends with its namespace.
pub(super) fn serve(pod: &Namespace, address: IpAddr, name: &'static str) -> SocketAddr {
    let (told, tell) = std::sync::mpsc::channel();
    pod.run(move || {
        let listener = TcpListener::bind((address, 0)).unwrap();
        told.send(listener.local_addr().unwrap()).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let peer = stream.peer_addr().unwrap().ip();
                let _ = write!(stream, "{name} {peer}");
            }
        });
    });
    tell.recv().unwrap()
}

pub(super) fn ask(address: impl Into<IpAddr>, port: u16) -> Result<String, std::io::ErrorKind> {
    let to = SocketAddr::new(address.into(), port);
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5)).map_err(|e| e.kind())?;
    let mut said = String::new();
    stream.read_to_string(&mut said).map_err(|e| e.kind())?;
    Ok(said)
}

pub(super) fn names(asked: impl Iterator<Item = String>) -> BTreeSet<String> {
    asked.map(|said| said.split(' ').next().unwrap().to_owned()).collect()
}

#[test]
fn a_service_spreads_connections_and_follows_its_endpoints() {
    with_machine(async |config, _| {
        let bridge = config.bridge.clone();
        let network = Network::open(config).await.unwrap();
        let (client, first, second) = (Namespace::new(), Namespace::new(), Namespace::new());
        let own = network.attach("client", &client.path).await.unwrap()[0];
        let one_address = network.attach("first", &first.path).await.unwrap()[0];
        let two_address = network.attach("second", &second.path).await.unwrap()[0];
        let (a, b) = (serve(&first, one_address, "first"), serve(&second, two_address, "second"));
        let pods = vec![(IpAddr::from([10, 77, 0, 0]), 24)];
        let mut balancer = Balancer::new(&bridge, pods.clone());

        balancer.apply(&one(&[a, b], None)).unwrap();
        let asked = client.run(|| (0..40).map(|_| ask(VIRTUAL, 80).unwrap()).collect::<Vec<_>>());
        assert_eq!(names(asked.iter().cloned()), BTreeSet::from(["first".into(), "second".into()]));
        // A pod is seen as itself.
        assert!(asked.iter().all(|said| said.ends_with(&own.to_string())), "{asked:?}");
        // The machine reaches it too, and a pod reaches itself by it.
        assert_eq!(names((0..40).map(|_| ask(VIRTUAL, 80).unwrap())).len(), 2);
        let itself = first.run(|| (0..40).map(|_| ask(VIRTUAL, 80).unwrap()).collect::<Vec<_>>());
        assert_eq!(names(itself.into_iter()).len(), 2);

        // An endpoint leaves: what comes later goes to the other one.
        balancer.apply(&one(&[b], None)).unwrap();
        let asked = client.run(|| (0..20).map(|_| ask(VIRTUAL, 80).unwrap()).collect::<Vec<_>>());
        assert_eq!(names(asked.into_iter()), BTreeSet::from(["second".into()]));
        // None is left: refused at once. A new process of the node starts from what is there.
        let mut balancer = Balancer::new(&bridge, pods);
        balancer.apply(&one(&[], None)).unwrap();
        let refused = std::io::ErrorKind::ConnectionRefused;
        assert_eq!(client.run(|| ask(VIRTUAL, 80)), Err(refused));
        assert_eq!(ask(VIRTUAL, 80), Err(refused));
        balancer.apply(&Services::default()).unwrap();
        network.teardown().await.unwrap();
    });
}

#[test]
fn a_client_with_affinity_stays_where_it_is_while_that_is_there() {
    with_machine(async |config, _| {
        let bridge = config.bridge.clone();
        let network = Network::open(config).await.unwrap();
        let (client, first, second) = (Namespace::new(), Namespace::new(), Namespace::new());
        network.attach("client", &client.path).await.unwrap();
        let one_address = network.attach("first", &first.path).await.unwrap()[0];
        let two_address = network.attach("second", &second.path).await.unwrap()[0];
        let (a, b) = (serve(&first, one_address, "first"), serve(&second, two_address, "second"));
        let mut balancer = Balancer::new(&bridge, vec![(IpAddr::from([10, 77, 0, 0]), 24)]);
        let stay = Some(Duration::from_secs(3600));
        balancer.apply(&one(&[a, b], stay)).unwrap();
        let ask_often = || names((0..20).map(|_| ask(VIRTUAL, 80).unwrap()));
        let stayed = client.run(ask_often);
        assert_eq!(stayed.len(), 1);
        let (left, other) = if stayed.contains("first") { (b, "second") } else { (a, "first") };
        balancer.apply(&one(&[left], stay)).unwrap();
        assert_eq!(client.run(ask_often), BTreeSet::from([other.to_owned()]));
        // It stays there when the first one is back.
        balancer.apply(&one(&[a, b], stay)).unwrap();
        assert_eq!(client.run(ask_often), BTreeSet::from([other.to_owned()]));
        network.teardown().await.unwrap();
    });
}

#[test]
fn the_outside_reaches_a_node_port_and_datagrams_find_their_way() {
    with_machine(async |config, _| {
        let bridge = config.bridge.clone();
        let network = Network::open(config).await.unwrap();
        let (pod, outside) = (Namespace::new(), Namespace::new());
        let address = network.attach("pod", &pod.path).await.unwrap()[0];
        let (machine, far) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
        connect(&outside, machine, far).await;
        let endpoint = serve(&pod, address, "pod");
        let mut balancer = Balancer::new(&bridge, vec![(IpAddr::from([10, 77, 0, 0]), 24)]);
        let mut services = one(&[endpoint], None);
        let socket = pod.run(move || UdpSocket::bind((address, 0)).unwrap());
        let echo = socket.local_addr().unwrap();
        services.pools.insert("echo".into(), Pool { endpoints: BTreeSet::from([echo]), affinity: None });
        services.frontends.insert(
            Frontend { protocol: Protocol::Udp, ..frontend(Some(VIRTUAL), 53) },
            Target::new("echo", Masquerade::Outsiders),
        );
        balancer.apply(&services).unwrap();
        let said = outside.run(move || ask(machine, 30080)).unwrap();
        assert_eq!(said, format!("pod {}", network.gateway()));
        // The same port of the other protocol is nobody's.
        assert_eq!(outside.run(move || ask(machine, 53)), Err(std::io::ErrorKind::ConnectionRefused));

        let mine = UdpSocket::bind("0.0.0.0:0").unwrap();
        mine.connect((VIRTUAL, 53)).unwrap();
        mine.send(b"who?").unwrap();
        let mut bytes = [0; 16];
        let (length, from) = socket.recv_from(&mut bytes).unwrap();
        socket.send_to(&bytes[..length], from).unwrap();
        mine.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        assert_eq!(mine.recv(&mut bytes).unwrap(), 4);

        balancer.apply(&one(&[], None)).unwrap();
        assert_eq!(outside.run(move || ask(machine, 30080)), Err(std::io::ErrorKind::ConnectionRefused));
        network.teardown().await.unwrap();
    });
}

#[test]
fn a_thousand_services_are_one_transaction() {
    with_machine(async |config, _| {
        let bridge = config.bridge.clone();
        let network = Network::open(config).await.unwrap();
        let mut services = Services::default();
        for number in 0..1000_u16 {
            let [high, low] = number.to_be_bytes();
            let endpoints = (0..5).map(|n| SocketAddr::from(([10, 77, n, low], 8000 + number))).collect();
            services.pools.insert(format!("s{number}"), Pool { endpoints, affinity: None });
            services.frontends.insert(
                frontend(Some(Ipv4Addr::new(10, 96, high, low)), 80),
                Target::new(format!("s{number}"), Masquerade::Outsiders),
            );
        }
        let mut balancer = Balancer::new(&bridge, vec![(IpAddr::from([10, 77, 0, 0]), 24)]);
        balancer.apply(&services).unwrap();
        services.pools.remove("s7");
        balancer.apply(&services).unwrap();
        balancer.apply(&services).unwrap();
        network.teardown().await.unwrap();
    });
}

/// A Service of datagrams on the virtual address and on a port of the machine.
fn datagrams(endpoints: &[SocketAddr]) -> Services {
    let mut services = Services::default();
    let pool = Pool { endpoints: endpoints.iter().copied().collect(), affinity: None };
    services.pools.insert("echo".into(), pool);
    for (address, port) in [(Some(VIRTUAL), 53), (None, 30053)] {
        let frontend = Frontend { protocol: Protocol::Udp, ..frontend(address, port) };
        services.frontends.insert(frontend, Target::new("echo", Masquerade::Outsiders));
    }
    services
}

#[test]
fn datagrams_of_one_flow_move_at_once_when_their_endpoint_leaves() {
    with_machine(async |config, _| {
        let bridge = config.bridge.clone();
        let network = Network::open(config).await.unwrap();
        let (client, first, second) = (Namespace::new(), Namespace::new(), Namespace::new());
        network.attach("client", &client.path).await.unwrap();
        let bound = |namespace: &Namespace, address: IpAddr| {
            let socket = namespace.run(move || UdpSocket::bind((address, 5353)).unwrap());
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let local = socket.local_addr().unwrap();
            (socket, local)
        };
        let (one, a) = bound(&first, network.attach("first", &first.path).await.unwrap()[0]);
        let (two, b) = bound(&second, network.attach("second", &second.path).await.unwrap()[0]);
        let mut balancer = Balancer::new(&bridge, vec![(IpAddr::from([10, 77, 0, 0]), 24)]);
        // What is asked while nobody answers is remembered by the kernel, too.
        let ask = client.run(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.connect((VIRTUAL, 53)).unwrap();
            socket
        });
        ask.send(b"0").unwrap();
        let mut bytes = [0; 4];
        let mut heard = |socket: &UdpSocket| {
            let (length, from) = socket.recv_from(&mut bytes).unwrap();
            socket.send_to(b"!", from).unwrap();
            bytes[..length].to_vec()
        };
        balancer.apply(&datagrams(&[a])).unwrap();
        // An answer that nobody listens there may be on its way.
        while ask.send(b"1").is_err() {}
        assert_eq!(heard(&one), b"1");
        balancer.apply(&datagrams(&[b])).unwrap();
        ask.send(b"2").unwrap();
        assert_eq!(heard(&two), b"2");
        // Another process does not know what was there before.
        let mut balancer = Balancer::new(&bridge, vec![(IpAddr::from([10, 77, 0, 0]), 24)]);
        balancer.apply(&datagrams(&[a])).unwrap();
        ask.send(b"3").unwrap();
        assert_eq!(heard(&one), b"3");
        // One that is still there keeps its flows.
        balancer.apply(&datagrams(&[a, b])).unwrap();
        ask.send(b"4").unwrap();
        assert_eq!(heard(&one), b"4");
        // None is left: the client is told at once. Answers come first.
        balancer.apply(&datagrams(&[])).unwrap();
        ask.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        ask.send(b"5").unwrap();
        let told = std::iter::repeat_with(|| ask.recv(&mut [0; 4])).find_map(Result::err);
        assert_eq!(told.map(|error| error.kind()), Some(std::io::ErrorKind::ConnectionRefused));
        network.teardown().await.unwrap();
    });
}

#[test]
fn a_port_of_the_machine_knows_its_sources_and_its_own() {
    with_machine(async |config, _| {
        let bridge = config.bridge.clone();
        let network = Network::open(config).await.unwrap();
        let (pod, near, outside) = (Namespace::new(), Namespace::new(), Namespace::new());
        let own = network.attach("near", &near.path).await.unwrap()[0];
        let address = network.attach("pod", &pod.path).await.unwrap()[0];
        let (machine, far) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
        connect(&outside, machine, far).await;
        let endpoint = serve(&pod, address, "pod");
        let mut services = one(&[endpoint], None);
        services.pools.insert("nobody".into(), Pool::default());
        let local = Target { insiders: Some("web".into()), ..Target::new("nobody", Masquerade::Never) };
        services.frontends.insert(frontend(None, 30081), local);
        let only = |from: [u8; 4]| Some(BTreeSet::from([(IpAddr::from(from), 32)]));
        let known = Target { sources: only([192, 0, 2, 2]), ..Target::new("web", Masquerade::Never) };
        let unknown = Target { sources: only([192, 0, 2, 3]), ..known.clone() };
        services.frontends.insert(frontend(None, 30082), known);
        services.frontends.insert(frontend(None, 30083), unknown);
        let mut balancer = Balancer::new(&bridge, vec![(IpAddr::from([10, 77, 0, 0]), 24)]);
        balancer.apply(&services).unwrap();

        // No endpoint is here, which is nothing to those who are.
        assert_eq!(near.run(move || ask(machine, 30081)), Ok(format!("pod {own}")));
        assert_eq!(ask(machine, 30081), Ok(format!("pod {}", network.gateway())));
        let vanishes = move |port| {
            let to = SocketAddr::new(machine.into(), port);
            TcpStream::connect_timeout(&to, Duration::from_millis(300)).map_err(|e| e.kind()).err()
        };
        let timed_out = Some(std::io::ErrorKind::TimedOut);
        assert_eq!(outside.run(move || vanishes(30081)), timed_out);
        // Those who may, see the pod, and it sees them.
        assert_eq!(outside.run(move || ask(machine, 30082)), Ok(format!("pod {far}")));
        assert_eq!(outside.run(move || vanishes(30083)), timed_out);
        network.teardown().await.unwrap();
    });
}
