//! Pull and push against a real registry (Debian's docker-registry), directly and through a proxy that cuts connections,
//! and against a small server of our own where a registry has to misbehave.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)] // a test

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use images::{
    Credential, Digest, Error, ImageBuilder, Progress, Pull, Push, Reference, Registries, RegistryError,
    Step, Store, StoredImage,
};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Debian's registry, in memory, on a free port of loopback.
struct Registry {
    port: u16,
    child: Child,
    _directory: TempDir,
}

impl Registry {
    /// `None`, with a word, where it is not installed.
    async fn start(more: &str) -> Option<Self> {
        let port = free_port();
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{inmemory: {{}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n{more}"
        );
        std::fs::write(&config, text.replace("DIRECTORY", directory.path().to_str().unwrap())).unwrap();
        // name: user, password: password
        let line = "user:$2y$05$6uqaoHnG7Ywai7NUmycCUueSgUdGhQAazbYUMqdyUU7ibG2QpDpsK\n";
        std::fs::write(directory.path().join("htpasswd"), line).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(child) = child else {
            eprintln!("SKIPPED: docker-registry is not installed (`cargo xtask tools` does)");
            return None;
        };
        let registry = Self { port, child, _directory: directory };
        for _ in 0..600 {
            if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return Some(registry);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the registry does not listen");
    }

    fn name(&self, path: &str) -> Reference {
        format!("127.0.0.1:{}/{path}", self.port).parse().unwrap()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

struct Place {
    store: Arc<Store>,
    directory: TempDir,
}

fn place() -> Place {
    let directory = tempfile::tempdir().unwrap();
    Place { store: Arc::new(Store::open(directory.path().join("store")).unwrap()), directory }
}

/// Bytes that do not compress, the same for the same seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..length.div_ceil(8)).flat_map(|_| next()).take(length).collect()
}

/// An image of one layer of about so many bytes, in a store of its own.
fn built(name: &Reference, length: usize) -> (Place, StoredImage) {
    let place = place();
    let layout = place.directory.path().join("layout");
    let image = ImageBuilder::new().file("/noise", 0o644, noise(7, length)).cmd(["/noise"]);
    image.build(name).unwrap().write_layout(&layout).unwrap();
    let image = place.store.import(&layout, None).unwrap().remove(0);
    (place, image)
}

/// Registries that these hosts are configured for, and no wait before a second try.
fn registries(config: serde_json::Value) -> Registries {
    let registries = Registries::new(serde_json::from_value(config).unwrap(), Default::default()).unwrap();
    registries.patient(Duration::from_secs(20), Duration::from_millis(1))
}

fn reaching(ports: &[u16]) -> Registries {
    let hosts: BTreeMap<String, serde_json::Value> =
        ports.iter().map(|port| (format!("127.0.0.1:{port}"), json!({}))).collect();
    registries(json!({"configs": hosts}))
}

fn user(password: &str) -> Option<Credential> {
    Some(Credential { username: "user".into(), password: password.into(), ..Credential::default() })
}

fn denied(error: &Error) -> bool {
    matches!(error, Error::Registry(RegistryError::Denied { .. }))
}

/// What has become of blobs.
#[derive(Default)]
struct Seen(Mutex<Vec<Step>>);

impl Progress for Seen {
    fn blob(&self, _: Digest, _: u64, step: Step) {
        self.0.lock().unwrap().push(step);
    }
}

impl Seen {
    fn count(&self, step: Step) -> usize {
        self.0.lock().unwrap().iter().filter(|seen| **seen == step).count()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_goes_there_and_comes_back() {
    let Some(registry) = Registry::start("").await else { return };
    let (first, name) = (reaching(&[registry.port]), registry.name("team/app:1"));
    let (from, image) = built(&name, 3 << 20);
    let seen = Seen::default();
    let chunked = Push { chunk: Some(1 << 20), ..Push::default() };
    let digest = first.push(&from.store, &name.to_string(), &name, &chunked, &seen).await.unwrap();
    assert_eq!((digest, seen.count(Step::Sent)), (image.target, 2));

    // Nothing is sent twice, and another repository takes it from the first.
    let again = Seen::default();
    first.push(&from.store, &name.to_string(), &name, &Push::default(), &again).await.unwrap();
    let other = registry.name("other/app:2");
    first.push(&from.store, &name.to_string(), &other, &Push::default(), &again).await.unwrap();
    assert_eq!((again.count(Step::Exists), again.count(Step::Sent)), (4, 0));

    let to = place();
    let (seen, all) = (Seen::default(), Arc::new(first));
    let pulls: Vec<_> = (0..4)
        .map(|_| {
            // Each in a task of its own, as pods have them.
            let (all, store, name) = (all.clone(), to.store.clone(), other.clone());
            tokio::spawn(async move { all.pull(&store, &name, &Pull::default(), &()).await.unwrap().id })
        })
        .collect();
    for pull in pulls {
        assert_eq!(pull.await.unwrap(), image.id);
    }
    let pulled = all.pull(&to.store, &other, &Pull::default(), &seen).await.unwrap();
    assert_eq!((pulled.target, seen.count(Step::Fetched), seen.count(Step::Exists)), (image.target, 0, 1));
    let by_digest = all.pull(&to.store, &name.at(image.target), &Pull::default(), &()).await.unwrap();
    assert_eq!(by_digest.id, image.id);
    assert_eq!(to.store.find(&other.to_string()).unwrap().unwrap().id, image.id);
    let missing =
        all.pull(&to.store, &registry.name("team/none:1"), &Pull::default(), &()).await.unwrap_err();
    assert!(missing.to_string().contains("not found"), "{missing}");

    // By no configuration, a registry on this machine is not reached.
    let refused = registries(json!({})).pull(&to.store, &name, &Pull::default(), &()).await.unwrap_err();
    assert!(refused.to_string().contains("is refused"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wasm_artifact_goes_there_and_comes_back() {
    let Some(registry) = Registry::start("").await else { return };
    let (all, name, from) = (reaching(&[registry.port]), registry.name("team/hello:1"), place());
    let file = from.directory.path().join("hello.wasm");
    std::fs::write(&file, b"\0asm\x01\0\0\0").unwrap();
    let image = from.store.import(&file, Some(&name)).unwrap().remove(0);
    let digest = all.push(&from.store, &name.to_string(), &name, &Push::default(), &()).await.unwrap();
    assert_eq!(digest, image.manifest);
    let (to, unpack) = (place(), rustix::process::geteuid().is_root());
    let how = Pull { unpack, ..Pull::default() };
    let pulled = all.pull(&to.store, &name, &how, &()).await.unwrap();
    assert_eq!((pulled.id, pulled.is_wasm()), (image.id, true));
    // It is found by every name that it has.
    for known in [name.to_string(), name.at(digest).to_string(), digest.to_string()] {
        assert_eq!(to.store.find(&known).unwrap().unwrap().id, image.id, "{known}");
    }
    if unpack {
        let directories = to.store.unpack(&pulled).unwrap();
        assert_eq!(std::fs::read(directories[0].join("hello.wasm")).unwrap(), std::fs::read(&file).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_and_we_understand_one_another() {
    let Some(registry) = Registry::start("").await else { return };
    let name = registry.name("app:1");
    let (from, image) = built(&name, 100_000);
    let all = reaching(&[registry.port]);
    all.push(&from.store, &name.to_string(), &name, &Push::default(), &()).await.unwrap();
    let skopeo = |words: &[&str]| {
        let output = Command::new("skopeo").args(words).output();
        let Ok(output) = output else {
            eprintln!("SKIPPED: skopeo is not installed");
            return None;
        };
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        Some(())
    };
    // Docker's media types and gzip, as most of what is out there; and zstd.
    for (format, compression, tag) in [("v2s2", "gzip", "app:2"), ("oci", "zstd", "app:3")] {
        let (source, target) = (format!("docker://{name}"), format!("docker://{}", registry.name(tag)));
        let policy = ["--insecure-policy", "copy", "--src-tls-verify=false", "--dest-tls-verify=false"];
        let how = ["--format", format, "--dest-compress-format", compression, "--dest-compress"];
        let words: Vec<&str> = policy.into_iter().chain(how).chain([source.as_str(), &target]).collect();
        let Some(()) = skopeo(&words) else { return };
        let to = place();
        let pulled = all.pull(&to.store, &registry.name(tag), &Pull::default(), &()).await.unwrap();
        let diffs = |image: &StoredImage| image.config.rootfs().diff_ids().clone();
        assert_eq!(diffs(&pulled), diffs(&image), "{format}");
        if rustix::process::geteuid().is_root() {
            let directories = to.store.unpack(&pulled).unwrap();
            assert_eq!(std::fs::read(directories[0].join("noise")).unwrap(), noise(7, 100_000));
        }
    }
    // What we save, it reads as both kinds of archive.
    let archive = from.directory.path().join("saved.tar");
    from.store.export(&[(image, vec![name])], std::fs::File::create(&archive).unwrap()).unwrap();
    for kind in ["oci-archive", "docker-archive"] {
        let (source, to) = (format!("{kind}:{}", archive.display()), place());
        let target = format!("dir:{}", to.directory.path().join("out").display());
        skopeo(&["--insecure-policy", "copy", &source, &target]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_asked_for_and_checked() {
    let auth = "auth: {htpasswd: {realm: here, path: DIRECTORY/htpasswd}}\n";
    let Some(registry) = Registry::start(auth).await else { return };
    let name = registry.name("app:1");
    let (from, _) = built(&name, 1000);
    let all = reaching(&[registry.port]);
    let push = |credential| Push { credential, ..Push::default() };
    let pull = |credential| Pull { credential, ..Pull::default() };
    for wrong in [None, user("wrong")] {
        let error = all.push(&from.store, &name.to_string(), &name, &push(wrong), &()).await.unwrap_err();
        assert!(denied(&error), "{error}");
    }
    all.push(&from.store, &name.to_string(), &name, &push(user("password")), &()).await.unwrap();
    let to = place();
    let error = all.pull(&to.store, &name, &pull(user("wrong")), &()).await.unwrap_err();
    assert!(denied(&error) && !error.to_string().contains("wrong"), "{error}");
    all.pull(&to.store, &name, &pull(user("password")), &()).await.unwrap();
    // What is here already is not given to whom the registry does not know.
    assert!(denied(&all.pull(&to.store, &name, &pull(None), &()).await.unwrap_err()));
    // Whom the node itself is.
    let host = format!("127.0.0.1:{}", registry.port);
    let own = registries(json!({"configs": {host: {"auth": {"username": "user", "password": "password"}}}}));
    own.pull(&to.store, &name, &pull(None), &()).await.unwrap();
}

/// Passes connections on to a registry, and cuts each after so many bytes of answers.
async fn cutting(target: u16, after: usize) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let cuts = Arc::new(AtomicUsize::new(0));
    let result = cuts.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let cuts = cuts.clone();
            tokio::spawn(async move {
                let server = TcpStream::connect(("127.0.0.1", target)).await.unwrap();
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                let up = tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
                let (mut left, mut buffer) = (after, vec![0; 16 << 10]);
                while let Ok(count @ 1..) = from_server.read(&mut buffer).await {
                    let some = count.min(left);
                    if to_client.write_all(&buffer[..some]).await.is_err() {
                        break;
                    }
                    left -= some;
                    if left == 0 {
                        cuts.fetch_add(1, Ordering::Relaxed);
                        break;
                    }
                }
                up.abort();
            });
        }
    });
    (port, result)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_broke_is_gone_on_with() {
    let Some(registry) = Registry::start("").await else { return };
    let name = registry.name("app:1");
    let (from, image) = built(&name, 2 << 20);
    let direct = reaching(&[registry.port]);
    direct.push(&from.store, &name.to_string(), &name, &Push::default(), &()).await.unwrap();
    let (port, cuts) = cutting(registry.port, 300_000).await;
    // As a mirror: the registry itself is not to be reached.
    let dead = format!("127.0.0.1:{}", free_port());
    let mirrored: Reference = format!("{dead}/app:1").parse().unwrap();
    let all = registries(json!({"mirrors": {dead: {"endpoint": [format!("http://127.0.0.1:{port}")]}}}));
    let to = place();
    let pulled = all.pull(&to.store, &mirrored, &Pull::default(), &()).await.unwrap();
    assert_eq!(pulled.id, image.id);
    // Each connection brings a part; had it begun anew each time, it would never have come to its end.
    assert!(cuts.load(Ordering::Relaxed) >= 6, "{cuts:?}");
}

type Answers = Arc<dyn Fn(&Request<Incoming>) -> Response<Full<Bytes>> + Send + Sync>;

/// A server that answers as it is told, and remembers what it was asked: path, and who asked.
async fn server(answers: Answers) -> (SocketAddr, Arc<Mutex<Vec<(String, String)>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
    let noted = asked.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (answers, noted) = (answers.clone(), noted.clone());
            tokio::spawn(async move {
                let service = service_fn(move |request: Request<Incoming>| {
                    let who = request.headers().get("authorization").map(|v| v.to_str().unwrap().to_owned());
                    noted.lock().unwrap().push((request.uri().to_string(), who.unwrap_or_default()));
                    let answer = answers(&request);
                    async move {
                        let _ = request.into_body().collect().await;
                        Ok::<_, Infallible>(answer)
                    }
                });
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    (address, asked)
}

fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::builder().status(StatusCode::from_u16(status).unwrap());
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(Full::new(body.into())).unwrap()
}

/// The files of an image's layout, by digest.
fn blobs(place: &Place) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(place.store.root().join("blobs/sha256")).unwrap();
    entries
        .map(|entry| entry.unwrap())
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (format!("sha256:{name}"), std::fs::read(entry.path()).unwrap())
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_fetched_and_stay_with_their_host() {
    let name: Reference = "x.test/team/app:1".parse().unwrap();
    let (from, image) = built(&name, 50_000);
    let (content, manifest) = (blobs(&from), image.target.to_string());
    // Where blobs really are; it must not see the token.
    let files = content.clone();
    let (elsewhere, asked_there) = server(Arc::new(move |request| {
        answer(200, &[], files[request.uri().path().trim_start_matches('/')].clone())
    }))
    .await;
    let (tokens, asked_tokens) = server(Arc::new(|request| {
        let who = request.headers().get("authorization").map(|value| value.to_str().unwrap());
        // user:password
        match who {
            Some("Basic dXNlcjpwYXNzd29yZA==") => answer(200, &[], r#"{"token": "t0k3n"}"#),
            _ => answer(401, &[], r#"{"errors": [{"code": "UNAUTHORIZED", "message": "who are you"}]}"#),
        }
    }))
    .await;
    let busy = AtomicUsize::new(2);
    let (files, realm) = (content, format!(r#"Bearer realm="http://{tokens}/token",service="here""#));
    let (registry, asked) = server(Arc::new(move |request| {
        if request.headers().get("authorization").is_none_or(|value| value != "Bearer t0k3n") {
            return answer(401, &[("www-authenticate", &realm)], "");
        }
        // Too many at first.
        if busy.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
            return answer(429, &[("retry-after", "0")], "");
        }
        let last = request.uri().path().rsplit('/').next().unwrap();
        match request.uri().path().contains("/manifests/") {
            true => answer(200, &[("docker-content-digest", &manifest)], files[&manifest].clone()),
            false => answer(307, &[("location", &format!("http://{elsewhere}/{last}"))], ""),
        }
    }))
    .await;
    let name: Reference = format!("{registry}/team/app:1").parse().unwrap();
    let all = reaching(&[registry.port(), tokens.port(), elsewhere.port()]);
    let (to, pull) = (place(), |credential| Pull { credential, ..Pull::default() });
    let error = all.pull(&to.store, &name, &pull(user("wrong")), &()).await.unwrap_err();
    assert!(denied(&error) && error.to_string().contains("who are you"), "{error}");
    assert_eq!(all.pull(&to.store, &name, &pull(user("password")), &()).await.unwrap().id, image.id);
    let asked_tokens = asked_tokens.lock().unwrap();
    let (path, _) = asked_tokens.last().unwrap();
    assert_eq!(path, "/token?service=here&scope=repository%3Ateam%2Fapp%3Apull");
    assert_eq!(asked_tokens.len(), 2, "one token a pull: {asked_tokens:?}");
    assert_eq!(asked_there.lock().unwrap().iter().filter(|(_, who)| !who.is_empty()).count(), 0);
    assert!(asked.lock().unwrap().len() > 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_registry_makes_up_is_refused_and_leaves_nothing() {
    let name: Reference = "x.test/app:1".parse().unwrap();
    let (from, image) = built(&name, 1000);
    let (content, manifest) = (blobs(&from), image.target.to_string());
    let lie: Arc<Mutex<&'static str>> = Arc::new(Mutex::new("blob"));
    let (files, telling) = (content, lie.clone());
    let (registry, _) = server(Arc::new(move |request| {
        let path = request.uri().path();
        let digest = path.rsplit('/').next().unwrap();
        let lie = *telling.lock().unwrap();
        match (lie, path.contains("/manifests/")) {
            ("huge", true) => answer(200, &[], vec![b' '; 5 << 20]),
            ("both", true) => answer(200, &[], r#"{"schemaVersion": 2, "manifests": [], "layers": []}"#),
            ("old", true) => answer(200, &[], r#"{"schemaVersion": 1}"#),
            ("loop", _) => answer(307, &[("location", path)], ""),
            (_, true) => answer(200, &[("docker-content-digest", &manifest)], files[&manifest].clone()),
            ("blob", false) => answer(200, &[], vec![b'x'; files[digest].len()]),
            ("long", false) => answer(200, &[], [&files[digest][..], b"more"].concat()),
            _ => answer(200, &[], files[digest].clone()),
        }
    }))
    .await;
    let name: Reference = format!("{registry}/app:1").parse().unwrap();
    let all = reaching(&[registry.port()]);
    let to = place();
    for (told, why) in [
        ("blob", "a blob should be"),
        ("long", "more than the"),
        ("huge", "more than 4194304 bytes"),
        ("both", "both a manifest and an index"),
        ("old", "schema 1"),
        ("loop", "redirects"),
    ] {
        *lie.lock().unwrap() = told;
        let error = all.pull(&to.store, &name, &Pull::default(), &()).await.unwrap_err().to_string();
        assert!(error.contains(why), "{told}: {error}");
        assert!(to.store.list().unwrap().is_empty(), "{told}");
    }
    *lie.lock().unwrap() = "";
    assert_eq!(all.pull(&to.store, &name, &Pull::default(), &()).await.unwrap().id, image.id);
}

#[test]
fn what_nobody_needs_is_given_back() {
    let name: Reference = "x.test/app:1".parse().unwrap();
    let (place, image) = built(&name, 100_000);
    let unused = || Ok(Default::default());
    assert_eq!(place.store.prune(unused).unwrap(), 0);
    if rustix::process::geteuid().is_root() {
        let layers = place.store.unpack(&image).unwrap();
        place.store.untag_all(&image).unwrap();
        place.store.prune(|| Ok(layers.iter().cloned().collect())).unwrap();
        assert!(layers[0].join("noise").exists(), "a container uses it");
        assert!(place.store.prune(unused).unwrap() > 100_000);
        assert!(!layers[0].exists());
    }
    place.store.untag_all(&image).unwrap();
    place.store.prune(unused).unwrap();
    assert!(blobs(&place).is_empty());
}

#[test]
fn an_index_keeps_what_it_has_and_a_pin_holds() {
    let name: Reference = "x.test/app:1".parse().unwrap();
    let (from, image) = built(&name, 1000);
    let bytes = std::fs::read(from.store.root().join("blobs/sha256").join(image.manifest.hex())).unwrap();
    // An index over the manifest, and over one of another platform that the archive does not hold.
    let layout = from.directory.path().join("layout");
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let entry = |digest: Digest, architecture: &str| {
        json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest.to_string(),
            "size": bytes.len(), "platform": {"os": "linux", "architecture": architecture}})
    };
    let kind = "application/vnd.oci.image.index.v1+json";
    let index = json!({"schemaVersion": 2, "mediaType": kind,
        "manifests": [entry(Digest::of(b"gone"), "riscv64"), entry(image.manifest, architecture)]})
    .to_string();
    let digest = Digest::of(index.as_bytes());
    std::fs::write(layout.join("blobs/sha256").join(digest.hex()), &index).unwrap();
    let top = json!({"schemaVersion": 2, "manifests": [{"mediaType": kind, "digest": digest.to_string(),
        "size": index.len(), "annotations": {"io.containerd.image.name": "x.test/multi:1"}}]});
    std::fs::write(layout.join("index.json"), top.to_string()).unwrap();
    let to = place();
    let multi = to.store.import(&layout, None).unwrap().remove(0);
    assert_eq!((multi.target, multi.manifest, multi.id), (digest, image.manifest, image.id));
    let found = to.store.find(&format!("x.test/multi@{digest}")).unwrap().unwrap();
    assert_eq!(found.target, digest);
    to.store.pin(&found, true).unwrap();
    to.store.tag(found.target, &"x.test/again:1".parse().unwrap()).unwrap();
    let again = to.store.find("x.test/again:1").unwrap().unwrap();
    assert!(again.pinned && again.names.len() == 2);
    to.store.pin(&again, false).unwrap();
    assert!(!to.store.find("x.test/again:1").unwrap().unwrap().pinned);
}
