//! ServiceCIDRs: held by a finalizer, reported as ready, and let go of when no Service would lose its range by it.

use crate::plan::{Plan, patch, patch_status};
use crate::{Controller, World};
use apimachinery::cidr::Cidr;
use client::kube::ResourceExt;
use client::{ObjectKey, Reader, WorkQueue};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::sync::Arc;

const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
/// The label of addresses that the API server gave to Services, and its value.
const MANAGED_BY: (&str, &str) = ("ipaddress.kubernetes.io/managed-by", "ipallocator.k8s.io");
/// How long after the deletion began the range is let go of at the earliest: until then a server may not have heard of it
/// and still give addresses of the range. Upstream's number.
const GRACE: SignedDuration = SignedDuration::from_secs(10);

const READY: (&str, &str, &str) = ("True", "", "Kubernetes Service CIDR is ready");
const IN_USE: (&str, &str, &str) = (
    "False",
    "Terminating",
    "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR",
);

/// The controller; see the module. Keys are names of ServiceCIDRs.
pub struct ServiceCidrs {
    cidrs: Reader<ServiceCIDR>,
    addresses: Reader<IPAddress>,
}

/// What it looks at.
pub struct View {
    /// The object.
    pub object: Option<Arc<ServiceCIDR>>,
    /// Whether Services have addresses that lie in no other range.
    pub is_used: bool,
}

fn ranges(object: &ServiceCIDR) -> impl Iterator<Item = Cidr> + '_ {
    let texts = object.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten());
    texts.filter_map(|text| Cidr::parse_leniently(text))
}

/// Whether all of `inner` lies in `outer`.
fn contains(outer: &Cidr, inner: &Cidr) -> bool {
    outer.prefix <= inner.prefix && outer.contains(inner.network())
}

/// The address, if the API server gave it to a Service.
fn given(address: &IPAddress) -> Option<IpAddr> {
    let is_ours = address.labels().get(MANAGED_BY.0).is_some_and(|by| by == MANAGED_BY.1);
    address.name_any().parse().ok().filter(|_| is_ours)
}

/// Whether one of these addresses would be in no range any more without `object`.
fn is_used(object: &ServiceCIDR, all: &[Arc<ServiceCIDR>], addresses: &[Arc<IPAddress>]) -> bool {
    let others: Vec<Cidr> = all
        .iter()
        .filter(|other| other.metadata.name != object.metadata.name)
        .flat_map(|other| ranges(other))
        .collect();
    let own: Vec<Cidr> = ranges(object).collect();
    if own.iter().all(|own| others.iter().any(|other| contains(other, own))) {
        return false;
    }
    let of_own = addresses.iter().filter_map(|address| given(address));
    let mut of_own = of_own.filter(|address| own.iter().any(|range| range.contains(*address)));
    of_own.any(|address| !others.iter().any(|range| range.contains(address)))
}

impl Controller for ServiceCidrs {
    const NAME: &'static str = "service-cidrs-controller";
    type Key = String;
    type View = View;
    type Memory = ();

    fn wire(world: &World, queue: &Arc<WorkQueue<String>>) -> Self {
        let (cidrs, addresses) = (world.reader::<ServiceCIDR>(), world.reader::<IPAddress>());
        let (add, all) = (queue.clone(), cidrs.clone());
        cidrs.informer().on_change(move |change| {
            add.add(change.object().name_any());
            // Another range may be what one that goes was waiting for.
            for other in all.informer().store().list() {
                if other.metadata.deletion_timestamp.is_some() {
                    add.add(other.name_any());
                }
            }
        });
        let (add, all) = (queue.clone(), cidrs.clone());
        addresses.informer().on_change(move |change| {
            for going in all.informer().store().list() {
                let holds = || {
                    let given = given(change.object());
                    given.is_some_and(|address| ranges(&going).any(|range| range.contains(address)))
                };
                if going.metadata.deletion_timestamp.is_some() && holds() {
                    add.add(going.name_any());
                }
            }
        });
        Self { cidrs, addresses }
    }

    fn view(&self, name: &String) -> View {
        let object = self.cidrs.get(&ObjectKey::cluster(name));
        let going = object.as_deref().filter(|object| object.metadata.deletion_timestamp.is_some());
        // Looked through only for one that goes.
        let is_used = going.is_some_and(|object| {
            is_used(object, &self.cidrs.informer().store().list(), &self.addresses.informer().store().list())
        });
        View { object, is_used }
    }

    fn plan(_: &String, view: &View, (): &(), now: Timestamp) -> Plan<()> {
        let mut plan = Plan::default();
        let Some(object) = view.object.as_deref() else { return plan };
        let mut finalizers = object.finalizers().to_vec();
        let held = finalizers.iter().position(|known| known == FINALIZER);
        let Some(going) = object.metadata.deletion_timestamp.as_ref().map(|at| at.0) else {
            if held.is_none() {
                finalizers.push(FINALIZER.to_owned());
                plan.then(patch(object, json!({ "metadata": { "finalizers": finalizers } })));
                // It is seen again with its new version, and its condition is written then.
                return plan;
            }
            plan.then(report(object, READY, now).map(|status| patch_status(object, status)));
            return plan;
        };
        let Some(held) = held else { return plan };
        if view.is_used {
            plan.then(report(object, IN_USE, now).map(|status| patch_status(object, status)));
            return plan;
        }
        match going.checked_add(GRACE) {
            Ok(end) if now < end => plan.look_again(end),
            _ => {
                finalizers.remove(held);
                plan.then(patch(object, json!({ "metadata": { "finalizers": finalizers } })));
            }
        }
        plan
    }
}

