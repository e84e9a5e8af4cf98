//! What a request is about, read from its method, path and query: the rules of upstream's resolver.

use std::borrow::Cow;

use apimachinery::meta::names::path_segment;
use apimachinery::selector::FieldSelector;
use http::Method;
use percent_encoding::percent_decode_str;

use crate::query::Query;

/// What a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RequestInfo<'a> {
    /// An object or a collection.
    Resource(ResourceInfo<'a>),
    /// Any other path; the verb is the method in lower case.
    Path {
        /// `get`, `post` …
        verb: &'static str,
    },
}

/// An object or a collection. Empty strings stand for what the request does not name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResourceInfo<'a> {
    pub(crate) verb: &'static str,
    pub(crate) group: Cow<'a, str>,
    pub(crate) version: Cow<'a, str>,
    pub(crate) namespace: Cow<'a, str>,
    pub(crate) resource: Cow<'a, str>,
    pub(crate) subresource: Cow<'a, str>,
    pub(crate) name: Cow<'a, str>,
    /// What follows the subresource, not decoded: the path of a proxied request. Nothing else that we serve has any.
    pub(crate) rest: &'a str,
}

impl ResourceInfo<'_> {
    /// Whether the request may take as long as its client likes.
    pub(crate) fn is_long_running(&self) -> bool {
        self.verb == "watch"
            || matches!(&*self.subresource, "attach" | "exec" | "log" | "portforward" | "proxy")
    }
}

/// Reads the request. Text that is not UTF-8 once decoded makes the path no resource's.
pub(crate) fn resolve<'a>(method: &Method, path: &'a str, query: &Query) -> RequestInfo<'a> {
    resource(method, path, query)
        .map_or_else(|| RequestInfo::Path { verb: lower_case(method) }, RequestInfo::Resource)
}

fn resource<'a>(method: &Method, path: &'a str, query: &Query) -> Option<ResourceInfo<'a>> {
    let mut parts: Vec<Cow<'a, str>> = Vec::with_capacity(8);
    let path = path.trim_matches('/');
    // What is proxied may be no text.
    let mut texts = usize::MAX;
    for part in path.split('/') {
        let part = percent_decode_str(part);
        match part.clone().decode_utf8() {
            Ok(text) => parts.push(text),
            Err(_) => {
                texts = texts.min(parts.len());
                parts.push(part.decode_utf8_lossy());
            }
        }
    }
    let count = parts.len();
    let mut parts = parts.into_iter();
    let group = match parts.next().as_deref() {
        Some("api") => Cow::Borrowed(""),
        Some("apis") => parts.next()?,
        _ => return None,
    };
    let version = parts.next().filter(|_| parts.len() > 0)?;
    let mut verb = verb_of(method)?;
    if parts.as_slice().first().is_some_and(|first| first == "watch") {
        // The old form of a watch: /api/v1/watch/namespaces/…
        verb = "watch";
        parts.next();
    }
    let mut namespace = Cow::Borrowed("");
    let rest = parts.as_slice();
    if rest.first().is_some_and(|first| first == "namespaces")
        && let Some(of) = rest.get(1)
    {
        namespace = of.clone();
        if rest.get(2).is_some_and(|third| third != "status" && third != "finalize") {
            parts.next();
            parts.next();
        }
    }
    let mut info = ResourceInfo {
        verb,
        group,
        version,
        namespace,
        resource: parts.next().filter(|resource| !resource.is_empty())?,
        name: parts.next().unwrap_or_default(),
        subresource: parts.next().unwrap_or_default(),
        rest: "",
    };
    if count - parts.len() > texts {
        return None;
    }
    if let Some(slashes) = parts.len().checked_sub(1) {
        info.rest = path
            .rmatch_indices('/')
            .nth(slashes)
            .map_or("", |(at, _)| path.get(at + 1..).unwrap_or_default());
    }
    collection_verb(&mut info, query);
    Some(info)
}

/// A request without a name is about a collection, and so is a watch that a field selector narrows to one name.
fn collection_verb(info: &mut ResourceInfo<'_>, query: &Query) {
    if !info.name.is_empty() {
        return;
    }
    match info.verb {
        "get" => info.verb = if query.flag("watch") { "watch" } else { "list" },
        "delete" => info.verb = "deletecollection",
        _ => {}
    }
    if matches!(info.verb, "list" | "watch" | "deletecollection")
        && let Some(selector) = query.get("fieldSelector")
        && let Some(name) = selected_name(selector)
    {
        info.name = Cow::Owned(name);
    }
}

/// The name that a field selector requires, so that rules about names hold for a list of one, too.
fn selected_name(selector: &str) -> Option<String> {
    let selector = FieldSelector::parse(selector).ok()?;
    let name = selector.required_value("metadata.name")?;
    (!name.is_empty() && path_segment(name).is_empty()).then(|| name.to_owned())
}

