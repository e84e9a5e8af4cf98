//! What a service account's token says, and whom it speaks for. Signing is `pki`'s; whether what a token is bound to is
//! still there, the API server looks up.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::UserInfo;
use crate::user::SERVICE_ACCOUNT_PREFIX;

/// Group of every service account.
const ALL: &str = "system:serviceaccounts";

/// The claims of a token, in upstream's form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Whom it is meant for.
    pub aud: Vec<String>,
    /// When it expires, in seconds since the epoch.
    pub exp: i64,
    /// When it was issued.
    pub iat: i64,
    /// Who issued it.
    pub iss: String,
    /// Its own name, for logs.
    #[serde(default)]
    pub jti: String,
    /// Before when it is not valid.
    pub nbf: i64,
    /// Whom it speaks for: the account's user name.
    pub sub: String,
    /// The objects that have to be there for it to be valid.
    #[serde(rename = "kubernetes.io")]
    pub bound: Bound,
}

/// The objects that a token is bound to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// The namespace of the account, and of the pod or secret.
    pub namespace: String,
    /// The node: the one asked for, or the pod's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Named>,
    /// The pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Named>,
    /// The secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Named>,
    /// The account.
    #[serde(rename = "serviceaccount")]
    pub account: Named,
}

/// One object, not another of the same name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// Its uid.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

/// The issuer that tokens name which are kept in Secrets.
pub const SECRETS_ISSUER: &str = "kubernetes/serviceaccount";

/// The claims of a token that is kept in a Secret, in upstream's form: for this API alone, and valid as long as the Secret
/// holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretClaims {
    /// [`SECRETS_ISSUER`].
    pub iss: String,
    /// Whom it speaks for: the account's user name.
    pub sub: String,
    /// The namespace of the account and the Secret.
    #[serde(rename = "kubernetes.io/serviceaccount/namespace")]
    pub namespace: String,
    /// The Secret.
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name")]
    pub secret: String,
    /// The account.
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name")]
    pub account: String,
    /// The account, and not another of its name.
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid")]
    pub account_uid: String,
}

impl SecretClaims {
    /// Those of the token in a Secret.
    pub fn new(namespace: &str, secret: &str, account: &str, account_uid: &str) -> Self {
        Self {
            iss: SECRETS_ISSUER.to_owned(),
            sub: user_name(namespace, account),
            namespace: namespace.to_owned(),
            secret: secret.to_owned(),
            account: account.to_owned(),
            account_uid: account_uid.to_owned(),
        }
    }

    /// Whether they are such claims, and say the same of the account in both places.
    pub fn are_sound(&self) -> bool {
        let is_named = ![&self.namespace, &self.secret, &self.account, &self.account_uid]
            .into_iter()
            .any(|name| name.is_empty());
        self.iss == SECRETS_ISSUER && is_named && self.sub == user_name(&self.namespace, &self.account)
    }

    /// The user that it speaks for.
    pub fn user(&self) -> UserInfo {
        account_user(&self.namespace, &self.account, &self.account_uid, BTreeMap::new())
    }
}

/// Why a token that was signed by us is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Another issuer's.
    #[error("the token is of another issuer")]
    Issuer,
    /// Meant for somebody else.
    #[error("token audiences {0:?} is invalid for the target audiences {1:?}")]
    Audience(Vec<String>, Vec<String>),
    /// Not yet valid.
    #[error("the token is not valid yet")]
    Early,
    /// Not valid any more.
    #[error("service account token has expired")]
    Expired,
    /// What it is bound to is not there any more.
    #[error("service account token has been invalidated")]
    Invalidated,
}

impl Claims {
    /// The audiences among `wanted` that the token is meant for.
    ///
    /// # Errors
    /// When it is meant for none of them, is another issuer's, or its time is not now.
    pub fn check(&self, issuer: &str, wanted: &[String], now: Timestamp) -> Result<Vec<String>, Refused> {
        if self.iss != issuer {
            return Err(Refused::Issuer);
        }
        if now.as_second() >= self.exp {
            return Err(Refused::Expired);
        }
        if now.as_second() < self.nbf {
            return Err(Refused::Early);
        }
        let common: Vec<String> = self.aud.iter().filter(|aud| wanted.contains(aud)).cloned().collect();
        if common.is_empty() {
            return Err(Refused::Audience(self.aud.clone(), wanted.to_vec()));
        }
        Ok(common)
    }

