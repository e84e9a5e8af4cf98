//! Pods through their lives.

use serde_json::json;

use crate::fake::FakeRuntime;
use crate::plane::{Plane, told};

fn one(extra: serde_json::Value) -> serde_json::Value {
    let mut container = json!({"name": "a", "image": "image", "imagePullPolicy": "IfNotPresent"});
    container.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    json!({"containers": [container], "terminationGracePeriodSeconds": 3})
}

#[tokio::test]
async fn a_pod_runs_and_leaves() {
    let plane = Plane::start().await;
    plane.create("p", one(json!({}))).await;
    let pod = plane.until_ready("p").await;
    assert_eq!((&pod["status"]["phase"], &pod["status"]["podIP"]), (&json!("Running"), &json!("127.0.0.1")));
    assert_eq!(told(&pod)["containerID"].as_str().unwrap().split("://").next(), Some("fake"));
    for reason in ["Pulled", "Created", "Started"] {
        plane.until_event(reason).await;
    }
    let uid = pod["metadata"]["uid"].as_str().unwrap().to_owned();
    assert!(plane.directory.path().join("pods").join(&uid).exists());

    plane.pods().delete("p", &Default::default()).await.unwrap();
    let pod = plane.until("p", |pod| pod["status"]["phase"] == "Failed").await;
    assert_eq!(told(&pod)["state"]["terminated"]["exitCode"], 143);
    // Once nothing of it is left here it is deleted for good: the second request for it.
    while plane.api.requests("DELETE", "pods") < 2 {
        tokio::task::yield_now().await;
    }
    assert!(plane.runtime.is_empty());
    assert!(!plane.directory.path().join("pods").join(&uid).exists());
    assert_eq!(plane.runtime.calls("stop container"), 1);
    plane.until_event("Killing").await;
}

#[tokio::test]
async fn a_container_that_ends_is_started_again_and_then_made_to_wait() {
    let plane = Plane::start().await;
    plane.create("p", one(json!({}))).await;
    plane.until_ready("p").await;
    plane.runtime.end("a", 1);
    let restarted = |pod: &serde_json::Value| told(pod)["restartCount"] == 1 && told(pod)["ready"] == true;
    let pod = plane.until("p", restarted).await;
    assert_eq!(told(&pod)["lastState"]["terminated"]["exitCode"], 1);
    plane.runtime.end("a", 2);
    let waiting = |pod: &serde_json::Value| told(pod)["state"]["waiting"]["reason"] == "CrashLoopBackOff";
    let pod = plane.until("p", waiting).await;
    assert_eq!((&pod["status"]["phase"], told(&pod)["ready"].as_bool()), (&json!("Running"), Some(false)));
    plane.until_event("BackOff").await;
    assert_eq!(plane.runtime.calls("create a"), 2);
}

#[tokio::test]
async fn what_runs_is_found_again_and_not_started_again() {
    let plane = Plane::start().await;
    plane.create("p", one(json!({}))).await;
    plane.until_ready("p").await;
    plane.runtime.end("a", 1);
    plane.until("p", |pod| told(pod)["restartCount"] == 1 && told(pod)["ready"] == true).await;
    let plane = plane.restart().await;
    plane.create("q", one(json!({}))).await;
    plane.until_ready("q").await;
    assert_eq!(told(&plane.pod("p"))["restartCount"], 1);
    assert_eq!(plane.runtime.calls("create a"), 3, "two runs of p, one of q");
    assert_eq!(plane.runtime.calls("run sandbox p"), 1);
}

