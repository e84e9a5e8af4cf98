//! Requests through the server to pods, Services and nodes, with a real server at the other end.

use std::convert::Infallible;
use std::net::UdpSocket;

use apiserver::BodyError;
use bytes::Bytes;
use futures::SinkExt;
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use pki::Identity;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::ask::Asker;
use crate::plane::Plane;
use crate::{directory, start};

const PODS: &str = "/api/v1/namespaces/default/pods";
const SERVICES: &str = "/api/v1/namespaces/default/services";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";

/// An address of this machine that is not loopback: endpoints may not have such.
fn own_address() -> String {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("192.0.2.1:9").unwrap();
    socket.local_addr().unwrap().ip().to_string()
}

type Answered = Response<UnsyncBoxBody<Bytes, hyper::Error>>;

fn whole(text: impl Into<Bytes>) -> UnsyncBoxBody<Bytes, hyper::Error> {
    Full::new(text.into()).map_err(|never| match never {}).boxed_unsync()
}

/// What the server in a pod answers.
async fn answer(mut request: Request<Incoming>) -> Result<Answered, Infallible> {
    let response = Response::builder();
    let response = match request.uri().path() {
        "/back" => return Ok(Response::new(request.into_body().boxed_unsync())),
        "/count" => {
            let count = request.into_body().collect().await.unwrap().to_bytes().len();
            return Ok(Response::new(whole(count.to_string())));
        }
        "/away" => response.status(302).header("location", "/elsewhere").body(whole("")),
        "/page" => {
            response.header("content-type", "text/html").body(whole("<a href=\"/x\">/x</a><a href=\"x\">"))
        }
        "/teapot" => response.status(418).header("access-control-allow-origin", "*").body(whole("no")),
        "/upgrade" => {
            let client = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut stream = TokioIo::new(client.await.unwrap());
                let mut heard = [0; 5];
                stream.read_exact(&mut heard).await.unwrap();
                stream.write_all(&heard).await.unwrap();
            });
            response
                .status(101)
                .header("connection", "upgrade")
                .header("upgrade", "echo")
                .header("x-asked", request.uri().to_string())
                .body(Empty::new().map_err(|never| match never {}).boxed_unsync())
        }
        _ => {
            let headers: serde_json::Map<String, Value> = request
                .headers()
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_str().unwrap().into()))
                .collect();
            let said = json!({"method": request.method().as_str(), "uri": request.uri().to_string(), "headers": headers});
            response.body(whole(said.to_string()))
        }
    };
    Ok(response.unwrap())
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer));
    let _ = connection.with_upgrades().await;
}

/// Starts it on a port of every address of this machine.
async fn backend() -> u16 {
    let socket = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = socket.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    port
}

/// The same over TLS, with a certificate that nobody knows.
async fn secured_backend(plane: &Plane) -> u16 {
    let serving =
        plane.front_proxies.serving(&pki::api_server_names(["x.example"]), plane.clock.now()).unwrap();
    let verifier = apiserver::tls::client_verifier(&plane.authority).unwrap();
    let presented = apiserver::tls::Presented::new(&serving).unwrap();
    let mut config = (*apiserver::tls::server_config(presented, verifier).unwrap()).clone();
    config.alpn_protocols = Vec::new();
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let socket = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = socket.accept().await {
            if let Ok(tls) = acceptor.accept(stream).await {
                tokio::spawn(serve(tls));
            }
        }
    });
    port
}

