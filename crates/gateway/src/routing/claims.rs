//! Who owns which host and path.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{HostPattern, PathPrefix, Table};

/// What one component claims.
#[derive(Clone, Debug)]
pub struct Claim<T> {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Since when it is there: the older claim wins.
    pub created: Timestamp,
    /// Its routes.
    pub routes: Vec<(HostPattern, PathPrefix)>,
    /// Where they lead.
    pub target: T,
}

/// Why a claimed route is not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// The host is another namespace's.
    #[error("host {host} belongs to namespace {owner}, which claimed {claimed} first")]
    Host {
        /// The claimed host.
        host: HostPattern,
        /// The host by which it is covered.
        claimed: HostPattern,
        /// Whose it is.
        owner: String,
    },
    /// The same host and path lead to another component of the namespace.
    #[error("{host}{path} leads to component {owner}, which claimed it first")]
    Path {
        /// The claimed host.
        host: HostPattern,
        /// The claimed path.
        path: PathPrefix,
        /// The component whose it is.
        owner: String,
    },
}

/// What came of the claims.
#[derive(Debug)]
pub struct Decision<T> {
    /// The routes that stand.
    pub table: Table<T>,
    /// Those that do not, by namespace and name.
    pub conflicts: BTreeMap<(String, String), Vec<Conflict>>,
}

/// Decides: the oldest claim first, by creation and then by namespace and name, whatever order they are given in.
pub fn decide<T: Clone>(claims: impl IntoIterator<Item = Claim<T>>) -> Decision<T> {
    let mut claims: Vec<_> = claims.into_iter().collect();
    claims.sort_by(|a, b| (a.created, &a.namespace, &a.name).cmp(&(b.created, &b.namespace, &b.name)));
    let mut owners: BTreeMap<HostPattern, String> = BTreeMap::new();
    let mut taken: BTreeMap<(HostPattern, PathPrefix), String> = BTreeMap::new();
    let mut routes = Vec::new();
    let mut conflicts: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for claim in claims {
        for (host, path) in claim.routes {
            let conflict = host_conflict(&owners, &host, &claim.namespace).or_else(|| {
                let owner = taken.get(&(host.clone(), path.clone()))?;
                // Saying the same twice is no conflict.
                let other = *owner != claim.name;
                other.then(|| Conflict::Path { host: host.clone(), path: path.clone(), owner: owner.clone() })
            });
            if let Some(conflict) = conflict {
                conflicts.entry((claim.namespace.clone(), claim.name.clone())).or_default().push(conflict);
                continue;
            }
            owners.insert(host.clone(), claim.namespace.clone());
            taken.insert((host.clone(), path.clone()), claim.name.clone());
            routes.push((host, path, claim.target.clone()));
        }
    }
    Decision { table: Table::new(routes), conflicts }
}

fn host_conflict(
    owners: &BTreeMap<HostPattern, String>,
    host: &HostPattern,
    namespace: &str,
) -> Option<Conflict> {
    // What is covered by the most specific owner counts: it was let in under the less specific ones.
    let covering = owners.iter().filter(|(claimed, _)| claimed.covers(host));
    let (claimed, owner) = covering.max_by_key(|(claimed, _)| specificity(claimed))?;
    (owner != namespace).then(|| Conflict::Host {
        host: host.clone(),
        claimed: claimed.clone(),
        owner: owner.clone(),
    })
}

fn specificity(host: &HostPattern) -> usize {
    match host {
        HostPattern::Exact(_) => usize::MAX,
        HostPattern::Wildcard(suffix) => suffix.len(),
        HostPattern::Any => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(full: &str, created: i64, routes: &[&str]) -> Claim<String> {
        let (namespace, name) = full.split_once('/').unwrap();
        let route = |route: &&str| {
            let at = route.find('/').unwrap();
            let host = Some(&route[..at]).filter(|host| !host.is_empty());
            (HostPattern::parse(host).unwrap(), PathPrefix::parse(&route[at..]).unwrap())
        };
        Claim {
            namespace: namespace.into(),
            name: name.into(),
            created: Timestamp::from_second(created).unwrap(),
            routes: routes.iter().map(route).collect(),
            target: full.to_owned(),
        }
    }

    fn check(claims: Vec<Claim<String>>, want: &[(&str, &[&str])]) {
        for claims in [claims.clone(), claims.into_iter().rev().collect()] {
            let found: Vec<_> = decide(claims)
                .conflicts
                .into_iter()
                .map(|((namespace, name), conflicts)| {
                    (
                        format!("{namespace}/{name}"),
                        conflicts.iter().map(ToString::to_string).collect::<Vec<_>>(),
                    )
                })
                .collect();
            let want: Vec<_> = want
                .iter()
                .map(|(name, texts)| ((*name).to_owned(), texts.iter().map(|t| (*t).to_owned()).collect()))
                .collect();
            assert_eq!(found, want);
        }
    }

    #[test]
    fn a_host_belongs_to_the_first_namespace() {
        check(
            vec![
                claim("a/x", 1, &["shop.test/"]),
                claim("b/x", 2, &["shop.test/other"]),
                claim("a/y", 3, &["shop.test/y"]),
            ],
            &[("b/x", &["host shop.test belongs to namespace a, which claimed shop.test first"])],
        );
    }

    #[test]
    fn a_wildcard_owns_what_it_covers_unless_that_was_claimed_before() {
        check(
            vec![
                claim("a/x", 1, &["old.test/"]),
                claim("b/x", 2, &["*.test/"]),
                claim("c/x", 3, &["new.test/"]),
            ],
            &[("c/x", &["host new.test belongs to namespace b, which claimed *.test first"])],
        );
        // The first owner keeps its host, and may add to it.
        check(
            vec![
                claim("a/x", 1, &["old.test/"]),
                claim("b/x", 2, &["*.test/"]),
                claim("a/y", 3, &["old.test/y"]),
            ],
            &[],
        );
    }

    #[test]
    fn one_path_leads_to_one_component() {
        check(
            vec![claim("a/x", 5, &["/", "/x", "/x"]), claim("a/w", 5, &["/x"]), claim("a/z", 6, &["/z"])],
            &[(
                "a/x",
                &[
                    "*/x leads to component w, which claimed it first",
                    "*/x leads to component w, which claimed it first",
                ],
            )],
        );
    }

    #[test]
    fn what_stands_is_served_though_something_else_conflicts() {
        let decision = decide([claim("a/x", 1, &["a.test/"]), claim("b/x", 2, &["a.test/", "b.test/"])]);
        assert_eq!(decision.table.find("a.test", "/").unwrap(), "a/x");
        assert_eq!(decision.table.find("b.test", "/").unwrap(), "b/x");
    }
}
