//! What a server serves, custom resources included.

use kube::api::ApiResource;
use kube::discovery::{ApiGroup, Discovery, Scope as KubeScope};
use kube::{Client, Error};
use std::collections::HashSet;

/// One kind of a server, in the version to use.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Served {
    /// Group, version, kind and plural: what an [`crate::Api`] needs.
    pub resource: ApiResource,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// What may be done with it, as discovery names it (`list`, `watch`, `delete`, …).
    pub verbs: Vec<String>,
}

impl Served {
    /// Whether every one of these verbs is served.
    pub fn supports(&self, verbs: &[&str]) -> bool {
        verbs.iter().all(|verb| self.verbs.iter().any(|served| served == verb))
    }

    /// `plural.group`, or the plural alone in the core group: the name of a kind whatever its version.
    pub fn group_resource(&self) -> String {
        if self.resource.group.is_empty() {
            self.resource.plural.clone()
        } else {
            format!("{}.{}", self.resource.plural, self.resource.group)
        }
    }
}

/// Every kind that the server serves, once, in the preferred version of its group, or in the best version that has it.
/// Asks for the aggregated form first, which is two requests, then for the form that every server knows.
///
/// # Errors
/// When neither can be had.
pub async fn served(client: &Client) -> Result<Vec<Served>, Error> {
    let discovery = match Discovery::new(client.clone()).run_aggregated().await {
        Ok(discovery) => discovery,
        Err(error) => {
            tracing::debug!(%error, "no aggregated discovery");
            Discovery::new(client.clone()).run().await?
        }
    };
    let mut kinds: Vec<Served> = discovery.groups().flat_map(of_group).collect();
    kinds.sort_by(|a, b| {
        (&a.resource.group, &a.resource.plural).cmp(&(&b.resource.group, &b.resource.plural))
    });
    Ok(kinds)
}

fn of_group(group: &ApiGroup) -> Vec<Served> {
    let preferred = group.preferred_version_or_latest();
    let versions = std::iter::once(preferred).chain(group.versions().filter(|version| *version != preferred));
    let mut seen = HashSet::new();
    let mut kinds = Vec::new();
    for (resource, capabilities) in versions.flat_map(|version| group.versioned_resources(version)) {
        if !resource.plural.contains('/') && seen.insert(resource.plural.clone()) {
            let namespaced = capabilities.scope == KubeScope::Namespaced;
            kinds.push(Served { resource, namespaced, verbs: capabilities.operations });
        }
    }
    kinds
}
