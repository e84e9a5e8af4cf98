//! Which requests a webhook or a policy is about: rules by operation and resource, and selectors of namespaces and objects.

use apimachinery::field::Path;
use apimachinery::gvk::{GroupResource, GroupVersionResource};
use apimachinery::meta;
use apimachinery::selector::Selector;
use apimachinery::status::Status;
use serde_json::Value;

use crate::lookup::Form;
use crate::tree::{items, text};
use crate::{Attributes, Lookup, Operation};

pub(crate) const NAMESPACES: GroupResource = GroupResource::of("", "namespaces");
/// The group of what configures admission itself.
const OWN_GROUP: &str = "admissionregistration.k8s.io";
/// Its resources: who could refuse a change of these could not be got rid of any more.
const OWN: [&str; 6] = [
    "mutatingadmissionpolicies",
    "mutatingadmissionpolicybindings",
    "mutatingwebhookconfigurations",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "validatingwebhookconfigurations",
];

/// Whether nobody but the server itself judges such a request.
pub(crate) fn is_exempt(attributes: &Attributes<'_>) -> bool {
    attributes.resource.group == OWN_GROUP && OWN.contains(&&*attributes.resource.resource)
}

/// The namespace that a request is in: for a namespace that is itself.
pub(crate) fn namespace_of<'a>(attributes: &Attributes<'a>) -> &'a str {
    if attributes.resource == &NAMESPACES { attributes.name } else { attributes.namespace }
}

/// Whether the request is about a namespace itself.
pub(crate) fn is_namespace(attributes: &Attributes<'_>) -> bool {
    attributes.resource == &NAMESPACES && attributes.subresource.is_empty()
}

/// The form that the request itself has.
pub(crate) fn own_form(attributes: &Attributes<'_>) -> Form {
    let GroupResource { group, resource } = attributes.resource.clone();
    let resource = GroupVersionResource { group, version: attributes.version.to_owned().into(), resource };
    Form { resource, kind: attributes.kind.clone() }
}

/// Which kinds of scope a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Any,
    Cluster,
    Namespaced,
}

/// One rule.
#[derive(Clone, Debug)]
struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    /// Plural and subresource.
    resources: Vec<(String, String)>,
    scope: Scope,
    /// Names of objects; none: any.
    names: Vec<String>,
}

