//! Bootstrap tokens: `id.secret`, by which a machine that has nothing else yet proves that it was told to join. Each is a
//! Secret of `kube-system`, of a type of its own, and may be for a while only.

use jiff::Timestamp;
use subtle::ConstantTimeEq;

use crate::UserInfo;

/// Where the Secrets are.
pub const NAMESPACE: &str = "kube-system";
/// The type of the Secrets.
pub const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
/// What their names begin with; the id follows.
pub const SECRET_PREFIX: &str = "bootstrap-token-";
/// Group of everyone who comes with such a token.
pub const BOOTSTRAPPERS: &str = "system:bootstrappers";

/// Group of the tokens by which nodes join: kubeadm's.
pub const NODES: &str = "system:bootstrappers:kubeadm:default-node-token";

/// Group of those by which edges join.
pub const EDGES: &str = "system:bootstrappers:monoplane:edges";

const USER_PREFIX: &str = "system:bootstrap:";
const ID_LENGTH: usize = 6;
const SECRET_LENGTH: usize = 16;
/// The longest name of a group behind `system:bootstrappers:`.
const MAX_GROUP: usize = 256;

/// A token as its holder shows it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Token<'a> {
    /// The part that is no secret.
    pub id: &'a str,
    /// The part that is.
    pub secret: &'a str,
}

impl std::fmt::Debug for Token<'_> {
    /// The id alone: a token has no place in a log.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Token").field("id", &self.id).finish_non_exhaustive()
    }
}

impl<'a> Token<'a> {
    /// Six characters, a dot, sixteen characters, all of them digits or small letters; `None` for all else.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (id, secret) = text.split_once('.')?;
        let token = Self { id, secret };
        (is_word(id, ID_LENGTH) && is_word(secret, SECRET_LENGTH)).then_some(token)
    }

    /// The name of the Secret that it must be in.
    pub fn secret_name(&self) -> String {
        format!("{SECRET_PREFIX}{}", self.id)
    }
}

fn is_word(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase())
}

/// Until when a token can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// For ever.
    Never,
    /// Up to and without this moment.
    At(Timestamp),
    /// Nobody can tell, so it cannot be used.
    Unreadable,
}

/// What a Secret says of a token. What is missing is empty.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TokenSecret {
    /// The Secret's name.
    pub name: String,
    /// `token-id`.
    pub id: String,
    /// `token-secret`.
    pub secret: String,
    /// `expiration`.
    pub expiration: String,
    /// `usage-bootstrap-authentication`: who holds it is let in.
    pub authenticates: bool,
    /// `usage-bootstrap-signing`: it signs the cluster's information.
    pub signs: bool,
    /// `auth-extra-groups`, separated by commas.
    pub groups: String,
}

impl std::fmt::Debug for TokenSecret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("TokenSecret").field("name", &self.name).finish_non_exhaustive()
    }
}

impl TokenSecret {
    /// From a Secret of this name and type, of whose data `value` gives an entry; `None` if it is of another type.
    pub fn read(name: &str, secret_type: &str, value: impl Fn(&str) -> Option<Vec<u8>>) -> Option<Self> {
        if secret_type != SECRET_TYPE {
            return None;
        }
        let text = |key| value(key).and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
        Some(Self {
            name: name.to_owned(),
            id: text("token-id"),
            secret: text("token-secret"),
            expiration: text("expiration"),
            authenticates: text("usage-bootstrap-authentication") == "true",
            signs: text("usage-bootstrap-signing") == "true",
            groups: text("auth-extra-groups"),
        })
    }

    /// Until when it can be used.
    pub fn expiry(&self) -> Expiry {
        if self.expiration.is_empty() {
            return Expiry::Never;
        }
        apimachinery::time::parse(&self.expiration).map_or(Expiry::Unreadable, Expiry::At)
    }

    /// Whether it cannot be used any more.
    pub fn has_expired(&self, now: Timestamp) -> bool {
        match self.expiry() {
            Expiry::Never => false,
            Expiry::At(end) => now >= end,
            Expiry::Unreadable => true,
        }
    }

    /// Whom the token speaks for; `None` if it is another one, may not be used so, or has expired.
    pub fn user(&self, token: &Token<'_>, now: Timestamp) -> Option<UserInfo> {
        let is_it = bool::from(self.secret.as_bytes().ct_eq(token.secret.as_bytes()));
        if !is_it || self.id != token.id || self.has_expired(now) || !self.authenticates {
            return None;
        }
        let groups = self.user_groups()?;
        Some(
            UserInfo { name: format!("{USER_PREFIX}{}", self.id), groups, ..UserInfo::default() }
                .authenticated(),
        )
    }

    /// Sorted, each once; `None` if one may not be given so.
    fn user_groups(&self) -> Option<Vec<String>> {
        let mut groups = vec![BOOTSTRAPPERS.to_owned()];
        if !self.groups.is_empty() {
            for group in self.groups.split(',') {
                groups.push(is_group(group).then(|| group.to_owned())?);
            }
        }
        groups.sort_unstable();
        groups.dedup();
        Some(groups)
    }

    /// The token, if it may sign.
    pub fn signing(&self, now: Timestamp) -> Option<Token<'_>> {
        let named = self.name.strip_prefix(SECRET_PREFIX).filter(|id| is_word(id, ID_LENGTH))?;
        let is_whole = named == self.id && !self.secret.is_empty();
        (is_whole && self.signs && !self.has_expired(now))
            .then_some(Token { id: &self.id, secret: &self.secret })
    }
}

