//! EndpointSlices of Endpoints that somebody wrote by hand for a Service without a selector: whoever balances reads slices.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use client::kube::ResourceExt;
use client::{Index, ObjectKey, Reader, WorkQueue};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::endpointslice::{MANAGED_BY, SERVICE, settle};
use crate::ownership::is_terminating;
use crate::plan::{Plan, controller_of};
use crate::{Controller, World};

/// Upstream's name, so that slices made by either are kept by whichever runs.
const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
/// Who sets this writes slices too.
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Leaders were once elected by way of Endpoints.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// Annotations that say something of the Endpoints alone.
const OWN: [&str; 2] =
    ["endpoints.kubernetes.io/last-change-trigger-time", "kubectl.kubernetes.io/last-applied-configuration"];
/// Upstream's limit of addresses of one subset.
const PER_SUBSET: usize = 1000;

/// The controller; see the module. Keys are Endpoints.
pub struct Mirroring {
    endpoints: Reader<Endpoints>,
    services: Reader<Service>,
    slices: Reader<EndpointSlice>,
}

/// What it looks at.
#[derive(Default)]
pub struct View {
    /// The Endpoints, unless they are gone.
    pub endpoints: Option<Arc<Endpoints>>,
    /// The Service of that name.
    pub service: Option<Arc<Service>>,
    /// The slices that this controller made for them.
    pub slices: Vec<Arc<EndpointSlice>>,
}

fn service_of(slice: &EndpointSlice) -> Option<ObjectKey> {
    let ours = slice.labels().get(MANAGED_BY).is_some_and(|manager| manager == MANAGER);
    let service = slice.labels().get(SERVICE).filter(|_| ours)?;
    Some(ObjectKey::new(slice.namespace().unwrap_or_default(), service))
}

impl Controller for Mirroring {
    const NAME: &'static str = "endpoint-slice-mirroring-controller";
    type Key = ObjectKey;
    type View = View;
    type Memory = ();

    fn wire(world: &World, queue: &Arc<WorkQueue<ObjectKey>>) -> Self {
        let (endpoints, services) = (world.reader::<Endpoints>(), world.reader::<Service>());
        let slices = world.reader::<EndpointSlice>();
        slices.informer().index_by(Index::new("mirrored", |slice: &EndpointSlice| {
            service_of(slice).map(|key| key.to_string()).into_iter().collect()
        }));
        let add = queue.clone();
        endpoints.informer().on_change(move |change| add.add(ObjectKey::of(&**change.object())));
        let add = queue.clone();
        services.informer().on_change(move |change| add.add(ObjectKey::of(&**change.object())));
        let add = queue.clone();
        slices.informer().on_change(move |change| {
            service_of(change.object()).into_iter().for_each(|key| add.add(key));
        });
        Self { endpoints, services, slices }
    }

    fn view(&self, key: &ObjectKey) -> View {
        View {
            endpoints: self.endpoints.get(key),
            service: self.services.get(key),
            slices: self.slices.by_index("mirrored", &key.to_string()),
        }
    }

    fn plan(_key: &ObjectKey, view: &View, (): &(), _now: Timestamp) -> Plan<()> {
        plan(view)
    }
}

/// Decides how the slices of one Endpoints object should be; pure.
pub fn plan(view: &View) -> Plan<()> {
    let mut plan = Plan::default();
    let by_hand = view.service.as_deref().is_some_and(|service| {
        let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        selector.is_none_or(BTreeMap::is_empty) && !is_terminating(service)
    });
    let endpoints = view.endpoints.as_deref().filter(|endpoints| {
        let skipped = endpoints.labels().get(SKIP).is_some_and(|skip| skip == "true");
        by_hand && !skipped && !endpoints.annotations().contains_key(LEADER) && !is_terminating(*endpoints)
    });
    let wanted = endpoints.map(wanted).unwrap_or_default();
    settle(&mut plan, &view.slices, wanted);
    plan
}

/// A slice for each subset and family.
fn wanted(endpoints: &Endpoints) -> Vec<EndpointSlice> {
    let mut slices = Vec::new();
    for subset in endpoints.subsets.iter().flatten() {
        for (family, six) in [("IPv4", false), ("IPv6", true)] {
            let found = behind(subset, six);
            if !found.is_empty() {
                slices.push(slice(endpoints, family, subset, found));
            }
        }
    }
    slices
}

