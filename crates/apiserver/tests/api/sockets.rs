//! The server over TLS, driven by a real client library.

use std::io::{Read, Write};
use std::net::TcpStream;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams, PostParams};
use pki::Identity;

use crate::ask::Asker;
use crate::{directory, start};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_library_over_tls_and_the_same_in_memory() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let over_tls = client::transport::from_kubeconfig(&plane.kubeconfig(&Identity::Admin)).await.unwrap();
    let service = apiserver::InMemory::new(plane.server.clone(), plane.connection(&Identity::Admin));
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
