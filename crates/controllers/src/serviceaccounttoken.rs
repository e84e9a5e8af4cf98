//! Tokens that are kept in Secrets: who makes a Secret of their type for a service account is given one in it, and it goes with
//! its account. Nobody is given such a Secret unasked.

use crate::plan::{Plan, delete, patch};
use crate::{Controller, World};
use async_trait::async_trait;
use auth::service_account::SecretClaims;
use client::kube::{Api, Client, Error, ResourceExt};
use client::reflector::Selection;
use client::{Informer, InformerOptions, ObjectKey, Reader, WorkQueue, by_namespace};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use pki::TokenSigner;
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

const TYPE: &str = "kubernetes.io/service-account-token";
const ACCOUNT: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
const TOKEN: &str = "token";
const NAMESPACE: &str = "namespace";
const CA: &str = "ca.crt";
/// How long after a failure to sign it is tried again.
const AGAIN: SignedDuration = SignedDuration::from_mins(1);

/// The controller; see the module.
pub struct AccountTokens {
    secrets: Reader<Secret>,
    accounts: Reader<ServiceAccount>,
    client: Client,
    signer: Option<Arc<TokenSigner>>,
    root_ca: Option<String>,
}

/// A Secret, and the account that it names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    secret: ObjectKey,
    account: String,
}

impl Key {
    fn of(secret: &Secret) -> Self {
        let account = secret.annotations().get(ACCOUNT).cloned().unwrap_or_default();
        Self { secret: ObjectKey::of(secret), account }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.secret, self.account)
    }
}

/// What it looks at.
#[derive(Default)]
pub struct View {
    /// The Secret, unless it is gone.
    pub secret: Option<Arc<Secret>>,
    /// The account, unless there is none of that name.
    pub account: Option<Arc<ServiceAccount>>,
    /// The certificates to trust the API server by.
    pub root_ca: Option<String>,
    /// A token for the Secret, if it has none, or why there is none.
    pub token: Option<Result<String, String>>,
}

#[async_trait]
impl Controller for AccountTokens {
    const NAME: &'static str = "serviceaccount-token-controller";
    type Key = Key;
    type View = View;
    type Memory = ();

    fn wire(world: &World, queue: &Arc<WorkQueue<Key>>) -> Self {
        let selection = Selection { fields: Some(format!("type={TYPE}")), ..Selection::default() };
        let options = InformerOptions { selection, ..InformerOptions::default() };
        let all = Api::<Secret>::all(world.client().clone());
        let secrets = Reader::new(Informer::start(all, options, world.ambient(), world.tasks()));
        let accounts = world.reader::<ServiceAccount>();
        secrets.informer().index_by(by_namespace());
        let add = queue.clone();
        secrets.informer().on_change(move |change| add.add(Key::of(change.object())));
        let (add, all) = (queue.clone(), secrets.clone());
        accounts.informer().on_change(move |change| {
            let account = change.object();
            let there = all.by_index("namespace", &account.namespace().unwrap_or_default());
            let keys = there.iter().map(|secret| Key::of(secret));
            keys.filter(|key| key.account == account.name_any()).for_each(|key| add.add(key));
        });
        let settings = world.settings();
        let (signer, root_ca) = (settings.tokens.clone(), settings.root_ca.clone());
        Self { secrets, accounts, client: world.client().clone(), signer, root_ca }
    }

    async fn ready(&self) {
        self.secrets.informer().ready().await;
    }

    fn view(&self, key: &Key) -> View {
        if self.signer.is_none() {
            // It is another's to keep them.
            return View::default();
        }
        View {
            secret: self.secrets.get(&key.secret),
            account: self.accounts.get(&ObjectKey::new(&key.secret.namespace, &key.account)),
            root_ca: self.root_ca.clone(),
            token: None,
        }
    }

    async fn observe(&self, key: &Key, view: &mut View) -> Result<(), Error> {
        let Some(secret) = &view.secret else { return Ok(()) };
        if !view.account.as_ref().is_some_and(|account| is_of(secret, account)) {
            // One may just have been made, and not be heard of yet: a Secret that goes is lost.
            let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &key.secret.namespace);
            view.account = accounts.get_opt(&key.account).await?.map(Arc::new);
        }
        if let (Some(signer), Some(account)) = (&self.signer, &view.account)
            && is_of(secret, account)
            && lacks(secret, TOKEN)
        {
            view.token = Some(signed(signer, secret, account));
        }
        Ok(())
    }

    fn plan(key: &Key, view: &View, (): &(), now: Timestamp) -> Plan<()> {
        let mut plan = Plan::default();
        match (view.secret.as_deref(), view.account.as_deref()) {
            (None, Some(account)) => plan.then(forget(account, &key.secret.name)),
            (None, None) => {}
            (Some(secret), Some(account)) if is_of(secret, account) => {
                fill(secret, account, view, now, &mut plan)
            }
            (Some(secret), _) => plan.then(delete(secret)),
        }
        plan
    }
}

/// Whether the account is the one that the Secret names, and not another of its name.
fn is_of(secret: &Secret, account: &ServiceAccount) -> bool {
    let wanted = secret.annotations().get(ACCOUNT_UID).filter(|uid| !uid.is_empty());
    wanted.is_none_or(|uid| account.metadata.uid.as_ref() == Some(uid))
}

fn held<'a>(secret: &'a Secret, key: &str) -> Option<&'a [u8]> {
    Some(secret.data.as_ref()?.get(key)?.0.as_slice())
}

