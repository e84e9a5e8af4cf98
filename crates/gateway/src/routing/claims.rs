//! Who owns which host and path.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use jiff::Timestamp;

use super::{HostPattern, PathMatch, Route, Table};

/// What claims hosts and paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A Component.
    Component,
    /// An Ingress.
    Ingress,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Component => "component",
            Self::Ingress => "ingress",
        })
    }
}

/// Who claims.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Claimant {
    /// The object's namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: Kind,
}

/// What one object claims.
#[derive(Clone, Debug)]
pub struct Claim<T> {
    /// Whose it is.
    pub claimant: Claimant,
    /// Since when it is there.
    pub created: Timestamp,
    /// Since when it claims a host, where that is not since it is there: the older claim wins.
    pub since: BTreeMap<HostPattern, Timestamp>,
    /// Its routes.
    pub routes: Vec<Route<T>>,
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
    /// The same host and path lead to something else of the namespace.
    #[error("{host}{path} leads to {kind} {owner}, which claimed it first")]
    Path {
        /// The claimed host.
        host: HostPattern,
        /// The claimed path.
        path: PathMatch,
        /// What kind of object has it.
        kind: Kind,
        /// The object whose it is.
        owner: String,
    },
}

/// What came of the claims.
#[derive(Debug)]
pub struct Decision<T> {
    /// The routes that stand.
    pub table: Table<T>,
    /// Those that do not, by whose they are.
    pub conflicts: BTreeMap<Claimant, Vec<Conflict>>,
    /// Who owns which host.
    pub owners: Owners,
}

/// Decides: the oldest claim of a host first, then the oldest object, then by namespace and name, whatever order they are
/// given in.
pub fn decide<T: Clone>(claims: &[Claim<T>]) -> Decision<T> {
    let mut wanted: Vec<_> = claims
        .iter()
        .flat_map(|claim| claim.routes.iter().map(move |route| (claim, route)))
        .map(|(claim, route)| (claim.since.get(&route.host).unwrap_or(&claim.created), claim, route))
        .collect();
    // Stable: the routes of one object stay in their order.
    wanted.sort_by_key(|(since, claim, _)| (*since, claim.created, &claim.claimant));
    let mut owners = Owners::default();
    let mut taken: HashMap<(&HostPattern, &PathMatch), &Claimant> = HashMap::new();
    let mut routes = Vec::new();
    let mut conflicts: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (_, claim, route) in wanted {
        let (host, path) = (&route.host, &route.path);
        let conflict = owners.conflict(host, &claim.claimant.namespace).or_else(|| {
            let owner = *taken.get(&(host, path))?;
            // Saying the same twice is no conflict.
            (*owner != claim.claimant).then(|| Conflict::Path {
                host: host.clone(),
                path: path.clone(),
                kind: owner.kind,
                owner: owner.name.clone(),
            })
        });
        if let Some(conflict) = conflict {
            conflicts.entry(claim.claimant.clone()).or_default().push(conflict);
            continue;
        }
        owners.0.entry(key(host).into()).or_insert_with(|| claim.claimant.namespace.clone());
        taken.insert((host, path), &claim.claimant);
        routes.push(route.clone());
    }
    Decision { table: Table::new(routes), conflicts, owners }
}

/// Namespaces by the hosts that they own.
#[derive(Clone, Debug, Default)]
pub struct Owners(HashMap<Box<str>, String>);

/// A name, a suffix with its leading dot, or nothing: no two patterns have the same.
fn key(host: &HostPattern) -> &str {
    match host {
        HostPattern::Exact(name) => name,
        HostPattern::Wildcard(suffix) | HostPattern::Label(suffix) => suffix,
        HostPattern::Any => "",
    }
}

