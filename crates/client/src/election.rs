//! Leader election over a Lease, as upstream's components do it, so that ours and theirs can stand by for each other.
//!
//! Trust no wall clock but one's own: a candidate takes over when *it* has seen no renewal for a lease's duration,
//! whatever times the record claims. A leader that could not renew before its deadline stops leading before another may
//! begin. Leading is a token: when it is cancelled, everything that was done on its strength must end.

use crate::Ambient;
use crate::backoff::jittered;
use crate::write::is_not_found;
use clock::Instant;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, Error};
use std::future::Future;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Which lease, held how.
#[derive(Clone, Debug)]
pub struct ElectionConfig {
    /// The Lease's namespace; upstream's components use `kube-system`.
    pub namespace: String,
    /// The Lease's name.
    pub name: String,
    /// Who we are: unique among the candidates, and different at every start of a process.
    pub identity: String,
    /// How long others wait without a renewal before they take over.
    pub lease: Duration,
    /// How long a leader tries to renew before it gives up.
    pub renew_deadline: Duration,
    /// How often it is tried.
    pub retry: Duration,
}

impl ElectionConfig {
    /// Upstream's times: 15 s, 10 s and 2 s.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>, identity: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            identity: identity.into(),
            lease: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// What one candidate last saw of the record, and when it saw it change.
#[derive(Clone, Debug)]
struct Observed {
    lease: Lease,
    changed: Instant,
}

/// The next write, decided from what is there.
#[derive(Debug, PartialEq)]
enum Step {
    Create(LeaseSpec),
    /// Renew or take over.
    Replace(LeaseSpec),
    /// Another holds it.
    Wait,
}

/// Decides as upstream does; pure.
fn decide(config: &ElectionConfig, observed: Option<&Observed>, now: Timestamp, monotonic: Instant) -> Step {
    let mut spec = LeaseSpec {
        holder_identity: Some(config.identity.clone()),
        lease_duration_seconds: Some(i32::try_from(config.lease.as_secs()).unwrap_or(i32::MAX)),
        acquire_time: Some(MicroTime(now)),
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(0),
        ..LeaseSpec::default()
    };
    let Some(Observed { lease, changed }) = observed else { return Step::Create(spec) };
    let Some(current) = &lease.spec else { return Step::Replace(spec) };
    let holder = current.holder_identity.as_deref().unwrap_or_default();
    let transitions = current.lease_transitions.unwrap_or(0);
    if holder == config.identity {
        spec.acquire_time.clone_from(&current.acquire_time);
        spec.lease_transitions = Some(transitions);
        return Step::Replace(spec);
    }
    let duration =
        Duration::from_secs(u64::try_from(current.lease_duration_seconds.unwrap_or(0)).unwrap_or(0));
    if !holder.is_empty() && *changed + duration > monotonic {
        return Step::Wait;
    }
    spec.lease_transitions = Some(transitions.saturating_add(1));
    Step::Replace(spec)
}

/// One candidate for one Lease.
pub struct Election {
    api: Api<Lease>,
    config: ElectionConfig,
    ambient: Ambient,
    observed: Option<Observed>,
}

impl Election {
    /// A candidate that has not tried yet.
    pub fn new(client: Client, config: ElectionConfig, ambient: Ambient) -> Self {
        Self { api: Api::namespaced(client, &config.namespace), config, ambient, observed: None }
    }

    /// Waits for leadership, runs `lead` with a token that is cancelled when leadership is lost or `cancel` is, waits for
    /// it to end, and stands again; until `cancel`. A leader that ends in order gives the Lease back, so that another need
    /// not wait it out.
    pub async fn run<F>(mut self, cancel: &CancellationToken, mut lead: impl FnMut(CancellationToken) -> F)
    where
        F: Future<Output = ()> + Send,
    {
        while let Some(acquired) = cancel.run_until_cancelled(self.acquire()).await {
            tracing::info!(lease = self.config.name, identity = self.config.identity, "became leader");
            let leading = cancel.child_token();
            let work = lead(leading.clone());
            let keep = async {
                let lost = leading.run_until_cancelled(self.hold(acquired)).await.is_some();
                leading.cancel();
                lost
            };
            // The lease is kept up only while the work runs: a leader without work must not keep others out. But work that
            // is still winding down keeps being awaited, so that nothing of this term can outlive the return.
            let work = async {
                work.await;
                leading.cancel();
            };
            let ((), lost) = futures::future::join(work, keep).await;
            if lost {
                tracing::warn!(lease = self.config.name, "lost leadership");
            } else {
                self.release().await;
                if !cancel.is_cancelled() {
                    // The work ended by itself: let another try first.
                    let pause = self.ambient.clock.sleep(self.config.retry);
                    cancel.run_until_cancelled(pause).await;
                }
            }
        }
    }

    /// Tries until the Lease is ours; since when, at the earliest, others count.
    async fn acquire(&mut self) -> Instant {
        loop {
            // From before the attempt: others may have seen it long before its answer came.
            let before = self.ambient.clock.monotonic();
            if self.attempt().await {
                return before;
            }
            self.pause().await;
        }
    }

    /// Renews until that has failed for the deadline.
    async fn hold(&mut self, mut renewed: Instant) {
        loop {
            self.ambient.clock.sleep(self.config.retry).await;
            let clock = self.ambient.clock.clone();
            let deadline = renewed + self.config.renew_deadline;
            tokio::select! {
                // Of one that wakes up late the deadline counts: another may lead by now.
                biased;
                () = clock.sleep_until(deadline) => return,
                again = self.acquire() => renewed = again,
            }
        }
    }

