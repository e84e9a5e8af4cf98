//! Which objects of a resource a list or a watch means.

use apimachinery::selector::{FieldSelector, Selector};
use apimachinery::status::Status;

use crate::Kind;
use crate::cache::Item;

/// A namespace, a label selector and a field selector, resolved against a resource's selectable fields.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    /// `namespace/`, or empty for everything.
    prefix: String,
    labels: Option<Selector>,
    fields: Vec<(Selected, bool, String)>,
}

/// A selectable field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Selected {
    Name,
    Namespace,
    /// Index into what was extracted from the object.
    Own(usize),
}

impl Selection {
    pub(crate) fn new(kind: &Kind, namespace: &str, labels: &str, fields: &str) -> Result<Self, Status> {
        let labels = match labels {
            "" => None,
            text => Some(Selector::parse(text).map_err(|error| Status::bad_request(error.to_string()))?),
        };
        let parsed = FieldSelector::parse(fields).map_err(|error| Status::bad_request(error.to_string()))?;
        let mut fields = Vec::new();
        for requirement in parsed.requirements {
            let selected = Self::resolve(kind, &requirement.field)?;
            fields.push((selected, requirement.equal, requirement.value));
        }
        let prefix =
            if kind.namespaced && !namespace.is_empty() { format!("{namespace}/") } else { String::new() };
        Ok(Self { prefix, labels, fields })
    }

    fn resolve(kind: &Kind, field: &str) -> Result<Selected, Status> {
        match field {
            "metadata.name" => return Ok(Selected::Name),
            "metadata.namespace" => return Ok(Selected::Namespace),
            _ => {}
        }
        let own = kind.resource.fields.iter();
        let at = own
            .enumerate()
            .find(|(_, each)| each.name == field || each.aliases.iter().any(|name| name == field));
        at.map(|(index, _)| Selected::Own(index))
            .ok_or_else(|| Status::bad_request(format!("field label not supported: {field}")))
    }

    /// What the keys of all its objects start with.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Whether it means everything in its namespace.
    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_none() && self.fields.is_empty()
    }

    /// The one name that can match, if there is such: a look-up then does instead of a walk.
    pub(crate) fn single_name(&self) -> Option<&str> {
        let name = self.fields.iter().find(|(field, equals, _)| *field == Selected::Name && *equals);
        name.map(|(_, _, value)| value.as_str())
    }

    pub(crate) fn matches(&self, item: &Item) -> bool {
        if !item.key.starts_with(&self.prefix) {
            return false;
        }
        let fields = self.fields.iter().all(|(field, equals, value)| {
            let (namespace, name) = item.names();
            let found = match field {
                Selected::Name => name,
                Selected::Namespace => namespace,
                Selected::Own(index) => item.extract.fields.get(*index).map_or("", |found| found),
            };
            (found == value) == *equals
        });
        fields && self.labels.as_ref().is_none_or(|labels| labels.matches_with(|key| item.extract.label(key)))
    }
}
