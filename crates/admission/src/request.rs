//! A request as it is told of: upstream's `AdmissionRequest`.

use apimachinery::gvk::{GroupVersionKind, GroupVersionResource};
use auth::UserInfo;
use serde::Serialize;
use serde_json::Value;

use crate::Attributes;
use crate::lookup::Form;
use crate::matching::{namespace_of, own_form};

#[derive(Serialize)]
pub(crate) struct Kind<'a> {
    group: &'a str,
    version: &'a str,
    kind: &'a str,
}

impl<'a> From<&'a GroupVersionKind> for Kind<'a> {
    fn from(kind: &'a GroupVersionKind) -> Self {
        Self { group: &kind.group, version: &kind.version, kind: &kind.kind }
    }
}

#[derive(Serialize)]
pub(crate) struct Resource<'a> {
    group: &'a str,
    version: &'a str,
    resource: &'a str,
}

impl<'a> From<&'a GroupVersionResource> for Resource<'a> {
    fn from(resource: &'a GroupVersionResource) -> Self {
        Self { group: &resource.group, version: &resource.version, resource: &resource.resource }
    }
}

/// What a webhook is sent of a request.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Request<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) uid: Option<&'a str>,
    kind: Kind<'a>,
    resource: Resource<'a>,
    #[serde(skip_serializing_if = "str::is_empty")]
    sub_resource: &'a str,
    request_kind: Kind<'a>,
    request_resource: Resource<'a>,
    #[serde(skip_serializing_if = "str::is_empty")]
    request_sub_resource: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    namespace: &'a str,
    operation: &'static str,
    user_info: &'a UserInfo,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) object: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) old_object: Option<&'a Value>,
    dry_run: bool,
    options: Value,
}

impl<'a> Request<'a> {
    /// The request as it is asked about in that form; `own` is its own. Without uid and objects.
    pub(crate) fn of(attributes: &Attributes<'a>, form: &'a Form, own: &'a Form) -> Self {
        Self {
            uid: None,
            kind: (&form.kind).into(),
            resource: (&form.resource).into(),
            sub_resource: attributes.subresource,
            request_kind: (&own.kind).into(),
            request_resource: (&own.resource).into(),
            request_sub_resource: attributes.subresource,
            name: attributes.name,
            namespace: namespace_of(attributes),
            operation: attributes.operation.as_str(),
            user_info: attributes.user,
            object: None,
            old_object: None,
            dry_run: attributes.dry_run,
            options: attributes.options.object(attributes.operation),
        }
    }
}

/// The variable `request` of expressions: without uid and objects, which have variables of their own.
///
/// # Errors
/// Never for what was read from JSON.
pub(crate) fn describe(attributes: &Attributes<'_>, form: &Form) -> Result<Value, serde_json::Error> {
    serde_json::to_value(Request::of(attributes, form, &own_form(attributes)))
}
