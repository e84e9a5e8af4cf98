//! What a request says beside its object, as webhooks and policies are told of it.

use admission::Operation;
use registry::{DeleteOptions, Propagation};
use serde_json::{Map, Value, json};

/// The options of one request, as the client gave them.
#[derive(Debug)]
pub(crate) enum Said {
    /// None: a stream.
    Nothing,
    /// Those of a creation, an update or a patch.
    Write {
        patch: bool,
        dry_run: bool,
        /// Empty where the client leaves it to the server.
        field_manager: String,
        /// The same.
        field_validation: String,
    },
    /// Those of a deletion.
    Delete { dry_run: bool, options: DeleteOptions },
}

impl admission::Options for Said {
    fn object(&self, operation: Operation) -> Value {
        let mut fields = Map::new();
        let mut say = |name: &str, value: Value| fields.insert(name.to_owned(), value);
        let (kind, dry_run) = match self {
            Self::Nothing => return Value::Null,
            Self::Write { dry_run, field_manager, field_validation, .. } => {
                for (name, text) in [("fieldManager", field_manager), ("fieldValidation", field_validation)] {
                    if !text.is_empty() {
                        say(name, text.as_str().into());
                    }
                }
                // As upstream: a patch is told as what it comes to.
                let creates = operation == Operation::Create;
                (if creates { "CreateOptions" } else { "UpdateOptions" }, *dry_run)
            }
            Self::Delete { dry_run, options } => {
                if let Some(seconds) = options.grace_period_seconds {
                    say("gracePeriodSeconds", seconds.into());
                }
                if let Some(policy) = options.propagation {
                    say("propagationPolicy", policy_name(policy).into());
                }
                let given = [("uid", &options.uid), ("resourceVersion", &options.resource_version)];
                let given = given.into_iter().filter_map(|(name, text)| Some((name, text.as_deref()?)));
                let preconditions: Map<String, Value> =
                    given.map(|(name, text)| (name.to_owned(), text.into())).collect();
                if !preconditions.is_empty() {
                    say("preconditions", preconditions.into());
                }
                ("DeleteOptions", *dry_run)
            }
        };
        if dry_run {
            say("dryRun", json!(["All"]));
        }
        say("kind", kind.into());
        say("apiVersion", "meta.k8s.io/v1".into());
        fields.into()
    }

    fn is_patch(&self) -> bool {
        matches!(self, Self::Write { patch: true, .. })
    }
}

fn policy_name(policy: Propagation) -> &'static str {
    match policy {
        Propagation::Orphan => "Orphan",
        Propagation::Background => "Background",
        Propagation::Foreground => "Foreground",
    }
}

#[cfg(test)]
mod tests {
    use admission::Options;

    use super::*;

    #[test]
    fn options_are_told_as_what_the_request_comes_to() {
        let write = |dry_run, manager: &str| Said::Write {
            patch: false,
            dry_run,
            field_manager: manager.into(),
            field_validation: "Strict".into(),
        };
        assert_eq!(
            write(true, "me").object(Operation::Create),
            json!({
                "apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions", "dryRun": ["All"],
                "fieldManager": "me", "fieldValidation": "Strict",
            })
        );
        assert_eq!(write(false, "").object(Operation::Update)["kind"], "UpdateOptions");
        let options = DeleteOptions {
            grace_period_seconds: Some(3),
            propagation: Some(Propagation::Background),
            uid: Some("u".into()),
            resource_version: None,
        };
        assert_eq!(
            Said::Delete { dry_run: false, options }.object(Operation::Delete),
            json!({
                "apiVersion": "meta.k8s.io/v1", "kind": "DeleteOptions", "gracePeriodSeconds": 3,
                "propagationPolicy": "Background", "preconditions": {"uid": "u"},
            })
        );
        assert_eq!(Said::Nothing.object(Operation::Connect), Value::Null);
    }
}
