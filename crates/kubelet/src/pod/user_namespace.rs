//! Which of the machine's ids a pod's user namespace has (`hostUsers: false`): 65,536 that no other pod has, the machine's own
//! first 65,536 never.
//!
//! A pod's claim lies in its directory, where the next process of the node finds it; it goes with the directory, which stays
//! until nothing of the pod runs any more.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use runtime::UserNamespace;

use super::config::Paths;

/// As many as upstream gives.
const SIZE: u32 = 65_536;
/// The name of a claim: a link to the number of the first id, since a link is never half written.
const CLAIM: &str = "user-namespace";

/// Held while one is looked for and claimed.
static CLAIMING: Mutex<()> = Mutex::new(());

/// The ids of this pod, claimed now unless they were before. Blocks.
pub(crate) fn claim(paths: &Paths, uid: &str) -> io::Result<UserNamespace> {
    let _claiming = CLAIMING.lock().unwrap_or_else(PoisonError::into_inner);
    let own = paths.pod(uid);
    if let Some(claimed) = read(&own)? {
        return Ok(claimed);
    }
    let mut taken = BTreeSet::new();
    for pod in std::fs::read_dir(&paths.pods).into_iter().flatten() {
        taken.extend(read(&pod?.path())?.map(|claimed| claimed.base));
    }
    let all = (1..=u32::MAX / SIZE - 1).map(|number| number * SIZE);
    let base = all.into_iter().find(|base| !taken.contains(base));
    let base = base.ok_or_else(|| io::Error::other("all ids of this machine are taken by other pods"))?;
    std::fs::create_dir_all(&own)?;
    symlink(base.to_string(), own.join(CLAIM))?;
    Ok(UserNamespace { base, size: SIZE })
}

/// What a pod has claimed. One that cannot be read is an error for everybody: it may be anything.
fn read(pod: &Path) -> io::Result<Option<UserNamespace>> {
    let claim = pod.join(CLAIM);
    let number = match std::fs::read_link(&claim) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        number => number?,
    };
    let base = number.to_str().and_then(|number| number.parse::<u32>().ok());
    let claimed = base.filter(|base| *base > 0 && base.is_multiple_of(SIZE));
    let why = || io::Error::new(io::ErrorKind::InvalidData, format!("{}: no range of ids", claim.display()));
    claimed.map(|base| Some(UserNamespace { base, size: SIZE })).ok_or_else(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_pods_have_an_id_in_common() {
        let directory = tempfile::tempdir().unwrap();
        let paths = Paths { pods: directory.path().join("pods"), logs: directory.path().join("logs") };
        let claims: Vec<u32> =
            (0..110).map(|number| claim(&paths, &format!("u{number}")).unwrap().base).collect();
        assert_eq!(claims, (1..=110).map(|number| number * SIZE).collect::<Vec<_>>());
        // The same pod, the same ids; a pod that is gone gives its own back.
        assert_eq!(claim(&paths, "u7").unwrap().base, 8 * SIZE);
        std::fs::remove_dir_all(paths.pod("u7")).unwrap();
        std::fs::create_dir_all(paths.pod("without")).unwrap();
        assert_eq!(claim(&paths, "new").unwrap().base, 8 * SIZE);
        assert_eq!(claim(&paths, "newer").unwrap().base, 111 * SIZE);
        assert!(claim(&paths, "newest").unwrap().on_machine(SIZE - 1).is_some());

        std::fs::remove_file(paths.pod("u3").join(CLAIM)).unwrap();
        symlink("something", paths.pod("u3").join(CLAIM)).unwrap();
        assert!(claim(&paths, "another").is_err());
        assert_eq!(claim(&paths, "new").unwrap().base, 8 * SIZE);
    }
}
