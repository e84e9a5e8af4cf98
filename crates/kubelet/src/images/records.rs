//! As whom images were pulled: a pod may use an image that is here only if it could have pulled it (upstream's
//! `imagePullCredentialsVerificationPolicy: NeverVerifyPreloadedImages`). An image that the kubelet did not pull is for all.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A pull secret, and the credential that it held.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Source {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) hash: String,
}

/// Who may use an image under one name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Access {
    /// It was given to nobody in particular.
    everybody: bool,
    sources: Vec<Source>,
}

/// What is known of one image; a file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Record {
    image: String,
    /// By repository.
    names: BTreeMap<String, Access>,
}

/// What a record says to a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It may use the image.
    Yes,
    /// If it has one of the secrets or credentials.
    IfKnown,
}

/// One file an image.
pub(crate) struct Records {
    directory: PathBuf,
    /// Files are read and written by one at a time.
    writing: Mutex<()>,
}

impl Records {
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory, writing: Mutex::default() }
    }

    fn path(&self, image: &str) -> PathBuf {
        self.directory.join(format!("{}.json", image.replace([':', '/'], "-")))
    }

    /// A record that cannot be read is one of nobody in particular having been given the image: it is pulled again.
    fn read(&self, image: &str) -> Option<Record> {
        match fs::read(self.path(image)) {
            Ok(bytes) => Some(serde_json::from_slice(&bytes).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(_) => Some(Record::default()),
        }
    }

    /// Whether it matters for this image, under this repository, who asks.
    pub(crate) fn verdict(&self, image: &str, repository: &str) -> Verdict {
        match self.read(image) {
            None => Verdict::Yes,
            Some(record) if record.names.get(repository).is_some_and(|access| access.everybody) => {
                Verdict::Yes
            }
            Some(_) => Verdict::IfKnown,
        }
    }

    /// Whether one of these secrets, or what it holds, has pulled the image under this repository.
    pub(crate) fn knows<'a>(
        &self,
        image: &str,
        repository: &str,
        mut sources: impl Iterator<Item = &'a Source>,
    ) -> bool {
        let record = self.read(image).unwrap_or_default();
        let Some(access) = record.names.get(repository) else { return false };
        sources.any(|source| {
            access.sources.iter().any(|known| {
                let same = (&known.namespace, &known.name, &known.uid);
                known.hash == source.hash || same == (&source.namespace, &source.name, &source.uid)
            })
        })
    }

    /// Notes who has pulled an image; `None`: nobody in particular.
    pub(crate) fn pulled(&self, image: &str, repository: &str, by: Option<&Source>) -> io::Result<()> {
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut record = self.read(image).unwrap_or_default();
        record.image = image.to_owned();
        let access = record.names.entry(repository.to_owned()).or_default();
        match by {
            None => *access = Access { everybody: true, sources: Vec::new() },
            Some(source) if !access.everybody => {
                let place = |known: &Source| (known.namespace.clone(), known.name.clone(), known.uid.clone());
                access.sources.retain(|known| place(known) != place(source));
                access.sources.push(source.clone());
            }
            Some(_) => {}
        }
        fs::create_dir_all(&self.directory)?;
        let path = self.path(image);
        let fresh = path.with_extension("new");
        let mut file = fs::File::create(&fresh)?;
        file.write_all(&serde_json::to_vec(&record)?)?;
        file.sync_all()?;
        fs::rename(fresh, path)
    }

    /// Forgets all images but these, which were listed at that time or later: what has been noted since stays.
    pub(crate) fn retain(&self, images: &[String], listed: Timestamp) {
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let kept: Vec<PathBuf> = images.iter().map(|image| self.path(image)).collect();
        // Files' times run a little behind the clock.
        let listed = SystemTime::from(listed).checked_sub(Duration::from_secs(1));
        for entry in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let written = entry.metadata().and_then(|metadata| metadata.modified()).ok();
            if !kept.contains(&entry.path())
                && written < listed
                && let Err(error) = fs::remove_file(entry.path())
            {
                tracing::warn!(%error, "the record of an image that is gone stays");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_could_have_pulled_an_image_may_use_it() {
        let directory = tempfile::tempdir().unwrap();
        let records = Records::new(directory.path().join("pulled"));
        let source = |name: &str, hash: &str| Source {
            namespace: "n".into(),
            name: name.into(),
            uid: name.into(),
            hash: hash.into(),
        };
        let knows =
            |records: &Records, source: Source| records.knows("sha256:1", "a/b", [&source].into_iter());
        assert_eq!(records.verdict("sha256:1", "a/b"), Verdict::Yes, "it was there before");
        records.pulled("sha256:1", "a/b", Some(&source("s", "1"))).unwrap();
        let records = Records::new(directory.path().join("pulled"));
        assert_eq!(records.verdict("sha256:1", "a/b"), Verdict::IfKnown);
        assert_eq!(records.verdict("sha256:1", "a/c"), Verdict::IfKnown, "another repository");
        assert!(knows(&records, source("s", "changed")) && knows(&records, source("other", "1")));
        assert!(!knows(&records, source("other", "2")));
        std::fs::write(records.path("sha256:1"), "broken").unwrap();
        assert_eq!(records.verdict("sha256:1", "a/b"), Verdict::IfKnown);
        records.pulled("sha256:1", "a/b", None).unwrap();
        assert_eq!(records.verdict("sha256:1", "a/b"), Verdict::Yes);
        let other = ["sha256:2".to_owned()];
        records.retain(&other, Timestamp::UNIX_EPOCH);
        assert!(records.path("sha256:1").exists(), "noted after that list was made");
        records.retain(&other, Timestamp::now() + jiff::SignedDuration::from_hours(1));
        assert!(!records.path("sha256:1").exists());
    }
}
