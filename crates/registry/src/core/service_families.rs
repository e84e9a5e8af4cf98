//! The families of a service's addresses: what follows from what the client says, from what was there before, and from
//! what families the cluster has.
//!
//! The rules are upstream's (KEP-563). A policy and the families are inferred where they are not given; nothing moves
//! between one family and two unless somebody says so; a headless service without a selector may have any, since somebody
//! else says where it leads.

use std::net::IpAddr;

use apimachinery::field::{FieldError, Path};
use serde_json::{Value, json};

use crate::address_range::{IPV4, IPV6, family_of};
use crate::tree::{entries, items, map, text};

const SINGLE: &str = "SingleStack";
const PREFER: &str = "PreferDualStack";
const REQUIRE: &str = "RequireDualStack";
/// What stands for no address.
const NONE: &str = "None";

/// The fields that depend on one another.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fields {
    policy: Option<String>,
    families: Vec<String>,
    addresses: Vec<String>,
}

impl Fields {
    fn of(service: &Value) -> Self {
        let list = |name: &str| {
            let all = items(service, &["spec", name]).iter();
            all.map(|one| one.as_str().unwrap_or_default().to_owned()).collect()
        };
        let policy = service["spec"].get("ipFamilyPolicy").and_then(Value::as_str).map(str::to_owned);
        Self { policy, families: list("ipFamilies"), addresses: list("clusterIPs") }
    }

    fn policy(&self) -> &str {
        self.policy.as_deref().unwrap_or_default()
    }

    /// Adds the other family to the only one.
    fn add_other(&mut self) {
        if let [only] = self.families.as_slice() {
            let other = if only == IPV4 { IPV6 } else { IPV4 };
            self.families.push(other.to_owned());
        }
    }
}

/// Whether the service is of a type that has no addresses.
fn is_external(service: &Value) -> bool {
    text(service, &["spec", "type"]) == "ExternalName"
}

fn is_headless(service: &Value) -> bool {
    matches!(items(service, &["spec", "clusterIPs"]), [one] if one == NONE)
}

/// Infers policy and families where that can be done; leaves a service alone in which something is wrong.
pub(super) fn infer(service: &mut Value, old: Option<&Value>, cluster: &[&str]) {
    let Ok(Some(fields)) = settled(service, old, cluster) else { return };
    if let Some(spec) = service.get_mut("spec") {
        let spec = map(spec);
        spec.insert("ipFamilyPolicy".into(), json!(fields.policy));
        spec.insert("ipFamilies".into(), json!(fields.families));
        if !fields.addresses.is_empty() {
            spec.insert("clusterIPs".into(), json!(fields.addresses));
        }
    }
}

/// What is wrong with the fields of addresses and families, if anything is.
pub(super) fn errors(service: &Value, old: Option<&Value>, cluster: &[&str]) -> Vec<FieldError> {
    settled(service, old, cluster).err().unwrap_or_default()
}

