//! The snapshot of all kinds that are served.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::Kind;

/// All served kinds at one moment. A new snapshot takes its place when a CustomResourceDefinition changes what is served.
#[derive(Debug, Default)]
pub struct Kinds {
    generation: u64,
    /// Sorted by group, version, plural.
    all: Vec<Arc<Kind>>,
    /// By plural: for each group that has such a resource its versions. Every request looks here, so that it costs one hash.
    by_plural: HashMap<String, Vec<Vec<Arc<Kind>>>>,
}

/// A group and its versions, the preferred one first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group<'a> {
    /// Its name; empty for the legacy group.
    pub name: &'a str,
    /// Its served versions, in order of preference.
    pub versions: Vec<&'a str>,
}

impl Kinds {
    pub(crate) fn new(generation: u64, mut all: Vec<Arc<Kind>>) -> Self {
        all.sort_by(|a, b| (&a.group, &a.version, &a.plural).cmp(&(&b.group, &b.version, &b.plural)));
        let mut by_plural: HashMap<String, Vec<Vec<Arc<Kind>>>> = HashMap::new();
        for kind in &all {
            let groups = by_plural.entry(kind.plural.clone()).or_default();
            match groups.iter_mut().find(|versions| is_of(versions, &kind.group)) {
                Some(versions) => versions.push(kind.clone()),
                None => groups.push(vec![kind.clone()]),
            }
        }
        Self { generation, all, by_plural }
    }

    /// Grows with every change: what discovery caches compare.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Every kind, sorted by group, version and plural.
    pub fn all(&self) -> &[Arc<Kind>] {
        &self.all
    }

    /// The kind at `/apis/group/version/plural`.
    pub fn lookup(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Kind>> {
        self.versions_of(group, plural).iter().find(|kind| kind.version == version)
    }

    /// The kind of that name.
    pub fn by_kind(&self, group: &str, version: &str, kind: &str) -> Option<&Arc<Kind>> {
        self.all.iter().find(|each| each.group == group && each.version == version && each.kind == kind)
    }

    /// Every served version of a resource.
    pub fn versions_of(&self, group: &str, plural: &str) -> &[Arc<Kind>] {
        let groups = self.by_plural.get(plural).map_or(&[][..], Vec::as_slice);
        groups.iter().find(|versions| is_of(versions, group)).map_or(&[], Vec::as_slice)
    }

    /// All groups, sorted by name (the legacy group, whose name is empty, first).
    pub fn groups(&self) -> Vec<Group<'_>> {
        let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for kind in &self.all {
            let versions = groups.entry(&kind.group).or_default();
            if !versions.contains(&kind.version.as_str()) {
                versions.push(&kind.version);
            }
        }
        let sorted = groups.into_iter().map(|(name, mut versions)| {
            versions.sort_by_key(|version| std::cmp::Reverse(version_order(version)));
            Group { name, versions }
        });
        sorted.collect()
    }

    /// The kinds of one group version.
    pub fn in_version<'a>(&'a self, group: &'a str, version: &'a str) -> impl Iterator<Item = &'a Arc<Kind>> {
        self.all.iter().filter(move |kind| kind.group == group && kind.version == version)
    }
}

/// Whether these versions of a resource are of that group.
fn is_of(versions: &[Arc<Kind>], group: &str) -> bool {
    versions.first().is_some_and(|kind| kind.group == group)
}

/// Order of versions as upstream's `version.CompareKubeAwareVersionStrings`: GA before beta before alpha, newer first,
/// anything else last by name.
pub fn version_order(version: &str) -> (u8, u64, u64, std::cmp::Reverse<String>) {
    let rest = (0, 0, 0, std::cmp::Reverse(version.to_owned()));
    let Some(digits) = version.strip_prefix('v') else { return rest };
    let major_end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let Ok(major) = digits[..major_end].parse::<u64>() else { return rest };
    let tail = &digits[major_end..];
    let (stage, number) = if tail.is_empty() {
        (3, "0")
    } else if let Some(number) = tail.strip_prefix("beta") {
        (2, number)
    } else if let Some(number) = tail.strip_prefix("alpha") {
        (1, number)
    } else {
        return rest;
    };
    match number.parse::<u64>() {
        Ok(number) => (stage, major, number, std::cmp::Reverse(String::new())),
        Err(_) => rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_preferred_as_upstream_does() {
        let mut versions =
            ["foo1", "v1alpha1", "v2", "v1beta2", "v10", "v1beta1", "v11alpha2", "v1", "foo10", "v11beta2"];
        versions.sort_by_key(|version| std::cmp::Reverse(version_order(version)));
        let expected =
            ["v10", "v2", "v1", "v11beta2", "v1beta2", "v1beta1", "v11alpha2", "v1alpha1", "foo1", "foo10"];
        assert_eq!(versions, expected);
    }
}