#[tokio::test]
async fn what_has_lost_its_pod_is_removed() {
    let plane = Plane::start().await;
    plane.create("p", one(json!({}))).await;
    plane.until_ready("p").await;
    let (_, runtime, directory) = plane.stop().await;
    // Another API, which knows no such pod; and what another pod left, of which no sandbox is left either.
    let logs: Vec<_> = std::fs::read_dir(directory.path().join("logs")).unwrap().collect();
    assert_eq!(logs.len(), 1);
    let left = [directory.path().join("pods/u/volumes/v"), directory.path().join("logs/n_p_u")];
    left.iter().for_each(|left| std::fs::create_dir_all(left).unwrap());
    let api = testkit::FakeApi::new(client::Ambient::system());
    let plane = Plane::with(api, runtime, directory).await;
    let files = |name: &str| std::fs::read_dir(plane.directory.path().join(name)).unwrap().count();
    while !plane.runtime.is_empty() || files("logs") + files("pods") > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_image_that_cannot_be_had_is_said_and_tried_again() {
    let plane = Plane::start().await;
    let never = json!({"image": "other", "imagePullPolicy": "Never"});
    plane.create("never", one(never)).await;
    let reason =
        |pod: &serde_json::Value| told(pod)["state"]["waiting"]["reason"].as_str().unwrap_or("").to_owned();
    plane.until("never", |pod| reason(pod) == "ErrImageNeverPull").await;
    plane.create("pull", one(json!({"image": "third"}))).await;
    let pod = plane.until("pull", |pod| reason(pod) == "ErrImagePull").await;
    assert!(told(&pod)["state"]["waiting"]["message"].as_str().unwrap().contains("no registry"));
    plane.until("pull", |pod| reason(pod) == "ImagePullBackOff").await;
}

#[tokio::test]
async fn an_images_files_are_had_as_an_image_is() {
    let plane = Plane::start().await;
    let mounting = |reference: &str| {
        let mut spec = one(json!({
            "volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "part"}, {"name": "v", "mountPath": "/all"}],
        }));
        spec["volumes"] = json!([{"name": "v", "image": {"reference": reference, "pullPolicy": "Always"}}]);
        spec
    };
    plane.create("p", mounting("image")).await;
    let pod = plane.until_ready("p").await;
    assert_eq!(plane.runtime.calls("pull image"), 1);
    let (config, _) = plane.runtime.container("a").unwrap();
    let found: Vec<_> = config.mounts[..2]
        .iter()
        .map(|mount| (mount.image.as_str(), mount.sub_path.to_str().unwrap()))
        .collect();
    assert_eq!(found, [("image", "part"), ("image", "")]);
    assert!(config.mounts[..2].iter().all(|mount| mount.readonly && mount.host_path.as_os_str().is_empty()));
    let uid = pod["metadata"]["uid"].as_str().unwrap();
    assert!(!plane.directory.path().join("pods").join(uid).join("volumes").exists());

    let reason =
        |pod: &serde_json::Value| told(pod)["state"]["waiting"]["reason"].as_str().unwrap_or("").to_owned();
    plane.create("q", mounting("third")).await;
    let pod = plane.until("q", |pod| reason(pod) == "ErrImagePull").await;
    assert!(told(&pod)["state"]["waiting"]["message"].as_str().unwrap().contains("no registry"));
    plane.until("q", |pod| reason(pod) == "ImagePullBackOff").await;
}

#[tokio::test]
async fn a_pod_gets_its_environment_and_volumes() {
    let plane = Plane::start().await;
    let maps: client::Api<api::k8s::api::core::v1::ConfigMap> =
        client::Api::namespaced(plane.api.client(), "default");
    let map = serde_json::from_value(json!({"metadata": {"name": "m"}, "data": {"key": "value"}})).unwrap();
    maps.create(&Default::default(), &map).await.unwrap();
    let mut spec = one(json!({
        "command": ["run", "$(KEY)"],
        "env": [
            {"name": "KEY", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "key"}}},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        ],
        "volumeMounts": [
            {"name": "config", "mountPath": "/config"},
            {"name": "scratch", "mountPath": "/scratch", "subPath": "part"},
        ],
        "resources": {"limits": {"cpu": "500m", "memory": "64Mi"}},
    }));
    spec["volumes"] =
        json!([{"name": "config", "configMap": {"name": "m"}}, {"name": "scratch", "emptyDir": {}}]);
    plane.create("p", spec).await;
    let pod = plane.until_ready("p").await;
    let (config, _) = plane.runtime.container("a").unwrap();
    assert_eq!(config.command, ["run", "value"]);
    assert_eq!(config.envs[1], ("IP".to_owned(), "127.0.0.1".to_owned()));
    assert_eq!((config.resources.cpu_quota, config.resources.memory_limit), (Some(50_000), Some(64 << 20)));
    let mount = |path: &str| config.mounts.iter().find(|mount| mount.container_path == path).unwrap();
    assert_eq!(std::fs::read_to_string(mount("/config").host_path.join("key")).unwrap(), "value");
    assert!(mount("/config").readonly && mount("/scratch").sub_path.ends_with("part"));
    assert!(std::fs::read_to_string(&mount("/etc/hosts").host_path).unwrap().contains("127.0.0.1\tp"));
    assert_eq!(pod["status"]["qosClass"], "Guaranteed");
    let sandbox = plane.runtime.sandbox();
    assert_eq!(sandbox.dns.searches, ["default.svc.cluster.local", "svc.cluster.local", "cluster.local"]);
    assert!(sandbox.cgroup_parent.starts_with("monoplane/pod"));
}

