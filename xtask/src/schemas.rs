//! `cargo xtask schemas`: what Kubernetes' own kinds look like, as a compact table.
//!
//! The knowledge comes from a published Python package that carries upstream's definitions as JSON. Only names, types,
//! list keys and patch strategies are kept, for the stable versions that a server serves and what they refer to. The table's grammar
//! is described where it is read: `apimachinery::schema::table`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};

use crate::wheel;

const PACKAGE: &str = "kubernetes-validate==1.37.0";
const DEFINITIONS: &str = "kubernetes_validate/kubernetes-json-schema/v1.36.0-local/_definitions.json";
const TABLE: &str = "crates/api/schema/v1.36.txt";
const REFERENCE: &str = "#/$defs/";

/// Writes the table, or with `check` fails if the committed one differs.
pub fn run(root: &Path, check: bool) -> Result<()> {
    let folder = wheel::unpacked(root, "schemas", PACKAGE, DEFINITIONS)?;
    let text = std::fs::read_to_string(folder.join(DEFINITIONS)).context("reading the definitions")?;
    let document: Value = serde_json::from_str(&text).context("the definitions are no JSON")?;
    let table = render(document.get("$defs").and_then(Value::as_object).context("no definitions")?)?;
    let path = root.join(TABLE);
    if check {
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        ensure!(committed == table, "{TABLE} is not what `cargo xtask schemas` makes");
        return Ok(());
    }
    std::fs::write(&path, table).with_context(|| format!("writing {}", path.display()))
}

fn render(all: &Map<String, Value>) -> Result<String> {
    let mut packages: BTreeMap<&str, BTreeMap<&str, &Value>> = BTreeMap::new();
    for name in reachable(all)? {
        let (package, short) = name.rsplit_once('.').context("a definition without a package")?;
        packages.entry(package).or_default().insert(short, all.get(name).context("a dangling reference")?);
    }
    let mut table = String::from("# Made by `cargo xtask schemas`; do not edit.\n");
    for (package, definitions) in packages {
        writeln!(table, "package {package}")?;
        for (name, definition) in definitions {
            definition_lines(&mut table, package, name, definition)?;
        }
    }
    Ok(table)
}

/// The kinds of stable versions, and what they refer to.
fn reachable(all: &Map<String, Value>) -> Result<BTreeSet<&str>> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&str> = Vec::new();
    for (name, definition) in all {
        if kinds(definition).iter().any(|(_, version, _)| is_stable(version)) {
            open.push(name);
        }
    }
    while let Some(name) = open.pop() {
        if found.insert(name) {
            let definition = all.get(name).with_context(|| format!("{name} is not defined"))?;
            references(definition, &mut open);
        }
    }
    Ok(found)
}