fn texts(rule: &Value, list: &str) -> Vec<String> {
    items(rule, &[list]).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn has(wanted: &[String], given: &str) -> bool {
    wanted.iter().any(|item| item == "*" || item == given)
}

impl Rule {
    fn read(rule: &Value) -> Self {
        let split = |name: String| match name.split_once('/') {
            Some((plural, part)) => (plural.to_owned(), part.to_owned()),
            None => (name, String::new()),
        };
        Self {
            operations: texts(rule, "operations"),
            groups: texts(rule, "apiGroups"),
            versions: texts(rule, "apiVersions"),
            resources: texts(rule, "resources").into_iter().map(split).collect(),
            scope: match text(rule, &["scope"]) {
                "Cluster" => Scope::Cluster,
                "Namespaced" => Scope::Namespaced,
                _ => Scope::Any,
            },
            names: texts(rule, "resourceNames"),
        }
    }

    /// Whether the request is one of these, were its resource that one.
    fn covers(&self, attributes: &Attributes<'_>, group: &str, version: &str, plural: &str) -> bool {
        let of_cluster = attributes.namespace.is_empty()
            || (group.is_empty() && version == "v1" && plural == "namespaces");
        let in_scope = match self.scope {
            Scope::Any => true,
            Scope::Cluster => of_cluster,
            Scope::Namespaced => !of_cluster,
        };
        in_scope
            && has(&self.operations, attributes.operation.as_str())
            && has(&self.groups, group)
            && has(&self.versions, version)
            && self.names_resource(plural, attributes.subresource)
            && (self.names.is_empty() || self.names.iter().any(|name| name == attributes.name))
    }

    fn names_resource(&self, plural: &str, subresource: &str) -> bool {
        let mut resources = self.resources.iter();
        resources
            .any(|(wanted, part)| (wanted == "*" || wanted == plural) && (part == "*" || part == subresource))
    }

    /// Whether it could mean the request under another group or version: the plural is the same there.
    fn may_mean(&self, attributes: &Attributes<'_>) -> bool {
        has(&self.operations, attributes.operation.as_str())
            && self.names_resource(&attributes.resource.resource, attributes.subresource)
    }
}

/// What a webhook, a policy or a binding matches.
#[derive(Clone, Debug)]
pub(crate) struct Criteria {
    /// `None`: whatever the rest allows (a binding need not say).
    rules: Option<Vec<Rule>>,
    excluded: Vec<Rule>,
    /// Other versions of a resource count as the resource.
    equivalent: bool,
    namespaces: Result<Selector, String>,
    objects: Result<Selector, String>,
}

fn rules(owner: &Value, list: &str) -> Vec<Rule> {
    items(owner, &[list]).iter().map(Rule::read).collect()
}

pub(crate) fn selector(owner: &Value, field: &str) -> Result<Selector, String> {
    // The kinds' defaults fill these in, so what is absent means everything, not nothing.
    let Some(given) = owner.get(field).filter(|given| given.is_object()) else {
        return Ok(Selector::from_requirements(Vec::new()));
    };
    let path = Path::new(field);
    Selector::from_object(given, &path).map_err(|errors| apimachinery::field::aggregate(&errors))
}

impl Criteria {
    /// Those of a webhook.
    pub(crate) fn of_webhook(webhook: &Value) -> Self {
        Self {
            rules: Some(rules(webhook, "rules")),
            excluded: Vec::new(),
            equivalent: text(webhook, &["matchPolicy"]) != "Exact",
            namespaces: selector(webhook, "namespaceSelector"),
            objects: selector(webhook, "objectSelector"),
        }
    }

    /// Those of a policy (`matchConstraints`) or of a binding (`matchResources`).
    pub(crate) fn of_resources(resources: &Value) -> Self {
        let wanted = rules(resources, "resourceRules");
        Self {
            rules: Some(wanted).filter(|wanted| !wanted.is_empty()),
            excluded: rules(resources, "excludeResourceRules"),
            equivalent: text(resources, &["matchPolicy"]) != "Exact",
            namespaces: selector(resources, "namespaceSelector"),
            objects: selector(resources, "objectSelector"),
        }
    }

    /// In which form the request is asked for, if it is. What cannot be found out about a request that the rest does not
    /// match is no error.
    pub(crate) async fn matches(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&Value>,
        lookup: &dyn Lookup,
    ) -> Result<Option<Form>, Status> {
        if self.by_rules(&self.excluded, attributes, lookup).is_some() {
            return Ok(None);
        }
        let form = match &self.rules {
            None => Some(own_form(attributes)),
            Some(rules) => self.by_rules(rules, attributes, lookup),
        };
        let Some(form) = form else { return Ok(None) };
        let objects = self.objects.as_ref().map_err(Status::internal_error)?;
        let wanted = is_selected(objects, attributes, object)
            && self.wants_namespace(attributes, object, lookup).await?;
        Ok(wanted.then_some(form))
    }

    /// The form in which one of the rules means the request: its own, else the first that serves the same objects.
    fn by_rules(&self, rules: &[Rule], attributes: &Attributes<'_>, lookup: &dyn Lookup) -> Option<Form> {
        if rules.is_empty() {
            return None;
        }
        let GroupResource { group, resource } = attributes.resource;
        if rules.iter().any(|rule| rule.covers(attributes, group, attributes.version, resource)) {
            return Some(own_form(attributes));
        }
        if !self.equivalent || !rules.iter().any(|rule| rule.may_mean(attributes)) {
            return None;
        }
        let others = lookup.equivalents(attributes.resource, attributes.version, attributes.subresource);
        rules.iter().find_map(|rule| {
            let mut meant = others.iter().filter(|form| {
                let GroupVersionResource { group, version, resource } = &form.resource;
                rule.covers(attributes, group, version, resource)
            });
            meant.next().cloned()
        })
    }

    async fn wants_namespace(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&Value>,
        lookup: &dyn Lookup,
    ) -> Result<bool, Status> {
        let namespace = namespace_of(attributes);
        let of_namespaces = attributes.resource == &NAMESPACES;
        if namespace.is_empty() && !of_namespaces {
            return Ok(true);
        }
        let selector = self.namespaces.as_ref().map_err(Status::internal_error)?;
        if selector.is_empty() {
            return Ok(true);
        }
        let is_itself = attributes.is("", "namespaces")
            && matches!(attributes.operation, Operation::Create | Operation::Update);
        if is_itself {
            // It may not be there yet, and is about to change.
            return Ok(selector.matches(object.and_then(meta::labels)));
        }
        match lookup.namespace(namespace).await? {
            Some(found) => Ok(selector.matches(meta::labels(&found))),
            None => Err(Status::not_found(&NAMESPACES, namespace)),
        }
    }
}

/// Whether the selector holds for the object, or for what it was. Options of a stream have no labels at all.
fn is_selected(selector: &Selector, attributes: &Attributes<'_>, object: Option<&Value>) -> bool {
    if selector.is_empty() {
        return true;
    }
    let object = object.filter(|_| attributes.operation != Operation::Connect);
    object.into_iter().chain(attributes.old).any(|object| selector.matches(meta::labels(object)))
}
