//! Endpoints: the pods behind each Service in the form that EndpointSlices took the place of, for those who still read it.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::kube::ResourceExt;
use client::{ObjectKey, Reader, WorkQueue};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints as Object, ObjectReference, Service,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use crate::endpointslice::number;
use crate::ownership::is_terminating;
use crate::plan::{Plan, create, delete, patch};
use crate::pod::Pod;
use crate::pods::{is_finished, node as node_of, ready_since};
use crate::selected::Selected;
use crate::{Controller, World};

/// Set on what this controller makes; upstream's.
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
const HEADLESS: &str = "service.kubernetes.io/headless";
/// Said of an object that does not hold all.
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// Upstream's limit of addresses in one object.
const CAPACITY: usize = 1000;

/// The controller; see the module. Keys are Services.
pub struct Endpoints {
    selected: Selected,
    endpoints: Reader<Object>,
}

/// What it looks at.
#[derive(Default)]
pub struct View {
    /// The Service, unless it is gone.
    pub service: Option<Arc<Service>>,
    /// The pods that it selects.
    pub pods: Vec<Arc<Pod>>,
    /// The object of its name.
    pub current: Option<Arc<Object>>,
}

impl Controller for Endpoints {
    const NAME: &'static str = "endpoint-controller";
    type Key = ObjectKey;
    type View = View;
    type Memory = ();

    fn wire(world: &World, queue: &Arc<WorkQueue<ObjectKey>>) -> Self {
        let endpoints = world.reader::<Object>();
        let add = queue.clone();
        endpoints.informer().on_change(move |change| add.add(ObjectKey::of(&**change.object())));
        Self { selected: Selected::wire(world, queue), endpoints }
    }

    fn view(&self, key: &ObjectKey) -> View {
        let current = self.endpoints.get(key);
        let Some((service, pods)) = self.selected.get(key) else {
            return View { current, ..View::default() };
        };
        View { service: Some(service), pods, current }
    }

    fn plan(_key: &ObjectKey, view: &View, (): &(), _now: Timestamp) -> Plan<()> {
        plan(view)
    }
}

/// Decides how the object of one Service should be; pure.
pub fn plan(view: &View) -> Plan<()> {
    let mut plan = Plan::default();
    let current = view.current.as_deref().filter(|current| !is_terminating(*current));
    let Some(service) = view.service.as_deref().filter(|service| !is_terminating(*service)) else {
        // Endpoints without a Service lead nobody anywhere. Those that were never ours are left to who made them.
        let ours = current.filter(|current| is_ours(current));
        plan.then(ours.and_then(|ours| delete(ours).into()));
        return plan;
    };
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    if selector.is_none_or(BTreeMap::is_empty) {
        return plan;
    }
    let wanted = wanted(service, &view.pods);
    match current {
        None if view.current.is_some() => {}
        None => plan.then(create(&wanted)),
        Some(current) if same(current, &wanted) => {}
        Some(current) => {
            let mut annotations = json!({ OVER_CAPACITY: null });
            if let Some(said) = wanted.annotations().get(OVER_CAPACITY) {
                annotations[OVER_CAPACITY] = json!(said);
            }
            let body = json!({
                "metadata": { "labels": wanted.metadata.labels, "annotations": annotations },
                "subsets": wanted.subsets,
            });
            plan.then(patch(current, body));
        }
    }
    plan
}

fn is_ours(endpoints: &Object) -> bool {
    endpoints.labels().get(MANAGED_BY).is_some_and(|manager| manager == MANAGER)
}

fn same(current: &Object, wanted: &Object) -> bool {
    let labels = wanted.labels().iter().all(|(name, value)| current.labels().get(name) == Some(value));
    let said = |object: &Object| object.annotations().get(OVER_CAPACITY).cloned();
    let subsets = |object: &Object| object.subsets.clone().unwrap_or_default();
    labels && said(current) == said(wanted) && subsets(current) == subsets(wanted)
}

fn wanted(service: &Service, pods: &[Arc<Pod>]) -> Object {
    let early = service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses).unwrap_or(false);
    let mut groups: BTreeMap<String, EndpointSubset> = BTreeMap::new();
    let mut chosen: Vec<(bool, EndpointAddress, Vec<EndpointPort>)> = pods
        .iter()
        .filter(|pod| !is_finished(pod) && (early || !is_terminating(&***pod)))
        .filter_map(|pod| {
            let ready = early || ready_since(pod).is_some();
            Some((ready, address(service, pod)?, ports(service, pod)?))
        })
        .collect();
    // Those that are ready come first: it is them that a full object keeps.
    chosen.sort_by(|a, b| (!a.0, &a.1.ip).cmp(&(!b.0, &b.1.ip)));
    let truncated = chosen.len() > CAPACITY;
    chosen.truncate(CAPACITY);
    for (ready, address, ports) in chosen {
        let key = serde_json::to_string(&ports).unwrap_or_default();
        let subset = groups.entry(key).or_insert_with(|| EndpointSubset {
            ports: Some(ports).filter(|ports| !ports.is_empty()),
            ..EndpointSubset::default()
        });
        let list = if ready { &mut subset.addresses } else { &mut subset.not_ready_addresses };
        list.get_or_insert_default().push(address);
    }
    let mut labels = service.labels().clone();
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    if service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None") {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    let said = || BTreeMap::from([(OVER_CAPACITY.to_owned(), "truncated".to_owned())]);
    Object {
        metadata: ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: truncated.then(said),
            ..ObjectMeta::default()
        },
        subsets: Some(groups.into_values().collect::<Vec<_>>()).filter(|subsets| !subsets.is_empty()),
    }
}

