//! `apply`: makes what is missing, changes what differs.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use client::Client;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::kinds::{Kind, Kinds};
use crate::{manifest, request};

/// Where kubectl keeps what was applied last; the same place, so that both tools can take turns on an object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Text longer than this is kept there as its digest. An object's annotations may have 256 KiB together, and that a field was
/// applied, not what it held, is what a later apply has to know. A component's content is such a text.
const DIGESTED: usize = 16 << 10;

/// Flags of `apply`.
#[derive(Clone, Debug, Args)]
pub struct Apply {
    /// Files or directories with manifests, or - for standard input
    #[arg(short, long = "filename", required = true, value_name = "FILE")]
    pub filename: Vec<PathBuf>,
    /// Namespace of objects that name none
    #[arg(short, long, default_value = "default")]
    pub namespace: String,
}

impl Apply {
    /// Applies the manifests in order; a line for each goes to `out`.
    ///
    /// # Errors
    /// At the first object that cannot be read or is refused.
    pub async fn run(&self, client: &Client, out: &mut dyn Write) -> Result<()> {
        let mut kinds = Kinds::discover(client).await?;
        for object in manifest::read(&self.filename)? {
            let (version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
            if kinds.of(version, kind).is_err() {
                // A manifest before this one may have defined the kind.
                kinds = Kinds::discover(client).await?;
            }
            let kind = kinds.of(version, kind)?;
            let name = text(&object["metadata"]["name"]).to_owned();
            let outcome = self.one(client, kind, object).await;
            let outcome = outcome.with_context(|| format!("{}/{name}", kind.qualified()))?;
            writeln!(out, "{}/{name} {outcome}", kind.qualified())?;
        }
        Ok(())
    }

    async fn one(&self, client: &Client, kind: &Kind, mut object: Value) -> Result<&'static str> {
        let name = request::path_segment(text(&object["metadata"]["name"]))?.to_owned();
        let namespace = match text(&object["metadata"]["namespace"]) {
            "" => self.namespace.clone(),
            given => given.to_owned(),
        };
        if kind.namespaced {
            object["metadata"]["namespace"] = json!(namespace);
        }
        let collection = kind.collection(Some(&namespace));
        let path = format!("{collection}/{name}");
        let wanted = with_last_applied(object);
        let options = request::query(&[("fieldValidation", "Strict"), ("fieldManager", "monoplane")]);
        match request::find(client, &path).await? {
            None => {
                request::send(client, "POST", &(collection + &options), "application/json", &wanted).await?;
                Ok("created")
            }
            Some(live) => {
                let last = live["metadata"]["annotations"][LAST_APPLIED].as_str();
                let last = last.and_then(|l| serde_json::from_str(l).ok()).unwrap_or(Value::Null);
                let patch = three_way(&last, &wanted, &live);
                if patch.as_object().is_none_or(serde_json::Map::is_empty) {
                    return Ok("unchanged");
                }
                let media = "application/merge-patch+json";
                let before = text(&live["metadata"]["resourceVersion"]).to_owned();
                let after = request::send(client, "PATCH", &(path + &options), media, &patch).await?;
                Ok(if text(&after["metadata"]["resourceVersion"]) == before {
                    "unchanged"
                } else {
                    "configured"
                })
            }
        }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn with_last_applied(mut object: Value) -> Value {
    if let Some(annotations) = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove(LAST_APPLIED);
    }
    let mut last = object.clone();
    digest_long_texts(&mut last);
    let last = last.to_string();
    if object["metadata"]["annotations"].is_null() {
        object["metadata"]["annotations"] = json!({});
    }
    object["metadata"]["annotations"][LAST_APPLIED] = json!(last + "\n");
    object
}

fn digest_long_texts(value: &mut Value) {
    match value {
        Value::String(text) if text.len() > DIGESTED => {
            *text = format!("sha256:{:x}", Sha256::digest(text.as_bytes()));
        }
        Value::Array(items) => items.iter_mut().for_each(digest_long_texts),
        Value::Object(fields) => fields.values_mut().for_each(digest_long_texts),
        _ => {}
    }
}

/// The merge patch that brings `live` to what is `wanted`: fields that differ, and those that were in the `last` applied
/// form and are no longer wanted. Fields that only others have set stay; a list is one value, and replaced whole.
fn three_way(last: &Value, wanted: &Value, live: &Value) -> Value {
    let mut patch = serde_json::Map::new();
    let empty = serde_json::Map::new();
    let wanted = wanted.as_object().unwrap_or(&empty);
    for (key, value) in wanted {
        if value.is_object() && live[key].is_object() {
            let inner = three_way(&last[key], value, &live[key]);
            if inner.as_object().is_some_and(|i| !i.is_empty()) {
                patch.insert(key.clone(), inner);
            }
        } else if live[key] != *value {
            patch.insert(key.clone(), value.clone());
        }
    }
    for key in last.as_object().unwrap_or(&empty).keys() {
        if !wanted.contains_key(key) && !live[key].is_null() {
            patch.insert(key.clone(), Value::Null);
        }
    }
    Value::Object(patch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_way_changes_what_is_ours_and_leaves_the_rest() {
        let last = json!({"spec": {"replicas": 1, "paused": true}});
        let wanted = json!({"spec": {"replicas": 3, "template": {"a": [1]}}});
        let live =
            json!({"spec": {"replicas": 1, "paused": true, "other": "theirs"}, "status": {"ready": 1}});
        assert_eq!(
            three_way(&last, &wanted, &live),
            json!({"spec": {"replicas": 3, "paused": null, "template": {"a": [1]}}})
        );
    }

    #[test]
    fn a_large_component_fits_beside_what_was_applied_of_it() {
        let source = |content: &str| json!({"metadata": {}, "spec": {"source": {"inline": content}}});
        let applied = |object: Value| {
            let object = with_last_applied(object);
            let last = object["metadata"]["annotations"][LAST_APPLIED].as_str().expect("an annotation");
            serde_json::from_str::<Value>(last).expect("JSON")
        };
        let large = "A".repeat(1 << 20);
        let last = applied(source(&large));
        assert_eq!(last["spec"]["source"]["inline"].as_str().map(str::len), Some("sha256:".len() + 64));
        assert_ne!(last, applied(source(&"B".repeat(1 << 20))));
        assert_eq!(applied(source("small")), source("small"));
        // Content that gives way to another source is taken away.
        let wanted = json!({"metadata": {}, "spec": {"source": {"image": "x"}}});
        let patch = three_way(&last, &wanted, &source(&large));
        assert_eq!(patch, json!({"spec": {"source": {"image": "x", "inline": null}}}));
    }

    #[test]
    fn nothing_to_change_is_an_empty_patch() {
        let object = json!({"spec": {"replicas": 1}});
        assert_eq!(three_way(&object, &object, &object), json!({}));
    }
}
