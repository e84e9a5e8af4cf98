//! What the server counts of its work: `/metrics`, under upstream's names.
//!
//! A request that is like one before costs a look into a table that nobody locks and a few atomic additions. What its
//! client can choose at will (names of objects, paths) is in no label.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hashbrown::Equivalent;
use http::Method;
use instruments::{Counter, Family, Histogram, Kind, OF_REQUESTS, Page};

use crate::request_info::{RequestInfo, ResourceInfo};
use crate::server::ApiServer;

/// Kinds of requests that are told apart.
const MOST: usize = 8192;
/// Codes that are told apart for each.
const CODES: usize = 12;
/// Those that are labels; a client may make up others.
const SUBRESOURCES: [&str; 15] = [
    "",
    "approval",
    "attach",
    "binding",
    "ephemeralcontainers",
    "eviction",
    "exec",
    "finalize",
    "log",
    "portforward",
    "proxy",
    "resize",
    "scale",
    "status",
    "token",
];

/// Adds what another part of the process counts.
type Part = Box<dyn Fn(&mut Page) + Send + Sync>;

/// What is counted.
pub(crate) struct Instruments {
    requests: Family<Labels, Series>,
    parts: Mutex<Vec<Part>>,
}

/// What requests are told apart by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Labels {
    group: Box<str>,
    version: Box<str>,
    resource: Box<str>,
    subresource: Box<str>,
    scope: &'static str,
    verb: &'static str,
}

/// The same, of a request.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Asked<'a> {
    group: &'a str,
    version: &'a str,
    resource: &'a str,
    subresource: &'a str,
    scope: &'static str,
    verb: &'static str,
}

impl Labels {
    fn asked(&self) -> Asked<'_> {
        Asked {
            group: &self.group,
            version: &self.version,
            resource: &self.resource,
            subresource: &self.subresource,
            scope: self.scope,
            verb: self.verb,
        }
    }
}

impl Hash for Labels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.asked().hash(state);
    }
}

impl Equivalent<Labels> for Asked<'_> {
    fn equivalent(&self, labels: &Labels) -> bool {
        *self == labels.asked()
    }
}

impl From<&Asked<'_>> for Labels {
    fn from(asked: &Asked<'_>) -> Self {
        Self {
            group: asked.group.into(),
            version: asked.version.into(),
            resource: asked.resource.into(),
            subresource: asked.subresource.into(),
            scope: asked.scope,
            verb: asked.verb,
        }
    }
}

/// Requests of one kind.
struct Series {
    /// By the code of the answer; 0 where none has been counted. Those for which there is no room are in the last.
    codes: [(AtomicU16, Counter); CODES],
    /// Of those that end by themselves.
    took: Histogram,
}

impl Series {
    fn new() -> Self {
        Self { codes: Default::default(), took: Histogram::new(OF_REQUESTS) }
    }

    fn count(&self, code: u16) {
        for (known, counter) in &self.codes[..CODES - 1] {
            let found = match known.load(Relaxed) {
                0 => known.compare_exchange(0, code, Relaxed, Relaxed).map_or_else(|found| found, |_| code),
                found => found,
            };
            if found == code {
                return counter.add_one();
            }
        }
        self.codes[CODES - 1].1.add_one();
    }
}

impl Default for Instruments {
    fn default() -> Self {
        Self { requests: Family::new(Series::new, MOST), parts: Mutex::default() }
    }
}

impl Instruments {
    /// Has a part of the process add what it counts, under names of its own.
    pub(crate) fn add(&self, part: impl Fn(&mut Page) + Send + Sync + 'static) {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(part));
    }

    /// Counts a request that was answered so, after that time unless it goes on.
    pub(crate) fn note(
        &self,
        method: &Method,
        info: &RequestInfo<'_>,
        code: u16,
        took: Option<Duration>,
        is_served: impl FnOnce(&ResourceInfo<'_>) -> bool,
    ) {
        let count = |series: &Series| {
            series.count(code);
            if let Some(took) = took {
                series.took.observe(took);
            }
        };
        let asked = asked(method, info);
        if self.requests.find(&asked, count) {
            return;
        }
        // What is not served may have any name.
        let asked = match info {
            RequestInfo::Resource(info) if !is_served(info) => Asked { verb: asked.verb, ..Asked::default() },
            _ => asked,
        };
        self.requests.with(&asked, count);
    }
}

fn asked<'a>(method: &Method, info: &'a RequestInfo<'_>) -> Asked<'a> {
    let RequestInfo::Resource(info) = info else {
        return Asked { verb: verb(method.as_str()), ..Asked::default() };
    };
    let known = |subresource: &&'static str| **subresource == *info.subresource;
    let scope = match (info.name.is_empty(), info.namespace.is_empty()) {
        (false, _) => "resource",
        (true, false) => "namespace",
        (true, true) => "cluster",
    };
    Asked {
        group: &info.group,
        version: &info.version,
        resource: &info.resource,
        subresource: SUBRESOURCES.iter().find(|each| known(each)).copied().unwrap_or("other"),
        scope,
        verb: if matches!(&*info.subresource, "attach" | "exec" | "portforward" | "proxy") {
            "CONNECT"
        } else {
            verb(info.verb)
        },
    }
}

/// Upstream's word for a verb or method.
fn verb(of: &str) -> &'static str {
    match of {
        "get" | "GET" | "HEAD" => "GET",
        "list" => "LIST",
        "watch" => "WATCH",
        "create" | "POST" => "POST",
        "update" | "PUT" => "PUT",
        "patch" | "PATCH" => "PATCH",
        "delete" | "DELETE" => "DELETE",
        "deletecollection" => "DELETECOLLECTION",
        "OPTIONS" => "OPTIONS",
        _ => "OTHER",
    }
}

