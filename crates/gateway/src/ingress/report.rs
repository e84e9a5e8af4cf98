//! What the edge tells of Ingresses: the gateway's addresses in their status, and events of what is not served as they
//! say. Never in the way of what is served: the API may be away for long.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use client::{Ambient, Api, Client, EventRecorder, EventType, ObjectKey, Patch, PatchParams, WorkQueue};
use clock::Tasks;
use k8s_openapi::api::networking::v1::Ingress;
use serde_json::{Value, json};

use super::translate::Problem;

/// What is told of one Ingress.
struct Told {
    uid: Option<String>,
    problems: Vec<Problem>,
    /// What its status should say.
    wanted: Vec<Value>,
    /// What it says, as far as is known.
    status: Vec<Value>,
    /// What was written last. Were somebody else to change it, it is not written again: two who disagree would never end.
    written: Option<Vec<Value>>,
}

/// See the module.
pub(super) struct Reporter {
    client: Client,
    events: EventRecorder,
    addresses: Vec<Value>,
    queue: Arc<WorkQueue<ObjectKey>>,
    told: Mutex<BTreeMap<ObjectKey, Told>>,
}

impl Reporter {
    /// A reporter of a gateway that clients reach at these addresses or names.
    pub(super) fn start(
        client: Client,
        ambient: &Ambient,
        events: EventRecorder,
        addresses: &[String],
        tasks: &Tasks,
    ) -> Arc<Self> {
        let point = |address: &String| match address.parse::<IpAddr>() {
            Ok(ip) => json!({ "ip": ip.to_string() }),
            Err(_) => json!({ "hostname": address }),
        };
        let reporter = Arc::new(Self {
            client,
            events,
            addresses: addresses.iter().map(point).collect(),
            queue: WorkQueue::new(ambient.clone()),
            told: Mutex::default(),
        });
        let worker = reporter.clone();
        tasks.spawn("ingress status", async move {
            while let Some(working) = worker.queue.next().await {
                match worker.write(working.key()).await {
                    Ok(()) => worker.queue.forget(working.key()),
                    Err(error) => {
                        tracing::debug!(ingress = %working.key(), %error, "its status will be written again");
                        worker.queue.add_failed(working.key().clone());
                    }
                }
            }
        });
        reporter
    }

    /// How an Ingress is served now: whether at all, and what is wrong with it.
    pub(super) fn tell(&self, key: &ObjectKey, ingress: &Ingress, serves: bool, problems: Vec<Problem>) {
        let uid = ingress.metadata.uid.clone();
        let status = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
        let status = status.and_then(|balancer| balancer.ingress.as_ref()).into_iter().flatten();
        let status: Vec<Value> = status.filter_map(|point| serde_json::to_value(point).ok()).collect();
        let wanted = if serves { self.addresses.clone() } else { Vec::new() };
        let mut told = self.told();
        let entry = told.entry(key.clone()).or_insert_with(|| Told {
            uid: uid.clone(),
            problems: Vec::new(),
            wanted: Vec::new(),
            status: Vec::new(),
            written: None,
        });
        if entry.uid != uid {
            (entry.uid, entry.problems, entry.written) = (uid, Vec::new(), None);
        }
        for problem in problems.iter().filter(|problem| !entry.problems.contains(problem)) {
            self.events.record(ingress, EventType::Warning, problem.reason, problem.message.clone());
        }
        entry.problems = problems;
        (entry.wanted, entry.status) = (wanted, status);
        if entry.wanted != entry.status && entry.written.as_ref() != Some(&entry.wanted) {
            self.queue.add(key.clone());
        }
    }

    /// Those that were told of and are not among these are no longer ours; what was written of them is taken back.
    pub(super) fn only(
        &self,
        is_ours: impl Fn(&ObjectKey) -> bool,
        get: impl Fn(&ObjectKey) -> Option<Arc<Ingress>>,
    ) {
        let gone: Vec<ObjectKey> = self.told().keys().filter(|key| !is_ours(key)).cloned().collect();
        for key in gone {
            match get(&key) {
                Some(ingress) if self.told().get(&key).is_some_and(|told| !told.wanted.is_empty()) => {
                    self.tell(&key, &ingress, false, Vec::new());
                }
                Some(_) => {}
                None => drop(self.told().remove(&key)),
            }
        }
    }

    async fn write(&self, key: &ObjectKey) -> Result<(), kube::Error> {
        let wanted = match self.told().get(key) {
            Some(told) if told.wanted != told.status => told.wanted.clone(),
            _ => return Ok(()),
        };
        let api: Api<Ingress> = Api::namespaced(self.client.clone(), &key.namespace);
        let params = PatchParams { field_manager: Some("monoplane-edge".into()), ..PatchParams::default() };
        let patch = json!({ "status": { "loadBalancer": { "ingress": wanted } } });
        match api.patch_status(&key.name, &params, &Patch::Merge(&patch)).await {
            Ok(_) => {}
            // It is gone, which the informer will say.
            Err(error) if client::write::is_not_found(&error) => return Ok(()),
            Err(error) => return Err(error),
        }
        if let Some(told) = self.told().get_mut(key) {
            told.written = Some(wanted);
        }
        Ok(())
    }

    fn told(&self) -> MutexGuard<'_, BTreeMap<ObjectKey, Told>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
