//! The form of the tables: constant data, a line a rule.

/// A Role or ClusterRole.
pub(super) struct RoleSpec {
    pub(super) name: &'static str,
    /// Which of the user-facing roles it becomes part of.
    pub(super) part_of: &'static [&'static str],
    /// Whether its rules are those of the roles that are part of it.
    pub(super) aggregated: bool,
    pub(super) rules: &'static [RuleSpec],
}

/// One rule.
pub(super) struct RuleSpec {
    pub(super) verbs: &'static [&'static str],
    pub(super) groups: &'static [&'static str],
    pub(super) resources: &'static [&'static str],
    pub(super) names: &'static [&'static str],
    pub(super) urls: &'static [&'static str],
}

/// A binding; the role is a Role when it is in the table of Roles and a ClusterRole otherwise.
pub(super) struct BindingSpec<'a> {
    pub(super) name: &'static str,
    pub(super) role: &'static str,
    pub(super) subjects: &'a [Who],
}

/// Whom a binding grants to.
pub(super) enum Who {
    User(&'static str),
    Group(&'static str),
    /// Namespace and name.
    ServiceAccount(&'static str, &'static str),
}

pub(super) const READ: &[&str] = &["get", "list", "watch"];
pub(super) const LIST_WATCH: &[&str] = &["list", "watch"];
pub(super) const WRITE: &[&str] = &["create", "delete", "deletecollection", "patch", "update"];
pub(super) const READ_WRITE: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
pub(super) const CORE: &[&str] = &[""];
pub(super) const EVENTS: RuleSpec = rule(&["create", "patch", "update"], &["", "events.k8s.io"], &["events"]);

pub(super) const fn role(name: &'static str, rules: &'static [RuleSpec]) -> RoleSpec {
    RoleSpec { name, part_of: &[], aggregated: false, rules }
}

pub(super) const fn rule(
    verbs: &'static [&'static str],
    groups: &'static [&'static str],
    resources: &'static [&'static str],
) -> RuleSpec {
    named(verbs, groups, resources, &[])
}

pub(super) const fn named(
    verbs: &'static [&'static str],
    groups: &'static [&'static str],
    resources: &'static [&'static str],
    names: &'static [&'static str],
) -> RuleSpec {
    RuleSpec { verbs, groups, resources, names, urls: &[] }
}

pub(super) const fn get(urls: &'static [&'static str]) -> RuleSpec {
    RuleSpec { verbs: &["get"], groups: &[], resources: &[], names: &[], urls }
}
