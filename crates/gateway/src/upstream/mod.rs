//! The way to what stands behind Services: endpoints, which of them is asked next, and the connections to them that are
//! kept.
//!
//! A [`Backend`] is one port of a Service. Its endpoints are swapped as they come and go; one that has left keeps its
//! requests under way and gets no more. Each thread that serves clients has connections of its own, so that no request
//! waits for another thread to wake up.

mod connection;
mod endpoint;
mod http1;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use egress::Connector;

pub(crate) use connection::{Lease, Sent};
pub(crate) use endpoint::Endpoint;

/// Bounds of requests to Services.
#[derive(Clone, Debug)]
pub struct ProxyLimits {
    /// How long connecting to an endpoint may take.
    pub connect: Duration,
    /// How long an endpoint may take to begin its reply.
    pub reply: Duration,
    /// How long a body or an upgraded connection may stand still.
    pub idle: Duration,
    /// Bytes of a request's body.
    pub request_body: u64,
    /// Requests at a time to one endpoint.
    pub requests: usize,
    /// Connections that a thread keeps to one endpoint while they are not used.
    pub kept: usize,
    /// How long they are kept.
    pub kept_for: Duration,
    /// How long one may have waited for a request that must not be sent twice: endpoints close what waits for long, and
    /// what is on its way just then is lost.
    pub fresh_for: Duration,
}

impl Default for ProxyLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            reply: Duration::from_secs(60),
            idle: Duration::from_secs(300),
            request_body: 1 << 30,
            requests: 4096,
            kept: 64,
            kept_for: Duration::from_secs(30),
            fresh_for: Duration::from_secs(1),
        }
    }
}

/// What endpoints of a port speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Protocol {
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}

/// What every way to an endpoint shares.
pub(crate) struct Ways {
    pub(crate) connector: Connector,
    pub(crate) limits: ProxyLimits,
    /// Threads that serve connections.
    pub(crate) threads: usize,
}

/// One port of a Service.
pub(crate) struct Backend {
    /// `namespace/service:port`.
    pub(crate) name: String,
    endpoints: ArcSwap<Endpoints>,
    next: AtomicUsize,
}

/// The endpoints of a moment, or why there are none.
#[derive(Default)]
struct Endpoints {
    all: Vec<Arc<Endpoint>>,
    why_none: String,
}

impl Backend {
    pub(crate) fn new(name: String) -> Self {
        Self { name, endpoints: ArcSwap::default(), next: AtomicUsize::new(0) }
    }

    /// Makes these its endpoints. Those that stay keep their connections; those that leave finish what is under way.
    pub(crate) fn set(&self, wanted: &[SocketAddr], protocol: Protocol, why_none: &str, ways: &Arc<Ways>) {
        let before = self.endpoints.load();
        let stays = |endpoint: &Endpoint| endpoint.protocol == protocol && wanted.contains(&endpoint.address);
        if before.why_none == why_none
            && before.all.len() == wanted.len()
            && before.all.iter().all(|e| stays(e))
        {
            return;
        }
        let all = wanted.iter().map(|address| {
            let known =
                before.all.iter().find(|known| known.address == *address && known.protocol == protocol);
            known.cloned().unwrap_or_else(|| Arc::new(Endpoint::new(*address, protocol, ways.clone())))
        });
        let now = Endpoints { all: all.collect(), why_none: why_none.to_owned() };
        self.endpoints.store(Arc::new(now));
        before.all.iter().filter(|endpoint| !stays(endpoint)).for_each(|endpoint| endpoint.retire());
    }

    /// Lets all of them go.
    pub(crate) fn retire(&self) {
        self.endpoints.swap(Arc::default()).all.iter().for_each(|endpoint| endpoint.retire());
    }

    /// Closes connections that nobody has used for long.
    pub(crate) fn sweep(&self) {
        self.endpoints.load().all.iter().for_each(|endpoint| endpoint.sweep());
    }

    /// Why it has no endpoint.
    pub(crate) fn why_none(&self) -> String {
        self.endpoints.load().why_none.clone()
    }

