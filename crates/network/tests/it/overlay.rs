//! Pods of two machines, each with a network of its own, and a cable between them.

use network::overlay::{Ends, LinkAddress, Local, Overlay, Peer, Tunnels};

use super::*;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
const HERE6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
const THERE6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2));

fn at(address: IpAddr, tunnels: Tunnels) -> Option<Local> {
    Some(Local { address, tunnels })
}

fn peer(host: IpAddr, ends: Ends, network: &str) -> Peer {
    Peer { host, ends, pods: vec![(network.parse().unwrap(), 24)] }
}

/// The end of another machine's VXLAN.
fn link(owner: &str) -> Ends {
    Ends { link: Some(LinkAddress::of(owner)), key: None }
}

/// Does something on another machine, as a process that ends then: what it told the kernel stays.
fn on<F: Future<Output = T>, T: Send + 'static>(
    machine: &Namespace,
    work: impl FnOnce() -> F + Send + 'static,
) -> T {
    machine.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(work())
    })
}

async fn know(config: &Config, peers: &[Peer]) {
    Overlay::open(config).await.unwrap().unwrap().apply(peers).await.unwrap();
}

async fn ends(config: &Config) -> Ends {
    Overlay::open(config).await.unwrap().unwrap().ends()
}

/// The interfaces of tunnels.
fn tunnels() -> Vec<String> {
    interfaces().into_iter().filter(|name| name.starts_with("mx") || name.starts_with("mw")).collect()
}

/// Pods of this machine and of another.
struct Both {
    config: Config,
    network: Network,
    here: Namespace,
    own: IpAddr,
    machine: Namespace,
    there: Namespace,
    theirs: Config,
    other: SocketAddr,
    listener: TcpListener,
}

impl Both {
    /// Neither machine knows of the other yet. With IPv6 for pods, all is tried by that, between the machines too.
    async fn new(config: Config, directory: &Path, ours: Tunnels, others: Tunnels) -> Self {
        let (machine, here, there) = (Namespace::new(), Namespace::new(), Namespace::new());
        let (near, far) = if config.subnet6.is_some() { (HERE6, THERE6) } else { (HERE, THERE) };
        connect(&machine, near, far).await;
        let theirs = Config {
            owner: "two".into(),
            subnet: "10.77.1.0/24".parse().unwrap(),
            subnet6: config.subnet6.map(|_| "fd00:77:1::/64".parse().unwrap()),
            state_dir: directory.join("theirs"),
            overlay: at(far, others),
            ..config.clone()
        };
        let config = Config { overlay: at(near, ours), ..config };
        let network = Network::open(config.clone()).await.unwrap();
        let own = *network.attach("one", &here.path).await.unwrap().last().unwrap();
        let (path, open) = (there.path.clone(), theirs.clone());
        let other = on(&machine, move || async move {
            *Network::open(open).await.unwrap().attach("two", &path).await.unwrap().last().unwrap()
        });
        let listener = there.run(move || TcpListener::bind((other, 0)).unwrap());
        let other = listener.local_addr().unwrap();
        Self { config, network, here, own, machine, there, theirs, other, listener }
    }

    /// What the other machine tells.
    fn their_ends(&self) -> Ends {
        let theirs = self.theirs.clone();
        on(&self.machine, move || async move { ends(&theirs).await })
    }

    fn they_know(&self, peers: Vec<Peer>) {
        let theirs = self.theirs.clone();
        on(&self.machine, move || async move { know(&theirs, &peers).await });
    }

    fn reached(&self) -> bool {
        let other = self.other;
        self.here.run(move || TcpStream::connect_timeout(&other, Duration::from_millis(300)).is_ok())
    }

    /// As whom the other pod sees ours.
    fn seen(&self) -> IpAddr {
        seen(&self.here, &self.listener, self.other)
    }
}

#[test]
fn pods_of_two_machines_reach_each_other_by_their_own_addresses() {
    with_machine(async |config, directory| {
        let both = Both::new(config, &directory, Tunnels::Vxlan, Tunnels::Vxlan).await;
        both.they_know(vec![peer(HERE, link("one"), "10.77.0.0")]);
        assert!(!both.reached(), "there is no way yet");
        meets_and_forgets(&both, link("two")).await;
        both.network.teardown().await.unwrap();
        assert!(tunnels().is_empty());
    });
}

