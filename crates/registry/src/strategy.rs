//! What is particular to a kind, as one same-shaped file a kind.

use std::sync::Arc;
use std::time::Duration;

use apimachinery::field::FieldError;
use apimachinery::meta::NameRule;
use apimachinery::status::Status;
use apimachinery::warnings::Warnings;
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;

use crate::Part;
use crate::cache::Field;
use crate::claims::Claims;
use crate::kind::{Column, Subresource};
use crate::ranges::Ranges;

/// A kind of ours: what its file hands to the registry.
pub(crate) struct Builtin {
    /// Group, version and kind; the rest of its names are in `api::kinds`.
    pub(crate) name: (&'static str, &'static str, &'static str),
    pub(crate) rules: Rules,
    /// Selectable fields beyond name and namespace.
    pub(crate) fields: Vec<Field>,
    pub(crate) subresources: Vec<Subresource>,
    pub(crate) scale: Option<Scale>,
    pub(crate) columns: Vec<Column>,
    pub(crate) strategy: Arc<dyn Strategy>,
}

/// When `metadata.generation` grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Generation {
    /// The kind has none.
    None,
    /// With every change of `spec`.
    Spec,
    /// With every change of `spec` or of the annotations.
    SpecAndAnnotations,
    /// With every change outside `metadata`. A status that has a subresource of its own does not change with the rest.
    AllButMetadata,
}

/// How the generic code treats objects of a resource.
#[derive(Clone)]
pub(crate) struct Rules {
    pub(crate) name: NameRule,
    /// What may be done to its objects.
    pub(crate) verbs: &'static [&'static str],
    pub(crate) generation: Generation,
    /// There is a status subresource, so plain writes leave `status` alone.
    pub(crate) status: bool,
    /// Whoever creates an object may bring its status along, in spite of that.
    pub(crate) status_on_create: bool,
    /// Writes of status may change labels, annotations and finalizers.
    pub(crate) status_metadata: bool,
    /// PUT to a name that is not there creates it.
    pub(crate) create_on_update: bool,
    /// PUT without a resourceVersion overwrites.
    pub(crate) unconditional_update: bool,
    /// Dependents stay when an object is deleted by somebody who does not say what becomes of them: upstream's oldest
    /// kinds do this for compatibility.
    pub(crate) orphans: bool,
    /// A delete that removes the object is answered with its last state, and not with a Status.
    pub(crate) shows_deleted: bool,
    /// Finalizers need not be the standard ones or have a domain in front.
    pub(crate) any_finalizer: bool,
    /// Whether an object has outlived its time at that moment: the server then removes it by itself.
    pub(crate) expired: Option<fn(&Value, Timestamp) -> bool>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            name: NameRule::Subdomain,
            verbs: crate::builtin::VERBS,
            generation: Generation::None,
            status: false,
            status_on_create: false,
            status_metadata: true,
            create_on_update: false,
            unconditional_update: true,
            orphans: false,
            shows_deleted: false,
            any_finalizer: false,
            expired: None,
        }
    }
}

/// Where the parts of a scale lie in an object, as paths of field names.
#[derive(Clone, Debug)]
pub(crate) struct Scale {
    pub(crate) spec_replicas: Vec<String>,
    pub(crate) status_replicas: Vec<String>,
    /// A string, or a LabelSelector that is written as one.
    pub(crate) selector: Option<Vec<String>>,
}

impl Scale {
    /// Of what keeps so many pods.
    pub(crate) fn of_workload() -> Self {
        let path = |path: [&str; 2]| path.map(str::to_owned).into();
        Self {
            spec_replicas: path(["spec", "replicas"]),
            status_replicas: path(["status", "replicas"]),
            selector: Some(path(["spec", "selector"])),
        }
    }
}

