//! What is known of a container before its shim makes it: all that the shim needs, written where it finds it.

use std::fs;
use std::io;
use std::path::PathBuf;

use container::Device;
use nix::sys::signal::Signal;
use runtime::{
    ContainerConfig, Error, MountPropagation, NamespaceMode, SandboxConfig, SecurityContext,
    SupplementalGroupsPolicy,
};
use serde_json::Value;

use crate::capabilities;
use crate::cgroup::Tree;
use crate::config::WorkloadConfig;
use crate::files::{
    self, ContainerFile, ContainerFiles, ImagePlan, Part, Plan, ShimProcess, UserPlan, WorkloadPlan,
    WritableLayer,
};
use crate::image::image_error;
use crate::manager::failed;
use crate::protocol;
use crate::sandbox::Sandbox;
use crate::{machine_devices, seccomp, spec};

/// What a container is made from.
pub(crate) struct Images {
    /// Its root's.
    pub(crate) own: images::StoredImage,
    /// The layer below all of its layers.
    pub(crate) skeleton: PathBuf,
    /// One for each of its mounts that is of an image, in their order.
    pub(crate) mounted: Vec<images::StoredImage>,
}

/// Writes all that the shim needs to make a container.
pub(crate) fn prepare(
    sandbox: &Sandbox,
    id: &str,
    config: ContainerConfig,
    workload: Option<WorkloadConfig>,
    images: &Images,
    store: &images::Store,
    tree: &Tree,
) -> Result<ContainerFile, Error> {
    let (pod, files) = (&sandbox.record.config, sandbox.files.container(id));
    let image = &images.own;
    let image_config = image.config.config().clone().unwrap_or_default();
    let stop_signal = config.stop_signal.clone().or_else(|| image_config.stop_signal().clone());
    let shm = sandbox.files.shm();
    let security = &config.security;
    let granted = capabilities::granted(security, capabilities::available(), tree.limits_devices())
        .map_err(|why| Error::Invalid(format!("securityContext.capabilities: {why}")))?;
    let seccomp = seccomp::filter(security, &granted)?;
    let strict = security.supplemental_groups_policy == SupplementalGroupsPolicy::Strict;
    let makes_devices = !security.privileged && granted.iter().any(|name| name == "CAP_MKNOD");
    if seccomp.is_some() || strict || makes_devices {
        sandbox.needs_version(protocol::CONFINES)?;
    }
    if !images.mounted.is_empty() {
        sandbox.needs_version(protocol::MOUNTS_IMAGES)?;
    }
    let found = found(sandbox, &files, &config)?;
    let spec = spec::build(&spec::Input {
        container: &config,
        sandbox: pod,
        image: &image.config,
        group: sandbox.group(id),
        sources: &found.mounts,
        files: found.files,
        shm: (pod.ipc != NamespaceMode::Node).then_some(shm.as_path()),
        pid_namespace: pid_namespace(sandbox, &config)?,
        user_namespace: pod.user_namespace.is_some(),
        tree,
        devices: further_devices(pod, security),
        capabilities: &granted,
    })?;
    // Until the plan is written nobody sees that the layers are used.
    let _kept = store.hold().map_err(image_error)?;
    let unpacked = images.mounted.iter().zip(found.images).map(|(image, at)| {
        let layers = store.unpack(image).map_err(image_error)?;
        Ok(ImagePlan { layers, at })
    });
    let own = store.unpack(image).map_err(image_error)?;
    let writable = match sandbox.files.is_apart() && sandbox.speaks(protocol::WRITES_APART) {
        true => WritableLayer(sandbox.files.writable(id)),
        false => WritableLayer::default(),
    };
    let plan = Plan {
        layers: [images.skeleton.clone()].into_iter().chain(own).collect(),
        writable: writable.clone(),
        images: unpacked.collect::<Result<_, Error>>()?,
        log: pod.log_directory.join(&config.log_path),
        stdin: config.stdin,
        stdin_once: config.stdin_once,
        tty: config.tty,
        user: user(security, image_config.user().clone().unwrap_or_default())?,
        parts: found.parts,
        shares_mounts: config.mounts.iter().any(|mount| mount.propagation == MountPropagation::Bidirectional),
        limit_devices: !config.security.privileged,
        seccomp,
        user_namespace: pod.user_namespace,
        workload: workload.map(|workload| WorkloadPlan::new(workload, &config)),
        pid_target: config.pid_target.clone().filter(|_| pod.pid == NamespaceMode::Container),
    };
    let stop_signal = parse_signal(stop_signal.as_deref())? as i32;
    let image_ref = crate::image::reference(image, &config.image);
    let image_id = image.id.to_string();
    let mounted_images = images.mounted.iter().map(|image| image.id.to_string()).collect();
    let id = id.to_owned();
    let file = ContainerFile { id, image_id, image_ref, mounted_images, stop_signal, writable, config };
    write(&files, &spec, &plan, &file).map_err(failed(&"container directory"))?;
    Ok(file)
}

/// Nobody in a user namespace may make a device node.
fn further_devices(pod: &SandboxConfig, security: &SecurityContext) -> Vec<Device> {
    match security.privileged && pod.user_namespace.is_none() {
        true => machine_devices::all(),
        false => Vec::new(),
    }
}

