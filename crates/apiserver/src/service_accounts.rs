//! The tokens of service accounts: issued, and believed for as long as what they are bound to is there.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use apimachinery::status::Status;
use arc_swap::ArcSwap;
use auth::UserInfo;
use auth::service_account::{Bound, Claims, Named, Refused, SecretClaims};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clock::Random;
use jiff::{SignedDuration, Timestamp};
use pki::TokenKeys;
use registry::Registry;
use serde::Deserialize;
use serde_json::{Value, json};

/// How many tokens are remembered whose signatures have been verified. Each is about a kilobyte.
const REMEMBERED: usize = 1024;
/// For how long what is being deleted still counts as there: upstream's leeway for a pod that says goodbye.
const GOING: SignedDuration = SignedDuration::from_secs(60);

/// The user of a token and the audiences that it is meant for, or why it is nobody's.
pub(crate) type Judged = Result<(Arc<UserInfo>, Vec<String>), Refused>;

/// Issues and verifies tokens of service accounts.
pub struct ServiceAccounts {
    issuer: String,
    /// For whom a token is that names nobody: this API. One entry.
    audiences: Vec<String>,
    keys: ArcSwap<TokenKeys>,
    random: Arc<dyn Random>,
    registry: Arc<Registry>,
    /// Claims whose signature was found good. Cleared when full; all else about a token is looked at each time.
    verified: Mutex<HashMap<String, Arc<Said>>>,
}

/// What a token of ours says.
enum Said {
    /// It was asked for, and ends.
    Bound(Claims),
    /// It is kept in a Secret, and ends with it.
    InSecret(SecretClaims),
}

impl Said {
    fn parse(bytes: &[u8]) -> Option<Self> {
        if let Ok(claims) = serde_json::from_slice(bytes) {
            return Some(Self::Bound(claims));
        }
        serde_json::from_slice(bytes).ok().filter(SecretClaims::are_sound).map(Self::InSecret)
    }
}

impl std::fmt::Debug for ServiceAccounts {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ServiceAccounts").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

impl ServiceAccounts {
    /// An issuer of that name (`https://kubernetes.default.svc.cluster.local`), which is the audience of its API too.
    /// What tokens are bound to is looked up in the registry.
    pub fn new(issuer: &str, keys: TokenKeys, random: Arc<dyn Random>, registry: Arc<Registry>) -> Self {
        Self {
            issuer: issuer.to_owned(),
            audiences: vec![issuer.to_owned()],
            keys: ArcSwap::from_pointee(keys),
            random,
            registry,
            verified: Mutex::default(),
        }
    }

    /// Signs with other keys from now on.
    pub fn renew(&self, keys: TokenKeys) {
        self.keys.store(Arc::new(keys));
        self.remembered().clear();
    }

    /// For whom a token is that names nobody.
    pub(crate) fn audiences(&self) -> &[String] {
        &self.audiences
    }

    /// A token that says this; its issuer and own name are filled in.
    pub(crate) fn issue(&self, mut claims: Claims) -> Result<String, Status> {
        claims.iss.clone_from(&self.issuer);
        claims.jti = self.random.uid();
        let bytes = serde_json::to_vec(&claims).map_err(Status::internal_error)?;
        self.keys.load().sign(&bytes).map_err(Status::internal_error)
    }

    /// Whose token this is and for which of the wanted audiences; `None` if it is none of ours.
    pub(crate) fn user(&self, token: &str, wanted: &[String], now: Timestamp) -> Option<Judged> {
        let said = self.said(token)?;
        let claims = match &*said {
            Said::Bound(claims) => claims,
            Said::InSecret(claims) => return Some(self.judge_kept(token, claims, wanted, now)),
        };
        let judged = claims.check(&self.issuer, wanted, now).and_then(|audiences| {
            let there = are_there(&claims.bound, now, &self.registry);
            there.then(|| (Arc::new(claims.user()), audiences)).ok_or(Refused::Invalidated)
        });
        Some(judged)
    }

