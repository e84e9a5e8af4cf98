//! APIs that another server serves, through this one.

use harness::{Extension, GROUP_VERSION};
use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::ask::Asker;
use crate::plane::Plane;
use crate::{directory, start};

const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const FLUNDERS: &str = "/apis/wardle.example.com/v1alpha1/namespaces/default/flunders";
const NAME: &str = "v1alpha1.wardle.example.com";
const AGGREGATED: &str =
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";

/// A Service that leads to this machine, and the APIService of the extension behind it.
async fn registered(plane: &Plane, extension: &Extension) {
    let admin = Asker::admin(plane);
    let service = json!({"metadata": {"name": "wardle"},
        "spec": {"type": "ExternalName", "externalName": "localhost"}});
    admin.post("/api/v1/namespaces/default/services", &service).await.ok();
    let service = json!({
        "metadata": {"name": NAME},
        "spec": {
            "group": "wardle.example.com", "version": "v1alpha1",
            "service": {"namespace": "default", "name": "wardle", "port": extension.port},
            "caBundle": extension.ca_bundle, "groupPriorityMinimum": 1000, "versionPriority": 15,
        },
    });
    admin.post(SERVICES, &service).await.ok();
}

async fn condition(admin: &Asker<'_>) -> (String, String, String) {
    let service = admin.get(&format!("{SERVICES}/{NAME}")).await.ok();
    let condition = &service["status"]["conditions"][0];
    let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
    (text("status"), text("reason"), text("message"))
}

async fn is_listed(admin: &Asker<'_>) -> bool {
    group(&admin.get("/apis").await.ok()["groups"], "wardle.example.com").is_some()
}

