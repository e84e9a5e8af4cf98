//! Nobody's request fails while a Deployment rolls, and no connection is lost while the node's process is replaced.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use harness::{Plane, eventually, kill};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::containers::{IMAGE, first_process, plane_with_image, pod};

/// Says that this very program is to serve, and what.
const VERSION: &str = "MONOPLANE_TEST_VERSION";

/// What a pod serves with: this program, in a pod of its own. Asked to end, it answers everybody once more and tells them
/// that it is the last time, as a server does that people can upgrade.
#[test]
#[ignore = "not a test: what the pods of these tests run"]
fn serve() {
    let Ok(version) = std::env::var(VERSION) else { return };
    let listener = TcpListener::bind("0.0.0.0:8080").expect("the port is free");
    let (ending, open) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (version, told, counted) = (Arc::new(version), ending.clone(), open.clone());
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            counted.fetch_add(1, Ordering::SeqCst);
            let (version, told, counted) = (version.clone(), told.clone(), counted.clone());
            std::thread::spawn(move || {
                let _ = answer(&connection, &version, &told);
                counted.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut asked = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
            .expect("signals can be watched");
        asked.recv().await;
    });
    ending.store(true, Ordering::SeqCst);
    while open.load(Ordering::SeqCst) > 0 {
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn answer(connection: &TcpStream, version: &str, ending: &AtomicBool) -> std::io::Result<()> {
    let mut reader = BufReader::new(connection);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let last = ending.load(Ordering::SeqCst) || head.contains("Connection: close");
        let close = if last { "Connection: close\r\n" } else { "" };
        let length = version.len();
        let mut writer = connection;
        write!(writer, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n{close}\r\n{version}")?;
        if last {
            return Ok(());
        }
    }
}

/// A Deployment of three that serve this version, and a Service.
fn manifest(version: &str) -> String {
    let program = std::env::current_exe().expect("this program's path");
    let (folder, name) = (program.parent().expect("a directory"), program.file_name().expect("a name"));
    let (folder, name) = (folder.display(), name.display());
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: 3
  strategy: {{rollingUpdate: {{maxSurge: 1, maxUnavailable: 0}}}}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      containers:
      - name: web
        image: '{IMAGE}'
        imagePullPolicy: Never
        command: ['/test/{name}', --ignored, --exact, 'rolling::serve', --nocapture]
        env: [{{name: {VERSION}, value: '{version}'}}]
        readinessProbe: {{httpGet: {{port: 8080}}, periodSeconds: 1}}
        lifecycle: {{preStop: {{sleep: {{seconds: 2}}}}}}
        volumeMounts:
        - {{name: test, mountPath: /test, readOnly: true}}
        - {{name: lib, mountPath: /lib, readOnly: true}}
        - {{name: lib64, mountPath: /lib64, readOnly: true}}
      volumes:
      - {{name: test, hostPath: {{path: '{folder}'}}}}
      - {{name: lib, hostPath: {{path: /lib}}}}
      - {{name: lib64, hostPath: {{path: /lib64}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{type: NodePort, selector: {{app: web}}, ports: [{{port: 80, targetPort: 8080}}]}}
"
    )
}

/// What one client saw.
#[derive(Debug, Default)]
struct Seen {
    requests: usize,
    connections: usize,
    versions: BTreeSet<String>,
    failures: Vec<String>,
}

/// Clients in a pod's network, until they are told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    requests: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Seen>>,
}

impl Load {
    /// Asks each of these addresses all the time, over connections that are kept and over new ones.
    fn start(process: u32, addresses: &[SocketAddr]) -> Self {
        let (stop, requests) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let each = addresses.iter().flat_map(|address| [(*address, true), (*address, false)]);
        let clients = each.map(|(address, keep)| {
            let (stop, requests) = (stop.clone(), requests.clone());
            std::thread::spawn(move || {
                // This thread alone goes to the pod's network.
                let network = std::fs::File::open(format!("/proc/{process}/ns/net")).expect("its network");
                move_into_link_name_space(
                    std::os::fd::AsFd::as_fd(&network),
                    Some(LinkNameSpaceType::Network),
                )
                .expect("entering it");
                ask_all_the_time(address, keep, &stop, &requests)
            })
        });
        let clients = clients.collect();
        Self { stop, requests, clients }
    }

    /// Waits until so many further requests have been answered.
    fn until_more(&self, count: usize) {
        let enough = self.requests.load(Ordering::SeqCst) + count;
        eventually("the load goes on", || (self.requests.load(Ordering::SeqCst) >= enough).then_some(()));
    }

    fn stop(self) -> Vec<Seen> {
        self.stop.store(true, Ordering::SeqCst);
        self.clients.into_iter().map(|client| client.join().expect("a client ends")).collect()
    }
}

fn ask_all_the_time(address: SocketAddr, keep: bool, stop: &AtomicBool, requests: &AtomicUsize) -> Seen {
    let mut seen = Seen::default();
    let mut kept: Option<TcpStream> = None;
    while !stop.load(Ordering::SeqCst) {
        let connection = kept.take().map_or_else(
            || {
                seen.connections += 1;
                connect(address)
            },
            Ok,
        );
        match connection.and_then(|connection| ask(connection, keep)) {
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
fn ask(connection: TcpStream, keep: bool) -> std::io::Result<(String, Option<TcpStream>)> {
    let close = if keep { "" } else { "Connection: close\r\n" };
    write!(&connection, "GET / HTTP/1.1\r\nHost: web\r\n{close}\r\n")?;
    let mut reader = BufReader::new(&connection);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Err(std::io::Error::other(format!("closed before it answered: {head:?}")));
        }
    }
    let length = head.split("Content-Length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
    let mut body = vec![0; length.unwrap_or_default()];
    reader.read_exact(&mut body)?;
    let again = !head.contains("Connection: close");
    Ok((String::from_utf8_lossy(&body).into_owned(), again.then_some(connection)))
}

/// A plane with three that serve, and the load on them from another pod: by the Service's address and by the node's port.
fn under_load() -> Option<(Plane, Load)> {
    let plane = plane_with_image()?;
    plane.apply(&manifest("one"));
    plane.apply(&pod("client", "while true; do sleep 1; done", ""));
    plane.kubectl_ok(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    plane.kubectl_ok(&["wait", "--for=condition=Ready", "pod/client", "--timeout=60s"]);
    let spec = plane.get(&["service", "web"])["spec"].clone();
    let own = plane.get(&["pod", "client"])["status"]["podIP"].as_str().expect("an address").to_owned();
    let service = format!("{}:80", spec["clusterIP"].as_str().expect("an address"));
    // The node's address on the pods' side: the first of their range.
    let node = format!("{}.1:{}", own.rsplit_once('.').expect("IPv4").0, spec["ports"][0]["nodePort"]);
    let addresses = [service, node].map(|address| address.parse().expect("an address"));
    let load = Load::start(first_process(&plane, "client"), &addresses);
    load.until_more(400);
    Some((plane, load))
}

#[test]
fn a_deployment_rolls_under_load_without_a_failed_request() {
    let Some((plane, load)) = under_load() else { return };
    plane.apply(&manifest("two"));
    plane.kubectl_ok(&["rollout", "status", "deployment/web", "--timeout=120s"]);
    eventually("the old ones are gone", || {
        let pods = plane.get(&["pods", "-l", "app=web"]);
        (pods["items"].as_array()?.len() == 3).then_some(())
    });
    load.until_more(400);
    for seen in load.stop() {
        assert!(seen.failures.is_empty(), "{seen:?}");
        assert_eq!(seen.versions.iter().map(String::as_str).collect::<Vec<_>>(), ["one", "two"], "{seen:?}");
    }
}

#[test]
fn the_nodes_process_is_replaced_under_load_without_a_lost_connection() {
    let Some((plane, load)) = under_load() else { return };
    for _ in 0..2 {
        let before = plane.pid("node");
        kill(before, 9);
        load.until_more(200);
        eventually("another runs", || (plane.pid("node") != before).then_some(()));
        plane.wait_until_up();
        load.until_more(200);
    }
    for (seen, keeps) in load.stop().into_iter().zip([true, false, true, false]) {
        assert!(seen.failures.is_empty(), "{seen:?}");
        assert!(!keeps || seen.connections == 1, "one connection lives through it all: {seen:?}");
    }
}
