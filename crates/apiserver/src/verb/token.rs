//! `serviceaccounts/NAME/token`: a token for somebody who may ask for one.

use api::k8s::api::authentication::v1::{BoundObjectReference, TokenRequestSpec};
use apimachinery::field::{FieldError, Path};
use apimachinery::gvk::{GroupResource, GroupVersionKind};
use apimachinery::status::Status;
use auth::service_account::{Bound, Claims, Named, user_name};
use http::StatusCode;
use jiff::Timestamp;
use registry::{Attributes, Operation, Part};
use serde_json::{Value, json};

use super::On;
use crate::respond::{self, Answer};

const TOKEN_REQUEST: GroupVersionKind = GroupVersionKind::of("authentication.k8s.io", "v1", "TokenRequest");
/// Bounds and default of a token's life, in seconds: upstream's.
const DEFAULT_LIFE: i64 = 60 * 60;
const MIN_LIFE: i64 = 10 * 60;
const MAX_LIFE: i64 = 1 << 32;
/// The most that is given, whatever is asked: keys verify no longer than so.
const GIVEN_LIFE: i64 = 365 * 24 * 60 * 60;

/// Issues a token.
pub(super) async fn create(on: On<'_>) -> Answer {
    let (context, mut request) = on.write("CreateOptions")?;
    registry::decode_sent(&context, &TOKEN_REQUEST, &mut request)?;
    fill(&mut request, &on)?;
    let attributes = Attributes {
        operation: Operation::Create,
        kind: &on.kind,
        subresource: "token",
        namespace: on.namespace,
        name: on.name,
        old: None,
        dry_run: context.dry_run,
        warnings: &context.warnings,
    };
    context.admission.mutate(attributes, &mut request).await?;
    let spec = spec_of(&request)?;
    validate(&spec, on.name)?;
    context.admission.validate(attributes, Some(&request)).await?;
    let accounts = on.server.authenticators.accounts()?;
    let audiences = spec.audiences.clone().filter(|audiences| !audiences.is_empty());
    let audiences = audiences.unwrap_or_else(|| accounts.audiences().to_vec());

    let now = on.call.now;
    let asked = spec.expiration_seconds.unwrap_or(DEFAULT_LIFE);
    let life = asked.min(GIVEN_LIFE);
    if life < asked {
        context.warnings.add(format!("requested expiration of {asked} seconds shortened to {life} seconds"));
    }
    let claims = Claims {
        aud: audiences.clone(),
        exp: now.as_second() + life,
        iat: now.as_second(),
        iss: String::new(),
        jti: String::new(),
        nbf: now.as_second(),
        sub: user_name(on.namespace, on.name),
        bound: bound(&on, spec.bound_object_ref.as_ref()).await?,
    };
    let expires = Timestamp::from_second(claims.exp).map_err(Status::internal_error)?;
    let token = match context.dry_run {
        true => String::new(),
        false => accounts.issue(claims)?,
    };
    request["spec"]["expirationSeconds"] = life.into();
    request["spec"]["audiences"] = audiences.into();
    request["status"] = json!({"token": token, "expirationTimestamp": apimachinery::time::format(expires)});
    respond::tree(StatusCode::CREATED, on.form.syntax, &request)
}

/// What the request leaves out.
fn fill(request: &mut Value, on: &On<'_>) -> Result<(), Status> {
    for (field, own) in [("name", on.name), ("namespace", on.namespace)] {
        match request["metadata"][field].as_str().unwrap_or_default() {
            "" => request["metadata"][field] = own.into(),
            given if given == own => {}
            given => {
                return Err(Status::bad_request(format!(
                    "the {field} of the provided object ({given}) does not match the {field} on the request ({own})"
                )));
            }
        }
    }
    if !request["spec"].is_object() {
        request["spec"] = json!({});
    }
    let spec = &mut request["spec"];
    if spec["expirationSeconds"].is_null() {
        spec["expirationSeconds"] = DEFAULT_LIFE.into();
    }
    Ok(())
}

fn spec_of(request: &Value) -> Result<TokenRequestSpec, Status> {
    serde_json::from_value(request["spec"].clone()).map_err(|error| Status::bad_request(error.to_string()))
}

fn validate(spec: &TokenRequestSpec, name: &str) -> Result<(), Status> {
    let life = spec.expiration_seconds.unwrap_or(DEFAULT_LIFE);
    let why = match life {
        life if life < MIN_LIFE => "may not specify a duration less than 10 minutes",
        life if life > MAX_LIFE => "may not specify a duration larger than 2^32 seconds",
        _ => return Ok(()),
    };
    let path = Path::new("spec");
    let error = FieldError::invalid(&path.child("expirationSeconds"), life, why);
    Err(Status::invalid(&TOKEN_REQUEST.group_kind(), name, vec![error]))
}

/// The objects that the token ends with.
async fn bound(on: &On<'_>, reference: Option<&BoundObjectReference>) -> Result<Bound, Status> {
    let account = object(on, "serviceaccounts", on.namespace, on.name).await?;
    let namespace = on.namespace.to_owned();
    let mut bound = Bound { namespace, account: named(&account), ..Bound::default() };
    let Some(reference) = reference else { return Ok(bound) };
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let (version, kind, name) = (text(&reference.api_version), text(&reference.kind), text(&reference.name));
    let found = match (version.as_str(), kind.as_str()) {
        ("v1", "Pod") => object(on, "pods", on.namespace, &name).await?,
        ("v1", "Secret") => object(on, "secrets", on.namespace, &name).await?,
        ("v1", "Node") => object(on, "nodes", "", &name).await?,
        _ => {
            let (group, version) = version.split_once('/').unwrap_or(("", &version));
            let why = format!("cannot bind token to object of type {group}/{version}, Kind={kind}");
            return Err(Status::bad_request(why));
        }
    };
    let one = named(&found);
    let wanted = text(&reference.uid);
    if !wanted.is_empty() && wanted != one.uid {
        let why = format!(
            "the UID in the bound object reference ({wanted}) does not match the UID in record ({}). The object might have been deleted and then recreated",
            one.uid
        );
        return Err(Status::conflict(&GroupResource::new(String::new(), kind), &name, why));
    }
    match kind.as_str() {
        "Pod" => {
            let runs_as = found["spec"]["serviceAccountName"].as_str().unwrap_or_default();
            if runs_as != on.name {
                return Err(Status::bad_request(format!(
                    "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                    on.name
                )));
            }
            if let Some(node) = found["spec"]["nodeName"].as_str().filter(|node| !node.is_empty()) {
                let uid = match object(on, "nodes", "", node).await {
                    Ok(node) => named(&node).uid,
                    // It may come later than its pods, or be gone before them.
                    Err(status) if status.is_not_found() => String::new(),
                    Err(status) => return Err(status),
                };
                bound.node = Some(Named { name: node.to_owned(), uid });
            }
            bound.pod = Some(one);
        }
        "Secret" => bound.secret = Some(one),
        _ => bound.node = Some(one),
    }
    Ok(bound)
}

async fn object(on: &On<'_>, plural: &str, namespace: &str, name: &str) -> Result<Value, Status> {
    let kinds = on.server.registry.kinds();
    let kind = kinds.lookup("", "v1", plural).ok_or_else(Status::no_such_path)?;
    let object = on.server.registry.get(kind, namespace, name, Part::Whole).await?;
    Ok(object.tree())
}

fn named(object: &Value) -> Named {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    Named { name: text("name"), uid: text("uid") }
}