/// A pod at an address, with a port.
async fn pod(admin: &Asker<'_>, name: &str, address: &str, port: u16) {
    let containers = json!([{"name": "side", "image": "i"},
        {"name": "c", "image": "i", "ports": [{"containerPort": port}, {"containerPort": 1}]}]);
    let pod = json!({"metadata": {"name": name}, "spec": {"nodeName": "one", "containers": containers}});
    admin.post(PODS, &pod).await.ok();
    let status = json!({"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}});
    admin.patch(&format!("{PODS}/{name}/status"), "merge-patch", &status).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_asked_what_we_are_asked() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let (admin, port) = (Asker::admin(&plane), backend().await);
    pod(&admin, "p", &own_address(), port).await;
    let proxy = format!("{PODS}/p/proxy");

    let root = Asker::token(&plane, "admin-token").with("host", "plane.example").with("x-remote-user", "eve");
    let said = root.get(&format!("{proxy}/a%2Fb/../c%20d/?watch=1&x=%20y")).await.ok();
    assert_eq!((&said["method"], &said["uri"]), (&json!("GET"), &json!("/a/c%20d/?watch=1&x=%20y")));
    let headers = &said["headers"];
    assert_eq!(headers["host"], "plane.example");
    assert_eq!(headers["x-forwarded-uri"], format!("{proxy}/a/c%20d/"));
    assert!(headers["authorization"].is_null() && headers["x-remote-user"].is_null(), "{headers}");
    // The first port that a container has, or the one that is asked for.
    for id in [format!("p:{port}"), format!("http:p:{port}"), "http:p:".to_owned()] {
        assert_eq!(admin.get(&format!("{PODS}/{id}/proxy/x")).await.ok()["uri"], "/x", "{id}");
    }
    let secured = secured_backend(&plane).await;
    assert_eq!(admin.get(&format!("{PODS}/https:p:{secured}/proxy/x")).await.ok()["uri"], "/x");

    for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS] {
        let said =
            admin.send(method.clone(), &format!("{proxy}/x"), &[("content-type", "a/b")], "").await.ok();
        assert_eq!(
            (&said["method"], &said["headers"]["content-type"]),
            (&json!(method.as_str()), &json!("a/b"))
        );
    }
    let head = admin.send(Method::HEAD, &format!("{proxy}/x"), &[("accept", "text/html")], "").await;
    assert!(
        head.code == 200 && head.body.is_empty() && !head.header("content-length").is_empty(),
        "{head:?}"
    );
    let large = "x".repeat(8 << 20);
    assert_eq!(admin.send(Method::POST, &format!("{proxy}/count"), &[], &large).await.text(), "8388608");
    let back = admin.send(Method::PUT, &format!("{proxy}/back"), &[], &large).await;
    assert!(back.text() == large);
    let refused = admin.get(&format!("{proxy}/teapot")).await;
    assert_eq!((refused.code, refused.text()), (418, "no"));
    assert_eq!(refused.header("access-control-allow-origin"), "");
    assert_eq!(admin.get(&format!("{proxy}/x?dryRun=All")).await.failure().2, "dryRun is not supported");
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn links_in_answers_lead_through_us() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let (admin, port) = (Asker::admin(&plane), backend().await);
    pod(&admin, "p", &own_address(), port).await;
    let proxy = format!("{PODS}/p/proxy");
    let root = admin.get(&format!("{proxy}?a=b")).await;
    assert_eq!((root.code, root.header("location")), (301, format!("{proxy}/?a=b").as_str()));
    assert_eq!(admin.post(&proxy, &json!({})).await.ok()["uri"], "/");
    assert_eq!(admin.get(&format!("{proxy}/")).await.ok()["uri"], "/");
    let away = admin.get(&format!("{proxy}/away")).await;
    assert_eq!((away.code, away.header("location")), (302, format!("{proxy}/elsewhere").as_str()));
    let page = admin.get(&format!("{proxy}/page")).await;
    assert_eq!(page.text(), format!("<a href=\"{proxy}/x\">/x</a><a href=\"x\">"));
    assert_eq!(page.header("content-length"), "");
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_go_through_piece_by_piece() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let (admin, port) = (Asker::admin(&plane), backend().await);
    pod(&admin, "p", &own_address(), port).await;
    let (mut sender, pieces) = futures::channel::mpsc::channel::<Result<Frame<Bytes>, BodyError>>(1);
    let request = Request::post(format!("{PODS}/p/proxy/back")).body(StreamBody::new(pieces)).unwrap();
    let connection = plane.connection(&Identity::Admin);
    let response = plane.server.handle(request, &connection).await;
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    // Each piece is back before the next is sent.
    for piece in ["one", "two", "three"] {
        sender.send(Ok(Frame::data(Bytes::from(piece)))).await.unwrap();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), piece);
    }
    drop(sender);
    assert!(body.frame().await.is_none());
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_in_other_protocols_pass_through() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let (admin, port) = (Asker::admin(&plane), backend().await);
    pod(&admin, "p", &own_address(), port).await;
    let ask = async |path: &str| {
        let mut stream = crate::sockets::connect(&plane, plane.address, b"http/1.1").await;
        let head = format!(
            "GET {PODS}/p/proxy{path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer admin-token\r\n\
             connection: upgrade\r\nupgrade: echo\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = vec![0; 4096];
        let count = stream.read(&mut answer).await.unwrap();
        (stream, String::from_utf8_lossy(&answer[..count]).to_lowercase())
    };
    let (mut stream, answer) = ask("/upgrade?a=b").await;
    assert!(answer.starts_with("http/1.1 101") && answer.contains("x-asked: /upgrade?a=b"), "{answer}");
    stream.write_all(b"hello").await.unwrap();
    let mut back = [0; 5];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"hello");
    let (_, answer) = ask("/teapot").await;
    assert!(answer.starts_with("http/1.1 418"), "{answer}");
    let (_, answer) = ask("/x").await;
    assert!(
        answer.starts_with("http/1.1 500") && answer.contains("invalid upgrade response: status code 200"),
        "{answer}"
    );
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_a_ready_pod_of_it() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let (admin, port, address) = (Asker::admin(&plane), backend().await, own_address());
    pod(&admin, "p", &address, port).await;
    let service = json!({"metadata": {"name": "s"}, "spec": {"ports": [
        {"name": "web", "port": 80, "targetPort": port}, {"name": "none", "port": 81}]}});
    admin.post(SERVICES, &service).await.ok();
    let failure = async |id: &str| {
        let (code, _, message) = admin.get(&format!("{SERVICES}/{id}/proxy/x")).await.failure();
        (code, message)
    };
    let none = |id: &str| (503, format!("no endpoints available for service \"{id}\""));
    assert_eq!(failure("http:s:80").await, none("s"));
    let target = |name: &str| json!({"kind": "Pod", "namespace": "default", "name": name});
    let slice = |endpoint: Value| {
        json!({"metadata": {"name": "s-1", "labels": {"kubernetes.io/service-name": "s"}},
            "addressType": "IPv4", "ports": [{"name": "web", "port": port}], "endpoints": [endpoint]})
    };
    // Whoever may write endpoints may not have us ask anybody: it takes a pod that has the address.
    let made = slice(json!({"addresses": [address]}));
    admin.post(SLICES, &made).await.ok();
    assert_eq!(failure("s:web").await, none("s:web"));
    for endpoint in [
        json!({"addresses": [address], "targetRef": target("other")}),
        json!({"addresses": ["192.0.2.1"], "targetRef": target("p")}),
        json!({"addresses": [address], "targetRef": target("p"), "conditions": {"ready": false}}),
    ] {
        admin.put(&format!("{SLICES}/s-1"), &slice(endpoint)).await.ok();
        assert_eq!(failure("s:80").await, none("s:80"));
    }
    let ready = slice(json!({"addresses": [address], "targetRef": target("p")}));
    admin.put(&format!("{SLICES}/s-1"), &ready).await.ok();
    for id in ["s:80", "s:web", "http:s:web", "http:s:80"] {
        assert_eq!(admin.get(&format!("{SERVICES}/{id}/proxy/x?a=b")).await.ok()["uri"], "/x?a=b", "{id}");
    }
    assert_eq!(failure("s").await, none("s"));
    assert_eq!(failure("s:none").await, none("s:none"));
    assert_eq!(failure("s:82").await, (503, "no service port 82 found for service \"s\"".to_owned()));
    assert_eq!(failure("ftp:s:web").await, (400, "invalid service request \"ftp:s:web\"".to_owned()));
    assert_eq!(failure("t:80").await, (404, "services \"t\" not found".to_owned()));
    assert_eq!(failure("t").await, (404, "endpoints \"t\" not found".to_owned()));
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_its_kubelet_or_another_port_there() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let (admin, port) = (Asker::admin(&plane), backend().await);
    let names = pki::kubelet_names("one", ["127.0.0.1"]);
    let serving = plane.authority.kubelet_serving("one", &names, plane.clock.now()).unwrap();
    let kubelet = crate::log::kubelet(&plane, &serving).await;
    crate::log::prepare(&plane, kubelet).await;
    for id in ["one".to_owned(), format!("one:{kubelet}"), format!("http:one:{kubelet}")] {
        let said = admin.get(&format!("/api/v1/nodes/{id}/proxy/healthz?a=b")).await;
        assert_eq!((said.code, said.text()), (200, "kube-apiserver-kubelet-client /healthz?a=b\n"), "{id}");
    }
    assert_eq!(admin.get(&format!("/api/v1/nodes/one:{port}/proxy/x")).await.ok()["uri"], "/x");
    let missing = admin.get("/api/v1/nodes/two/proxy/x").await.failure();
    assert_eq!((missing.0, missing.2.as_str()), (404, "nodes \"two\" not found"));
    let wrong = admin.get("/api/v1/nodes/http:one:1:2/proxy/x").await.failure();
    assert_eq!((wrong.0, wrong.2.as_str()), (400, "invalid node request \"http:one:1:2\""));
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_asked_is_not() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let (admin, port) = (Asker::admin(&plane), backend().await);
    pod(&admin, "p", &own_address(), port).await;
    pod(&admin, "loopback", "127.0.0.2", port).await;
    pod(&admin, "metadata", "169.254.169.254", 80).await;
    let pending =
        json!({"metadata": {"name": "pending"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    admin.post(PODS, &pending).await.ok();
    for name in ["loopback", "metadata", "pending"] {
        let refused = admin.get(&format!("{PODS}/{name}/proxy/x")).await.failure();
        assert_eq!(refused, (400, "BadRequest".into(), "address not allowed".into()), "{name}");
    }
    let closed = TcpListener::bind("0.0.0.0:0").await.unwrap().local_addr().unwrap().port();
    let down = admin.get(&format!("{PODS}/p:{closed}/proxy/x")).await.failure();
    let why = format!(
        "error trying to reach service: dial tcp {}:{closed}: connect: connection refused",
        own_address()
    );
    assert_eq!(down, (503, "ServiceUnavailable".into(), why));
    let missing = admin.get(&format!("{PODS}/q/proxy/x")).await.failure();
    assert_eq!((missing.0, missing.2.as_str()), (404, "pods \"q\" not found"));
    assert_eq!(admin.get("/api/v1/pods/p/proxy/x").await.code, 404);
    assert_eq!(admin.get(&format!("{PODS}/p/log/x")).await.code, 404);

    // Each method is a verb, and the name is what it is called.
    let bob = Asker::token(&plane, "bob-token");
    let path = format!("{PODS}/p:{port}/proxy/x");
    assert_eq!(bob.get(&path).await.code, 403);
    let rules = json!([{"apiGroups": [""], "resources": ["pods/proxy"], "verbs": ["get"], "resourceNames": [format!("p:{port}")]}]);
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    admin.post(&format!("{rbac}/roles"), &json!({"metadata": {"name": "r"}, "rules": rules})).await.ok();
    let binding = json!({"metadata": {"name": "r"}, "subjects": [{"kind": "User", "name": "bob"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"}});
    admin.post(&format!("{rbac}/rolebindings"), &binding).await.ok();
    for _ in 0..2000 {
        if bob.get(&path).await.code == 200 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(bob.get(&path).await.ok()["uri"], "/x");
    assert_eq!(bob.get(&format!("{PODS}/p/proxy/x")).await.code, 403);
    let refused = bob.post(&path, &json!({})).await.failure();
    assert!(refused.0 == 403 && refused.2.contains("cannot create resource \"pods/proxy\""), "{refused:?}");
    assert_eq!(bob.send(Method::OPTIONS, &path, &[], "").await.code, 403);
    plane.stop().await;
}
