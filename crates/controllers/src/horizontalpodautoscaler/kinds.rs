//! Which kind a reference means, and its scale.

use client::discovery::{Served, served};
use client::kube::Client;
use client::kube::api::{Api, DynamicObject};
use client::{Ambient, message};
use clock::Instant;
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::autoscaling::v2::CrossVersionObjectReference;
use std::time::Duration;
use tokio::sync::Mutex;

/// How long what the server said of its kinds is taken for true.
const FRESH: Duration = Duration::from_secs(30);
/// A kind that is not among them is asked for again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// What the server serves, as it said lately.
pub(super) struct Kinds {
    client: Client,
    ambient: Ambient,
    known: Mutex<Option<(Instant, Vec<Served>)>>,
}

/// What is scaled.
#[derive(Clone, Debug, PartialEq)]
pub struct ScaleTarget {
    /// Its kind.
    pub kind: Served,
    /// How many replicas it has, and should have.
    pub scale: Scale,
}

impl Kinds {
    pub(super) fn new(client: Client, ambient: Ambient) -> Self {
        Self { client, ambient, known: Mutex::default() }
    }

    /// The kind of that name, in whichever version it is served best.
    pub(super) async fn of(&self, reference: &CrossVersionObjectReference) -> Result<Served, String> {
        let api_version = reference.api_version.as_deref().unwrap_or_default();
        let group = match api_version.split('/').collect::<Vec<_>>()[..] {
            [_] => "",
            [group, _] => group,
            _ => return Err(format!("unexpected GroupVersion string: {api_version}")),
        };
        let is_meant = |kind: &&Served| kind.resource.group == group && kind.resource.kind == reference.kind;
        let mut known = self.known.lock().await;
        let now = self.ambient.clock.monotonic();
        let found = known.as_ref().and_then(|(_, kinds)| kinds.iter().find(is_meant)).cloned();
        let age = known.as_ref().map_or(Duration::MAX, |(at, _)| now.since(*at));
        if age < (if found.is_some() { FRESH } else { AGAIN }) {
            return found.ok_or_else(|| unknown(group, &reference.kind));
        }
        let kinds = served(&self.client).await.map_err(|error| message(&error))?;
        let found = kinds.iter().find(is_meant).cloned();
        *known = Some((now, kinds));
        found.ok_or_else(|| unknown(group, &reference.kind))
    }

    /// What the reference leads to, as it is now.
    pub(super) async fn scale_of(
        &self,
        namespace: &str,
        reference: &CrossVersionObjectReference,
    ) -> Result<ScaleTarget, String> {
        let kind = self.of(reference).await?;
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &kind.resource);
        let scale = api.get_scale(&reference.name).await.map_err(|error| message(&error))?;
        Ok(ScaleTarget { kind, scale })
    }
}

fn unknown(group: &str, kind: &str) -> String {
    format!("no matches for kind {kind:?} in group {group:?}")
}
