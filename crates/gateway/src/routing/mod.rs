//! Which component or Service a request goes to.
//!
//! A [`Table`] is immutable: [`claims::decide`] makes a new one from what Components and Ingresses claim, and the gateway
//! swaps it for the one before. The most specific host that is claimed and covers the request's wins (exact, then the
//! wildcard of one label, then the longest wildcard, then any), and among its routes the exact path, then the longest
//! prefix. A host belongs to one namespace, so a request never falls through from a claimed host to a less specific one
//! of somebody else's.

pub mod claims;
mod pattern;

use std::collections::HashMap;

pub use pattern::{HostPattern, InvalidRoute, PathMatch, PathPrefix};

/// Hosts and paths to targets.
#[derive(Clone, Debug)]
pub struct Table<T> {
    exact: HashMap<Box<str>, Paths<T>>,
    /// By the suffix with its leading dot: hosts of one label more.
    label: HashMap<Box<str>, Paths<T>>,
    /// By the suffix with its leading dot.
    wildcard: HashMap<Box<str>, Paths<T>>,
    any: Option<Paths<T>>,
}

/// The routes of one host.
#[derive(Clone, Debug)]
struct Paths<T> {
    exact: HashMap<Box<str>, T>,
    /// Longest first.
    prefixes: Vec<(PathPrefix, T)>,
    rest: Option<T>,
}

/// One route.
#[derive(Clone, Debug)]
pub struct Route<T> {
    /// On which hosts.
    pub host: HostPattern,
    /// Which of their paths.
    pub path: PathMatch,
    /// Where it leads.
    pub target: T,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), label: HashMap::new(), wildcard: HashMap::new(), any: None }
    }
}

impl<T> Table<T> {
    /// A table of these routes. Of two with the same host and path the first counts.
    pub fn new(routes: impl IntoIterator<Item = Route<T>>) -> Self {
        let mut table = Self::default();
        for Route { host, path, target } in routes {
            let paths = match host {
                HostPattern::Exact(host) => table.exact.entry(host).or_default(),
                HostPattern::Label(suffix) => table.label.entry(suffix).or_default(),
                HostPattern::Wildcard(suffix) => table.wildcard.entry(suffix).or_default(),
                HostPattern::Any => table.any.get_or_insert_default(),
            };
            match path {
                PathMatch::Exact(path) => drop(paths.exact.entry(path).or_insert(target)),
                PathMatch::Prefix(prefix) => paths.prefixes.push((prefix, target)),
                PathMatch::Rest => drop(paths.rest.get_or_insert(target)),
            }
        }
        let named = [&mut table.exact, &mut table.label, &mut table.wildcard];
        let all = named.into_iter().flat_map(HashMap::values_mut).chain(table.any.as_mut());
        // The sort is stable: of equal prefixes the first stays first.
        all.for_each(|paths| paths.prefixes.sort_by_key(|(path, _)| std::cmp::Reverse(path.len())));
        table
    }

    /// The target for a host (lower case, without a port) and a path.
    pub fn find(&self, host: &str, path: &str) -> Option<&T> {
        self.host(host)?.find(path)
    }

    /// All targets that answer on a host.
    pub fn on_host(&self, host: &str) -> impl Iterator<Item = &T> {
        self.host(host).into_iter().flat_map(Paths::targets)
    }

    fn host(&self, host: &str) -> Option<&Paths<T>> {
        if let Some(paths) = self.exact.get(host) {
            return Some(paths);
        }
        if !self.label.is_empty()
            && let Some(dot) = host.find('.').filter(|dot| *dot > 0)
            && let Some(paths) = self.label.get(&host[dot..])
        {
            return Some(paths);
        }
        if !self.wildcard.is_empty() {
            let dots = host.match_indices('.').map(|(at, _)| &host[at..]);
            if let Some(paths) = dots.into_iter().find_map(|suffix| self.wildcard.get(suffix)) {
                return Some(paths);
            }
        }
        self.any.as_ref()
    }
}

impl<T> Default for Paths<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), prefixes: Vec::new(), rest: None }
    }
}

impl<T> Paths<T> {
    /// An exact path is never shorter than a prefix that covers the same request.
    fn find(&self, path: &str) -> Option<&T> {
        let exact = if self.exact.is_empty() { None } else { self.exact.get(path) };
        let below = || self.prefixes.iter().find(|(prefix, _)| prefix.covers(path)).map(|(_, target)| target);
        exact.or_else(below).or(self.rest.as_ref())
    }