/// The fields as they should be; `None` where nothing is to be done.
fn settled(
    service: &Value,
    old: Option<&Value>,
    cluster: &[&str],
) -> Result<Option<Fields>, Vec<FieldError>> {
    if is_external(service) {
        return Ok(None);
    }
    let mut fields = Fields::of(service);
    let before = old.map(Fields::of);
    // A cluster that has become another kind of cluster changes no service by itself.
    let same_type = old.is_some_and(|old| text(old, &["spec", "type"]) == text(service, &["spec", "type"]));
    if same_type && fields.policy() == PREFER && before.as_ref() == Some(&fields) {
        return Ok(None);
    }
    let open = text(service, &["spec", "clusterIP"]) == NONE
        && entries(service, &["spec", "selector"]).next().is_none();
    if fields.policy.is_none() {
        let known = before.as_ref().and_then(|before| before.policy.clone());
        let fresh = || if open { REQUIRE } else { SINGLE }.to_owned();
        fields.policy = Some(known.unwrap_or_else(fresh));
    }
    let wrong = malformed(service, &fields);
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let mut wrong = Vec::new();
    if let Some(before) = &before {
        release(&mut fields, before, &mut wrong);
    }
    agree(&mut fields, cluster, &mut wrong);
    if !wrong.is_empty() {
        return Err(wrong);
    }
    if !open {
        have(&fields, cluster, &mut wrong);
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    if fields.families.is_empty() {
        fields.families.extend(cluster.first().map(|family| (*family).to_owned()));
    }
    if fields.policy() != SINGLE && (open || cluster.len() == 2) {
        fields.add_other();
    }
    Ok(Some(fields))
}

/// What goes when a second family is no longer wanted; the first address is not to be changed, so that it is kept.
fn release(fields: &mut Fields, before: &Fields, wrong: &mut Vec<FieldError>) {
    if fields.policy() == SINGLE {
        if fields.addresses == before.addresses {
            fields.addresses.truncate(1);
        }
        if fields.families == before.families {
            fields.families.truncate(1);
        }
        return;
    }
    let reduced = |now: &[String], before: &[String]| !now.is_empty() && now.len() < before.len();
    for (now, before, what) in [
        (&fields.addresses, &before.addresses, "cluster IP"),
        (&fields.families, &before.families, "IP family"),
    ] {
        if reduced(now, before) {
            wrong.push(policy_error(fields, format!("must be '{SINGLE}' to release the secondary {what}")));
        }
    }
}

/// Whether policy, families and addresses agree; families follow from addresses.
fn agree(fields: &mut Fields, cluster: &[&str], wrong: &mut Vec<FieldError>) {
    for (count, what) in [(fields.addresses.len(), "cluster IPs"), (fields.families.len(), "IP families")] {
        if fields.policy() == SINGLE && count == 2 {
            let why = format!("must be '{REQUIRE}' or '{PREFER}' when multiple {what} are specified");
            wrong.push(policy_error(fields, why));
        }
    }
    let (spec, mut inferred) = (Path::new("spec"), fields.families.clone());
    let path = spec.child("clusterIPs");
    for (index, address) in fields.addresses.iter().enumerate().skip(fields.families.len()) {
        let Ok(address) = address.parse::<IpAddr>() else { break };
        let family = family_of(address);
        if cluster.contains(&family) {
            inferred.push(family.to_owned());
        } else {
            let why = format!("{family} is not configured on this cluster");
            wrong.push(FieldError::invalid(&path.index(index), fields.addresses.clone(), why));
        }
    }
    fields.families = inferred;
}

/// Whether the cluster has what is asked for.
fn have(fields: &Fields, cluster: &[&str], wrong: &mut Vec<FieldError>) {
    if fields.policy() == REQUIRE && cluster.len() < 2 {
        wrong.push(policy_error(fields, "this cluster is not configured for dual-stack services"));
    }
    let spec = Path::new("spec");
    let path = spec.child("ipFamilies");
    for (index, family) in fields.families.iter().enumerate() {
        if !cluster.contains(&family.as_str()) {
            let why = "not configured on this cluster";
            wrong.push(FieldError::invalid(&path.index(index), family.as_str(), why));
        }
    }
}

fn policy_error(fields: &Fields, why: impl Into<String>) -> FieldError {
    FieldError::invalid(&Path::new("spec").child("ipFamilyPolicy"), fields.policy(), why)
}

/// What is wrong with the fields whatever cluster they are for.
fn malformed(service: &Value, fields: &Fields) -> Vec<FieldError> {
    let (mut errors, spec) = (Vec::new(), Path::new("spec"));
    let (at_addresses, at_families) = (spec.child("clusterIPs"), spec.child("ipFamilies"));
    let given = || Value::from(fields.addresses.clone());
    let first = text(service, &["spec", "clusterIP"]);
    match fields.addresses.first() {
        None if !first.is_empty() => errors.push(FieldError::required(&at_addresses, "")),
        Some(_) if first.is_empty() => {
            let why = "must be empty when `clusterIP` is not specified";
            errors.push(FieldError::invalid(&at_addresses, given(), why));
        }
        Some(one) if one != first => {
            errors.push(FieldError::invalid(&at_addresses, given(), "first value must match `clusterIP`"));
        }
        _ => {}
    }
    for (index, family) in fields.families.iter().enumerate() {
        if ![IPV4, IPV6].contains(&family.as_str()) {
            let error = FieldError::not_supported(&at_families.index(index), family.as_str(), &[IPV4, IPV6]);
            errors.push(error);
        }
        if fields.families[..index].contains(family) {
            errors.push(FieldError::duplicate(&at_families.index(index), family.as_str()));
        }
    }
    if ![PREFER, REQUIRE, SINGLE].contains(&fields.policy()) {
        let path = spec.child("ipFamilyPolicy");
        errors.push(FieldError::not_supported(&path, fields.policy(), &[PREFER, REQUIRE, SINGLE]));
    }
    malformed_addresses(fields, &at_addresses, &mut errors);
    errors
}

fn malformed_addresses(fields: &Fields, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let given = || Value::from(fields.addresses.clone());
    let mut parsed: Vec<(usize, IpAddr)> = Vec::new();
    let mut readable = true;
    for (index, address) in fields.addresses.iter().enumerate() {
        if index == 0 && address == NONE {
            if fields.addresses.len() > 1 {
                readable = false;
                errors.push(FieldError::invalid(path, given(), "'None' must be the first and only value"));
            }
            continue;
        }
        match address.parse() {
            Ok(address) => parsed.push((index, address)),
            Err(_) => {
                readable = false;
                let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
                errors.push(FieldError::invalid(&path.index(index), address.as_str(), why));
            }
        }
    }
    if fields.addresses.len() > 2 {
        errors.push(FieldError::invalid(path, given(), "may only hold up to 2 values"));
    }
    if !readable {
        return;
    }
    let of_six = parsed.iter().filter(|(_, address)| address.is_ipv6()).count();
    if of_six > 1 || parsed.len() - of_six > 1 {
        let why = "may specify no more than one IP for each IP family";
        errors.push(FieldError::invalid(path, given(), why));
    }
    for ((index, address), family) in parsed.into_iter().zip(&fields.families) {
        if [IPV4, IPV6].contains(&family.as_str()) && family_of(address) != family {
            let why = format!("expected an {family} value as indicated by `ipFamilies[{index}]`");
            errors.push(FieldError::invalid(&path.index(index), fields.addresses[index].as_str(), why));
        }
    }
}

/// What may not be changed of a service's addresses and families.
pub(super) fn changed(service: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    if is_external(service) || is_external(old) {
        return;
    }
    let (now, before) = (Fields::of(service), Fields::of(old));
    let (spec, headless) = (Path::new("spec"), (is_headless(old), is_headless(service)));
    if headless != (true, true) {
        let path = spec.child("clusterIPs");
        moved(&now.addresses, &before.addresses, "primary clusterIP can not be unset", &path, errors);
        if now.addresses.len() == 1 && before.addresses.len() > 1 && now.policy() != SINGLE {
            let why = format!("must be set to '{SINGLE}' when releasing the secondary clusterIP");
            errors.push(policy_error(&now, why));
        }
    }
    if headless == (false, false) {
        let path = spec.child("ipFamilies");
        moved(&now.families, &before.families, "primary ipFamily can not be unset", &path, errors);
        if now.families.len() == 1 && before.families.len() > 1 && now.policy() != SINGLE {
            let why = format!("must be set to '{SINGLE}' when releasing the secondary ipFamily");
            errors.push(policy_error(&now, why));
        }
    }
}

/// Values stay as they are; a second one may come or go.
fn moved(now: &[String], before: &[String], unset: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if now.is_empty() && !before.is_empty() {
        errors.push(FieldError::invalid(&path.index(0), json!([]), unset));
    }
    for (index, (now_one, before_one)) in now.iter().zip(before).enumerate() {
        if now_one != before_one {
            errors.push(FieldError::invalid(&path.index(index), now.to_vec(), "may not change once set"));
        }
    }
}

/// What a service without addresses may not say of them.
pub(super) fn forbid(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        let set = match spec.get(field) {
            Some(Value::Array(all)) => !all.is_empty(),
            other => other.is_some(),
        };
        if set {
            errors
                .push(FieldError::forbidden(&path.child(field), "may not be set for ExternalName services"));
        }
    }
}

