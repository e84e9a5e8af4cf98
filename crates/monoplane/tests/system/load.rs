//! Requests all the time, from the networks of pods and machines, over connections that are kept and over new ones.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use harness::eventually;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Whom to ask, under which name, and from where.
#[derive(Clone)]
pub(crate) struct Target {
    network: PathBuf,
    address: SocketAddr,
    host: String,
}

impl Target {
    pub(crate) fn new(network: &Path, address: &str, host: &str) -> Self {
        let address = address.parse().unwrap_or_else(|_| panic!("{address} is no address"));
        Self { network: network.to_owned(), address, host: host.to_owned() }
    }

    /// Whether it does, from where it is to be asked.
    pub(crate) fn answers(&self) -> Option<()> {
        let target = self.clone();
        let asking = std::thread::spawn(move || {
            enter(&target.network);
            connect(target.address).and_then(|connection| ask(connection, &target.host, false)).is_ok()
        });
        asking.join().expect("an end").then_some(())
    }
}

/// This thread alone goes to the network.
pub(crate) fn enter(network: &Path) {
    let network = std::fs::File::open(network).expect("a network");
    let network = std::os::fd::AsFd::as_fd(&network);
    move_into_link_name_space(network, Some(LinkNameSpaceType::Network)).expect("entering it");
}

/// The network that a process is in.
pub(crate) fn network_of(process: u32) -> PathBuf {
    format!("/proc/{process}/ns/net").into()
}

/// What one client saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) requests: usize,
    pub(crate) connections: usize,
    pub(crate) versions: BTreeSet<String>,
    pub(crate) failures: Vec<String>,
}

/// Clients, until they are told to stop.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    requests: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Seen>>,
}

impl Load {
    /// Asks each of these, over a connection that is kept and over new ones.
    pub(crate) fn start(targets: &[Target]) -> Self {
        let (stop, requests) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let each = targets.iter().flat_map(|target| [(target.clone(), true), (target.clone(), false)]);
        let clients = each.map(|(target, keep)| {
            let (stop, requests) = (stop.clone(), requests.clone());
            std::thread::spawn(move || {
                enter(&target.network);
                ask_all_the_time(&target, keep, &stop, &requests)
            })
        });
        let clients = clients.collect();
        Self { stop, requests, clients }
    }

    /// Waits until so many further requests have been answered.
    pub(crate) fn until_more(&self, count: usize) {
        let enough = self.requests.load(Ordering::SeqCst) + count;
        eventually("the load goes on", || (self.requests.load(Ordering::SeqCst) >= enough).then_some(()));
    }

    /// What each saw: of every target, who kept and who did not.
    pub(crate) fn stop(self) -> Vec<Seen> {
        self.stop.store(true, Ordering::SeqCst);
        self.clients.into_iter().map(|client| client.join().expect("a client ends")).collect()
    }
}

fn ask_all_the_time(target: &Target, keep: bool, stop: &AtomicBool, requests: &AtomicUsize) -> Seen {
    let mut seen = Seen::default();
    let mut kept: Option<TcpStream> = None;
    while !stop.load(Ordering::SeqCst) {
        let connection = kept.take().map_or_else(
            || {
                seen.connections += 1;
                connect(target.address)
            },
            Ok,
        );
        match connection.and_then(|connection| ask(connection, &target.host, keep)) {
            Ok((version, again)) => {
                seen.requests += 1;
                requests.fetch_add(1, Ordering::SeqCst);
                seen.versions.insert(version);
                kept = again;
            }
            Err(error) => seen.failures.push(error.to_string()),
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    seen
}

fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let patience = Duration::from_secs(20);
    let connection = TcpStream::connect_timeout(&address, patience)?;
    connection.set_read_timeout(Some(patience))?;
    Ok(connection)
}

/// One request: what was answered, and the connection if it can be used again.
fn ask(connection: TcpStream, host: &str, keep: bool) -> std::io::Result<(String, Option<TcpStream>)> {
    let close = if keep { "" } else { "Connection: close\r\n" };
    write!(&connection, "GET / HTTP/1.1\r\nHost: {host}\r\n{close}\r\n")?;
    let mut reader = BufReader::new(&connection);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Err(std::io::Error::other(format!("closed before it answered: {head:?}")));
        }
    }
    let lower = head.to_lowercase();
    let length = lower.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
    let mut body = vec![0; length.unwrap_or_default()];
    reader.read_exact(&mut body)?;
    let body = String::from_utf8_lossy(&body).into_owned();
    if !head.starts_with("HTTP/1.1 200 ") {
        return Err(std::io::Error::other(format!("{head}{body}")));
    }
    let again = !lower.contains("connection: close");
    Ok((body, again.then_some(connection)))
}
