//! `NodeMetrics` and `PodMetrics`, and how tables show them.

use apimachinery::quantity::Quantity;
use client::ObjectMeta;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use crate::store::Usage;
use crate::{GROUP, VERSION};

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Nodes,
    Pods,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nodes => "NodeMetrics",
            Self::Pods => "PodMetrics",
        }
    }

    pub(crate) fn plural(self) -> &'static str {
        match self {
            Self::Nodes => "nodes",
            Self::Pods => "pods",
        }
    }
}

/// What is served, as discovery shows it.
pub(crate) fn resources() -> Value {
    let resource = |kind: Kind, namespaced: bool| {
        json!({ "name": kind.plural(), "singularName": "", "namespaced": namespaced, "kind": kind.name(),
            "verbs": ["get", "list"] })
    };
    json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": format!("{GROUP}/{VERSION}"),
        "resources": [resource(Kind::Nodes, false), resource(Kind::Pods, true)],
    })
}

/// One object, of the metadata of what it is about.
pub(crate) struct Measured {
    kind: Kind,
    metadata: Value,
    /// The latest of its parts, over which they all have a figure.
    at: Timestamp,
    window: SignedDuration,
    /// By container; of a node one without a name.
    parts: Vec<(String, Usage)>,
}

impl Measured {
    /// None without a part.
    pub(crate) fn new(
        kind: Kind,
        of: &ObjectMeta,
        parts: Vec<(String, Usage)>,
        now: Timestamp,
    ) -> Option<Self> {
        // Upstream's: the part that was heard first says for when, and for how long.
        let first = parts.iter().map(|(_, usage)| *usage).min_by_key(|usage| usage.at)?;
        let mut metadata = Map::new();
        metadata.insert("name".into(), json!(of.name));
        if let Some(namespace) = &of.namespace {
            metadata.insert("namespace".into(), json!(namespace));
        }
        metadata.insert("creationTimestamp".into(), json!(apimachinery::time::format(now)));
        if let Some(labels) = of.labels.as_ref().filter(|labels| !labels.is_empty()) {
            metadata.insert("labels".into(), json!(labels));
        }
        Some(Self { kind, metadata: metadata.into(), at: first.at, window: first.window, parts })
    }

    /// As an object. Items of lists do not say of which kind they are.
    pub(crate) fn object(&self, with_kind: bool) -> Value {
        let mut object = json!({
            "metadata": self.metadata,
            "timestamp": apimachinery::time::format(self.at),
            "window": duration(self.window),
        });
        let usage = |usage: &Usage| json!({ "cpu": cpu(usage.cpu), "memory": memory(usage.memory) });
        match self.kind {
            Kind::Nodes => {
                object["usage"] = self.parts.first().map(|(_, part)| usage(part)).unwrap_or_default()
            }
            Kind::Pods => {
                let containers =
                    self.parts.iter().map(|(name, part)| json!({ "name": name, "usage": usage(part) }));
                object["containers"] = containers.collect();
            }
        }
        if with_kind {
            object["kind"] = json!(self.kind.name());
            object["apiVersion"] = json!(format!("{GROUP}/{VERSION}"));
        }
        object
    }

    /// As a row of a table.
    fn row(&self) -> Value {
        let sum = |of: fn(&Usage) -> u64| {
            self.parts.iter().map(|(_, usage)| of(usage)).fold(0, u64::saturating_add)
        };
        let cells = json!([
            self.metadata["name"],
            cpu(sum(|usage| usage.cpu)),
            memory(sum(|usage| usage.memory)),
            duration(self.window),
        ]);
        let object = json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": self.metadata });
        json!({ "cells": cells, "object": object })
    }
}

/// A list of them.
pub(crate) fn list(kind: Kind, items: &[Measured]) -> Value {
    let items: Vec<Value> = items.iter().map(|item| item.object(false)).collect();
    json!({ "kind": format!("{}List", kind.name()), "apiVersion": format!("{GROUP}/{VERSION}"), "metadata": {},
        "items": items })
}

/// A table of them.
pub(crate) fn table(items: &[Measured]) -> Value {
    let column = |name: &str, format: &str, description: &str| json!({ "name": name, "type": "string", "format": format, "description": description, "priority": 0 });
    let rows: Vec<Value> = items.iter().map(Measured::row).collect();
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {},
        "columnDefinitions": [
            column("Name", "name", "Name of the resource"),
            column("cpu", "", ""), column("memory", "", ""), column("Window", "", ""),
        ],
        "rows": rows,
    })
}

/// CPUs, of nanoseconds a second.
fn cpu(nanoseconds: u64) -> String {
    format!("{nanoseconds}n").parse::<Quantity>().unwrap_or_default().to_string()
}

fn memory(bytes: u64) -> String {
    Quantity::from_bytes(i64::try_from(bytes).unwrap_or(i64::MAX)).to_string()
}

/// As Go writes durations: `15.013s`, `1m0s`.
fn duration(of: SignedDuration) -> String {
    let (seconds, nanoseconds) = (of.as_secs(), of.subsec_nanos().unsigned_abs());
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let fraction = match nanoseconds {
        0 => String::new(),
        _ => format!(".{}", format!("{nanoseconds:09}").trim_end_matches('0')),
    };
    match (hours, minutes) {
        (0, 0) => format!("{seconds}{fraction}s"),
        (0, _) => format!("{minutes}m{seconds}{fraction}s"),
        _ => format!("{hours}h{minutes}m{seconds}{fraction}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_as_upstreams() {
        let written = [(15_013, "15.013s"), (60_000, "1m0s"), (3_725_500, "1h2m5.5s"), (250, "0.25s")];
        for (milliseconds, text) in written {
            assert_eq!(duration(SignedDuration::from_millis(milliseconds)), text);
        }
        assert_eq!((&*cpu(1_234_567), &*cpu(2_000_000), &*cpu(3_000_000_000)), ("1234567n", "2m", "3"));
        assert_eq!((&*memory(3 << 20), &*memory(1000)), ("3Mi", "1k"));
    }

    #[test]
    fn a_pod_is_its_containers() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let usage = |second, window| Usage {
            at: at(second),
            window: SignedDuration::from_secs(window),
            cpu: 1_000_000,
            memory: 1024,
        };
        let of = ObjectMeta {
            name: Some("a".into()),
            namespace: Some("x".into()),
            labels: Some([("app".to_owned(), "web".to_owned())].into()),
            ..ObjectMeta::default()
        };
        let parts = vec![("c".to_owned(), usage(20, 15)), ("d".to_owned(), usage(10, 12))];
        assert!(Measured::new(Kind::Pods, &of, Vec::new(), at(30)).is_none());
        let pod = Measured::new(Kind::Pods, &of, parts, at(30)).unwrap();
        let object = pod.object(true);
        assert_eq!((&object["kind"], &object["window"]), (&json!("PodMetrics"), &json!("12s")));
        assert_eq!(object["timestamp"], "1970-01-01T00:00:10Z");
        assert_eq!(
            object["containers"][1],
            json!({ "name": "d", "usage": { "cpu": "1m", "memory": "1Ki" } })
        );
        assert_eq!(object["metadata"]["labels"]["app"], "web");
        assert_eq!(table(&[pod])["rows"][0]["cells"], json!(["a", "2m", "2Ki", "12s"]));
    }
}
