//! The index must say what a walk over every binding and every rule says.

use auth::rbac::{Binding, Named, Objects, Policy, PolicyRule, Role, RoleRef, Subject, uncovered};
use auth::{Attributes, Authorizer, Resource, Target, UserInfo};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

const NAMESPACES: [&str; 2] = ["red", "blue"];
const ROLES: [&str; 3] = ["r1", "r2", "absent"];

fn words(from: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    subsequence(from, 0..=from.len().min(3)).prop_map(|list| list.into_iter().map(str::to_owned).collect())
}

fn rule() -> impl Strategy<Value = PolicyRule> {
    let urls = words(&["/a", "/a/*", "/b*", "*"]);
    let resources = words(&["pods", "pods/log", "*/log", "secrets", "*"]);
    (
        words(&["get", "list", "*"]),
        words(&["", "apps", "*"]),
        resources,
        words(&["x", "y"]),
        urls,
        any::<bool>(),
    )
        .prop_map(|(verbs, api_groups, resources, resource_names, non_resource_urls, path)| {
            if path {
                PolicyRule { verbs, non_resource_urls, ..PolicyRule::default() }
            } else {
                PolicyRule { verbs, api_groups, resources, resource_names, ..PolicyRule::default() }
            }
        })
}

fn role(namespace: &'static str) -> impl Strategy<Value = Role> {
    (select(&ROLES[..2]), prop::collection::vec(rule(), 0..3)).prop_map(move |(name, rules)| Role {
        metadata: Named { name: name.to_owned(), namespace: namespace.to_owned() },
        rules,
    })
}

fn subject() -> impl Strategy<Value = Subject> {
    let kind = select(&["User", "Group", "ServiceAccount", "Robot"][..]);
    (kind, select(&["ann", "bob", "dev"][..]), select(&["", "red", "blue"][..])).prop_map(
        |(kind, name, namespace)| Subject {
            kind: kind.to_owned(),
            name: name.to_owned(),
            namespace: namespace.to_owned(),
        },
    )
}

fn binding(namespace: &'static str) -> impl Strategy<Value = Binding> {
    let kind = if namespace.is_empty() { &["ClusterRole"][..] } else { &["ClusterRole", "Role"][..] };
    (select(kind), select(&ROLES[..]), prop::collection::vec(subject(), 0..3)).prop_map(
        move |(kind, role, subjects)| Binding {
            metadata: Named { name: "b".to_owned(), namespace: namespace.to_owned() },
            subjects,
            role_ref: RoleRef { kind: kind.to_owned(), name: role.to_owned() },
        },
    )
}

fn objects() -> impl Strategy<Value = Objects> {
    use prop::collection::vec;
    let roles = (vec(role("red"), 0..3), vec(role("blue"), 0..3));
    let bindings = (vec(binding("red"), 0..3), vec(binding("blue"), 0..3), vec(binding(""), 0..3));
    (roles, vec(role(""), 0..3), bindings).prop_map(
        |((red, blue), cluster_roles, (in_red, in_blue, everywhere))| {
            // A name is taken once in the store: the last writer's.
            let once = |roles: Vec<Role>| {
                let mut by_name = std::collections::BTreeMap::new();
                for role in roles {
                    by_name.insert((role.metadata.namespace.clone(), role.metadata.name.clone()), role);
                }
                by_name.into_values().collect::<Vec<_>>()
            };
            Objects {
                roles: once([red, blue].concat()),
                cluster_roles: once(cluster_roles),
                role_bindings: [in_red, in_blue].concat(),
                cluster_role_bindings: everywhere,
            }
        },
    )
}

#[derive(Debug, Clone)]
struct Asked {
    user: UserInfo,
    verb: &'static str,
    path: Option<&'static str>,
    resource: Resource<'static>,
}

fn asked() -> impl Strategy<Value = Asked> {
    let name = select(&["ann", "bob", "system:serviceaccount:red:dev", "system:serviceaccount:blue:ann"][..]);
    let path = prop::option::of(select(&["/a", "/a/b", "/bc", "/"][..]));
    let resource = (
        select(&["", "apps", "batch"][..]),
        select(&["pods", "secrets"][..]),
        select(&["", "log", "status"][..]),
        select(&["", "red", "blue"][..]),
        select(&["", "x", "z"][..]),
    );
    (name, words(&["dev", "ann"]), select(&["get", "list", "create"][..]), path, resource).prop_map(
        |(name, groups, verb, path, (group, resource, subresource, namespace, name_of))| Asked {
            user: UserInfo { name: name.to_owned(), groups, ..UserInfo::default() },
            verb,
            path,
            resource: Resource {
                group,
                version: "v1",
                resource,
                subresource,
                namespace,
                name: name_of,
                field_selector: "",
            },
        },
    )
}

