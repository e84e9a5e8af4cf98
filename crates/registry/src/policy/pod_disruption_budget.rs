//! PodDisruptionBudgets.

use std::sync::Arc;

use apimachinery::field::{FieldError, Path};
use apimachinery::meta::NameRule;
use apimachinery::selector::Selector;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::apps::rolling;
use crate::conditions;
use crate::core::template;
use crate::kind::Column;
use crate::strategy::{Builtin, Generation, Rules, Strategy};
use crate::table;
use crate::tree::{at, map, number};

const COUNTS: [&str; 4] = ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"];
const POLICIES: [&str; 2] = ["AlwaysAllow", "IfHealthyBudget"];

struct PodDisruptionBudget;

pub(crate) fn builtin() -> Builtin {
    Builtin {
        name: ("policy", "v1", "PodDisruptionBudget"),
        rules: Rules {
            name: NameRule::PathSegment,
            generation: Generation::Spec,
            status: true,
            unconditional_update: false,
            any_finalizer: true,
            ..Rules::default()
        },
        fields: Vec::new(),
        subresources: vec![table::status("PodDisruptionBudget")],
        scale: None,
        columns: Column::parse(&[
            "Name",
            "Min Available",
            "Max Unavailable",
            "Allowed Disruptions:integer",
            "Age",
        ]),
        strategy: Arc::new(PodDisruptionBudget),
    }
}

impl Strategy for PodDisruptionBudget {
    fn prepare_create(&self, budget: &mut Value) {
        let status = COUNTS.map(|field| (field.to_owned(), json!(0)));
        map(budget).insert("status".into(), Value::Object(status.into_iter().collect()));
    }

    fn validate(&self, budget: &Value, errors: &mut Vec<FieldError>) {
        let path = Path::new("spec");
        let field = |field: &str| at(budget, &["spec", field]);
        let (available, unavailable) = (field("minAvailable"), field("maxUnavailable"));
        if available.is_some() && unavailable.is_some() {
            let why = "minAvailable and maxUnavailable cannot be both set";
            // As upstream prints a spec.
            let given = json!({
                "MinAvailable": available, "Selector": field("selector"), "MaxUnavailable": unavailable,
                "UnhealthyPodEvictionPolicy": field("unhealthyPodEvictionPolicy"),
            });
            errors.push(FieldError::invalid(&path, given, why));
        }
        for (name, given) in [("minAvailable", available), ("maxUnavailable", unavailable)] {
            if let Some(given) = given {
                rolling::validate(given, &path.child(name), errors);
                rolling::at_most_all(given, &path.child(name), errors);
            }
        }
        if let Some(selector) = field("selector")
            && let Err(found) = Selector::from_object(selector, &path.child("selector"))
        {
            errors.extend(found);
        }
        if let Some(policy) = field("unhealthyPodEvictionPolicy").and_then(Value::as_str)
            && !POLICIES.contains(&policy)
        {
            let path = path.child("unhealthyPodEvictionPolicy");
            errors.push(FieldError::not_supported(&path, policy, &POLICIES));
        }
    }

    fn validate_status(&self, budget: &Value, _old: &Value, errors: &mut Vec<FieldError>) {
        conditions::validate(budget, errors);
        template::counts(budget, &COUNTS, errors);
    }

    fn cells(&self, budget: &Value, now: Timestamp) -> Vec<Value> {
        let amount = |field: &str| match at(budget, &["spec", field]) {
            Some(Value::String(text)) => Value::from(text.as_str()),
            Some(number) => number.to_string().into(),
            None => "N/A".into(),
        };
        vec![
            table::name(budget),
            amount("minAvailable"),
            amount("maxUnavailable"),
            number(budget, &["status", "disruptionsAllowed"]).unwrap_or_default().into(),
            table::age(budget, now),
        ]
    }
}
