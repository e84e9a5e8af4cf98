//! Endpoint slices: where the pods behind each Service are to be found.

use crate::ownership::is_terminating;
use crate::plan::{Plan, controller_of, create, delete, patch, tell};
use crate::pod::Pod;
use crate::pods::{is_finished, node as node_of, ready_since};
use crate::selected::Selected;
use crate::topology::{self, Shares, zone};
use crate::{Controller, World};
use client::kube::{Resource, ResourceExt};
use client::{EventType, Index, ObjectKey, Reader, WorkQueue};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, ObjectReference, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Names the Service of a slice.
pub(crate) const SERVICE: &str = "kubernetes.io/service-name";
/// Names who keeps a slice.
pub(crate) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// Upstream's name, so that slices made by either are kept by whichever runs.
const MANAGER: &str = "endpointslice-controller.k8s.io";
/// Upstream's limit.
const PER_SLICE: usize = 100;

/// The controller; see the module. Keys are Services.
pub struct EndpointSlices {
    selected: Selected,
    slices: Reader<EndpointSlice>,
    nodes: Reader<Node>,
}

/// What it looks at.
#[derive(Default)]
pub struct View {
    /// The Service, unless it is gone.
    pub service: Option<Arc<Service>>,
    /// The pods that it selects.
    pub pods: Vec<Arc<Pod>>,
    /// The slices that this controller made for it.
    pub slices: Vec<Arc<EndpointSlice>>,
    /// The zones of the pods' nodes, by the nodes' names.
    pub zones: BTreeMap<String, String>,
    /// How the nodes' CPU is spread over zones, if the Service asks for endpoints to follow it and it is known.
    pub shares: Option<Shares>,
}

fn by_service() -> Index<EndpointSlice> {
    Index::new("service", |slice: &EndpointSlice| {
        let ours = slice.labels().get(MANAGED_BY).is_some_and(|manager| manager == MANAGER);
        let service = slice.labels().get(SERVICE).filter(|_| ours);
        service
            .map(|service| format!("{}/{service}", slice.namespace().unwrap_or_default()))
            .into_iter()
            .collect()
    })
}

impl Controller for EndpointSlices {
    const NAME: &'static str = "endpoint-slice-controller";
    type Key = ObjectKey;
    type View = View;
    type Memory = ();

    fn wire(world: &World, queue: &Arc<WorkQueue<ObjectKey>>) -> Self {
        let selected = Selected::wire(world, queue);
        let (slices, nodes) = (world.reader::<EndpointSlice>(), world.reader::<Node>());
        let (add, all) = (queue.clone(), selected.services.clone());
        nodes.informer().on_change(move |change| {
            let (before, after) = (change.before(), change.after());
            // It seldom moves to another zone; then anybody's endpoints may have.
            let moved = before.and_then(|node| zone(node)) != after.and_then(|node| zone(node));
            let counts = before.and_then(|node| topology::counted(node));
            if moved || counts != after.and_then(|node| topology::counted(node)) {
                let concerned = all.informer().store().list().into_iter();
                let concerned = concerned.filter(|service| moved || topology::is_auto(service));
                concerned.for_each(|service| add.add(ObjectKey::of(&*service)));
            }
        });
        slices.informer().index_by(by_service());
        let add = queue.clone();
        slices.informer().on_change(move |change| {
            let slice = change.object();
            if let Some(service) = slice.labels().get(SERVICE) {
                add.add(ObjectKey::new(slice.namespace().unwrap_or_default(), service));
            }
        });
        Self { selected, slices, nodes }
    }

    fn view(&self, key: &ObjectKey) -> View {
        let slices = self.slices.by_index("service", &key.to_string());
        let Some((service, pods)) = self.selected.get(key) else { return View { slices, ..View::default() } };
        let zone_of = |pod: &Arc<Pod>| {
            let node = self.nodes.get(&ObjectKey::cluster(node_of(pod)))?;
            Some((node.name_any(), zone(&node)?.to_owned()))
        };
        let zones = pods.iter().filter_map(zone_of).collect();
        let nodes = topology::is_auto(&service).then(|| self.nodes.list());
        let shares = nodes.and_then(|nodes| topology::shares(&nodes));
        View { service: Some(service), pods, slices, zones, shares }
    }

