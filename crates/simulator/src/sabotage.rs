//! Bugs on purpose, by which the simulator shows that it finds bugs. Each sits between the code under test and the server:
//! what is shipped knows nothing of it.

use bytes::Bytes;
use clap::ValueEnum;
use http::Method;
use http::request::Parts;
use serde_json::{Map, Value, json};

use crate::link::Sent;
use crate::process::Process;
use crate::witness::Witness;

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Sabotage {
    /// The writes of a process that no longer leads lose what they require of the object.
    Fencing,
    /// Controllers do not learn from the answers to their writes, only from their watches.
    Memory,
    /// Controllers read that rollouts may have more pods than they may.
    Surge,
    /// Controllers read that rollouts may leave nothing available.
    Unavailable,
    /// What controllers delete is gone at once, though it still runs.
    Force,
    /// Controllers read that StatefulSets' pods need not wait for each other.
    Order,
    /// Controllers read that all pods of a StatefulSet may be updated at once.
    Update,
    /// Controllers read that DaemonSets' new pods come first.
    DaemonSurge,
    /// Controllers read that Jobs may have more pods at once than they may.
    Parallelism,
    /// Jobs count one success more than there are.
    Count,
    /// Controllers read that CronJobs may have several Jobs at once.
    Concurrency,
    /// Controllers read that budgets ask for nothing.
    Budget,
}

const CONTROLLERS: &str = "kube-controller-manager";

fn is_controllers(process: &Process) -> bool {
    process.name.starts_with("controllers")
}

impl Sabotage {
    /// A request of a process.
    pub fn request(self, witness: &Witness, process: &Process, parts: Parts, body: Bytes) -> (Parts, Bytes) {
        let Ok(mut object) = serde_json::from_slice::<Value>(&body) else { return (parts, body) };
        let Some(fields) = object.as_object_mut().filter(|_| is_controllers(process)) else {
            return (parts, body);
        };
        match self {
            Self::Fencing => {
                let leads = witness.leads(CONTROLLERS, process.candidate.as_deref());
                if leads || parts.uri.path().contains("/leases") {
                    return (parts, body);
                }
                without_preconditions(&parts.method, fields);
            }
            Self::Force if parts.method == Method::DELETE && parts.uri.path().contains("/pods/") => {
                fields.insert("gracePeriodSeconds".to_owned(), 0.into());
            }
            Self::Count if parts.uri.path().contains("/jobs/") => {
                if let Some(succeeded) = object.pointer_mut("/status/succeeded") {
                    *succeeded = (succeeded.as_i64().unwrap_or(0) + 1).into();
                }
            }
            _ => return (parts, body),
        }
        (parts, object.to_string().into())
    }

    /// The answer to a request.
    pub fn answer(self, sent: &Sent, body: Bytes) -> Bytes {
        let forgets = self == Self::Memory && sent.is_write();
        if !is_controllers(&sent.process) || !(forgets || self.concerns(sent)) {
            return body;
        }
        let Ok(mut answer) = serde_json::from_slice::<Value>(&body) else { return body };
        match answer.pointer_mut("/metadata/resourceVersion") {
            Some(version) if forgets => *version = "1".into(),
            _ => self.misread(&mut answer),
        }
        answer.to_string().into()
    }

    /// Some lines of a watch.
    pub fn news(self, sent: &Sent, data: Bytes) -> Bytes {
        if !is_controllers(&sent.process) || !self.concerns(sent) {
            return data;
        }
        let mut told = Vec::new();
        for line in data.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice::<Value>(line) {
                Ok(mut event) => {
                    self.misread(&mut event);
                    told.extend_from_slice(event.to_string().as_bytes());
                }
                Err(_) => told.extend_from_slice(line),
            }
            told.push(b'\n');
        }
        told.into()
    }

    /// What is read as something else: objects of this kind, which have this field, as if it held that.
    fn misreading(self) -> Option<(&'static str, &'static str, Value)> {
        Some(match self {
            Self::Surge => ("/deployments", "rollingUpdate", json!({ "maxSurge": 4 })),
            Self::Unavailable => ("/deployments", "rollingUpdate", json!({ "maxUnavailable": "100%" })),
            Self::Order => ("/statefulsets", "podManagementPolicy", "Parallel".into()),
            Self::Update => {
                let all = json!({ "rollingUpdate": { "maxUnavailable": "100%" } });
                ("/statefulsets", "updateStrategy", all)
            }
            Self::DaemonSurge => {
                ("/daemonsets", "rollingUpdate", json!({ "maxSurge": 1, "maxUnavailable": 0 }))
            }
            Self::Parallelism => ("/jobs", "parallelism", 6.into()),
            Self::Concurrency => ("/cronjobs", "concurrencyPolicy", "Allow".into()),
            Self::Budget => ("/poddisruptionbudgets", "minAvailable", 0.into()),
            Self::Fencing | Self::Memory | Self::Force | Self::Count => return None,
        })
    }

    /// Whether something of that kind is what is read.
    fn concerns(self, sent: &Sent) -> bool {
        self.misreading().is_some_and(|(kind, ..)| sent.path.contains(kind))
    }

    fn misread(self, value: &mut Value) {
        if let Some((_, field, read)) = self.misreading() {
            misread(value, field, &read);
        }
    }
}

fn without_preconditions(method: &Method, fields: &mut Map<String, Value>) {
    match *method {
        Method::PATCH => {
            if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
                metadata.remove("uid");
                metadata.remove("resourceVersion");
            }
        }
        Method::DELETE => {
            fields.remove("preconditions");
        }
        _ => {}
    }
}

/// Wherever in a value there is such a field.
fn misread(value: &mut Value, field: &str, read: &Value) {
    match value {
        Value::Object(fields) => {
            if let Some(found) = fields.get_mut(field).filter(|found| !found.is_null()) {
                lay_over(found, read);
            }
            fields.values_mut().for_each(|value| misread(value, field, read));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| misread(item, field, read)),
        _ => {}
    }
}

fn lay_over(found: &mut Value, read: &Value) {
    match (found, read) {
        (Value::Object(found), Value::Object(read)) => {
            for (name, value) in read {
                lay_over(found.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (found, read) => *found = read.clone(),
    }
}
