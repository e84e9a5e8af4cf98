//! Nodes that keep a tunnel to the server: who may, and what goes through.

use std::sync::{Arc, Mutex};

use apiserver::tunnels::{PATH, PROTOCOL};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use pki::{Identity, kubelet_names};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::ask::Asker;
use crate::log::kubelet;
use crate::plane::Plane;
use crate::{directory, start};

/// Where nobody is (RFC 5737).
const NOWHERE: &str = "192.0.2.1";

/// What the server says to somebody who asks for a tunnel: the connection, or why not.
async fn asked(
    plane: &Plane,
    who: &Identity,
    headers: &[(&str, &str)],
) -> Result<TokioIo<hyper::upgrade::Upgraded>, (u16, String)> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(plane.authority.certificate().clone()).unwrap();
    let own = plane.authority.client(who, plane.clock.now()).unwrap();
    let config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![own.certificate], own.key)
            .unwrap();
    let stream = TcpStream::connect(plane.address).await.unwrap();
    let name = rustls_pki_types::ServerName::try_from("127.0.0.1").unwrap();
    let tls = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(tls)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    let mut request = Request::get(PATH).header("host", "a");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut response = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        assert_eq!(response.headers()["upgrade"], PROTOCOL);
        return Ok(TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap()));
    }
    let code = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let status: Value = serde_json::from_slice(&body).unwrap();
    Err((code, status["message"].as_str().unwrap_or_default().to_owned()))
}

const UPGRADE: [(&str, &str); 2] = [("connection", "Upgrade"), ("upgrade", PROTOCOL)];

/// A node's end, through which everything leads to one port here; it notes what was asked for.
struct Node {
    asked: Arc<Mutex<Vec<String>>>,
    running: JoinHandle<()>,
}

impl Node {
    async fn start(plane: &Plane, name: &str, port: u16) -> Self {
        let connection = asked(plane, &Identity::Node(name.to_owned()), &UPGRADE).await.unwrap();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (own, clock) = (asked.clone(), plane.clock.clone());
        let dial = move |to| {
            own.lock().unwrap().push(to);
            async move {
                TcpStream::connect(("127.0.0.1", port)).await.map_err(|_| "connection refused".to_owned())
            }
        };
        let running = tokio::spawn(async move {
            let _ = tunnel::answer(connection, clock, dial).await;
        });
        Self { asked, running }
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

/// A node that says it is there, and a pod on it.
async fn prepare(plane: &Plane, address: &str, port: u16) {
    let admin = Asker::admin(plane);
    admin.post("/api/v1/nodes", &json!({"metadata": {"name": "one"}})).await.ok();
    let status = json!({"status": {
        "addresses": [{"type": "InternalIP", "address": address}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
    }});
    admin.patch("/api/v1/nodes/one/status", "merge-patch", &status).await.ok();
    let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "one", "containers": [{"name": "c", "image": "i"}]}});
    admin.post("/api/v1/namespaces/default/pods", &pod).await.ok();
    let status =
        json!({"status": {"phase": "Running", "podIP": "10.42.7.9", "podIPs": [{"ip": "10.42.7.9"}]}});
    admin.patch("/api/v1/namespaces/default/pods/p/status", "merge-patch", &status).await.ok();
}

const LOG: &str = "/api/v1/namespaces/default/pods/p/log";