    fn plan(_key: &ObjectKey, view: &View, (): &(), _now: Timestamp) -> Plan<()> {
        plan(view)
    }
}

/// Decides how the slices of one Service should be; pure.
pub fn plan(view: &View) -> Plan<()> {
    let mut plan = Plan::default();
    let service = view.service.as_deref().filter(|service| {
        let spec = service.spec.as_ref();
        // Without a selector somebody else says where it leads; an external name leads nowhere of ours.
        spec.is_some_and(|spec| {
            spec.selector.as_ref().is_some_and(|s| !s.is_empty())
                && spec.type_.as_deref() != Some("ExternalName")
        })
    });
    let service = service.filter(|service| !is_terminating(*service));
    let mut wanted = service.map(|service| wanted(service, view)).unwrap_or_default();
    let auto = service.filter(|service| topology::is_auto(service));
    let told = auto.map(|service| (service, hint_by_zones(&mut wanted, view)));
    settle(&mut plan, &view.slices, wanted);
    // At rest nothing is said.
    if let Some((service, told)) = told.filter(|_| !plan.actions.is_empty()) {
        told.into_iter().for_each(|(kind, reason, message)| plan.then(tell(service, kind, reason, message)));
    }
    plan
}

/// Hints by the zones' shares, each family by itself; what there is to tell of it.
fn hint_by_zones(wanted: &mut [EndpointSlice], view: &View) -> Vec<(EventType, &'static str, String)> {
    let mut before = view.slices.iter().flat_map(|slice| slice.endpoints.iter().flatten());
    let had_any = before.any(|endpoint| endpoint.hints.is_some());
    // They come one family after the other.
    let families = wanted.chunk_by_mut(|one, next| one.address_type == next.address_type);
    let told = families.filter_map(|slices| {
        let family = slices.first().map(|slice| slice.address_type.clone()).unwrap_or_default();
        let (kind, reason, what) = match topology::hint(slices, view.shares.as_ref()) {
            Ok(()) if had_any => return None,
            Ok(()) => {
                let what = "Topology Aware Hints has been enabled".to_owned();
                (EventType::Normal, "TopologyAwareHintsEnabled", what)
            }
            Err(why) => (EventType::Warning, "TopologyAwareHintsDisabled", why),
        };
        Some((kind, reason, format!("{what}, addressType: {family}")))
    });
    told.collect()
}

/// Makes of the slices that are there those that are wanted, with as few writes as that takes.
pub(crate) fn settle(plan: &mut Plan<()>, slices: &[Arc<EndpointSlice>], wanted: Vec<EndpointSlice>) {
    let mut current: Vec<_> = slices.iter().filter(|slice| !is_terminating(&***slice)).collect();
    current.sort_by_key(|slice| slice.name_any());
    for wanted in wanted {
        let fits = |slice: &&Arc<EndpointSlice>| slice.address_type == wanted.address_type;
        match current.iter().position(fits).map(|at| current.remove(at)) {
            None => plan.then(create(&wanted)),
            Some(slice) if same(slice, &wanted) => {}
            Some(slice) => {
                let body = json!({
                    "metadata": { "labels": wanted.metadata.labels },
                    "endpoints": wanted.endpoints, "ports": wanted.ports,
                });
                plan.then(patch(&**slice, body));
            }
        }
    }
    current.into_iter().for_each(|slice| plan.then(delete(&**slice)));
}

fn same(current: &EndpointSlice, wanted: &EndpointSlice) -> bool {
    let labels = wanted.labels().iter().all(|(name, value)| current.labels().get(name) == Some(value));
    let ports = current.ports.as_deref().unwrap_or_default() == wanted.ports.as_deref().unwrap_or_default();
    let endpoints = |slice: &EndpointSlice| slice.endpoints.clone().unwrap_or_default();
    labels && ports && endpoints(current) == endpoints(wanted)
}

