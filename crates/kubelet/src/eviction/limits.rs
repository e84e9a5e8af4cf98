//! What a pod may take of the node's disk by its own limits, and what is said when it takes more: upstream's words.

use api::k8s::api::core::v1::Pod;
use apimachinery::quantity::Quantity;

use super::measure::{self, PodDisk};
use crate::pod::containers::{self, Kind};
use crate::resources;

const STORAGE: &str = "ephemeral-storage";

/// Whether a pod has any such limit.
pub(super) fn has_any(pod: &Pod) -> bool {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let mut sized = volumes.filter(|volume| measure::on_disk(volume)).filter_map(size_limit);
    sized.next().is_some() || containers::all(pod).any(|one| resources::limit(&one.spec, STORAGE).is_some())
}

fn size_limit(volume: &api::k8s::api::core::v1::Volume) -> Option<Quantity> {
    let limit = volume.empty_dir.as_ref()?.size_limit.as_ref()?.0.parse::<Quantity>().ok()?;
    (limit.signum() > 0).then_some(limit)
}

/// Why a pod that takes this much has to leave.
pub(super) fn exceeded(pod: &Pod, disk: &PodDisk) -> Option<String> {
    let above = |bytes: u64, limit: &Quantity| i64::try_from(bytes).unwrap_or(i64::MAX) > limit.value();
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    for volume in volumes.filter(|volume| measure::on_disk(volume)) {
        let used = disk.volumes.get(&volume.name).map_or(0, |used| used.bytes);
        if let Some(limit) = size_limit(volume).filter(|limit| above(used, limit)) {
            let name = &volume.name;
            return Some(format!("Usage of EmptyDir volume \"{name}\" exceeds the limit \"{limit}\". "));
        }
    }
    let members: Vec<_> =
        containers::all(pod).filter(|one| matches!(one.kind, Kind::App | Kind::Sidecar)).collect();
    let limits: Option<Vec<Quantity>> =
        members.iter().map(|one| resources::limit(&one.spec, STORAGE)).collect();
    if let Some(total) = limits.map(|limits| limits.into_iter().sum::<Quantity>())
        && !total.is_zero()
        && above(disk.total().bytes, &total)
    {
        let words = "Pod ephemeral local storage usage exceeds the total limit of containers";
        return Some(format!("{words} {total}. "));
    }
    members.iter().find_map(|one| {
        let used = disk.containers.get(one.name()).map_or(0, |used| used.bytes);
        let limit =
            resources::limit(&one.spec, STORAGE).filter(|limit| !limit.is_zero() && above(used, limit))?;
        let name = one.name();
        Some(format!("Container {name} exceeded its local ephemeral storage limit \"{limit}\". "))
    })
}

#[cfg(test)]
mod tests {
    use runtime::DiskUsage;
    use serde_json::json;

    use super::*;

    #[test]
    fn each_limit_is_watched() {
        let of = |name: &str, limit: Option<&str>| match limit {
            Some(limit) => json!({"name": name, "resources": {"limits": {"ephemeral-storage": limit}}}),
            None => json!({"name": name}),
        };
        let check = |containers: serde_json::Value, used: [u64; 3], expected: &str| {
            let volumes = json!([{"name": "v", "emptyDir": {"sizeLimit": "1Ki"}}, {"name": "m", "emptyDir": {"medium": "Memory", "sizeLimit": "1"}}]);
            let pod: Pod =
                serde_json::from_value(json!({"spec": {"containers": containers, "volumes": volumes}}))
                    .unwrap();
            let [a, b, v] = used.map(|bytes| DiskUsage { bytes, inodes: 1 });
            let disk = PodDisk {
                containers: [("a".into(), a), ("b".into(), b)].into(),
                volumes: [("v".into(), v)].into(),
            };
            assert!(has_any(&pod));
            assert_eq!(exceeded(&pod, &disk).unwrap_or_default(), expected);
        };
        let both = || json!([of("a", Some("2Ki")), of("b", Some("3Ki"))]);
        check(both(), [2048, 2048, 1024], "");
        check(both(), [0, 0, 1025], "Usage of EmptyDir volume \"v\" exceeds the limit \"1Ki\". ");
        check(both(), [2049, 0, 0], "Container a exceeded its local ephemeral storage limit \"2Ki\". ");
        let total = "Pod ephemeral local storage usage exceeds the total limit of containers 5Ki. ";
        check(both(), [2048, 3072, 1], total);
        check(json!([of("a", Some("2Ki")), of("b", None)]), [0, 1 << 30, 0], "");
    }
}
