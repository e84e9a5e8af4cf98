//! The few URLs that a registry's protocol needs: absolute ones over HTTP and HTTPS.

use std::fmt;
use std::net::IpAddr;

use http::Uri;

use super::RegistryError;

/// Scheme, host and port: who a connection is to, and who may see an authorization.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    pub(crate) https: bool,
    /// In lower case; an IPv6 address in brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// An origin, and a path with its query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) origin: Origin,
    pub(crate) path: String,
}

impl Origin {
    /// `host:port`, without the port that the scheme has by itself.
    pub(crate) fn authority(&self) -> String {
        match self.port == if self.https { 443 } else { 80 } {
            true => self.host.clone(),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl Url {
    /// Reads an absolute URL.
    pub(crate) fn parse(text: &str) -> Result<Self, RegistryError> {
        let wrong = |why: &str| RegistryError::Protocol { url: text.to_owned(), why: why.to_owned() };
        let uri: Uri = text.parse().map_err(|_| wrong("not a URL"))?;
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong("neither an http nor an https URL")),
        };
        let authority = uri.authority().ok_or_else(|| wrong("a URL without a host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("a URL with a user name"));
        }
        let port = authority.port_u16().unwrap_or(if https { 443 } else { 80 });
        let origin = Origin { https, host: authority.host().to_ascii_lowercase(), port };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self { origin, path: path.to_owned() })
    }

    /// What a `Location` given in answer to this URL means.
    pub(crate) fn join(&self, location: &str) -> Result<Self, RegistryError> {
        if location.contains("://") {
            return Self::parse(location);
        }
        let scheme = if self.origin.https { "https" } else { "http" };
        if location.starts_with("//") {
            return Self::parse(&format!("{scheme}:{location}"));
        }
        let path = match location.starts_with('/') {
            true => location.to_owned(),
            false => {
                let own = self.path.split('?').next().unwrap_or_default();
                let folder = own.rsplit_once('/').map_or("", |(folder, _)| folder);
                format!("{folder}/{location}")
            }
        };
        Self::parse(&format!("{scheme}://{}{path}", self.origin.authority()))
    }

    /// With one more parameter, which is encoded.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        let mark = if self.path.contains('?') { '&' } else { '?' };
        let pair = form_urlencoded::Serializer::new(String::new()).append_pair(name, value).finish();
        self.path = format!("{}{mark}{pair}", self.path);
        self
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.origin.https { "https" } else { "http" };
        // A query may carry a signature, and is nobody's business in a message.
        let path = self.path.split('?').next().unwrap_or_default();
        write!(f, "{scheme}://{}{path}", self.origin.authority())
    }
}

/// Whether a registry of this name is this machine itself, with which plain HTTP is spoken unless it is said otherwise.
pub(crate) fn is_loopback(domain: &str) -> bool {
    let host = match domain.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => domain.split(':').next().unwrap_or_default(),
    };
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_read_as_they_are_meant() {
        let url = Url::parse("https://Example.com/v2/a/blobs/uploads/?x=1").unwrap();
        assert_eq!(url.origin, Origin { https: true, host: "example.com".into(), port: 443 });
        for (location, expected) in [
            ("/v2/a", "https://example.com/v2/a"),
            ("up?y=2", "https://example.com/v2/a/blobs/uploads/up"),
            ("//cdn.example/x", "https://cdn.example/x"),
            ("http://[::1]:5000/x?secret", "http://[::1]:5000/x"),
        ] {
            assert_eq!(url.join(location).unwrap().to_string(), expected, "{location}");
        }
        for bad in ["ftp://a/b", "https:///x", "https://user:pass@host/x"] {
            assert!(url.join(bad).is_err(), "{bad}");
        }
        assert_eq!(url.with("digest", "sha256:0").path, "/v2/a/blobs/uploads/?x=1&digest=sha256%3A0");
    }

    #[test]
    fn loopback_is_told_by_its_name() {
        for (domain, expected) in [
            ("localhost", true),
            ("localhost:5000", true),
            ("127.0.0.1:5000", true),
            ("[::1]:5000", true),
            ("docker.io", false),
            ("localhost.example:5000", false),
        ] {
            assert_eq!(is_loopback(domain), expected, "{domain}");
        }
    }
}
