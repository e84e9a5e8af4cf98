//! The ServiceCIDR `kubernetes`: the configured ranges of Services, as an object that the server itself keeps, as upstream's
//! do. It is never changed to fit the configuration but from one family to two.

use std::sync::Arc;
use std::time::Duration;

use api::k8s::api::networking::v1::{ServiceCIDR, ServiceCIDRSpec};
use api::k8s::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use client::{Api, Client, Patch, PatchParams, PostParams};
use clock::Clock;
use serde_json::{Value, json};

/// How often it is looked at: upstream's number.
const EVERY: Duration = Duration::from_secs(10);
const NAME: &str = "kubernetes";

/// What has to be done about it.
#[derive(Debug, PartialEq)]
enum Step {
    Nothing,
    Create(ServiceCIDR),
    Replace(ServiceCIDR),
    /// A merge patch of the status.
    Report(Value),
    /// It names other ranges.
    Differs,
}

/// Keeps it there. What fails is tried again.
pub async fn keep(client: Client, cidrs: Vec<String>, clock: Arc<dyn Clock>) {
    let api: Api<ServiceCIDR> = Api::all(client);
    let mut told = false;
    loop {
        match settle(&api, &cidrs, &*clock).await {
            Ok(differs) => {
                if differs && !told {
                    tracing::warn!(
                        configured = ?cidrs,
                        "the default ServiceCIDR does not match the configured ranges: change --service-cidr, or delete it"
                    );
                }
                told = differs;
            }
            Err(error) => tracing::warn!(%error, "the default ServiceCIDR is not kept"),
        }
        clock.sleep(EVERY).await;
    }
}

/// Whether it differs from what is configured.
async fn settle(
    api: &Api<ServiceCIDR>,
    cidrs: &[String],
    clock: &dyn Clock,
) -> Result<bool, client::kube::Error> {
    match step(api.get_opt(NAME).await?, cidrs, clock.now()) {
        Step::Nothing => {}
        Step::Differs => return Ok(true),
        Step::Create(wanted) => {
            api.create(&PostParams::default(), &wanted).await?;
        }
        Step::Replace(wanted) => {
            api.replace(NAME, &PostParams::default(), &wanted).await?;
        }
        Step::Report(status) => {
            api.patch_status(NAME, &PatchParams::default(), &Patch::Merge(status)).await?;
        }
    }
    Ok(false)
}

fn step(found: Option<ServiceCIDR>, cidrs: &[String], now: jiff::Timestamp) -> Step {
    let spec = || Some(ServiceCIDRSpec { cidrs: Some(cidrs.to_vec()) });
    let Some(found) = found else {
        let metadata = ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() };
        return Step::Create(ServiceCIDR { metadata, spec: spec(), status: None });
    };
    let known = found.spec.as_ref().and_then(|spec| spec.cidrs.clone()).unwrap_or_default();
    if cidrs.len() == 2 && known.len() == 1 && known.first() == cidrs.first() {
        return Step::Replace(ServiceCIDR { spec: spec(), ..found });
    }
    if found.metadata.deletion_timestamp.is_some() {
        return Step::Nothing;
    }
    if known != cidrs {
        return Step::Differs;
    }
    let mut conditions = found.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions.find(|condition| condition.type_ == "Ready");
    if ready.is_some_and(|ready| ready.status != "Unknown") {
        return Step::Nothing;
    }
    Step::Report(json!({ "status": { "conditions": [{
        "type": "Ready", "status": "True", "reason": "", "message": "Kubernetes default Service CIDR is ready",
        "lastTransitionTime": apimachinery::time::format(now),
    }] } }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(cidrs: &[&str], status: Value) -> Option<ServiceCIDR> {
        let object = json!({ "metadata": { "name": NAME }, "spec": { "cidrs": cidrs }, "status": status });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn it_is_made_completed_and_reported_and_else_left_alone() {
        let cidrs = ["10.0.0.0/24".to_owned(), "fd00::/112".to_owned()];
        let both = ["10.0.0.0/24", "fd00::/112"];
        let step = |found| step(found, &cidrs, "2026-01-02T03:04:05Z".parse().unwrap());
        assert!(matches!(step(None), Step::Create(_)));
        let Step::Replace(wanted) = step(of(&["10.0.0.0/24"], json!({}))) else { panic!("one family") };
        assert_eq!(wanted.spec.unwrap().cidrs.unwrap(), both);
        let Step::Report(status) = step(of(&both, json!({}))) else { panic!("no condition") };
        assert_eq!(status["status"]["conditions"][0]["status"], "True");
        let not_ready = json!({ "conditions": [{ "type": "Ready", "status": "False", "reason": "", "message": "",
            "lastTransitionTime": "2026-01-02T03:04:05Z" }] });
        assert_eq!(step(of(&both, not_ready)), Step::Nothing, "somebody else said so");
        assert_eq!(step(of(&["10.1.0.0/24"], json!({}))), Step::Differs);
    }
}