/// A kind's behaviour. The generic code calls these in order: default, (admission), stamp, prepare, validate. Trees come without
/// unknown fields and with the types that the kind's schema says.
pub(crate) trait Strategy: Send + Sync + 'static {
    /// Fills in what the client left out, exactly as upstream does when it decodes.
    fn default(&self, _object: &mut Value) {}

    /// Notes when something of a new or changed object came to be, where the client does not say.
    fn stamp(&self, _object: &mut Value, _now: Timestamp) {}

    /// Sets and clears what a client cannot decide about a new object (its status is cleared by the generic code).
    fn prepare_create(&self, _object: &mut Value) {}

    /// The same for a changed object.
    fn prepare_update(&self, _object: &mut Value, _old: &Value) {}

    /// What is wrong with a new object, beside its metadata.
    fn validate(&self, _object: &Value, _errors: &mut Vec<FieldError>) {}

    /// What is wrong with a changed object, beside its metadata.
    fn validate_update(&self, object: &Value, _old: &Value, errors: &mut Vec<FieldError>) {
        self.validate(object, errors);
    }

    /// Sets and clears what a client cannot decide about a changed status.
    fn prepare_status(&self, _object: &mut Value, _old: &Value, _now: Timestamp) {}

    /// What is wrong with a changed status.
    fn validate_status(&self, _object: &Value, _old: &Value, _errors: &mut Vec<FieldError>) {}

    /// Brings an object that was changed through a part of its own back to the old one, but for that part.
    fn keep_part(&self, _part: Part, object: &mut Value, old: &Value, _now: Timestamp) {
        *object = old.clone();
    }

    /// What is wrong with a changed part.
    fn validate_part(&self, _part: Part, _object: &Value, _old: &Value, _errors: &mut Vec<FieldError>) {}

    /// What the definition's own rules find wrong with an object, or with the change of one, after everything else was
    /// looked at: some findings keep rules from being run, and some become warnings.
    fn validate_rules(
        &self,
        _object: &Value,
        _old: Option<&Value>,
        _errors: &mut Vec<FieldError>,
        _warnings: &Warnings,
    ) {
    }

    /// What a client should know about an object that is all right otherwise.
    fn warnings(&self, _object: &Value) -> Vec<String> {
        Vec::new()
    }

    /// Whether the form of this version differs from the stored form. Of custom kinds their definition says that.
    fn converts(&self) -> bool {
        false
    }

    /// From the form of this version to the stored form.
    fn store_form(&self, _object: &mut Value) {}

    /// From the stored form to that of this version.
    fn restore(&self, _object: &mut Value) {}

    /// Why an object of that name is never deleted.
    fn forbids_deletion(&self, _name: &str) -> Option<&'static str> {
        None
    }

    /// What somebody should know whose deletion leaves the dependents there ([`Rules::orphans`]).
    fn orphan_warning(&self) -> Option<&'static str> {
        None
    }

    /// For how long a deleted object may go on, if the kind has such a period at all.
    fn grace(&self, _object: &Value, _asked: Option<i64>) -> Option<i64> {
        None
    }

    /// Marks an object at the first request to delete it.
    fn begin_deletion(&self, _object: &mut Value, _now: Timestamp) {}

    /// Whether something beside its metadata's finalizers holds a deleted object.
    fn is_held(&self, _object: &Value) -> bool {
        false
    }

    /// Chooses what the object takes for itself alone, and says how the claims on it change.
    fn claim(&self, _ranges: &Ranges, _object: &mut Value, _old: Option<&Value>) -> Result<Claims, Status> {
        Ok(Claims::default())
    }

    /// The claims that end with the object.
    fn release(&self, _old: &Value) -> Claims {
        Claims::default()
    }

    /// Takes a value that [`Strategy::claim`] chose back out of the object: somebody else has it.
    fn unchoose(&self, _claim: &str, _object: &mut Value) {}

    /// What a claim is kept as, where it is more than a mark: an object of its own, in its stored form. It is the claim of
    /// the object of this namespace and name.
    fn claimed(
        &self,
        _claim: &str,
        _namespace: &str,
        _name: &str,
        _stamp: &dyn Fn(&mut Value),
    ) -> Option<Bytes> {
        None
    }

    /// What to say about a value that the client chose and somebody else has.
    fn taken(&self, claim: &str, _object: &Value) -> FieldError {
        FieldError::internal(&apimachinery::field::Path::new("spec"), format!("{claim} is taken"))
    }

    /// How long the change of an object in this namespace may wait for other writes to share a sync with, where nobody waits
    /// for it.
    fn patience(&self, _namespace: &str) -> Duration {
        Duration::ZERO
    }

    /// One row of its tables.
    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value>;
}