impl Owners {
    /// Whether the host is another namespace's. What is covered by the most specific owner counts: it was let in under
    /// the less specific ones.
    pub fn conflict(&self, host: &HostPattern, namespace: &str) -> Option<Conflict> {
        let name = key(host);
        let suffixes = name.match_indices('.').map(|(at, _)| &name[at..]);
        let mut covering = std::iter::once(name).chain(suffixes);
        let (claimed, owner) = covering.find_map(|claimed| Some((claimed, self.0.get(claimed)?)))?;
        (owner != namespace).then(|| Conflict::Host {
            host: host.clone(),
            claimed: if claimed == name { host.clone() } else { HostPattern::Wildcard(claimed.into()) },
            owner: owner.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::routing::PathPrefix;

    fn claim(full: &str, created: i64, routes: &[&str]) -> Claim<String> {
        let (namespace, name) = full.split_once('/').unwrap();
        let route = |route: &&str| {
            let at = route.find('/').unwrap();
            let host = Some(&route[..at]).filter(|host| !host.is_empty());
            let path = PathPrefix::parse(&route[at..]).unwrap().into();
            Route { host: HostPattern::parse(host).unwrap(), path, target: full.to_owned() }
        };
        Claim {
            claimant: Claimant { namespace: namespace.into(), name: name.into(), kind: Kind::Component },
            created: Timestamp::from_second(created).unwrap(),
            since: BTreeMap::new(),
            routes: routes.iter().map(route).collect(),
        }
    }

    fn check(claims: Vec<Claim<String>>, want: &[(&str, &[&str])]) {
        for claims in [claims.clone(), claims.into_iter().rev().collect()] {
            let found: Vec<_> = decide(&claims)
                .conflicts
                .into_iter()
                .map(|(claimant, conflicts)| {
                    (
                        format!("{}/{}", claimant.namespace, claimant.name),
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
    fn an_old_component_that_claims_a_host_later_does_not_take_it() {
        let mut old = claim("a/old", 1, &["shop.test/", "own.test/"]);
        let late = Timestamp::from_second(9).unwrap();
        old.since = [(old.routes[0].host.clone(), late)].into();
        let conflict = "host shop.test belongs to namespace b, which claimed shop.test first";
        check(vec![old, claim("b/x", 2, &["shop.test/"])], &[("a/old", &[conflict])]);
    }

    proptest! {
        /// The owner found by name and suffixes is the most specific of all that cover the host.
        #[test]
        fn the_most_specific_owner_counts(
            owned in prop::collection::vec("(\\*\\.)?[ab](\\.[ab]){0,2}|", 0..8),
            host in "(\\*\\.)?[ab](\\.[ab]){0,3}|",
        ) {
            let parse = |host: &str| HostPattern::parse(Some(host).filter(|host| !host.is_empty())).unwrap();
            let (owned, host): (Vec<_>, _) = (owned.iter().map(|host| parse(host)).collect(), parse(&host));
            let mut owners = Owners::default();
            owners.0.extend(owned.iter().map(|host| (key(host).into(), "a".to_owned())));
            let covers = |owned: &HostPattern| match owned {
                HostPattern::Wildcard(suffix) => key(&host).ends_with(&**suffix),
                _ => *owned == host,
            };
            let specificity = |host: &HostPattern| match host {
                HostPattern::Exact(_) => usize::MAX,
                _ => key(host).len(),
            };
            let best = owned.iter().filter(|owned| covers(owned)).max_by_key(|host| specificity(host));
            let found = owners.conflict(&host, "b").map(|conflict| match conflict {
                Conflict::Host { claimed, .. } => claimed,
                Conflict::Path { .. } => unreachable!(),
            });
            prop_assert_eq!(found.as_ref(), best);
        }
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
        let decision = decide(&[claim("a/x", 1, &["a.test/"]), claim("b/x", 2, &["a.test/", "b.test/"])]);
        assert_eq!(decision.table.find("a.test", "/").unwrap(), "a/x");
        assert_eq!(decision.table.find("b.test", "/").unwrap(), "b/x");
    }
}
