//! From a connection and headers to a user: certificate, bearer token, else anonymous; and whom the user acts for.

use std::borrow::Cow;
use std::sync::Arc;

use apimachinery::gvk::GroupResource;
use apimachinery::status::Status;
use arc_swap::ArcSwap;
use auth::{
    Attributes, Authorizer, Decision, Resource, Target, TokenFile, UserInfo, forbidden_message, user,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use jiff::Timestamp;
use registry::Registry;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::UnixTime;

use crate::bootstrap_tokens::BootstrapTokens;
use crate::connection::{Certified, Chain, ConnectError, Connection};
use crate::service_accounts::ServiceAccounts;

/// Everything that can tell who asks.
pub struct Authenticators {
    verifier: Arc<dyn ClientCertVerifier>,
    tokens: ArcSwap<TokenFile>,
    accounts: Option<Arc<ServiceAccounts>>,
    bootstrap: Option<BootstrapTokens>,
    anonymous: Arc<UserInfo>,
}

impl std::fmt::Debug for Authenticators {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Authenticators")
    }
}

impl Authenticators {
    /// Client certificates by this verifier (see [`crate::tls::client_verifier`]), and static tokens.
    pub fn new(verifier: Arc<dyn ClientCertVerifier>, tokens: TokenFile) -> Self {
        let anonymous = Arc::new(UserInfo::anonymous());
        Self { verifier, tokens: ArcSwap::from_pointee(tokens), accounts: None, bootstrap: None, anonymous }
    }

    /// Tokens of service accounts too.
    #[must_use]
    pub fn with_service_accounts(self, accounts: Arc<ServiceAccounts>) -> Self {
        Self { accounts: Some(accounts), ..self }
    }

    /// Bootstrap tokens too: those of the Secrets in this registry.
    #[must_use]
    pub fn with_bootstrap_tokens(self, registry: Arc<Registry>) -> Self {
        Self { bootstrap: Some(BootstrapTokens::new(registry)), ..self }
    }

    /// Who issues tokens of service accounts.
    pub(crate) fn accounts(&self) -> Result<&ServiceAccounts, Status> {
        self.accounts.as_deref().ok_or_else(Status::no_such_path)
    }

    /// Verifies the chain that a client presented, if it did, and reads whom it names.
    pub(crate) fn certified(
        &self,
        chain: Chain<'_>,
        now: Timestamp,
    ) -> Result<Option<Certified>, ConnectError> {
        let Some((own, intermediates)) = chain.split_first() else { return Ok(None) };
        let since_epoch = now.duration_since(Timestamp::UNIX_EPOCH);
        let since_epoch = std::time::Duration::try_from(since_epoch).unwrap_or_default();
        let now = UnixTime::since_unix_epoch(since_epoch);
        self.verifier.verify_client_cert(own, intermediates, now)?;
        let certified = auth::user_of_certificate(own)?;
        Ok(Some(Certified { user: Arc::new(certified.user), not_after: certified.not_after }))
    }

    /// Who sends a request with these headers over this connection.
    pub(crate) fn user(
        &self,
        connection: &Connection,
        headers: &HeaderMap,
        now: Timestamp,
    ) -> Result<Arc<UserInfo>, Status> {
        if let Some(user) = connection.user_at(now) {
            return Ok(user.clone());
        }
        let Some(token) = bearer(headers) else {
            // Whoever came with a certificate is not nobody once it has expired.
            let expired = connection.certified.is_some();
            return if expired { Err(Status::unauthorized("")) } else { Ok(self.anonymous.clone()) };
        };
        let judged = self.user_of_token(&token, &[], now);
        judged.map(|(user, _)| user).map_err(|_| Status::unauthorized(""))
    }

    /// Whose token this is, and for which of the wanted audiences (none: this API); or why it is nobody's. The answer to a
    /// TokenReview.
    pub(crate) fn user_of_token(
        &self,
        token: &str,
        wanted: &[String],
        now: Timestamp,
    ) -> Result<(Arc<UserInfo>, Vec<String>), String> {
        if let Some(user) = self.tokens.load().user(token) {
            // Such a token says nothing of whom it is for: it is for everybody.
            return Ok((user.clone(), wanted.to_vec()));
        }
        let judged = self.accounts.as_ref().and_then(|accounts| {
            let wanted = if wanted.is_empty() { accounts.audiences() } else { wanted };
            accounts.user(token, wanted, now)
        });
        match judged {
            Some(Ok(found)) => Ok(found),
            Some(Err(refused)) => Err(format!("[invalid bearer token, {refused}]")),
            None => {
                let user = self.bootstrap.as_ref().and_then(|tokens| tokens.user(token, now));
                let user = user.ok_or_else(|| "invalid bearer token".to_owned())?;
                Ok((user, wanted.to_vec()))
            }
        }
    }
}

/// Browsers cannot set headers of a WebSocket, but name its protocols: one that begins so goes on with a token.
pub(crate) const TOKEN_PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

fn bearer(headers: &HeaderMap) -> Option<Cow<'_, str>> {
    let Some(value) = headers.get(AUTHORIZATION) else { return protocol_token(headers).map(Cow::Owned) };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(Cow::Borrowed(token))
}

