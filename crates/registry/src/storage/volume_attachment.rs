//! VolumeAttachments.

use std::sync::Arc;

use apimachinery::field::{FieldError, Path};
use apimachinery::meta::names::dns1123_subdomain;
use jiff::Timestamp;
use serde_json::Value;

use crate::checks::{csi_driver, invalid, required, unchanged};
use crate::core::persistent_volume;
use crate::kind::Column;
use crate::strategy::{Builtin, Rules, Strategy};
use crate::table;
use crate::tree::{at, entries, is_true, number, object, text};

/// Most that may be noted of an attached volume, in bytes.
const MAX_METADATA: usize = 256 * 1024;
/// Longest words of an error, in bytes.
const MAX_MESSAGE: usize = 1024;

struct VolumeAttachment;

pub(crate) fn builtin() -> Builtin {
    Builtin {
        name: ("storage.k8s.io", "v1", "VolumeAttachment"),
        rules: Rules { status: true, unconditional_update: false, shows_deleted: true, ..Rules::default() },
        fields: Vec::new(),
        subresources: vec![table::status("VolumeAttachment")],
        scale: None,
        columns: Column::parse(&["Name", "Attacher", "PV", "Node", "Attached:boolean", "Age"]),
        strategy: Arc::new(VolumeAttachment),
    }
}

impl Strategy for VolumeAttachment {
    fn prepare_create(&self, attachment: &mut Value) {
        object(attachment, "status").insert("attached".into(), false.into());
    }

    fn validate(&self, attachment: &Value, errors: &mut Vec<FieldError>) {
        let spec = Path::new("spec");
        let of = attachment.get("spec").unwrap_or(&Value::Null);
        let is_named = required(of, "attacher", &spec, errors);
        validate_source(of.get("source").unwrap_or(&Value::Null), &spec.child("source"), errors);
        let node = text(of, &["nodeName"]);
        invalid(&spec.child("nodeName"), node, dns1123_subdomain(node), errors);
        validate_state(attachment, errors);
        if is_named {
            csi_driver(text(of, &["attacher"]), &spec.child("attacher"), errors);
        }
        if let Some(name) = at(of, &["source", "persistentVolumeName"]).and_then(Value::as_str) {
            let source = spec.child("source");
            invalid(&source.child("persistentVolumeName"), name, dns1123_subdomain(name), errors);
        }
    }

    fn validate_update(&self, attachment: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        self.validate(attachment, errors);
        unchanged(&Path::new("spec"), attachment.get("spec"), old.get("spec"), errors);
    }

    fn validate_status(&self, attachment: &Value, _old: &Value, errors: &mut Vec<FieldError>) {
        validate_state(attachment, errors);
    }

    fn cells(&self, attachment: &Value, now: Timestamp) -> Vec<Value> {
        let of = |path: &[&str]| Value::from(text(attachment, path));
        vec![
            table::name(attachment),
            of(&["spec", "attacher"]),
            of(&["spec", "source", "persistentVolumeName"]),
            of(&["spec", "nodeName"]),
            is_true(attachment, &["status", "attached"]).into(),
            table::age(attachment, now),
        ]
    }
}

fn validate_source(source: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let why = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (source.get("inlineVolumeSpec"), source.get("persistentVolumeName")) {
        (None, None) => errors.push(FieldError::required(path, why)),
        (Some(_), Some(_)) => errors.push(FieldError::forbidden(path, why)),
        (None, Some(name)) => {
            if name.as_str().is_none_or(str::is_empty) {
                let why = "must specify non empty persistentVolumeName";
                errors.push(FieldError::required(&path.child("persistentVolumeName"), why));
            }
        }
        (Some(spec), None) => {
            persistent_volume::validate_spec(spec, "", true, &path.child("inlineVolumeSpec"), errors);
        }
    }
}

fn validate_state(attachment: &Value, errors: &mut Vec<FieldError>) {
    let status = Path::new("status");
    let noted = entries(attachment, &["status", "attachmentMetadata"]);
    let size: usize = noted.map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
    if size > MAX_METADATA {
        errors.push(FieldError::too_long(&status.child("attachmentMetadata"), MAX_METADATA));
    }
    for field in ["attachError", "detachError"] {
        let path = status.child(field);
        if text(attachment, &["status", field, "message"]).len() > MAX_MESSAGE {
            errors.push(FieldError::too_long(&path.child("message"), MAX_METADATA));
        }
        let code = number(attachment, &["status", field, "errorCode"]);
        if let Some(code) = code.filter(|code| *code < 0) {
            let why = "must be between 0 and 2147483647, inclusive";
            errors.push(FieldError::invalid(&path.child("errorCode"), code, why));
        }
    }
}
