//! Secrets.

use std::sync::Arc;

use apimachinery::field::{FieldError, Path};
use apimachinery::meta::names;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;

use super::config_map::{MAX_BYTES, unchanged_if_immutable};
use crate::cache::Field;
use crate::kind::Column;
use crate::strategy::{Builtin, Rules, Strategy};
use crate::table;
use crate::tree::{at, default_text, entries, map, object as child, text};

struct Secret;

pub(crate) fn builtin() -> Builtin {
    Builtin {
        name: ("", "v1", "Secret"),
        rules: Rules::default(),
        fields: vec![Field::at("type")],
        subresources: Vec::new(),
        scale: None,
        columns: Column::parse(&["Name", "Type", "Data:integer", "Age:date"]),
        strategy: Arc::new(Secret),
    }
}

impl Strategy for Secret {
    fn default(&self, object: &mut Value) {
        // What is written as text is kept as bytes, and laid over what is there.
        if let Some(Value::Object(texts)) = map(object).remove("stringData")
            && !texts.is_empty()
        {
            let data = child(object, "data");
            for (key, value) in texts {
                data.insert(key, STANDARD.encode(value.as_str().unwrap_or_default()).into());
            }
        }
        default_text(object, "type", "Opaque");
    }

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let data = Path::new("data");
        let mut total = 0;
        for (key, value) in entries(object, &["data"]) {
            for why in names::config_key(key) {
                errors.push(FieldError::invalid(&data.key(key), key.as_str(), why));
            }
            total += value.as_str().map_or(0, str::len) / 4 * 3;
        }
        if total > MAX_BYTES {
            errors.push(FieldError::too_long(&data, MAX_BYTES));
        }
        validate_type(object, errors);
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        let (new_type, old_type) = (text(object, &["type"]), text(old, &["type"]));
        if new_type != old_type {
            errors.push(FieldError::invalid(&Path::new("type"), new_type, "field is immutable"));
        }
        unchanged_if_immutable(object, old, &["data"], errors);
        self.validate(object, errors);
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let count = entries(object, &["data"]).count();
        vec![table::name(object), text(object, &["type"]).into(), count.into(), table::age(object, now)]
    }
}

/// What each of the known types must hold.
fn validate_type(object: &Value, errors: &mut Vec<FieldError>) {
    let data = Path::new("data");
    let require = |key: &str, errors: &mut Vec<FieldError>| {
        if at(object, &["data", key]).is_none() {
            errors.push(FieldError::required(&data.key(key), ""));
        }
    };
    match text(object, &["type"]) {
        "kubernetes.io/tls" => ["tls.crt", "tls.key"].iter().for_each(|key| require(key, errors)),
        "kubernetes.io/ssh-auth" => require("ssh-privatekey", errors),
        "kubernetes.io/basic-auth"
            if ["username", "password"].iter().all(|key| at(object, &["data", key]).is_none()) =>
        {
            errors.push(FieldError::required(&data.key("username"), ""));
            errors.push(FieldError::required(&data.key("password"), ""));
        }
        "kubernetes.io/service-account-token" => {
            let account = apimachinery::meta::annotation(object, "kubernetes.io/service-account.name");
            if account.is_none_or(str::is_empty) {
                let (metadata, key) = (Path::new("metadata"), "kubernetes.io/service-account.name");
                let annotations = metadata.child("annotations");
                errors.push(FieldError::required(&annotations.key(key), ""));
            }
        }
        "kubernetes.io/dockercfg" => require_json(object, ".dockercfg", errors),
        "kubernetes.io/dockerconfigjson" => require_json(object, ".dockerconfigjson", errors),
        _ => {}
    }
}

fn require_json(object: &Value, key: &str, errors: &mut Vec<FieldError>) {
    let data = Path::new("data");
    let Some(value) = at(object, &["data", key]).and_then(Value::as_str) else {
        errors.push(FieldError::required(&data.key(key), ""));
        return;
    };
    let parsed = STANDARD.decode(value).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    if parsed.is_none() {
        errors.push(FieldError::invalid(&data.key(key), "<secret contents redacted>", "must be valid JSON"));
    }
}