fn protocol_token(headers: &HeaderMap) -> Option<String> {
    let lines = headers.get_all(SEC_WEBSOCKET_PROTOCOL).into_iter().filter_map(|line| line.to_str().ok());
    let mut protocols = lines.flat_map(|line| line.split(',')).map(str::trim);
    let encoded = protocols.find_map(|protocol| protocol.strip_prefix(TOKEN_PROTOCOL))?;
    let token = String::from_utf8(URL_SAFE_NO_PAD.decode(encoded).ok()?).ok()?;
    (!token.is_empty()).then_some(token)
}

/// The user that a request acts for: itself, unless its headers say `Impersonate-User` and the like and the authorizer
/// lets it.
pub(crate) fn impersonate(
    headers: &HeaderMap,
    user: Arc<UserInfo>,
    authorizer: &dyn Authorizer,
) -> Result<Arc<UserInfo>, Status> {
    let is_ours = |name: &str| name.starts_with("impersonate-");
    if !headers.keys().any(|name| is_ours(name.as_str())) {
        return Ok(user);
    }
    let wanted = wanted_user(headers)?;
    for (group, resource, subresource, namespace, name) in checks(&wanted) {
        let target =
            Resource { group, version: "v1", resource, subresource, namespace, name, field_selector: "" };
        let attributes = Attributes { user: &user, verb: "impersonate", target: Target::Resource(target) };
        if let Decision::NoOpinion(reason) = authorizer.authorize(&attributes) {
            let of = GroupResource::new(group.to_owned(), resource.to_owned());
            return Err(Status::forbidden(&of, name, forbidden_message(&attributes, &reason)));
        }
    }
    Ok(Arc::new(complete(wanted)))
}

fn wanted_user(headers: &HeaderMap) -> Result<UserInfo, Status> {
    let text = |name: &str| {
        let values = headers.get_all(name).iter();
        let values: Vec<String> = values.filter_map(|value| value.to_str().ok().map(str::to_owned)).collect();
        values
    };
    let mut wanted = UserInfo {
        name: text("impersonate-user").into_iter().next().unwrap_or_default(),
        uid: text("impersonate-uid").into_iter().next().unwrap_or_default(),
        groups: text("impersonate-group"),
        ..UserInfo::default()
    };
    for name in headers.keys() {
        if let Some(key) = name.as_str().strip_prefix("impersonate-extra-") {
            let key = percent_encoding::percent_decode_str(key).decode_utf8_lossy().into_owned();
            wanted.extra.insert(key, text(name.as_str()));
        }
    }
    if wanted.name.is_empty() {
        let why = "requested impersonation without impersonating a user";
        return Err(Status::internal_error(why));
    }
    Ok(wanted)
}

/// What must be allowed for each part of the wanted user: group, resource, subresource, namespace and name.
fn checks(wanted: &UserInfo) -> Vec<(&str, &str, &str, &str, &str)> {
    let account =
        wanted.name.strip_prefix(user::SERVICE_ACCOUNT_PREFIX).and_then(|rest| rest.split_once(':'));
    let mut checks = vec![match account {
        Some((namespace, name)) => ("", "serviceaccounts", "", namespace, name),
        None => ("", "users", "", "", wanted.name.as_str()),
    }];
    checks.extend(wanted.groups.iter().map(|group| ("", "groups", "", "", group.as_str())));
    if !wanted.uid.is_empty() {
        checks.push(("authentication.k8s.io", "uids", "", "", wanted.uid.as_str()));
    }
    for (key, values) in &wanted.extra {
        checks.extend(
            values
                .iter()
                .map(|value| ("authentication.k8s.io", "userextras", key.as_str(), "", value.as_str())),
        );
    }
    checks
}

/// The groups that come with the name.
fn complete(mut wanted: UserInfo) -> UserInfo {
    if wanted.name == user::ANONYMOUS {
        if !wanted.is_in(user::UNAUTHENTICATED) {
            wanted.groups.push(user::UNAUTHENTICATED.to_owned());
        }
        return wanted;
    }
    let account =
        wanted.name.strip_prefix(user::SERVICE_ACCOUNT_PREFIX).and_then(|rest| rest.split_once(':'));
    if let Some((namespace, _)) = account
        && wanted.groups.is_empty()
    {
        wanted.groups =
            vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
    }
    wanted.authenticated()
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use pki::{Authority, Identity};

    use super::*;

    #[test]
    fn a_certificate_that_expires_on_an_open_connection_names_nobody_any_more() {
        let directory = tempfile::tempdir().unwrap();
        let now: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        let authority = Authority::open(directory.path(), now).unwrap();
        let verifier = crate::tls::client_verifier(&authority).unwrap();
        let authenticators = Authenticators::new(verifier, TokenFile::parse("t,bob,1").unwrap());
        let chain = [authority.client(&Identity::Admin, now).unwrap().certificate];
        let open = |at| -> Result<Connection, ConnectError> {
            Ok(Connection::new(None, authenticators.certified(&chain, at)?))
        };
        let connection = open(now).unwrap();
        let days = |days: i64| now + SignedDuration::from_hours(24 * days);
        let name = |headers: &HeaderMap, at| {
            authenticators.user(&connection, headers, at).map(|user| user.name.clone()).map_err(|no| no.code)
        };
        let none = HeaderMap::new();
        assert_eq!(name(&none, days(364)), Ok("kubernetes-admin".to_owned()));
        assert_eq!(name(&none, days(366)), Err(401));
        let token = HeaderMap::from_iter([(AUTHORIZATION, "Bearer t".parse().unwrap())]);
        assert_eq!(name(&token, days(366)), Ok("bob".to_owned()));
        assert!(matches!(open(days(366)), Err(ConnectError::Untrusted(_))));
    }
}
