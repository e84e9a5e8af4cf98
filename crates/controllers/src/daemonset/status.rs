//! What a DaemonSet says about itself: `kubectl rollout status` reads it.

use super::Daemon;
use super::nodes::Fit;
use crate::merge::difference;
use crate::plan::{Action, patch_status};
use crate::pods::ready_since;
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetStatus};

impl Daemon<'_> {
    /// Counts nodes, by the first pod of each.
    pub(super) fn counted(&self) -> DaemonSetStatus {
        let before = self.set.status.clone().unwrap_or_default();
        let mut status = DaemonSetStatus {
            observed_generation: self.set.metadata.generation,
            collision_count: before.collision_count,
            conditions: before.conditions,
            ..DaemonSetStatus::default()
        };
        let (mut updated, mut available) = (0, 0);
        for (node, fit) in &self.nodes {
            let first = self.on.get(*node).and_then(|pods| pods.first());
            if *fit != Fit::Wanted {
                status.number_misscheduled += i32::from(first.is_some());
                continue;
            }
            status.desired_number_scheduled += 1;
            let Some(pod) = first else { continue };
            status.current_number_scheduled += 1;
            status.number_ready += i32::from(ready_since(pod).is_some());
            available += i32::from(self.is_available(pod));
            updated += i32::from(self.is_updated(pod));
        }
        let nonzero = |count: i32| Some(count).filter(|count| *count != 0);
        status.updated_number_scheduled = nonzero(updated);
        status.number_available = nonzero(available);
        status.number_unavailable = nonzero(status.desired_number_scheduled - available);
        status
    }
}

/// Writes a status that differs from what was said last.
pub(super) fn write(set: &DaemonSet, status: &DaemonSetStatus) -> Option<Action> {
    if set.status.as_ref() == Some(status) {
        return None;
    }
    let value = |status: &DaemonSetStatus| serde_json::to_value(status).unwrap_or_default();
    let before = set.status.as_ref().map(value).unwrap_or_default();
    Some(patch_status(set, difference(&before, &value(status))))
}
