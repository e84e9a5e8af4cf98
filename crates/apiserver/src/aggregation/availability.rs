//! Whether the server of an APIService is there: what its condition `Available` says, in upstream's reasons and words.

use std::sync::Arc;
use std::time::Duration;

use apimachinery::status::Status;
use auth::UserInfo;
use clock::Clock;
use registry::{Kind, ListOptions, Part, Registry, WatchStream};
use serde_json::{Value, json};

use super::{Aggregation, Fetched, Remote, kind_of};
use crate::outgoing::Outgoing;

/// How often a server that is there is asked again; what it serves may change meanwhile.
const EVERY: Duration = Duration::from_secs(30);
/// The first pause before one that is not there is asked again. It doubles up to the above.
const AGAIN: Duration = Duration::from_millis(500);
/// How long one may take to say what it serves.
const PATIENCE: Duration = Duration::from_secs(5);

/// Checks one APIService's server.
pub(super) struct Checker {
    pub(super) name: String,
    pub(super) aggregation: Arc<Aggregation>,
    pub(super) registry: Arc<Registry>,
    pub(super) outgoing: Arc<Outgoing>,
    pub(super) clock: Arc<dyn Clock>,
}

/// What is found out about a server.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    status: &'static str,
    reason: &'static str,
    message: String,
}

fn not(reason: &'static str, message: String) -> Found {
    Found { status: "False", reason, message }
}

impl Checker {
    /// Checks until it is dropped: now and then, and whenever its Service or the endpoints of that change.
    pub(super) async fn run(self) {
        let mut pause = AGAIN;
        loop {
            let Some(remote) = self.remote() else { return };
            let mut changes = self.changes(&remote).await;
            let found = self.check(&remote).await;
            let is_there = found.status == "True";
            if let Err(status) = self.say(&found).await {
                tracing::warn!(name = self.name, %status, "the status of an APIService cannot be written");
            }
            pause = if is_there { EVERY } else { (pause * 2).min(EVERY) };
            tokio::select! {
                () = self.clock.sleep(pause) => {}
                () = changed(&mut changes) => pause = AGAIN,
            }
        }
    }

    fn remote(&self) -> Option<Remote> {
        self.aggregation.table().all().find(|remote| remote.name == self.name).cloned()
    }

    /// Watches of the Service and of its endpoints, from now on.
    async fn changes(&self, remote: &Remote) -> Vec<WatchStream> {
        let Some((namespace, name, _)) = remote.service() else { return Vec::new() };
        let kinds = self.registry.kinds();
        let from = self.registry.revision().to_string();
        let mut streams = Vec::new();
        for (group, plural, label_selector, field_selector) in [
            ("", "services", String::new(), format!("metadata.name={name}")),
            (
                "discovery.k8s.io",
                "endpointslices",
                format!("kubernetes.io/service-name={name}"),
                String::new(),
            ),
        ] {
            let options = ListOptions {
                label_selector,
                field_selector,
                resource_version: from.clone(),
                ..ListOptions::default()
            };
            if let Some(kind) = kinds.lookup(group, "v1", plural)
                && let Ok(stream) = self.registry.watch(kind, namespace, &options).await
            {
                streams.push(stream);
            }
        }
        streams
    }

    async fn check(&self, remote: &Remote) -> Found {
        if let Some((namespace, name, port)) = remote.service()
            && let Err(found) = self.check_service(namespace, name, port).await
        {
            return found;
        }
        let aggregator = UserInfo {
            name: "system:kube-aggregator".to_owned(),
            groups: vec!["system:masters".to_owned()],
            ..UserInfo::default()
        };
        let asked = Fetched::fetch(&self.outgoing, remote, &aggregator);
        let asked = tokio::select! {
            asked = asked => asked,
            () = self.clock.sleep(PATIENCE) => Err("context deadline exceeded".to_owned()),
        };
        let fetched = match asked {
            Ok(fetched) => fetched,
            Err(why) => {
                let url = remote.url(&remote.path());
                let message = format!("failing or missing response from {url}: {why}");
                return not("FailedDiscoveryCheck", message);
            }
        };
        if remote.fetched.as_deref() != Some(&fetched) {
            let fetched = Arc::new(fetched);
            self.aggregation.change(|remotes| {
                let known = remotes.values_mut().find(|known| known.name == self.name);
                if let Some(known) = known.filter(|known| known.by == remote.by) {
                    known.fetched = Some(fetched);
                }
            });
        }
        Found { status: "True", reason: "Passed", message: "all checks passed".to_owned() }
    }