/// The status with this condition, unless it says so already.
fn report(
    object: &ServiceCIDR,
    (status, reason, message): (&str, &str, &str),
    now: Timestamp,
) -> Option<Value> {
    let mut conditions = object.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let known = conditions.find(|condition| condition.type_ == "Ready");
    if known
        .is_some_and(|known| (&*known.status, &*known.reason, &*known.message) == (status, reason, message))
    {
        return None;
    }
    let since = known.filter(|known| known.status == status).map(|known| known.last_transition_time.0);
    let since = apimachinery::time::format(since.unwrap_or(now));
    Some(json!({ "conditions": [{ "type": "Ready", "status": status, "reason": reason, "message": message,
        "lastTransitionTime": since }] }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Action;
    use serde_json::from_value;

    const NOW: &str = "2026-01-02T03:04:05Z";

    fn cidr(name: &str, cidrs: &[&str], metadata: Value) -> ServiceCIDR {
        let mut object = json!({
            "metadata": { "name": name, "uid": name, "resourceVersion": "1" }, "spec": { "cidrs": cidrs },
        });
        for (key, value) in metadata.as_object().unwrap() {
            object["metadata"][key] = value.clone();
        }
        from_value(object).unwrap()
    }

    fn address(name: &str, ours: bool) -> Arc<IPAddress> {
        let labels = if ours { json!({ MANAGED_BY.0: MANAGED_BY.1 }) } else { json!({}) };
        Arc::new(from_value(json!({ "metadata": { "name": name, "labels": labels } })).unwrap())
    }

    fn body(plan: &Plan<()>) -> Value {
        match plan.actions.as_slice() {
            [Action::Patch(patch)] => patch.body.clone(),
            [] => Value::Null,
            other => panic!("{other:?}"),
        }
    }

    fn plan(object: ServiceCIDR, is_used: bool, now: &str) -> Plan<()> {
        let view = View { object: Some(Arc::new(object)), is_used };
        ServiceCidrs::plan(&"x".to_owned(), &view, &(), now.parse().unwrap())
    }

    #[test]
    fn a_range_is_held_and_then_ready() {
        let held = json!({ "finalizers": [FINALIZER] });
        let first = plan(cidr("x", &["10.0.0.0/24"], json!({})), false, NOW);
        assert_eq!(body(&first)["metadata"]["finalizers"], json!([FINALIZER]));
        let mut object = cidr("x", &["10.0.0.0/24"], held);
        let ready = body(&plan(object.clone(), false, NOW));
        let condition = &ready["status"]["conditions"][0];
        assert_eq!((&condition["status"], &condition["lastTransitionTime"]), (&json!("True"), &json!(NOW)));
        object.status = from_value(ready["status"].clone()).unwrap();
        assert_eq!(body(&plan(object, false, NOW)), Value::Null);
    }

    #[test]
    fn a_range_goes_when_nobody_needs_it_and_after_a_while() {
        let going = json!({ "finalizers": [FINALIZER, "x/y"], "deletionTimestamp": NOW });
        let object = || cidr("x", &["10.0.0.0/24"], going.clone());
        let used = body(&plan(object(), true, "2026-01-02T04:00:00Z"));
        assert_eq!(used["status"]["conditions"][0]["reason"], "Terminating");
        let early = plan(object(), false, NOW);
        assert_eq!(
            (body(&early), early.requeue_at),
            (Value::Null, Some("2026-01-02T03:04:15Z".parse().unwrap()))
        );
        let late = body(&plan(object(), false, "2026-01-02T03:04:15Z"));
        assert_eq!(late["metadata"]["finalizers"], json!(["x/y"]));
    }

    #[test]
    fn who_needs_a_range() {
        let own = cidr("own", &["10.0.0.0/24"], json!({}));
        let all = |others: &[&str]| -> Vec<Arc<ServiceCIDR>> {
            let others = others.iter().enumerate();
            let others = others.map(|(at, range)| cidr(&format!("o{at}"), &[range], json!({})));
            others.chain([own.clone()]).map(Arc::new).collect()
        };
        let inside = [address("10.0.0.7", true)];
        assert!(is_used(&own, &all(&[]), &inside));
        assert!(is_used(&own, &all(&["10.0.0.128/25"]), &inside));
        assert!(!is_used(&own, &all(&["10.0.0.0/25"]), &inside), "the address has another range");
        assert!(!is_used(&own, &all(&["10.0.0.0/16"]), &inside), "all of it lies in another");
        assert!(!is_used(&own, &all(&["10.0.0.0/24"]), &inside));
        assert!(!is_used(&own, &all(&[]), &[address("10.0.0.7", false), address("10.0.1.7", true)]));
        assert!(!is_used(&own, &all(&["fd00::/112"]), &[]));
    }
}
