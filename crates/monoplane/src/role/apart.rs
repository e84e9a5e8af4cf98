//! Parts of the server as processes of their own: clients of the API that a kubeconfig leads to, ours or upstream's.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Error, Result, ensure};
use api::k8s::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use client::{Ambient, Api, Client, PostParams};
use clock::Panicked;
use pki::{AccountKey, Authority, Signer, TokenSigner};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::credentials::Credentials;
use super::server::identity;
use super::stop_on_signal;
use crate::flags::{Apart, Controllers, Part, Scheduler};
use crate::notify;

/// Runs the controllers until they are told to stop.
///
/// # Errors
/// When a file that a flag names cannot be read, and when a controller panicked.
pub fn controllers(kubeconfig: Option<PathBuf>, flags: &Controllers) -> Result<()> {
    if flags.print_rbac {
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": auth::bootstrap::controllers_on_upstream() });
        crate::say::line(format!("{list:#}"));
        return Ok(());
    }
    let ambient = Ambient::system();
    let root_ca = flags.root_ca_file.as_ref().map(|file| {
        std::fs::read_to_string(file).with_context(|| format!("--root-ca-file {}", file.display()))
    });
    let signer = flags.signing_pki.as_ref().map(|folder| signer(folder, &ambient));
    let (root_ca, signer) = (root_ca.transpose()?, signer.transpose()?);
    let tokens = flags.service_account_private_key_file.as_ref().map(|file| {
        let key = AccountKey::read(file).context("--service-account-private-key-file")?;
        anyhow::Ok(Arc::new(TokenSigner::from(key)))
    });
    let tokens = tokens.transpose()?;
    let pod_ranges = match flags.allocate_node_cidrs {
        true => flags.pods.ranges().map_err(Error::msg)?,
        false => Vec::new(),
    };
    let settings =
        controllers::Settings { root_ca, signer, tokens, pod_ranges, ..controllers::Settings::default() };
    let identity = turns(flags.apart, &ambient);
    let options = controllers::Options { identity, settings };
    run(kubeconfig, Part::Controllers, ambient, |client, ambient, stop| async move {
        let ((), done) =
            tokio::join!(granted(&client), controllers::run(client.clone(), ambient, options, stop));
        done
    })
}

/// Says how to grant what upstream's API server does not, where that was forgotten: every write would be refused.
async fn granted(client: &Client) {
    // Ours patch statuses, for which upstream's own have an account each.
    let asked = ResourceAttributes {
        group: Some("apps".to_owned()),
        resource: Some("deployments".to_owned()),
        subresource: Some("status".to_owned()),
        verb: Some("patch".to_owned()),
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(asked), ..Default::default() };
    let review = SelfSubjectAccessReview { spec, ..Default::default() };
    let answer =
        Api::<SelfSubjectAccessReview>::all(client.clone()).create(&PostParams::default(), &review).await;
    // An API that cannot be asked yet is no news: the controllers say so.
    if answer.is_ok_and(|answer| answer.status.is_some_and(|status| !status.allowed)) {
        tracing::warn!(
            "the API server does not let the controllers work; grant it with: monoplane controllers --print-rbac | kubectl apply -f -"
        );
    }
}

/// Runs the scheduler until it is told to stop.
///
/// # Errors
/// When a file that a flag names cannot be read, and when a part of it panicked.
pub fn scheduler(kubeconfig: Option<PathBuf>, flags: &Scheduler) -> Result<()> {
    let ambient = Ambient::system();
    let config = flags.scheduling.config()?;
    let options = scheduler::Options { identity: turns(flags.apart, &ambient), config, ..Default::default() };
    run(kubeconfig, Part::Scheduler, ambient, |client, ambient, stop| {
        scheduler::run(client, ambient, options, stop)
    })
}

fn turns(flags: Apart, ambient: &Ambient) -> Option<String> {
    (!flags.no_leader_election).then(|| identity(ambient))
}

/// Who signs by an authority that is there already: a new one in a mistyped directory is nobody's.
fn signer(folder: &Path, ambient: &Ambient) -> Result<Arc<Signer>> {
    let flag = || format!("--signing-pki {}", folder.display());
    ensure!(folder.join("ca.pem").exists(), "{}: there is no ca.pem", flag());
    Ok(Arc::new(Signer::new(Authority::open(folder, ambient.clock.now()).with_context(flag)?)))
}

fn run<F>(
    kubeconfig: Option<PathBuf>,
    part: Part,
    ambient: Ambient,
    start: impl FnOnce(Client, Ambient, CancellationToken) -> F,
) -> Result<()>
where
    F: Future<Output = Result<(), Panicked>>,
{
    let file = kubeconfig.context("--kubeconfig: which API to work on is not said")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let stop = stop_on_signal()?;
        let credentials = Credentials::read([file.clone()]);
        let client = client::transport::from_kubeconfig_file(&file, part.program())
            .await
            .with_context(|| format!("reading {}", file.display()))?;
        notify::ready();
        let working = async { Ok(start(client, ambient.clone(), stop.clone()).await?) };
        credentials.guard(working, &stop, &*ambient.clock).await
    })
}
