//! Pods with addresses of both families, for real.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use network::services::{Balancer, Frontend, Masquerade, Pool, Protocol, Services, Target};
use network::{Config, Error, Network};

use super::services::{ask, names, serve};
use super::{Namespace, add_address, connect, index, inside, interfaces, seen, with_machine};

const FORWARDING: &str = "/proc/sys/net/ipv6/conf/all/forwarding";
const VIRTUAL: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, 0x10);
/// The machine and another one, on a cable between them.
const MACHINE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const FAR: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);

/// The same network with addresses of IPv6.
pub(super) fn dual(config: Config) -> Config {
    Config {
        subnet6: Some("fd00:77::/64".parse().unwrap()),
        services6: Some("fd00:96::/112".parse().unwrap()),
        ..config
    }
}

/// A pod, and its address of IPv6.
async fn pod(network: &Network, name: &str) -> (Namespace, IpAddr) {
    let namespace = Namespace::new();
    let addresses = network.attach(name, &namespace.path).await.unwrap();
    assert_eq!(addresses.iter().map(IpAddr::is_ipv6).collect::<Vec<_>>(), [false, true]);
    (namespace, addresses[1])
}

#[test]
fn pods_reach_the_machine_each_other_and_the_outside() {
    with_machine(async |config, _| {
        let network = Network::open(dual(config)).await.unwrap();
        let gateway = network.gateway6().unwrap();
        let ((one, first), (two, second)) = (pod(&network, "one").await, pod(&network, "two").await);
        assert_eq!(
            (first.to_string(), second.to_string()),
            ("fd00:77::2".to_owned(), "fd00:77::3".to_owned())
        );
        let on_machine = TcpListener::bind((gateway, 0)).unwrap();
        assert_eq!(seen(&one, &on_machine, on_machine.local_addr().unwrap()), first);
        let in_pod = two.run(move || TcpListener::bind((second, 0)).unwrap());
        let at = in_pod.local_addr().unwrap();
        assert_eq!(seen(&one, &in_pod, at), first);
        // What the machine begins comes from its address among the pods.
        let asked = std::thread::spawn(move || ask(second, at.port()));
        assert_eq!(in_pod.accept().unwrap().1.ip(), IpAddr::V6(gateway));
        drop(in_pod);
        let _ = asked.join().unwrap();
        // No pod has it: told at once.
        let nobody = one.run(|| ask("fd00:77::99".parse::<Ipv6Addr>().unwrap(), 80));
        assert!(
            matches!(nobody, Err(ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable)),
            "{nobody:?}"
        );

        let outside = Namespace::new();
        connect(&outside, MACHINE, FAR).await;
        let listener = outside.run(move || TcpListener::bind((FAR, 0)).unwrap());
        assert_eq!(seen(&one, &listener, listener.local_addr().unwrap()), IpAddr::V6(MACHINE));
        // Again gives the same, and works again.
        assert_eq!(network.attach("one", &one.path).await.unwrap()[1], first);
        assert_eq!(seen(&one, &on_machine, on_machine.local_addr().unwrap()), first);
        network.teardown().await.unwrap();
    });
}

#[test]
fn what_is_not_sent_by_a_pods_own_address_goes_nowhere() {
    with_machine(async |config, _| {
        let network = Network::open(dual(config)).await.unwrap();
        let ((one, own), (two, victim)) = (pod(&network, "one").await, pod(&network, "two").await);
        let stolen: Ipv6Addr = "2001:db8::66".parse().unwrap();
        let handle = inside(&one);
        let eth0 = index(&handle, "eth0").await;
        for address in [victim, IpAddr::V6(stolen)] {
            add_address(&handle, eth0, address, 128).await;
        }
        let on_machine = UdpSocket::bind((network.gateway6().unwrap(), 0)).unwrap();
        let (third, at) = pod(&network, "three").await;
        let in_pod = third.run(move || UdpSocket::bind((at, 0)).unwrap());
        for socket in [on_machine, in_pod] {
            let to = socket.local_addr().unwrap();
            one.run(move || {
                for source in [victim, IpAddr::V6(stolen), own] {
                    UdpSocket::bind((source, 0)).unwrap().send_to(b"?", to).unwrap();
                }
            });
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            // They came one after the other: the first that arrives is the honest one.
            assert_eq!(socket.recv_from(&mut [0; 4]).unwrap().1.ip(), own);
        }
        drop(two);
        network.teardown().await.unwrap();
    });
}