async fn until_reason(admin: &Asker<'_>, reason: &str) -> String {
    for _ in 0..4000 {
        let (_, found, message) = condition(admin).await;
        // The server goes by what it reads back of its own word, which takes a moment.
        if found == reason && (reason != "Passed" || is_listed(admin).await) {
            return message;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("never {reason}: {:?}", condition(admin).await);
}

fn group<'a>(list: &'a Value, name: &str) -> Option<&'a Value> {
    list.as_array().unwrap().iter().find(|each| each["name"] == name || each["metadata"]["name"] == name)
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_reach_the_other_server_in_the_name_of_whoever_asks() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let admin = Asker::admin(&plane);
    let extension = Extension::start(&["wardle.default.svc"], plane.front_proxies.certificate_pem());
    registered(&plane, &extension).await;
    assert_eq!(until_reason(&admin, "Passed").await, "all checks passed");
    let first = extension.asked()[0].clone();
    assert_eq!(first.header("x-remote-user"), ["system:kube-aggregator"]);
    assert_eq!(first.header("x-remote-group"), ["system:masters"]);

    let flunder = json!({"apiVersion": GROUP_VERSION, "kind": "Flunder", "metadata": {"name": "a"}});
    // Who may not, is told so here.
    let bob = Asker::token(&plane, "bob-token");
    assert_eq!(bob.post(FLUNDERS, &flunder).await.failure().0, 403);
    let root =
        Asker::token(&plane, "admin-token").with("x-remote-user", "eve").with("x-remote-group", "evil");
    let made = root.post(FLUNDERS, &flunder).await;
    assert_eq!(made.code, 201);
    assert_eq!(made.json()["metadata"]["annotations"]["by"], "root");
    let asked = extension.asked().last().unwrap().clone();
    assert_eq!(asked.header("x-remote-group"), ["system:masters", "system:authenticated"]);
    assert!(asked.header("authorization").is_empty());
    assert_eq!(asked.body, flunder);
    let listed = admin.get(&format!("{FLUNDERS}?limit=500")).await.ok();
    assert_eq!(listed["items"][0]["metadata"]["name"], "a");
    assert_eq!(extension.asked().last().unwrap().target, format!("{FLUNDERS}?limit=500"));
    // Nothing is read whole on the way.
    let large = json!({"apiVersion": GROUP_VERSION, "kind": "Flunder", "metadata": {"name": "large"}, "spec": "x".repeat(8 << 20)});
    assert_eq!(admin.post(FLUNDERS, &large).await.code, 201);
    assert_eq!(extension.asked().last().unwrap().body, large);
    let missing = admin.get(&format!("{FLUNDERS}/b")).await.failure();
    assert_eq!((missing.0, missing.2.as_str()), (404, "flunders \"b\" not found"));
    assert_eq!(admin.get("/apis/wardle.example.com/v1alpha1/elsewhere").await.code, 502);

    let watch = admin.begin(Method::GET, &format!("{FLUNDERS}?watch=true"), &[], "").await;
    let mut body = watch.into_body();
    let event = body.frame().await.unwrap().unwrap().into_data().unwrap();
    let event: Value = serde_json::from_slice(&event).unwrap();
    assert_eq!(event["object"]["metadata"]["name"], "watched");
    drop(body);
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_serves_is_discovered_like_our_own() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let admin = Asker::admin(&plane);
    let extension = Extension::start(&["wardle.default.svc"], plane.front_proxies.certificate_pem());
    registered(&plane, &extension).await;
    until_reason(&admin, "Passed").await;
    // The condition and the table that follows it are not one.
    for _ in 0..2000 {
        if admin.get("/apis/wardle.example.com").await.code == 200 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let groups = admin.get("/apis").await.ok();
    let wardle = group(&groups["groups"], "wardle.example.com").unwrap();
    assert_eq!(wardle["preferredVersion"]["groupVersion"], GROUP_VERSION);
    assert_eq!(groups["groups"][0]["name"], "apiregistration.k8s.io");
    let resources = admin.get("/apis/wardle.example.com/v1alpha1").await.ok();
    assert_eq!(resources["resources"][0]["name"], "flunders");
    let aggregated = admin.get_as("/apis", AGGREGATED).await.ok();
    let wardle = group(&aggregated["items"], "wardle.example.com").unwrap();
    assert_eq!(wardle["versions"][0]["freshness"], "Current");
    assert_eq!(
        wardle["versions"][0]["resources"][0],
        json!({"resource": "flunders", "singularResource": "flunder", "scope": "Namespaced", "shortNames": ["fl"],
            "responseKind": {"group": "wardle.example.com", "version": "v1alpha1", "kind": "Flunder"},
            "verbs": ["create", "get", "list", "watch"]})
    );
    let root = admin.get("/openapi/v3").await.ok();
    let url = root["paths"]["apis/wardle.example.com/v1alpha1"]["serverRelativeURL"].as_str().unwrap();
    let document = admin.get(url).await.ok();
    assert!(document["components"]["schemas"]["com.example.wardle.v1alpha1.Flunder"].is_object());
    let all = admin.get("/openapi/v2").await.ok();
    assert!(all["paths"][FLUNDERS.replace("/default/", "/{namespace}/")].is_object());
    assert!(all["definitions"]["com.example.wardle.v1alpha1.Flunder"].is_object());
    assert!(all["definitions"].get("unused").is_none());

    // It is gone with its APIService.
    admin.delete(&format!("{SERVICES}/{NAME}")).await.ok();
    for _ in 0..2000 {
        if admin.get("/apis/wardle.example.com/v1alpha1").await.code == 404 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert!(group(&admin.get("/apis").await.ok()["groups"], "wardle.example.com").is_none());
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_is_said_not_to_be() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let admin = Asker::admin(&plane);
    let service = json!({
        "metadata": {"name": NAME},
        "spec": {
            "group": "wardle.example.com", "version": "v1alpha1", "insecureSkipTLSVerify": true,
            "service": {"namespace": "default", "name": "wardle", "port": 443},
            "groupPriorityMinimum": 1000, "versionPriority": 15,
        },
    });
    admin.post(SERVICES, &service).await.ok();
    let message = until_reason(&admin, "ServiceNotFound").await;
    assert_eq!(message, "service/wardle in \"default\" is not present");
    let down = admin.get(FLUNDERS).await;
    assert_eq!((down.code, down.text()), (503, "service unavailable\n"));
    let aggregated = admin.get_as("/apis", AGGREGATED).await.ok();
    let wardle = group(&aggregated["items"], "wardle.example.com").unwrap();
    assert_eq!(
        (&wardle["versions"][0]["freshness"], &wardle["versions"][0]["resources"]),
        (&json!("Stale"), &json!([]))
    );
    assert!(group(&admin.get("/apis").await.ok()["groups"], "wardle.example.com").is_none());

    let services = "/api/v1/namespaces/default/services";
    let mut service =
        json!({"metadata": {"name": "wardle"}, "spec": {"ports": [{"name": "web", "port": 80}]}});
    service = admin.post(services, &service).await.ok();
    let message = until_reason(&admin, "ServicePortError").await;
    assert_eq!(message, "service/wardle in \"default\" is not listening on port 443");
    service["spec"]["ports"][0]["port"] = json!(443);
    admin.put(&format!("{services}/wardle"), &service).await.ok();
    let message = until_reason(&admin, "EndpointsNotFound").await;
    assert_eq!(message, "cannot find endpointslices for service/wardle in \"default\"");
    let slice = json!({"metadata": {"name": "wardle-1", "labels": {"kubernetes.io/service-name": "wardle"}},
        "addressType": "IPv4", "ports": [{"name": "web", "port": 443}],
        "endpoints": [{"addresses": ["192.0.2.1"], "conditions": {"ready": false}}]});
    admin.post("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", &slice).await.ok();
    let message = until_reason(&admin, "MissingEndpoints").await;
    assert_eq!(
        message,
        "endpointslices for service/wardle in \"default\" have no addresses with port name \"web\""
    );
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_fails_or_is_not_who_it_should_be_fails_the_check() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let admin = Asker::admin(&plane);
    let proxies = plane.front_proxies.certificate_pem();
    let impostor = Extension::start(&["other.default.svc"], proxies);
    registered(&plane, &impostor).await;
    let message = until_reason(&admin, "FailedDiscoveryCheck").await;
    let url = format!("https://wardle.default.svc:{}/apis/{GROUP_VERSION}", impostor.port);
    assert_eq!(
        message,
        format!(
            "failing or missing response from {url}: tls: failed to verify certificate: x509: certificate is not valid \
             for any names, but wanted to match wardle.default.svc"
        )
    );
    assert!(impostor.asked().is_empty());
    let extension = Extension::start(&["wardle.default.svc"], proxies);
    extension.set_healthy(false);
    let spec = json!({"spec": {"caBundle": extension.ca_bundle, "service": {"port": extension.port}}});
    admin.patch(&format!("{SERVICES}/{NAME}"), "merge-patch", &spec).await.ok();
    for _ in 0..4000 {
        if condition(&admin).await.2.contains("bad status") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let url = format!("https://wardle.default.svc:{}/apis/{GROUP_VERSION}", extension.port);
    let message = format!("failing or missing response from {url}: bad status from {url}: 500");
    assert_eq!(condition(&admin).await, ("False".into(), "FailedDiscoveryCheck".into(), message));
    extension.set_healthy(true);
    until_reason(&admin, "Passed").await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_in_other_protocols_pass_through() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let admin = Asker::admin(&plane);
    let extension = Extension::start(&["wardle.default.svc"], plane.front_proxies.certificate_pem());
    registered(&plane, &extension).await;
    until_reason(&admin, "Passed").await;
    let mut stream = crate::sockets::connect(&plane, plane.address, b"http/1.1").await;
    let head = "GET /apis/wardle.example.com/v1alpha1/echo HTTP/1.1\r\nhost: a\r\nauthorization: Bearer admin-token\r\n\
                connection: upgrade\r\nupgrade: echo\r\n\r\n";
    for _ in 0..200 {
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = vec![0; 4096];
        let count = stream.read(&mut answer).await.unwrap();
        if answer[..count].starts_with(b"HTTP/1.1 101") {
            stream.write_all(b"hello").await.unwrap();
            let mut back = [0; 5];
            stream.read_exact(&mut back).await.unwrap();
            assert_eq!(&back, b"hello");
            assert_eq!(extension.asked().last().unwrap().header("x-remote-user"), ["root"]);
            drop(stream);
            plane.stop().await;
            return;
        }
        // The table follows the condition.
        assert!(
            answer[..count].starts_with(b"HTTP/1.1 503"),
            "{}",
            String::from_utf8_lossy(&answer[..count])
        );
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        stream = crate::sockets::connect(&plane, plane.address, b"http/1.1").await;
    }
    panic!("never upgraded");
}

#[tokio::test]
async fn what_is_served_here_has_apiservices_that_keep_themselves() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let admin = Asker::admin(&plane);
    let apps = admin.get(&format!("{SERVICES}/v1.apps")).await.ok();
    assert_eq!(apps["metadata"]["labels"]["kube-aggregator.kubernetes.io/automanaged"], "onstart");
    assert_eq!(apps["status"]["conditions"][0]["reason"], "Local");
    let crd = json!({
        "metadata": {"name": "widgets.example.org"},
        "spec": {
            "group": "example.org", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object"}}}],
        },
    });
    let crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    admin.post(crds, &crd).await.ok();
    let until = async |code: u16, spec: bool| {
        for _ in 0..2000 {
            let answer = admin.get(&format!("{SERVICES}/v1.example.org")).await;
            if answer.code == code && (!spec || answer.json()["spec"]["versionPriority"] == 100) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        panic!("never {code}");
    };
    until(200, true).await;
    let kept = admin.get(&format!("{SERVICES}/v1.example.org")).await.ok();
    assert_eq!(kept["metadata"]["labels"]["kube-aggregator.kubernetes.io/automanaged"], "true");
    let change = json!({"spec": {"versionPriority": 7}});
    admin.patch(&format!("{SERVICES}/v1.example.org"), "merge-patch", &change).await.ok();
    until(200, true).await;
    let before = kept["metadata"]["uid"].clone();
    admin.delete(&format!("{SERVICES}/v1.example.org")).await.ok();
    until(200, true).await;
    assert_ne!(admin.get(&format!("{SERVICES}/v1.example.org")).await.ok()["metadata"]["uid"], before);
    admin.delete(&format!("{crds}/widgets.example.org")).await.ok();
    until(404, false).await;
    plane.stop().await;
}
