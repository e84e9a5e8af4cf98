//! Callers that take a container's output as it comes, beside its log.
//!
//! What one of them has not taken yet is kept here, at most one read's worth, and while it is, the container's output is
//! not read. So nothing is lost to a slow one; and one that takes nothing at all is cut off soon, so that nobody's
//! container waits for somebody who has gone.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;

/// How long an attached caller may take nothing.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// One caller's end of the container's outputs.
pub(crate) struct Attachment {
    pub(crate) caller: u64,
    sinks: [Sink; 2],
}

struct Sink {
    /// `None`: it wants no more.
    file: Option<OwnedFd>,
    pending: Vec<u8>,
    /// When it took something last while something was pending.
    taken: Instant,
}

impl Attachment {
    pub(crate) fn new(caller: u64, output: OwnedFd, errors: OwnedFd) -> std::io::Result<Self> {
        let sink = |file: OwnedFd| -> std::io::Result<Sink> {
            rustix::io::ioctl_fionbio(&file, true)?;
            Ok(Sink { file: Some(file), pending: Vec::new(), taken: Instant::now() })
        };
        Ok(Self { caller, sinks: [sink(output)?, sink(errors)?] })
    }

    /// Passes on what came on an output (0) or on errors (1).
    pub(crate) fn pass(&mut self, number: usize, bytes: &[u8]) {
        if let Some(sink) = self.sinks.get_mut(number).filter(|sink| sink.file.is_some()) {
            if sink.pending.is_empty() {
                sink.taken = Instant::now();
            }
            sink.pending.extend_from_slice(bytes);
            sink.flush();
        }
    }

    pub(crate) fn flush(&mut self) {
        self.sinks.iter_mut().for_each(Sink::flush);
    }

    /// The files that it is to take something from.
    pub(crate) fn pending(&self) -> impl Iterator<Item = &OwnedFd> {
        let pending = self.sinks.iter().filter(|sink| !sink.pending.is_empty());
        pending.filter_map(|sink| sink.file.as_ref())
    }

    pub(crate) fn has_taken_all(&self) -> bool {
        self.pending().next().is_none()
    }

    /// Whether it has taken nothing for too long.
    pub(crate) fn is_stuck(&self) -> bool {
        self.sinks.iter().any(|sink| !sink.pending.is_empty() && sink.taken.elapsed() > PATIENCE)
    }
}

impl Sink {
    fn flush(&mut self) {
        while let Some(file) = self.file.as_ref().filter(|_| !self.pending.is_empty()) {
            match rustix::io::write(file, &self.pending) {
                Ok(count) => {
                    self.pending.drain(..count);
                    self.taken = Instant::now();
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                // Nobody reads it any more.
                Err(_) => {
                    self.file = None;
                    self.pending = Vec::new();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_taken_at_once_is_kept_and_who_has_gone_is_forgotten() {
        let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let ((reader, output), (errors_reader, errors)) = (pipe(), pipe());
        let mut attachment = Attachment::new(1, output, errors).unwrap();
        let all: Vec<u8> = (0..200_000u32).map(|n| n as u8).collect();
        attachment.pass(0, &all);
        assert!(!attachment.has_taken_all() && !attachment.is_stuck());
        let mut taken = Vec::new();
        while taken.len() < all.len() {
            let mut piece = [0; 8192];
            let count = rustix::io::read(&reader, &mut piece).unwrap();
            taken.extend_from_slice(&piece[..count]);
            attachment.flush();
        }
        assert!(taken == all && attachment.has_taken_all());
        drop(errors_reader);
        attachment.pass(1, &all);
        assert!(attachment.has_taken_all());
    }
}