async fn until_tunnels(plane: &Plane, count: usize) {
    let (admin, line) = (Asker::admin(plane), format!("\nmonoplane_node_tunnels {count}\n"));
    while !admin.get("/metrics").await.text().contains(&line) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_cannot_be_reached_is_asked_through_its_tunnel() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let names = kubelet_names("one", [NOWHERE]);
    let serving = plane.authority.kubelet_serving("one", &names, plane.clock.now()).unwrap();
    let port = kubelet(&plane, &serving).await;
    prepare(&plane, NOWHERE, 10250).await;
    let (admin, node) = (Asker::admin(&plane), Node::start(&plane, "one", port).await);
    until_tunnels(&plane, 1).await;
    let log = admin.get(LOG).await;
    let expected = (200, "kube-apiserver-kubelet-client /containerLogs/default/p/c\n");
    assert_eq!((log.code, log.text()), expected);
    assert_eq!(node.asked(), [format!("{NOWHERE}:10250")]);
    let metrics = admin.get("/api/v1/nodes/one/proxy/metrics").await;
    assert_eq!(metrics.text(), "kube-apiserver-kubelet-client /metrics\n");
    assert_eq!(node.asked(), [format!("{NOWHERE}:10250")]);
    // Plain HTTP is not what the kubelet here speaks: that the pod's address was asked for is enough.
    admin.get("/api/v1/namespaces/default/pods/p:8080/proxy/x").await;
    assert_eq!(node.asked(), ["10.42.7.9:8080"]);
    admin.get("/api/v1/nodes/one:9/proxy/x").await;
    assert_eq!(node.asked(), [format!("{NOWHERE}:9")]);
    // Whose tunnel has ended is without.
    node.running.abort();
    until_tunnels(&plane, 0).await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_is_a_path_and_proves_nothing() {
    let directory = directory();
    let plane = start(directory.path()).await;
    // Another node's kubelet at the end of it.
    let names = kubelet_names("two", ["192.0.2.2"]);
    let serving = plane.authority.kubelet_serving("two", &names, plane.clock.now()).unwrap();
    let port = kubelet(&plane, &serving).await;
    prepare(&plane, NOWHERE, 10250).await;
    let _node = Node::start(&plane, "one", port).await;
    until_tunnels(&plane, 1).await;
    let (code, _, message) = Asker::admin(&plane).get(LOG).await.failure();
    assert_eq!(code, 500);
    assert!(message.contains("invalid peer certificate"), "{message}");
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_leads_to_the_node_that_keeps_it_and_no_other() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let names = kubelet_names("one", ["127.0.0.1"]);
    let serving = plane.authority.kubelet_serving("one", &names, plane.clock.now()).unwrap();
    let port = kubelet(&plane, &serving).await;
    prepare(&plane, "127.0.0.1", port).await;
    let two = Node::start(&plane, "two", 1).await;
    until_tunnels(&plane, 1).await;
    assert_eq!(Asker::admin(&plane).get(LOG).await.code, 200);
    assert!(two.asked().is_empty(), "it was asked for another");
    // One that cannot reach its own kubelet says so.
    let one = Node::start(&plane, "one", 1).await;
    until_tunnels(&plane, 2).await;
    let (_, _, message) = Asker::admin(&plane).get(LOG).await.failure();
    assert!(message.contains("connection refused"), "{message}");
    assert_eq!(one.asked().len(), 1);
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_nodes_keep_tunnels() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let refused =
        async |who: &Identity, headers: &[(&str, &str)]| asked(&plane, who, headers).await.err().unwrap();
    let node = Identity::Node("one".to_owned());
    let (code, message) = refused(&Identity::Proxy("one".to_owned()), &UPGRADE).await;
    assert!(code == 403 && message.contains("cannot get path \"/monoplane/tunnel\""), "{message}");
    assert_eq!(refused(&Identity::Edge("one".to_owned()), &UPGRADE).await.0, 403);
    let (code, message) = refused(&Identity::Admin, &UPGRADE).await;
    assert!(code == 400 && message.contains("and this is none"), "{message}");
    assert_eq!(refused(&node, &[]).await, (400, "Upgrade request required".to_owned()));
    let (code, message) = refused(&node, &[("connection", "upgrade"), ("upgrade", "websocket")]).await;
    assert!(code == 400 && message.contains(PROTOCOL), "{message}");
    assert_eq!(Asker::of(&plane, &node).get("/monoplane/tunnel/x").await.code, 403);
    until_tunnels(&plane, 0).await;
    plane.stop().await;
}