/// Only groups below the one of all such tokens, so that no token makes somebody an administrator.
fn is_group(name: &str) -> bool {
    let Some(own) = name.strip_prefix(BOOTSTRAPPERS).and_then(|rest| rest.strip_prefix(':')) else {
        return false;
    };
    let is_plain = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_lowercase();
    own.len() <= MAX_GROUP
        && own.bytes().last().is_some_and(is_plain)
        && own.bytes().all(|byte| is_plain(byte) || byte == b':' || byte == b'-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn now() -> Timestamp {
        "2026-11-22T10:00:00Z".parse().unwrap()
    }

    fn stored() -> TokenSecret {
        TokenSecret {
            name: "bootstrap-token-abcdef".into(),
            id: "abcdef".into(),
            secret: "0123456789abcdef".into(),
            authenticates: true,
            signs: true,
            ..TokenSecret::default()
        }
    }

    const TOKEN: Token<'_> = Token { id: "abcdef", secret: "0123456789abcdef" };

    #[test]
    fn who_holds_a_token_is_a_bootstrapper() {
        assert_eq!(Token::parse("abcdef.0123456789abcdef"), Some(TOKEN));
        assert_eq!(TOKEN.secret_name(), "bootstrap-token-abcdef");
        let mut secret = stored();
        secret.groups = "system:bootstrappers:b,system:bootstrappers:a-1:x,system:bootstrappers:b".into();
        let user = secret.user(&TOKEN, now()).unwrap();
        assert_eq!(user.name, "system:bootstrap:abcdef");
        assert_eq!(
            user.groups,
            [
                "system:bootstrappers",
                "system:bootstrappers:a-1:x",
                "system:bootstrappers:b",
                "system:authenticated"
            ]
        );
        assert!(
            !format!("{secret:?} {TOKEN:?}").contains("0123456789abcdef"),
            "a token has no place in a log"
        );
    }

    #[test]
    fn what_is_wrong_with_a_secret_ends_its_token() {
        let changes: [fn(&mut TokenSecret); 10] = [
            |secret| secret.secret.push('x'),
            |secret| secret.secret.clear(),
            |secret| secret.id = "abcdeg".into(),
            |secret| secret.authenticates = false,
            |secret| secret.expiration = "2026-11-22T10:00:00Z".into(),
            |secret| secret.expiration = "tomorrow".into(),
            |secret| secret.groups = "system:masters".into(),
            |secret| secret.groups = "system:bootstrappers:a,".into(),
            |secret| secret.groups = "system:bootstrappers:a-".into(),
            |secret| secret.groups = format!("system:bootstrappers:{}", "a".repeat(257)),
        ];
        for (index, change) in changes.into_iter().enumerate() {
            let mut secret = stored();
            change(&mut secret);
            assert_eq!(secret.user(&TOKEN, now()), None, "change {index}");
        }
        let mut secret = stored();
        secret.expiration = "2026-11-22T11:00:01+01:00".into();
        assert!(secret.user(&TOKEN, now()).is_some());
        secret.groups = format!("system:bootstrappers:{}", "a".repeat(256));
        assert!(secret.user(&TOKEN, now()).is_some());
    }

    #[test]
    fn only_whole_secrets_sign() {
        assert_eq!(stored().signing(now()), Some(TOKEN));
        let changes: [fn(&mut TokenSecret); 5] = [
            |secret| secret.signs = false,
            |secret| secret.name = "bootstrap-token-abcdeg".into(),
            |secret| secret.name = "abcdef".into(),
            |secret| secret.secret.clear(),
            |secret| secret.expiration = "2020-01-01T00:00:00Z".into(),
        ];
        for (index, change) in changes.into_iter().enumerate() {
            let mut secret = stored();
            change(&mut secret);
            assert_eq!(secret.signing(now()), None, "change {index}");
        }
    }

    #[test]
    fn only_secrets_of_the_type_are_read() {
        let value = |key: &str| (key == "token-id").then(|| b"abcdef".to_vec());
        assert!(TokenSecret::read("x", "Opaque", value).is_none());
        let read = TokenSecret::read("x", SECRET_TYPE, value).unwrap();
        assert_eq!((read.id.as_str(), read.secret.as_str(), read.authenticates), ("abcdef", "", false));
        let broken = TokenSecret::read("x", SECRET_TYPE, |_| Some(vec![0xff, 0xfe])).unwrap();
        assert_eq!(broken, TokenSecret { name: "x".into(), ..TokenSecret::default() });
    }

    proptest! {
        #[test]
        fn a_token_is_exactly_its_form(text in "[a-z0-9.]{0,26}|\\PC{0,30}|[a-z0-9]{6}\\.[a-z0-9]{16}") {
            let form = |text: &str| {
                let bytes = text.as_bytes();
                bytes.len() == 23 && bytes[6] == b'.'
                    && bytes.iter().enumerate().all(|(at, byte)| at == 6 || byte.is_ascii_digit() || byte.is_ascii_lowercase())
            };
            let parsed = Token::parse(&text);
            prop_assert_eq!(parsed.is_some(), form(&text));
            if let Some(token) = parsed {
                prop_assert_eq!(format!("{}.{}", token.id, token.secret), text);
            }
        }

        #[test]
        fn no_secret_gives_a_group_outside_of_its_own(groups in "(system:)?(masters|bootstrappers)?[:,a-z-]{0,40}") {
            let secret = TokenSecret { groups, ..stored() };
            if let Some(user) = secret.user(&TOKEN, now()) {
                let ours = |group: &String| group.starts_with(BOOTSTRAPPERS) || group == "system:authenticated";
                prop_assert!(user.groups.iter().all(ours), "{:?}", user.groups);
            }
        }
    }
}