fn write(files: &ContainerFiles, spec: &Value, plan: &Plan, file: &ContainerFile) -> io::Result<()> {
    fs::create_dir_all(&files.0)?;
    files::write(&files.spec(), spec)?;
    files::write_record(&files.plan(), plan)?;
    files::write_record(&files.record(), file)
}

/// Who its processes are, as far as that is known without the image's files.
fn user(security: &SecurityContext, image: String) -> Result<UserPlan, Error> {
    let number = |field: &str, id: i64| {
        u32::try_from(id)
            .map_err(|_| Error::Invalid(format!("securityContext.{field}: {id} is out of range")))
    };
    let groups = security.supplemental_groups.iter().map(|id| number("supplementalGroups", *id));
    Ok(UserPlan {
        image,
        uid: security.run_as_user.map(|id| number("runAsUser", id)).transpose()?,
        gid: security.run_as_group.map(|id| number("runAsGroup", id)).transpose()?,
        groups: groups.collect::<Result<_, _>>()?,
        strict: security.supplemental_groups_policy == SupplementalGroupsPolicy::Strict,
    })
}

/// Where all that a container mounts is found.
struct Found {
    /// The directory of each of the images that it mounts.
    images: Vec<PathBuf>,
    /// What the shim binds first, for the container to find it there.
    parts: Vec<Part>,
    /// The source of each of the configuration's mounts.
    mounts: Vec<PathBuf>,
    /// The sandbox's files, by the path they take in the container.
    files: Vec<(&'static str, PathBuf)>,
}

/// Parts of volumes are the shim's to find; so is everything where ids are mapped.
fn found(sandbox: &Sandbox, files: &ContainerFiles, config: &ContainerConfig) -> Result<Found, Error> {
    let mapped = sandbox.record.config.user_namespace.is_some();
    let (mut images, mut parts) = (Vec::new(), Vec::new());
    // An image's layers have been mapped.
    let mut find = |source: PathBuf, part: PathBuf, of_image: bool| {
        if part.as_os_str().is_empty() && (!mapped || of_image) {
            return source;
        }
        let at = files.part(parts.len());
        parts.push(Part { volume: source, path: part, at: at.clone(), mapped: of_image });
        at
    };
    let mut mounts = Vec::new();
    for mount in &config.mounts {
        use std::path::Component::{CurDir, Normal};
        if !mount.sub_path.components().all(|part| matches!(part, Normal(_) | CurDir)) {
            let path = mount.sub_path.display();
            return Err(Error::Invalid(format!("mounts: the part {path} must be relative, without \"..\"")));
        }
        let source = match mount.image.as_str() {
            "" => mount.host_path.clone(),
            _ => {
                let image = ImagePlan { layers: Vec::new(), at: files.image(images.len()) };
                let source = image.files();
                images.push(image.at);
                source
            }
        };
        mounts.push(find(source, mount.sub_path.clone(), !mount.image.is_empty()));
    }
    let etc = [("/etc/hostname", "hostname"), ("/etc/resolv.conf", "resolv.conf")];
    let etc = etc.map(|(path, name)| (path, find(sandbox.files.0.join(name), PathBuf::new(), false)));
    Ok(Found { images, mounts, files: etc.into(), parts })
}

/// The pod's shared process namespace, which its shim keeps, or that of the container that is to be joined. The shim, which
/// can be sure of whose it is, finds it again.
fn pid_namespace(sandbox: &Sandbox, config: &ContainerConfig) -> Result<Option<PathBuf>, Error> {
    let pid = match (sandbox.record.config.pid, &config.pid_target) {
        (NamespaceMode::Pod, _) => {
            let shim: ShimProcess =
                files::read_record(&sandbox.files.shim_process()).map_err(failed(&"shim"))?;
            shim.pause_pid
        }
        (NamespaceMode::Container, Some(target)) => sandbox.running_pid(target).ok_or_else(|| {
            Error::Invalid(format!("pid_target: container {target} is not running in the sandbox"))
        })?,
        _ => return Ok(None),
    };
    Ok(Some(PathBuf::from(format!("/proc/{pid}/ns/pid"))))
}

/// `TERM`, `SIGTERM`, `15`, or nothing, which is TERM.
fn parse_signal(text: Option<&str>) -> Result<Signal, Error> {
    let text = text.unwrap_or("TERM");
    let upper = text.to_ascii_uppercase();
    let parsed = match upper.parse::<i32>() {
        Ok(number) => Signal::try_from(number).ok(),
        Err(_) if upper.starts_with("SIG") => upper.parse().ok(),
        Err(_) => format!("SIG{upper}").parse().ok(),
    };
    parsed.ok_or_else(|| Error::Invalid(format!("stop signal: {text:?} is no signal")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_read_in_all_their_forms() {
        for text in [None, Some("TERM"), Some("SIGTERM"), Some("sigterm"), Some("15")] {
            assert_eq!(parse_signal(text).unwrap(), Signal::SIGTERM);
        }
        assert!(parse_signal(Some("SIGNOTHING")).is_err());
        assert!(parse_signal(Some("99")).is_err());
    }
}
