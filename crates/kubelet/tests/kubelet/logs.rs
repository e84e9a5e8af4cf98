//! The node's server.

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tokio::net::TcpStream;

use crate::plane::Plane;

type Incoming = http::Response<hyper::body::Incoming>;

/// Asks as the API server does; `None`: without a certificate, or refused at the door.
async fn ask(plane: &Plane, path: &str, with_certificate: bool) -> Option<Incoming> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(plane.pki.authority.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = if with_certificate {
        let certificate = CertificateDer::from_pem_slice(plane.pki.client.0.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(plane.pki.client.1.as_bytes()).unwrap();
        builder.with_client_auth_cert(vec![certificate], key).unwrap()
    } else {
        builder.with_no_client_auth()
    };
    let stream = TcpStream::connect(("127.0.0.1", plane.port)).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.ok()?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    let request = http::Request::get(path).header("host", "localhost").body(Empty::<Bytes>::new()).unwrap();
    sender.send_request(request).await.ok()
}

async fn text(response: Incoming) -> (u16, String) {
    let code = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (code, String::from_utf8(body.to_vec()).unwrap())
}

async fn get(plane: &Plane, path: &str) -> (u16, String) {
    text(ask(plane, path, true).await.unwrap()).await
}

#[tokio::test]
async fn logs_of_this_run_and_the_one_before() {
    let plane = Plane::start().await;
    plane.create("p", json!({"containers": [{"name": "a", "image": "image"}]})).await;
    plane.until_ready("p").await;
    let path = "/containerLogs/default/p/a";
    assert_eq!(get(&plane, path).await, (200, "run 0\n".to_owned()));
    assert_eq!(get(&plane, &format!("{path}?timestamps=true")).await.1, "2026-01-01T00:00:00Z run 0\n");
    let (code, message) = get(&plane, &format!("{path}?previous=true")).await;
    assert_eq!((code, message.as_str()), (400, "previous terminated container \"a\" in pod \"p\" not found"));
    plane.runtime.end("a", 1);
    plane.until("p", |pod| crate::plane::told(pod)["restartCount"] == 1).await;
    assert_eq!(get(&plane, path).await.1, "run 1\n");
    assert_eq!(get(&plane, &format!("{path}?previous=true")).await.1, "run 0\n");
    assert_eq!(get(&plane, "/containerLogs/default/p/b").await.0, 404);
    assert_eq!(get(&plane, "/containerLogs/default/q/a").await.0, 404);
    assert_eq!(get(&plane, "/healthz").await, (200, "ok".to_owned()));
    assert!(get(&plane, "/pods").await.1.contains("\"PodList\""));
}

#[tokio::test]
async fn following_ends_with_the_container() {
    let plane = Plane::start().await;
    plane
        .create("p", json!({"containers": [{"name": "a", "image": "image"}], "restartPolicy": "Never"}))
        .await;
    plane.until_ready("p").await;
    let response = ask(&plane, "/containerLogs/default/p/a?follow=true", true).await.unwrap();
    let mut body = response.into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first, "run 0\n");
    let log = plane.runtime.container("a").unwrap().1.log_path;
    let mut file = std::fs::File::options().append(true).open(log).unwrap();
    file.write_all(b"2026-01-01T00:00:01Z stdout F more\n").unwrap();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "more\n");
    plane.runtime.end("a", 0);
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn nobody_gets_in_without_a_certificate() {
    let plane = Plane::start().await;
    assert!(ask(&plane, "/healthz", false).await.is_none());
}