/// The slices as they should be: pods with the same ports together, so many in each, for each address family.
fn wanted(service: &Service, view: &View) -> Vec<EndpointSlice> {
    let families = service
        .spec
        .as_ref()
        .and_then(|spec| spec.ip_families.clone())
        .unwrap_or_else(|| vec!["IPv4".into()]);
    let mut slices = Vec::new();
    for family in families {
        let mut groups: BTreeMap<String, (Vec<EndpointPort>, Vec<Endpoint>)> = BTreeMap::new();
        for pod in view.pods.iter().filter(|pod| !is_finished(pod)) {
            let ports = ports(service, pod);
            if let Some(endpoint) = endpoint(service, pod, &family, &view.zones) {
                let key = serde_json::to_string(&ports).unwrap_or_default();
                groups.entry(key).or_insert_with(|| (ports, Vec::new())).1.push(endpoint);
            }
        }
        if groups.is_empty() {
            // One empty slice says that it was looked at, and that there is nobody.
            groups.insert(String::new(), (Vec::new(), Vec::new()));
        }
        for (ports, mut endpoints) in groups.into_values() {
            endpoints.sort_by(|a, b| a.addresses.cmp(&b.addresses));
            let chunks: Vec<&[Endpoint]> = match endpoints.is_empty() {
                true => vec![&[]],
                false => endpoints.chunks(PER_SLICE).collect(),
            };
            slices.extend(
                chunks.into_iter().map(|chunk| slice(service, &family, ports.clone(), chunk.to_vec())),
            );
        }
    }
    slices
}

fn slice(
    service: &Service,
    family: &str,
    ports: Vec<EndpointPort>,
    endpoints: Vec<Endpoint>,
) -> EndpointSlice {
    let mut labels = service.labels().clone();
    labels.insert(SERVICE.to_owned(), service.name_any());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    if service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None") {
        labels.insert("service.kubernetes.io/headless".to_owned(), String::new());
    }
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", service.name_any())),
            namespace: service.namespace(),
            labels: Some(labels),
            owner_references: Some(vec![controller_of(service)]),
            ..ObjectMeta::default()
        },
        address_type: family.to_owned(),
        endpoints: Some(endpoints),
        ports: Some(ports),
    }
}

