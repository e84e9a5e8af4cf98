//! What each role is made of: the one place where the rooms are put together.

use anyhow::{Context, Result, ensure};
use rustix::process::{
    Resource, Rlimit, Signal, getppid, getrlimit, set_parent_process_death_signal, setrlimit,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

pub mod apart;
mod certificates;
mod cluster_info;
mod confine;
mod credentials;
mod definitions;
pub mod edge;
mod encryption;
mod endpoints;
mod front_proxy;
mod inbound;
pub mod join;
pub mod marks;
pub mod node;
mod peers;
pub mod pods;
mod preparing;
mod programs;
pub mod registries;
pub mod server;
mod service_cidr;
mod services;
pub mod storage;
mod tunnels;

pub use certificates::EVERY;

/// A supervised role must not outlive its supervisor: the next one would find its sockets and files taken.
fn end_with_parent(supervisor: Option<u32>) -> Result<()> {
    if let Some(supervisor) = supervisor {
        set_parent_process_death_signal(Some(Signal::KILL)).context("asking to end with the supervisor")?;
        // It may have ended before we asked.
        let parent = getppid().map(|pid| pid.as_raw_nonzero().get().cast_unsigned());
        ensure!(parent == Some(supervisor), "the supervisor has ended");
    }
    Ok(())
}

/// Raises the soft limit on open files to the hard one, and says what it is: connections take one each, and most systems
/// begin with 1,024.
fn descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    let now = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!(%error, "the limit on open files cannot be raised");
            limit.current
        }
    };
    now.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

/// The body of the hidden subcommand `shim`. Called before any thread exists.
pub fn shim(words: &[std::ffi::OsString]) -> std::process::ExitCode {
    let code = sandbox::shim::main(words.iter().cloned(), programs::WORKLOADS);
    std::process::ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// A token that is cancelled when this process is asked to end.
pub fn stop_on_signal() -> Result<CancellationToken> {
    let stop = CancellationToken::new();
    let cancel = stop.clone();
    let mut interrupt = signal(SignalKind::interrupt()).context("watching for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("watching for SIGTERM")?;
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        cancel.cancel();
    });
    Ok(stop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_files_as_the_system_lets_us() {
        let most = getrlimit(Resource::Nofile).maximum;
        let raised = descriptors();
        assert_eq!(getrlimit(Resource::Nofile).current, most);
        assert!(most.is_none_or(|most| most == raised as u64));
    }
}
