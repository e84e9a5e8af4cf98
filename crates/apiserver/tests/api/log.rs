//! Logs through the server: from a kubelet that checks who asks, and whose certificate is checked.

use std::sync::Arc;

use apiserver::tls::Presented;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use pki::{Authority, Credential, kubelet_names};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::ask::Asker;
use crate::plane::Plane;
use crate::{directory, start};

/// A kubelet that answers with the path it was asked for, and with who asked.
pub(crate) async fn kubelet(plane: &Plane, serving: &Credential) -> u16 {
    let verifier = apiserver::tls::client_verifier(&plane.authority).unwrap();
    let mut config =
        (*apiserver::tls::server_config(Presented::new(serving).unwrap(), verifier).unwrap()).clone();
    config.alpn_protocols = Vec::new();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let socket = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = socket.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = socket.accept().await {
            let Ok(tls) = acceptor.accept(stream).await else { continue };
            let own = tls.get_ref().1.peer_certificates().unwrap()[0].clone();
            let user = auth::user_of_certificate(&own).unwrap().user.name;
            let answer = service_fn(move |request: Request<Incoming>| {
                let text = format!("{user} {}\n", request.uri());
                async move { Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from(text)))) }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tls), answer),
            );
        }
    });
    port
}

pub(crate) async fn prepare(plane: &Plane, port: u16) {
    let admin = Asker::admin(plane);
    admin.post("/api/v1/nodes", &json!({"metadata": {"name": "one"}})).await.ok();
    let status = json!({"status": {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
    }});
    admin.patch("/api/v1/nodes/one/status", "merge-patch", &status).await.ok();
    let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "one", "containers": [{"name": "c", "image": "i"}]}});
    admin.post("/api/v1/namespaces/default/pods", &pod).await.ok();
}

#[tokio::test]
async fn a_log_comes_from_the_kubelet_of_the_pods_node() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let names = kubelet_names("one", ["127.0.0.1"]);
    let serving = plane.authority.kubelet_serving("one", &names, plane.clock.now()).unwrap();
    prepare(&plane, kubelet(&plane, &serving).await).await;
    let admin = Asker::admin(&plane);
    let log = admin.get("/api/v1/namespaces/default/pods/p/log?tailLines=5&follow=true").await;
    assert_eq!(log.header("content-type"), "text/plain");
    let expected = "kube-apiserver-kubelet-client /containerLogs/default/p/c?tailLines=5&follow=true\n";
    assert_eq!((log.code, log.text()), (200, expected));
    let wrong = admin.get("/api/v1/namespaces/default/pods/p/log?container=x").await.failure();
    assert_eq!(wrong, (400, "BadRequest".into(), "container x is not valid for pod p".into()));
    assert_eq!(
        Asker::token(&plane, "bob-token").get("/api/v1/namespaces/default/pods/p/log").await.code,
        403
    );
    plane.stop().await;
}

#[tokio::test]
async fn a_kubelet_that_cannot_prove_its_address_is_not_believed() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let other = Authority::open(&directory.path().join("other"), plane.clock.now()).unwrap();
    let names = kubelet_names("one", ["127.0.0.1"]);
    let forged = other.kubelet_serving("one", &names, plane.clock.now()).unwrap();
    prepare(&plane, kubelet(&plane, &forged).await).await;
    let (code, _, message) =
        Asker::admin(&plane).get("/api/v1/namespaces/default/pods/p/log").await.failure();
    assert_eq!(code, 500);
    assert!(message.contains("invalid peer certificate"), "{message}");
    plane.stop().await;
}
