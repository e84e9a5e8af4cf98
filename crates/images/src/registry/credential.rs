//! Who one is to a registry, and the files of docker's shape that say so.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

use crate::Reference;

/// Docker Hub's key in files of docker's shape.
const HUB: &str = "index.docker.io";
/// With padding or without: both are written.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Who one is.
#[derive(Clone, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default)]
pub struct Credential {
    /// The name; may be empty where there is a token.
    pub username: String,
    /// The password.
    pub password: String,
    /// Exchanged for a token at the registry's token server.
    #[serde(rename = "identitytoken")]
    pub identity_token: String,
    /// Shown to the registry as it is.
    #[serde(rename = "registrytoken")]
    pub registry_token: String,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Its secrets are nobody's business in a log.
        f.debug_struct("Credential").field("username", &self.username).finish_non_exhaustive()
    }
}

/// One entry of a file of docker's shape.
#[derive(Deserialize)]
struct Entry {
    #[serde(flatten)]
    credential: Credential,
    /// `name:password` in base64, which goes before the other two.
    #[serde(default)]
    auth: String,
}

#[derive(Deserialize)]
struct ConfigJson {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

/// Why a file of docker's shape cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct InvalidCredentials(String);

/// Credentials by the registries, repositories and patterns that they are for.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    /// In the order in which they were added.
    keys: Vec<(Pattern, Credential)>,
}

impl Keyring {
    /// Adds a `config.json` of docker, which is also what secrets of the type `kubernetes.io/dockerconfigjson` hold.
    ///
    /// # Errors
    /// When it is none; nothing of it is added then.
    pub fn add_config_json(&mut self, bytes: &[u8]) -> Result<(), InvalidCredentials> {
        let config: ConfigJson = parse(bytes)?;
        self.add_all(config.auths)
    }

    /// Adds a `.dockercfg`, its predecessor without the level above.
    ///
    /// # Errors
    /// When it is none; nothing of it is added then.
    pub fn add_dockercfg(&mut self, bytes: &[u8]) -> Result<(), InvalidCredentials> {
        self.add_all(parse(bytes)?)
    }

    /// Adds a credential for one registry.
    pub fn add(&mut self, registry: &str, credential: Credential) {
        self.keys.push((Pattern::of(registry), credential));
    }

    fn add_all(&mut self, entries: BTreeMap<String, Entry>) -> Result<(), InvalidCredentials> {
        let mut fresh = Vec::new();
        for (registry, mut entry) in entries {
            if !entry.auth.is_empty() {
                let wrong = |what: &str| InvalidCredentials(format!("auths[{registry}].auth: {what}"));
                let decoded = BASE64.decode(&entry.auth).map_err(|_| wrong("not base64"))?;
                let text = String::from_utf8(decoded).map_err(|_| wrong("not text"))?;
                let (name, password) =
                    text.split_once(':').ok_or_else(|| wrong("not a name and a password"))?;
                entry.credential.username = name.to_owned();
                // Some clients fill it up with zeros.
                entry.credential.password = password.trim_end_matches('\0').to_owned();
            }
            fresh.push((Pattern::of(&registry), entry.credential));
        }
        self.keys.extend(fresh);
        Ok(())
    }

    /// What may be tried for an image, the most special first; upstream's rule: hosts by their parts, each of which may be
    /// a pattern, the same port, and the beginning of a path.
    pub fn lookup(&self, image: &Reference) -> Vec<Credential> {
        let name = image.repository();
        let mut fitting: Vec<&(Pattern, Credential)> =
            self.keys.iter().filter(|(pattern, _)| pattern.fits(&name)).collect();
        fitting.sort_by_key(|(pattern, _)| std::cmp::Reverse(pattern.text()));
        if fitting.is_empty() && image.domain() == "docker.io" {
            fitting.extend(self.keys.iter().filter(|(pattern, _)| pattern.text() == HUB));
        }
        let mut found: Vec<Credential> = Vec::new();
        for (_, credential) in fitting {
            if !found.contains(credential) {
                found.push(credential.clone());
            }
        }
        found
    }
}

fn parse<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, InvalidCredentials> {
    // What a secret holds is not repeated in a message.
    serde_json::from_slice(bytes).map_err(|error| {
        InvalidCredentials(format!("not a docker config: line {}, column {}", error.line(), error.column()))
    })
}

/// A key of such a file: `host[:port][/path]`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    host: String,
    port: Option<String>,
    path: String,
}

impl Pattern {
    fn of(text: &str) -> Self {
        let bare = text.split_once("://").map_or(text, |(_, rest)| rest);
        let (authority, path) = split(bare);
        // The address of an API's version stands for the whole registry.
        let path = path
            .strip_prefix("/v1")
            .or(path.strip_prefix("/v2"))
            .filter(|rest| rest.is_empty() || rest.starts_with('/'))
            .unwrap_or(path);
        let (host, port) = split_port(authority);
        Self {
            host: host.to_owned(),
            port: port.map(str::to_owned),
            path: path.trim_end_matches('/').to_owned(),
        }
    }

    fn text(&self) -> String {
        match &self.port {
            Some(port) => format!("{}:{port}{}", self.host, self.path),
            None => format!("{}{}", self.host, self.path),
        }
    }

    /// Whether it is for a repository, `host[:port]/path`.
    fn fits(&self, name: &str) -> bool {
        let (authority, path) = split(name);
        let (host, port) = split_port(authority);
        let (mine, theirs): (Vec<&str>, Vec<&str>) =
            (self.host.split('.').collect(), host.split('.').collect());
        self.port.as_deref() == port
            && path.starts_with(&self.path)
            && mine.len() == theirs.len()
            && mine.iter().zip(theirs).all(|(pattern, part)| glob(pattern.as_bytes(), part.as_bytes()))
    }
}

