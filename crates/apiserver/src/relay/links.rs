//! Links in answers that lead back to whom we asked, as the client has to follow them: through us. The rules are upstream's.

/// Where an answer comes from, and the way there through us.
#[derive(Clone, Debug)]
pub(crate) struct Links {
    /// What stands before the other side's paths in ours: `/api/v1/…/proxy`.
    pub(crate) prefix: String,
    /// Host and port of whom we asked.
    pub(crate) host: String,
    /// The host that the client asked, as it said; empty if it did not.
    pub(crate) asked: String,
}

impl Links {
    /// A link as the client has to follow it; `None`: as it is. Links to other hosts, and those that are relative to the
    /// page that they are on, stay.
    pub(crate) fn rewritten(&self, link: &str) -> Option<String> {
        let (before, rest) = scheme(link).map_or(("", link), |scheme| link.split_at(scheme.len() + 1));
        let (authority, rest) = match rest.strip_prefix("//") {
            Some(after) => after.split_at(after.find(['/', '?', '#']).unwrap_or(after.len())),
            None => ("", rest),
        };
        let (path, query) = rest.split_at(rest.find(['?', '#']).unwrap_or(rest.len()));
        let is_here = authority.is_empty() || authority == self.host || authority == self.asked;
        if !is_here || !path.starts_with('/') || (authority.is_empty() && !before.is_empty()) {
            return None;
        }
        // The client knows best how it calls us.
        let kept = match authority == self.asked && !authority.is_empty() {
            true => format!("{before}//{authority}"),
            false => String::new(),
        };
        let new = match path.starts_with(&self.prefix) {
            true => format!("{kept}{path}{query}"),
            false => format!("{kept}{}{query}", cleaned(&format!("{}{path}", self.prefix))),
        };
        (new != link).then_some(new)
    }
}

/// The scheme that a link names.
fn scheme(link: &str) -> Option<&str> {
    let (scheme, _) = link.split_once(':')?;
    let is_legal = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    is_legal.then_some(scheme)
}

/// An absolute path without empty segments, `.` and `..`; a slash at its end stays.
pub(crate) fn cleaned(path: &str) -> String {
    let mut segments = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    let slash = if path.ends_with('/') && !segments.is_empty() { "/" } else { "" };
    format!("/{}{slash}", segments.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned() {
        for (path, expected) in [
            ("", "/"),
            ("/", "/"),
            ("//", "/"),
            ("/a//b/", "/a/b/"),
            ("/a/./b/../c", "/a/c"),
            ("/../../a", "/a"),
            ("/a/..", "/"),
        ] {
            assert_eq!(cleaned(path), expected, "{path}");
        }
    }

    #[test]
    fn links_to_whom_we_asked_lead_through_us() {
        let links = Links {
            prefix: "/api/v1/namespaces/n/pods/p/proxy".to_owned(),
            host: "10.0.0.1:80".to_owned(),
            asked: "localhost:8001".to_owned(),
        };
        let through = |rest: &str| Some(format!("{}{rest}", links.prefix));
        for (link, expected) in [
            ("/", through("/")),
            ("/a/b/?c=d#e", through("/a/b/?c=d#e")),
            ("http://10.0.0.1:80/a", through("/a")),
            ("//10.0.0.1:80/a", through("/a")),
            ("/a/../b", through("/b")),
            ("http://localhost:8001/a", through("/a").map(|path| format!("http://localhost:8001{path}"))),
            ("/api/v1/namespaces/n/pods/p/proxy/x", None),
            ("http://10.0.0.1:80/api/v1/namespaces/n/pods/p/proxy/x", through("/x")),
            ("http://10.0.0.1:81/a", None),
            ("https://example.com/", None),
            ("http://user@10.0.0.1:80/a", None),
            ("a/b", None),
            ("?a=b", None),
            ("#top", None),
            ("", None),
            ("mailto:a@b.c", None),
            ("data:text/plain,/x", None),
            ("javascript:/x/", None),
        ] {
            assert_eq!(links.rewritten(link), expected, "{link}");
        }
    }
}
