//! Since when Ingresses claim their hosts. An Ingress has no place of its own for that in its status, so the edge keeps it
//! on its own disk: an old Ingress that names somebody's host later does not take it, whatever is restarted in between.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use client::{ObjectKey, ResourceExt as _};
use jiff::Timestamp;
use k8s_openapi::api::networking::v1::Ingress;
use serde::{Deserialize, Serialize};

use crate::routing::HostPattern;

/// `ingress-claims.json`: by `namespace/name`.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct File(BTreeMap<String, Kept>);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Kept {
    uid: String,
    hosts: BTreeMap<String, Timestamp>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Claims {
    path: PathBuf,
    file: File,
    changed: bool,
}

impl Claims {
    /// What was kept in the folder. A file that cannot be read is left out: then claims count from now.
    pub(super) async fn open(folder: &Path) -> Self {
        let path = folder.join("ingress-claims.json");
        let file = match tokio::fs::read(&path).await {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!(path = %path.display(), %error, "the claims of Ingresses are unreadable");
                File::default()
            }),
            Err(_) => File::default(),
        };
        Self { path, file, changed: false }
    }

    /// Since when an Ingress claims each of its hosts. `inherited` says since when its namespace claims one.
    pub(super) fn since(
        &mut self,
        ingress: &Ingress,
        hosts: impl IntoIterator<Item = HostPattern>,
        inherited: impl Fn(&HostPattern) -> Option<Timestamp>,
        now: Timestamp,
    ) -> BTreeMap<HostPattern, Timestamp> {
        let uid = ingress.uid().unwrap_or_default();
        let key = ObjectKey::of(ingress).to_string();
        let kept = self.file.0.get(&key).filter(|kept| kept.uid == uid).cloned().unwrap_or_default();
        // One that was never changed claims what it did when it was made.
        let created = ingress.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let created =
            created.filter(|_| ingress.metadata.generation.is_none_or(|generation| generation <= 1));
        let since = |host: &HostPattern| {
            let own = kept.hosts.get(&host.to_string()).copied().or(created);
            own.into_iter().chain(inherited(host)).min().unwrap_or(now)
        };
        let found: BTreeMap<_, _> = hosts.into_iter().map(|host| (host.clone(), since(&host))).collect();
        let hosts = found.iter().map(|(host, since)| (host.to_string(), *since)).collect();
        let entry = Kept { uid, hosts };
        if self.file.0.get(&key) != Some(&entry) {
            self.file.0.insert(key, entry);
            self.changed = true;
        }
        found
    }

    /// Forgets Ingresses that are gone, and writes what has changed.
    pub(super) async fn keep(&mut self, is_there: impl Fn(&str) -> bool) {
        let before = self.file.0.len();
        self.file.0.retain(|key, _| is_there(key));
        if !self.changed && self.file.0.len() == before {
            return;
        }
        // A crash leaves the old file or the new one.
        let draft = self.path.with_extension("draft");
        let written = async {
            let bytes = serde_json::to_vec(&self.file).map_err(std::io::Error::other)?;
            tokio::fs::write(&draft, bytes).await?;
            tokio::fs::rename(&draft, &self.path).await
        };
        match written.await {
            Ok(()) => self.changed = false,
            Err(error) => tracing::warn!(path = %self.path.display(), %error, "claims cannot be kept"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ingress(uid: &str, generation: i64) -> Ingress {
        serde_json::from_value(json!({"metadata": {"namespace": "a", "name": "x", "uid": uid,
            "generation": generation, "creationTimestamp": "1970-01-01T00:00:01Z"}}))
        .unwrap()
    }

    #[tokio::test]
    async fn a_claim_counts_from_when_it_was_first_seen() {
        let folder = tempfile::tempdir().unwrap();
        let second = |n| Timestamp::from_second(n).unwrap();
        let host = |name| HostPattern::parse(Some(name)).unwrap();
        let mut claims = Claims::open(folder.path()).await;
        let ask = |claims: &mut Claims, ingress: &Ingress, name, now| {
            claims.since(ingress, [host(name)], |_| None, second(now))[&host(name)]
        };
        assert_eq!(ask(&mut claims, &ingress("u", 1), "a.test", 5), second(1));
        assert_eq!(ask(&mut claims, &ingress("u", 2), "a.test", 6), second(1));
        assert_eq!(ask(&mut claims, &ingress("u", 3), "b.test", 7), second(7));
        claims.keep(|_| true).await;
        let mut again = Claims::open(folder.path()).await;
        assert_eq!(ask(&mut again, &ingress("u", 3), "b.test", 9), second(7));
        // Another object of the same name, and one whose namespace was there before.
        assert_eq!(ask(&mut again, &ingress("v", 2), "b.test", 9), second(9));
        let inherited = again.since(&ingress("w", 2), [host("c.test")], |_| Some(second(3)), second(9));
        assert_eq!(inherited[&host("c.test")], second(3));
        again.keep(|_| false).await;
        let mut empty = Claims::open(folder.path()).await;
        assert_eq!(ask(&mut empty, &ingress("w", 2), "c.test", 11), second(11));
    }
}
