//! The servers of one shared store. Each shows by a Lease of its own that it lives, as upstream's API servers do, and where;
//! a Lease that is not renewed for some time, by this server's own clock, is of one that is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use api::k8s::api::coordination::v1::{Lease, LeaseSpec};
use api::k8s::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use client::kube::Error;
use client::kube::api::{DeleteParams, ListParams};
use client::{Api, Client, PostParams};
use clock::{Clock, Instant};

const NAMESPACE: &str = "kube-system";
/// Upstream's label of such Leases, with a value of our own: upstream's collector of theirs leaves ours alone.
const LABEL: (&str, &str) = ("apiserver.kubernetes.io/identity", "monoplane");
const ADDRESS: &str = "monoplane.dev/api-address";
/// Who has not renewed for so long is gone: twice as long as who lives lets pass.
const GONE_AFTER: Duration = Duration::from_secs(20);

/// Sees who lives.
pub struct Peers {
    leases: Api<Lease>,
    own: SocketAddr,
    identity: String,
    clock: Arc<dyn Clock>,
    /// By the Lease's name: its resourceVersion, and since when it is that.
    seen: BTreeMap<String, (String, Instant)>,
}

impl Peers {
    /// Those of the server at an address, under its identity.
    pub fn new(client: Client, own: SocketAddr, identity: &str, clock: Arc<dyn Clock>) -> Self {
        let leases = Api::namespaced(client, NAMESPACE);
        Self { leases, own, identity: identity.to_owned(), clock, seen: BTreeMap::new() }
    }

    /// Shows that this one lives, and gives the addresses of all that do.
    pub async fn alive(&mut self) -> Result<BTreeSet<SocketAddr>, Error> {
        self.renew().await?;
        let listed =
            self.leases.list(&ListParams::default().labels(&format!("{}={}", LABEL.0, LABEL.1))).await?;
        let now = self.clock.monotonic();
        let mut alive = BTreeSet::from([self.own]);
        let mut names = BTreeSet::new();
        for lease in listed.items {
            let ObjectMeta { name, resource_version, annotations, .. } = lease.metadata;
            let (name, version) = (name.unwrap_or_default(), resource_version.unwrap_or_default());
            names.insert(name.clone());
            let seen = self.seen.entry(name.clone()).or_insert_with(|| (version.clone(), now));
            if seen.0 != version {
                *seen = (version, now);
            }
            if now.since(seen.1) > GONE_AFTER {
                // Another may have been faster.
                let _ = self.leases.delete(&name, &DeleteParams::default()).await;
                continue;
            }
            let address =
                annotations.unwrap_or_default().get(ADDRESS).and_then(|text| text.parse::<SocketAddr>().ok());
            alive.extend(address);
        }
        self.seen.retain(|name, _| names.contains(name));
        Ok(alive)
    }

    async fn renew(&self) -> Result<(), Error> {
        let name = self.name();
        let now = MicroTime(self.clock.now());
        let spec = LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(GONE_AFTER.as_secs()).ok(),
            renew_time: Some(now),
            ..LeaseSpec::default()
        };
        let mut lease = Lease {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(NAMESPACE.to_owned()),
                labels: Some([(LABEL.0.to_owned(), LABEL.1.to_owned())].into()),
                annotations: Some([(ADDRESS.to_owned(), self.own.to_string())].into()),
                ..ObjectMeta::default()
            },
            spec: Some(spec),
        };
        match self.leases.get_opt(&name).await? {
            None => self.leases.create(&PostParams::default(), &lease).await?,
            Some(found) => {
                lease.metadata.resource_version = found.metadata.resource_version;
                self.leases.replace(&name, &PostParams::default(), &lease).await?
            }
        };
        Ok(())
    }

    /// One address, one Lease: a server that starts again finds its own.
    fn name(&self) -> String {
        let host = self.own.ip().to_string().replace([':', '.'], "-");
        format!("apiserver-{}-{}", host.trim_matches('-'), self.own.port())
    }
}
