//! Services and the pods that they select, for the controllers that keep what leads to these.

use std::sync::Arc;

use client::kube::ResourceExt;
use client::{ObjectKey, Reader, WorkQueue, by_namespace};
use k8s_openapi::api::core::v1::Service;

use crate::World;
use crate::pod::Pod;

/// See the module.
pub(crate) struct Selected {
    pub(crate) services: Reader<Service>,
    pods: Reader<Pod>,
}

impl Selected {
    /// Has a queue told of the Services that change, and of those whose pods do.
    pub(crate) fn wire(world: &World, queue: &Arc<WorkQueue<ObjectKey>>) -> Self {
        let (services, pods) = (world.reader::<Service>(), world.pods());
        services.informer().index_by(by_namespace());
        pods.informer().index_by(by_namespace());
        let add = queue.clone();
        services.informer().on_change(move |change| add.add(ObjectKey::of(&**change.object())));
        let (add, all) = (queue.clone(), services.clone());
        pods.informer().on_change(move |change| {
            let namespace = change.object().namespace().unwrap_or_default();
            for service in all.informer().store().by_index("namespace", &namespace) {
                if change.before().into_iter().chain(change.after()).any(|pod| selects(&service, pod)) {
                    add.add(ObjectKey::of(&*service));
                }
            }
        });
        Self { services, pods }
    }

    /// A Service and its pods, unless it is gone.
    pub(crate) fn get(&self, key: &ObjectKey) -> Option<(Arc<Service>, Vec<Arc<Pod>>)> {
        let service = self.services.get(key)?;
        let mut pods = self.pods.by_index("namespace", &key.namespace);
        pods.retain(|pod| selects(&service, pod));
        Some((service, pods))
    }
}

/// One without a selector selects nothing.
fn selects(service: &Service, pod: &Pod) -> bool {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|selector| {
        !selector.is_empty() && selector.iter().all(|(name, value)| pod.labels().get(name) == Some(value))
    })
}
