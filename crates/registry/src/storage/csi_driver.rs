//! CSIDrivers.

use std::collections::BTreeSet;
use std::sync::Arc;

use apimachinery::field::{FieldError, Path};
use apimachinery::meta::{generation, set_generation};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::checks::{supported, unchanged};
use crate::kind::Column;
use crate::strategy::{Builtin, Rules, Strategy};
use crate::table;
use crate::tree::{at, default, is_true, items, map, number, object, shut, text};

const GROUP_POLICIES: &[&str] = &["File", "None", "ReadWriteOnceWithFSType"];
const MODES: &[&str] = &["Persistent", "Ephemeral"];
/// What v1.36 has behind a gate that is shut.
const SHUT: [&str; 1] = ["preventPodSchedulingIfMissing"];
const TEN_MINUTES: i64 = 600;

struct CsiDriver;

pub(crate) fn builtin() -> Builtin {
    Builtin {
        name: ("storage.k8s.io", "v1", "CSIDriver"),
        rules: Rules { unconditional_update: false, shows_deleted: true, ..Rules::default() },
        fields: Vec::new(),
        subresources: Vec::new(),
        scale: None,
        columns: Column::parse(&[
            "Name",
            "AttachRequired:boolean",
            "PodInfoOnMount:boolean",
            "StorageCapacity:boolean",
            "TokenRequests",
            "RequiresRepublish:boolean",
            "Modes",
            "Age",
        ]),
        strategy: Arc::new(CsiDriver),
    }
}

impl Strategy for CsiDriver {
    fn default(&self, driver: &mut Value) {
        object(driver, "spec");
        let Some(spec) = driver.get_mut("spec") else { return };
        default(spec, "attachRequired", true);
        for field in ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"] {
            default(spec, field, false);
        }
        default(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
        if items(spec, &["volumeLifecycleModes"]).is_empty() {
            map(spec).insert("volumeLifecycleModes".into(), json!(["Persistent"]));
        }
    }

    fn prepare_create(&self, driver: &mut Value) {
        shut(driver, None, &["spec"], &SHUT);
    }

    fn prepare_update(&self, driver: &mut Value, old: &Value) {
        shut(driver, Some(old), &["spec"], &SHUT);
        if driver.get("spec") != old.get("spec") {
            set_generation(driver, generation(old) + 1);
        }
    }

    fn validate(&self, driver: &Value, errors: &mut Vec<FieldError>) {
        let path = Path::new("spec");
        let spec = driver.get("spec").unwrap_or(&Value::Null);
        supported(spec, "fsGroupPolicy", GROUP_POLICIES, &path, errors);
        validate_tokens(spec, &path.child("tokenRequests"), errors);
        for mode in items(spec, &["volumeLifecycleModes"]).iter().filter_map(Value::as_str) {
            if !MODES.contains(&mode) {
                errors.push(FieldError::not_supported(&path.child("volumeLifecycleModes"), mode, MODES));
            }
        }
        let field = "nodeAllocatableUpdatePeriodSeconds";
        if let Some(period) = number(spec, &[field]).filter(|period| *period < 10) {
            let why = "must be greater than or equal to 10 seconds";
            errors.push(FieldError::invalid(&path.child(field), period, why));
        }
    }

    fn validate_update(&self, driver: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        self.validate(driver, errors);
        let spec = Path::new("spec");
        for (field, shown) in
            [("attachRequired", "attachedRequired"), ("volumeLifecycleModes", "volumeLifecycleModes")]
        {
            let of = |driver| at(driver, &["spec", field]);
            unchanged(&spec.child(shown), of(driver), of(old), errors);
        }
    }

    fn warnings(&self, driver: &Value) -> Vec<String> {
        let gets_tokens = !items(driver, &["spec", "tokenRequests"]).is_empty();
        let is_silent = at(driver, &["spec", "serviceAccountTokenInSecrets"]).is_none();
        let why = "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent \
                   possible logging of tokens in volume attributes";
        // Who changes a driver that is there has been told.
        let is_new = text(driver, &["metadata", "resourceVersion"]).is_empty();
        (is_new && gets_tokens && is_silent).then(|| why.to_owned()).into_iter().collect()
    }

    fn cells(&self, driver: &Value, now: Timestamp) -> Vec<Value> {
        let says = |field| Value::from(is_true(driver, &["spec", field]));
        let audiences = items(driver, &["spec", "tokenRequests"]).iter();
        let audiences: Vec<&str> = audiences.map(|request| text(request, &["audience"])).collect();
        let modes = items(driver, &["spec", "volumeLifecycleModes"]).iter().filter_map(Value::as_str);
        let tokens = if audiences.is_empty() { "<unset>".to_owned() } else { audiences.join(",") };
        vec![
            table::name(driver),
            says("attachRequired"),
            says("podInfoOnMount"),
            says("storageCapacity"),
            tokens.into(),
            says("requiresRepublish"),
            table::joined(modes),
            table::age(driver, now),
        ]
    }
}

fn validate_tokens(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for (index, request) in items(spec, &["tokenRequests"]).iter().enumerate() {
        let at_request = path.index(index);
        let audience = text(request, &["audience"]);
        if !seen.insert(audience) {
            errors.push(FieldError::duplicate(&at_request.child("audience"), audience));
            continue;
        }
        let at_expiry = at_request.child("expirationSeconds");
        let Some(seconds) = number(request, &["expirationSeconds"]) else { continue };
        if seconds < TEN_MINUTES {
            let why = "may not specify a duration less than 10 minutes";
            errors.push(FieldError::invalid(&at_expiry, seconds, why));
        }
        if seconds > 1 << 32 {
            let why = "may not specify a duration larger than 2^32 seconds";
            errors.push(FieldError::invalid(&at_expiry, seconds, why));
        }
    }
}