fn references<'a>(node: &'a Value, found: &mut Vec<&'a str>) {
    match node {
        Value::Object(map) => {
            let reference = map.get("$ref").and_then(Value::as_str);
            found.extend(reference.and_then(|reference| reference.strip_prefix(REFERENCE)));
            map.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

fn is_stable(version: &str) -> bool {
    version.strip_prefix('v').is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Group, version and kind, where there is one of them. Options that every group shares count for the first.
fn kinds(definition: &Value) -> Vec<(&str, &str, &str)> {
    let listed = definition.get("x-kubernetes-group-version-kind").and_then(Value::as_array);
    let mut kinds: Vec<_> = listed
        .into_iter()
        .flatten()
        .filter_map(|kind| {
            let text = |key: &str| kind.get(key).and_then(Value::as_str);
            Some((text("group")?, text("version")?, text("kind")?))
        })
        .collect();
    kinds.truncate(1);
    kinds
}

fn definition_lines(table: &mut String, package: &str, name: &str, definition: &Value) -> Result<()> {
    write!(table, ":{name}")?;
    for (group, version, kind) in kinds(definition) {
        write!(table, " {group}/{version}/{kind}")?;
    }
    if definition.get("x-kubernetes-map-type").and_then(Value::as_str) == Some("atomic") {
        table.push_str(" atomic");
    }
    if let Some(alias) = alias(package, name, definition)? {
        write!(table, " ={alias}")?;
    }
    table.push('\n');
    let required: BTreeSet<&str> = texts(definition, "required").collect();
    let properties = definition.get("properties").and_then(Value::as_object);
    for (field, node) in properties.into_iter().flatten() {
        write!(table, "{field} {}", type_of(package, node)?)?;
        if required.contains(field.as_str()) {
            table.push_str(" !");
        }
        marks(table, node)?;
        table.push('\n');
    }
    Ok(())
}

/// The type of a definition that is no object with fields.
fn alias(package: &str, name: &str, definition: &Value) -> Result<Option<String>> {
    let known = match name {
        "Quantity" => "q",
        "IntOrString" => "x",
        "Time" => "t",
        "MicroTime" => "u",
        // Objects that hold whatever somebody else says.
        "RawExtension" | "FieldsV1" | "Patch" => "r",
        _ if definition.get("properties").is_some() || definition.get("type").is_some() => {
            ensure!(
                type_name(definition) == Some("object"),
                "{package}.{name} is a scalar that is not known"
            );
            return Ok(None);
        }
        _ => "j",
    };
    Ok(Some(known.to_owned()))
}

fn texts<'a>(node: &'a Value, key: &str) -> impl Iterator<Item = &'a str> {
    node.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// The first of the types that is not null.
fn type_name(node: &Value) -> Option<&str> {
    match node.get("type")? {
        Value::String(name) => Some(name),
        Value::Array(names) => names.iter().filter_map(Value::as_str).find(|name| *name != "null"),
        _ => None,
    }
}

fn type_of(package: &str, node: &Value) -> Result<String> {
    if let Some(reference) = node.get("$ref").and_then(Value::as_str) {
        let name = reference.strip_prefix(REFERENCE).context("a reference out of the document")?;
        let local = name.strip_prefix(package).and_then(|rest| rest.strip_prefix('.'));
        return Ok(format!("@{}", local.filter(|rest| !rest.contains('.')).unwrap_or(name)));
    }
    let format = node.get("format").and_then(Value::as_str).unwrap_or_default();
    Ok(match (type_name(node), format) {
        (Some("string"), "byte") => "y".to_owned(),
        (Some("string"), "") => "s".to_owned(),
        (Some("integer"), "int32") => "i".to_owned(),
        (Some("integer"), "int64") => "l".to_owned(),
        (Some("number"), _) => "n".to_owned(),
        (Some("boolean"), _) => "b".to_owned(),
        (Some("array"), _) => {
            format!("[{}", type_of(package, node.get("items").context("a list of nothing")?)?)
        }
        (Some("object"), _) => match node.get("additionalProperties") {
            Some(inner) => format!("{{{}", type_of(package, inner)?),
            None => "r".to_owned(),
        },
        other => bail!("a type that is not known: {other:?}"),
    })
}

fn marks(table: &mut String, node: &Value) -> Result<()> {
    let text = |key: &str| node.get(key).and_then(Value::as_str).unwrap_or_default();
    match text("x-kubernetes-list-type") {
        "map" => {
            let keys: Vec<&str> = texts(node, "x-kubernetes-list-map-keys").collect();
            write!(table, " map={}", keys.join(","))?;
        }
        "" => {}
        other => write!(table, " {other}")?,
    }
    if text("x-kubernetes-map-type") == "atomic" {
        table.push_str(" atomic");
    }
    for strategy in text("x-kubernetes-patch-strategy").split(',').filter(|strategy| !strategy.is_empty()) {
        table.push(' ');
        table.push_str(match strategy {
            "merge" | "replace" => strategy,
            "retainKeys" => "retain",
            other => bail!("a patch strategy that is not known: {other}"),
        });
    }
    let key = text("x-kubernetes-patch-merge-key");
    if !key.is_empty() {
        write!(table, " key={key}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn definitions_become_lines() {
        let all = json!({
            "io.x.v1.Pod": {
                "type": "object",
                "x-kubernetes-group-version-kind": [{"group": "", "version": "v1", "kind": "Pod"}],
                "required": ["items"],
                "properties": {
                    "items": {
                        "type": ["array", "null"], "items": {"$ref": "#/$defs/io.x.v1.Item"},
                        "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a", "b"],
                        "x-kubernetes-patch-strategy": "merge,retainKeys", "x-kubernetes-patch-merge-key": "a",
                    },
                    "size": {"$ref": "#/$defs/io.y.Quantity"},
                },
            },
            "io.x.v1.Item": {"type": "object", "properties": {
                "n": {"type": ["integer", "null"], "format": "int32"},
                "m": {"type": "object", "additionalProperties": {"type": "string"}, "x-kubernetes-map-type": "atomic"},
            }},
            "io.y.Quantity": {"oneOf": []},
            "io.x.v1beta1.Old": {
                "type": "object",
                "x-kubernetes-group-version-kind": [{"group": "x", "version": "v1beta1", "kind": "Old"}],
            },
        });
        let table = render(all.as_object().unwrap()).unwrap();
        let expected = "package io.x.v1\n:Item\nm {s atomic\nn i\n:Pod /v1/Pod\nitems [@Item ! map=a,b merge retain key=a\nsize @io.y.Quantity\npackage io.y\n:Quantity =q\n";
        assert_eq!(table.split_once('\n').unwrap().1, expected);
    }
}
