//! How many pods there should be of what controls a pod: of our own kinds as the informers have them, of others as their
//! `scale` says.

use crate::World;
use crate::ownership::controller_ref;
use crate::pod::Pod;
use crate::world::Readable;
use client::kube::api::{Api, ApiResource, DynamicObject};
use client::kube::{Client, Error, ResourceExt};
use client::write::is_not_found;
use client::{ObjectKey, Reader};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::ReplicationController;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is known of the size of what controls a pod.
#[derive(Debug, Clone, PartialEq)]
pub enum Scale {
    /// It is, or belongs to, this workload, which should have so many pods.
    Of {
        /// The workload's UID.
        uid: String,
        /// How many.
        replicas: i32,
    },
    /// It is not there.
    Gone,
    /// It cannot be said.
    Unknown(String),
}

/// Sizes by the UID in pods' references.
#[derive(Default)]
pub struct Scales {
    known: BTreeMap<String, Scale>,
    /// What the server has to be asked about.
    open: Vec<OwnerReference>,
}

impl Scales {
    /// Notes a size.
    #[cfg(test)]
    pub(super) fn with(mut self, uid: &str, scale: Scale) -> Self {
        self.known.insert(uid.to_owned(), scale);
        self
    }

    pub(super) fn get(&self, owner: &OwnerReference) -> Option<&Scale> {
        self.known.get(&owner.uid)
    }

    /// Asks the server about what no informer holds.
    pub(super) async fn ask(&mut self, client: &Client, namespace: &str) {
        for owner in std::mem::take(&mut self.open) {
            let scale = match scale_of(client, namespace, &owner).await {
                Ok(scale) => scale,
                Err(error) => Scale::Unknown(client::message(&error)),
            };
            self.known.insert(owner.uid, scale);
        }
    }
}

/// The kinds whose sizes are known without asking.
pub(super) struct Workloads {
    deployments: Reader<Deployment>,
    replica_sets: Reader<ReplicaSet>,
    stateful_sets: Reader<StatefulSet>,
    replication_controllers: Reader<ReplicationController>,
}

impl Workloads {
    pub(super) fn of(world: &World) -> Self {
        Self {
            deployments: world.reader(),
            replica_sets: world.reader(),
            stateful_sets: world.reader(),
            replication_controllers: world.reader(),
        }
    }

    /// Calls with the namespace of whatever comes, goes, or changes its size or its owner, whose size counts from then on: the
    /// pods may have been heard of before it.
    pub(super) fn on_resize(&self, resized: impl Fn(&str) + Clone + Send + Sync + 'static) {
        watch(&self.deployments, |found| found.spec.as_ref()?.replicas, resized.clone());
        watch(&self.replica_sets, |found| found.spec.as_ref()?.replicas, resized.clone());
        watch(&self.stateful_sets, |found| found.spec.as_ref()?.replicas, resized.clone());
        watch(&self.replication_controllers, |found| found.spec.as_ref()?.replicas, resized);
    }

    /// The sizes of what controls these pods, as far as they are known.
    pub(super) fn scales(&self, pods: &[Arc<Pod>]) -> Scales {
        let mut scales = Scales::default();
        for pod in pods {
            let Some(owner) = controller_ref(&**pod) else { continue };
            if scales.known.contains_key(&owner.uid) {
                continue;
            }
            let known = self.find(owner, &pod.namespace().unwrap_or_default());
            if known.is_none() {
                scales.open.push(owner.clone());
            }
            scales.known.insert(owner.uid.clone(), known.unwrap_or(Scale::Gone));
        }
        scales
    }

