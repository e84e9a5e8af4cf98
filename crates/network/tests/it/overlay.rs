//! Pods of two machines, each with a network of its own, and a cable between them.

use network::overlay::{LinkAddress, Overlay, Peer};

use super::*;

const HERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const THERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

fn peer(host: Ipv4Addr, owner: &str, network: &str) -> Peer {
    Peer { host: host.into(), link: LinkAddress::of(owner), pods: vec![(network.parse().unwrap(), 24)] }
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
    Overlay::open(config).unwrap().unwrap().apply(peers).await.unwrap();
}

#[test]
fn pods_of_two_machines_reach_each_other_by_their_own_addresses() {
    with_machine(async |config, directory| {
        let (machine, here, there) = (Namespace::new(), Namespace::new(), Namespace::new());
        connect(&machine, HERE, THERE).await;
        let theirs = Config {
            owner: "two".into(),
            subnet: "10.77.1.0/24".parse().unwrap(),
            state_dir: directory.join("theirs"),
            overlay: Some(THERE.into()),
            ..config.clone()
        };
        let config = Config { overlay: Some(HERE.into()), ..config };
        let network = Network::open(config.clone()).await.unwrap();
        let own = network.attach("one", &here.path).await.unwrap()[0];
        let (path, mine) = (there.path.clone(), peer(HERE, "one", "10.77.0.0"));
        let other = on(&machine, move || async move {
            let network = Network::open(theirs.clone()).await.unwrap();
            know(&theirs, &[mine]).await;
            network.attach("two", &path).await.unwrap()[0]
        });
        let listener = there.run(move || TcpListener::bind((other, 0)).unwrap());
        let at = listener.local_addr().unwrap();
        let reached =
            || here.run(move || TcpStream::connect_timeout(&at, Duration::from_millis(300)).is_ok());

        assert!(!reached(), "there is no way yet");
        know(&config, &[peer(THERE, "two", "10.77.1.0")]).await;
        assert_eq!(seen(&here, &listener, at), own, "the pod's own address");
        assert_eq!(mtu_in(&here).await, 1450);
        // The machine itself reaches it, too.
        TcpStream::connect_timeout(&at, Duration::from_secs(5)).unwrap();
        assert_eq!(listener.accept().unwrap().1.ip(), IpAddr::V4(Ipv4Addr::new(10, 77, 0, 0)));

        // Another process finds what is there, and changes what is another.
        let elsewhere =
            [peer(THERE, "two", "10.77.1.0"), peer(Ipv4Addr::new(192, 0, 2, 9), "three", "10.77.2.0")];
        know(&config, &elsewhere).await;
        assert_eq!(seen(&here, &listener, at), own);
        assert_eq!(ways().len(), 2);
        know(&config, &elsewhere[1..]).await;
        assert!(!reached() && ways().len() == 1, "{:?}", ways());
        know(&config, &elsewhere).await;
        assert_eq!(seen(&here, &listener, at), own);
        know(&config, &[]).await;
        assert!(!interfaces().iter().any(|name| name.starts_with("mx")), "alone again");
        know(&config, &elsewhere).await;
        network.teardown().await.unwrap();
        assert!(!interfaces().iter().any(|name| name.starts_with("mx")));
    });
}

/// The networks that this machine reaches through its tunnel.
fn ways() -> Vec<String> {
    let text = std::fs::read_to_string("/proc/thread-self/net/route").unwrap();
    let by_gateway = text.lines().skip(1).filter(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words[0].starts_with("mx") && words[2] != "00000000"
    });
    by_gateway.map(str::to_owned).collect()
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
        let config = Config { overlay: Some(HERE.into()), ..config };
        let mut overlay = Overlay::open(&config).unwrap().unwrap();
        overlay.apply(&[]).await.unwrap();
        let error = overlay.apply(&[peer(THERE, "two", "10.77.1.0")]).await.unwrap_err().to_string();
        assert!(error.contains("192.0.2.1 is no address of this machine"), "{error}");
        assert!(Overlay::open(&Config { overlay: None, ..config }).unwrap().is_none());
    });
}
