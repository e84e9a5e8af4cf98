//! The claims of pods' own: one for each volume that says how it should look, named after the pod and the volume, and gone
//! with the pod.

use crate::ownership::{controller_ref, is_terminating};
use crate::plan::{Plan, controller_of, create, tell};
use crate::pod::{Pod, Volume};
use crate::{Controller, World};
use client::EventType::Warning;
use client::kube::ResourceExt;
use client::{ObjectKey, Reader, WorkQueue};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::sync::Arc;

/// The controller; see the module.
pub struct EphemeralVolumes {
    pods: Reader<Pod>,
    claims: Reader<PersistentVolumeClaim>,
}

/// What it looks at.
pub struct View {
    /// The pod, unless it is gone.
    pub pod: Option<Arc<Pod>>,
    /// The claims that have the names of its own.
    pub claims: Vec<Arc<PersistentVolumeClaim>>,
}

fn name(pod: &Pod, volume: &Volume) -> String {
    format!("{}-{}", pod.name_any(), volume.name)
}

fn own(pod: &Pod) -> impl Iterator<Item = &Volume> {
    pod.spec.volumes.iter().filter(|volume| volume.ephemeral.is_some())
}

impl Controller for EphemeralVolumes {
    const NAME: &'static str = "ephemeral_volume";
    type Key = ObjectKey;
    type View = View;
    type Memory = ();

    fn wire(world: &World, queue: &Arc<WorkQueue<ObjectKey>>) -> Self {
        let (pods, claims) = (world.pods(), world.reader::<PersistentVolumeClaim>());
        let add = queue.clone();
        pods.informer().on_change(move |change| {
            let pod = change.after().filter(|pod| own(pod).next().is_some());
            pod.into_iter().for_each(|pod| add.add(ObjectKey::of(&**pod)));
        });
        let add = queue.clone();
        claims.informer().on_change(move |change| {
            // One that is gone is made again.
            let gone = change.before().filter(|_| change.after().is_none());
            let owner = gone.and_then(|claim| Some((claim.namespace()?, controller_ref(&**claim)?)));
            if let Some((namespace, owner)) = owner.filter(|(_, owner)| owner.kind == "Pod") {
                add.add(ObjectKey::new(namespace, &owner.name));
            }
        });
        Self { pods, claims }
    }

    fn view(&self, key: &ObjectKey) -> View {
        let pod = self.pods.get(key);
        let names = pod.iter().flat_map(|pod| own(pod).map(|volume| name(pod, volume)).collect::<Vec<_>>());
        let claims =
            names.filter_map(|name| self.claims.get(&ObjectKey::new(&key.namespace, name))).collect();
        View { pod, claims }
    }

    fn plan(_: &ObjectKey, view: &View, (): &(), _: Timestamp) -> Plan<()> {
        let mut plan = Plan::default();
        let Some(pod) = view.pod.as_deref().filter(|pod| !is_terminating(*pod)) else { return plan };
        for volume in own(pod) {
            let name = name(pod, volume);
            match view.claims.iter().find(|claim| claim.name_any() == name) {
                None => plan.then(create(&claim(pod, volume, name))),
                Some(claim)
                    if controller_ref(&**claim).map(|owner| &owner.uid) == pod.metadata.uid.as_ref() => {}
                Some(_) => {
                    let (namespace, pod_name) = (pod.namespace().unwrap_or_default(), pod.name_any());
                    let why = format!(
                        "PVC {namespace}/{name} was not created for pod {namespace}/{pod_name} (pod is not owner)"
                    );
                    plan.then(tell(pod, Warning, "FailedBinding", why));
                }
            }
        }
        plan
    }
}

fn claim(pod: &Pod, volume: &Volume, name: String) -> PersistentVolumeClaim {
    let template = volume.ephemeral.as_ref().and_then(|source| source.volume_claim_template.clone());
    let given = template.as_ref().and_then(|template| template.metadata.clone()).unwrap_or_default();
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: pod.namespace(),
            labels: given.labels,
            annotations: given.annotations,
            owner_references: Some(vec![controller_of(pod)]),
            ..ObjectMeta::default()
        },
        spec: template.map(|template| template.spec),
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Action;
    use serde_json::{from_value, json};

    #[test]
    fn a_pod_gets_the_claims_that_are_its_own() {
        let pod: Pod = from_value(json!({
            "metadata": { "name": "p", "namespace": "x", "uid": "pod" },
            "spec": { "containers": [], "volumes": [
                { "name": "scratch", "ephemeral": { "volumeClaimTemplate": {
                    "metadata": { "labels": { "a": "b" } },
                    "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } },
                } } },
                { "name": "other", "emptyDir": {} },
            ] },
        }))
        .unwrap();
        let view = |claims| View { pod: Some(Arc::new(pod.clone())), claims };
        let plan =
            |view: &View| EphemeralVolumes::plan(&ObjectKey::default(), view, &(), Timestamp::UNIX_EPOCH);
        let made = plan(&view(vec![]));
        let [Action::Create(create)] = made.actions.as_slice() else { panic!("{made:?}") };
        assert_eq!(
            (create.object["metadata"]["name"].as_str(), create.object["spec"]["accessModes"][0].as_str()),
            (Some("p-scratch"), Some("ReadWriteOnce"))
        );
        assert_eq!(create.object["metadata"]["ownerReferences"][0]["uid"], "pod");
        let there: PersistentVolumeClaim = from_value(create.object.clone()).unwrap();
        assert!(plan(&view(vec![Arc::new(there.clone())])).actions.is_empty());
        let others = PersistentVolumeClaim {
            metadata: ObjectMeta { owner_references: None, ..there.metadata },
            ..there
        };
        let told = plan(&view(vec![Arc::new(others)]));
        assert!(matches!(&told.actions[0], Action::Tell { reason: "FailedBinding", .. }), "{told:?}");
    }
}