impl Asked {
    fn attributes(&self) -> Attributes<'_> {
        let target = self.path.map_or(Target::Resource(self.resource), Target::Path);
        Attributes { user: &self.user, verb: self.verb, target }
    }
}

/// The documentation of RBAC, word by word.
fn naive(objects: &Objects, asked: &Asked) -> bool {
    let namespace = if asked.path.is_some() { "" } else { asked.resource.namespace };
    let bindings = objects.cluster_role_bindings.iter().chain(
        objects
            .role_bindings
            .iter()
            .filter(|binding| NAMESPACES.contains(&namespace) && binding.metadata.namespace == namespace),
    );
    bindings.filter(|binding| binding.subjects.iter().any(|subject| is_meant(subject, binding, asked))).any(
        |binding| {
            let roles = if binding.role_ref.kind == "Role" { &objects.roles } else { &objects.cluster_roles };
            roles
                .iter()
                .filter(|role| {
                    role.metadata.name == binding.role_ref.name
                        && (binding.role_ref.kind != "Role"
                            || role.metadata.namespace == binding.metadata.namespace)
                })
                .flat_map(|role| &role.rules)
                .any(|rule| allows(rule, asked))
        },
    )
}

fn is_meant(subject: &Subject, binding: &Binding, asked: &Asked) -> bool {
    match subject.kind.as_str() {
        "User" => subject.name == asked.user.name,
        "Group" => asked.user.groups.contains(&subject.name),
        "ServiceAccount" => {
            let own = &binding.metadata.namespace;
            let namespace = if subject.namespace.is_empty() { own } else { &subject.namespace };
            !namespace.is_empty()
                && asked.user.name == format!("system:serviceaccount:{namespace}:{}", subject.name)
        }
        _ => false,
    }
}

fn allows(rule: &PolicyRule, asked: &Asked) -> bool {
    let holds =
        |list: &[String], word: &str| list.contains(&"*".to_owned()) || list.contains(&word.to_owned());
    let wanted = &asked.resource;
    if !holds(&rule.verbs, asked.verb) {
        return false;
    }
    if let Some(path) = asked.path {
        return rule.non_resource_urls.iter().any(|url| match url.strip_suffix('*') {
            Some(prefix) => path.starts_with(prefix),
            None => path == url,
        });
    }
    let combined = if wanted.subresource.is_empty() {
        vec![wanted.resource.to_owned()]
    } else {
        vec![format!("{}/{}", wanted.resource, wanted.subresource), format!("*/{}", wanted.subresource)]
    };
    holds(&rule.api_groups, wanted.group)
        && rule.resources.iter().any(|resource| resource == "*" || combined.contains(resource))
        && (rule.resource_names.is_empty() || rule.resource_names.iter().any(|name| name == wanted.name))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases * 8, ..ProptestConfig::default() })]

    #[test]
    fn the_index_agrees_with_a_walk_over_everything(objects in objects(), asked in asked()) {
        let expected = naive(&objects, &asked);
        let policy = Policy::new(objects);
        prop_assert_eq!(policy.authorize(&asked.attributes()).is_allowed(), expected);
        // And so do the rules that a user is told of.
        let namespace = if asked.path.is_some() { "" } else { asked.resource.namespace };
        let (rules, _) = policy.rules_for(&asked.user, namespace);
        prop_assert_eq!(rules.iter().any(|rule| rule.allows(&asked.attributes())), expected);
    }

    #[test]
    fn whatever_covered_rules_allow_the_covering_rules_allow(
        held in prop::collection::vec(rule(), 0..4),
        wanted in rule(),
        asked in asked(),
    ) {
        let missing = uncovered(&held, std::slice::from_ref(&wanted));
        let allowed = |rules: &[PolicyRule]| rules.iter().any(|rule| rule.allows(&asked.attributes()));
        if wanted.allows(&asked.attributes()) {
            prop_assert!(allowed(&held) || allowed(&missing));
        }
    }
}
