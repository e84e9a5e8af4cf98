//! What webhooks are sent and what they answer: `AdmissionReview`, in its two versions.
//!
//! Both versions have the same fields. Of an answer in `v1beta1` less is demanded, as upstream has it: neither the uid nor
//! the version, and patches without their type.

use apimachinery::field::quote;
use apimachinery::gvk::GroupVersionKind;
use apimachinery::status::{Details, Reason, Status};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::Attributes;
use crate::lookup::Form;
use crate::matching::own_form;
use crate::request::Request;

const GROUP: &str = "admission.k8s.io";
const KIND: &str = "AdmissionReview";

/// A version of the review.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V1,
    V1Beta1,
}

impl Version {
    /// The first of these that is known here.
    pub(crate) fn first<'a>(mut accepted: impl Iterator<Item = &'a str>) -> Option<Self> {
        accepted.find_map(|version| match version {
            "v1" => Some(Self::V1),
            "v1beta1" => Some(Self::V1Beta1),
            _ => None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V1Beta1 => "v1beta1",
        }
    }

    fn api_version(self) -> String {
        format!("{GROUP}/{}", self.name())
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Review<'a> {
    kind: &'static str,
    api_version: String,
    request: Request<'a>,
}

/// The request in that form, as a webhook is told of it: `object` and `old` are in the form already.
///
/// # Errors
/// Never for what was read from JSON.
pub(crate) fn encode(
    version: Version,
    uid: &str,
    attributes: &Attributes<'_>,
    form: &Form,
    object: Option<&Value>,
    old: Option<&Value>,
) -> Result<Value, serde_json::Error> {
    let own = own_form(attributes);
    let mut request = Request::of(attributes, form, &own);
    request.uid = Some(uid);
    request.object = Some(object.unwrap_or(&Value::Null));
    request.old_object = Some(old.unwrap_or(&Value::Null));
    serde_json::to_value(Review { kind: KIND, api_version: version.api_version(), request })
}

/// What a webhook answered.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) allowed: bool,
    /// A JSON patch, as text.
    pub(crate) patch: Vec<u8>,
    /// `JSONPatch`, if it says so properly.
    pub(crate) patch_type: String,
    /// Why it is not allowed.
    pub(crate) result: Option<Value>,
    pub(crate) warnings: Vec<String>,
}

/// Why there is no answer in what came back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    /// It is no review.
    Malformed(String),
    /// It is a review that says what it may not.
    Invalid(String),
}

/// Reads an answer to the review of that uid. Its size and depth are bounded by whoever received it.
pub(crate) fn decode(
    review: &Value,
    version: Version,
    uid: &str,
    is_mutating: bool,
) -> Result<Answer, Unread> {
    let malformed = |why: String| Unread::Malformed(why);
    let Some(review) = review.as_object() else {
        return Err(malformed("couldn't get version/kind: the answer is no JSON object".to_owned()));
    };
    let given = (string(review, "apiVersion")?, string(review, "kind")?);
    // What says nothing is taken for what was sent; but then it does not pass the comparison below.
    let is_other = !given.0.is_empty() && given.0 != version.api_version() && given.1 == KIND;
    if is_other {
        let (from, to) = (given.0.rsplit('/').next().unwrap_or_default(), version.name());
        return Err(malformed(format!("converting ({from}.{KIND}) to ({to}.{KIND}): unknown conversion")));
    }
    let invalid = |why: String| Err(Unread::Invalid(why));
    let response = match review.get("response") {
        None | Some(Value::Null) => return invalid("webhook response was absent".to_owned()),
        Some(Value::Object(response)) => response,
        Some(_) => return Err(wrong("response")),
    };
    let mut answer = read(response)?;
    let typed = response.get("patchType").filter(|kind| !kind.is_null()).is_some();
    if version == Version::V1Beta1 {
        if !is_mutating {
            answer.patch.clear();
        } else if !answer.patch.is_empty() {
            "JSONPatch".clone_into(&mut answer.patch_type);
        }
        return Ok(answer);
    }
    let answered = string(response, "uid")?;
    if answered != uid {
        return invalid(format!("expected response.uid={}, got {}", quote(uid), quote(answered)));
    }
    if given != (version.api_version().as_str(), KIND) {
        let got = GroupVersionKind::parse(given.0, given.1).map_err(|error| malformed(error.to_string()))?;
        return invalid(format!("expected webhook response of {GROUP}/v1, Kind={KIND}, got {got}"));
    }
    match (is_mutating, answer.patch.is_empty(), typed) {
        (false, false, _) => invalid("validating webhook may not return response.patch".to_owned()),
        (false, _, true) => invalid("validating webhook may not return response.patchType".to_owned()),
        (true, false, false) => {
            invalid("webhook returned response.patch but not response.patchType".to_owned())
        }
        (true, true, true) => {
            invalid("webhook returned response.patchType but not response.patch".to_owned())
        }
        (true, false, true) if answer.patch_type.is_empty() => {
            invalid("webhook returned invalid response.patchType of \"\"".to_owned())
        }
        _ => Ok(answer),
    }
}

fn read(response: &Map<String, Value>) -> Result<Answer, Unread> {
    let patch = STANDARD.decode(string(response, "patch")?).map_err(|_| wrong("patch"))?;
    let warnings = match response.get("warnings") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(all)) => {
            let texts = all.iter().map(|one| one.as_str().map(str::to_owned));
            texts.collect::<Option<_>>().ok_or_else(|| wrong("warnings"))?
        }
        Some(_) => return Err(wrong("warnings")),
    };
    let are_texts = |map: &Map<String, Value>| map.values().all(Value::is_string);
    match response.get("auditAnnotations") {
        None | Some(Value::Null) => {}
        Some(Value::Object(annotations)) if are_texts(annotations) => {}
        Some(_) => return Err(wrong("auditAnnotations")),
    }
    let result = match response.get("status") {
        None | Some(Value::Null) => None,
        Some(status @ Value::Object(_)) => Some(status.clone()),
        Some(_) => return Err(wrong("status")),
    };
    let allowed = match response.get("allowed") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(allowed)) => *allowed,
        Some(_) => return Err(wrong("allowed")),
    };
    let patch_type = string(response, "patchType")?.to_owned();
    Ok(Answer { allowed, patch, patch_type, result, warnings })
}

fn wrong(field: &str) -> Unread {
    Unread::Malformed(format!("{field} is of the wrong type"))
}

fn string<'a>(map: &'a Map<String, Value>, field: &str) -> Result<&'a str, Unread> {
    match map.get(field) {
        None | Some(Value::Null) => Ok(""),
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(wrong(field)),
    }
}

/// What the client is told that a webhook refuses: never anything that looks like success.
pub(crate) fn refusal(webhook: &str, result: Option<&Value>) -> Status {
    let field = |name: &str| result.and_then(|result| result.get(name));
    let text = |name: &str| field(name).and_then(Value::as_str).unwrap_or_default();
    let denied = format!("admission webhook {} denied the request", quote(webhook));
    let message = match (text("message"), text("reason")) {
        ("", "") => format!("{denied} without explanation"),
        ("", why) | (why, _) => format!("{denied}: {why}"),
    };
    let code = field("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
    let reason = serde_json::from_value::<Reason>(text("reason").into()).unwrap_or_default();
    let details =
        field("details").and_then(|details| serde_json::from_value::<Details>(details.clone()).ok());
    Status {
        // Beyond these HTTP knows no codes.
        code: code.filter(|code| (400..1000).contains(code)).unwrap_or(400),
        reason,
        message,
        details: details.map(Box::new),
        continue_token: None,
    }
}
