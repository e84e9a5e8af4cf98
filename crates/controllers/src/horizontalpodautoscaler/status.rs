//! What is said about an autoscaler: its status, and events.

use crate::merge::difference;
use crate::plan::{Action, patch_status, tell};
use client::EventType;
use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition, HorizontalPodAutoscalerStatus, MetricStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// What will be said, as it comes together.
pub(super) struct Report<'a> {
    pub(super) now: Timestamp,
    autoscaler: &'a HorizontalPodAutoscaler,
    status: HorizontalPodAutoscalerStatus,
    metrics: Vec<MetricStatus>,
    events: Vec<Action>,
}

impl<'a> Report<'a> {
    /// Begins with what was said last.
    pub(super) fn new(autoscaler: &'a HorizontalPodAutoscaler, now: Timestamp) -> Self {
        let status = autoscaler.status.clone().unwrap_or_default();
        Self { now, autoscaler, status, metrics: Vec::new(), events: Vec::new() }
    }

    /// Sets a condition. Its time is that of the last change of its status.
    pub(super) fn set(
        &mut self,
        kind: &'static str,
        holds: bool,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        let status = if holds { "True" } else { "False" };
        let conditions = self.status.conditions.get_or_insert_default();
        let known = conditions.iter().position(|condition| condition.type_ == kind);
        let place = known.unwrap_or_else(|| {
            conditions
                .push(HorizontalPodAutoscalerCondition { type_: kind.to_owned(), ..Default::default() });
            conditions.len() - 1
        });
        let condition = &mut conditions[place];
        if condition.status != status {
            condition.last_transition_time = Some(Time(self.now));
        }
        status.clone_into(&mut condition.status);
        condition.reason = Some(reason.to_owned());
        condition.message = Some(message.into());
    }

    /// Notes what one metric is, in their order.
    pub(super) fn metric(&mut self, metric: MetricStatus) {
        self.metrics.push(metric);
    }

    /// Says how many replicas there are, and what each metric is, while nothing is decided.
    pub(super) fn current(&mut self, current: i32) {
        self.replicas(current, self.status.desired_replicas, false);
    }

    /// Says how many replicas there are and will be, and what each metric is.
    pub(super) fn replicas(&mut self, current: i32, desired: i32, scaled: bool) {
        self.status.current_replicas = Some(current);
        self.status.desired_replicas = desired;
        if scaled {
            self.status.last_scale_time = Some(Time(self.now));
        }
        self.status.current_metrics =
            Some(std::mem::take(&mut self.metrics)).filter(|metrics| !metrics.is_empty());
    }

    /// Tells of something.
    pub(super) fn tell(&mut self, reason: &'static str, message: impl Into<String>) {
        self.events.push(tell(self.autoscaler, EventType::Normal, reason, message));
    }

    /// Warns of something.
    pub(super) fn warn(&mut self, reason: &'static str, message: impl Into<String>) {
        self.events.push(tell(self.autoscaler, EventType::Warning, reason, message));
    }

    /// The events, and the write of the status if that says anything new.
    pub(super) fn actions(self) -> Vec<Action> {
        let mut actions = self.events;
        if self.autoscaler.status.as_ref() != Some(&self.status) {
            // What the API's own types serialise to cannot fail to be JSON.
            let value = |status| serde_json::to_value(status).unwrap_or_default();
            let before = self.autoscaler.status.as_ref().map(value).unwrap_or_default();
            actions.push(patch_status(self.autoscaler, difference(&before, &value(&self.status))));
        }
        actions
    }
}
