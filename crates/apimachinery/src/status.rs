//! The error every client understands: upstream's `v1.Status`, with upstream's messages, reasons and codes.

use std::fmt::{self, Display};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::field::{self, FieldError, quote};
use crate::gvk::{GroupKind, GroupResource};

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)*) => {
        /// Why a request failed, in one machine-readable word.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
        pub enum Reason {
            $($(#[$doc])* #[serde(rename = $text)] $variant,)*
            /// No reason given, or one that is not known here.
            #[default]
            #[serde(rename = "", other)]
            Unknown,
        }

        impl Reason {
            /// The word.
            pub const fn as_str(self) -> &'static str {
                match self { Self::Unknown => "", $(Self::$variant => $text,)* }
            }
        }
    };
}

reasons! {
    /// 401: not authenticated.
    Unauthorized = "Unauthorized",
    /// 403: authenticated, but not allowed.
    Forbidden = "Forbidden",
    /// 404: no such object or resource.
    NotFound = "NotFound",
    /// 409: the name is taken.
    AlreadyExists = "AlreadyExists",
    /// 409: the object has changed meanwhile.
    Conflict = "Conflict",
    /// 410: no longer here, and no way to get it.
    Gone = "Gone",
    /// 422: the object says something that it may not.
    Invalid = "Invalid",
    /// 500: could not be done in time, may be tried again.
    ServerTimeout = "ServerTimeout",
    /// 500: the store must be asked again.
    StoreReadError = "StorageReadError",
    /// 504: the time that the client gave is over.
    Timeout = "Timeout",
    /// 429: try again later.
    TooManyRequests = "TooManyRequests",
    /// 400: malformed.
    BadRequest = "BadRequest",
    /// 405: the resource has no such verb.
    MethodNotAllowed = "MethodNotAllowed",
    /// 406: no form of the answer suits the client.
    NotAcceptable = "NotAcceptable",
    /// 413: too large a body.
    RequestEntityTooLarge = "RequestEntityTooLarge",
    /// 415: a body in an unknown form.
    UnsupportedMediaType = "UnsupportedMediaType",
    /// 500: our fault.
    InternalError = "InternalError",
    /// 410: the revision is too old; list again.
    Expired = "Expired",
    /// 503: not ready to serve this now.
    ServiceUnavailable = "ServiceUnavailable",
}

/// One of the things that were wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// A word such as `FieldValueInvalid`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Which field.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field: String,
}

/// What the error is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Details {
    /// Name of the object.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Its kind; often, as upstream, the resource.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Its uid.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// The findings.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// When to try again; 0 for never said.
    #[serde(skip_serializing_if = "is_zero")]
    pub retry_after_seconds: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// A failed request. Displays as its message.
#[derive(Debug, Clone, Default, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    /// HTTP status code.
    pub code: u16,
    /// The word for programs.
    pub reason: Reason,
    /// The sentence for people.
    pub message: String,
    /// What it is about.
    pub details: Option<Box<Details>>,
    /// `metadata.continue`: where an expired list can go on, inconsistently.
    pub continue_token: Option<Box<str>>,
}

/// The JSON form of a status, failed or not.
#[derive(Serialize, Deserialize)]
struct Wire<'a> {
    #[serde(default)]
    kind: std::borrow::Cow<'a, str>,
    #[serde(default, rename = "apiVersion")]
    api_version: std::borrow::Cow<'a, str>,
    #[serde(default)]
    metadata: serde_json::Map<String, Value>,
    #[serde(default)]
    status: std::borrow::Cow<'a, str>,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    message: std::borrow::Cow<'a, str>,
    #[serde(default, skip_serializing_if = "is_unknown")]
    reason: Reason,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    details: Option<std::borrow::Cow<'a, Details>>,
    #[serde(default)]
    code: u16,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_unknown(reason: &Reason) -> bool {
    *reason == Reason::Unknown
}

