//! The parameters of a policy: objects that a binding names.

use apimachinery::gvk::GroupVersionKind;
use apimachinery::meta;
use serde_json::Value;

use super::table::ParamRef;
use crate::Lookup;
use crate::lookup::{Form, Place};

/// Every object with which the policy is evaluated; `None` among them: once without any.
///
/// # Errors
/// What is wrong with the binding, in upstream's words.
pub(super) async fn collect(
    kind: Option<&GroupVersionKind>,
    reference: Option<&ParamRef>,
    namespace: &str,
    lookup: &dyn Lookup,
) -> Result<Vec<Option<Value>>, String> {
    let (Some(kind), Some(reference)) = (kind, reference) else { return Ok(vec![None]) };
    let place = lookup.place_of(kind);
    let Place { form, namespaced } =
        place.ok_or_else(|| format!("failed to find resource referenced by paramKind: '{kind}'"))?;
    let within = match (namespaced, reference.namespace.as_str()) {
        (true, "") if namespace.is_empty() => {
            let why =
                "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources";
            return Err(why.to_owned());
        }
        (true, "") => namespace,
        (true, named) => named,
        (false, "") => "",
        (false, _) => {
            return Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".to_owned());
        }
    };
    let found = find(reference, &form, within, lookup).await?;
    if found.is_empty() && reference.denies_without {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".to_owned());
    }
    let mut params = Vec::with_capacity(found.len());
    for object in found {
        params.push(Some(lookup.convert(object, &form).await.map_err(|status| status.message)?));
    }
    Ok(params)
}

async fn find(
    reference: &ParamRef,
    form: &Form,
    namespace: &str,
    lookup: &dyn Lookup,
) -> Result<Vec<Value>, String> {
    let resource = form.group_resource();
    if !reference.name.is_empty() {
        let found = lookup.get(&resource, namespace, &reference.name).await;
        return found.map(|found| found.into_iter().collect()).map_err(|status| status.message);
    }
    let Some(selector) = &reference.selector else {
        return Err("one of name or selector must be provided".to_owned());
    };
    let selector = selector.as_ref().map_err(Clone::clone)?;
    let mut all = lookup.known(&resource, namespace).await.map_err(|status| status.message)?;
    all.retain(|object| selector.matches(meta::labels(object)));
    Ok(all)
}
