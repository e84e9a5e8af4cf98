//! What the API has given for a pod: config maps, secrets, tokens, and the volumes of its claims. The last answer is kept, so that what has run once
//! can run again while the API is away.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::k8s::api::authentication::v1::{
    BoundObjectReference, TokenRequest as Request, TokenRequestSpec, TokenRequestStatus,
};
use api::k8s::api::core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Secret, ServiceAccount};
use client::{Api, PostParams};
use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;

use super::operation::Scope;
use super::volume::{self, TokenRequest, claim};
use crate::environment::Sources;

/// How long an answer is waited for where an earlier one would do.
const PATIENCE: Duration = Duration::from_secs(2);
/// A token is replaced once it is so old, or has lived four fifths of its life: upstream's numbers.
const TOKEN_AGE: SignedDuration = SignedDuration::from_hours(24);

/// The answers for one pod.
#[derive(Default)]
pub(crate) struct Given {
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    /// `None`: there was no such object.
    config_maps: BTreeMap<String, Option<ConfigMap>>,
    secrets: BTreeMap<String, Option<Secret>>,
    tokens: BTreeMap<TokenRequest, Token>,
    /// By the claims' names: what is bound stays so.
    volumes: BTreeMap<String, PersistentVolume>,
}

#[derive(Clone)]
struct Token {
    text: String,
    renew_at: Timestamp,
}

impl Given {
    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is named. What is not there is left out; whoever needs it says so.
    pub(crate) async fn sources(
        &self,
        scope: &Scope,
        config_maps: BTreeSet<String>,
        secrets: BTreeSet<String>,
    ) -> Result<Sources, String> {
        let ask = async { tokio::try_join!(fetch(scope, &config_maps), fetch(scope, &secrets)) };
        let known = self.known(&config_maps, &secrets);
        let answer = match &known {
            None => ask.await,
            Some(_) => tokio::select! {
                answer = ask => answer,
                () = scope.cx.ambient.clock.sleep(PATIENCE) => Err("the API did not answer in time".to_owned()),
            },
        };
        match (answer, known) {
            (Ok((config_maps, secrets)), _) => {
                let sources = Sources {
                    config_maps: there(&config_maps),
                    secrets: there(&secrets),
                    ..Sources::default()
                };
                let mut cache = self.cache();
                cache.config_maps.extend(config_maps);
                cache.secrets.extend(secrets);
                Ok(sources)
            }
            (Err(error), Some(known)) => {
                tracing::info!(uid = scope.uid(), error, "an earlier answer of the API is used");
                Ok(known)
            }
            (Err(error), None) => Err(error),
        }
    }

    /// What was said before, if all of it was asked for before.
    fn known(&self, config_maps: &BTreeSet<String>, secrets: &BTreeSet<String>) -> Option<Sources> {
        let cache = self.cache();
        let config_maps = part(&cache.config_maps, config_maps)?;
        let secrets = part(&cache.secrets, secrets)?;
        let (config_maps, secrets) = (there(&config_maps), there(&secrets));
        Some(Sources { config_maps, secrets, ..Sources::default() })
    }

    /// The volumes that claims are bound to, by the claims' names.
    pub(crate) async fn volumes(
        &self,
        scope: &Scope,
        claims: BTreeSet<String>,
    ) -> Result<BTreeMap<String, PersistentVolume>, String> {
        let mut volumes = BTreeMap::new();
        for claim in claims {
            let known = self.cache().volumes.get(&claim).cloned();
            let volume = match known {
                Some(volume) => volume,
                None => volume_of(scope, &claim).await?,
            };
            volumes.insert(claim, volume);
        }
        Ok(volumes)
    }

    /// Remembers a claim's volume that has been made.
    pub(crate) fn keep(&self, claim: String, volume: PersistentVolume) {
        self.cache().volumes.insert(claim, volume);
    }

