//! A resource: where the objects of a kind are stored, whatever version they are read in.

use apimachinery::excerpt::Excerpt;
use apimachinery::gvk::{GroupKind, GroupResource};
use bytes::Bytes;
use store::Entry;

use crate::Limits;
use crate::cache::{Field, Hub, Item, ROOT};

/// Where in the store the objects lie that are to be kept secret at rest: Secrets.
pub fn secret_prefixes() -> Vec<Bytes> {
    vec![format!("{ROOT}{}/", path(&GroupResource::of("", "secrets"))).into()]
}

/// What is stored under a key, as `apps/deployments` or `core/pods`; also of a key's beginning, if that says it.
pub fn stored_kind(key: &[u8]) -> Option<&str> {
    let rest = std::str::from_utf8(key.strip_prefix(ROOT.as_bytes())?).ok()?;
    let group_end = rest.find('/')?;
    let plural_end = group_end + 1 + rest.get(group_end + 1..)?.find('/')?;
    rest.get(..plural_end)
}

/// The group and the plural of that.
pub fn group_and_plural(stored_kind: &str) -> (&str, &str) {
    let (group, plural) = stored_kind.split_once('/').unwrap_or(("", stored_kind));
    (if group == CORE { "" } else { group }, plural)
}

/// The group without a name.
const CORE: &str = "core";

fn path(name: &GroupResource) -> String {
    let group = if name.group.is_empty() { CORE } else { &name.group };
    format!("{group}/{}", name.resource)
}

/// Storage and cache of one group's plural.
pub(crate) struct Resource {
    /// `apps/deployments` (`core/pods`): how the feed finds it.
    pub(crate) path: String,
    /// `/registry/apps/deployments/`.
    pub(crate) prefix: String,
    pub(crate) name: GroupResource,
    pub(crate) kind: GroupKind,
    pub(crate) namespaced: bool,
    pub(crate) fields: Vec<Field>,
    /// What of an object is in its [`Extract`](crate::cache::Extract).
    extracted: Excerpt,
    pub(crate) hub: Hub,
}

impl Resource {
    pub(crate) fn new(
        name: GroupResource,
        kind: &str,
        namespaced: bool,
        fields: Vec<Field>,
        limits: Limits,
    ) -> Self {
        let path = path(&name);
        Self {
            prefix: format!("{ROOT}{path}/"),
            path,
            kind: GroupKind::new(name.group.clone(), kind.to_owned()),
            namespaced,
            extracted: Item::extracted(&fields),
            fields,
            hub: Hub::new(limits),
            name,
        }
    }

    /// The cache's key of an object.
    pub(crate) fn key(&self, namespace: &str, name: &str) -> String {
        if self.namespaced { format!("{namespace}/{name}") } else { name.to_owned() }
    }

    /// The store's key of an object.
    pub(crate) fn store_key(&self, namespace: &str, name: &str) -> Bytes {
        let mut key = String::with_capacity(self.prefix.len() + namespace.len() + name.len() + 1);
        key.push_str(&self.prefix);
        if self.namespaced {
            key.push_str(namespace);
            key.push('/');
        }
        key.push_str(name);
        key.into()
    }

    /// The cache's key within a store's key.
    pub(crate) fn short_key<'a>(&self, key: &'a [u8]) -> Option<&'a str> {
        std::str::from_utf8(key.strip_prefix(self.prefix.as_bytes())?).ok()
    }
}

impl Resource {
    /// From bytes of the store alone. `None`: they are not an object of ours.
    pub(crate) fn parse(&self, entry: &Entry) -> Option<Item> {
        let key = self.short_key(&entry.key)?.into();
        Item::parse(key, entry.value.clone(), entry.mod_revision, &self.extracted, &self.fields)
    }
}

impl std::fmt::Debug for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.path)
    }
}
