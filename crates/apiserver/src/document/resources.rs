//! What is served under a group version, in the order in which discovery shows it.

use registry::{Kind, Kinds, Subresource};

use crate::review::{REVIEWS, Review};
use crate::verb::component_status;

/// A resource: one that is stored, or a review, which is only answered.
pub(super) struct Served<'a> {
    pub(super) group: &'a str,
    pub(super) version: &'a str,
    pub(super) kind: &'a str,
    pub(super) plural: &'a str,
    pub(super) singular: String,
    pub(super) namespaced: bool,
    pub(super) verbs: &'a [&'a str],
    /// `shortNames` and `categories`.
    pub(super) lists: [(&'static str, &'a [String]); 2],
    pub(super) subresources: &'a [Subresource],
    /// Group and version of its objects in the store, if they are kept.
    pub(super) stored_in: Option<(&'a str, &'a str)>,
}

/// All resources of a group version.
pub(super) fn in_version<'a>(
    kinds: &'a Kinds,
    group: &'a str,
    version: &'a str,
) -> impl Iterator<Item = Served<'a>> {
    let reviews = REVIEWS.iter().filter(move |review| review.group == group && review.version == version);
    kinds.in_version(group, version).map(|kind| stored(kinds, kind)).chain(reviews.map(answered))
}

fn stored<'a>(kinds: &'a Kinds, kind: &'a Kind) -> Served<'a> {
    // The one kind that is stored under another group.
    let group = if kind.group == "events.k8s.io" { "" } else { kind.group.as_str() };
    let stored = kinds.versions_of(group, &kind.plural).iter().find(|version| version.storage);
    Served {
        group: &kind.group,
        version: &kind.version,
        kind: &kind.kind,
        plural: &kind.plural,
        singular: kind.singular.clone(),
        namespaced: kind.namespaced,
        verbs: kind.verbs,
        lists: [("shortNames", &kind.short_names), ("categories", &kind.categories)],
        subresources: &kind.subresources,
        stored_in: (!component_status::is(kind))
            .then(|| (group, stored.map_or(kind.version.as_str(), |stored| &stored.version))),
    }
}

fn answered(review: &Review) -> Served<'_> {
    Served {
        group: review.group,
        version: review.version,
        kind: review.kind,
        plural: review.plural,
        singular: review.kind.to_lowercase(),
        namespaced: review.namespaced,
        verbs: &["create"],
        lists: [("shortNames", &[]), ("categories", &[])],
        subresources: &[],
        stored_in: None,
    }
}