/// The page.
pub(crate) fn page(server: &ApiServer) -> String {
    let instruments = &server.instruments;
    let mut page = Page::default();
    requests(instruments, &mut page);
    let (reads, writes, streams) = server.in_flight();
    page.family(
        "apiserver_current_inflight_requests",
        Kind::Gauge,
        "Requests being served that end by themselves.",
    );
    page.sample(&[("request_kind", "readOnly")], reads);
    page.sample(&[("request_kind", "mutating")], writes);
    page.family("apiserver_longrunning_requests", Kind::Gauge, "Watches, logs and streams being served.");
    page.sample(&[], streams);
    page.family("monoplane_node_tunnels", Kind::Gauge, "Tunnels that nodes keep to this server.");
    page.sample(&[], server.tunnels.count());
    objects(server, &mut page);
    page.family("kubernetes_build_info", Kind::Gauge, "Of which version the server is.");
    page.sample(&[("major", "1"), ("minor", "36"), ("git_version", crate::path::GIT_VERSION)], 1);
    for part in instruments.parts.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        part(&mut page);
    }
    instruments::process(&mut page);
    page.finish()
}

fn requests(instruments: &Instruments, page: &mut Page) {
    let all = instruments.requests.all();
    let labels = |labels: &Labels| {
        let component = if labels.resource.is_empty() { "" } else { "apiserver" };
        [
            ("component", component.to_owned()),
            ("group", labels.group.to_string()),
            ("resource", labels.resource.to_string()),
            ("scope", labels.scope.to_owned()),
            ("subresource", labels.subresource.to_string()),
            ("verb", labels.verb.to_owned()),
            ("version", labels.version.to_string()),
        ]
    };
    page.family(
        "apiserver_request_total",
        Kind::Counter,
        "Requests, by what they asked for and how they were answered.",
    );
    for (key, series) in &all {
        let labels = labels(key);
        for (code, counter) in series.codes.iter().filter(|(_, counter)| counter.get() > 0) {
            let code = match code.load(Relaxed) {
                0 => "other".to_owned(),
                code => code.to_string(),
            };
            let given = labels.iter().map(|(name, value)| (*name, &**value));
            page.sample(&[("code", &*code)].into_iter().chain(given).collect::<Vec<_>>(), counter.get());
        }
    }
    page.family(
        "apiserver_request_duration_seconds",
        Kind::Histogram,
        "How long requests took that end by themselves.",
    );
    for (key, series) in &all {
        let labels = labels(key);
        let given: Vec<_> = labels.iter().map(|(name, value)| (*name, &**value)).collect();
        page.histogram(&given, &series.took);
    }
}

fn objects(server: &ApiServer, page: &mut Page) {
    let kinds = server.registry.kinds();
    let counts: BTreeMap<String, u64> = kinds
        .all()
        .iter()
        .filter(|kind| kind.storage)
        .map(|kind| (kind.group_resource(), server.registry.count(kind)))
        .collect();
    page.family("apiserver_storage_objects", Kind::Gauge, "Objects that are stored, by kind.");
    for (resource, count) in counts {
        page.sample(&[("resource", &*resource)], count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::Query;
    use crate::request_info::resolve;

    #[test]
    fn requests_are_told_apart_by_what_is_served() {
        let instruments = Instruments::default();
        let note = |method: Method, path: &str, code: u16| {
            let info = resolve(&method, path, &Query::default());
            let is_served = |info: &ResourceInfo<'_>| info.resource == "pods";
            instruments.note(&method, &info, code, Some(Duration::from_millis(1)), is_served);
        };
        note(Method::GET, "/api/v1/namespaces/x/pods/a", 200);
        note(Method::GET, "/api/v1/namespaces/y/pods/b", 200);
        note(Method::GET, "/api/v1/namespaces/y/pods/b", 404);
        note(Method::GET, "/api/v1/pods", 200);
        note(Method::POST, "/api/v1/namespaces/y/pods/b/exec", 101);
        note(Method::POST, "/api/v1/namespaces/y/pods/b/made-up", 404);
        for number in 0..9 {
            note(Method::GET, &format!("/apis/made.up{number}/v1/anything"), 404);
            note(Method::GET, &format!("/healthz/{number}"), 200);
        }
        let mut page = Page::default();
        requests(&instruments, &mut page);
        let text = page.finish();
        let series: Vec<_> =
            text.lines().filter(|line| line.starts_with("apiserver_request_total")).collect();
        let pods = |code: u16, scope: &str, subresource: &str, verb: &str, count: u64| {
            format!(
                "apiserver_request_total{{code=\"{code}\",component=\"apiserver\",group=\"\",resource=\"pods\",scope=\"{scope}\",subresource=\"{subresource}\",verb=\"{verb}\",version=\"v1\"}} {count}"
            )
        };
        for line in [
            pods(200, "resource", "", "GET", 2),
            pods(404, "resource", "", "GET", 1),
            pods(200, "cluster", "", "LIST", 1),
            pods(101, "resource", "exec", "CONNECT", 1),
            pods(404, "resource", "other", "POST", 1),
        ] {
            assert!(series.contains(&&*line), "{line}: {series:#?}");
        }
        assert_eq!(series.len(), 7, "{series:#?}");
        assert!(text.contains("verb=\"GET\",version=\"v1\",le=\"0.005\"} 3\n"), "{text}");
    }
}
