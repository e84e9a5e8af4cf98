//! Image references: `[domain/]path[:tag][@digest]`, with Docker's shorthands.

use std::fmt;
use std::str::FromStr;

use crate::Digest;

/// The registry that a name without a domain means.
const DEFAULT_DOMAIN: &str = "docker.io";
/// The longest domain and path, as the distribution project has it.
const MAX_NAME: usize = 255;

/// Why a text is no image reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid reference {text:?}: {why}")]
pub struct ReferenceError {
    text: String,
    why: &'static str,
}

/// An image name, normalised: `busybox` is `docker.io/library/busybox:latest`.
///
/// A reference with neither tag nor digest takes the tag `latest`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// The registry: `docker.io`, `localhost:5000`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository in it: `library/busybox`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag, if the reference has one.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if the reference has one.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Domain and path.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The same repository at a digest.
    pub fn at(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.domain, self.path)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        parse(text).map_err(|why| ReferenceError { text: text.to_owned(), why })
    }
}

fn parse(text: &str) -> Result<Reference, &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err("64 hexadecimal digits are an image id, not a name");
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => {
            let digest = digest.parse::<Digest>().map_err(|_| "its digest is not sha256:<64 hex digits>")?;
            (rest, Some(digest))
        }
        None => (text, None),
    };
    // A colon after the last slash begins a tag; before it, a port.
    let tag_at = rest.rfind(':').filter(|colon| !rest[*colon..].contains('/'));
    let (name, tag) = match tag_at {
        Some(colon) => (&rest[..colon], Some(&rest[colon + 1..])),
        None => (rest, None),
    };
    if let Some(tag) = tag {
        check_tag(tag)?;
    }
    let (domain, path) = match name.split_once('/') {
        Some((first, rest)) if is_domain(first) => (first, rest.to_owned()),
        _ => (DEFAULT_DOMAIN, name.to_owned()),
    };
    // The registry's old name.
    let domain = if domain == "index.docker.io" { DEFAULT_DOMAIN } else { domain };
    let path = match domain == DEFAULT_DOMAIN && !path.contains('/') {
        true => format!("library/{path}"),
        false => path,
    };
    check_domain(domain)?;
    check_path(&path)?;
    if domain.len() + 1 + path.len() > MAX_NAME {
        return Err("its name is longer than 255 characters");
    }
    let tag = tag.or(if digest.is_none() { Some("latest") } else { None });
    Ok(Reference { domain: domain.to_owned(), path, tag: tag.map(str::to_owned), digest })
}

/// Whether the part before the first slash names a registry: Docker's rule.
fn is_domain(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|b| b.is_ascii_uppercase())
}

fn check_domain(domain: &str) -> Result<(), &'static str> {
    const WHY: &str = "its domain is not a host name with an optional port";
    let (host, port) = match domain.strip_prefix('[') {
        // An IPv6 address stands in brackets.
        Some(rest) => {
            let (address, rest) = rest.split_once(']').ok_or(WHY)?;
            if address.is_empty() || !address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':') {
                return Err(WHY);
            }
            match rest.strip_prefix(':') {
                Some(port) => (None, Some(port)),
                None if rest.is_empty() => (None, None),
                None => return Err(WHY),
            }
        }
        None => match domain.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(domain), None),
        },
    };
    let label = |label: &str| {
        let bytes = label.as_bytes();
        let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        edge(bytes.first())
            && edge(bytes.last())
            && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
    };
    if !host.is_none_or(|host| host.split('.').all(label)) {
        return Err(WHY);
    }
    match port {
        Some(port) if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) => Err(WHY),
        _ => Ok(()),
    }
}

fn check_path(path: &str) -> Result<(), &'static str> {
    let component = |component: &str| {
        // Runs of letters and digits, with one of ".", "_", "__" or dashes between two runs.
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        component
            .split(|c: char| c.is_ascii() && plain(c as u8))
            .filter(|separator| !separator.is_empty())
            .all(|separator| matches!(separator, "." | "_" | "__") || separator.bytes().all(|b| b == b'-'))
            && component.bytes().next().is_some_and(plain)
            && component.bytes().next_back().is_some_and(plain)
    };
    match path.split('/').all(component) {
        true => Ok(()),
        false if path.bytes().any(|b| b.is_ascii_uppercase()) => {
            Err("its repository name must be lower case")
        }
        false => Err("its repository name has an empty or malformed component"),
    }
}

fn check_tag(tag: &str) -> Result<(), &'static str> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let rest = |b: u8| word(b) || b == b'.' || b == b'-';
    let first = tag.bytes().next().is_some_and(word);
    match first && tag.len() <= 128 && tag.bytes().all(rest) {
        true => Ok(()),
        false => Err("its tag is not of 1 to 128 letters, digits, '_', '.' and '-'"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_normalised_as_docker_does() {
        let hex = "a".repeat(64);
        for (given, wanted) in [
            ("busybox", "docker.io/library/busybox:latest"),
            ("busybox:1.36", "docker.io/library/busybox:1.36"),
            ("me/app", "docker.io/me/app:latest"),
            ("index.docker.io/me/app", "docker.io/me/app:latest"),
            ("docker.io/busybox", "docker.io/library/busybox:latest"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/app:v1", "localhost:5000/app:v1"),
            ("[::1]:5000/app", "[::1]:5000/app:latest"),
            ("registry.example/a/b__c/d--e.f:x", "registry.example/a/b__c/d--e.f:x"),
            ("UPPER/app", "UPPER/app:latest"),
            (&format!("busybox@sha256:{hex}"), &format!("docker.io/library/busybox@sha256:{hex}")),
            (&format!("busybox:1@sha256:{hex}"), &format!("docker.io/library/busybox:1@sha256:{hex}")),
        ] {
            assert_eq!(given.parse::<Reference>().unwrap().to_string(), wanted, "{given}");
        }
    }

    #[test]
    fn what_is_no_reference_is_refused_with_a_reason() {
        for (given, why) in [
            ("", "empty"),
            (&"a".repeat(64), "image id"),
            ("Busybox", "lower case"),
            ("a//b", "component"),
            ("a/../b", "component"),
            ("a_", "component"),
            ("a___b", "component"),
            ("a:", "tag"),
            ("a:-x", "tag"),
            ("a@sha256:12", "digest"),
            ("-x.example/a", "domain"),
            ("x.example:port/a", "domain"),
            (&format!("x.example/{}", "a".repeat(255)), "255"),
        ] {
            let error = given.parse::<Reference>().unwrap_err().to_string();
            assert!(error.contains(why), "{given}: {error}");
        }
    }

    proptest! {
        #[test]
        fn the_normal_form_is_a_fixed_point(text in "[a-zA-Z0-9._:/@\\[\\]-]{0,40}") {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference);
            }
        }

        #[test]
        fn no_text_panics(text in ".{0,60}") {
            let _ = text.parse::<Reference>();
        }

        #[test]
        fn built_names_parse(
            domain in "[a-z]{1,5}\\.[a-z]{2,3}(:[0-9]{1,5})?",
            path in "[a-z0-9]{1,5}([._-][a-z0-9]{1,3}){0,2}(/[a-z]{1,4}){0,2}",
            tag in "[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,10}",
        ) {
            let reference: Reference = format!("{domain}/{path}:{tag}").parse().unwrap();
            prop_assert_eq!(reference.domain(), domain);
            prop_assert_eq!(reference.path(), path);
            prop_assert_eq!(reference.tag(), Some(tag.as_str()));
        }
    }
}
