//! One repository at one endpoint: requests that say who asks, and are tried again.

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::RegistryError;
use super::challenge::{self, Challenge};
use super::config::Endpoint;
use super::credential::Credential;
use super::error::is_transient;
use super::http::{Answer, Http, Payload};
use super::url::Url;

/// How often something is tried without any progress.
pub(crate) const TRIES: u32 = 5;
/// What a registry may make one wait at once.
const LONGEST: Duration = Duration::from_secs(60);
/// Bytes of an error, and of a token.
const SMALL: u64 = 256 << 10;

/// How patient one is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// How long nothing may happen on a connection.
    pub(crate) stall: Duration,
    /// The first wait before something is tried again; each further one is twice as long.
    pub(crate) first: Duration,
}

impl Patience {
    /// How long to wait after so many failures.
    pub(crate) fn wait(&self, failures: u32, asked: Option<Duration>) -> Duration {
        let own = self.first * 2_u32.saturating_pow(failures.saturating_sub(1).min(8));
        asked.unwrap_or(own).min(LONGEST)
    }
}

pub(crate) struct Session {
    http: Http,
    endpoint: Endpoint,
    repository: String,
    credential: Option<Credential>,
    /// What is asked for of a token server.
    scopes: Vec<String>,
    /// What has been found to work.
    authorization: Mutex<Option<HeaderValue>>,
    pub(crate) patience: Patience,
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

#[derive(Deserialize)]
struct Errors {
    errors: Vec<ErrorText>,
}

#[derive(Deserialize)]
struct ErrorText {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl Session {
    /// `actions`: what will be done with the repository, as in `pull,push`. `others`: repositories that are read.
    pub(crate) fn new(
        http: Http,
        endpoint: Endpoint,
        repository: &str,
        credential: Option<Credential>,
        actions: &str,
        others: &[String],
        patience: Patience,
    ) -> Self {
        let own = format!("repository:{repository}:{actions}");
        let others = others.iter().map(|other| format!("repository:{other}:pull"));
        Self {
            http,
            endpoint,
            repository: repository.to_owned(),
            credential,
            scopes: std::iter::once(own).chain(others).collect(),
            authorization: Mutex::new(None),
            patience,
        }
    }

    /// A URL below the repository's.
    pub(crate) fn url(&self, path: &str) -> Url {
        let mut url = self.endpoint.base.clone();
        url.path = format!("{}/{}/{path}", url.path, self.repository);
        match &self.endpoint.mirrors {
            // What a pull-through proxy of several registries goes by.
            Some(registry) => url.with("ns", registry),
            None => url,
        }
    }

    /// Sends a request, as whom the registry wants, and again if it may go well then. The answer may be any but an
    /// authorization that is asked for.
    pub(crate) async fn send(
        &self,
        method: Method,
        url: &Url,
        headers: &[(http::HeaderName, String)],
        payload: Payload,
    ) -> Result<Answer, RegistryError> {
        let mut failures = 0;
        loop {
            let (error, asked) = match self.authorized(&method, url, headers, &payload).await {
                Ok(answer) if is_transient(answer.status) => {
                    let asked = answer.header(RETRY_AFTER).and_then(retry_after);
                    (self.refusal(answer).await, asked)
                }
                Ok(answer) => return Ok(answer),
                Err(error) if error.is_transient() => (error, None),
                Err(error) => return Err(error),
            };
            failures += 1;
            if failures >= TRIES {
                return Err(error);
            }
            let wait = self.patience.wait(failures, asked);
            tracing::debug!(%error, ?wait, "a request to a registry is tried again");
            tokio::time::sleep(wait).await;
        }
    }

    async fn authorized(
        &self,
        method: &Method,
        url: &Url,
        headers: &[(http::HeaderName, String)],
        payload: &Payload,
    ) -> Result<Answer, RegistryError> {
        let known = self.authorization.lock().await.clone();
        let answer = self.once(method, url, headers, payload, known.as_ref()).await?;
        if answer.status != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let Some(challenge) = challenge::of(&answer.headers) else {
            return Err(self.refusal(answer).await);
        };
        let fresh = {
            // One asks, the others wait for what it gets.
            let mut authorization = self.authorization.lock().await;
            if *authorization == known {
                match self.answer_to(challenge, url).await? {
                    Some(value) => *authorization = Some(value),
                    None => return Err(self.refusal(answer).await),
                }
            }
            authorization.clone()
        };
        let answer = self.once(method, url, headers, payload, fresh.as_ref()).await?;
        match answer.status {
            StatusCode::UNAUTHORIZED => Err(self.refusal(answer).await),
            _ => Ok(answer),
        }
    }

    async fn once(
        &self,
        method: &Method,
        url: &Url,
        headers: &[(http::HeaderName, String)],
        payload: &Payload,
        authorization: Option<&HeaderValue>,
    ) -> Result<Answer, RegistryError> {
        let mut all = HeaderMap::new();
        for (name, value) in headers {
            let value = HeaderValue::from_str(value).map_err(|_| RegistryError::protocol(url, "a header"))?;
            all.insert(name, value);
        }
        // An upload may go on elsewhere, by an address that says itself who may use it.
        if let Some(value) = authorization.filter(|_| url.origin == self.endpoint.base.origin) {
            all.insert(AUTHORIZATION, value.clone());
        }
        self.http.send(method, url, all, payload).await
    }

