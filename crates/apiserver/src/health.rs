//! `/livez`, `/readyz` and `/healthz`, whole or check by check.

mod store;

use std::sync::atomic::{AtomicBool, Ordering};

use http::StatusCode;

use crate::query::Query;
use crate::respond::{self, Answer};
use crate::server::ApiServer;
use store::StoreHealth;

/// What has to happen before the server is ready, and how the store is.
#[derive(Debug, Default)]
pub(crate) struct Readiness {
    policy_installed: AtomicBool,
    stopping: AtomicBool,
    store: StoreHealth,
}

impl Readiness {
    pub(crate) fn policy_is_installed(&self) {
        self.policy_installed.store(true, Ordering::Release);
    }

    pub(crate) fn is_stopping(&self) {
        self.stopping.store(true, Ordering::Release);
    }
}

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    Ping,
    /// The store: whether it answers, and its changes reach us. One that is full only takes no writes.
    Store,
    /// The same; upstream may be told to wait longer for this one.
    StoreReadiness,
    Informers,
    Policy,
    Shutdown,
}

impl Check {
    /// In upstream's order.
    const ALL: [Self; 6] =
        [Self::Ping, Self::Store, Self::StoreReadiness, Self::Informers, Self::Policy, Self::Shutdown];

    fn name(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Store => "etcd",
            Self::StoreReadiness => "etcd-readiness",
            Self::Informers => "informer-sync",
            Self::Policy => "poststarthook/rbac/bootstrap-roles",
            Self::Shutdown => "shutdown",
        }
    }

    /// Whether it is one of `/readyz` alone.
    fn is_of_readiness(self) -> bool {
        matches!(self, Self::StoreReadiness | Self::Informers | Self::Shutdown)
    }

    /// Why it fails, if it does.
    async fn run(self, server: &ApiServer) -> Result<(), String> {
        let readiness = &server.readiness;
        let insist = |passes: bool, otherwise: &str| passes.then_some(()).ok_or_else(|| otherwise.to_owned());
        match self {
            Self::Ping => Ok(()),
            Self::Store | Self::StoreReadiness => {
                let following = server.registry.is_following();
                insist(following, "changes in the store do not reach this server")?;
                let registry = server.registry.clone();
                let ask = || async move { registry.health().await };
                readiness.store.outcome((&server.clock, &server.upgraded), ask).await
            }
            Self::Informers => insist(server.authorization.is_synced(), "1 informers not started yet"),
            Self::Policy => insist(readiness.policy_installed.load(Ordering::Acquire), "not finished"),
            Self::Shutdown => insist(!readiness.stopping.load(Ordering::Acquire), "process is shutting down"),
        }
    }
}

/// Answers `/livez`, `/readyz/ping` and the like; `None` where there is no such check.
pub(crate) async fn serve(server: &ApiServer, path: &str, query: &Query) -> Option<Answer> {
    let mut parts = path.trim_matches('/').splitn(2, '/');
    let endpoint = parts.next().filter(|endpoint| matches!(*endpoint, "livez" | "readyz" | "healthz"))?;
    let checks = Check::ALL.into_iter().filter(|check| endpoint == "readyz" || !check.is_of_readiness());
    if let Some(only) = parts.next() {
        let check = checks.into_iter().find(|check| check.name() == only)?;
        return Some(Ok(match check.run(server).await {
            Ok(()) => respond::text(StatusCode::OK, "ok"),
            Err(why) => {
                let said = format!("internal server error: {why}\n");
                respond::text(StatusCode::INTERNAL_SERVER_ERROR, said)
            }
        }));
    }
    let mut excluded: Vec<&str> = query.all("exclude").collect();
    excluded.sort_unstable();
    excluded.dedup();
    let (mut report, mut failed) = (String::new(), Vec::new());
    for check in checks {
        let name = check.name();
        if let Some(at) = excluded.iter().position(|each| *each == name) {
            excluded.remove(at);
            report.push_str(&format!("[+]{name} excluded: ok\n"));
            continue;
        }
        match check.run(server).await {
            Ok(()) => report.push_str(&format!("[+]{name} ok\n")),
            // Who may see no more than this path is not told why.
            Err(why) => {
                report.push_str(&format!("[-]{name} failed: reason withheld\n"));
                failed.push(format!("{name}: {why}"));
            }
        }
    }
    Some(Ok(conclude(endpoint, report, &excluded, &failed, query)))
}

fn conclude(
    endpoint: &str,
    mut report: String,
    unknown: &[&str],
    failed: &[String],
    query: &Query,
) -> http::Response<crate::body::Body> {
    if !unknown.is_empty() {
        let quoted: Vec<_> = unknown.iter().map(|name| format!("{name:?}")).collect();
        let quoted = quoted.join(",");
        report.push_str(&format!("warn: some health checks cannot be excluded: no matches for {quoted}\n"));
    }
    if !failed.is_empty() {
        tracing::debug!(endpoint, failed = failed.join("; "), "a check failed");
        report.push_str(&format!("{endpoint} check failed\n"));
        return respond::text(StatusCode::INTERNAL_SERVER_ERROR, report);
    }
    if query.get("verbose").is_none() {
        return respond::text(StatusCode::OK, "ok");
    }
    report.push_str(&format!("{endpoint} check passed\n"));
    respond::text(StatusCode::OK, report)
}