    fn targets(&self) -> impl Iterator<Item = &T> {
        self.exact.values().chain(self.prefixes.iter().map(|(_, target)| target)).chain(&self.rest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table(routes: &[(&str, &str)]) -> Table<usize> {
        Table::new(routes.iter().enumerate().map(|(target, (host, path))| {
            let host = if host.is_empty() { None } else { Some(*host) };
            let path = PathPrefix::parse(path).unwrap().into();
            Route { host: HostPattern::parse(host).unwrap(), path, target }
        }))
    }

    #[test]
    fn the_most_specific_host_then_the_longest_path_wins() {
        let routes = [
            ("", "/"),
            ("*.example.com", "/"),
            ("*.a.example.com", "/"),
            ("x.a.example.com", "/"),
            ("x.a.example.com", "/api/"),
            ("x.a.example.com", "/api/v1"),
            ("only.test", "/here"),
        ];
        let table = table(&routes);
        for (host, path, want) in [
            ("other", "/", Some(0)),
            ("example.com", "/", Some(0)),
            ("b.example.com", "/any", Some(1)),
            ("y.a.example.com", "/", Some(2)),
            ("x.a.example.com", "/apix", Some(3)),
            ("x.a.example.com", "/api", Some(4)),
            ("x.a.example.com", "/api/v1/x", Some(5)),
            ("x.a.example.com", "/api/v12", Some(4)),
            ("only.test", "/here", Some(6)),
            // A claimed host does not fall through to whoever answers for any.
            ("only.test", "/", None),
        ] {
            assert_eq!(table.find(host, path).copied(), want, "{host}{path}");
        }
    }

    #[test]
    fn an_ingress_has_exact_paths_a_rest_and_wildcards_of_one_label() {
        let prefix = |path| PathPrefix::parse(path).unwrap().into();
        let exact = |path: &str| PathMatch::Exact(path.into());
        let routes: [(&str, PathMatch); 7] = [
            ("*.a.test", prefix("/foo")),
            ("*.a.test", exact("/foo")),
            ("*.a.test", exact("/foo/")),
            ("*.a.test", PathMatch::Rest),
            ("*.a.test", prefix("/foo/bar/")),
            ("b.a.test", exact("/only")),
            ("", prefix("/")),
        ];
        let table = Table::new(routes.into_iter().enumerate().map(|(target, (host, path))| {
            let host = HostPattern::parse(Some(host).filter(|host| !host.is_empty())).unwrap();
            Route { host: host.of_one_label(), path, target }
        }));
        for (host, path, want) in [
            ("x.a.test", "/foo", Some(1)),
            ("x.a.test", "/foo/", Some(2)),
            ("x.a.test", "/foo/x", Some(0)),
            ("x.a.test", "/foo/bar", Some(4)),
            ("x.a.test", "/foo/bar/x", Some(4)),
            ("x.a.test", "/foo/barx", Some(0)),
            ("x.a.test", "/FOO", Some(3)),
            ("x.a.test", "/", Some(3)),
            ("b.a.test", "/only", Some(5)),
            ("b.a.test", "/only/", None),
            ("a.test", "/", Some(6)),
            (".a.test", "/", Some(6)),
            ("x.y.a.test", "/", Some(6)),
        ] {
            assert_eq!(table.find(host, path).copied(), want, "{host}{path}");
        }
    }

    #[test]
    fn an_empty_table_finds_nothing() {
        assert_eq!(table(&[]).find("a", "/"), None);
    }

    /// What the table should answer, said plainly.
    fn model(routes: &[(String, String)], host: &str, path: &str) -> Option<usize> {
        let covers = |pattern: &str| match pattern.strip_prefix('*') {
            _ if pattern.is_empty() => true,
            Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
            None => host == pattern,
        };
        let rank =
            |pattern: &str| if pattern.starts_with('*') { pattern.len() } else { pattern.len() * 1000 };
        let best = routes
            .iter()
            .map(|(pattern, _)| pattern)
            .filter(|pattern| covers(pattern))
            .max_by_key(|p| rank(p))?;
        let elements = |path: &str| {
            path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect::<Vec<_>>()
        };
        let mut found: Option<(usize, usize)> = None;
        for (index, (pattern, prefix)) in routes.iter().enumerate() {
            let wanted = elements(prefix);
            if pattern == best
                && elements(path).starts_with(&wanted)
                && found.is_none_or(|(length, _)| wanted.len() > length)
            {
                found = Some((wanted.len(), index));
            }
        }
        found.map(|(_, index)| index)
    }

    proptest! {
        #[test]
        fn the_table_answers_as_the_model(
            routes in prop::collection::vec(("(\\*\\.)?[ab](\\.[ab]){0,2}|", "(/[xy]){0,3}"), 0..12),
            host in "[ab](\\.[ab]){0,3}",
            path in "(/[xyz]){1,4}",
        ) {
            let given: Vec<_> = routes.iter().map(|(host, path)| (host.as_str(), if path.is_empty() { "/" } else { path.as_str() })).collect();
            prop_assert_eq!(table(&given).find(&host, &path).copied(), model(&routes, &host, &path));
        }
    }
}