fn endpoint(
    service: &Service,
    pod: &Pod,
    family: &str,
    zones: &BTreeMap<String, String>,
) -> Option<Endpoint> {
    let mut addresses = pod.status.ips.iter();
    let address = addresses.find(|address| address.contains(':') == (family == "IPv6"))?.to_string();
    let serving = ready_since(pod).is_some();
    let terminating = is_terminating(pod);
    let early = service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses).unwrap_or(false);
    let host = pod.spec.hostname.clone().filter(|_| pod.spec.subdomain == service.metadata.name);
    let zone = zones.get(node_of(pod)).cloned();
    Some(Endpoint {
        hints: hints(service, node_of(pod), zone.as_deref()),
        zone,
        addresses: vec![address],
        conditions: Some(EndpointConditions {
            ready: Some(early || (serving && !terminating)),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: host,
        node_name: Some(node_of(pod).to_owned()).filter(|node| !node.is_empty()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.namespace(),
            name: pod.meta().name.clone(),
            uid: pod.uid(),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    })
}

/// For whom the endpoint is meant first, where the Service says that near ones are preferred (`trafficDistribution`), and does
/// not leave it to the plane.
fn hints(service: &Service, node: &str, zone: Option<&str>) -> Option<EndpointHints> {
    if topology::is_auto(service) {
        return None;
    }
    let same_node = match service.spec.as_ref()?.traffic_distribution.as_deref()? {
        "PreferClose" | "PreferSameZone" => false,
        "PreferSameNode" => true,
        _ => return None,
    };
    let for_nodes = (same_node && !node.is_empty()).then(|| vec![ForNode { name: node.to_owned() }]);
    let for_zones = zone.map(|zone| vec![ForZone { name: zone.to_owned() }]);
    let any = for_nodes.is_some() || for_zones.is_some();
    any.then_some(EndpointHints { for_nodes, for_zones })
}

/// The Service's ports as they are in a pod; those that the pod does not have are left out.
fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    ports
        .filter_map(|port| {
            Some(EndpointPort {
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(number(port, pod)?),
                protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect()
}

pub(crate) fn number(port: &ServicePort, pod: &Pod) -> Option<i32> {
    match port.target_port.as_ref() {
        None => Some(port.port),
        Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => {
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let mut named = pod.spec.containers.iter().flat_map(|container| container.ports.iter().flatten());
            let found = named.find(|declared| {
                declared.name.as_ref() == Some(name)
                    && declared.protocol.as_deref().unwrap_or("TCP") == protocol
            });
            found.map(|declared| declared.container_port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Action;
    use serde_json::{Value, from_value};

    fn service() -> Arc<Service> {
        Arc::new(
            from_value(json!({
                "metadata": { "name": "web", "namespace": "x", "uid": "s" },
                "spec": { "selector": { "app": "web" }, "ports": [{ "name": "http", "port": 80, "targetPort": "http" }] },
            }))
            .unwrap(),
        )
    }

    fn pod(number: usize, ready: bool) -> Arc<Pod> {
        let ready = if ready { "True" } else { "False" };
        Arc::new(
            from_value(json!({
                "metadata": { "name": format!("p{number}"), "namespace": "x", "labels": { "app": "web" } },
                "spec": { "nodeName": "n", "containers": [{ "name": "c", "ports": [{ "name": "http", "containerPort": 8080 }] }] },
                "status": { "phase": "Running", "podIP": format!("10.0.{}.{}", number / 200, number % 200 + 1),
                    "conditions": [{ "type": "Ready", "status": ready }] },
            }))
            .unwrap(),
        )
    }

    fn made(plan: &Plan<()>) -> Vec<Value> {
        let creates = plan.actions.iter().filter_map(|action| match action {
            Action::Create(create) => Some(create.object.clone()),
            _ => None,
        });
        creates.collect()
    }

    #[test]
    fn pods_are_listed_with_their_own_ports_and_readiness() {
        let view =
            View { service: Some(service()), pods: vec![pod(1, true), pod(2, false)], ..View::default() };
        let slices = made(&plan(&view));
        assert_eq!(slices.len(), 1);
        assert_eq!(slices[0]["ports"][0]["port"], 8080);
        let ready: Vec<_> = slices[0]["endpoints"]
            .as_array()
            .unwrap()
            .iter()
            .map(|e| e["conditions"]["ready"].clone())
            .collect();
        assert_eq!(ready, [json!(true), json!(false)]);
        let made: EndpointSlice = from_value(slices[0].clone()).unwrap();
        let settled = View { slices: vec![Arc::new(made)], ..view };
        assert!(plan(&settled).actions.is_empty(), "at rest nothing is written");
    }

    #[test]
    fn each_family_of_the_service_has_slices_of_its_own() {
        let mut service = (*service()).clone();
        let families = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
        service.spec.as_mut().unwrap().ip_families = families(&["IPv6", "IPv4"]);
        // The second pod has no address of IPv6.
        let mut both = (*pod(1, true)).clone();
        both.status.ips = ["10.0.0.2".into(), "fd00::2".into()].into();
        let pods = vec![Arc::new(both), pod(2, true)];
        let view = View { service: Some(Arc::new(service.clone())), pods, ..View::default() };
        let slices = made(&plan(&view));
        let facts: Vec<_> = slices
            .iter()
            .map(|slice| {
                let endpoints = slice["endpoints"].as_array().unwrap().iter();
                let addresses: Vec<_> = endpoints.map(|e| e["addresses"][0].as_str().unwrap()).collect();
                (slice["addressType"].as_str().unwrap(), addresses)
            })
            .collect();
        assert_eq!(facts, [("IPv6", vec!["fd00::2"]), ("IPv4", vec!["10.0.0.2", "10.0.0.3"])]);
        let slices: Vec<Arc<EndpointSlice>> =
            slices.into_iter().map(|slice| Arc::new(from_value(slice).unwrap())).collect();
        let settled = View { slices: slices.clone(), ..view };
        assert!(plan(&settled).actions.is_empty(), "at rest nothing is written");
        // One family is given up: its slices go.
        service.spec.as_mut().unwrap().ip_families = families(&["IPv6"]);
        let single = View { service: Some(Arc::new(service)), ..settled };
        assert!(matches!(plan(&single).actions.as_slice(), [Action::Delete(_)]));
    }

    #[test]
    fn near_ones_are_preferred_where_the_service_says_so() {
        let mut service = (*service()).clone();
        let zones: BTreeMap<String, String> = [("n".to_owned(), "z".to_owned())].into();
        let mut hinted = |distribution: Option<&str>| {
            service.spec.as_mut().unwrap().traffic_distribution = distribution.map(str::to_owned);
            let (service, pods) = (Some(Arc::new(service.clone())), vec![pod(1, true)]);
            let view = View { service, pods, zones: zones.clone(), ..View::default() };
            let endpoint = made(&plan(&view))[0]["endpoints"][0].clone();
            assert_eq!(endpoint["zone"], "z");
            endpoint["hints"].clone()
        };
        let (node, zone) = (json!([{ "name": "n" }]), json!([{ "name": "z" }]));
        assert_eq!(hinted(None), json!(null));
        assert_eq!(hinted(Some("PreferClose")), json!({ "forZones": zone }));
        assert_eq!(hinted(Some("PreferSameNode")), json!({ "forNodes": node, "forZones": zone }));
    }

    #[test]
    fn endpoints_follow_the_nodes_where_it_is_left_to_the_plane() {
        let mut service = (*service()).clone();
        service.metadata.annotations =
            Some([("service.kubernetes.io/topology-mode".to_owned(), "Auto".to_owned())].into());
        // It counts more than what the Service says beside it.
        service.spec.as_mut().unwrap().traffic_distribution = Some("PreferClose".to_owned());
        let zones = [("n".to_owned(), "a".to_owned())].into();
        let shares: Shares = [("a".to_owned(), 0.5), ("b".to_owned(), 0.5)].into();
        let pods = vec![pod(1, true), pod(2, true), pod(3, false)];
        let view =
            View { service: Some(Arc::new(service)), pods, zones, shares: Some(shares), ..View::default() };
        let first = plan(&view);
        let slices = made(&first);
        let hinted: Vec<Value> =
            slices[0]["endpoints"].as_array().unwrap().iter().map(|one| one["hints"].clone()).collect();
        let meant = |zone: &str| json!({ "forZones": [{ "name": zone }] });
        assert_eq!(hinted, [meant("b"), meant("a"), json!(null)]);
        let told = |plan: &Plan<()>| {
            let told = plan.actions.iter().filter_map(|action| match action {
                Action::Tell { reason, message, .. } => Some(format!("{reason}: {message}")),
                _ => None,
            });
            told.collect::<Vec<_>>()
        };
        let enabled = "TopologyAwareHintsEnabled: Topology Aware Hints has been enabled, addressType: IPv4";
        assert_eq!(told(&first), [enabled]);
        let mut slice: EndpointSlice = from_value(slices[0].clone()).unwrap();
        slice.metadata.name = Some("web-1".to_owned());
        let mut settled = View { slices: vec![Arc::new(slice)], ..view };
        assert!(plan(&settled).actions.is_empty(), "at rest nothing is written");
        // One zone is left: the hints go, and it is said why.
        settled.shares = None;
        let gone = plan(&settled);
        let why = "TopologyAwareHintsDisabled: Insufficient Node information: allocatable CPU or zone not specified on one or \
                   more nodes, addressType: IPv4";
        assert_eq!((gone.actions.len(), told(&gone)), (2, vec![why.to_owned()]));
    }

    #[test]
    fn many_are_shared_out_and_surplus_slices_go() {
        let pods: Vec<_> = (0..250).map(|number| pod(number, true)).collect();
        let view = View { service: Some(service()), pods, ..View::default() };
        let slices: Vec<Arc<EndpointSlice>> = made(&plan(&view))
            .into_iter()
            .enumerate()
            .map(|(number, mut slice)| {
                slice["metadata"]["name"] = json!(format!("web-{number}"));
                Arc::new(from_value(slice).unwrap())
            })
            .collect();
        assert_eq!(
            slices.iter().map(|slice| slice.endpoints.as_ref().unwrap().len()).collect::<Vec<_>>(),
            [100, 100, 50]
        );
        let fewer = View {
            service: Some(service()),
            pods: vec![pod(0, true)],
            slices: slices.clone(),
            ..View::default()
        };
        let deletes =
            plan(&fewer).actions.iter().filter(|action| matches!(action, Action::Delete(_))).count();
        assert_eq!(deletes, 2);
        let gone = View { slices, ..View::default() };
        assert_eq!(plan(&gone).actions.len(), 3);
    }
}
