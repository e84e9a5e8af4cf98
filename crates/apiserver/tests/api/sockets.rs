//! The server over TLS, driven by a real client library.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use apiserver::InMemory;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams, PostParams};
use pki::Identity;
use rustls::ClientConfig;
use tokio_rustls::TlsConnector;

use crate::ask::Asker;
use crate::{directory, start};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_library_over_tls_and_the_same_in_memory() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let over_tls = client::transport::from_kubeconfig(&plane.kubeconfig(&Identity::Admin)).await.unwrap();
    let service = InMemory::new(plane.server.clone(), plane.connection(&Identity::Admin));
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
    let in_memory = InMemory::new(plane.server.clone(), plane.server.connect(&[], None).unwrap());
    let client = client::transport::in_memory(in_memory.clone());
    let api: Api<ConfigMap> = Api::namespaced(client, "default");
    let refused = api.list(&ListParams::default()).await.unwrap_err();
    assert!(matches!(&refused, kube::Error::Api(status) if status.code == 403), "{refused}");
    in_memory.renew(plane.connection(&Identity::Admin));
    api.list(&ListParams::default()).await.unwrap();
    plane.stop().await;
}