fn lacks(secret: &Secret, key: &str) -> bool {
    held(secret, key).is_none_or(<[u8]>::is_empty)
}

fn signed(signer: &TokenSigner, secret: &Secret, account: &ServiceAccount) -> Result<String, String> {
    let (namespace, uid) = (account.namespace().unwrap_or_default(), account.uid().unwrap_or_default());
    let claims = SecretClaims::new(&namespace, &secret.name_any(), &account.name_any(), &uid);
    let claims = serde_json::to_vec(&claims).map_err(|error| error.to_string())?;
    signer.sign(&claims).map_err(|error| error.to_string())
}

/// Gives the Secret what it lacks.
fn fill(secret: &Secret, account: &ServiceAccount, view: &View, now: Timestamp, plan: &mut Plan<()>) {
    let mut data: BTreeMap<&str, ByteString> = BTreeMap::new();
    let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
    if let Some(ca) = view.root_ca.as_deref().filter(|ca| held(secret, CA) != Some(ca.as_bytes())) {
        data.insert(CA, bytes(ca));
    }
    if lacks(secret, NAMESPACE) {
        data.insert(NAMESPACE, bytes(&secret.namespace().unwrap_or_default()));
    }
    match &view.token {
        Some(Ok(token)) => {
            data.insert(TOKEN, bytes(token));
        }
        Some(Err(why)) => {
            tracing::warn!(secret = %ObjectKey::of(secret), why, "a token could not be signed; trying again");
            plan.look_again(now.checked_add(AGAIN).ok());
        }
        None => {}
    }
    if !data.is_empty() {
        let annotations = json!({ ACCOUNT: account.name_any(), ACCOUNT_UID: account.uid() });
        plan.then(patch(secret, json!({ "metadata": { "annotations": annotations }, "data": data })));
    }
}

/// The account without a Secret that is gone, if it names it.
fn forget(account: &ServiceAccount, secret: &str) -> Option<crate::plan::Action> {
    let named = account.secrets.as_deref().unwrap_or_default();
    let left: Vec<_> = named.iter().filter(|one| one.name.as_deref() != Some(secret)).collect();
    (left.len() < named.len()).then(|| patch(account, json!({ "secrets": left })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Action;
    use serde_json::{Value, from_value};

    fn secret(annotations: Value, data: Value) -> Secret {
        from_value(json!({
            "metadata": { "name": "s", "namespace": "n", "uid": "u", "annotations": annotations },
            "type": TYPE, "data": data,
        }))
        .unwrap()
    }

    fn account(uid: &str) -> ServiceAccount {
        from_value(json!({
            "metadata": { "name": "a", "namespace": "n", "uid": uid }, "secrets": [{ "name": "s" }, { "name": "t" }],
        }))
        .unwrap()
    }

    fn planned(secret: Option<Secret>, account: Option<ServiceAccount>) -> Vec<Action> {
        let key = Key { secret: ObjectKey::new("n", "s"), account: "a".to_owned() };
        let token = secret.as_ref().filter(|secret| lacks(secret, TOKEN)).map(|_| Ok("signed".to_owned()));
        let (secret, account) = (secret.map(Arc::new), account.map(Arc::new));
        let view = View { secret, account, root_ca: Some("ca".to_owned()), token };
        AccountTokens::plan(&key, &view, &(), Timestamp::UNIX_EPOCH).actions
    }

    #[test]
    fn a_secret_gets_what_it_lacks() {
        let actions = planned(Some(secret(json!({ ACCOUNT: "a" }), json!({}))), Some(account("1")));
        let [Action::Patch(patch)] = &actions[..] else { panic!("{actions:?}") };
        let bytes = |text: &str| json!(ByteString(text.as_bytes().to_vec()));
        let wanted = json!({ TOKEN: bytes("signed"), NAMESPACE: bytes("n"), CA: bytes("ca") });
        assert_eq!(patch.body["data"], wanted);
        assert_eq!(patch.body["metadata"]["annotations"][ACCOUNT_UID], "1");
        let mine = json!({ TOKEN: bytes("mine"), NAMESPACE: bytes("n"), CA: bytes("old") });
        let actions = planned(Some(secret(json!({ ACCOUNT: "a" }), mine)), Some(account("1")));
        let [Action::Patch(patch)] = &actions[..] else { panic!("{actions:?}") };
        assert_eq!(patch.body["data"], json!({ CA: bytes("ca") }), "a token that is there stays");
        let full = json!({ TOKEN: bytes("mine"), NAMESPACE: bytes("n"), CA: bytes("ca") });
        assert_eq!(planned(Some(secret(json!({ ACCOUNT: "a" }), full)), Some(account("1"))), []);
    }

    #[test]
    fn a_secret_goes_with_its_account() {
        let of_one = || Some(secret(json!({ ACCOUNT: "a", ACCOUNT_UID: "1" }), json!({})));
        for account in [None, Some(account("2"))] {
            let actions = planned(of_one(), account);
            let [Action::Delete(delete)] = &actions[..] else { panic!("{actions:?}") };
            assert_eq!((delete.key.name.as_str(), delete.uid.as_deref()), ("s", Some("u")));
        }
    }

    #[test]
    fn an_account_forgets_a_secret_that_is_gone() {
        let actions = planned(None, Some(account("1")));
        let [Action::Patch(patch)] = &actions[..] else { panic!("{actions:?}") };
        assert_eq!(patch.body["secrets"], json!([{ "name": "t" }]));
        assert_eq!(planned(None, None), []);
    }
}
