//! Making a pod's volumes, and bringing them up to date.

use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

use super::{Outcome, Scope};
use crate::pod::volume::{self, Content};

/// Brings the volumes that are made from objects of the API up to date.
pub(super) async fn renew(scope: Scope, token: CancellationToken) -> Outcome {
    let outcome = match token.run_until_cancelled(prepare(&scope)).await {
        None => return Outcome::Volumes(Ok(())),
        Some(Ok(prepared)) => make(prepared).await,
        Some(Err(message)) => Err(message),
    };
    if let Err(message) = &outcome {
        scope.warn("FailedMount", message.clone());
    }
    Outcome::Volumes(outcome)
}

/// Volumes as they are to be.
pub(super) struct Prepared {
    volumes: Vec<(String, Content, PathBuf)>,
    group: Option<u32>,
}

/// Asks the API for all that volumes need. May be given up.
pub(super) async fn prepare(scope: &Scope) -> Result<Prepared, String> {
    let needs = volume::needs(&scope.pod);
    let sources = scope.given.sources(scope, needs.config_maps, needs.secrets).await?;
    let tokens = scope.given.tokens(scope, needs.tokens).await?;
    let group = scope.pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref()?.fs_group);
    let group = group.and_then(|group| u32::try_from(group).ok());
    let place = scope.place();
    let mut volumes = Vec::new();
    for volume in scope.pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        let content = volume::content(&scope.pod, volume, &sources, &tokens, &place)
            .map_err(|error| failed(&volume.name, &error))?;
        volumes.push((volume.name.clone(), content, scope.cx.paths.volume(scope.uid(), &volume.name)));
    }
    Ok(Prepared { volumes, group })
}

/// Makes what is not there, and brings up to date what is. Has to be waited for: it goes on by itself.
pub(super) async fn make(prepared: Prepared) -> Result<(), String> {
    let Prepared { volumes, group } = prepared;
    let made = tokio::task::spawn_blocking(move || {
        volumes.into_iter().try_for_each(|(name, content, directory)| {
            volume::make(&content, &directory, group).map_err(|error| failed(&name, &error.to_string()))
        })
    });
    made.await.map_err(|error| error.to_string())?
}

fn failed(volume: &str, error: &str) -> String {
    format!("MountVolume.SetUp failed for volume \"{volume}\" : {error}")
}