    /// `None` for a kind that no informer holds.
    fn find(&self, owner: &OwnerReference, namespace: &str) -> Option<Scale> {
        let key = ObjectKey::new(namespace, &owner.name);
        let scale = match (group(owner), owner.kind.as_str()) {
            ("", "ReplicationController") => sized(&self.replication_controllers, &key, owner, |found| {
                found.spec.as_ref().and_then(|spec| spec.replicas)
            }),
            ("apps" | "extensions", "ReplicaSet") => {
                let set =
                    self.replica_sets.get(&key).filter(|set| set.metadata.uid.as_ref() == Some(&owner.uid));
                match set
                    .as_ref()
                    .and_then(|set| controller_ref(&**set))
                    .filter(|above| above.kind == "Deployment")
                {
                    Some(above) => {
                        sized(&self.deployments, &ObjectKey::new(namespace, &above.name), above, |found| {
                            found.spec.as_ref().and_then(|spec| spec.replicas)
                        })
                    }
                    None => sized(&self.replica_sets, &key, owner, |found| {
                        found.spec.as_ref().and_then(|spec| spec.replicas)
                    }),
                }
            }
            ("apps", "StatefulSet") => sized(&self.stateful_sets, &key, owner, |found| {
                found.spec.as_ref().and_then(|spec| spec.replicas)
            }),
            _ => return None,
        };
        Some(scale)
    }
}

fn watch<K: Readable>(
    reader: &Reader<K>,
    size: fn(&K) -> Option<i32>,
    resized: impl Fn(&str) + Send + Sync + 'static,
) {
    reader.informer().on_change(move |change| {
        let of = |found: &Arc<K>| {
            let above = controller_ref(&**found).map(|above| above.uid.clone());
            (found.meta().uid.clone(), above, size(found))
        };
        if change.before().map(of) != change.after().map(of) {
            resized(change.object().meta().namespace.as_deref().unwrap_or_default());
        }
    });
}

fn sized<K: Readable>(
    reader: &Reader<K>,
    key: &ObjectKey,
    owner: &OwnerReference,
    size: fn(&K) -> Option<i32>,
) -> Scale {
    match reader.get(key).filter(|found| found.meta().uid.as_ref() == Some(&owner.uid)) {
        Some(found) => Scale::Of { uid: owner.uid.clone(), replicas: size(&found).unwrap_or(1) },
        None => Scale::Gone,
    }
}

fn group(owner: &OwnerReference) -> &str {
    owner.api_version.split_once('/').map_or("", |(group, _)| group)
}

/// What the `scale` of an owner says.
async fn scale_of(client: &Client, namespace: &str, owner: &OwnerReference) -> Result<Scale, Error> {
    let served = match owner.api_version.contains('/') {
        true => client.list_api_group_resources(&owner.api_version).await,
        false => client.list_core_api_resources(&owner.api_version).await,
    };
    let served = match served {
        Ok(served) => served.resources,
        Err(error) if is_not_found(&error) => Vec::new(),
        Err(error) => return Err(error),
    };
    let kind = served.iter().find(|one| one.kind == owner.kind && !one.name.contains('/'));
    let Some(kind) = kind else {
        let why = format!("no matches for kind {:?} in version {:?}", owner.kind, owner.api_version);
        return Ok(Scale::Unknown(why));
    };
    let group = group(owner);
    let scale = format!("{}/scale", kind.name);
    if !served.iter().any(|one| one.name == scale && one.kind == "Scale") {
        let name = if group.is_empty() { kind.name.clone() } else { format!("{}.{group}", kind.name) };
        return Ok(Scale::Unknown(format!("{name} does not implement the scale subresource")));
    }
    let version = owner.api_version.rsplit('/').next().unwrap_or_default();
    let resource = ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: owner.api_version.clone(),
        kind: owner.kind.clone(),
        plural: kind.name.clone(),
    };
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    match api.get_scale(&owner.name).await {
        Ok(scale) if scale.metadata.uid.as_ref() == Some(&owner.uid) => {
            let replicas = scale.spec.and_then(|spec| spec.replicas).unwrap_or(0);
            Ok(Scale::Of { uid: owner.uid.clone(), replicas })
        }
        Ok(_) => Ok(Scale::Gone),
        Err(error) if is_not_found(&error) => Ok(Scale::Gone),
        Err(error) => Err(error),
    }
}
