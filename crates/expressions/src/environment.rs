//! What expressions may speak of.

use std::sync::LazyLock;

use cel::{DeclType, Env};

/// Which of the variables are there that are not always.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Speaks {
    /// `params`: where there are parameters.
    pub(crate) params: bool,
    /// `authorizer`: but for messages.
    pub(crate) authorizer: bool,
}

fn named(fields: &[(&str, DeclType)]) -> Vec<(String, DeclType)> {
    fields.iter().map(|(name, decl)| ((*name).to_owned(), decl.clone())).collect()
}

fn text() -> DeclType {
    DeclType::string(None)
}

/// `request`: an AdmissionRequest without uid and objects.
pub(crate) static REQUEST: LazyLock<DeclType> = LazyLock::new(|| {
    let kind = DeclType::plain_object(
        "kubernetes.GroupVersionKind",
        named(&[("group", text()), ("version", text()), ("kind", text())]),
    );
    let resource = DeclType::plain_object(
        "kubernetes.GroupVersionResource",
        named(&[("group", text()), ("version", text()), ("resource", text())]),
    );
    let texts = || DeclType::list(text(), None);
    let user = DeclType::plain_object(
        "kubernetes.UserInfo",
        named(&[
            ("username", text()),
            ("uid", text()),
            ("groups", texts()),
            ("extra", DeclType::map(texts(), None)),
        ]),
    );
    DeclType::plain_object(
        "kubernetes.AdmissionRequest",
        named(&[
            ("kind", kind.clone()),
            ("resource", resource.clone()),
            ("subResource", text()),
            ("requestKind", kind),
            ("requestResource", resource),
            ("requestSubResource", text()),
            ("name", text()),
            ("namespace", text()),
            ("operation", text()),
            ("userInfo", user),
            ("dryRun", DeclType::bool()),
            ("options", DeclType::dynamic()),
        ]),
    )
});

/// `namespaceObject`: what is shown of a Namespace.
pub(crate) static NAMESPACE: LazyLock<DeclType> = LazyLock::new(|| {
    let texts = || DeclType::list(text(), None);
    let labels = || DeclType::map(text(), None);
    let condition = DeclType::plain_object(
        "kubernetes.NamespaceCondition",
        named(&[
            ("status", text()),
            ("type", text()),
            ("lastTransitionTime", DeclType::timestamp()),
            ("message", text()),
            ("reason", text()),
        ]),
    );
    let metadata = DeclType::plain_object(
        "kubernetes.NamespaceMetadata",
        named(&[
            ("name", text()),
            ("generateName", text()),
            ("namespace", text()),
            ("labels", labels()),
            ("annotations", labels()),
            ("UID", text()),
            ("creationTimestamp", DeclType::timestamp()),
            ("deletionGracePeriodSeconds", DeclType::int()),
            ("deletionTimestamp", DeclType::timestamp()),
            ("generation", DeclType::int()),
            ("resourceVersion", text()),
            ("finalizers", texts()),
        ]),
    );
    let spec = DeclType::plain_object("kubernetes.NamespaceSpec", named(&[("finalizers", texts())]));
    let status = DeclType::plain_object(
        "kubernetes.NamespaceStatus",
        named(&[("conditions", DeclType::list(condition, None)), ("phase", text())]),
    );
    DeclType::plain_object(
        "kubernetes.Namespace",
        named(&[("metadata", metadata), ("spec", spec), ("status", status)]),
    )
    .nullable()
});

/// The environment of expressions that speak of these, about whatever objects.
pub(crate) fn env(speaks: Speaks) -> Env {
    let params = speaks.params.then(DeclType::dynamic);
    of_objects(&DeclType::dynamic(), params, speaks.authorizer)
}

/// The environment of expressions about objects that are declared so.
pub(crate) fn of_objects(object: &DeclType, params: Option<DeclType>, authorizer: bool) -> Env {
    let mut env = Env::new()
        .with_variable("object", object.clone())
        .with_variable("oldObject", object.clone())
        .with_variable("namespaceObject", NAMESPACE.clone())
        .with_variable("request", REQUEST.clone());
    if let Some(params) = params {
        env = env.with_variable("params", params);
    }
    if authorizer {
        env = env
            .with_variable("authorizer", DeclType::authorizer())
            .with_variable("authorizer.requestResource", DeclType::resource_check());
    }
    env
}