#[test]
fn with_wireguard_they_do_so_in_secret() {
    with_machine(async |config, directory| {
        if !has_wireguard().await {
            return;
        }
        let both = Both::new(config, &directory, Tunnels::WireGuard, Tunnels::WireGuard).await;
        let (ours, theirs) = (ends(&both.config).await, both.their_ends());
        assert!(ours.link.is_none() && ours.key.is_some() && ours.key != theirs.key);
        assert_eq!(ends(&both.config).await, ours, "another process tells the same");
        both.they_know(vec![peer(HERE, ours, "10.77.0.0")]);
        assert!(!both.reached(), "there is no way yet");
        meets_and_forgets(&both, theirs).await;
        assert_eq!(both.their_ends(), theirs);

        // Nobody else's packets are believed: neither who has another key, nor who claims to be another pod.
        let anew = async |known: Peer| {
            both.they_know(vec![known]);
            // What is agreed on with one who has forgotten it is given up only after a while.
            know(&both.config, &[]).await;
            know(&both.config, &[peer(THERE, theirs, "10.77.1.0")]).await;
        };
        anew(peer(HERE, a_stranger(), "10.77.0.0")).await;
        assert!(!both.reached());
        anew(peer(HERE, ours, "10.77.9.0")).await;
        assert!(!both.reached());
        anew(peer(HERE, ours, "10.77.0.0")).await;
        assert_eq!(both.seen(), both.own);
        both.network.teardown().await.unwrap();
        assert!(tunnels().is_empty());
    });
}

#[test]
fn both_lead_to_addresses_of_both_families_between_machines_of_either() {
    with_machine(async |config, directory| {
        let config = Config { subnet6: Some("fd00:77:0::/64".parse().unwrap()), ..config };
        let tunnels = if has_wireguard().await { Tunnels::WireGuard } else { Tunnels::Vxlan };
        let both = Both::new(config, &directory, tunnels, tunnels).await;
        let with6 = |host, ends, network: &str, network6: &str| {
            let four = peer(host, ends, network);
            Peer { pods: [four.pods, vec![(network6.parse().unwrap(), 64)]].concat(), ..four }
        };
        both.they_know(vec![with6(HERE6, ends(&both.config).await, "10.77.0.0", "fd00:77::")]);
        assert!(!both.reached(), "there is no way yet");
        know(&both.config, &[with6(THERE6, both.their_ends(), "10.77.1.0", "fd00:77:1::")]).await;
        assert_eq!(both.seen(), both.own);
        assert!(both.own.is_ipv6());
        assert_eq!(mtu_in(&both.here).await, 1420);
        both.network.teardown().await.unwrap();
    });
}

#[test]
fn a_machine_changes_from_one_tunnel_to_the_other() {
    with_machine(async |config, directory| {
        if !has_wireguard().await {
            return;
        }
        let mut both = Both::new(config, &directory, Tunnels::Any, Tunnels::Vxlan).await;
        let (ours, link) = (ends(&both.config).await, both.their_ends());
        assert!(ours.link.is_some() && ours.key.is_some() && link.key.is_none());
        both.they_know(vec![peer(HERE, ours, "10.77.0.0")]);
        let mut overlay = Overlay::open(&both.config).await.unwrap().unwrap();
        overlay.apply(&[peer(THERE, link, "10.77.1.0")]).await.unwrap();
        assert_eq!(both.seen(), both.own);
        assert_eq!(tunnels().len(), 2);

        // It has WireGuard from now on.
        both.theirs.overlay = at(THERE, Tunnels::Any);
        let theirs = both.their_ends();
        assert!(theirs.link == link.link && theirs.key.is_some());
        both.they_know(vec![peer(HERE, ours, "10.77.0.0")]);
        overlay.apply(&[peer(THERE, theirs, "10.77.1.0")]).await.unwrap();
        assert_eq!(both.seen(), both.own);
        assert_eq!(tunnels().len(), 1, "nobody needs the other any more");

        // And then no longer.
        both.theirs.overlay = at(THERE, Tunnels::Vxlan);
        assert_eq!(both.their_ends(), link);
        both.they_know(vec![peer(HERE, ours, "10.77.0.0")]);
        overlay.apply(&[peer(THERE, link, "10.77.1.0")]).await.unwrap();
        assert_eq!(both.seen(), both.own);

        // What is not to be used is removed, with what another process made.
        know(&Config { overlay: at(HERE, Tunnels::WireGuard), ..both.config.clone() }, &[]).await;
        assert_eq!(tunnels().len(), 1);
        assert!(Overlay::open(&Config { overlay: None, ..both.config.clone() }).await.unwrap().is_none());
        assert!(tunnels().is_empty() && both.there.path.exists());
    });
}

#[test]
fn a_thousand_machines_are_known_and_forgotten() {
    with_machine(async |config, _| {
        if !has_wireguard().await {
            return;
        }
        let machine = Namespace::new();
        connect(&machine, HERE, THERE).await;
        let config = Config { overlay: at(HERE, Tunnels::Any), ..config };
        let mut overlay = Overlay::open(&config).await.unwrap().unwrap();
        let all: Vec<Peer> = (0..1000_u16).map(nth).collect();
        overlay.apply(&all).await.unwrap();
        assert_eq!(ways().len(), 1000);
        overlay.apply(&all[..500]).await.unwrap();
        assert_eq!(ways().len(), 500);
        know(&config, &all[499..501]).await;
        assert_eq!(ways().len(), 2);
    });
}

