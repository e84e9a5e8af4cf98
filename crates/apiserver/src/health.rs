//! `/livez`, `/readyz` and `/healthz`, whole or check by check.

use std::sync::atomic::{AtomicBool, Ordering};

use http::StatusCode;

use crate::query::Query;
use crate::respond::{self, Answer};
use crate::server::ApiServer;

/// What has to happen once before the server is ready.
#[derive(Debug, Default)]
pub(crate) struct Readiness {
    policy_installed: AtomicBool,
    stopping: AtomicBool,
}

impl Readiness {
    pub(crate) fn policy_is_installed(&self) {
        self.policy_installed.store(true, Ordering::Release);
    }

    pub(crate) fn is_stopping(&self) {
        self.stopping.store(true, Ordering::Release);
    }
}

/// A check by name: whether it is one of readiness only, and how it stands.
type Check = (&'static str, bool, bool);

fn checks(server: &ApiServer) -> [Check; 5] {
    let readiness = &server.readiness;
    [
        ("ping", false, true),
        ("store", false, server.registry.is_following()),
        ("informer-sync", true, server.authorization.is_synced()),
        ("poststarthook/rbac/bootstrap-roles", true, readiness.policy_installed.load(Ordering::Acquire)),
        ("shutdown", true, !readiness.stopping.load(Ordering::Acquire)),
    ]
}

/// Whether every check of readiness passes.
pub(crate) fn is_ready(server: &ApiServer) -> bool {
    checks(server).iter().all(|(_, _, passes)| *passes)
}

/// Answers `/livez`, `/readyz/ping` and the like; `None` where there is no such check.
pub(crate) fn serve(server: &ApiServer, path: &str, query: &Query) -> Option<Answer> {
    let mut parts = path.trim_matches('/').splitn(2, '/');
    let endpoint = parts.next().filter(|endpoint| matches!(*endpoint, "livez" | "readyz" | "healthz"))?;
    let only = parts.next();
    let with_readiness = endpoint != "livez";
    let all = checks(server);
    let excluded: Vec<&str> = query.all("exclude").collect();
    let mut relevant = all.iter().filter(|(name, of_readiness, _)| match only {
        Some(only) => *name == only,
        None => (with_readiness || !of_readiness) && !excluded.contains(name),
    });
    if only.is_some() && !all.iter().any(|(name, _, _)| Some(*name) == only) {
        return None;
    }
    let failed = relevant.clone().any(|(_, _, passes)| !passes);
    if !failed && !query.flag("verbose") {
        return Some(Ok(respond::text(StatusCode::OK, "ok")));
    }
    let mut report = String::new();
    for (name, _, passes) in relevant.by_ref() {
        let (sign, outcome) = if *passes { ('+', "ok") } else { ('-', "failed: reason withheld") };
        report.push_str(&format!("[{sign}]{name} {outcome}\n"));
    }
    report.push_str(&format!("{endpoint} check {}\n", if failed { "failed" } else { "passed" }));
    let code = if failed { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK };
    Some(Ok(respond::text(code, report)))
}
