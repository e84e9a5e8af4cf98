//! TLS with clients: which certificate they are shown, and what is spoken.

use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use http::{Request, Version};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::crypto::ring;
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::edge::Edge;
use crate::upstream::{Upstream, api, backend, ingress, reach_tests, rule, service, until};

type Stream = tokio_rustls::client::TlsStream<TcpStream>;

async fn connect(address: SocketAddr, name: &str, protocol: &str) -> Stream {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap();
    // The tests look at which certificate it is.
    let mut config =
        config.dangerous().with_custom_certificate_verifier(egress::anybody()).with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

async fn shown(address: SocketAddr, name: &str) -> Vec<u8> {
    connect(address, name, "http/1.1").await.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

/// A certificate of its own, and the data of a Secret with it.
fn made(name: &str) -> (Vec<u8>, Value) {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let encoded = |text: String| base64::engine::general_purpose::STANDARD.encode(text);
    let data =
        json!({ "tls.crt": encoded(made.cert.pem()), "tls.key": encoded(made.signing_key.serialize_pem()) });
    (made.cert.der().to_vec(), data)
}

fn secret(name: &str, data: &Value) -> Value {
    json!({ "metadata": { "namespace": "shop", "name": name }, "type": "kubernetes.io/tls", "data": data })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_has_its_certificate_and_a_new_one_without_a_break() {
    let (folder, api) = (tempfile::tempdir().unwrap(), api());
    let upstream = Upstream::start("one").await;
    service(&api, "shop", "web", &[upstream.address], json!({}));
    let (exact, exact_data) = made("a.test");
    let (wild, wild_data) = made("*.b.test");
    api.place("secrets", secret("exact", &exact_data));
    api.place("secrets", secret("wild", &wild_data));
    ingress(
        &api,
        "shop",
        "main",
        json!({ "rules": [rule("a.test", "web"), rule("*.b.test", "web"), rule("c.test", "web")], "tls": [
            { "hosts": ["a.test"], "secretName": "exact" }, { "hosts": ["*.b.test"], "secretName": "wild" },
            { "hosts": ["c.test"], "secretName": "none" },
        ] }),
    );
    // Somebody else's certificate for the same name is not shown.
    let (_, foreign) = made("a.test");
    let mut foreign = secret("mine", &foreign);
    foreign["metadata"]["namespace"] = "other".into();
    api.place("secrets", foreign);
    ingress(
        &api,
        "other",
        "main",
        json!({ "defaultBackend": backend("web"), "tls": [{ "hosts": ["a.test"], "secretName": "mine" }] }),
    );
    let edge = Edge::start_with(folder.path(), &api, reach_tests).await;
    let at = edge.tls_address;
    assert_eq!(shown(at, "a.test").await, exact);
    assert_eq!(shown(at, "x.b.test").await, wild);
    let stand_in = shown(at, "c.test").await;
    assert_eq!(shown(at, "x.y.b.test").await, stand_in);
    until("what is wrong is told", || {
        let mut told = api.messages("CertificateInvalid");
        told.sort();
        told == [
            "Secret mine: host a.test belongs to namespace shop, which claimed a.test first",
            "Secret none: it does not exist",
        ]
    })
    .await;

    let stream = connect(at, "a.test", "h2").await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut ask = async || {
        let request = Request::get("https://a.test/").version(Version::HTTP_2);
        let reply = sender.send_request(request.body(Empty::<bytes::Bytes>::new()).unwrap()).await.unwrap();
        let told: Value =
            serde_json::from_slice(&reply.into_body().collect().await.unwrap().to_bytes()).unwrap();
        let header =
            told["headers"].as_array().unwrap().iter().find(|one| one[0] == "x-forwarded-proto").cloned();
        assert_eq!(header, Some(json!(["x-forwarded-proto", "https"])));
    };
    ask().await;
    let (renewed, data) = made("a.test");
    api.place("secrets", secret("exact", &data));
    while shown(at, "a.test").await != renewed {}
    ask().await;
    // One that does not go with its key is told, and not shown.
    let mut wrong = made("a.test").1;
    wrong["tls.key"] = data["tls.key"].clone();
    api.place("secrets", secret("exact", &wrong));
    while shown(at, "a.test").await != stand_in {}
    until("the mismatch is told", || {
        api.messages("CertificateInvalid")
            .iter()
            .any(|told| told.starts_with("Secret exact: the certificate and"))
    })
    .await;
    ask().await;
    edge.stop().await;
}