    /// Tokens of the pod's service account, renewed in time.
    pub(crate) async fn tokens(
        &self,
        scope: &Scope,
        wanted: BTreeSet<TokenRequest>,
    ) -> Result<BTreeMap<TokenRequest, String>, String> {
        let mut tokens = BTreeMap::new();
        for want in wanted {
            let known = self.cache().tokens.get(&want).cloned();
            let now = scope.cx.ambient.clock.now();
            let text = match known {
                Some(token) if now < token.renew_at => token.text,
                known => match (request(scope, &want, now).await, known) {
                    (Ok(token), _) => {
                        self.cache().tokens.insert(want.clone(), token.clone());
                        token.text
                    }
                    (Err(error), Some(known)) => {
                        tracing::warn!(uid = scope.uid(), error, "a token could not be renewed yet");
                        known.text
                    }
                    (Err(error), None) => return Err(error),
                },
            };
            tokens.insert(want, text);
        }
        Ok(tokens)
    }
}

/// The volume that a claim of the pod is bound to.
async fn volume_of(scope: &Scope, name: &str) -> Result<PersistentVolume, String> {
    let failed =
        |what: &str, error| format!("failed to fetch {what} from API server: {}", client::message(&error));
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(scope.cx.client.clone(), scope.namespace());
    let found = claims.get_opt(name).await.map_err(|error| failed("PVC", error))?;
    let claim = found.ok_or_else(|| format!("persistentvolumeclaim {name:?} not found"))?;
    let volumes = scope.pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let is_own = volumes.filter_map(|volume| volume::own_claim(&scope.pod, volume)).any(|own| own == name);
    let bound = claim::bound(&claim, &scope.pod, is_own)?;
    let volumes: Api<PersistentVolume> = Api::all(scope.cx.client.clone());
    let volume = volumes.get(bound).await.map_err(|error| failed("PV", error))?;
    let named = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()?.uid.as_ref());
    if named != claim.metadata.uid.as_ref() {
        return Err(format!("PersistentVolume {bound:?} is bound to another claim than {name:?}"));
    }
    Ok(volume)
}

fn there<K: Clone>(answers: &BTreeMap<String, Option<K>>) -> BTreeMap<String, K> {
    answers.iter().filter_map(|(name, object)| Some((name.clone(), object.clone()?))).collect()
}

fn part<K: Clone>(
    known: &BTreeMap<String, Option<K>>,
    names: &BTreeSet<String>,
) -> Option<BTreeMap<String, Option<K>>> {
    names.iter().map(|name| Some((name.clone(), known.get(name)?.clone()))).collect()
}

async fn fetch<K>(scope: &Scope, names: &BTreeSet<String>) -> Result<BTreeMap<String, Option<K>>, String>
where
    K: client::Resource<DynamicType = (), Scope = client::kube::core::NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned,
{
    let objects: Api<K> = Api::namespaced(scope.cx.client.clone(), scope.namespace());
    let mut answers = BTreeMap::new();
    for name in names {
        let found = objects.get_opt(name).await.map_err(|error| client::message(&error))?;
        answers.insert(name.clone(), found);
    }
    Ok(answers)
}

async fn request(scope: &Scope, want: &TokenRequest, now: Timestamp) -> Result<Token, String> {
    let account = scope.pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone());
    let account = account.unwrap_or_else(|| "default".to_owned());
    let accounts: Api<ServiceAccount> = Api::namespaced(scope.cx.client.clone(), scope.namespace());
    let bound = BoundObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: scope.pod.metadata.name.clone(),
        uid: scope.pod.metadata.uid.clone(),
    };
    let spec = TokenRequestSpec {
        audiences: (!want.audience.is_empty()).then(|| vec![want.audience.clone()]),
        bound_object_ref: Some(bound),
        expiration_seconds: Some(want.expiration_seconds),
    };
    let request = Request { spec: Some(spec), ..Request::default() };
    let granted: Request = accounts
        .create_subresource("token", &account, &PostParams::default(), &request)
        .await
        .map_err(|error| format!("failed to fetch token: {}", client::message(&error)))?;
    let Some(TokenRequestStatus { expiration_timestamp, token: Some(text) }) = granted.status else {
        return Err("failed to fetch token: the answer holds none".to_owned());
    };
    let asked = SignedDuration::from_secs(want.expiration_seconds);
    let life = expiration_timestamp.map_or(asked, |at| at.0.duration_since(now));
    let age = SignedDuration::from_secs(life.as_secs() * 4 / 5).min(TOKEN_AGE);
    Ok(Token { text, renew_at: now.checked_add(age).unwrap_or(now) })
}
