//! Signs requests that have been approved, for the signers that the plane itself has. What a signer does not sign is
//! marked as failed, with upstream's words.

use super::{
    APPROVED, CLIENT, DENIED, FAILED, KUBELET_CLIENT, KUBELET_SERVING, has, issued, kubelet_faults, usages,
    with_condition,
};
use crate::plan::{Plan, patch_status};
use crate::{Controller, World};
use async_trait::async_trait;
use client::kube::{Error, ResourceExt};
use client::{Ambient, ObjectKey, Reader, WorkQueue};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use pki::{Signer, SigningRequest};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;

const LEGACY: &str = "kubernetes.io/legacy-unknown";
/// The least life that is given.
const LEAST: SignedDuration = SignedDuration::from_mins(10);
/// How long after a failure that may pass it is tried again.
const AGAIN: SignedDuration = SignedDuration::from_mins(1);

/// The controller; see the module. Keys are names of requests.
pub struct Signing {
    requests: Reader<CertificateSigningRequest>,
    signer: Option<Arc<Signer>>,
    life: SignedDuration,
    ambient: Ambient,
}

/// What it looks at.
pub struct View {
    /// The request.
    pub request: Option<Arc<CertificateSigningRequest>>,
    /// What came of signing it, if it was to be signed.
    pub outcome: Option<Outcome>,
}

/// What comes of signing a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A certificate, PEM.
    Signed(String),
    /// It asks for what its signer does not sign.
    Refused(String),
    /// It could not be signed now.
    Failed(String),
}

impl Signing {
    fn sign(&self, signer: &Signer, request: &CertificateSigningRequest) -> Option<Outcome> {
        let asked = match SigningRequest::from_pem(&request.spec.request.0) {
            Ok(asked) => asked,
            Err(error) => return Some(Outcome::Failed(format!("unable to parse csr: {error}"))),
        };
        if let Err(why) = judge(&request.spec.signer_name, &asked, &usages(request))? {
            return Some(Outcome::Refused(why));
        }
        let usages = request.spec.usages.clone().unwrap_or_default();
        let life = life(request.spec.expiration_seconds, self.life);
        let signed = signer.sign(&asked, &usages, life, self.ambient.clock.now());
        Some(signed.map_or_else(|error| Outcome::Failed(error.to_string()), Outcome::Signed))
    }
}

/// Whether it is ours to sign (`None` if not) and why it is not signed.
fn judge(signer: &str, asked: &SigningRequest, usages: &BTreeSet<&str>) -> Option<Result<(), String>> {
    match signer {
        KUBELET_CLIENT => Some(kubelet_faults(asked, usages, false)),
        KUBELET_SERVING => Some(kubelet_faults(asked, usages, true)),
        CLIENT => Some(client_usages(usages)),
        // As upstream: a version of the API that is not served any more let anything be asked for.
        LEGACY => Some(Ok(())),
        _ => None,
    }
}

fn client_usages(usages: &BTreeSet<&str>) -> Result<(), String> {
    let optional = ["digital signature", "key encipherment", "client auth"];
    if let Some(other) = usages.iter().find(|usage| !optional.contains(usage)) {
        return Err(format!("invalid usage for client certificate: {other}"));
    }
    match usages.contains("client auth") {
        true => Ok(()),
        false => Err("missing required usage for client certificate: client auth".to_owned()),
    }
}

/// What was asked for, within bounds.
fn life(asked: Option<i32>, most: SignedDuration) -> SignedDuration {
    match asked.map(|seconds| SignedDuration::from_secs(seconds.into())) {
        None => most,
        Some(asked) if asked > most => most,
        Some(asked) => asked.max(LEAST),
    }
}

fn is_due(request: &CertificateSigningRequest) -> bool {
    has(request, APPROVED)
        && !has(request, DENIED)
        && !has(request, FAILED)
        && issued(request).is_none()
        && request.metadata.deletion_timestamp.is_none()
}

#[async_trait]
impl Controller for Signing {
    const NAME: &'static str = "csrsigning";
    type Key = String;
    type View = View;
    type Memory = ();

    fn wire(world: &World, queue: &Arc<WorkQueue<String>>) -> Self {
        let requests = world.reader::<CertificateSigningRequest>();
        let add = queue.clone();
        requests.informer().on_change(move |change| add.add(change.object().name_any()));
        let settings = world.settings();
        Self {
            requests,
            signer: settings.signer.clone(),
            life: settings.certificate_life,
            ambient: world.ambient().clone(),
        }
    }

