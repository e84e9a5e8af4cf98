//! MutatingWebhookConfigurations and ValidatingWebhookConfigurations.

use std::collections::BTreeSet;
use std::sync::Arc;

use apimachinery::field::{FieldError, Path};
use apimachinery::meta::names::{dns1035_label, dns1123_label, dns1123_subdomain};
use expressions::Checker;
use jiff::Timestamp;
use serde_json::Value;

use super::{client_config, conditions, matching};
use crate::checks::{invalid, selector, supported};
use crate::kind::Column;
use crate::strategy::{Builtin, Generation, Rules, Strategy};
use crate::table;
use crate::tree::{default, items, items_mut, number, object, text};

pub(super) const FAILURE_POLICIES: &[&str] = &["Fail", "Ignore"];
const REINVOCATION_POLICIES: &[&str] = &["IfNeeded", "Never"];
/// What webhooks are asked nothing for without consequences.
const SIDE_EFFECTS: &[&str] = &["None", "NoneOnDryRun"];
const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];

struct WebhookConfiguration {
    mutating: bool,
}

pub(crate) fn mutating() -> Builtin {
    builtin("MutatingWebhookConfiguration", true)
}

pub(crate) fn validating() -> Builtin {
    builtin("ValidatingWebhookConfiguration", false)
}

fn builtin(kind: &'static str, mutating: bool) -> Builtin {
    Builtin {
        name: ("admissionregistration.k8s.io", "v1", kind),
        rules: Rules {
            generation: Generation::AllButMetadata,
            unconditional_update: false,
            any_finalizer: true,
            ..Rules::default()
        },
        fields: Vec::new(),
        subresources: Vec::new(),
        scale: None,
        columns: Column::parse(&["Name", "Webhooks:integer", "Age"]),
        strategy: Arc::new(WebhookConfiguration { mutating }),
    }
}

impl Strategy for WebhookConfiguration {
    fn default(&self, configuration: &mut Value) {
        for webhook in items_mut(configuration, &["webhooks"]) {
            default(webhook, "failurePolicy", "Fail");
            default(webhook, "matchPolicy", "Equivalent");
            object(webhook, "namespaceSelector");
            object(webhook, "objectSelector");
            default(webhook, "timeoutSeconds", 10);
            if self.mutating {
                default(webhook, "reinvocationPolicy", "Never");
            }
            client_config::default_port(webhook);
            matching::default_rules(webhook, "rules");
        }
    }

    fn validate(&self, configuration: &Value, errors: &mut Vec<FieldError>) {
        self.validate_all(configuration, true, errors);
    }

    fn validate_update(&self, configuration: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        // As upstream: conditions that somebody else wrote do not keep the rest from being changed.
        self.validate_all(configuration, conditions_of(configuration) != conditions_of(old), errors);
    }

    fn cells(&self, configuration: &Value, now: Timestamp) -> Vec<Value> {
        let count = items(configuration, &["webhooks"]).len();
        vec![table::name(configuration), count.into(), table::age(configuration, now)]
    }
}

/// The match conditions of each webhook.
fn conditions_of(configuration: &Value) -> Vec<&[Value]> {
    items(configuration, &["webhooks"]).iter().map(|webhook| items(webhook, &["matchConditions"])).collect()
}

impl WebhookConfiguration {
    fn validate_all(&self, configuration: &Value, conditions: bool, errors: &mut Vec<FieldError>) {
        let path = Path::new("webhooks");
        let checker = conditions.then(|| Checker::new(false));
        let mut names = BTreeSet::new();
        for (index, webhook) in items(configuration, &["webhooks"]).iter().enumerate() {
            let at_webhook = path.index(index);
            self.validate_webhook(webhook, checker.as_ref(), &at_webhook, errors);
            validate_versions(webhook, &at_webhook.child("admissionReviewVersions"), errors);
            let name = text(webhook, &["name"]);
            if !name.is_empty() && !names.insert(name) {
                errors.push(FieldError::duplicate(&at_webhook.child("name"), name));
            }
        }
    }

    fn validate_webhook(
        &self,
        webhook: &Value,
        checker: Option<&Checker>,
        path: &Path<'_>,
        errors: &mut Vec<FieldError>,
    ) {
        validate_name(text(webhook, &["name"]), &path.child("name"), errors);
        let at_rules = path.child("rules");
        for (index, rule) in items(webhook, &["rules"]).iter().enumerate() {
            matching::validate_rule(rule, &at_rules.index(index), errors);
        }
        supported(webhook, "failurePolicy", FAILURE_POLICIES, path, errors);
        supported(webhook, "matchPolicy", matching::MATCH_POLICIES, path, errors);
        if webhook.get("sideEffects").is_none() {
            let why = format!("must specify one of {}", SIDE_EFFECTS.join(", "));
            errors.push(FieldError::required(&path.child("sideEffects"), why));
        }
        supported(webhook, "sideEffects", SIDE_EFFECTS, path, errors);
        let seconds = number(webhook, &["timeoutSeconds"]);
        if let Some(seconds) = seconds.filter(|seconds| !(1..=30).contains(seconds)) {
            let why = "the timeout value must be between 1 and 30 seconds";
            errors.push(FieldError::invalid(&path.child("timeoutSeconds"), seconds, why));
        }
        selector(webhook, "namespaceSelector", path, errors);
        selector(webhook, "objectSelector", path, errors);
        if self.mutating {
            supported(webhook, "reinvocationPolicy", REINVOCATION_POLICIES, path, errors);
        }
        let config = webhook.get("clientConfig").unwrap_or(&Value::Null);
        client_config::validate(config, &path.child("clientConfig"), errors);
        if let Some(checker) = checker {
            conditions::validate(webhook, checker, &path.child("matchConditions"), errors);
        }
    }
}

/// Names of webhooks are whole domain names.
fn validate_name(name: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    let faults = dns1123_subdomain(name);
    if !faults.is_empty() {
        errors.push(FieldError::invalid(path, name, faults.join(",")));
        return;
    }
    if name.split('.').count() < 3 {
        let why = "should be a domain with at least three segments separated by dots";
        errors.push(FieldError::invalid(path, name, why));
        return;
    }
    let broken = name.split('.').flat_map(dns1123_label);
    errors.extend(broken.map(|why| FieldError::invalid(path, name, why)));
}

fn validate_versions(webhook: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let all = items(webhook, &["admissionReviewVersions"]);
    let known = REVIEW_VERSIONS.join(", ");
    if all.is_empty() {
        errors.push(FieldError::required(path, format!("must specify one of {known}")));
        return;
    }
    let mut seen = BTreeSet::new();
    for (index, version) in all.iter().map(|version| version.as_str().unwrap_or_default()).enumerate() {
        if !seen.insert(version) {
            errors.push(FieldError::invalid(&path.index(index), version, "duplicate version"));
            continue;
        }
        invalid(&path.index(index), version, dns1035_label(version), errors);
    }
    if !REVIEW_VERSIONS.iter().any(|version| seen.contains(version)) {
        errors.push(FieldError::invalid(path, all.to_vec(), format!("must include at least one of {known}")));
    }
}
