//! ServiceCIDRs: ranges that Services get addresses of.

use std::net::IpAddr;
use std::sync::Arc;

use apimachinery::cidr::Cidr;
use apimachinery::field::{FieldError, Path, quote};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::kind::Column;
use crate::strategy::{Builtin, Rules, Strategy};
use crate::table;
use crate::tree::items;

const IMMUTABLE: &str = "field is immutable";

struct ServiceCidr;

pub(crate) fn builtin() -> Builtin {
    Builtin {
        name: ("networking.k8s.io", "v1", "ServiceCIDR"),
        rules: Rules { status: true, ..Rules::default() },
        fields: Vec::new(),
        subresources: vec![table::status("ServiceCIDR")],
        scale: None,
        columns: Column::parse(&["Name", "CIDRs", "Age"]),
        strategy: Arc::new(ServiceCidr),
    }
}

fn ranges(object: &Value) -> impl Iterator<Item = &str> {
    items(object, &["spec", "cidrs"]).iter().map(|range| range.as_str().unwrap_or_default())
}

impl Strategy for ServiceCidr {
    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let spec = Path::new("spec");
        let path = spec.child("cidrs");
        let given = items(object, &["spec", "cidrs"]).to_vec();
        let count = ranges(object).count();
        if count == 0 {
            errors.push(FieldError::required(&path, "at least one CIDR required"));
            return;
        }
        if count > 2 {
            errors.push(FieldError::invalid(&path, given, "may only hold up to 2 values"));
            return;
        }
        let families: Vec<bool> =
            ranges(object).filter_map(Cidr::parse_leniently).map(|range| range.address.is_ipv6()).collect();
        if count == 2 && !matches!(families[..], [false, true] | [true, false]) {
            let why =
                "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
            errors.push(FieldError::invalid(&path, given, why));
            return;
        }
        for (index, range) in ranges(object).enumerate() {
            validate_range(range, &path.index(index), errors);
        }
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        let spec = Path::new("spec");
        let path = spec.child("cidrs");
        let (new, old): (Vec<&str>, Vec<&str>) = (ranges(object).collect(), ranges(old).collect());
        match (new.len(), old.len()) {
            (new_count, old_count) if new_count == old_count => {
                let pairs = new.iter().zip(&old).enumerate();
                for (index, (new, _)) in pairs.filter(|(_, (new, old))| new != old) {
                    errors.push(FieldError::invalid(&path.index(index), *new, IMMUTABLE));
                }
            }
            // From one family to two.
            (2, 1) => {
                let first = new.first().copied().unwrap_or_default();
                if old.first() != Some(&first) {
                    let why = "primary CIDR must match the existing value when converting to dual-stack";
                    errors.push(FieldError::invalid(&path.index(0), first, why));
                }
                self.validate(object, errors);
            }
            _ => errors.push(FieldError::invalid(&path, json!(new), IMMUTABLE)),
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![table::name(object), table::joined(ranges(object)), table::age(object, now)]
    }
}

/// A range in its one proper form: no bits beyond the prefix, nothing written differently.
fn validate_range(range: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let exact = range.split_once('/').and_then(|(address, prefix)| {
        let address: IpAddr = address.parse().ok()?;
        let proper = prefix.parse::<u8>().is_ok_and(|length| length.to_string() == prefix);
        Some((address, proper))
    });
    let Some((cidr, (address, true))) = Cidr::parse_leniently(range).zip(exact) else {
        let why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
        errors.push(FieldError::invalid(path, range, why));
        return;
    };
    let network = cidr.network();
    if address != network {
        let why = "must not have bits set beyond the prefix length";
        errors.push(FieldError::invalid(path, range, why));
    } else if format!("{network}/{}", cidr.prefix) != range {
        let proper = quote(&format!("{network}/{}", cidr.prefix));
        errors.push(FieldError::invalid(path, range, format!("must be in canonical form ({proper})")));
    }
}
