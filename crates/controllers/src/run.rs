//! All controllers under one lease.

use crate::runner::Runner;
use crate::{Controller, Settings, World};
use client::Ambient;
use client::election::{Election, ElectionConfig};
use client::kube::Client;
use clock::{Panicked, Tasks};
use std::sync::OnceLock;
use tokio_util::sync::CancellationToken;

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
    start::<crate::deployment::Deployments>(&world);
    start::<crate::replicaset::ReplicaSets>(&world);
    start::<crate::replicationcontroller::ReplicationControllers>(&world);
    start::<crate::statefulset::StatefulSets>(&world);
    start::<crate::daemonset::DaemonSets>(&world);
    start::<crate::disruption::Disruptions>(&world);
    start::<crate::job::Jobs>(&world);
    start::<crate::cronjob::CronJobs>(&world);
    start::<crate::ttlafterfinished::TtlAfterFinished>(&world);
    start::<crate::ttl::NodeTtl>(&world);
    start::<crate::clusterroles::ClusterRoles>(&world);
    start::<crate::horizontalpodautoscaler::HorizontalPodAutoscalers>(&world);
    start::<crate::serviceaccount::ServiceAccounts>(&world);
    start::<crate::root_ca::RootCa>(&world);
    start::<crate::namespace::Namespaces>(&world);
    start::<crate::garbage::GarbageCollector>(&world);
    start::<crate::nodeipam::NodeIpam>(&world);
    start::<crate::nodelifecycle::NodeLifecycle>(&world);
    start::<crate::podgc::PodGarbage>(&world);
    start::<crate::endpointslice::EndpointSlices>(&world);
    start::<crate::endpoints::Endpoints>(&world);
    start::<crate::endpointslicemirroring::Mirroring>(&world);
    start::<crate::cluster_dns::ClusterDns>(&world);
    start::<crate::volume::Binder>(&world);
    start::<crate::volume::local::LocalVolumes>(&world);
    start::<crate::ephemeral::EphemeralVolumes>(&world);
    start::<crate::protection::Claims>(&world);
    start::<crate::protection::Volumes>(&world);
    start::<crate::protection::AttributesClasses>(&world);
    start::<crate::resourcequota::Quotas>(&world);
    start::<crate::certificates::approving::Approving>(&world);
    start::<crate::certificates::signing::Signing>(&world);
    start::<crate::certificates::cleaning::Cleaning>(&world);
    start::<crate::bootstrap::token_cleaner::TokenCleaner>(&world);
    start::<crate::bootstrap::signer::BootstrapSigner>(&world);
    start::<crate::servicecidrs::ServiceCidrs>(&world);
    start::<crate::validatingadmissionpolicystatus::PolicyStatus>(&world);
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
