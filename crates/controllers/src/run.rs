//! All controllers under one lease.

use crate::runner::Runner;
use crate::{Controller, Settings, World};
use client::Ambient;
use client::election::{Election, ElectionConfig};
use client::kube::Client;
use clock::{Panicked, Tasks};
use std::sync::OnceLock;
use tokio_util::sync::CancellationToken;

/// Upstream's names of what a controller does, and how it is started.
type Entry = (&'static [&'static str], fn(&World));

/// Those that run, with upstream's names of them; two of ours have no counterpart in its kube-controller-manager.
const CONTROLLERS: [Entry; 38] = [
    (&["deployment-controller"], start::<crate::deployment::Deployments>),
    (&["replicaset-controller"], start::<crate::replicaset::ReplicaSets>),
    (&["replicationcontroller-controller"], start::<crate::replicationcontroller::ReplicationControllers>),
    (&["statefulset-controller"], start::<crate::statefulset::StatefulSets>),
    (&["daemonset-controller"], start::<crate::daemonset::DaemonSets>),
    (&["disruption-controller"], start::<crate::disruption::Disruptions>),
    (&["job-controller"], start::<crate::job::Jobs>),
    (&["cronjob-controller"], start::<crate::cronjob::CronJobs>),
    (&["ttl-after-finished-controller"], start::<crate::ttlafterfinished::TtlAfterFinished>),
    (&["ttl-controller"], start::<crate::ttl::NodeTtl>),
    (&["clusterrole-aggregation-controller"], start::<crate::clusterroles::ClusterRoles>),
    (
        &["horizontal-pod-autoscaler-controller"],
        start::<crate::horizontalpodautoscaler::HorizontalPodAutoscalers>,
    ),
    (&["serviceaccount-controller"], start::<crate::serviceaccount::ServiceAccounts>),
    (&["serviceaccount-token-controller"], start::<crate::serviceaccounttoken::AccountTokens>),
    (&["root-ca-certificate-publisher-controller"], start::<crate::root_ca::RootCa>),
    (&["namespace-controller"], start::<crate::namespace::Namespaces>),
    (&["garbage-collector-controller"], start::<crate::garbage::GarbageCollector>),
    (&["node-ipam-controller"], start::<crate::nodeipam::NodeIpam>),
    (
        &["node-lifecycle-controller", "taint-eviction-controller"],
        start::<crate::nodelifecycle::NodeLifecycle>,
    ),
    (&["pod-garbage-collector-controller"], start::<crate::podgc::PodGarbage>),
    (&["endpointslice-controller"], start::<crate::endpointslice::EndpointSlices>),
    (&["endpoints-controller"], start::<crate::endpoints::Endpoints>),
    (&["endpointslice-mirroring-controller"], start::<crate::endpointslicemirroring::Mirroring>),
    (&[], start::<crate::cluster_dns::ClusterDns>),
    (&["persistentvolume-binder-controller"], start::<crate::volume::Binder>),
    (&[], start::<crate::volume::local::LocalVolumes>),
    (&["ephemeral-volume-controller"], start::<crate::ephemeral::EphemeralVolumes>),
    (&["persistentvolumeclaim-protection-controller"], start::<crate::protection::Claims>),
    (&["persistentvolume-protection-controller"], start::<crate::protection::Volumes>),
    (&["volumeattributesclass-protection-controller"], start::<crate::protection::AttributesClasses>),
    (&["resourcequota-controller"], start::<crate::resourcequota::Quotas>),
    (&["certificatesigningrequest-approving-controller"], start::<crate::certificates::approving::Approving>),
    (&["certificatesigningrequest-signing-controller"], start::<crate::certificates::signing::Signing>),
    (&["certificatesigningrequest-cleaner-controller"], start::<crate::certificates::cleaning::Cleaning>),
    (&["token-cleaner-controller"], start::<crate::bootstrap::token_cleaner::TokenCleaner>),
    (&["bootstrap-signer-controller"], start::<crate::bootstrap::signer::BootstrapSigner>),
    (&["service-cidr-controller"], start::<crate::servicecidrs::ServiceCidrs>),
    (
        &["validatingadmissionpolicy-status-controller"],
        start::<crate::validatingadmissionpolicystatus::PolicyStatus>,
    ),
];

/// How the controllers run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Who this process is among those that could lead; `None` runs without a lease, which is right only when no other
    /// process can run controllers against the same API server.
    pub identity: Option<String>,
    /// What is decided for the controllers.
    pub settings: Settings,
}

/// Runs the controllers until `cancel`: as long as this process holds the lease `kube-system/kube-controller-manager`
/// (upstream's name, so that an upstream process and this one never lead together), or at all times without an identity.
/// Nothing is watched while another leads.
///
/// # Errors
/// When a part of it panicked: it has given up the lease and stopped, and should be started anew with its process.
pub async fn run(
    client: Client,
    ambient: Ambient,
    options: Options,
    cancel: CancellationToken,
) -> Result<(), Panicked> {
    let Some(identity) = options.identity.clone() else {
        return lead(client, ambient, options.settings, cancel).await;
    };
    let config = ElectionConfig::new("kube-system", "kube-controller-manager", identity);
    let election = Election::new(client.clone(), config, ambient.clone());
    let (stop, failed) = (cancel.child_token(), OnceLock::new());
    let lead = |leading| async {
        if let Err(panicked) = lead(client.clone(), ambient.clone(), options.settings.clone(), leading).await
        {
            // Of several the first is the cause.
            let _ = failed.set(panicked);
            stop.cancel();
        }
    };
    election.run(&stop, lead).await;
    failed.into_inner().map_or(Ok(()), Err)
}

async fn lead(
    client: Client,
    ambient: Ambient,
    settings: Settings,
    leading: CancellationToken,
) -> Result<(), Panicked> {
    let tasks = Tasks::under(&leading);
    let world = World::new(client, ambient, settings, tasks.clone());
    for (_, start) in CONTROLLERS {
        start(&world);
    }
    let outcome = tokio::select! {
        biased;
        () = leading.cancelled() => Ok(()),
        panicked = tasks.failed() => Err(panicked),
    };
    tasks.stop().await;
    outcome
}

fn start<C: Controller>(world: &World) {
    Runner::<C>::new(world).start();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// What is between backquotes.
    fn quoted(text: &str) -> impl Iterator<Item = &str> {
        text.split('`').skip(1).step_by(2)
    }

    #[test]
    fn the_page_names_those_that_run_and_no_others() {
        let page = include_str!("../../../docs/kubernetes.md");
        let table = page.lines().skip_while(|line| !line.starts_with("| controller | here |")).skip(2);
        let (mut there, mut missing) = (BTreeSet::new(), BTreeSet::new());
        for row in table.take_while(|line| line.starts_with('|')) {
            let mut cells = row.split('|').skip(1).map(str::trim);
            let (names, here) = (cells.next().unwrap(), cells.next().unwrap());
            assert!(here.starts_with("yes") || here.starts_with("not there"), "neither yes nor no: {row}");
            let list = if here.starts_with("yes") { &mut there } else { &mut missing };
            quoted(names).for_each(|name| assert!(list.insert(name), "named twice: {name}"));
        }
        let run: BTreeSet<_> = CONTROLLERS.iter().flat_map(|(names, _)| names.iter().copied()).collect();
        assert_eq!(run, there, "docs/kubernetes.md says so of what runs");
        assert_eq!(missing.intersection(&run).count(), 0);
        assert!(missing.contains("selinux-warning-controller"), "the table was not read");
    }
}