fn frontend(address: Ipv6Addr, port: u16, protocol: Protocol) -> Frontend {
    Frontend { address: address.into(), protocol, port }
}

/// One Service on the virtual address, and on a port of the machine.
fn one(endpoints: &[SocketAddr], affinity: Option<Duration>) -> Services {
    let mut services = Services::default();
    let pool = Pool { endpoints: endpoints.iter().copied().collect(), affinity };
    services.pools.insert("web".into(), pool);
    for (frontend, masquerade) in [
        (frontend(VIRTUAL, 80, Protocol::Tcp), Masquerade::Outsiders),
        (frontend(Ipv6Addr::UNSPECIFIED, 30080, Protocol::Tcp), Masquerade::Always),
        (frontend(VIRTUAL, 53, Protocol::Udp), Masquerade::Outsiders),
    ] {
        services.frontends.insert(frontend, Target::new("web", masquerade));
    }
    services
}

#[test]
fn services_are_reached_by_pods_the_machine_and_the_outside() {
    with_machine(async |config, _| {
        let config = dual(config);
        let subnet = config.subnet6.unwrap();
        let mut balancer =
            Balancer::new(&config.bridge, vec![(IpAddr::V6(subnet.network()), subnet.prefix())]);
        let network = Network::open(config).await.unwrap();
        let ((client, own), (first, a)) = (pod(&network, "client").await, pod(&network, "first").await);
        let (second, b) = pod(&network, "second").await;
        let outside = Namespace::new();
        connect(&outside, MACHINE, FAR).await;
        let (a, b) = (serve(&first, a, "first"), serve(&second, b, "second"));
        balancer.apply(&one(&[a, b], None)).unwrap();
        let asked = client.run(|| (0..40).map(|_| ask(VIRTUAL, 80).unwrap()).collect::<Vec<_>>());
        assert_eq!(names(asked.iter().cloned()).len(), 2);
        assert!(asked.iter().all(|said| said.ends_with(&own.to_string())), "{asked:?}");
        // The machine reaches it too, a pod reaches itself by it, and the outside by a port of the machine.
        assert_eq!(names((0..40).map(|_| ask(VIRTUAL, 80).unwrap())).len(), 2);
        let itself = first.run(|| (0..40).map(|_| ask(VIRTUAL, 80).unwrap()).collect::<Vec<_>>());
        assert_eq!(names(itself.into_iter()).len(), 2);
        let said = outside.run(|| ask(MACHINE, 30080)).unwrap();
        assert!(said.ends_with(&network.gateway6().unwrap().to_string()), "{said}");

        let stay = Some(Duration::from_secs(3600));
        balancer.apply(&one(&[a, b], stay)).unwrap();
        let ask_often = || names((0..20).map(|_| ask(VIRTUAL, 80).unwrap()));
        let stayed = client.run(ask_often);
        assert_eq!(stayed.len(), 1);
        let (left, other) = if stayed.contains("first") { (b, "second") } else { (a, "first") };
        balancer.apply(&one(&[left], stay)).unwrap();
        assert_eq!(client.run(ask_often), BTreeSet::from([other.to_owned()]));

        balancer.apply(&one(&[], None)).unwrap();
        let refused = Err(ErrorKind::ConnectionRefused);
        assert_eq!(client.run(|| ask(VIRTUAL, 80)), refused);
        assert_eq!(outside.run(|| ask(MACHINE, 30080)), refused);
        assert_eq!(ask(VIRTUAL, 80), refused);
        network.teardown().await.unwrap();
    });
}