    async fn check_service(&self, namespace: &str, name: &str, port: u16) -> Result<(), Found> {
        let kinds = self.registry.kinds();
        let services = kinds.lookup("", "v1", "services");
        let service = services.and_then(|kind| self.registry.known(kind, namespace, name));
        let Some(service) = service else {
            return Err(not("ServiceNotFound", format!("service/{name} in {namespace:?} is not present")));
        };
        let service = service.tree();
        let spec = &service["spec"];
        if spec["type"].as_str().unwrap_or("ClusterIP") != "ClusterIP" {
            return Ok(());
        }
        let mut ports = spec["ports"].as_array().into_iter().flatten();
        let Some(found) = ports.find(|each| each["port"] == port) else {
            let why = format!("service/{name} in {namespace:?} is not listening on port {port}");
            return Err(not("ServicePortError", why));
        };
        let port_name = found["name"].as_str().unwrap_or_default();
        let slices =
            self.slices(kinds.lookup("discovery.k8s.io", "v1", "endpointslices"), namespace, name).await;
        if slices.is_empty() {
            let why = format!("cannot find endpointslices for service/{name} in {namespace:?}");
            return Err(not("EndpointsNotFound", why));
        }
        if !slices.iter().any(|slice| is_active(slice, port_name)) {
            let why = format!(
                "endpointslices for service/{name} in {namespace:?} have no addresses with port name {port_name:?}"
            );
            return Err(not("MissingEndpoints", why));
        }
        Ok(())
    }

    async fn slices(&self, kind: Option<&Arc<Kind>>, namespace: &str, service: &str) -> Vec<Value> {
        let options = ListOptions {
            label_selector: format!("kubernetes.io/service-name={service}"),
            resource_version: "0".to_owned(),
            ..ListOptions::default()
        };
        let Some(kind) = kind else { return Vec::new() };
        let listed = self.registry.list(kind, namespace, &options).await;
        listed.map(|list| list.objects().map(|slice| slice.tree()).collect()).unwrap_or_default()
    }

    /// Writes the condition, if it says something new.
    async fn say(&self, found: &Found) -> Result<(), Status> {
        let kinds = self.registry.kinds();
        let Some(kind) = kind_of(&kinds) else { return Ok(()) };
        let Some(service) = self.registry.known(kind, "", &self.name) else { return Ok(()) };
        let mut service = service.tree();
        let time = apimachinery::time::format(self.clock.now());
        if !set(&mut service, found, &time) {
            return Ok(());
        }
        tracing::info!(name = self.name, reason = found.reason, message = found.message, "APIService");
        match self.registry.update_own(kind, "", &self.name, Part::Status, service).await {
            // Who wrote in between, or deleted it, is seen soon.
            Err(status) if !status.is_conflict() && !status.is_not_found() => Err(status),
            _ => Ok(()),
        }
    }
}

/// Sets the condition; whether that changed anything. Its time is that of the last change of its status.
fn set(service: &mut Value, found: &Found, time: &str) -> bool {
    let mut condition = json!({
        "type": "Available", "status": found.status, "reason": found.reason, "message": found.message,
        "lastTransitionTime": time,
    });
    let conditions = service["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let known = conditions.iter().find(|each| each["type"] == "Available");
    if let Some(known) = known.filter(|known| known["status"] == found.status) {
        condition["lastTransitionTime"] = known["lastTransitionTime"].clone();
    }
    if known == Some(&condition) {
        return false;
    }
    let others = conditions.iter().filter(|each| each["type"] != "Available").cloned();
    service["status"]["conditions"] = others.chain([condition]).collect();
    true
}

/// Whether a slice has a ready endpoint, and the port.
fn is_active(slice: &Value, port_name: &str) -> bool {
    let list = |field: &str| slice[field].as_array().map(Vec::as_slice).unwrap_or_default();
    let ready = list("endpoints").iter().any(|endpoint| endpoint["conditions"]["ready"] != false);
    let named =
        |port: &Value| port["name"].as_str().unwrap_or_default() == port_name && port["port"].is_u64();
    ready && list("ports").iter().any(named)
}

/// Returns when one of the streams has an event, or has ended; with no streams, never.
async fn changed(streams: &mut [WatchStream]) {
    if streams.is_empty() {
        return std::future::pending().await;
    }
    let events = streams.iter_mut().map(|stream| Box::pin(stream.next()));
    futures::future::select_all(events).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_written_only_where_it_says_something_new() {
        let mut service = json!({"metadata": {"name": "v1.g"}});
        let down = || not("MissingEndpoints", "none".to_owned());
        assert!(set(&mut service, &down(), "t1"));
        assert!(!set(&mut service, &down(), "t2"));
        assert!(set(&mut service, &not("FailedDiscoveryCheck", "404".to_owned()), "t3"));
        assert_eq!(service["status"]["conditions"][0]["lastTransitionTime"], "t1");
        let up = Found { status: "True", reason: "Passed", message: String::new() };
        assert!(set(&mut service, &up, "t4"));
        let conditions = service["status"]["conditions"].as_array().unwrap();
        assert_eq!((conditions.len(), &conditions[0]["lastTransitionTime"]), (1, &json!("t4")));
    }

    #[test]
    fn a_slice_needs_a_ready_endpoint_and_the_port() {
        let slice = |ready: Value, name: Value| {
            json!({"endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": ready}}],
                "ports": [{"name": name, "port": 443}]})
        };
        assert!(is_active(&slice(json!(true), json!("https")), "https"));
        assert!(is_active(&slice(Value::Null, Value::Null), ""));
        assert!(!is_active(&slice(json!(false), json!("https")), "https"));
        assert!(!is_active(&slice(json!(true), json!("other")), "https"));
    }
}