/// A pod's address of the Service's first family.
fn address(service: &Service, pod: &Pod) -> Option<EndpointAddress> {
    let families = service.spec.as_ref().and_then(|spec| spec.ip_families.as_ref());
    let six = families.and_then(|families| families.first()).is_some_and(|family| family == "IPv6");
    let ip = pod.status.ips.iter().find(|ip| ip.contains(':') == six)?.to_string();
    let named = pod.spec.subdomain == service.metadata.name;
    Some(EndpointAddress {
        ip,
        hostname: pod.spec.hostname.clone().filter(|_| named),
        node_name: Some(node_of(pod).to_owned()).filter(|node| !node.is_empty()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.namespace(),
            name: pod.metadata.name.clone(),
            uid: pod.uid(),
            ..ObjectReference::default()
        }),
    })
}

/// The Service's ports as they are in a pod; `None` if it has none of them.
fn ports(service: &Service, pod: &Pod) -> Option<Vec<EndpointPort>> {
    let all = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let found: Vec<EndpointPort> = all
        .clone()
        .filter_map(|port| {
            Some(EndpointPort {
                name: port.name.clone(),
                port: number(port, pod)?,
                protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect();
    // A headless Service may have no ports at all.
    (!found.is_empty() || all.count() == 0).then_some(found)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value};

    use super::*;
    use crate::plan::Action;

    fn service(spec: Value) -> Arc<Service> {
        let meta = json!({ "name": "web", "namespace": "x", "uid": "s", "labels": { "a": "b" } });
        Arc::new(from_value(json!({ "metadata": meta, "spec": spec })).unwrap())
    }

    fn pod(number: usize, ready: bool, rest: Value) -> Arc<Pod> {
        let mut pod = json!({
            "metadata": { "name": format!("p{number}"), "namespace": "x", "uid": format!("u{number}"), "labels": { "app": "web" } },
            "spec": { "nodeName": "n", "hostname": "h", "subdomain": "web",
                "containers": [{ "name": "c", "ports": [{ "name": "http", "containerPort": 8080 }] }] },
            "status": { "phase": "Running", "podIP": format!("10.0.{}.{}", number / 200, number % 200 + 1),
                "conditions": [{ "type": "Ready", "status": if ready { "True" } else { "False" } }] },
        });
        for (key, value) in rest.as_object().into_iter().flatten() {
            pod["metadata"][key] = value.clone();
        }
        Arc::new(from_value(pod).unwrap())
    }

    fn made(view: &View) -> Value {
        match plan(view).actions.as_slice() {
            [Action::Create(create)] => create.object.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn pods_by_their_readiness_and_at_rest_nothing() {
        let named = json!({ "selector": { "app": "web" }, "ports": [{ "name": "http", "port": 80, "targetPort": "http" }] });
        let leaving = json!({ "deletionTimestamp": "2026-01-01T00:00:00Z" });
        let pods = vec![pod(1, true, json!({})), pod(2, false, json!({})), pod(3, true, leaving)];
        let view = View { service: Some(service(named.clone())), pods, current: None };
        let object = made(&view);
        let subset = &object["subsets"][0];
        assert_eq!(subset["addresses"][0]["ip"], "10.0.0.2");
        assert_eq!(subset["addresses"][0]["hostname"], "h");
        assert_eq!(subset["notReadyAddresses"][0]["ip"], "10.0.0.3");
        assert_eq!(subset["ports"], json!([{ "name": "http", "port": 8080, "protocol": "TCP" }]));
        assert_eq!(object["metadata"]["labels"], json!({ "a": "b", MANAGED_BY: MANAGER }));
        let current = Some(Arc::new(from_value(object).unwrap()));
        let settled = View { current, ..view };
        assert!(plan(&settled).actions.is_empty());
        let gone = View { service: None, pods: vec![], current: settled.current.clone() };
        assert!(matches!(plan(&gone).actions.as_slice(), [Action::Delete(_)]));

        let mut early = named;
        early["publishNotReadyAddresses"] = json!(true);
        let view = View { service: Some(service(early)), pods: settled.pods, current: None };
        assert_eq!(made(&view)["subsets"][0]["addresses"].as_array().unwrap().len(), 3);
    }

    #[test]
    fn what_others_wrote_for_a_service_without_a_selector_stays() {
        let custom = json!({ "metadata": { "name": "web", "namespace": "x" }, "subsets": [{ "addresses": [{ "ip": "1.2.3.4" }] }] });
        let current = Some(Arc::new(from_value(custom).unwrap()));
        let view =
            View { service: Some(service(json!({ "ports": [{ "port": 80 }] }))), pods: vec![], current };
        assert!(plan(&view).actions.is_empty());
        assert!(plan(&View { service: None, ..view }).actions.is_empty());
    }

    #[test]
    fn a_full_object_says_so() {
        let pods = (0..1001).map(|number| pod(number, number != 0, json!({}))).collect();
        let headless = json!({ "selector": { "app": "web" }, "clusterIP": "None" });
        let object = made(&View { service: Some(service(headless)), pods, current: None });
        assert_eq!(object["metadata"]["annotations"][OVER_CAPACITY], "truncated");
        assert_eq!(object["metadata"]["labels"][HEADLESS], "");
        let subset = &object["subsets"][0];
        assert_eq!(subset["addresses"].as_array().unwrap().len(), 1000, "those that are ready are kept");
        assert!(subset["ports"].is_null());
    }
}