#[tokio::test]
async fn what_cannot_be_honoured_is_refused_in_words() {
    let plane = Plane::start().await;
    let mut spec = one(json!({}));
    spec["volumes"] = json!([{"name": "v", "nfs": {"server": "s", "path": "/"}}]);
    plane.create("p", spec).await;
    plane.until_event("UnsupportedField").await;
    let refused = |pod: &serde_json::Value| told(pod)["state"]["waiting"]["reason"] == "UnsupportedField";
    let pod = plane.until("p", refused).await;
    assert_eq!(pod["status"]["phase"], "Pending");
    let message = "spec.volumes{v}: nfs is not supported on this node";
    assert_eq!(told(&pod)["state"]["waiting"]["message"], message);
    assert!(plane.runtime.is_empty());
    let mut spec = one(json!({}));
    spec["volumes"] = json!([{"name": "v", "configMap": {"name": "no"}}]);
    plane.create("m", spec).await;
    plane.until_event("FailedMount").await;
    assert_eq!(told(&plane.pod("m"))["state"]["waiting"]["reason"], "ContainerCreating");
    let missing = json!({"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "no", "key": "k"}}}]});
    plane.create("q", one(missing)).await;
    let reason =
        |pod: &serde_json::Value| told(pod)["state"]["waiting"]["reason"] == "CreateContainerConfigError";
    let pod = plane.until("q", reason).await;
    assert_eq!(told(&pod)["state"]["waiting"]["message"], "secret \"no\" not found");
}

#[tokio::test]
async fn a_job_like_pod_ends_for_good() {
    let plane = Plane::start().await;
    let mut spec = one(json!({"terminationMessagePolicy": "FallbackToLogsOnError"}));
    spec["restartPolicy"] = json!("Never");
    plane.create("f", spec.clone()).await;
    plane.until_ready("f").await;
    plane.runtime.end("a", 1);
    let pod = plane.until("f", |pod| pod["status"]["phase"] == "Failed").await;
    assert_eq!(told(&pod)["state"]["terminated"]["message"], "run 0\n");
    plane.create("p", spec).await;
    plane.until_ready("p").await;
    plane.runtime.end("a", 0);
    let pod = plane.until("p", |pod| pod["status"]["phase"] == "Succeeded").await;
    assert_eq!(told(&pod)["state"]["terminated"]["reason"], "Completed");
    let plane = plane.restart().await;
    plane.create("q", one(json!({}))).await;
    plane.until_ready("q").await;
    assert_eq!(plane.pod("p")["status"]["phase"], "Succeeded");
    assert_eq!(plane.runtime.calls("create a"), 3);
}

#[tokio::test]
async fn a_failing_liveness_probe_ends_a_run_and_readiness_waits_for_its_probe() {
    let plane = Plane::start().await;
    let probes = json!({
        "livenessProbe": {"exec": {"command": ["false"]}, "failureThreshold": 1, "periodSeconds": 1},
        "readinessProbe": {"exec": {"command": ["true"]}, "periodSeconds": 1},
    });
    plane.create("p", one(probes)).await;
    plane.until_event("Unhealthy").await;
    plane.until("p", |pod| told(pod)["restartCount"] == 1).await;
    assert_eq!(plane.runtime.calls("stop container"), 1);
    assert!(plane.reasons().contains(&"Killing".to_owned()));
}

#[tokio::test]
async fn an_image_that_arrives_is_used() {
    let runtime = FakeRuntime::new(&[]);
    let plane =
        Plane::with(testkit::FakeApi::new(client::Ambient::system()), runtime, tempfile::tempdir().unwrap())
            .await;
    let mut spec = one(json!({"image": "late"}));
    spec["initContainers"] = json!([{"name": "first", "image": "late"}]);
    plane.runtime.add_image("late");
    plane.create("p", spec).await;
    plane.until("p", |pod| pod["status"]["initContainerStatuses"][0]["state"]["running"].is_object()).await;
    assert!(plane.runtime.container("a").is_none());
    plane.runtime.end("first", 0);
    let pod = plane.until_ready("p").await;
    assert_eq!(pod["status"]["initContainerStatuses"][0]["ready"], true);
}

#[tokio::test]
async fn probes_ask_the_pod_and_nobody_else() {
    let plane = Plane::start().await;
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addr().unwrap().port();
    let asked = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut stream, _) = server.accept().await.unwrap();
        let mut request = [0; 1024];
        let read = stream.read(&mut request).await.unwrap();
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        String::from_utf8_lossy(&request[..read]).into_owned()
    });
    let http = json!({"path": "/ready", "port": "web"});
    let ports = json!([{"name": "web", "containerPort": port}]);
    plane.create("p", one(json!({"ports": ports, "readinessProbe": {"httpGet": http}}))).await;
    plane.until_ready("p").await;
    assert!(asked.await.unwrap().starts_with("GET /ready HTTP/1.1\r\n"));

    // What a probe cannot be asked from here says nothing of the container.
    let other = json!({"tcpSocket": {"host": "169.254.169.254", "port": 80}, "periodSeconds": 1, "failureThreshold": 1});
    plane.create("q", one(json!({"livenessProbe": other}))).await;
    plane.until_event("ProbeWarning").await;
    let events = plane.api.objects("events");
    let warned = events.iter().find(|event| event["reason"] == "ProbeWarning").unwrap();
    assert!(warned["message"].as_str().unwrap().contains("is refused"), "{warned}");
    assert_eq!(plane.runtime.calls("stop container"), 0);
}

