//! Making a pod's volumes, and bringing them up to date.

use std::collections::BTreeMap;

use api::k8s::api::core::v1::PersistentVolume;
use tokio_util::sync::CancellationToken;

use super::scope::blocking;
use super::{Outcome, Scope};
use crate::local_volumes;
use crate::pod::config::Paths;
use crate::pod::volume::{self, Content, Material};

/// Brings the volumes that are made from objects of the API up to date.
pub(super) async fn renew(scope: Scope, token: CancellationToken) -> Outcome {
    let outcome = match token.run_until_cancelled(prepare(&scope, false)).await {
        None => return Outcome::Volumes(Ok(())),
        Some(Ok(prepared)) => make(&scope, prepared).await,
        Some(Err(message)) => Err(message),
    };
    if let Err(message) = &outcome {
        scope.warn("FailedMount", message.clone());
    }
    Outcome::Volumes(outcome)
}

/// Removes the volumes of a pod that has ended.
pub(super) async fn release(scope: Scope) -> Outcome {
    let (paths, uid) = (scope.cx.paths.clone(), scope.uid().to_owned());
    let released = blocking(move || volume::release(&paths, &uid)).await;
    if let Err(error) = &released {
        tracing::warn!(uid = scope.uid(), %error, "the volumes of a pod that has ended could not be removed");
    }
    Outcome::Released(released.is_ok())
}

/// Volumes as they are to be, by their names.
pub(super) struct Prepared {
    volumes: Vec<(String, Content)>,
    paths: Paths,
    uid: String,
    group: Option<u32>,
    /// The volumes of the pod's claims, by the claims' names.
    bound: BTreeMap<String, PersistentVolume>,
}

/// Asks the API for all that volumes need: all of the pod's, or those that may have changed. May be given up.
pub(super) async fn prepare(scope: &Scope, all: bool) -> Result<Prepared, String> {
    let needs = volume::needs(&scope.pod);
    let sources = scope.given.sources(scope, needs.config_maps, needs.secrets).await?;
    let tokens = scope.given.tokens(scope, needs.tokens).await?;
    let bound = if all { scope.given.volumes(scope, needs.claims).await? } else { Default::default() };
    let group = scope.pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref()?.fs_group);
    let place = scope.place();
    let (pod, node) = (&scope.pod, scope.cx.node_name.as_str());
    let material = Material { pod, sources: &sources, tokens: &tokens, place: &place, volumes: &bound, node };
    Ok(Prepared {
        volumes: volume::contents(&material, all)?,
        paths: scope.cx.paths.clone(),
        uid: scope.uid().to_owned(),
        group: group.and_then(|group| u32::try_from(group).ok()),
        bound,
    })
}

/// Makes what is not there, and brings up to date what is. Has to be waited for: it goes on by itself.
pub(super) async fn make(scope: &Scope, prepared: Prepared) -> Result<(), String> {
    let Prepared { volumes, paths, uid, group, bound } = prepared;
    let made = tokio::task::spawn_blocking(move || {
        volumes.into_iter().try_for_each(|(name, content)| {
            let made = volume::make(&content, &paths, &uid, &name, group);
            made.map_err(|error| volume::failed(&name, &error.to_string()))
        })
    });
    made.await.map_err(|error| error.to_string())??;
    // Held once they are there and before anything is in them: so a node finds all that it holds on its disk.
    for (claim, volume) in bound {
        let held = local_volumes::take(&scope.cx, volume).await?;
        scope.given.keep(claim, held);
    }
    Ok(())
}