    /// One that is kept in a Secret is for this API, and good while the Secret holds it and its account is there.
    fn judge_kept(&self, token: &str, claims: &SecretClaims, wanted: &[String], now: Timestamp) -> Judged {
        let common: Vec<_> = self.audiences.iter().filter(|aud| wanted.contains(aud)).cloned().collect();
        if common.is_empty() {
            return Err(Refused::Audience(self.audiences.clone(), wanted.to_vec()));
        }
        let account = Named { name: claims.account.clone(), uid: claims.account_uid.clone() };
        let bound = Bound { namespace: claims.namespace.clone(), account, ..Bound::default() };
        let is_good = are_there(&bound, now, &self.registry) && is_kept(token, claims, &self.registry);
        is_good.then(|| (Arc::new(claims.user()), common)).ok_or(Refused::Invalidated)
    }

    fn said(&self, token: &str) -> Option<Arc<Said>> {
        if let Some(known) = self.remembered().get(token) {
            return Some(known.clone());
        }
        let bytes = self.keys.load().verify(token)?;
        let said = Arc::new(Said::parse(&bytes)?);
        let mut remembered = self.remembered();
        if remembered.len() >= REMEMBERED {
            remembered.clear();
        }
        remembered.insert(token.to_owned(), said.clone());
        Some(said)
    }

    fn remembered(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Said>>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `/.well-known/openid-configuration`.
    pub(crate) fn configuration(&self) -> Value {
        json!({
            "issuer": self.issuer,
            "jwks_uri": format!("{}/openid/v1/jwks", self.issuer),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }

    /// `/openid/v1/jwks`.
    pub(crate) fn keys(&self) -> Value {
        self.keys.load().public()
    }
}

/// What of an object decides whether a token bound to it is valid.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Facts {
    metadata: Metadata,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    uid: String,
    deletion_timestamp: Option<Timestamp>,
}

/// Whether everything that a token is bound to is there: the same object, and not long gone.
fn are_there(bound: &Bound, now: Timestamp, registry: &Registry) -> bool {
    let is_there = |plural: &str, namespace: &str, named: &Named| {
        let kinds = registry.kinds();
        let Some(kind) = kinds.lookup("", "v1", plural) else { return false };
        let Some(object) = registry.known(kind, namespace, &named.name) else { return false };
        let Ok(facts) = serde_json::from_slice::<Facts>(object.body()) else { return false };
        let going = facts.metadata.deletion_timestamp;
        facts.metadata.uid == named.uid && going.is_none_or(|going| now.duration_since(going) < GOING)
    };
    let Bound { namespace, node, pod, secret, account } = bound;
    let one = |plural: &str, named: &Option<Named>| {
        named.as_ref().is_none_or(|named| is_there(plural, namespace, named))
    };
    // A pod's node is told for what it is worth; only a token bound to the node itself ends with it.
    let with_node = pod.is_some() || node.as_ref().is_none_or(|node| is_there("nodes", "", node));
    is_there("serviceaccounts", namespace, account) && one("pods", pod) && one("secrets", secret) && with_node
}

/// What of a Secret decides whether the token in it is valid.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Kept {
    metadata: KeptMetadata,
    data: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct KeptMetadata {
    deletion_timestamp: Option<Timestamp>,
    labels: BTreeMap<String, String>,
}

/// Whether the Secret holds this token, and nobody has marked it as not to be used.
fn is_kept(token: &str, claims: &SecretClaims, registry: &Registry) -> bool {
    let kinds = registry.kinds();
    let Some(kind) = kinds.lookup("", "v1", "secrets") else { return false };
    let Some(object) = registry.known(kind, &claims.namespace, &claims.secret) else { return false };
    let Ok(kept) = serde_json::from_slice::<Kept>(object.body()) else { return false };
    let holds = kept.data.get("token").and_then(|text| STANDARD.decode(text).ok());
    kept.metadata.deletion_timestamp.is_none()
        && !kept.metadata.labels.contains_key("kubernetes.io/legacy-token-invalid-since")
        && holds.as_deref() == Some(token.as_bytes())
}