#[test]
fn datagrams_of_one_flow_move_when_their_endpoint_leaves() {
    with_machine(async |config, _| {
        let config = dual(config);
        let mut balancer = Balancer::new(&config.bridge, Vec::new());
        let network = Network::open(config).await.unwrap();
        let ((client, _), (first, a)) = (pod(&network, "client").await, pod(&network, "first").await);
        let (second, b) = pod(&network, "second").await;
        let bound = |namespace: &Namespace, address: IpAddr| {
            let socket = namespace.run(move || UdpSocket::bind((address, 5353)).unwrap());
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            socket
        };
        let (a, b) = (bound(&first, a), bound(&second, b));
        balancer.apply(&one(&[a.local_addr().unwrap()], None)).unwrap();
        let ask = client.run(|| {
            let socket = UdpSocket::bind("[::]:0").unwrap();
            socket.connect((VIRTUAL, 53)).unwrap();
            socket
        });
        let mut bytes = [0; 4];
        ask.send(b"1").unwrap();
        a.recv_from(&mut bytes).unwrap();
        balancer.apply(&one(&[b.local_addr().unwrap()], None)).unwrap();
        ask.send(b"2").unwrap();
        b.recv_from(&mut bytes).unwrap();
        assert_eq!(bytes[0], b'2');
        network.teardown().await.unwrap();
    });
}

#[test]
fn the_machine_is_left_as_it_was() {
    with_machine(async |config, directory| {
        let routes = || std::fs::read_to_string("/proc/thread-self/net/ipv6_route").unwrap();
        let (forwarding, before) = (|| std::fs::read_to_string(FORWARDING).unwrap(), interfaces());
        let single = Network::open(config.clone()).await.unwrap();
        // Nobody asked for IPv6: it stays as it is, and pods do not reach the machine by it.
        assert_eq!(forwarding().trim(), "0");
        let namespace = Namespace::new();
        assert_eq!(single.attach("pod", &namespace.path).await.unwrap().len(), 1);
        let end = interfaces().into_iter().find(|name| name.starts_with("mp")).unwrap();
        let off = std::fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{end}/disable_ipv6")).unwrap();
        assert_eq!(off.trim(), "1");
        drop(single);

        // A network may get addresses of IPv6 later on: pods that are there keep what they have.
        let network = Network::open(dual(config.clone())).await.unwrap();
        assert_eq!(forwarding().trim(), "1");
        pod(&network, "new").await;
        assert!(routes().contains("fd000077000000000000000000000003"));
        drop(network);
        let other = Config {
            bridge: "mono-other".into(),
            subnet: "10.78.0.0/24".parse().unwrap(),
            subnet6: Some("fd00:78::/64".parse().unwrap()),
            state_dir: directory.join("other"),
            ..config.clone()
        };
        let other_network = Network::open(other).await.unwrap();
        Network::remove(&dual(config)).await.unwrap();
        assert_eq!(forwarding().trim(), "1", "the other network needs it");
        assert!(!routes().contains("fd00007700"), "{}", routes());
        other_network.teardown().await.unwrap();
        assert_eq!(forwarding().trim(), "0", "and nobody else");
        assert_eq!(interfaces(), before);
        assert!(!routes().contains("fd0000"), "{}", routes());
    });
}

#[test]
fn forwarding_is_put_back() {
    with_machine(async |config, _| {
        for before in ["0", "1"] {
            std::fs::write(FORWARDING, before).unwrap();
            let network = Network::open(dual(config.clone())).await.unwrap();
            assert_eq!(std::fs::read_to_string(FORWARDING).unwrap().trim(), "1");
            network.teardown().await.unwrap();
            assert_eq!(std::fs::read_to_string(FORWARDING).unwrap().trim(), before);
        }
    });
}

#[test]
fn a_subnet_without_room_for_all_pods_is_refused() {
    with_machine(async |config, _| {
        let narrow = Config { subnet6: Some("fd00:77::/121".parse().unwrap()), ..config };
        let refused = Network::open(narrow).await.err().unwrap();
        assert!(matches!(&refused, Error::Invalid(why) if why.contains("fewer addresses")), "{refused}");
    });
}
