//! The containers of a pod: the one place that knows its lists of them, in which order they begin, and where each is told
//! of.

use std::borrow::Cow;

use api::k8s::api::core::v1::{Container, ContainerStatus, EphemeralContainer, Pod, PodSpec, PodStatus};

/// What part a container has in its pod's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Runs to its end before what comes after it begins.
    Init,
    /// An init container that goes on running beside the others: it only has to have started.
    Sidecar,
    /// What the pod is there for.
    App,
    /// Added to a running pod to look at it; never started again.
    Ephemeral,
}

impl Kind {
    /// The list of the spec that holds it.
    pub(crate) fn field(self) -> &'static str {
        match self {
            Kind::Init | Kind::Sidecar => "initContainers",
            Kind::App => "containers",
            Kind::Ephemeral => "ephemeralContainers",
        }
    }
}

/// A container of a pod.
#[derive(Clone, Debug)]
pub(crate) struct PodContainer<'a> {
    pub(crate) kind: Kind,
    pub(crate) spec: Cow<'a, Container>,
}

impl PodContainer<'_> {
    pub(crate) fn name(&self) -> &str {
        &self.spec.name
    }

    /// How events say which part of the pod they are about.
    pub(crate) fn field_path(&self) -> String {
        format!("spec.{}{{{}}}", self.kind.field(), self.spec.name)
    }
}

/// All containers of a pod: init containers and sidecars in their order, then the others.
pub(crate) fn all(pod: &Pod) -> impl Iterator<Item = PodContainer<'_>> {
    pod.spec.iter().flat_map(of_spec)
}

/// [`all`] of a spec.
pub(crate) fn of_spec(spec: &PodSpec) -> impl Iterator<Item = PodContainer<'_>> {
    let inits = spec.init_containers.iter().flatten().map(|init| {
        let sidecar = init.restart_policy.as_deref() == Some("Always");
        PodContainer { kind: if sidecar { Kind::Sidecar } else { Kind::Init }, spec: Cow::Borrowed(init) }
    });
    let apps = spec.containers.iter().map(|app| PodContainer { kind: Kind::App, spec: Cow::Borrowed(app) });
    let ephemeral = spec.ephemeral_containers.iter().flatten();
    let ephemeral =
        ephemeral.map(|added| PodContainer { kind: Kind::Ephemeral, spec: Cow::Owned(of_ephemeral(added)) });
    inits.chain(apps).chain(ephemeral)
}

/// A container by name.
pub(crate) fn find<'a>(pod: &'a Pod, name: &str) -> Option<PodContainer<'a>> {
    all(pod).find(|container| container.name() == name)
}

/// The container that an ephemeral one was added to look at.
pub(crate) fn target<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    let added = pod.spec.as_ref()?.ephemeral_containers.as_ref()?.iter().find(|added| added.name == name)?;
    added.target_container_name.as_deref().filter(|target| !target.is_empty())
}

/// What was told of all containers, in the order of [`all`].
pub(crate) fn statuses(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    let lists =
        [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses];
    lists.into_iter().flatten().flatten()
}

/// As an ordinary container. Which container it looks at is not part of that.
fn of_ephemeral(container: &EphemeralContainer) -> Container {
    // Field by field, without `..`: one that upstream adds has to be decided upon.
    let EphemeralContainer {
        args,
        command,
        env,
        env_from,
        image,
        image_pull_policy,
        lifecycle,
        liveness_probe,
        name,
        ports,
        readiness_probe,
        resize_policy,
        resources,
        restart_policy,
        restart_policy_rules,
        security_context,
        startup_probe,
        stdin,
        stdin_once,
        target_container_name: _,
        termination_message_path,
        termination_message_policy,
        tty,
        volume_devices,
        volume_mounts,
        working_dir,
    } = container.clone();
    Container {
        args,
        command,
        env,
        env_from,
        image,
        image_pull_policy,
        lifecycle,
        liveness_probe,
        name,
        ports,
        readiness_probe,
        resize_policy,
        resources,
        restart_policy,
        restart_policy_rules,
        security_context,
        startup_probe,
        stdin,
        stdin_once,
        termination_message_path,
        termination_message_policy,
        tty,
        volume_devices,
        volume_mounts,
        working_dir,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn in_order_with_their_places() {
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "containers": [{"name": "a"}, {"name": "b"}],
            "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}],
            "ephemeralContainers": [{"name": "e", "image": "debug", "targetContainerName": "b"}],
        }}))
        .unwrap();
        let found: Vec<_> = all(&pod).map(|container| (container.kind, container.field_path())).collect();
        let expected = [
            (Kind::Init, "spec.initContainers{i}"),
            (Kind::Sidecar, "spec.initContainers{s}"),
            (Kind::App, "spec.containers{a}"),
            (Kind::App, "spec.containers{b}"),
            (Kind::Ephemeral, "spec.ephemeralContainers{e}"),
        ];
        assert_eq!(found, expected.map(|(kind, path)| (kind, path.to_owned())));
        assert_eq!(find(&pod, "e").unwrap().spec.image.as_deref(), Some("debug"));
        assert!(find(&pod, "x").is_none());
        assert_eq!((target(&pod, "e"), target(&pod, "a")), (Some("b"), None));
    }
}
