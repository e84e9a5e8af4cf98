//! IPAddresses: who has an address. The name is the address.

use std::net::IpAddr;
use std::sync::Arc;

use apimachinery::field::{FieldError, Path, quote};
use apimachinery::meta::names::{dns1123_subdomain, path_segment};
use apimachinery::meta::{self, NameRule};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::address_range::family_of;
use crate::checks::{invalid, required, unchanged};
use crate::kind::Column;
use crate::strategy::{Builtin, Rules, Strategy};
use crate::table;
use crate::tree::{at, text};

/// Labels of addresses: whose they are, and of which family.
const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
const FAMILY: &str = "ipaddress.kubernetes.io/ip-family";
/// Who says so of the addresses that Services are given.
const OURS: &str = "ipallocator.k8s.io";

struct IpAddress;

/// The object that says that a Service has an address.
pub(crate) fn of_service(address: IpAddr, namespace: &str, service: &str) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IPAddress",
        "metadata": {
            "name": address.to_string(),
            "labels": {FAMILY: family_of(address), MANAGED_BY: OURS},
        },
        "spec": {"parentRef": {"group": "", "name": service, "namespace": namespace, "resource": "services"}},
    })
}

/// Namespace and name of the Service that an address names.
pub(crate) fn service(address: &Value) -> Option<(&str, &str)> {
    let of = |field| text(address, &["spec", "parentRef", field]);
    (of("group").is_empty() && of("resource") == "services").then(|| (of("namespace"), of("name")))
}

/// Whether the server made it for a Service.
pub(crate) fn is_ours(object: &Value) -> bool {
    text(object, &["metadata", "labels", MANAGED_BY]) == OURS
}

/// Whether it says of itself what it should.
pub(crate) fn is_labelled(object: &Value, address: IpAddr) -> bool {
    is_ours(object) && text(object, &["metadata", "labels", FAMILY]) == family_of(address)
}

pub(crate) fn builtin() -> Builtin {
    Builtin {
        name: ("networking.k8s.io", "v1", "IPAddress"),
        rules: Rules { name: NameRule::PathSegment, ..Rules::default() },
        fields: Vec::new(),
        subresources: Vec::new(),
        scale: None,
        columns: Column::parse(&["Name", "ParentRef", "Age"]),
        strategy: Arc::new(IpAddress),
    }
}

/// The parent as upstream prints one: what is not said is empty.
fn parent(address: &Value) -> Option<Value> {
    let parent = at(address, &["spec", "parentRef"])?;
    let of = |field| text(parent, &[field]);
    Some(json!({
        "Group": of("group"), "Resource": of("resource"), "Namespace": of("namespace"), "Name": of("name"),
    }))
}

/// A name is an address in its one proper form. That there is none is said elsewhere.
fn validate_name(name: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    match name.parse::<IpAddr>() {
        _ if name.is_empty() => {}
        Err(_) => {
            let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            errors.push(FieldError::invalid(path, name, why));
        }
        Ok(parsed) if parsed.to_string() != name => {
            let why = format!("must be in canonical form ({})", quote(&parsed.to_string()));
            errors.push(FieldError::invalid(path, name, why));
        }
        Ok(_) => {}
    }
}

impl Strategy for IpAddress {
    fn validate(&self, address: &Value, errors: &mut Vec<FieldError>) {
        let metadata = Path::new("metadata");
        for (field, given) in [("generateName", meta::generate_name(address)), ("name", meta::name(address))]
        {
            validate_name(given, &metadata.child(field), errors);
        }
        let spec = Path::new("spec");
        let path = spec.child("parentRef");
        let Some(parent) = at(address, &["spec", "parentRef"]) else {
            errors.push(FieldError::required(&path, ""));
            return;
        };
        let of = |field| text(parent, &[field]);
        if !of("group").is_empty() {
            invalid(&path.child("group"), of("group"), dns1123_subdomain(of("group")), errors);
        }
        for field in ["resource", "name"] {
            if required(parent, field, &path, errors) {
                invalid(&path.child(field), of(field), path_segment(of(field)), errors);
            }
        }
        if !of("namespace").is_empty() {
            invalid(&path.child("namespace"), of("namespace"), path_segment(of("namespace")), errors);
        }
    }

    fn validate_update(&self, address: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        self.validate(address, errors);
        let spec = Path::new("spec");
        unchanged(&spec.child("parentRef"), parent(address).as_ref(), parent(old).as_ref(), errors);
    }

    fn cells(&self, address: &Value, now: Timestamp) -> Vec<Value> {
        let parent = at(address, &["spec", "parentRef"]).map(|parent| {
            let of = |field| text(parent, &[field]);
            let dot = if of("group").is_empty() { "" } else { "." };
            let resource = format!("{}{dot}{}", of("resource"), of("group")).to_lowercase();
            let parts = [resource.as_str(), of("namespace"), of("name")];
            parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
        });
        vec![table::name(address), table::or_none(&parent.unwrap_or_default()), table::age(address, now)]
    }
}