    async fn pause(&self) {
        // Between once and twice the period, so that candidates do not march in step.
        self.ambient.clock.sleep(jittered(self.config.retry * 2, self.ambient.random.u64())).await;
    }

    /// Tries once to take or renew the Lease.
    async fn attempt(&mut self) -> bool {
        match self.try_once().await {
            Ok(leading) => leading,
            Err(error) => {
                tracing::debug!(lease = self.config.name, %error, "leader election");
                // What is there is not what was seen: somebody wrote in between, or deleted it.
                self.refresh().await;
                false
            }
        }
    }

    async fn try_once(&mut self) -> Result<bool, Error> {
        let mine = self.observed.as_ref().is_some_and(|observed| self.holds(&observed.lease));
        if !mine {
            self.observe().await?;
        }
        let clock = &self.ambient.clock;
        let lease = match decide(&self.config, self.observed.as_ref(), clock.now(), clock.monotonic()) {
            Step::Wait => return Ok(false),
            Step::Create(spec) => {
                let metadata = ObjectMeta { name: Some(self.config.name.clone()), ..ObjectMeta::default() };
                self.api.create(&PostParams::default(), &Lease { metadata, spec: Some(spec) }).await?
            }
            Step::Replace(spec) => {
                let mut lease =
                    self.observed.as_ref().map(|observed| observed.lease.clone()).unwrap_or_default();
                lease.spec = Some(spec);
                self.api.replace(&self.config.name, &PostParams::default(), &lease).await?
            }
        };
        self.saw(lease);
        Ok(true)
    }

    fn holds(&self, lease: &Lease) -> bool {
        lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()) == Some(&self.config.identity)
    }

    async fn refresh(&mut self) {
        if let Err(error) = self.observe().await {
            tracing::debug!(lease = self.config.name, %error, "leader election");
        }
    }

    async fn observe(&mut self) -> Result<(), Error> {
        match self.api.get(&self.config.name).await {
            Ok(lease) => self.saw(lease),
            Err(error) if is_not_found(&error) => self.observed = None,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn saw(&mut self, lease: Lease) {
        let unchanged = self.observed.as_ref().filter(|observed| observed.lease.spec == lease.spec);
        let changed = unchanged.map_or_else(|| self.ambient.clock.monotonic(), |observed| observed.changed);
        self.observed = Some(Observed { lease, changed });
    }

    /// Gives the Lease back, as upstream does: no holder, and a second to wait.
    async fn release(&mut self) {
        let Some(Observed { lease, .. }) = self.observed.take() else { return };
        if !self.holds(&lease) {
            return;
        }
        let mut released = lease;
        let now = MicroTime(self.ambient.clock.now());
        let transitions = released.spec.as_ref().and_then(|spec| spec.lease_transitions);
        released.spec = Some(LeaseSpec {
            holder_identity: Some(String::new()),
            lease_duration_seconds: Some(1),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            lease_transitions: transitions,
            ..LeaseSpec::default()
        });
        let params = PostParams::default();
        let write = self.api.replace(&self.config.name, &params, &released);
        tokio::select! {
            biased;
            outcome = write => if let Err(error) = outcome {
                tracing::debug!(lease = self.config.name, %error, "the lease was not given back");
            },
            // The server may be what is going down; nobody should wait for it long.
            () = self.ambient.clock.sleep(Duration::from_secs(1)) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clock::{Clock, ManualClock};

    fn observed(holder: &str, transitions: i32, seconds: i32, changed: Instant) -> Observed {
        let spec = LeaseSpec {
            holder_identity: Some(holder.into()),
            lease_duration_seconds: Some(seconds),
            lease_transitions: Some(transitions),
            acquire_time: Some(MicroTime(Timestamp::UNIX_EPOCH)),
            ..LeaseSpec::default()
        };
        Observed { lease: Lease { spec: Some(spec), ..Lease::default() }, changed }
    }

    #[test]
    fn a_candidate_decides_by_its_own_clock() {
        let clock = ManualClock::new("2026-01-02T03:04:05Z".parse().unwrap());
        let config = ElectionConfig::new("kube-system", "x", "me");
        let start = clock.monotonic();
        let decide = |observed: Option<&Observed>| decide(&config, observed, clock.now(), clock.monotonic());

        let Step::Create(spec) = decide(None) else { panic!() };
        assert_eq!((spec.lease_duration_seconds, spec.lease_transitions), (Some(15), Some(0)));

        assert_eq!(decide(Some(&observed("other", 3, 15, start))), Step::Wait);
        let Step::Replace(spec) = decide(Some(&observed("", 3, 1, start))) else { panic!() };
        assert_eq!(spec.lease_transitions, Some(4), "a released lease is free at once");

        let Step::Replace(spec) = decide(Some(&observed("me", 3, 15, start))) else { panic!() };
        assert_eq!(spec.lease_transitions, Some(3), "a renewal is no transition");
        assert_eq!(spec.acquire_time, Some(MicroTime(Timestamp::UNIX_EPOCH)));

        clock.advance(Duration::from_secs(14));
        assert_eq!(
            super::decide(&config, Some(&observed("other", 3, 15, start)), clock.now(), clock.monotonic()),
            Step::Wait
        );
        clock.advance(Duration::from_secs(1));
        let taken =
            super::decide(&config, Some(&observed("other", 3, 15, start)), clock.now(), clock.monotonic());
        assert!(matches!(taken, Step::Replace(spec) if spec.lease_transitions == Some(4)));
    }
}
