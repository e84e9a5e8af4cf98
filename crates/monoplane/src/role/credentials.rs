//! The files by which a role proves who it is. Whoever issued them replaces them before they expire; a role reads them
//! when it starts, and ends when they have changed, to be started again with the new ones.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clock::Clock;
use tokio_util::sync::CancellationToken;

use super::certificates::EVERY;

/// Files, and what they held when the role read them.
pub struct Credentials(Vec<(PathBuf, Vec<u8>)>);

impl Credentials {
    /// These files as they are now. To be called before the role reads them, so that no change goes unseen.
    pub fn read(files: impl IntoIterator<Item = PathBuf>) -> Self {
        Self(files.into_iter().map(|file| (file.clone(), std::fs::read(file).unwrap_or_default())).collect())
    }

    /// Whether there is something new. A file that is missing or closed to us may be on its way.
    fn are_replaced(&self) -> bool {
        let is_new = |(file, known): &(PathBuf, Vec<u8>)| std::fs::read(file).is_ok_and(|now| now != *known);
        self.0.iter().any(is_new)
    }

    /// Runs the role until it ends. Tells it to, in order, when its credentials have been replaced.
    ///
    /// # Errors
    /// The role's own, and that it has to be started again.
    pub async fn guard(
        self,
        role: impl Future<Output = Result<()>>,
        stop: &CancellationToken,
        clock: &dyn Clock,
    ) -> Result<()> {
        let replaced = async {
            while !self.are_replaced() {
                clock.sleep(EVERY).await;
            }
        };
        let mut role = std::pin::pin!(role);
        tokio::select! {
            done = &mut role => return done,
            () = replaced => {}
        }
        stop.cancel();
        role.await?;
        bail!("the credentials have been renewed: the role ends, to be started again with the new ones")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use clock::ManualClock;

    use super::*;

    #[tokio::test]
    async fn a_role_ends_in_order_when_its_credentials_are_renewed() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("kubeconfig");
        std::fs::write(&file, "old").unwrap();
        let credentials = Credentials::read([file.clone(), directory.path().join("none")]);
        let (clock, stop) = (ManualClock::new(jiff::Timestamp::UNIX_EPOCH), CancellationToken::new());
        let role = async {
            stop.cancelled().await;
            Ok(())
        };
        let renewal = async {
            clock.until_sleepers(1).await;
            std::fs::remove_file(&file).unwrap();
            clock.advance(EVERY);
            while clock.next_deadline().is_none_or(|deadline| deadline <= clock.monotonic()) {
                tokio::task::yield_now().await;
            }
            assert!(!stop.is_cancelled());
            std::fs::write(&file, "new").unwrap();
            clock.advance(EVERY);
        };
        let (ended, ()) = tokio::join!(credentials.guard(role, &stop, &clock), renewal);
        assert!(ended.unwrap_err().to_string().contains("renewed"));
    }

    #[tokio::test]
    async fn a_role_that_ends_by_itself_says_why() {
        let (clock, stop) = (ManualClock::new(jiff::Timestamp::UNIX_EPOCH), CancellationToken::new());
        let role = std::future::ready(Err(anyhow::anyhow!("its disk failed")));
        let ended = Credentials::read([]).guard(role, &stop, &clock).await;
        assert_eq!(ended.unwrap_err().to_string(), "its disk failed");
    }
}