    /// The user that it speaks for.
    pub fn user(&self) -> UserInfo {
        let Bound { namespace, node, pod, secret: _, account } = &self.bound;
        let mut extra = BTreeMap::new();
        let mut say = |key: &str, value: &str| {
            if !value.is_empty() {
                extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
            }
        };
        if !self.jti.is_empty() {
            say("credential-id", &format!("JTI={}", self.jti));
        }
        for (what, named) in [("pod", pod), ("node", node)] {
            if let Some(named) = named {
                say(&format!("{what}-name"), &named.name);
                say(&format!("{what}-uid"), &named.uid);
            }
        }
        account_user(namespace, &account.name, &account.uid, extra)
    }
}

fn account_user(namespace: &str, name: &str, uid: &str, extra: BTreeMap<String, Vec<String>>) -> UserInfo {
    let groups = vec![ALL.to_owned(), format!("{ALL}:{namespace}")];
    let user = UserInfo { name: user_name(namespace, name), uid: uid.to_owned(), groups, extra };
    user.authenticated()
}

/// The name under which a service account is known to roles and bindings.
pub fn user_name(namespace: &str, name: &str) -> String {
    format!("{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims() -> Claims {
        let named = |name: &str| Named { name: name.to_owned(), uid: format!("{name}-uid") };
        Claims {
            aud: vec!["api".into(), "vault".into()],
            exp: 200,
            iat: 100,
            iss: "us".into(),
            jti: "j".into(),
            nbf: 100,
            sub: user_name("n", "a"),
            bound: Bound {
                namespace: "n".into(),
                node: Some(Named { name: "one".into(), uid: String::new() }),
                pod: Some(named("p")),
                secret: None,
                account: named("a"),
            },
        }
    }

    #[test]
    fn the_wire_form_is_upstreams() {
        let text = serde_json::to_value(claims()).unwrap();
        let bound = serde_json::json!({
            "namespace": "n", "node": {"name": "one"}, "pod": {"name": "p", "uid": "p-uid"},
            "serviceaccount": {"name": "a", "uid": "a-uid"},
        });
        assert_eq!(text["kubernetes.io"], bound);
        assert_eq!(text["sub"], "system:serviceaccount:n:a");
        assert_eq!(serde_json::from_value::<Claims>(text).unwrap(), claims());
    }

    #[test]
    fn a_token_of_a_secret_says_what_upstreams_does() {
        let claims = SecretClaims::new("n", "s", "a", "a-uid");
        let text = serde_json::to_value(&claims).unwrap();
        let wanted = serde_json::json!({
            "iss": "kubernetes/serviceaccount", "sub": "system:serviceaccount:n:a",
            "kubernetes.io/serviceaccount/namespace": "n",
            "kubernetes.io/serviceaccount/secret.name": "s",
            "kubernetes.io/serviceaccount/service-account.name": "a",
            "kubernetes.io/serviceaccount/service-account.uid": "a-uid",
        });
        assert_eq!(text, wanted);
        assert!(claims.are_sound());
        assert!(!SecretClaims { sub: user_name("n", "b"), ..claims.clone() }.are_sound());
        assert!(!SecretClaims { iss: "us".into(), ..claims.clone() }.are_sound());
        assert!(!SecretClaims { secret: String::new(), ..claims.clone() }.are_sound());
        let user = claims.user();
        assert_eq!((user.name.as_str(), user.uid.as_str()), ("system:serviceaccount:n:a", "a-uid"));
    }

    #[test]
    fn whom_it_is_for_and_when() {
        let check = |issuer: &str, wanted: &str, now: i64| {
            claims().check(issuer, &[wanted.to_owned()], Timestamp::from_second(now).unwrap())
        };
        assert_eq!(check("us", "vault", 100), Ok(vec!["vault".to_owned()]));
        assert_eq!(check("us", "api", 199), Ok(vec!["api".to_owned()]));
        assert_eq!(check("us", "api", 200), Err(Refused::Expired));
        assert_eq!(check("us", "api", 99), Err(Refused::Early));
        assert_eq!(check("them", "api", 150), Err(Refused::Issuer));
        assert!(matches!(check("us", "other", 150), Err(Refused::Audience(..))));
    }

    #[test]
    fn the_user_and_what_is_said_about_it() {
        let user = claims().user();
        assert_eq!((user.name.as_str(), user.uid.as_str()), ("system:serviceaccount:n:a", "a-uid"));
        assert_eq!(
            user.groups,
            ["system:serviceaccounts", "system:serviceaccounts:n", "system:authenticated"]
        );
        let extra: Vec<String> =
            user.extra.iter().map(|(key, values)| format!("{key}={}", values[0])).collect();
        assert_eq!(
            extra.join(" ").replace("authentication.kubernetes.io/", ""),
            "credential-id=JTI=j node-name=one pod-name=p pod-uid=p-uid"
        );
    }
}
