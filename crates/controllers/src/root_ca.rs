//! The certificates to trust the API server by, in every namespace, where upstream's clients look for them.

use crate::ownership::is_terminating;
use crate::plan::{Plan, create, patch};
use crate::{Controller, World};
use client::kube::{Api, ResourceExt};
use client::reflector::Selection;
use client::{ObjectKey, Reader, WorkQueue};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;
use std::sync::Arc;

const NAME: &str = "kube-root-ca.crt";
const FILE: &str = "ca.crt";

/// The controller; see the module. Keys are names of namespaces.
pub struct RootCa {
    namespaces: Reader<Namespace>,
    maps: Reader<ConfigMap>,
    wanted: Option<String>,
}

/// What it looks at.
pub struct View {
    /// Whether the namespace is there to stay.
    pub active: bool,
    /// What is published in it.
    pub published: Option<Arc<ConfigMap>>,
    /// What should be.
    pub wanted: Option<String>,
}

impl Controller for RootCa {
    const NAME: &'static str = "root-ca-certificate-publisher";
    type Key = String;
    type View = View;
    type Memory = ();

    fn wire(world: &World, queue: &Arc<WorkQueue<String>>) -> Self {
        let namespaces = world.reader::<Namespace>();
        let selection = Selection { fields: Some(format!("metadata.name={NAME}")), ..Selection::default() };
        let maps = world.reader_of(Api::<ConfigMap>::all(world.client().clone()), selection);
        let add = queue.clone();
        namespaces.informer().on_change(move |change| add.add(change.object().name_any()));
        let add = queue.clone();
        maps.informer().on_change(move |change| add.add(change.object().namespace().unwrap_or_default()));
        Self { namespaces, maps, wanted: world.settings().root_ca.clone() }
    }

    fn view(&self, namespace: &String) -> View {
        let found = self.namespaces.get(&ObjectKey::cluster(namespace));
        View {
            active: found.is_some_and(|namespace| !is_terminating(&*namespace)),
            published: self.maps.get(&ObjectKey::new(namespace, NAME)),
            wanted: self.wanted.clone(),
        }
    }

    fn plan(namespace: &String, view: &View, (): &(), _now: Timestamp) -> Plan<()> {
        let mut plan = Plan::default();
        let Some(wanted) = view.wanted.as_ref().filter(|_| view.active) else { return plan };
        let data = [(FILE.to_owned(), wanted.clone())];
        match view.published.as_deref() {
            None => {
                let map = ConfigMap {
                    metadata: ObjectMeta {
                        name: Some(NAME.to_owned()),
                        namespace: Some(namespace.clone()),
                        ..ObjectMeta::default()
                    },
                    data: Some(data.into()),
                    ..ConfigMap::default()
                };
                let mut create = create(&map);
                create.unless_exists = true;
                plan.then(create);
            }
            Some(map) if map.data.as_ref().and_then(|data| data.get(FILE)) != Some(wanted) => {
                plan.then(patch(map, json!({ "data": { FILE: wanted } })));
            }
            Some(_) => {}
        }
        plan
    }
}
