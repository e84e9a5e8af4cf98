//! What leads through a tunnel: the node itself, its kubelet before all, and the pods that it runs. Nothing else that the
//! machine could reach, be it its own loopback or the network behind it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use clock::Clock;
use ipnet::IpNet;
use tokio::net::TcpStream;

/// How long connecting may take.
const PATIENCE: Duration = Duration::from_secs(8);

/// Which addresses are the node's.
#[derive(Clone, Debug)]
pub struct Reach {
    /// By which it says it is reached.
    pub addresses: Vec<IpAddr>,
    /// Where its kubelet listens.
    pub kubelet: SocketAddr,
    /// Its pods' ranges.
    pub pods: Vec<IpNet>,
}

impl Reach {
    /// Connects to an address of the node, `IP:PORT`.
    ///
    /// # Errors
    /// Why not, in the words that whoever asked the server is told.
    pub async fn dial(&self, to: String, clock: &Arc<dyn Clock>) -> Result<TcpStream, String> {
        let at = self.judge(&to)?;
        let connected = tokio::select! {
            connected = TcpStream::connect(at) => connected,
            () = clock.sleep(PATIENCE) => return Err("i/o timeout".to_owned()),
        };
        let stream = connected.map_err(|error| match error.kind() {
            std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
            _ => error.to_string(),
        })?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        Ok(stream)
    }

    fn judge(&self, to: &str) -> Result<SocketAddr, String> {
        let at: SocketAddr = to.parse().map_err(|_| format!("{to} is no address and port"))?;
        let is_own = self.addresses.contains(&at.ip());
        if is_own && at.port() == self.kubelet.port() {
            // The node may be known by an address that is its router's.
            return Ok(crate::up::reachable(self.kubelet));
        }
        match is_own || self.pods.iter().any(|range| range.contains(&at.ip())) {
            true => Ok(at),
            false => Err(format!("{} is no address of this node or of its pods", at.ip())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_node_and_its_pods_are_reached() {
        let reach = Reach {
            addresses: vec![
                "192.0.2.7".parse().expect("an address"),
                "2001:db8::7".parse().expect("an address"),
            ],
            kubelet: "0.0.0.0:10250".parse().expect("an address"),
            pods: vec!["10.42.3.0/24".parse().expect("a range"), "fd00:42::/64".parse().expect("a range")],
        };
        for (to, at) in [
            ("192.0.2.7:10250", Some("127.0.0.1:10250")),
            ("[2001:db8::7]:10250", Some("127.0.0.1:10250")),
            ("192.0.2.7:80", Some("192.0.2.7:80")),
            ("10.42.3.9:8080", Some("10.42.3.9:8080")),
            ("[fd00:42::9]:1", Some("[fd00:42::9]:1")),
            ("10.42.4.9:8080", None),
            ("127.0.0.1:10250", None),
            ("[::1]:10250", None),
            ("[::ffff:127.0.0.1]:10250", None),
            ("169.254.169.254:80", None),
            ("192.0.2.8:10250", None),
            ("one:10250", None),
            ("192.0.2.7", None),
        ] {
            assert_eq!(reach.judge(to).ok(), at.map(|at| at.parse().expect("an address")), "{to}");
        }
    }
}
