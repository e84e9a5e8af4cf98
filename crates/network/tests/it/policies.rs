//! Policies, with real pods and connections.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use network::Network;
use network::policies::{Beginning, Block, Filter, Isolation, Peers, Policies, Policy, Ports, Rule};
use network::services::Protocol;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::dual::dual;
use super::{Namespace, with_machine};

const PORTS: [u16; 3] = [80, 81, 82];

/// What the first pods of the test's network get.
fn pod(number: u8) -> IpAddr {
    Ipv4Addr::new(10, 77, 0, 2 + number).into()
}

/// The address of IPv6 that goes with one of a pod's.
fn six(address: IpAddr) -> IpAddr {
    let IpAddr::V4(address) = address else { panic!("{address} is of IPv6") };
    Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, u16::from(address.octets()[3])).into()
}

/// The same for pods' addresses of both families.
fn both(policies: &Policies) -> Policies {
    let network = |(address, prefix): (IpAddr, u8)| (six(address), prefix + 96);
    let block = |block: &Block| Block {
        network: network(block.network),
        except: block.except.iter().copied().map(network).collect(),
    };
    let peers = |peers: &mut Peers| {
        peers.pods.extend(peers.pods.clone().into_iter().map(six));
        peers.blocks.extend(peers.blocks.clone().iter().map(block));
    };
    let mut policies = policies.clone();
    let all = policies.policies.values_mut();
    for rule in all.flat_map(|policy| policy.ingress.iter_mut().chain(&mut policy.egress)) {
        rule.peers.iter_mut().for_each(peers);
        for ports in rule.ports.iter_mut().flatten() {
            if let Ports::Named(_, places) = ports {
                let further = places.iter().map(|place| SocketAddr::new(six(place.ip()), place.port()));
                places.extend(further.collect::<Vec<_>>());
            }
        }
    }
    policies.pods.extend(policies.pods.clone().into_iter().map(|(pod, isolation)| (six(pod), isolation)));
    policies
}

/// Takes connections on all ports, for as long as the namespace is there.
fn serve(namespace: &Namespace, address: IpAddr) {
    namespace.run(move || {
        for port in PORTS {
            let listener = TcpListener::bind((address, port)).unwrap();
            std::thread::spawn(move || listener.incoming().for_each(drop));
        }
    });
}

/// Whether a connection comes about; anything but a refusal at once is a failure.
fn reaches(to: SocketAddr) -> bool {
    match TcpStream::connect_timeout(&to, Duration::from_secs(10)) {
        Ok(_) => true,
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => false,
        Err(error) => panic!("{to}: {error}"),
    }
}

fn peers() -> impl Strategy<Value = Peers> {
    let address = || (0..4_u8).prop_map(pod);
    let network = (address(), 29..=32_u8);
    let block = (network, prop::collection::vec((address(), 31..=32_u8), 0..3));
    let block = block.prop_map(|(network, except)| Block { network, except });
    let pods = prop::collection::btree_set(address(), 0..3);
    (pods, prop::collection::vec(block, 0..2)).prop_map(|(pods, blocks)| Peers { pods, blocks })
}

fn ports() -> impl Strategy<Value = Ports> {
    let port = || prop::sample::select(&PORTS[..]);
    let protocol = || prop::sample::select(&[Protocol::Tcp, Protocol::Tcp, Protocol::Udp][..]);
    let place = ((0..3_u8).prop_map(pod), port()).prop_map(SocketAddr::from);
    let places = prop::collection::btree_set(place, 0..4);
    prop_oneof![
        (protocol(), port(), 0..2_u16).prop_map(|(protocol, port, more)| Ports::Range(
            protocol,
            port,
            port + more
        )),
        (protocol(), places).prop_map(|(protocol, places)| Ports::Named(protocol, places)),
    ]
}

fn policies() -> impl Strategy<Value = Policies> {
    let rule = (prop::option::of(peers()), prop::option::of(prop::collection::vec(ports(), 0..3)));
    let rule = rule.prop_map(|(peers, ports)| Rule { peers, ports }).boxed();
    let rules = || prop::collection::vec(rule.clone(), 0..3);
    let policy = (rules(), rules()).prop_map(|(ingress, egress)| Policy { ingress, egress });
    let names = || prop::collection::btree_set((0..3_u8).prop_map(|n| format!("p{n}")), 0..3);
    let isolation = (names(), names()).prop_map(|(ingress, egress)| Isolation { ingress, egress });
    (prop::collection::vec(policy, 3), prop::collection::btree_map((0..3_u8).prop_map(pod), isolation, 0..4))
        .prop_map(|(all, pods)| Policies {
            policies: (0..).zip(all).map(|(n, policy)| (format!("p{n}"), policy)).collect(),
            pods,
        })
}

