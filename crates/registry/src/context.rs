//! What a request brings along beside its object, and the options of each verb.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde_json::Value;

use crate::Admit;

/// What to do about fields that a kind does not have, or that are given twice (`fieldValidation` of a write).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// Drop them silently.
    Ignore,
    /// Drop them and warn: what kube-apiserver does when nothing is said.
    #[default]
    Warn,
    /// Refuse the request, naming each.
    Strict,
}

/// A write's surroundings. One is made for each request; it collects the warnings that the answer carries.
///
/// Who asks is not here: only admission needs to know, and it enters as a value that does ([`Admit`]).
#[derive(Clone)]
pub struct RequestContext {
    /// The time that the request happens at.
    pub now: Timestamp,
    /// Go through everything but the commit (`dryRun=All`).
    pub dry_run: bool,
    /// Who says that they manage the fields (`fieldManager`).
    pub field_manager: String,
    /// What to do about unknown and duplicate fields.
    pub field_validation: FieldValidation,
    /// Errors that a strict decoder found in the body before it became a tree (`duplicate field "spec.replicas"`).
    pub decode_errors: Vec<String>,
    /// The request's admission.
    pub admission: Arc<dyn Admit>,
    /// Warnings for the answer, in order, without their header form. Shared by clones of this context.
    pub warnings: Warnings,
}

impl RequestContext {
    /// A context with everything optional left out.
    pub fn new(now: Timestamp, admission: Arc<dyn Admit>) -> Self {
        Self {
            now,
            dry_run: false,
            field_manager: String::new(),
            field_validation: FieldValidation::default(),
            decode_errors: Vec::new(),
            admission,
            warnings: Warnings::default(),
        }
    }
}

/// Warnings collected during a request; clones add to the same list.
#[derive(Clone, Debug, Default)]
pub struct Warnings(Arc<Mutex<Vec<String>>>);

impl Warnings {
    /// Adds one, unless it is there already.
    pub fn add(&self, warning: impl Into<String>) {
        let warning = warning.into();
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !list.contains(&warning) {
            list.push(warning);
        }
    }

    /// Takes what was collected.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Which part of an object a get, update or patch means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// The object.
    #[default]
    Whole,
    /// `/status`: only the status changes.
    Status,
    /// `/scale`: read and written as an `autoscaling/v1` Scale.
    Scale,
    /// `/finalize` of a namespace: only `spec.finalizers` changes.
    Finalize,
    /// `/binding` of a pod; written through [`Registry::bind`](crate::Registry::bind) only.
    Binding,
    /// `/ephemeralcontainers` of a pod: containers are added to look at it.
    EphemeralContainers,
    /// `/resize` of a pod: only its containers' resources change.
    Resize,
    /// `/approval` of a CertificateSigningRequest: only its conditions change.
    Approval,
}

impl Part {
    /// The name of the subresource; empty for the object itself.
    pub fn name(self) -> &'static str {
        match self {
            Part::Whole => "",
            Part::Status => "status",
            Part::Scale => "scale",
            Part::Finalize => "finalize",
            Part::Binding => "binding",
            Part::EphemeralContainers => "ephemeralcontainers",
            Part::Resize => "resize",
            Part::Approval => "approval",
        }
    }
}

/// How `resourceVersion` is meant in a list (`resourceVersionMatch`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceVersionMatch {
    /// At that version or any later one.
    NotOlderThan,
    /// At exactly that version.
    Exact,
}

/// Options of list, watch and deletecollection, as in the query. Selectors come as written; the registry parses them.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// `labelSelector`.
    pub label_selector: String,
    /// `fieldSelector`.
    pub field_selector: String,
    /// `limit`; 0: no limit.
    pub limit: u64,
    /// `continue`, as handed out with an earlier page.
    pub continue_token: String,
    /// `resourceVersion`; empty: the newest.
    pub resource_version: String,
    /// `resourceVersionMatch`.
    pub resource_version_match: Option<ResourceVersionMatch>,
    /// `allowWatchBookmarks` (watch only).
    pub allow_bookmarks: bool,
    /// `sendInitialEvents` (watch only).
    pub send_initial_events: bool,
}

/// What becomes of an object's dependents (`propagationPolicy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// They stay, without their owner reference.
    Orphan,
    /// The garbage collector deletes them after the object.
    Background,
    /// The object stays until they are gone.
    Foreground,
}

/// Options of delete and deletecollection.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    /// `gracePeriodSeconds`.
    pub grace_period_seconds: Option<i64>,
    /// `propagationPolicy` (or the deprecated `orphanDependents`).
    pub propagation: Option<Propagation>,
    /// `preconditions.uid`.
    pub uid: Option<String>,
    /// `preconditions.resourceVersion`.
    pub resource_version: Option<String>,
}

/// A patch body, decoded.
#[derive(Clone, Debug)]
pub enum Patch {
    /// RFC 6902: an array of operations.
    Json(Value),
    /// RFC 7386.
    Merge(Value),
    /// Kubernetes' strategic merge patch; built-in kinds only.
    Strategic(Value),
}
