//! Takes requests away that are done with: an hour after they were issued, denied or failed, a day after they were made if
//! nobody has decided, and at once when the certificate has expired. Upstream's times.

use super::{APPROVED, DENIED, FAILED, conditions, issued};
use crate::plan::{Plan, delete};
use crate::{Controller, World};
use client::kube::ResourceExt;
use client::{ObjectKey, Reader, WorkQueue};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use std::sync::Arc;

const DECIDED: SignedDuration = SignedDuration::from_hours(1);
const PENDING: SignedDuration = SignedDuration::from_hours(24);

/// The controller; see the module. Keys are names of requests.
pub struct Cleaning {
    requests: Reader<CertificateSigningRequest>,
}

/// When the request may go; `None` for one that stays until something happens to it.
fn end(request: &CertificateSigningRequest) -> Option<Timestamp> {
    let after = |at: Option<Timestamp>, time: SignedDuration| at.and_then(|at| at.checked_add(time).ok());
    let decided = |kind| {
        conditions(request, kind)
            .filter_map(|condition| after(condition.last_update_time.as_ref().map(|at| at.0), DECIDED))
            .min()
    };
    let conditions_of = request.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let is_pending = conditions_of.count() == 0;
    let made = request.metadata.creation_timestamp.as_ref().map(|at| at.0);
    let certificate = issued(request).filter(|_| conditions(request, APPROVED).next().is_some());
    let ends = [
        certificate.and_then(|_| decided(APPROVED)),
        certificate.and_then(|pem| pki::expiry(pem).ok()),
        decided(DENIED),
        decided(FAILED),
        after(made, PENDING).filter(|_| is_pending),
    ];
    ends.into_iter().flatten().min()
}

impl Controller for Cleaning {
    const NAME: &'static str = "csrcleaner";
    type Key = String;
    type View = Option<Arc<CertificateSigningRequest>>;
    type Memory = ();

    fn wire(world: &World, queue: &Arc<WorkQueue<String>>) -> Self {
        let requests = world.reader::<CertificateSigningRequest>();
        let add = queue.clone();
        requests.informer().on_change(move |change| add.add(change.object().name_any()));
        Self { requests }
    }

    fn view(&self, name: &String) -> Self::View {
        self.requests.get(&ObjectKey::cluster(name))
    }

    fn plan(_: &String, view: &Self::View, (): &(), now: Timestamp) -> Plan<()> {
        let mut plan = Plan::default();
        let Some(request) = view.as_deref() else { return plan };
        match end(request) {
            Some(end) if now > end => plan.then(delete(request)),
            // A moment later, for `now > end` to hold.
            Some(end) => plan.look_again(end.checked_add(SignedDuration::from_secs(1)).ok()),
            None => {}
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, from_value, json};

    const MADE: &str = "2026-01-01T00:00:00Z";
    const LATER: &str = "2026-01-01T12:00:00Z";

    fn hours(status: Value) -> Option<i64> {
        let request: CertificateSigningRequest = from_value(json!({
            "metadata": { "name": "r", "creationTimestamp": MADE },
            "spec": { "request": "", "signerName": "x.y/z" }, "status": status,
        }))
        .unwrap();
        let made: Timestamp = MADE.parse().unwrap();
        end(&request).map(|end| end.duration_since(made).as_hours())
    }

    #[test]
    fn times_are_upstreams() {
        let decided = |kind: &str| json!([{ "type": kind, "status": "True", "lastUpdateTime": LATER }]);
        assert_eq!(hours(json!({})), Some(24));
        assert_eq!(hours(json!({ "conditions": decided("Denied") })), Some(13));
        assert_eq!(hours(json!({ "conditions": decided("Failed") })), Some(13));
        assert_eq!(hours(json!({ "conditions": decided("Approved") })), None, "somebody may still sign it");
        // Not a certificate, so it does not expire.
        let issued = json!({ "conditions": decided("Approved"), "certificate": "eA==" });
        assert_eq!(hours(issued), Some(13));
    }

    #[test]
    fn it_goes_when_its_time_is_over() {
        let request: CertificateSigningRequest = from_value(json!({
            "metadata": { "name": "r", "uid": "u", "creationTimestamp": MADE },
            "spec": { "request": "", "signerName": "x.y/z" },
        }))
        .unwrap();
        let view = Some(Arc::new(request));
        let plan = |now: &str| Cleaning::plan(&"r".to_owned(), &view, &(), now.parse().unwrap());
        let early = plan("2026-01-01T23:00:00Z");
        assert!(early.actions.is_empty());
        assert_eq!(early.requeue_at, Some("2026-01-02T00:00:01Z".parse().unwrap()));
        assert_eq!(plan("2026-01-02T00:00:01Z").actions.len(), 1);
    }
}