impl Status {
    fn new(code: u16, reason: Reason, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None, continue_token: None }
    }

    /// The same with those details.
    #[must_use]
    pub fn with_details(mut self, details: Details) -> Self {
        self.details = Some(Box::new(details));
        self
    }

    /// The same with a token by which an expired list can go on.
    #[must_use]
    pub fn with_continue(mut self, token: &str) -> Self {
        self.continue_token = Some(token.into());
        self
    }

    /// The same, asking the client to come back after that many seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.details.get_or_insert_default().retry_after_seconds = seconds;
        self
    }

    fn about(self, resource: &GroupResource, name: &str) -> Self {
        let details = Details {
            name: name.to_owned(),
            group: resource.group.clone().into_owned(),
            kind: resource.resource.clone().into_owned(),
            ..Details::default()
        };
        self.with_details(details)
    }

    /// 404 `pods "x" not found`.
    pub fn not_found(resource: &GroupResource, name: &str) -> Self {
        Self::new(404, Reason::NotFound, format!("{resource} {} not found", quote(name)))
            .about(resource, name)
    }

    /// 404 for a path that nothing serves.
    pub fn no_such_path() -> Self {
        Self::new(404, Reason::NotFound, "the server could not find the requested resource")
            .with_details(Details::default())
    }

    /// 409 `pods "x" already exists`.
    pub fn already_exists(resource: &GroupResource, name: &str) -> Self {
        Self::new(409, Reason::AlreadyExists, format!("{resource} {} already exists", quote(name)))
            .about(resource, name)
    }

    /// 409 when a generated name was taken every time that one was tried.
    pub fn generate_name_conflict(resource: &GroupResource, name: &str) -> Self {
        let message = format!(
            "{resource} {} already exists, the server was not able to generate a unique name for the object",
            quote(name)
        );
        Self::new(409, Reason::AlreadyExists, message).about(resource, name).retry_after(1)
    }

    /// 409 `Operation cannot be fulfilled on pods "x": why`.
    pub fn conflict(resource: &GroupResource, name: &str, why: impl Display) -> Self {
        let message = format!("Operation cannot be fulfilled on {resource} {}: {why}", quote(name));
        Self::new(409, Reason::Conflict, message).about(resource, name)
    }

    /// 409 in upstream's words for a stale resourceVersion.
    pub fn modified(resource: &GroupResource, name: &str) -> Self {
        let why =
            "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(resource, name, why)
    }

    /// 409: others manage what an apply would change.
    pub fn apply_conflict(message: impl Into<String>, causes: Vec<Cause>) -> Self {
        Self::new(409, Reason::Conflict, message).with_details(Details { causes, ..Details::default() })
    }

    /// 500 with nothing but a message: what upstream answers where it has no word for the reason.
    pub fn without_reason(message: impl Into<String>) -> Self {
        Self::new(500, Reason::Unknown, message)
    }

    /// 422 `Pod "x" is invalid: [findings]`.
    pub fn invalid(kind: &GroupKind, name: &str, errors: Vec<FieldError>) -> Self {
        let mut message = format!("{kind} {} is invalid", quote(name));
        if !errors.is_empty() {
            message.push_str(": ");
            message.push_str(&field::aggregate(&errors));
        }
        let causes = errors.into_iter().map(Cause::from).collect();
        Self::new(422, Reason::Invalid, message).with_details(Details {
            name: name.to_owned(),
            group: kind.group.clone().into_owned(),
            kind: kind.kind.clone().into_owned(),
            causes,
            ..Details::default()
        })
    }

    /// 422 for a request that is well formed but cannot be carried out, such as a JSON patch that does not fit.
    pub fn unprocessable(why: impl Into<String>) -> Self {
        Self::new(422, Reason::Invalid, why)
    }

    /// 403 `pods "x" is forbidden: why`.
    pub fn forbidden(resource: &GroupResource, name: &str, why: impl Display) -> Self {
        let message = match (resource.resource.is_empty() && resource.group.is_empty(), name.is_empty()) {
            (true, _) => format!("forbidden: {why}"),
            (false, true) => format!("{resource} is forbidden: {why}"),
            (false, false) => format!("{resource} {} is forbidden: {why}", quote(name)),
        };
        Self::new(403, Reason::Forbidden, message).about(resource, name)
    }

    /// 401; an empty `why` gives upstream's `Unauthorized`.
    pub fn unauthorized(why: &str) -> Self {
        Self::new(401, Reason::Unauthorized, if why.is_empty() { "Unauthorized" } else { why })
    }

    /// 400.
    pub fn bad_request(why: impl Into<String>) -> Self {
        Self::new(400, Reason::BadRequest, why)
    }

    /// 405 `create is not supported on resources of kind "pods"`.
    pub fn method_not_supported(resource: &GroupResource, verb: &str) -> Self {
        let message = format!("{verb} is not supported on resources of kind \"{resource}\"");
        Self::new(405, Reason::MethodNotAllowed, message).about(resource, "")
    }

    /// 410: this revision or continue token is too old.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, Reason::Expired, message)
    }

    /// 504 `Timeout: message`.
    pub fn timeout(message: impl Display, retry_after_seconds: u32) -> Self {
        Self::new(504, Reason::Timeout, format!("Timeout: {message}")).retry_after(retry_after_seconds)
    }

    /// 429.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        Self::new(429, Reason::TooManyRequests, message).retry_after(retry_after_seconds)
    }

    /// 500 `Internal error occurred: why`.
    pub fn internal_error(why: impl Display) -> Self {
        let cause = Cause { message: why.to_string(), ..Cause::default() };
        Self::new(500, Reason::InternalError, format!("Internal error occurred: {why}"))
            .with_details(Details { causes: vec![cause], ..Details::default() })
    }

    /// 503.
    pub fn service_unavailable(why: impl Into<String>) -> Self {
        Self::new(503, Reason::ServiceUnavailable, why)
    }

    /// 413 `Request entity too large: message`.
    pub fn request_entity_too_large(message: impl Display) -> Self {
        Self::new(413, Reason::RequestEntityTooLarge, format!("Request entity too large: {message}"))
    }

    /// 406, naming what could be had.
    pub fn not_acceptable(accepted: &[&str]) -> Self {
        let message = format!("only the following media types are accepted: {}", accepted.join(", "));
        Self::new(406, Reason::NotAcceptable, message)
    }

    /// 415, naming what would be read.
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let list = accepted.join(", ");
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {list}"
        );
        Self::new(415, Reason::UnsupportedMediaType, message)
    }

    /// Whether this is a 404 about an object.
    pub fn is_not_found(&self) -> bool {
        self.reason == Reason::NotFound
    }

    /// Whether this is a stale write.
    pub fn is_conflict(&self) -> bool {
        self.reason == Reason::Conflict
    }

    /// Whether the name was taken.
    pub fn is_already_exists(&self) -> bool {
        self.reason == Reason::AlreadyExists
    }

    /// The `v1.Status` object.
    pub fn to_value(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// The `v1.Status` object as JSON text.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// A failure read back from a `v1.Status` object; `None` where the bytes are something else or a success.
    pub fn from_json(bytes: &[u8]) -> Option<Self> {
        let wire: Wire<'_> = serde_json::from_slice(bytes).ok()?;
        let failed = wire.kind == "Status" && wire.status != "Success";
        failed.then(|| Self {
            code: wire.code,
            reason: wire.reason,
            message: wire.message.into_owned(),
            details: wire.details.map(|details| Box::new(details.into_owned())),
            continue_token: wire.metadata.get("continue").and_then(Value::as_str).map(Into::into),
        })
    }

    fn wire(&self) -> Wire<'_> {
        let token = self.continue_token.as_deref().map(|token| ("continue".to_owned(), Value::from(token)));
        Wire {
            kind: "Status".into(),
            api_version: "v1".into(),
            metadata: token.into_iter().collect(),
            status: "Failure".into(),
            message: self.message.as_str().into(),
            reason: self.reason,
            details: self.details.as_deref().map(std::borrow::Cow::Borrowed),
            code: self.code,
        }
    }
}