#[tokio::test]
async fn probes_speak_https_with_whoever_is_there() {
    let plane = Plane::start().await;
    // The node's own server asks for a certificate of its callers, which a probe has not: another one.
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate =
        rcgen::CertificateParams::new(vec!["nobody".to_owned()]).unwrap().self_signed(&key).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.into())
        .unwrap();
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addr().unwrap().port();
    let asked = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (stream, _) = server.accept().await.unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
        let mut stream = acceptor.accept(stream).await.unwrap();
        let mut request = [0; 1024];
        let read = stream.read(&mut request).await.unwrap();
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        stream.shutdown().await.unwrap();
        String::from_utf8_lossy(&request[..read]).into_owned()
    });
    let https = json!({"scheme": "HTTPS", "port": port});
    plane.create("p", one(json!({"readinessProbe": {"httpGet": https}}))).await;
    plane.until_ready("p").await;
    assert!(asked.await.unwrap().starts_with("GET / HTTP/1.1\r\n"));
}

#[tokio::test]
async fn probes_speak_grpc() {
    use http_body_util::{BodyExt, StreamBody};
    let plane = Plane::start().await;
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addr().unwrap().port();
    let serving = tokio::spawn(async move {
        let (stream, _) = server.accept().await.unwrap();
        let answer = |request: http::Request<hyper::body::Incoming>| async move {
            assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
            let body = request.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(&body[..], b"\0\0\0\0\x03\x0a\x01s");
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
            let frames = [
                Ok::<_, std::convert::Infallible>(http_body::Frame::data(bytes::Bytes::from_static(
                    b"\0\0\0\0\x02\x08\x01",
                ))),
                Ok(http_body::Frame::trailers(trailers)),
            ];
            Ok::<_, std::convert::Infallible>(http::Response::new(StreamBody::new(futures::stream::iter(
                frames,
            ))))
        };
        let _ = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new())
            .serve_connection(hyper_util::rt::TokioIo::new(stream), hyper::service::service_fn(answer))
            .await;
    });
    let grpc = json!({"port": port, "service": "s"});
    plane.create("p", one(json!({"readinessProbe": {"grpc": grpc}}))).await;
    plane.until_ready("p").await;
    serving.abort();
}