fn behind(subset: &EndpointSubset, six: bool) -> Vec<Endpoint> {
    let list = |list: &Option<Vec<EndpointAddress>>, ready: bool| -> Vec<Endpoint> {
        let fits = |address: &&EndpointAddress| {
            address.ip.parse::<IpAddr>().is_ok_and(|address| address.is_ipv6() == six)
        };
        list.iter().flatten().filter(fits).map(|address| endpoint(address, ready)).collect()
    };
    let mut all = list(&subset.addresses, true);
    all.extend(list(&subset.not_ready_addresses, false));
    all.truncate(PER_SUBSET);
    all
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions { ready: Some(ready), ..EndpointConditions::default() }),
        hostname: address.hostname.clone(),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

fn slice(
    endpoints: &Endpoints,
    family: &str,
    subset: &EndpointSubset,
    behind: Vec<Endpoint>,
) -> EndpointSlice {
    let mut labels = endpoints.labels().clone();
    labels.insert(SERVICE.to_owned(), endpoints.name_any());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    let mut annotations = endpoints.annotations().clone();
    annotations.retain(|name, _| !OWN.contains(&name.as_str()));
    let port = |port: &k8s_openapi::api::core::v1::EndpointPort| EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(port.port),
        protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
        app_protocol: port.app_protocol.clone(),
    };
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", endpoints.name_any())),
            namespace: endpoints.namespace(),
            labels: Some(labels),
            annotations: Some(annotations).filter(|annotations| !annotations.is_empty()),
            owner_references: Some(vec![controller_of(endpoints)]),
            ..ObjectMeta::default()
        },
        address_type: family.to_owned(),
        endpoints: Some(behind),
        ports: Some(subset.ports.iter().flatten().map(port).collect()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;
    use crate::plan::Action;

    fn view(labels: Value, selector: Value) -> View {
        let endpoints = json!({
            "metadata": { "name": "db", "namespace": "x", "uid": "e", "labels": labels },
            "subsets": [{ "addresses": [{ "ip": "192.0.2.1" }, { "ip": "2001:db8::1" }],
                "notReadyAddresses": [{ "ip": "192.0.2.2" }], "ports": [{ "port": 5432 }] }],
        });
        let service =
            json!({ "metadata": { "name": "db", "namespace": "x" }, "spec": { "selector": selector } });
        View {
            endpoints: Some(Arc::new(from_value(endpoints).unwrap())),
            service: Some(Arc::new(from_value(service).unwrap())),
            slices: vec![],
        }
    }

    #[test]
    fn each_family_has_a_slice_and_at_rest_nothing_is_written() {
        let mut seen = view(json!({ "tier": "data" }), json!(null));
        let made: Vec<EndpointSlice> = plan(&seen)
            .actions
            .iter()
            .map(|action| match action {
                Action::Create(create) => from_value(create.object.clone()).unwrap(),
                other => panic!("{other:?}"),
            })
            .collect();
        let facts: Vec<(&str, usize)> = made
            .iter()
            .map(|slice| (slice.address_type.as_str(), slice.endpoints.as_ref().unwrap().len()))
            .collect();
        assert_eq!(facts, [("IPv4", 2), ("IPv6", 1)]);
        assert_eq!(made[0].labels()["tier"], "data");
        assert_eq!(made[0].labels()[SERVICE], "db");
        seen.slices = made.into_iter().map(Arc::new).collect();
        assert!(plan(&seen).actions.is_empty());
        let gone = View { endpoints: None, ..seen };
        assert_eq!(plan(&gone).actions.len(), 2);
    }

    #[test]
    fn some_are_left_alone() {
        assert!(plan(&view(json!({ SKIP: "true" }), json!(null))).actions.is_empty());
        assert!(plan(&view(json!({}), json!({ "app": "db" }))).actions.is_empty());
        assert!(plan(&View { service: None, ..view(json!({}), json!(null)) }).actions.is_empty());
    }
}
