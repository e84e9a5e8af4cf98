//! What a namespace's labels ask of its pods.

use std::fmt;

use apimachinery::field::{FieldError, Path};
use serde_json::Value;

use crate::tree::at;

/// How much pods may do, the most first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Privileged,
    Baseline,
    Restricted,
}

/// Of which minor release the checks are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Version {
    Minor(u32),
    Latest,
}

/// A level, as one release checked it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standard {
    pub(super) level: Level,
    pub(super) version: Version,
}

const PRIVILEGED: Standard = Standard { level: Level::Privileged, version: Version::Latest };

/// What holds for a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    /// Pods that do not meet it are refused.
    pub(super) enforce: Standard,
    /// Whoever writes a pod that does not meet it is told.
    pub(super) warn: Standard,
}

impl Policy {
    /// What a namespace says, and what is wrong with that. A wrong word is taken for the strictest where it is enforced, and
    /// for none where it only warns.
    pub(super) fn of(namespace: &Value) -> (Self, Vec<FieldError>) {
        let mut errors = Vec::new();
        let enforce = standard(namespace, "enforce", Level::Restricted, &mut errors);
        standard(namespace, "audit", Level::Privileged, &mut errors);
        let warn = standard(namespace, "warn", Level::Privileged, &mut errors);
        (Self { enforce, warn }, errors)
    }

    pub(super) fn is_privileged(&self) -> bool {
        self.enforce.level == Level::Privileged && self.warn.level == Level::Privileged
    }
}

fn standard(namespace: &Value, mode: &str, otherwise: Level, errors: &mut Vec<FieldError>) -> Standard {
    let mut found = PRIVILEGED;
    let label = format!("pod-security.kubernetes.io/{mode}");
    let value = |label: &str| at(namespace, &["metadata", "labels", label]).and_then(Value::as_str);
    let mut wrong = |label: &str, value: &str, why: &str| {
        let labels = Path::new("metadata");
        errors.push(FieldError::invalid(&labels.child("labels").key(label), value, why));
    };
    if let Some(text) = value(&label) {
        found.level = level(text).unwrap_or_else(|| {
            wrong(&label, text, "must be one of privileged, baseline, restricted");
            otherwise
        });
    }
    let label = format!("{label}-version");
    if let Some(text) = value(&label) {
        found.version = version(text).unwrap_or_else(|| {
            wrong(&label, text, "must be \"latest\" or \"v1.x\"");
            Version::Latest
        });
    }
    found
}

fn level(text: &str) -> Option<Level> {
    [Level::Privileged, Level::Baseline, Level::Restricted].into_iter().find(|level| level.name() == text)
}

fn version(text: &str) -> Option<Version> {
    if text == "latest" {
        return Some(Version::Latest);
    }
    let minor = text.strip_prefix("v1.")?;
    let written =
        minor.bytes().all(|digit| digit.is_ascii_digit()) && (minor == "0" || !minor.starts_with('0'));
    minor.parse().ok().filter(|_| written).map(Version::Minor)
}

impl Level {
    const fn name(self) -> &'static str {
        match self {
            Self::Privileged => "privileged",
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        }
    }
}

impl fmt::Display for Standard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Version::Latest => write!(f, "{}:latest", self.level.name()),
            Version::Minor(minor) => write!(f, "{}:v1.{minor}", self.level.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn labels_are_read_and_wrong_ones_named() {
        let namespace = |labels: Value| json!({ "metadata": { "labels": labels } });
        let (policy, errors) = Policy::of(&namespace(json!({
            "pod-security.kubernetes.io/enforce": "baseline",
            "pod-security.kubernetes.io/enforce-version": "v1.30",
            "pod-security.kubernetes.io/warn": "restricted",
        })));
        assert_eq!(
            (policy.enforce.to_string(), policy.warn.to_string()),
            ("baseline:v1.30".into(), "restricted:latest".into())
        );
        assert_eq!(errors, []);
        assert!(Policy::of(&namespace(json!({}))).0.is_privileged());

        let (policy, errors) = Policy::of(&namespace(json!({
            "pod-security.kubernetes.io/enforce": "none",
            "pod-security.kubernetes.io/audit": "none",
            "pod-security.kubernetes.io/warn": "none",
            "pod-security.kubernetes.io/warn-version": "v1.07",
        })));
        assert_eq!((policy.enforce.level, policy.warn.level), (Level::Restricted, Level::Privileged));
        let words: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(words.len(), 4);
        assert_eq!(
            words[0],
            "metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"none\": must be one of privileged, baseline, restricted"
        );
        assert!(
            words[3].ends_with("Invalid value: \"v1.07\": must be \"latest\" or \"v1.x\""),
            "{}",
            words[3]
        );
    }
}