#[test]
fn the_kernel_decides_as_the_values_say() {
    with_machine(async |config, _| {
        let bridge = config.bridge.clone();
        let network = Network::open(dual(config)).await.unwrap();
        let pods: Vec<Namespace> = (0..3).map(|_| Namespace::new()).collect();
        for (number, namespace) in (0..).zip(&pods) {
            let addresses = network.attach(&number.to_string(), &namespace.path).await.unwrap();
            assert_eq!(addresses, [pod(number), six(pod(number))]);
            addresses.into_iter().for_each(|address| serve(namespace, address));
        }
        // One filter for all cases: each is a change of the one before.
        let filter = std::cell::RefCell::new(Filter::new(&bridge));
        let mut runner =
            TestRunner::new(Config { cases: 40, failure_persistence: None, ..Config::default() });
        let outcome = runner.run(&policies(), |policies| {
            let policies = both(&policies);
            filter.borrow_mut().apply(&policies).unwrap();
            for (from, namespace) in (0..).zip(&pods) {
                let addresses = (0..3).flat_map(|to| [pod(to), six(pod(to))]);
                let all = addresses.flat_map(|to| PORTS.map(|port| SocketAddr::new(to, port)));
                let all: Vec<SocketAddr> = all.collect();
                let asked = all.clone();
                let found: Vec<bool> = namespace.run(move || asked.into_iter().map(reaches).collect());
                for (destination, found) in all.into_iter().zip(found) {
                    let source = if destination.is_ipv6() { six(pod(from)) } else { pod(from) };
                    let beginning = Beginning { source, destination, protocol: Protocol::Tcp };
                    prop_assert_eq!(found, policies.admit(&beginning), "{:?}", beginning);
                }
            }
            Ok(())
        });
        outcome.unwrap_or_else(|error| panic!("{error}"));
        // The machine is not judged.
        assert!(
            (0..3).all(|to| [pod(to), six(pod(to))].into_iter().all(|to| reaches(SocketAddr::new(to, 80))))
        );
        network.teardown().await.unwrap();
    });
}

/// Nobody reaches the first pod.
fn closed() -> Policies {
    let names = BTreeSet::from(["closed".to_owned()]);
    Policies {
        policies: BTreeMap::from([("closed".to_owned(), Policy::default())]),
        pods: BTreeMap::from([(pod(0), Isolation { ingress: names, ..Isolation::default() })]),
    }
}

#[test]
fn what_has_begun_goes_on_and_what_begins_is_judged() {
    with_machine(async |config, _| {
        let bridge = config.bridge.clone();
        let network = Network::open(config).await.unwrap();
        let (server, client) = (Namespace::new(), Namespace::new());
        network.attach("server", &server.path).await.unwrap();
        network.attach("client", &client.path).await.unwrap();
        let echo = server.run(|| UdpSocket::bind((pod(0), 53)).unwrap());
        let ask = client.run(|| {
            let socket = UdpSocket::bind((pod(1), 0)).unwrap();
            socket.connect((pod(0), 53)).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            socket
        });
        let mut bytes = [0; 4];
        let mut round = |ask: &UdpSocket| {
            ask.send(b"a").unwrap();
            let (_, from) = echo.recv_from(&mut bytes).unwrap();
            echo.send_to(b"b", from).unwrap();
            ask.recv(&mut bytes).unwrap();
        };
        round(&ask);
        let mut filter = Filter::new(&bridge);
        filter.apply(&closed()).unwrap();
        round(&ask);
        let late = client.run(|| {
            let socket = UdpSocket::bind((pod(1), 0)).unwrap();
            socket.connect((pod(0), 53)).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            socket
        });
        late.send(b"a").unwrap();
        assert_eq!(late.recv(&mut [0; 4]).unwrap_err().kind(), ErrorKind::HostUnreachable);
        // Another process of the node makes the tables anew, without letting anything through in between.
        let mut filter = Filter::new(&bridge);
        filter.apply(&closed()).unwrap();
        round(&ask);
        filter.apply(&Policies::default()).unwrap();
        round(&late);
        network.teardown().await.unwrap();
    });
}

#[test]
fn a_thousand_pods_and_policies_are_one_transaction() {
    with_machine(async |config, _| {
        let bridge = config.bridge.clone();
        let network = Network::open(config).await.unwrap();
        let mut policies = Policies::default();
        let pods: Vec<IpAddr> =
            (0..1000_u16).map(|n| IpAddr::from([10, 78, n.to_be_bytes()[0], n.to_be_bytes()[1]])).collect();
        for (number, pod) in pods.iter().enumerate() {
            let name = format!("p{}", number % 300);
            let peers =
                Peers { pods: pods.iter().skip(number).take(20).copied().collect(), ..Peers::default() };
            let rule = Rule { peers: Some(peers), ports: Some(vec![Ports::Range(Protocol::Tcp, 80, 80)]) };
            policies
                .policies
                .insert(name.clone(), Policy { ingress: vec![rule.clone()], egress: vec![rule] });
            let names = BTreeSet::from([name]);
            policies.pods.insert(*pod, Isolation { ingress: names.clone(), egress: names });
        }
        let mut filter = Filter::new(&bridge);
        filter.apply(&policies).unwrap();
        policies.pods.remove(&pods[7]);
        policies.policies.remove("p8");
        policies.pods.remove(&pods[8]);
        filter.apply(&policies).unwrap();
        filter.apply(&policies).unwrap();
        filter.apply(&Policies::default()).unwrap();
        network.teardown().await.unwrap();
    });
}
