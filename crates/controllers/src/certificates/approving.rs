//! Approves what kubelets ask for themselves: certificates of clients, for those whom the authorizer lets ask so.

use super::{APPROVED, DENIED, KUBELET_CLIENT, has, issued, kubelet_faults, usages, with_condition};
use crate::plan::{Action, Lists, Patch, Plan};
use crate::{Controller, World};
use async_trait::async_trait;
use client::kube::api::{Api, ApiResource, PostParams};
use client::kube::{Client, Error, ResourceExt};
use client::{ObjectKey, Reader, WorkQueue};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use pki::SigningRequest;
use serde_json::json;
use std::sync::Arc;

/// Pauses between looks at a request that the authorizer does not allow: they double, between these.
const FIRST_PAUSE: SignedDuration = SignedDuration::from_millis(200);
const LAST_PAUSE: SignedDuration = SignedDuration::from_secs(1000);

/// A right that lets somebody be approved: the subresource of requests that may be created, and what is said then.
type Right = (&'static str, &'static str);

const SELF: Right =
    ("selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview.");
const ANY: Right = ("nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview.");

/// The controller; see the module. Keys are names of requests.
pub struct Approving {
    requests: Reader<CertificateSigningRequest>,
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

/// The rights, each of which would do.
fn rights(request: &CertificateSigningRequest) -> Vec<Right> {
    let is_decided = has(request, APPROVED) || has(request, DENIED) || issued(request).is_some();
    if is_decided || request.spec.signer_name != KUBELET_CLIENT {
        return Vec::new();
    }
    let Ok(asked) = SigningRequest::from_pem(&request.spec.request.0) else { return Vec::new() };
    if kubelet_faults(&asked, &usages(request), false).is_err() {
        return Vec::new();
    }
    let is_own = request.spec.username.as_deref() == Some(asked.common_name.as_str());
    if is_own { vec![SELF, ANY] } else { vec![ANY] }
}

impl Approving {
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
        Self { requests, client: world.client().clone() }
    }

    fn view(&self, name: &String) -> View {
        let request = self.requests.get(&ObjectKey::cluster(name));
        View { request, is_recognised: false, approval: None }
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
            // Nothing tells when somebody is given the right.
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
        assert!(rights(&request("system:node:n", "kubernetes.io/kube-apiserver-client")).is_empty());
        let mut denied = request("system:node:n", KUBELET_CLIENT);
        denied.status =
            from_value(json!({ "conditions": [{ "type": "Denied", "status": "True" }] })).unwrap();
        assert!(rights(&denied).is_empty());
        let mut broken = request("system:node:n", KUBELET_CLIENT);
        broken.spec.request = ByteString(b"nothing".to_vec());
        assert!(rights(&broken).is_empty());
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