/// A machine of many.
fn nth(number: u16) -> Peer {
    use base64::Engine;
    let [high, low] = (number + 1).to_be_bytes();
    let mut key = [7; 32];
    key[..2].copy_from_slice(&[high, low]);
    let key = base64::engine::general_purpose::STANDARD.encode(key).parse().ok();
    let network = format!("10.{}.{low}.0", 100 + u16::from(high));
    peer(Ipv4Addr::new(198, 51, high, low).into(), Ends { link: None, key }, &network)
}

/// Another machine finds what is there, and changes what is another.
async fn meets_and_forgets(both: &Both, theirs: Ends) {
    let Both { config, own, .. } = both;
    know(config, &[peer(THERE, theirs, "10.77.1.0")]).await;
    assert_eq!(both.seen(), *own, "the pod's own address");
    assert_eq!(mtu_in(&both.here).await, 1440);
    // The machine itself reaches it, too.
    TcpStream::connect_timeout(&both.other, Duration::from_secs(5)).unwrap();
    assert_eq!(both.listener.accept().unwrap().1.ip(), IpAddr::V4(Ipv4Addr::new(10, 77, 0, 0)));

    // Another process finds what is there, and changes what is another.
    let third = match theirs.key {
        None => link("three"),
        Some(_) => a_stranger(),
    };
    let elsewhere =
        [peer(THERE, theirs, "10.77.1.0"), peer(Ipv4Addr::new(192, 0, 2, 9).into(), third, "10.77.2.0")];
    know(config, &elsewhere).await;
    assert_eq!(both.seen(), *own);
    assert_eq!(ways().len(), 2);
    know(config, &elsewhere[1..]).await;
    assert!(!both.reached() && ways().len() == 1, "{:?}", ways());
    know(config, &elsewhere).await;
    assert_eq!(both.seen(), *own);
    know(config, &[]).await;
    assert!(ways().is_empty() && !both.reached(), "alone again");
    know(config, &elsewhere).await;
    assert_eq!(both.seen(), *own);
}

/// Ends that nobody has.
fn a_stranger() -> Ends {
    nth(9999).ends
}

/// Whether this machine's kernel has it.
async fn has_wireguard() -> bool {
    let (connection, handle, _) = rtnetlink::new_connection().unwrap();
    let connection = tokio::spawn(connection);
    let made = handle.link().add(rtnetlink::LinkWireguard::new("probe").build()).execute().await;
    if made.is_ok() {
        let probe = index(&handle, "probe").await;
        handle.link().del(probe).execute().await.unwrap();
    } else {
        eprintln!("SKIPPED: this machine's kernel has no WireGuard");
    }
    connection.abort();
    made.is_ok()
}

/// The networks that this machine reaches through its tunnels.
fn ways() -> Vec<String> {
    let text = std::fs::read_to_string("/proc/thread-self/net/route").unwrap();
    let into_tunnels = text.lines().skip(1).filter(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        (words[0].starts_with("mx") && words[2] != "00000000") || words[0].starts_with("mw")
    });
    into_tunnels.map(str::to_owned).collect()
}

async fn mtu_in(pod: &Namespace) -> u32 {
    use futures::TryStreamExt;
    use rtnetlink::packet_route::link::LinkAttribute;
    let handle = inside(pod);
    let mut links = std::pin::pin!(handle.link().get().match_name("eth0").execute());
    let link = links.try_next().await.unwrap().unwrap();
    link.attributes
        .iter()
        .find_map(|a| if let LinkAttribute::Mtu(mtu) = a { Some(*mtu) } else { None })
        .unwrap()
}

#[test]
fn a_machine_without_the_address_is_told_so() {
    with_machine(async |config, _| {
        let config = Config { overlay: at(HERE, Tunnels::Vxlan), ..config };
        let mut overlay = Overlay::open(&config).await.unwrap().unwrap();
        overlay.apply(&[]).await.unwrap();
        let error = overlay.apply(&[peer(THERE, link("two"), "10.77.1.0")]).await.unwrap_err().to_string();
        assert!(error.contains("192.0.2.1 is no address of this machine"), "{error}");
    });
}

#[test]
fn a_machine_whose_port_is_taken_is_told_so() {
    with_machine(async |config, _| {
        if !has_wireguard().await {
            return;
        }
        let machine = Namespace::new();
        connect(&machine, HERE, THERE).await;
        let config = Config { overlay: at(HERE, Tunnels::Any), ..config };
        let taken = std::net::UdpSocket::bind(("0.0.0.0", network::overlay::wireguard::PORT)).unwrap();
        let error = Overlay::open(&config).await.err().unwrap().to_string();
        assert!(error.starts_with("UDP port 8473 is in use"), "{error}");
        drop(taken);
        assert!(ends(&config).await.key.is_some());
    });
}

#[test]
fn a_machine_that_must_have_wireguard_and_has_none_is_told_so() {
    with_machine(async |config, _| {
        if !has_wireguard().await {
            let config = Config { overlay: at(HERE, Tunnels::WireGuard), ..config };
            assert!(matches!(Overlay::open(&config).await, Err(Error::NoWireGuard)));
        }
    });
}
