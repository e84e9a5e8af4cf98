//! Rolling updates: old pods go before new ones come, as many as may be unavailable, or after, as many as may be too many.

use super::Daemon;
use super::nodes::Fit;
use crate::ownership::is_terminating;
use crate::percent::scaled;
use crate::pod::Pod;
use k8s_openapi::api::apps::v1::RollingUpdateDaemonSet;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What stays of a node's pods: one of the present template, one of an earlier one.
struct Pair<'a> {
    new: Option<&'a Arc<Pod>>,
    old: Option<&'a Arc<Pod>>,
}

impl Daemon<'_> {
    fn strategy(&self) -> Option<Option<&RollingUpdateDaemonSet>> {
        let strategy = self.set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
        let kind = strategy.and_then(|strategy| strategy.type_.as_deref()).unwrap_or("RollingUpdate");
        (kind == "RollingUpdate").then(|| strategy.and_then(|strategy| strategy.rolling_update.as_ref()))
    }

    /// How many pods may be too many for so many nodes, and how many nodes may be without.
    fn bounds(&self, wanted: i32) -> (usize, usize) {
        let rolling = self.strategy().flatten();
        let count = |value: Option<&IntOrString>| value.map_or(0, |value| scaled(value, wanted, true));
        let surge = count(rolling.and_then(|rolling| rolling.max_surge.as_ref()));
        let unavailable = count(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()));
        let unavailable = if surge == 0 { unavailable.max(1) } else { unavailable };
        (usize::try_from(surge).unwrap_or(0), usize::try_from(unavailable).unwrap_or(0))
    }

    pub(super) fn surges(&self) -> bool {
        self.bounds(100).0 > 0
    }

    /// `None` when there are more pods than can be told apart, which is seen to first.
    fn pair<'b>(&self, pods: &'b [Arc<Pod>]) -> Option<Pair<'b>> {
        let staying = pods.iter().filter(|pod| !is_terminating(&***pod));
        let (new, old): (Vec<_>, Vec<_>) = staying.partition(|pod| self.is_updated(pod));
        let one = |pods: &[&'b Arc<Pod>]| (pods.len() <= 1).then(|| pods.first().copied());
        Some(Pair { new: one(&new)?, old: one(&old)? })
    }

    /// One step of an update, if this set is updated at all before its pods are deleted by others.
    pub(super) fn roll(&mut self) {
        if self.strategy().is_none() {
            return;
        }
        let wanted = self.nodes.values().filter(|fit| **fit == Fit::Wanted).count();
        let (surge, unavailable) = self.bounds(i32::try_from(wanted).unwrap_or(i32::MAX));
        let mut on = std::mem::take(&mut self.on);
        for (node, _) in self.nodes.iter().filter(|(_, fit)| **fit == Fit::Wanted) {
            // One without a pod is without an available one.
            on.entry((*node).to_owned()).or_default();
        }
        if surge == 0 {
            self.replace(&on, unavailable);
        } else {
            self.surge(&on, surge, wanted);
        }
        self.on = on;
    }

    /// Takes away old pods: those that are not available anyway, and others as long as few enough nodes are without.
    fn replace(&mut self, on: &BTreeMap<String, Vec<Arc<Pod>>>, allowed: usize) {
        let (mut unavailable, mut broken, mut good) = (0, Vec::new(), Vec::new());
        for pods in on.values() {
            match self.pair(pods) {
                Some(Pair { new: None, old: Some(old) }) if self.is_available(old) => good.push(old.clone()),
                Some(Pair { new: None, old: Some(old) }) => {
                    unavailable += 1;
                    broken.push(old.clone());
                }
                Some(Pair { new: Some(new), old: None }) if self.is_available(new) => {}
                _ => unavailable += 1,
            }
        }
        good.truncate(allowed.saturating_sub(unavailable));
        self.take.extend(broken.into_iter().chain(good));
    }

    /// Makes new pods beside old ones, and takes away the old ones whose successors are available.
    fn surge(&mut self, on: &BTreeMap<String, Vec<Arc<Pod>>>, allowed: usize, wanted: usize) {
        let (mut surging, mut available) = (0, 0);
        let (mut at_once, mut later, mut leaving) = (Vec::new(), Vec::new(), Vec::new());
        for (node, pods) in on {
            let Some(Pair { new, old }) = self.pair(pods) else {
                surging += 1;
                continue;
            };
            let serves = old.or(new).is_some_and(|pod| self.is_available(pod));
            available += usize::from(serves);
            let fits = self.nodes.get(node.as_str()) == Some(&Fit::Wanted);
            match (new, old) {
                (_, None) => {}
                (None, Some(old)) if !serves && !fits => self.take.push(old.clone()),
                (None, Some(_)) if !serves => at_once.push(node.clone()),
                (None, Some(old)) if !fits => leaving.push(old.clone()),
                (None, Some(_)) => later.push(node.clone()),
                (Some(new), Some(old)) if self.is_available(new) => self.take.push(old.clone()),
                (Some(_), Some(_)) => surging += 1,
            }
        }
        // One on a node that is no longer fit goes when there are enough without it.
        leaving.truncate(available.saturating_sub(wanted));
        self.take.append(&mut leaving);
        later.truncate(allowed.saturating_sub(surging));
        self.make.extend(at_once.into_iter().chain(later));
    }
}