fn verb_of(method: &Method) -> Option<&'static str> {
    Some(match *method {
        Method::GET | Method::HEAD => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        // Only proxied requests have this method; whoever may send it has all verbs.
        Method::OPTIONS => "",
        _ => return None,
    })
}

fn lower_case(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::HEAD => "head",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::OPTIONS => "options",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: Method, target: &str, expected: &str) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let shown = match resolve(&method, path, &Query::parse(Some(query))) {
            RequestInfo::Path { verb } => format!("{verb} path"),
            RequestInfo::Resource(info) => {
                let words = [
                    &info.group,
                    &info.version,
                    &info.namespace,
                    &info.resource,
                    &info.subresource,
                    &info.name,
                ];
                let words = words.map(|word| if word.is_empty() { "-" } else { word });
                format!("{} {}", info.verb, words.join(" "))
            }
        };
        assert_eq!(shown, expected, "{method} {target}");
    }

    #[test]
    fn resources() {
        let get = |target, expected| check(Method::GET, target, expected);
        get("/api/v1/namespaces", "list - v1 - namespaces - -");
        get("/api/v1/namespaces/other", "get - v1 other namespaces - other");
        get("/api/v1/namespaces/other/status", "get - v1 other namespaces status other");
        get("/api/v1/namespaces/other/pods", "list - v1 other pods - -");
        get("/api/v1/namespaces/other/pods/foo", "get - v1 other pods - foo");
        get("/api/v1/namespaces/other/pods/foo/log", "get - v1 other pods log foo");
        get("/api/v1/pods", "list - v1 - pods - -");
        get("/api/v1/pods?watch=true", "watch - v1 - pods - -");
        get("/api/v1/pods?watch=0", "list - v1 - pods - -");
        get("/api/v1/pods?watch", "watch - v1 - pods - -");
        get("/api/v1/watch/namespaces/other/pods", "watch - v1 other pods - -");
        get("/apis/apps/v1/namespaces/a/deployments/b/scale", "get apps v1 a deployments scale b");
        get("/apis/apps/v1/deployments?fieldSelector=metadata.name%3Dx", "list apps v1 - deployments - x");
        get("/api/v1/pods?fieldSelector=metadata.name%3Da%2Fb", "list - v1 - pods - -");
        get("/api/v1/pods?fieldSelector=metadata.name%3Dx,y", "list - v1 - pods - -");
        get("/api/v1/pods?fieldSelector=metadata.name!%3Dx", "list - v1 - pods - -");
        get("/api/v1/nodes/a?watch=1", "get - v1 - nodes - a");
        get(
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
            "get rbac.authorization.k8s.io v1 - clusterroles - system:node",
        );
        check(Method::POST, "/api/v1/namespaces/a/pods", "create - v1 a pods - -");
        check(Method::PUT, "/api/v1/namespaces/a/finalize", "update - v1 a namespaces finalize a");
        check(Method::DELETE, "/api/v1/namespaces/a/pods", "deletecollection - v1 a pods - -");
        check(Method::DELETE, "/api/v1/namespaces/a/pods/b", "delete - v1 a pods - b");
        check(Method::PATCH, "/api/v1/namespaces/a/pods/b/status", "patch - v1 a pods status b");
        check(Method::HEAD, "/api/v1/namespaces/a/pods/b", "get - v1 a pods - b");
        check(Method::OPTIONS, "/api/v1/pods", " - v1 - pods - -");
    }

    #[test]
    fn what_is_proxied() {
        let rest = |path: &str| match resolve(&Method::GET, path, &Query::default()) {
            RequestInfo::Resource(info) => {
                assert_eq!((&*info.name, &*info.subresource), ("https:s:http", "proxy"), "{path}");
                Some(info.rest.to_owned())
            }
            RequestInfo::Path { .. } => None,
        };
        let of = "/api/v1/namespaces/n/services/https:s%3Ahttp/proxy";
        for (path, expected) in [
            ("", ""),
            ("/", ""),
            ("/a", "a"),
            ("/a/b%2Fc/", "a/b%2Fc"),
            ("/a//b", "a//b"),
            ("//a", "/a"),
            ("/%ff", "%ff"),
        ] {
            assert_eq!(rest(&format!("{of}{path}")).as_deref(), Some(expected), "{path}");
        }
        assert_eq!(rest("/api/v1/namespaces/n/services/%ff/proxy/a"), None);
    }

    #[test]
    fn paths() {
        for target in [
            "/",
            "/api",
            "/api/v1",
            "/api/v1/",
            "/apis",
            "/apis/apps",
            "/apis/apps/v1",
            "/version",
            "/openapi/v2",
        ] {
            check(Method::GET, target, "get path");
        }
        check(Method::GET, "/api/v1/pods/%ff", "get path");
        check(Method::OPTIONS, "/api", "options path");
    }
}
