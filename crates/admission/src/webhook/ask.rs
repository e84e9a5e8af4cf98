//! Asking one webhook.

use apimachinery::field::quote;
use apimachinery::json;
use apimachinery::managed;
use apimachinery::patch;
use apimachinery::status::Status;
use serde_json::Value;

use super::Webhooks;
use super::hook::Hook;
use super::review::{self, Answer, Unread};
use crate::lookup::Form;
use crate::{Attributes, Lookup};

/// Why a request does not pass a webhook.
pub(crate) enum Failure {
    /// The webhook was not heard; its failure policy says what follows.
    Unheard(String),
    /// It does not pass, whatever the policy.
    Refused(Status),
}

impl Failure {
    /// What the client is told; `None` where the webhook's policy lets the request pass.
    pub(crate) fn status(self, hook: &Hook) -> Option<Status> {
        match self {
            Self::Refused(status) => Some(status),
            Self::Unheard(why) => {
                let why = format!("failed calling webhook {}: {why}", quote(&hook.name));
                tracing::warn!(webhook = hook.id, passes = hook.ignores_failures, why);
                (!hook.ignores_failures).then(|| Status::internal_error(why))
            }
        }
    }
}

/// What a webhook is asked about, in the form in which it wants it.
pub(crate) struct Question<'a> {
    pub(crate) attributes: &'a Attributes<'a>,
    pub(crate) form: &'a Form,
    pub(crate) object: Option<&'a Value>,
    pub(crate) old: Option<&'a Value>,
    pub(crate) is_mutating: bool,
}

impl Webhooks {
    /// What the webhook says, if it allows the request.
    pub(crate) async fn ask(&self, hook: &Hook, question: &Question<'_>) -> Result<Answer, Failure> {
        let Question { attributes, form, object, old, is_mutating } = *question;
        if attributes.dry_run && !hook.dry_runs {
            let why = format!("admission webhook {} does not support dry run", quote(&hook.name));
            return Err(Failure::Refused(Status::bad_request(why)));
        }
        let Some(version) = hook.version else {
            let why = "could not create admission objects: webhook does not accept known AdmissionReview versions \
                       (v1, v1beta1)";
            return Err(Failure::Unheard(why.to_owned()));
        };
        let endpoint = hook.endpoint.as_ref();
        let endpoint =
            endpoint.map_err(|why| Failure::Unheard(format!("could not get REST client: {why}")))?;
        let uid = self.random.uid();
        let review = review::encode(version, &uid, attributes, form, object, old);
        let review = review
            .map_err(|error| Failure::Unheard(format!("could not create admission objects: {error}")))?;
        let uncalled = |why: String| Failure::Unheard(format!("failed to call webhook: {why}"));
        let answered = {
            // An error would mean that the semaphore is closed, which it never is.
            let _turn = self.calls.acquire().await;
            endpoint.call(&review, hook.patience).await.map_err(uncalled)?
        };
        let answer =
            review::decode(&answered, version, &uid, is_mutating).map_err(|unread| match unread {
                Unread::Malformed(why) => uncalled(why),
                Unread::Invalid(why) => Failure::Unheard(format!("received invalid webhook response: {why}")),
            })?;
        for warning in &answer.warnings {
            attributes.warnings.add(warning.as_str());
        }
        match answer.allowed {
            true => Ok(answer),
            false => Err(Failure::Refused(review::refusal(&hook.name, answer.result.as_ref()))),
        }
    }
}

/// Makes of the object what a webhook's patch says. Whether that changed it.
pub(crate) fn apply(
    hook: &Hook,
    answer: &Answer,
    attributes: &Attributes<'_>,
    form: &Form,
    object: Option<&mut Value>,
    lookup: &dyn Lookup,
) -> Result<bool, Failure> {
    if answer.patch.is_empty() {
        return Ok(false);
    }
    let undecodable =
        |why: String| Failure::Unheard(format!("received undecodable patch in webhook response: {why}"));
    let patch = json::parse(&answer.patch).map_err(|error| undecodable(error.to_string()))?.tree;
    match &patch {
        Value::Null => return Ok(false),
        Value::Array(operations) if operations.is_empty() => return Ok(false),
        Value::Array(_) => {}
        _ => return Err(undecodable("a JSON patch is a list of operations".to_owned())),
    }
    let failed = |why: String| Failure::Refused(Status::internal_error(why));
    let Some(object) = object else {
        return Err(failed(format!(
            "admission webhook {} attempted to modify the object, which is not supported for this operation",
            quote(&hook.name)
        )));
    };
    if answer.patch_type != "JSONPatch" {
        return Err(Failure::Unheard(format!("unsupported patch type {}", quote(&answer.patch_type))));
    }
    let mut changed = object.clone();
    patch::json::apply(&mut changed, &patch).map_err(|error| failed(error.to_string()))?;
    if !changed.is_object() {
        return Err(failed("couldn't get version/kind: the patched object is no object".to_owned()));
    }
    lookup.conform(&form.kind, &mut changed).map_err(|status| failed(status.message))?;
    keep_managers(&mut changed, object, attributes);
    let is_changed = changed != *object;
    *object = changed;
    Ok(is_changed)
}

const MANAGERS: &str = "/metadata/managedFields";

/// A webhook that changes who manages what must know how: what cannot be read counts as not said.
fn keep_managers(changed: &mut Value, before: &Value, attributes: &Attributes<'_>) {
    let (known, given) = (before.pointer(MANAGERS), changed.pointer(MANAGERS));
    if known == given {
        return;
    }
    let Err(why) = managed::decode(given.cloned().unwrap_or_default(), false) else { return };
    attributes.warnings.add(format!(
        ".metadata.managedFields was in an invalid state after admission; this could be caused by an outdated mutating \
         admission controller; please fix your requests: {why}"
    ));
    let Some(metadata) = changed.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    match known {
        Some(known) => metadata.insert("managedFields".to_owned(), known.clone()),
        None => metadata.remove("managedFields"),
    };
}
