//! Approves what nodes ask for themselves: certificates of clients, for those whom the authorizer lets ask so, and of the
//! kubelet as a server, for what is the node's own.

use super::serving::{self, OfTheApi};
use super::{
    APPROVED, CLIENT, DENIED, KUBELET_CLIENT, KUBELET_SERVING, has, issued, kubelet_faults, usages,
    with_condition,
};
use crate::plan::{Action, Lists, Patch, Plan};
use crate::{Controller, World};
use async_trait::async_trait;
use client::kube::api::{Api, ApiResource, PostParams};
use client::kube::{Client, Error, ResourceExt};
use client::{ObjectKey, Reader, WorkQueue};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use pki::SigningRequest;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Pauses between looks at a request that the authorizer does not allow: they double, between these.
const FIRST_PAUSE: SignedDuration = SignedDuration::from_millis(200);
const LAST_PAUSE: SignedDuration = SignedDuration::from_secs(1000);

/// A right that lets somebody be approved: the subresource of requests that may be created, and what is said then.
type Right = (&'static str, &'static str);

const SELF: Right =
    ("selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview.");
const ANY: Right = ("nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview.");

const PROXY: Right =
    ("nodeproxy", "Auto approving client certificate of the node's proxy after SubjectAccessReview.");
const SELF_EDGE: Right =
    ("selfedgeclient", "Auto approving self client certificate of an edge after SubjectAccessReview.");
const EDGE: Right = ("edgeclient", "Auto approving client certificate of an edge after SubjectAccessReview.");
/// What is said of a kubelet's as a server.
const SERVING: &str = "Auto approving kubelet serving certificate for the node's own name and addresses.";

/// Whom proxies speak for.
const PROXIES: &str = "system:kube-proxy";
/// What names of edges begin with, and their group.
const EDGE_PREFIX: &str = "system:monoplane:edge:";
const EDGES: &str = "system:monoplane:edges";

/// The controller; see the module. Keys are names of requests.
pub struct Approving {
    requests: Reader<CertificateSigningRequest>,
    nodes: Reader<Node>,
    services: Reader<Service>,
    slices: Reader<EndpointSlice>,
    client: Client,
}

/// What it looks at.
pub struct View {
    /// The request.
    pub request: Option<Arc<CertificateSigningRequest>>,
    /// Whether it is one that could be approved.
    pub is_recognised: bool,
    /// What is said with the approval, if the authorizer allows it.
    pub approval: Option<&'static str>,
}

/// What is asked for, unless that is decided already or cannot be read.
fn undecided(request: &CertificateSigningRequest) -> Option<SigningRequest> {
    let is_decided = has(request, APPROVED) || has(request, DENIED) || issued(request).is_some();
    SigningRequest::from_pem(&request.spec.request.0).ok().filter(|_| !is_decided)
}

/// The rights, each of which would do.
fn rights(request: &CertificateSigningRequest) -> Vec<Right> {
    let Some(asked) = undecided(request) else { return Vec::new() };
    let is_own = request.spec.username.as_deref() == Some(asked.common_name.as_str());
    match request.spec.signer_name.as_str() {
        KUBELET_CLIENT if kubelet_faults(&asked, &usages(request), false).is_ok() => {
            if is_own {
                vec![SELF, ANY]
            } else {
                vec![ANY]
            }
        }
        CLIENT if is_of_proxy(&asked, &usages(request)) => vec![PROXY],
        CLIENT if is_of_edge(&asked, &usages(request)) => {
            if is_own {
                vec![SELF_EDGE, EDGE]
            } else {
                vec![EDGE]
            }
        }
        _ => Vec::new(),
    }
}

/// Whether it is exactly a proxy's: its name, and nothing beside.
fn is_of_proxy(asked: &SigningRequest, usages: &BTreeSet<&str>) -> bool {
    asked.common_name == PROXIES && asked.organisations.is_empty() && is_bare_client(asked, usages)
}

/// Whether it is exactly an edge's: a name, the group, and nothing beside.
fn is_of_edge(asked: &SigningRequest, usages: &BTreeSet<&str>) -> bool {
    let is_named = asked.common_name.strip_prefix(EDGE_PREFIX).is_some_and(|name| !name.is_empty());
    is_named && asked.organisations == [EDGES] && is_bare_client(asked, usages)
}

