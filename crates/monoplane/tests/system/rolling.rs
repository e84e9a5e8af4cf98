//! Nobody's request fails while a Deployment rolls, and no connection is lost while the node's process is replaced.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use harness::{Plane, eventually, kill};

use crate::containers::{IMAGE, first_process, plane_with_image, pod};
use crate::load::{Load, Target, network_of};

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
pub(crate) fn manifest(version: &str) -> String {
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
    let network = network_of(first_process(&plane, "client"));
    let targets = [service, node].map(|address| Target::new(&network, &address, "web"));
    let load = Load::start(&targets);
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