    fn view(&self, name: &String) -> View {
        View { request: self.requests.get(&ObjectKey::cluster(name)), outcome: None }
    }

    async fn observe(&self, _: &String, view: &mut View) -> Result<(), Error> {
        let request = view.request.as_ref().filter(|request| is_due(request));
        if let Some((request, signer)) = request.zip(self.signer.as_ref()) {
            view.outcome = self.sign(signer, request);
        }
        Ok(())
    }

    fn plan(name: &String, view: &View, (): &(), now: Timestamp) -> Plan<()> {
        let mut plan = Plan::default();
        let Some((request, outcome)) = view.request.as_ref().zip(view.outcome.as_ref()) else { return plan };
        let status = match outcome {
            Outcome::Signed(pem) => json!({ "certificate": ByteString(pem.clone().into_bytes()) }),
            Outcome::Refused(why) => {
                json!({ "conditions": with_condition(request, FAILED, "SignerValidationFailure", why) })
            }
            Outcome::Failed(why) => {
                tracing::warn!(name, why, "a certificate could not be signed; trying again");
                plan.look_again(now.checked_add(AGAIN).ok());
                return plan;
            }
        };
        plan.then(patch_status(&**request, status));
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Action;
    use serde_json::from_value;

    fn request(status: serde_json::Value) -> CertificateSigningRequest {
        from_value(json!({ "metadata": { "name": "r", "uid": "u", "resourceVersion": "1" }, "status": status,
            "spec": { "request": "", "signerName": CLIENT, "usages": ["client auth"] } }))
        .unwrap()
    }

    #[test]
    fn only_what_is_approved_and_nothing_else_is_due() {
        let condition = |kinds: &[&str]| {
            let all: Vec<_> = kinds.iter().map(|kind| json!({ "type": kind, "status": "True" })).collect();
            request(json!({ "conditions": all }))
        };
        assert!(is_due(&condition(&["Approved"])));
        for kinds in [&[][..], &["Denied"], &["Approved", "Denied"], &["Approved", "Failed"]] {
            assert!(!is_due(&condition(kinds)), "{kinds:?}");
        }
        let mut signed = condition(&["Approved"]);
        signed.status.as_mut().unwrap().certificate = Some(ByteString(b"x".to_vec()));
        assert!(!is_due(&signed));
    }

    #[test]
    fn lives_have_bounds() {
        let year = SignedDuration::from_hours(365 * 24);
        let of = |asked| life(asked, year).as_secs();
        assert_eq!(of(None), year.as_secs());
        assert_eq!((of(Some(3600)), of(Some(1)), of(Some(i32::MAX))), (3600, 600, year.as_secs()));
    }

    #[test]
    fn usages_of_clients() {
        let check = |usages: &[&str]| client_usages(&usages.iter().copied().collect());
        assert_eq!(check(&["client auth", "digital signature", "key encipherment"]), Ok(()));
        let wrong = check(&["client auth", "server auth"]).unwrap_err();
        assert_eq!(wrong, "invalid usage for client certificate: server auth");
        let missing = check(&["digital signature"]).unwrap_err();
        assert_eq!(missing, "missing required usage for client certificate: client auth");
        assert_eq!(judge("example.com/mine", &SigningRequest::default(), &BTreeSet::new()), None);
    }

    #[test]
    fn what_is_not_signed_fails_and_keeps_its_other_conditions() {
        let view = |outcome| View {
            request: Some(Arc::new(request(
                json!({ "conditions": [{ "type": "Approved", "status": "True" }] }),
            ))),
            outcome: Some(outcome),
        };
        let now = "2026-01-02T03:04:05Z".parse().unwrap();
        let plan = |outcome| Signing::plan(&"r".to_owned(), &view(outcome), &(), now);
        let refused = plan(Outcome::Refused("why".into()));
        let Action::Patch(patch) = &refused.actions[0] else { panic!("{refused:?}") };
        let conditions = patch.body["status"]["conditions"].as_array().unwrap();
        assert_eq!((&conditions[0]["type"], &conditions[1]["type"]), (&json!("Approved"), &json!("Failed")));
        assert_eq!(conditions[1]["reason"], "SignerValidationFailure");
        let later = plan(Outcome::Failed("expired".into()));
        assert!(later.actions.is_empty() && later.requeue_at.is_some());
        let signed = plan(Outcome::Signed("pem".into()));
        let Action::Patch(patch) = &signed.actions[0] else { panic!("{signed:?}") };
        assert_eq!(patch.body["status"], json!({ "certificate": "cGVt" }));
    }
}