/// `clusterIP` and `clusterIPs` say the same, where a client knows only one of them.
pub(super) fn normalize(service: &mut Value, old: Option<&Value>) {
    let one = |service: &Value| text(service, &["spec", "clusterIP"]).to_owned();
    let (now, many) = (one(service), items(service, &["spec", "clusterIPs"]).to_vec());
    let Some(old) = old else {
        if !now.is_empty() && many.is_empty() {
            set(service, Some(json!([now])));
        }
        return;
    };
    let (before, known) = (one(old), items(old, &["spec", "clusterIPs"]));
    if now == before {
        if many.is_empty() && !known.is_empty() {
            set(service, Some(known.into()));
        }
    } else if many == known {
        let cleared = !before.is_empty() && now.is_empty();
        set(service, (!cleared).then(|| json!([now])));
    }
}

fn set(service: &mut Value, addresses: Option<Value>) {
    if let Some(spec) = service.get_mut("spec") {
        match addresses {
            Some(addresses) => map(spec).insert("clusterIPs".into(), addresses),
            None => map(spec).remove("clusterIPs"),
        };
    }
}

/// A service that has just become one without addresses drops what it was read with.
pub(super) fn drop_with_the_type(service: &mut Value, old: &Value) {
    if !is_external(service) || is_external(old) {
        return;
    }
    let (now, before) = (Fields::of(service), Fields::of(old));
    let Some(spec) = service.get_mut("spec").map(map) else { return };
    if now.addresses == before.addresses {
        spec.remove("clusterIP");
        spec.remove("clusterIPs");
    }
    if now.families == before.families {
        spec.remove("ipFamilies");
    }
    if now.policy == before.policy {
        spec.remove("ipFamilyPolicy");
    }
}
