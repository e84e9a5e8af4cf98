//! A fake server with the controllers at it.

use client::{Ambient, Api, ApiResource, Client, DynamicObject, Patch, PostParams};
use clock::{ManualClock, SeededRandom};
use controllers::{Options, Settings, run};
use serde_json::{Value, from_value, json};
use std::sync::Arc;
use std::time::Duration;
use testkit::{FakeApi, Kind};
use tokio_util::sync::CancellationToken;

pub(crate) struct Plane {
    pub(crate) api: FakeApi,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) client: Client,
    pub(crate) settings: Settings,
    cancel: CancellationToken,
    running: tokio::task::JoinHandle<Result<(), clock::Panicked>>,
}

impl Plane {
    pub(crate) fn start() -> Self {
        let clock = Arc::new(ManualClock::new("2026-01-02T03:04:05Z".parse().unwrap()));
        let ambient = Ambient { clock: clock.clone(), random: Arc::new(SeededRandom::new(1)) };
        let api = FakeApi::new(ambient.clone());
        let settings = Settings { root_ca: Some("PEM".into()), ..Settings::default() };
        let (client, cancel) = (api.client(), CancellationToken::new());
        let options = Options { identity: None, settings: settings.clone() };
        let running = tokio::spawn(run(api.client(), ambient, options, cancel.clone()));
        Self { api, clock, client, settings, cancel, running }
    }

    pub(crate) async fn stop(self) {
        self.cancel.cancel();
        self.running.await.unwrap().unwrap();
    }

    /// Lets everything happen that can without time passing.
    pub(crate) async fn settle(&self) {
        for _ in 0..500 {
            tokio::task::yield_now().await;
        }
    }

    /// Lets time pass in small steps.
    pub(crate) async fn pass(&self, time: Duration) {
        for _ in 0..time.as_millis().div_ceil(500) {
            self.clock.advance(Duration::from_millis(500));
            self.settle().await;
        }
    }

    pub(crate) fn of(&self, kind: &Kind, namespace: &str) -> Api<DynamicObject> {
        let api_version = if kind.group.is_empty() {
            kind.version.clone()
        } else {
            format!("{}/{}", kind.group, kind.version)
        };
        let resource = ApiResource {
            group: kind.group.clone(),
            version: kind.version.clone(),
            api_version,
            kind: kind.kind.clone(),
            plural: kind.plural.clone(),
        };
        match kind.namespaced {
            true => Api::namespaced_with(self.client.clone(), namespace, &resource),
            false => Api::all_with(self.client.clone(), &resource),
        }
    }

    /// Creates an object in namespace `x`, and says its UID.
    pub(crate) async fn create(&self, kind: &Kind, mut object: Value) -> String {
        if object["metadata"]["namespace"].is_null() && kind.namespaced {
            object["metadata"]["namespace"] = json!("x");
        }
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
        let object: DynamicObject = from_value(object).unwrap();
        let created = self.of(kind, &namespace).create(&PostParams::default(), &object).await.unwrap();
        created.metadata.uid.unwrap()
    }

    pub(crate) async fn patch(&self, kind: &Kind, name: &str, patch: Value) {
        self.of(kind, "x").patch(name, &Default::default(), &Patch::Merge(patch)).await.unwrap();
    }

    pub(crate) async fn patch_status(&self, kind: &Kind, name: &str, status: Value) {
        let patch = Patch::Merge(json!({ "status": status }));
        self.of(kind, "x").patch_status(name, &Default::default(), &patch).await.unwrap();
    }

    pub(crate) fn names(&self, plural: &str) -> Vec<String> {
        let name = |object: &Value| object["metadata"]["name"].as_str().unwrap().to_owned();
        self.api.objects(plural).iter().map(name).collect()
    }
}

pub(crate) fn kind(plural: &str) -> Kind {
    match plural {
        "namespaces" => Kind::new("v1", "Namespace", "namespaces", false),
        "nodes" => Kind::new("v1", "Node", "nodes", false),
        "pods" => Kind::new("v1", "Pod", "pods", true),
        "services" => Kind::new("v1", "Service", "services", true),
        "configmaps" => Kind::new("v1", "ConfigMap", "configmaps", true),
        "leases" => Kind::new("coordination.k8s.io/v1", "Lease", "leases", true),
        "replicasets" => Kind::new("apps/v1", "ReplicaSet", "replicasets", true),
        "deployments" => Kind::new("apps/v1", "Deployment", "deployments", true),
        "customresourcedefinitions" => Kind::new(
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            "customresourcedefinitions",
            false,
        ),
        other => panic!("no kind {other}"),
    }
}
