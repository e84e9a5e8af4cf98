//! The server over TLS, driven by a real client library.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use std::time::Duration;

use apiserver::InMemory;
use apiserver::tls::{Listener, Presented, Sockets, client_verifier, server_config};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams, PostParams};
use pki::Identity;
use rustls::ClientConfig;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use crate::ask::Asker;
use crate::plane::Plane;
use crate::{directory, start};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_library_over_tls_and_the_same_in_memory() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let over_tls = client::transport::from_kubeconfig(&plane.kubeconfig(&Identity::Admin)).await.unwrap();
    let service = InMemory::new(plane.server.clone(), plane.connection(&Identity::Admin), "test");
    let in_memory = client::transport::in_memory(service);
    for (name, client) in [("socket", over_tls), ("memory", in_memory)] {
        let api: Api<ConfigMap> = Api::namespaced(client, "default");
        let mut wanted = ConfigMap::default();
        wanted.metadata.name = Some(name.to_owned());
        let created = api.create(&PostParams::default(), &wanted).await.unwrap();
        assert_eq!(api.get(name).await.unwrap(), created);
        assert!(!api.list(&ListParams::default()).await.unwrap().items.is_empty());
        api.delete(name, &Default::default()).await.unwrap();
        let missing = api.get(name).await.unwrap_err();
        assert!(matches!(&missing, kube::Error::Api(status) if status.code == 404), "{missing}");
    }
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_no_tls_is_not_answered_and_harms_nobody() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let address = plane.address;
    let answered = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).contains("HTTP/1.1")
    });
    assert!(!answered.await.unwrap());
    assert_eq!(Asker::admin(&plane).get("/readyz").await.code, 200);
    plane.stop().await;
}

#[tokio::test]
async fn a_renewed_certificate_is_presented_at_the_next_handshake() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(plane.authority.certificate().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
    let connector = TlsConnector::from(Arc::new(config.with_no_client_auth()));
    let shown = async || {
        let stream = tokio::net::TcpStream::connect(plane.address).await.unwrap();
        let tls = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
        tls.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
    };
    let before = shown().await;
    let names = pki::api_server_names(["another.example.org"]);
    let renewed = plane.authority.serving(&names, plane.clock.now()).unwrap();
    plane.presented.renew(&renewed).unwrap();
    let after = shown().await;
    assert_eq!(after, renewed.certificate);
    assert_ne!(after, before);
    plane.stop().await;
}

#[tokio::test]
async fn a_connection_in_memory_goes_on_under_another_certificate() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let in_memory = InMemory::new(plane.server.clone(), plane.server.connect(&[], None).unwrap(), "test");
    let client = client::transport::in_memory(in_memory.clone());
    let api: Api<ConfigMap> = Api::namespaced(client, "default");
    let refused = api.list(&ListParams::default()).await.unwrap_err();
    assert!(matches!(&refused, kube::Error::Api(status) if status.code == 403), "{refused}");
    in_memory.renew(plane.connection(&Identity::Admin));
    api.list(&ListParams::default()).await.unwrap();
    plane.stop().await;
}

/// One more listener of the plane's server: where it listens, and what stops it.
async fn listen(
    plane: &Plane,
    sockets: Sockets,
) -> (std::net::SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let names = pki::api_server_names(Vec::<String>::new());
    let serving = plane.authority.serving(&names, plane.clock.now()).unwrap();
    let tls =
        server_config(Presented::new(&serving).unwrap(), client_verifier(&plane.authority).unwrap()).unwrap();
    let stop = CancellationToken::new();
    let listener = Listener::new(socket, plane.server.clone(), tls, sockets);
    (address, stop.clone(), tokio::spawn(listener.run(stop)))
}

/// A connection of somebody without a certificate.
pub(crate) async fn connect(
    plane: &Plane,
    address: std::net::SocketAddr,
    alpn: &[u8],
) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(plane.authority.certificate().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let name = rustls_pki_types::ServerName::try_from("127.0.0.1").unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_on_which_nothing_happens_ends() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let sockets = Sockets { strangers_idle: Duration::from_millis(50), ..Sockets::default() };
    let (address, stop, listening) = listen(&plane, sockets).await;
    let io = hyper_util::rt::TokioIo::new(connect(&plane, address, b"h2").await);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (sender, connection) =
        hyper::client::conn::http2::handshake::<_, _, http_body_util::Empty<bytes::Bytes>>(executor, io)
            .await
            .unwrap();
    // Ends because the server says so, for the sender lives on.
    connection.await.unwrap();
    drop(sender);
    stop.cancel();
    listening.await.unwrap();
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_make_room_for_others_and_whoever_is_known_stays() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let directory = directory();
    let plane = start(directory.path()).await;
    // Nothing but another one ends a stranger's connection.
    let never = Duration::from_secs(3600);
    let sockets = Sockets { strangers: 2, strangers_idle: never, handshake: never, ..Sockets::default() };
    let (address, stop, listening) = listen(&plane, sockets).await;
    let ask = async |stream: &mut tokio_rustls::client::TlsStream<tokio::net::TcpStream>, token: &str| {
        let request = format!("GET /version HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = vec![0; 64 * 1024];
        let length = stream.read(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer[..length]).lines().next().unwrap_or_default().to_owned()
    };
    let mut known = connect(&plane, address, b"http/1.1").await;
    assert_eq!(ask(&mut known, "bob-token").await, "HTTP/1.1 200 OK");
    let mut flood = Vec::new();
    for _ in 0..3 {
        flood.push(tokio::net::TcpStream::connect(address).await.unwrap());
    }
    assert_eq!(flood[0].read(&mut [0; 1]).await.unwrap(), 0);
    // One more comes in, although nobody of the flood has left; it takes the next place.
    let mut late = connect(&plane, address, b"http/1.1").await;
    assert_eq!(ask(&mut late, "carol-token").await, "HTTP/1.1 200 OK");
    assert_eq!(flood[1].read(&mut [0; 1]).await.unwrap(), 0);
    assert_eq!(ask(&mut known, "bob-token").await, "HTTP/1.1 200 OK");
    stop.cancel();
    listening.await.unwrap();
    plane.stop().await;
}
