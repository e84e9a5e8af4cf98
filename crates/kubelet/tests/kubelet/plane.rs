//! An API, a runtime and a kubelet that live together.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use api::k8s::api::core::v1::Pod;
use client::{Ambient, Api, PostParams};
use kubelet::{Dns, Eviction, Machine, Options, Reserved, Runtimes, Serving, Sysctls};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::FakeApi;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::fake::{FakeGroups, FakeRuntime};

pub struct Plane {
    pub api: FakeApi,
    pub runtime: Arc<FakeRuntime>,
    pub groups: Arc<FakeGroups>,
    pub directory: TempDir,
    pub pki: Pki,
    pub port: u16,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<Result<(), kubelet::Error>>,
}

/// An authority, and certificates of it in PEM.
pub struct Pki {
    pub authority: String,
    pub serving: (String, String),
    pub client: (String, String),
}

impl Pki {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let issue = |name: &str, purpose| {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            params.distinguished_name.push(DnType::CommonName, name);
            params.extended_key_usages = vec![purpose];
            (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
        };
        Self {
            authority,
            serving: issue("kubelet", ExtendedKeyUsagePurpose::ServerAuth),
            client: issue("apiserver", ExtendedKeyUsagePurpose::ClientAuth),
        }
    }
}

impl Plane {
    /// Everything, with a node that is ready.
    pub async fn start() -> Self {
        let api = FakeApi::new(Ambient::system());
        Self::with(api, FakeRuntime::new(&["image"]), tempfile::tempdir().unwrap()).await
    }

    pub async fn with(api: FakeApi, runtime: Arc<FakeRuntime>, directory: TempDir) -> Self {
        let (stop, pki) = (CancellationToken::new(), Pki::new());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (ready, registered) = oneshot::channel();
        let groups = Arc::new(FakeGroups::default());
        let handler: Arc<dyn runtime::Runtime> = runtime.clone();
        let options = Options {
            client: api.client(),
            ambient: Ambient::system(),
            node_name: "node".into(),
            addresses: vec!["127.0.0.1".parse().unwrap()],
            listener,
            serving: Serving {
                certificate_pem: pki.serving.0.clone(),
                key_pem: pki.serving.1.clone(),
                client_authority_pem: pki.authority.clone(),
                admits: Arc::new(|certificate| certificate.windows(9).any(|bytes| bytes == b"apiserver")),
            },
            runtimes: Runtimes::new(vec![handler], "runc"),
            data_dir: directory.path().to_owned(),
            cgroup: "monoplane".into(),
            machine: Machine { milli_cpus: 2000, memory: 1 << 30, ..Machine::default() },
            dns: Dns {
                servers: vec!["10.0.0.10".parse().unwrap()],
                domain: "cluster.local".into(),
                host: String::new(),
            },
            hosts: String::new(),
            seccomp_default: false,
            sysctls: Sysctls::allowing(&[]).unwrap(),
            manifests: directory.path().join("manifests"),
            max_pods: 110,
            groups: groups.clone(),
            reserved: Reserved::default(),
            eviction: Eviction::parse(Default::default(), Duration::from_secs(1), Duration::ZERO).unwrap(),
            pod_cidrs: Vec::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            images: kubelet::ImageOptions::default(),
            version: "v1.36.0".into(),
            ready: Some(ready),
        };
        let running = tokio::spawn(kubelet::run(options, stop.clone()));
        registered.await.unwrap();
        Self { api, runtime, groups, directory, pki, port, stop, running }
    }

    /// Stops the kubelet and starts another over the same API, runtime and directory.
    pub async fn restart(self) -> Self {
        let (api, runtime, directory) = self.stop().await;
        Self::with(api, runtime, directory).await
    }

    /// Stops the kubelet; what it lived among stays.
    pub async fn stop(self) -> (FakeApi, Arc<FakeRuntime>, TempDir) {
        self.stop.cancel();
        self.running.await.unwrap().unwrap();
        (self.api, self.runtime, self.directory)
    }

    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.api.client(), "default")
    }

    /// Creates a pod that is bound to the node and held in the API by a finalizer until [`Plane::release`].
    pub async fn create(&self, name: &str, spec: Value) {
        let mut spec = spec;
        spec["nodeName"] = json!("node");
        let metadata = json!({"name": name, "namespace": "default", "finalizers": ["test/hold"]});
        let pod = serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap();
        self.pods().create(&PostParams::default(), &pod).await.unwrap();
    }

    /// A pod as the API holds it.
    pub fn pod(&self, name: &str) -> Value {
        pod(&self.api, name)
    }

    /// Waits until a pod is as it should be.
    pub async fn until(&self, name: &str, condition: impl Fn(&Value) -> bool) -> Value {
        self.api.until(|api| condition(&pod(api, name))).await;
        self.pod(name)
    }

    pub async fn until_ready(&self, name: &str) -> Value {
        self.until(name, |pod| condition(pod, "Ready") == "True").await
    }

    /// The reasons of all events so far.
    pub fn reasons(&self) -> Vec<String> {
        reasons(&self.api)
    }

    pub async fn until_event(&self, reason: &str) {
        self.api.until(|api| reasons(api).iter().any(|known| known == reason)).await;
    }
}

fn reasons(api: &FakeApi) -> Vec<String> {
    api.objects("events")
        .iter()
        .map(|event| event["reason"].as_str().unwrap_or_default().to_owned())
        .collect()
}

fn pod(api: &FakeApi, name: &str) -> Value {
    api.objects("pods").into_iter().find(|pod| pod["metadata"]["name"] == name).unwrap_or_default()
}

pub fn condition(object: &Value, name: &str) -> String {
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.into_iter().find(|condition| condition["type"] == name);
    found.and_then(|condition| Some(condition["status"].as_str()?.to_owned())).unwrap_or_default()
}

/// The only container's status.
pub fn told(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]
}
