//! Ingress: from `kubectl apply` to an answer, over TLS, through an upgrade, and while a Deployment rolls.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use harness::{Plane, eventually, is_root, send};
use serde_json::{Value, json};

use crate::containers::{IMAGE, plane_with_image};
use crate::start;

/// An address for endpoints, which may not be in the loopback range: one for benchmarks, which no network has, on this
/// machine's loopback interface for as long as this value lives.
struct Address(String);

impl Address {
    fn new() -> Self {
        let [.., high, low] = std::process::id().to_be_bytes();
        let address = Self(format!("198.18.{high}.{low}"));
        assert!(address.ip("add"), "ip address add {}", address.0);
        address
    }

    fn ip(&self, verb: &str) -> bool {
        let words = ["address", verb, &format!("{}/32", self.0), "dev", "lo"];
        Command::new("ip").args(words).status().expect("ip runs").success()
    }
}

impl Drop for Address {
    fn drop(&mut self) {
        self.ip("delete");
    }
}

/// A server of this test, which says its name, and echoes what comes after an upgrade.
fn server(address: &Address, name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind((address.0.as_str(), 0)).expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || drop(serve(stream, name)));
        }
    });
    address
}

fn serve(mut stream: TcpStream, name: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let (mut head, mut line) = (String::new(), String::new());
        while reader.read_line(&mut line)? > 0 && line != "\r\n" {
            head += &line.to_lowercase();
            line.clear();
        }
        if head.is_empty() {
            return Ok(());
        }
        if head.contains("upgrade: websocket") {
            stream.write_all(
                b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n",
            )?;
            let mut bytes = [0; 256];
            loop {
                match reader.read(&mut bytes)? {
                    0 => return Ok(()),
                    read => stream.write_all(&bytes[..read])?,
                }
            }
        }
        let proto = head.lines().find_map(|line| line.strip_prefix("x-forwarded-proto: ")).unwrap_or("none");
        let body = format!("{name} {proto}");
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())?;
    }
}

/// A Service without pods, whose endpoint is this.
fn service(name: &str, endpoint: SocketAddr) -> String {
    let service = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": name },
        "spec": { "ports": [{ "name": "http", "port": 80 }] } });
    let slice = json!({ "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": { "name": format!("{name}-1"), "labels": { "kubernetes.io/service-name": name } },
        "addressType": "IPv4", "ports": [{ "name": "http", "port": endpoint.port() }],
        "endpoints": [{ "addresses": [endpoint.ip().to_string()] }] });
    format!("{service}\n---\n{slice}\n")
}

fn ingress(name: &str, rules: &[(&str, &str)], more: Value) -> String {
    let rule = |(host, service): &(&str, &str)| {
        let backend = json!({ "service": { "name": service, "port": { "number": 80 } } });
        json!({ "host": host, "http": { "paths": [{ "path": "/", "pathType": "Prefix", "backend": backend }] } })
    };
    let mut spec = json!({ "rules": rules.iter().map(rule).collect::<Vec<_>>() });
    for (field, value) in more.as_object().expect("fields") {
        spec[field] = value.clone();
    }
    json!({ "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": { "name": name }, "spec": spec })
        .to_string()
}