/// Whether it is for a client, and for no other names.
fn is_bare_client(asked: &SigningRequest, usages: &BTreeSet<&str>) -> bool {
    asked.dns_names.is_empty()
        && asked.emails.is_empty()
        && asked.addresses.is_empty()
        && asked.uris.is_empty()
        && *usages == BTreeSet::from(["client auth", "digital signature"])
}

impl Approving {
    /// Whether it is for a kubelet as a server: then, whether it is the node's own.
    fn serves(&self, request: &CertificateSigningRequest) -> Option<bool> {
        let asked = undecided(request).filter(|_| request.spec.signer_name == KUBELET_SERVING)?;
        let api = ObjectKey::new("default", "kubernetes");
        let service = self.services.get(&api);
        let spec = service.as_ref().and_then(|service| service.spec.as_ref());
        let addresses =
            spec.into_iter().flat_map(|spec| spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip));
        let behind: Vec<_> = self.slices.get(&api).into_iter().collect();
        Some(serving::is_own(request, &asked, &self.nodes.list(), &OfTheApi::new(addresses, &behind)))
    }

    async fn may(&self, request: &CertificateSigningRequest, subresource: &str) -> Result<bool, Error> {
        let spec = &request.spec;
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: spec.username.clone(),
                uid: spec.uid.clone(),
                groups: spec.groups.clone(),
                extra: spec.extra.clone(),
                resource_attributes: Some(ResourceAttributes {
                    group: Some("certificates.k8s.io".to_owned()),
                    resource: Some("certificatesigningrequests".to_owned()),
                    subresource: Some(subresource.to_owned()),
                    verb: Some("create".to_owned()),
                    ..ResourceAttributes::default()
                }),
                non_resource_attributes: None,
            },
            ..SubjectAccessReview::default()
        };
        let reviews: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let answer = reviews.create(&PostParams::default(), &review).await?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }
}

#[async_trait]
impl Controller for Approving {
    const NAME: &'static str = "csrapproving";
    type Key = String;
    type View = View;
    /// How often it was not allowed.
    type Memory = u32;

    fn wire(world: &World, queue: &Arc<WorkQueue<String>>) -> Self {
        let requests = world.reader::<CertificateSigningRequest>();
        let add = queue.clone();
        requests.informer().on_change(move |change| add.add(change.object().name_any()));
        let (nodes, services, slices) = (world.reader(), world.reader(), world.reader());
        Self { requests, nodes, services, slices, client: world.client().clone() }
    }

    fn view(&self, name: &String) -> View {
        let request = self.requests.get(&ObjectKey::cluster(name));
        let serves = request.as_deref().and_then(|request| self.serves(request));
        View {
            request,
            is_recognised: serves.is_some(),
            approval: serves.filter(|own| *own).map(|_| SERVING),
        }
    }

    async fn observe(&self, _: &String, view: &mut View) -> Result<(), Error> {
        let Some(request) = view.request.clone() else { return Ok(()) };
        for (subresource, message) in rights(&request) {
            view.is_recognised = true;
            if self.may(&request, subresource).await? {
                view.approval = Some(message);
                break;
            }
        }
        Ok(())
    }

    fn plan(_: &String, view: &View, refusals: &u32, now: Timestamp) -> Plan<u32> {
        let mut plan = Plan::default();
        let Some(request) = view.request.as_deref() else { return plan };
        if let Some(message) = view.approval {
            plan.then(approve(request, message));
        } else if view.is_recognised {
            // Nothing tells when somebody is given the right; and a node may be about to say what its addresses are.
            let pause = FIRST_PAUSE.saturating_mul(1 << (*refusals).min(20)).min(LAST_PAUSE);
            plan.look_again(now.checked_add(pause).ok());
            plan.memory = Some(refusals.saturating_add(1));
        }
        plan
    }
}