fn split(text: &str) -> (&str, &str) {
    text.split_at(text.find('/').unwrap_or(text.len()))
}

fn split_port(authority: &str) -> (&str, Option<&str>) {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    };
    // What is in brackets is an address of IPv6, or else a pattern's class.
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    (bare.filter(|bare| bare.contains(':')).unwrap_or(host), port)
}

/// `*`, `?` and `[…]`, within one part of a host; in time that grows with both lengths only.
fn glob(mut pattern: &[u8], mut text: &[u8]) -> bool {
    // Behind the last star, and how much of the text it has swallowed so far.
    let mut star: Option<(&[u8], &[u8])> = None;
    loop {
        if let [b'*', rest @ ..] = pattern {
            (pattern, star) = (rest, Some((rest, text)));
        } else if let Some((rest, after)) = one(pattern, text) {
            (pattern, text) = (rest, after);
        } else if pattern.is_empty() && text.is_empty() {
            return true;
        } else if let Some((behind, [_, rest @ ..])) = star {
            (pattern, text, star) = (behind, rest, Some((behind, rest)));
        } else {
            return false;
        }
    }
}

/// What is left when the pattern's first element stands for the text's first byte.
fn one<'a, 'b>(pattern: &'a [u8], text: &'b [u8]) -> Option<(&'a [u8], &'b [u8])> {
    let (first, after) = text.split_first()?;
    let rest = match pattern {
        [b'?', rest @ ..] => rest,
        [b'[', rest @ ..] => {
            let end = rest.iter().position(|byte| *byte == b']')?;
            if !class(&rest[..end], *first) {
                return None;
            }
            &rest[end + 1..]
        }
        [byte, rest @ ..] if byte == first => rest,
        _ => return None,
    };
    Some((rest, after))
}

fn class(mut set: &[u8], byte: u8) -> bool {
    let negated = set.first() == Some(&b'^');
    if negated {
        set = &set[1..];
    }
    let mut found = false;
    while let [first, rest @ ..] = set {
        (found, set) = match rest {
            [b'-', last, rest @ ..] => (found || (*first..=*last).contains(&byte), rest),
            _ => (found || *first == byte, rest),
        };
    }
    found != negated
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ring(keys: &[&str]) -> Keyring {
        let mut ring = Keyring::default();
        for key in keys {
            ring.add(key, Credential { username: (*key).to_owned(), ..Credential::default() });
        }
        ring
    }

    fn found(keys: &[&str], image: &str) -> Vec<String> {
        ring(keys).lookup(&image.parse().unwrap()).into_iter().map(|found| found.username).collect()
    }

    #[test]
    fn keys_fit_as_upstream_has_it() {
        for (key, image, fits) in [
            ("registry.example", "registry.example/a:1", true),
            ("https://registry.example/v2/", "registry.example/a:1", true),
            ("registry.example/v1x", "registry.example/a:1", false),
            ("registry.example/team", "registry.example/team/a", true),
            ("registry.example/team", "registry.example/other/a", false),
            ("registry.example:5000", "registry.example/a", false),
            ("registry.example", "registry.example:5000/a", false),
            ("registry.example:5000", "registry.example:5000/a", true),
            ("*.example", "registry.example/a", true),
            ("*.example", "a.registry.example/a", false),
            ("*.registry.example", "registry.example/a", false),
            ("reg*.ex?mple", "registry.example/a", true),
            ("[a-r]egistry.example", "registry.example/a", true),
            ("[^r]egistry.example", "registry.example/a", false),
            ("[registry.example", "registry.example/a", false),
            ("docker.io", "busybox", true),
            ("https://index.docker.io/v1/", "busybox", true),
            ("https://index.docker.io/v1/", "quay.io/busybox", false),
            ("[::1]:5000", "[::1]:5000/a", true),
        ] {
            assert_eq!(!found(&[key], image).is_empty(), fits, "{key} {image}");
        }
        let keys = ["registry.example", "registry.example/team", "*.example"];
        assert_eq!(
            found(&keys, "registry.example/team/a"),
            ["registry.example/team", "registry.example", "*.example"]
        );
    }

    #[test]
    fn files_of_dockers_shape_are_read() {
        let mut ring = Keyring::default();
        let auth = BASE64.encode("me:pass:word");
        let entries = format!(
            r#"{{"a.example": {{"auth": "{auth}", "email": "x"}}, "b.example": {{"username": "u", "password": "p"}}}}"#
        );
        ring.add_config_json(format!(r#"{{"auths": {entries}, "credsStore": "x"}}"#).as_bytes()).unwrap();
        let of = |ring: &Keyring, image: &str| ring.lookup(&image.parse().unwrap()).remove(0);
        assert_eq!(
            (of(&ring, "a.example/x").username, of(&ring, "a.example/x").password),
            ("me".into(), "pass:word".into())
        );
        assert_eq!(of(&ring, "b.example/x").password, "p");
        let mut old = Keyring::default();
        old.add_dockercfg(entries.as_bytes()).unwrap();
        assert_eq!(of(&old, "a.example/x").username, "me");
        let mut bad = Keyring::default();
        let error = bad.add_config_json(br#"{"auths": {"a": {"auth": "%"}}}"#).unwrap_err();
        assert_eq!(error.to_string(), "auths[a].auth: not base64");
        assert!(bad.add_config_json(b"secret").unwrap_err().to_string().contains("line 1"));
        assert!(!format!("{ring:?}").contains("pass"));
    }

    proptest! {
        #[test]
        fn no_key_panics(key in ".{0,30}") {
            let _ = found(&[&key], "registry.example:5000/a/b");
        }
    }
}