/// A certificate of its own, as files.
fn certificate(folder: &Path, name: &str) -> [String; 2] {
    let files = ["crt", "key"].map(|end| folder.join(format!("{name}.{end}")).display().to_string());
    let subject = "/CN=site.test";
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
        .args(["-days", "2", "-subj", subject, "-addext", "subjectAltName=DNS:site.test,DNS:*.site.test"])
        .args(["-out", &files[0], "-keyout", &files[1]])
        .output()
        .expect("openssl runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    files
}

/// What curl gets for a name, trusting this certificate alone.
fn curl(plane: &Plane, name: &str, trusted: &str, words: &[&str]) -> Option<String> {
    let port = plane.endpoint("gateway_tls").rsplit(':').next().expect("a port").to_owned();
    let output = Command::new("curl")
        .args([
            "-sS",
            "--max-time",
            "20",
            "--cacert",
            trusted,
            "--resolve",
            &format!("{name}:{port}:127.0.0.1"),
        ])
        .args(words)
        .arg(format!("https://{name}:{port}/"))
        .output()
        .expect("curl runs");
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn an_ingress_leads_to_a_service_over_http_tls_and_upgrades() {
    if !is_root() {
        eprintln!("skipped: an address for endpoints needs root");
        return;
    }
    let address = Address::new();
    let site = server(&address, "site");
    let plane = start(&["--disable", "node", "--egress-allow", &site.to_string()]);
    let classes = plane.kubectl_ok(&["get", "ingressclass", "--no-headers"]);
    assert!(classes.starts_with("monoplane") && classes.contains("monoplane.dev/gateway"), "{classes}");
    let work = tempfile::tempdir().expect("a directory");
    let [first, first_key] = certificate(work.path(), "first");
    plane.kubectl_ok(&["create", "secret", "tls", "site", "--cert", &first, "--key", &first_key]);
    plane.apply(&service("site", site));
    let tls = json!({ "tls": [{ "hosts": ["site.test", "*.site.test"], "secretName": "site" }] });
    plane.apply(&ingress("site", &[("site.test", "site"), ("*.site.test", "site")], tls));
    let gateway = plane.endpoint("gateway");
    let ask = |host: &str| send(&gateway, host, "GET", "/", &[], "");
    let body = |host: &str| ask(host).filter(|answer| answer.status == 200).map(|answer| answer.body);
    eventually("the Ingress is served", || (body("site.test")? == "site http").then_some(()));
    assert_eq!(body("www.site.test").as_deref(), Some("site http"));
    assert_eq!(ask("a.b.site.test").map(|answer| answer.status), Some(404));
    eventually("its address is known", || {
        let row = plane.kubectl_ok(&["get", "ingress", "site", "--no-headers"]);
        let cells: Vec<&str> = row.split_whitespace().collect();
        (cells[..6] == ["site", "monoplane", "site.test,*.site.test", "127.0.0.1", "80,", "443"])
            .then_some(())
    });

    // Over TLS, HTTP/1.1 and HTTP/2, and with a new certificate without a restart.
    eventually("TLS is served", || {
        curl(&plane, "site.test", &first, &[]).filter(|said| said == "site https")
    });
    let version = ["-o", "/dev/null", "-w", "%{http_version}"];
    assert_eq!(curl(&plane, "w.site.test", &first, &version).as_deref(), Some("2"));
    let [second, second_key] = certificate(work.path(), "second");
    assert_eq!(curl(&plane, "site.test", &second, &[]), None);
    let renewed = plane.kubectl_ok(&[
        "create",
        "secret",
        "tls",
        "site",
        "--cert",
        &second,
        "--key",
        &second_key,
        "--dry-run=client",
        "-o",
        "json",
    ]);
    plane.kubectl_with(&["replace", "-f", "-"], &renewed);
    eventually("the new certificate is shown", || curl(&plane, "site.test", &second, &[]));
    plane.kubectl_ok(&["delete", "secret", "site"]);
    eventually("it is told that the Secret is gone", || {
        plane.kubectl_ok(&["describe", "ingress", "site"]).contains("CertificateInvalid").then_some(())
    });

    // A WebSocket: bytes go both ways.
    let mut stream = TcpStream::connect(gateway.trim_start_matches("http://")).expect("the gateway");
    let head = "GET /chat HTTP/1.1\r\nhost: site.test\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("sent");
    let mut reader = BufReader::new(stream.try_clone().expect("a stream"));
    let mut line = String::new();
    reader.read_line(&mut line).expect("a status");
    assert!(line.starts_with("HTTP/1.1 101 "), "{line}");
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line).expect("a header");
    }
    // A masked text frame, "hi".
    let frame = [0x81, 0x82, 1, 2, 3, 4, b'h' ^ 1, b'i' ^ 2];
    stream.write_all(&frame).expect("sent");
    let mut echoed = [0; 8];
    reader.read_exact(&mut echoed).expect("an echo");
    assert_eq!(echoed, frame);

    // Another namespace does not get the host, and nobody reaches the plane through an endpoint of their making.
    plane.kubectl_ok(&["create", "namespace", "other"]);
    let api: SocketAddr = plane.endpoint("api").trim_start_matches("https://").parse().expect("an address");
    let theirs = ingress("theirs", &[("site.test", "plane"), ("plane.test", "plane")], json!({}));
    let apply = |text: &str| plane.kubectl_with(&["apply", "-n", "other", "-f", "-"], text);
    let said = apply(&service("loop", api));
    assert!(said.err.contains("may not be in the loopback range"), "{said:?}");
    // By another address of the machine, then.
    for text in [service("plane", SocketAddr::new(site.ip(), api.port())), theirs] {
        let said = apply(&text);
        assert!(said.ok, "{said:?}");
    }
    eventually("the plane is not reached", || ask("plane.test").filter(|answer| answer.status == 502));
    let refused = ask("plane.test").expect("an answer");
    assert!(refused.body.contains("is refused"), "{}", refused.body);
    assert_eq!(body("site.test").as_deref(), Some("site http"));
    eventually("the conflict is told", || {
        plane
            .kubectl_ok(&["describe", "ingress", "theirs", "-n", "other"])
            .contains("RouteConflict")
            .then_some(())
    });
}