impl Serialize for Status {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.wire().serialize(serializer)
    }
}

/// The `v1.Status` object that answers a successful deletion.
pub fn success(details: Details) -> Value {
    let wire = Wire {
        kind: "Status".into(),
        api_version: "v1".into(),
        metadata: serde_json::Map::new(),
        status: "Success".into(),
        message: "".into(),
        reason: Reason::Unknown,
        details: Some(std::borrow::Cow::Owned(details)),
        code: 200,
    };
    let mut value = serde_json::to_value(wire).unwrap_or_default();
    // Upstream leaves the code out of a success.
    if let Some(map) = value.as_object_mut() {
        map.remove("code");
    }
    value
}

impl From<FieldError> for Cause {
    fn from(error: FieldError) -> Self {
        Self { reason: error.kind.cause().to_owned(), message: error.body(), field: error.field }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::field::Path;

    const DEPLOYMENTS: GroupResource = GroupResource::of("apps", "deployments");

    #[test]
    fn messages_are_upstreams() {
        let check = |status: Status, code: u16, reason: &str, message: &str| {
            assert_eq!(
                (status.code, status.reason.as_str(), status.message.as_str()),
                (code, reason, message)
            );
        };
        check(Status::not_found(&DEPLOYMENTS, "x"), 404, "NotFound", "deployments.apps \"x\" not found");
        check(
            Status::already_exists(&DEPLOYMENTS, "x"),
            409,
            "AlreadyExists",
            "deployments.apps \"x\" already exists",
        );
        check(
            Status::modified(&DEPLOYMENTS, "x"),
            409,
            "Conflict",
            "Operation cannot be fulfilled on deployments.apps \"x\": the object has been modified; please apply your changes to the latest version and try again",
        );
        check(
            Status::forbidden(&DEPLOYMENTS, "", "no"),
            403,
            "Forbidden",
            "deployments.apps is forbidden: no",
        );
        check(
            Status::method_not_supported(&DEPLOYMENTS, "create"),
            405,
            "MethodNotAllowed",
            "create is not supported on resources of kind \"deployments.apps\"",
        );
        check(Status::internal_error("x"), 500, "InternalError", "Internal error occurred: x");
    }

    #[test]
    fn invalid_carries_its_causes() {
        let spec = Path::new("spec");
        let errors = vec![FieldError::invalid(&spec.child("replicas"), -1, "must be positive")];
        let status = Status::invalid(&GroupKind::of("apps", "Deployment"), "x", errors);
        assert_eq!(
            status.to_value(),
            json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 422,
                "reason": "Invalid",
                "message": "Deployment.apps \"x\" is invalid: spec.replicas: Invalid value: -1: must be positive",
                "details": {
                    "name": "x", "group": "apps", "kind": "Deployment",
                    "causes": [{
                        "reason": "FieldValueInvalid", "message": "Invalid value: -1: must be positive",
                        "field": "spec.replicas",
                    }],
                },
            })
        );
    }

    #[test]
    fn what_is_written_is_read_back() {
        let status = Status::too_many_requests("slow down", 3).with_continue("here");
        assert_eq!(Status::from_json(&status.to_json()), Some(status));
        let done = success(Details { name: "x".into(), ..Details::default() });
        assert_eq!(done["status"], "Success");
        assert_eq!(Status::from_json(done.to_string().as_bytes()), None);
        let odd = br#"{"kind":"Status","status":"Failure","reason":"SomethingNew","code":418}"#;
        assert_eq!(Status::from_json(odd).unwrap().reason, Reason::Unknown);
    }
}