    /// What to say to a challenge; `None`: there is nothing to say.
    async fn answer_to(&self, challenge: Challenge, url: &Url) -> Result<Option<HeaderValue>, RegistryError> {
        let text = match (challenge, &self.credential) {
            (_, Some(credential)) if !credential.registry_token.is_empty() => {
                format!("Bearer {}", credential.registry_token)
            }
            (Challenge::Basic, Some(credential)) => basic(credential),
            (Challenge::Basic, None) => return Ok(None),
            (Challenge::Bearer { realm, service, scope }, credential) => {
                let token = self.token(&realm, service, scope, credential.as_ref(), url).await?;
                format!("Bearer {token}")
            }
        };
        let value = HeaderValue::from_str(&text);
        let mut value = value.map_err(|_| RegistryError::protocol(url, "a token that is no text"))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    async fn token(
        &self,
        realm: &str,
        service: Option<String>,
        scope: Option<String>,
        credential: Option<&Credential>,
        url: &Url,
    ) -> Result<String, RegistryError> {
        let mut realm = url.join(realm)?;
        if url.origin.https && !realm.origin.https && credential.is_some() {
            return Err(RegistryError::protocol(&realm, "a token server without TLS is not told a password"));
        }
        let mut scopes = self.scopes.clone();
        scopes.extend(scope.into_iter().filter(|scope| !self.scopes.contains(scope)));
        let mut headers = HeaderMap::new();
        let service = service.unwrap_or_default();
        let identity =
            credential.map(|known| known.identity_token.as_str()).filter(|token| !token.is_empty());
        let (method, payload) = match identity {
            Some(token) => {
                let form = form_urlencoded::Serializer::new(String::new())
                    .extend_pairs([("grant_type", "refresh_token"), ("client_id", "monoplane")])
                    .extend_pairs([("service", service.as_str()), ("refresh_token", token)])
                    .append_pair("scope", &scopes.join(" "))
                    .finish();
                let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
                headers.insert(CONTENT_TYPE, form_type);
                (Method::POST, Payload::Bytes(Bytes::from(form)))
            }
            None => {
                realm = realm.with("service", &service);
                for scope in &scopes {
                    realm = realm.with("scope", scope);
                }
                if let Some(credential) = credential {
                    let value = HeaderValue::from_str(&basic(credential));
                    let mut value = value.map_err(|_| RegistryError::protocol(&realm, "a password"))?;
                    value.set_sensitive(true);
                    headers.insert(AUTHORIZATION, value);
                }
                (Method::GET, Payload::None)
            }
        };
        let mut answer = self.http.send(&method, &realm, headers, &payload).await?;
        if !answer.status.is_success() {
            return Err(self.refusal(answer).await);
        }
        let bytes = answer.bytes(SMALL).await?;
        let token: Token =
            serde_json::from_slice(&bytes).map_err(|_| RegistryError::protocol(&realm, "not a token"))?;
        let token = token.token.or(token.access_token).filter(|token| !token.is_empty());
        token.ok_or_else(|| RegistryError::protocol(&realm, "an answer without a token"))
    }

    /// What an answer that is not the one hoped for amounts to.
    pub(crate) async fn refusal(&self, mut answer: Answer) -> RegistryError {
        let (url, status) = (answer.url.to_string(), answer.status);
        let bytes = answer.bytes(SMALL).await.unwrap_or_default();
        let said =
            serde_json::from_slice::<Errors>(&bytes).ok().and_then(|said| said.errors.into_iter().next());
        let said = said.map(|ErrorText { code, message }| match (code.is_empty(), message.is_empty()) {
            (false, false) => format!(": {}: {message}", code.to_lowercase()),
            (false, true) => format!(": {}", code.to_lowercase()),
            _ => format!(": {message}"),
        });
        // A registry's words end up in events: they stay short and on their line.
        let said: String = said.unwrap_or_default().chars().filter(|c| !c.is_control()).take(300).collect();
        match status {
            StatusCode::NOT_FOUND => RegistryError::NotFound { url, said },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => RegistryError::Denied { url, said },
            status => RegistryError::Status { url, status, said },
        }
    }
}

fn basic(credential: &Credential) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{}:{}", credential.username, credential.password)))
}

/// Seconds, or a date.
fn retry_after(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = httpdate::parse_http_date(text).ok()?;
    Some(at.duration_since(SystemTime::now()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_a_registry_may_say_how_long() {
        let patience = Patience { stall: Duration::from_secs(1), first: Duration::from_secs(1) };
        let waits: Vec<u64> = (1..=8).map(|failures| patience.wait(failures, None).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(patience.wait(1, retry_after("7")), Duration::from_secs(7));
        assert_eq!(patience.wait(1, retry_after("86400")), LONGEST);
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        assert_eq!(retry_after("soon"), None);
    }
}
