//! Which pods are a pod's like where it does not say: those that its Services and its controller select.

use crate::pod::PodFacts;
use crate::terms::{Labels, matches, selector_of};
use apimachinery::selector::Selector;
use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{ReplicationController, Service};
use std::collections::BTreeMap;

/// Something that has a selector for pods.
pub(crate) trait Selects {
    /// Its kind, as pods name their controller's.
    const KIND: &'static str;
    /// The pods that it selects.
    fn pods(&self) -> Selector;
}

/// Services and controllers, by namespace and then by kind and name.
#[derive(Default)]
pub(crate) struct Selectors(BTreeMap<String, BTreeMap<(&'static str, String), Selector>>);

impl Selectors {
    /// Takes in one, by namespace and name, as it is, or that it is gone.
    pub(crate) fn set<K: Selects>(&mut self, (namespace, name): &(String, String), now: Option<K>) {
        let key = (K::KIND, name.clone());
        match now {
            Some(now) => {
                self.0.entry(namespace.clone()).or_default().insert(key, now.pods());
            }
            None => {
                if let Some(here) = self.0.get_mut(namespace) {
                    here.remove(&key);
                    if here.is_empty() {
                        self.0.remove(namespace);
                    }
                }
            }
        }
    }

    /// What all of a pod's Services and its controller select; none where there is nothing of the kind.
    pub(crate) fn of(&self, pod: &PodFacts) -> Option<Selector> {
        let here = self.0.get(&*pod.namespace)?;
        let services = here
            .range((Service::KIND, String::new())..)
            .take_while(|((kind, _), _)| *kind == Service::KIND)
            .map(|(_, selector)| selector)
            .filter(|selector| matches(selector, &pod.class.labels));
        let controller = pod.controller.as_ref().and_then(|(kind, name)| {
            let kind = CONTROLLERS.into_iter().find(|known| known == kind)?;
            here.get(&(kind, name.clone()))
        });
        let mut all: Vec<_> = services.chain(controller).flat_map(Selector::requirements).cloned().collect();
        all.sort_by(|a, b| (&a.key, &a.values).cmp(&(&b.key, &b.values)));
        all.dedup();
        (!all.is_empty()).then(|| Selector::from_requirements(all))
    }
}

const CONTROLLERS: [&str; 3] = [ReplicaSet::KIND, StatefulSet::KIND, ReplicationController::KIND];

/// A selector in the plain form; an empty one is for nothing.
fn plain(labels: Option<&Labels>) -> Selector {
    match labels {
        Some(labels) if !labels.is_empty() => {
            Selector::from_labels(labels.iter().map(|(key, value)| (key.as_str(), value.as_str())))
        }
        _ => Selector::nothing(),
    }
}

impl Selects for Service {
    const KIND: &'static str = "Service";

    fn pods(&self) -> Selector {
        plain(self.spec.as_ref().and_then(|spec| spec.selector.as_ref()))
    }
}

impl Selects for ReplicationController {
    const KIND: &'static str = "ReplicationController";

    fn pods(&self) -> Selector {
        plain(self.spec.as_ref().and_then(|spec| spec.selector.as_ref()))
    }
}

impl Selects for ReplicaSet {
    const KIND: &'static str = "ReplicaSet";

    fn pods(&self) -> Selector {
        selector_of(self.spec.as_ref().map(|spec| &spec.selector))
    }
}

impl Selects for StatefulSet {
    const KIND: &'static str = "StatefulSet";

    fn pods(&self) -> Selector {
        selector_of(self.spec.as_ref().map(|spec| &spec.selector))
    }
}