/// What a Deployment's pods answer with: a version, to GET and POST.
fn deployment(version: &str) -> String {
    let script = format!(
        "mkdir -p /www/cgi-bin; printf '#!/bin/busybox sh\\necho Content-type: text/plain; echo; echo {version}; cat\\n' > /www/cgi-bin/who; chmod 755 /www/cgi-bin/who; exec /bin/busybox httpd -f -p 8080 -h /www"
    );
    let container = json!({ "name": "web", "image": IMAGE, "imagePullPolicy": "Never",
        "command": ["/bin/busybox", "sh", "-c", script],
        "readinessProbe": { "tcpSocket": { "port": 8080 }, "periodSeconds": 1 } });
    let template = json!({ "metadata": { "labels": { "app": "roll" } },
        "spec": { "terminationGracePeriodSeconds": 5, "containers": [container] } });
    json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "roll" }, "spec": {
        "replicas": 3, "selector": { "matchLabels": { "app": "roll" } }, "template": template,
        "strategy": { "rollingUpdate": { "maxUnavailable": 0, "maxSurge": 1 } } } })
    .to_string()
}

/// A request over a connection that stays; its body, or what went wrong.
fn ask_on(reader: &mut BufReader<TcpStream>, method: &str, body: &str) -> Result<String, String> {
    let said = |error: std::io::Error| error.to_string();
    let head = format!(
        "{method} /cgi-bin/who HTTP/1.1\r\nhost: roll.test\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    reader.get_mut().write_all(head.as_bytes()).map_err(said)?;
    let (mut status, mut line) = (String::new(), String::new());
    reader.read_line(&mut status).map_err(said)?;
    let mut length = None;
    loop {
        line.clear();
        reader.read_line(&mut line).map_err(said)?;
        match line.to_lowercase().trim().split_once(": ") {
            Some(("content-length", value)) => length = value.parse::<usize>().ok(),
            Some(_) => {}
            None => break,
        }
    }
    let mut body = Vec::new();
    if let Some(length) = length {
        body.resize(length, 0);
        reader.read_exact(&mut body).map_err(said)?;
    } else {
        loop {
            line.clear();
            reader.read_line(&mut line).map_err(said)?;
            let size =
                usize::from_str_radix(line.trim(), 16).map_err(|error| format!("{line:?}: {error}"))?;
            let at = body.len();
            body.resize(at + size + 2, 0);
            reader.read_exact(&mut body[at..]).map_err(said)?;
            body.truncate(at + size);
            if size == 0 {
                break;
            }
        }
    }
    let body = String::from_utf8_lossy(&body).into_owned();
    if status.starts_with("HTTP/1.1 200 ") { Ok(body) } else { Err(format!("{status}{body}")) }
}

#[test]
fn a_deployment_rolls_under_load_without_a_failed_request() {
    let Some(plane) = plane_with_image() else { return };
    plane.apply(&deployment("v1"));
    plane.kubectl_ok(&["expose", "deployment", "roll", "--port=80", "--target-port=8080"]);
    plane.apply(&ingress("roll", &[("roll.test", "roll")], json!({})));
    plane.kubectl_ok(&["rollout", "status", "deployment/roll", "--timeout=120s"]);
    let gateway = plane.endpoint("gateway").trim_start_matches("http://").to_owned();
    let connect = || {
        let stream = TcpStream::connect(&gateway).expect("the gateway");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
        BufReader::new(stream)
    };
    eventually("the Ingress is served", || ask_on(&mut connect(), "GET", "").ok());
    let (done, new, failures) =
        (AtomicBool::new(false), AtomicUsize::new(0), std::sync::Mutex::new(Vec::new()));
    let asked = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for (method, body, kept) in
            [("GET", "", true), ("POST", "word", true), ("GET", "", false), ("POST", "word", false)]
        {
            let (connect, done, new, failures, asked) = (&connect, &done, &new, &failures, &asked);
            scope.spawn(move || {
                let mut stream = connect();
                while !done.load(Ordering::SeqCst) {
                    if !kept {
                        stream = connect();
                    }
                    asked.fetch_add(1, Ordering::SeqCst);
                    match ask_on(&mut stream, method, body) {
                        Ok(said) if said == format!("v1\n{body}") => {}
                        Ok(said) if said == format!("v2\n{body}") => drop(new.fetch_add(1, Ordering::SeqCst)),
                        Ok(said) => failures.lock().expect("a list").push(format!("{method}: {said:?}")),
                        Err(why) => {
                            failures.lock().expect("a list").push(format!("{method} kept={kept}: {why}"));
                            stream = connect();
                        }
                    }
                }
            });
        }
        plane.apply(&deployment("v2"));
        let rolled = plane.kubectl(&["rollout", "status", "deployment/roll", "--timeout=120s"]);
        let since = new.load(Ordering::SeqCst);
        // The last of the old pods ends under load as well.
        let gone = || {
            let pods = plane.kubectl(&["get", "pods", "-l", "app=roll", "-o", "name"]).out;
            (pods.lines().count() == 3 && new.load(Ordering::SeqCst) > since + 100).then_some(())
        };
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            eventually("the old pods are gone", gone)
        }));
        done.store(true, Ordering::SeqCst);
        assert!(rolled.ok, "{rolled:?}");
        ended.expect("the old pods are gone");
    });
    let failures = failures.into_inner().expect("a list");
    assert!(failures.is_empty(), "{} of {} failed: {failures:?}", failures.len(), asked.into_inner());
}