    /// The endpoint to ask: of the next in turn and another, the one with less to do; not one of those that were tried.
    pub(crate) fn pick(&self, tried: &[SocketAddr]) -> Option<Arc<Endpoint>> {
        let endpoints = self.endpoints.load();
        let all = &endpoints.all;
        let count = all.len();
        if count <= 1 {
            return all.first().filter(|only| only.has_room() && !tried.contains(&only.address)).cloned();
        }
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let first = turn % count;
        // Spread over the others in an order that has nothing to do with the turns.
        let second = (first + 1 + scattered(turn) % (count - 1)) % count;
        let fit = |endpoint: &&Arc<Endpoint>| {
            endpoint.has_room() && endpoint.is_well() && !tried.contains(&endpoint.address)
        };
        let two = [&all[first], &all[second]];
        if let Some(found) = two.into_iter().filter(fit).min_by_key(|endpoint| endpoint.load()) {
            return Some(found.clone());
        }
        let rest = || all[first..].iter().chain(&all[..first]);
        // One that could not be reached a moment ago is better than none.
        let untried = |endpoint: &&Arc<Endpoint>| endpoint.has_room() && !tried.contains(&endpoint.address);
        rest().find(fit).or_else(|| rest().find(untried)).cloned()
    }
}

fn scattered(turn: usize) -> usize {
    // Fibonacci hashing; the high bits are the good ones.
    ((turn as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use egress::Policy;

    use super::*;

    fn ways() -> Arc<Ways> {
        let limits = ProxyLimits { requests: 2, ..ProxyLimits::default() };
        Arc::new(Ways { connector: Connector::new(Policy::default()), limits, threads: 1 })
    }

    fn addresses(count: u8) -> Vec<SocketAddr> {
        (1..=count).map(|last| SocketAddr::from(([192, 0, 2, last], 80))).collect()
    }

    #[test]
    fn endpoints_take_turns_and_the_busy_one_fewer() {
        let backend = Backend::new("a/b:80".into());
        backend.set(&addresses(4), Protocol::Http1, "", &ways());
        let mut seen: BTreeMap<SocketAddr, usize> = BTreeMap::new();
        for _ in 0..400 {
            *seen.entry(backend.pick(&[]).unwrap().address).or_default() += 1;
        }
        assert!(seen.len() == 4 && seen.values().all(|count| (90..=110).contains(count)), "{seen:?}");
        let busy = backend.pick(&[]).unwrap();
        let _under_way = busy.begin();
        let picked = (0..400).filter(|_| backend.pick(&[]).unwrap().address == busy.address).count();
        assert!(picked < 10, "{picked}");
        // Full, it gets none at all.
        let _more = busy.begin();
        assert!((0..100).all(|_| backend.pick(&[]).unwrap().address != busy.address));
    }

    #[test]
    fn who_was_tried_or_fails_is_left_out_while_there_is_another() {
        let backend = Backend::new("a/b:80".into());
        let all = addresses(3);
        backend.set(&all, Protocol::Http1, "", &ways());
        assert_eq!(backend.pick(&all[..2]).unwrap().address, all[2]);
        assert!(backend.pick(&all).is_none());
        let failed = backend.pick(&all[1..]).unwrap();
        failed.failed();
        assert!((0..100).all(|_| backend.pick(&[]).unwrap().address != failed.address));
        assert_eq!(backend.pick(&all[1..]).unwrap().address, failed.address);
    }

    #[test]
    fn endpoints_that_stay_are_the_same() {
        let (backend, ways) = (Backend::new("a/b:80".into()), ways());
        let all = addresses(2);
        backend.set(&all[..1], Protocol::Http1, "", &ways);
        let first = backend.pick(&[]).unwrap();
        backend.set(&all, Protocol::Http1, "", &ways);
        assert!(Arc::ptr_eq(&backend.pick(&all[1..]).unwrap(), &first));
        backend.set(&all, Protocol::Http2, "", &ways);
        assert!(!Arc::ptr_eq(&backend.pick(&all[1..]).unwrap(), &first));
        assert!(first.is_retired());
        backend.set(&[], Protocol::Http1, "the Service has no endpoints", &ways);
        assert!(backend.pick(&[]).is_none());
        assert_eq!(backend.why_none(), "the Service has no endpoints");
    }
}