fn approve(request: &CertificateSigningRequest, message: &str) -> Action {
    let meta = &request.metadata;
    Action::Patch(Patch {
        resource: ApiResource::erase::<CertificateSigningRequest>(&()),
        key: ObjectKey::of(request),
        subresource: Some("approval"),
        body: json!({
            "metadata": { "uid": meta.uid, "resourceVersion": meta.resource_version },
            "status": { "conditions": with_condition(request, APPROVED, "AutoApproved", message) },
        }),
        lists: Lists::Replaced,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificates::tests::NODE_REQUEST;
    use k8s_openapi::ByteString;
    use serde_json::from_value;

    fn request(username: &str, signer: &str) -> CertificateSigningRequest {
        let mut request: CertificateSigningRequest = from_value(json!({
            "metadata": { "name": "r", "uid": "u", "resourceVersion": "1" },
            "spec": { "request": "", "signerName": signer, "username": username,
                "usages": ["client auth", "digital signature"] },
        }))
        .unwrap();
        request.spec.request = ByteString(NODE_REQUEST.as_bytes().to_vec());
        request
    }

    #[test]
    fn only_undecided_requests_of_kubelets_are_recognised() {
        assert_eq!(rights(&request("system:node:n", KUBELET_CLIENT)), [SELF, ANY]);
        assert_eq!(rights(&request("system:bootstrap:abcdef", KUBELET_CLIENT)), [ANY]);
        assert!(rights(&request("system:node:n", CLIENT)).is_empty());
        assert!(rights(&request("system:node:n", KUBELET_SERVING)).is_empty());
        let mut denied = request("system:node:n", KUBELET_CLIENT);
        denied.status =
            from_value(json!({ "conditions": [{ "type": "Denied", "status": "True" }] })).unwrap();
        assert!(rights(&denied).is_empty());
        let mut broken = request("system:node:n", KUBELET_CLIENT);
        broken.spec.request = ByteString(b"nothing".to_vec());
        assert!(rights(&broken).is_empty());
    }

    #[test]
    fn a_node_may_ask_for_its_proxys_certificate_and_for_nothing_more() {
        let usages = BTreeSet::from(["client auth", "digital signature"]);
        let fine = |change: fn(&mut SigningRequest), usages: &BTreeSet<&str>| {
            let mut asked = SigningRequest::default();
            asked.common_name = PROXIES.to_owned();
            change(&mut asked);
            is_of_proxy(&asked, usages)
        };
        assert!(fine(|_| {}, &usages));
        assert!(!fine(|asked| asked.organisations.push("system:masters".to_owned()), &usages));
        assert!(!fine(|asked| asked.common_name = "kubernetes-admin".to_owned(), &usages));
        assert!(!fine(|asked| asked.dns_names.push("kubernetes".to_owned()), &usages));
        assert!(!fine(|_| {}, &BTreeSet::from(["client auth", "digital signature", "server auth"])));
    }

    #[test]
    fn an_edge_may_ask_for_an_edges_certificate_and_for_nothing_more() {
        let usages = BTreeSet::from(["client auth", "digital signature"]);
        let fine = |name: &str, groups: &[&str], usages: &BTreeSet<&str>| {
            let mut asked = SigningRequest::default();
            asked.common_name = name.to_owned();
            asked.organisations = groups.iter().map(|group| (*group).to_owned()).collect();
            is_of_edge(&asked, usages)
        };
        let name = "system:monoplane:edge:one";
        assert!(fine(name, &[EDGES], &usages));
        assert!(!fine(EDGE_PREFIX, &[EDGES], &usages));
        assert!(!fine(name, &[], &usages));
        assert!(!fine(name, &[EDGES, "system:nodes"], &usages));
        assert!(!fine("system:node:one", &[EDGES], &usages));
        assert!(!fine(name, &[EDGES], &BTreeSet::from(["client auth", "digital signature", "server auth"])));
    }

    #[test]
    fn a_refusal_is_asked_again_ever_less_often() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let request = Some(Arc::new(request("system:node:n", KUBELET_CLIENT)));
        let refused = View { request: request.clone(), is_recognised: true, approval: None };
        let plan = |refusals| Approving::plan(&"r".to_owned(), &refused, &refusals, now);
        let pause = |refusals| plan(refusals).requeue_at.unwrap().duration_since(now).as_millis();
        assert_eq!((pause(0), pause(1), pause(40)), (200, 400, 1_000_000));
        assert_eq!(plan(3).memory, Some(4));
        let allowed = View { request, is_recognised: true, approval: Some(ANY.1) };
        let plan = Approving::plan(&"r".to_owned(), &allowed, &0, now);
        let Action::Patch(patch) = &plan.actions[0] else { panic!("{plan:?}") };
        assert_eq!(patch.subresource, Some("approval"));
        let condition = &patch.body["status"]["conditions"][0];
        assert_eq!((&condition["type"], &condition["reason"]), (&json!("Approved"), &json!("AutoApproved")));
    }
}
