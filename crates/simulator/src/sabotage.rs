//! Bugs on purpose, by which the simulator shows that it finds bugs. Each sits between the code under test and the server:
//! what is shipped knows nothing of it.

use bytes::Bytes;
use clap::ValueEnum;
use http::Method;
use http::request::Parts;
use serde_json::Value;

use crate::link::Sent;
use crate::process::Process;
use crate::witness::Witness;

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Sabotage {
    /// The writes of a process that no longer leads lose what they require of the object.
    Fencing,
    /// Controllers read that rollouts may have more pods than they may.
    Surge,
    /// Controllers do not learn from the answers to their writes, only from their watches.
    Memory,
    /// Controllers read that rollouts may leave nothing available.
    Unavailable,
}

const CONTROLLERS: &str = "kube-controller-manager";

fn is_controllers(process: &Process) -> bool {
    process.name.starts_with("controllers")
}

impl Sabotage {
    /// A request of a process.
    pub fn request(self, witness: &Witness, process: &Process, parts: Parts, body: Bytes) -> (Parts, Bytes) {
        let leads = witness.leads(CONTROLLERS, process.candidate.as_deref());
        if self != Self::Fencing || !is_controllers(process) || leads || parts.uri.path().contains("/leases")
        {
            return (parts, body);
        }
        let Ok(mut object) = serde_json::from_slice::<Value>(&body) else { return (parts, body) };
        match parts.method {
            Method::PATCH => {
                if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
                    metadata.remove("uid");
                    metadata.remove("resourceVersion");
                }
            }
            Method::DELETE => {
                object.as_object_mut().map(|options| options.remove("preconditions"));
            }
            _ => {}
        }
        (parts, object.to_string().into())
    }

    /// The answer to a request.
    pub fn answer(self, sent: &Sent, body: Bytes) -> Bytes {
        if !is_controllers(&sent.process) {
            return body;
        }
        let Ok(mut answer) = serde_json::from_slice::<Value>(&body) else { return body };
        match self {
            Self::Memory if sent.is_write() => {
                if let Some(version) = answer.pointer_mut("/metadata/resourceVersion") {
                    *version = "1".into();
                }
            }
            Self::Surge | Self::Unavailable => self.deployments(&mut answer),
            _ => return body,
        }
        answer.to_string().into()
    }

    /// Some lines of a watch.
    pub fn news(self, sent: &Sent, data: Bytes) -> Bytes {
        let concerned = matches!(self, Self::Surge | Self::Unavailable);
        if !concerned || !is_controllers(&sent.process) || !sent.path.ends_with("/deployments") {
            return data;
        }
        let mut told = Vec::new();
        for line in data.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice::<Value>(line) {
                Ok(mut event) => {
                    self.deployments(&mut event);
                    told.extend_from_slice(event.to_string().as_bytes());
                }
                Err(_) => told.extend_from_slice(line),
            }
            told.push(b'\n');
        }
        told.into()
    }

    /// Alters the Deployments in a value.
    fn deployments(self, value: &mut Value) {
        match value {
            Value::Object(fields) => {
                if let Some(rolling) = fields.get_mut("rollingUpdate").filter(|rolling| rolling.is_object()) {
                    match self {
                        Self::Surge => rolling["maxSurge"] = 4.into(),
                        _ => rolling["maxUnavailable"] = "100%".into(),
                    }
                }
                fields.values_mut().for_each(|value| self.deployments(value));
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.deployments(item)),
            _ => {}
        }
    }
}
