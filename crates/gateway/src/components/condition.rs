//! The one condition of our kinds, and the patch that brings a status up to date. Pure.

use api::monoplane::v1alpha1::READY;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde_json::{Value, json};

/// What an object's `Ready` condition should say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Readiness {
    pub(super) ready: bool,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// How a status changes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Change {
    /// A merge patch of the object.
    pub(super) patch: Value,
    /// The condition says something else than before, beyond the generation.
    pub(super) news: bool,
}

/// The patch that makes the status say this; `None` if it does. `more` are the other fields of the status.
pub(super) fn change(
    current: Option<&Value>,
    conditions: &[Condition],
    generation: Option<i64>,
    wanted: &Readiness,
    more: &Value,
    now: Timestamp,
) -> Option<Change> {
    let status = if wanted.ready { "True" } else { "False" };
    let old = conditions.iter().find(|condition| condition.type_ == READY);
    let news = old.is_none_or(|old| {
        (old.status.as_str(), old.reason.as_str(), &old.message) != (status, wanted.reason, &wanted.message)
    });
    let same_fields = more.as_object().into_iter().flatten().all(|(name, value)| {
        let found = current.and_then(|current| current.get(name)).unwrap_or(&Value::Null);
        found == value
    });
    let observed = old.and_then(|old| old.observed_generation);
    if !news && same_fields && observed == generation {
        return None;
    }
    let since = match old {
        Some(old) if old.status == status => old.last_transition_time.clone(),
        _ => Time(now),
    };
    let condition = Condition {
        type_: READY.to_owned(),
        status: status.to_owned(),
        reason: wanted.reason.to_owned(),
        message: wanted.message.clone(),
        last_transition_time: since,
        observed_generation: generation,
    };
    // A merge patch replaces the list: what others have put there stays.
    let mut all: Vec<_> = conditions.iter().filter(|condition| condition.type_ != READY).cloned().collect();
    all.push(condition);
    let mut status = json!({ "observedGeneration": generation, "conditions": all });
    if let (Some(status), Some(more)) = (status.as_object_mut(), more.as_object()) {
        status.extend(more.clone());
    }
    Some(Change { patch: json!({ "status": status }), news })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(n: i64) -> Timestamp {
        Timestamp::from_second(n).unwrap()
    }

    fn readiness(ready: bool, reason: &'static str) -> Readiness {
        Readiness { ready, reason, message: String::new() }
    }

    /// Applies a change as the server would.
    fn after(change: &Change) -> (Value, Vec<Condition>) {
        let status = change.patch["status"].clone();
        let conditions = serde_json::from_value(status["conditions"].clone()).unwrap();
        (status, conditions)
    }

    #[test]
    fn a_status_that_says_it_already_is_left_alone() {
        let more = json!({ "digest": "sha256:1" });
        let first = change(None, &[], Some(3), &readiness(true, "Ready"), &more, second(1)).unwrap();
        assert!(first.news);
        let (status, conditions) = after(&first);
        assert_eq!(
            change(Some(&status), &conditions, Some(3), &readiness(true, "Ready"), &more, second(9)),
            None
        );
        // A new generation is written down, and is no news.
        let next =
            change(Some(&status), &conditions, Some(4), &readiness(true, "Ready"), &more, second(9)).unwrap();
        assert!(!next.news);
        assert_eq!(after(&next).0["observedGeneration"], 4);
        // So is another digest.
        let other = json!({ "digest": "sha256:2" });
        assert!(
            change(Some(&status), &conditions, Some(3), &readiness(true, "Ready"), &other, second(9))
                .is_some()
        );
    }

    #[test]
    fn the_time_of_transition_moves_with_the_status_only() {
        let none = json!({});
        let (status, conditions) =
            after(&change(None, &[], None, &readiness(false, "Compiling"), &none, second(1)).unwrap());
        let (status, conditions) = after(
            &change(Some(&status), &conditions, None, &readiness(false, "CompileFailed"), &none, second(2))
                .unwrap(),
        );
        assert_eq!(conditions[0].last_transition_time.0, second(1));
        let (_, conditions) = after(
            &change(Some(&status), &conditions, None, &readiness(true, "Ready"), &none, second(3)).unwrap(),
        );
        assert_eq!(conditions[0].last_transition_time.0, second(3));
    }

    #[test]
    fn conditions_of_others_stay() {
        let theirs = Condition { type_: "Audited".into(), ..after_one() };
        let found = change(
            None,
            std::slice::from_ref(&theirs),
            None,
            &readiness(true, "Ready"),
            &json!({}),
            second(1),
        )
        .unwrap();
        assert_eq!(after(&found).1[0], theirs);
    }

    fn after_one() -> Condition {
        after(&change(None, &[], None, &readiness(true, "X"), &json!({}), second(1)).unwrap()).1.remove(0)
    }
}
