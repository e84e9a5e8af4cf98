//! Keys that sign the tokens of service accounts, as JSON Web Signatures (RFC 7515) under ES256.
//!
//! The newest key signs; older ones verify what they signed for as long as any of it can still be valid, so that a change
//! of keys is noticed by nobody. Each is a file of its own, named after the moment it began.

use std::fs;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use jiff::{SignedDuration, Timestamp};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};

use crate::{AccountKey, Error, file};

const DAY: i64 = 24;
/// How long a key signs.
const SIGNS: SignedDuration = SignedDuration::from_hours(292 * DAY);
/// How long a key verifies, from its beginning: what it signed last has expired by then.
const VERIFIES: SignedDuration = SignedDuration::from_hours(3 * 365 * DAY);
const PREFIX: &str = "service-account-";
const SUFFIX: &str = ".pem";

/// The keys of one issuer, the newest first. There is at least one.
pub struct TokenKeys {
    newest: Key,
    older: Vec<Key>,
}

struct Key {
    id: String,
    pair: EcdsaKeyPair,
}

/// The keys as whoever signs with them holds them: they are exchanged while they are in use.
pub struct TokenSigner(RwLock<Arc<Signing>>);

enum Signing {
    Ours(TokenKeys),
    Given(AccountKey),
}

impl From<AccountKey> for TokenSigner {
    /// Signs with another cluster's key.
    fn from(key: AccountKey) -> Self {
        Self(RwLock::new(Arc::new(Signing::Given(key))))
    }
}

impl TokenSigner {
    /// Signs with these keys.
    pub fn new(keys: TokenKeys) -> Self {
        Self(RwLock::new(Arc::new(Signing::Ours(keys))))
    }

    /// Signs with these from now on.
    pub fn renew(&self, keys: TokenKeys) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Signing::Ours(keys));
    }

    /// As [`TokenKeys::sign`].
    ///
    /// # Errors
    /// When there is no randomness to sign with.
    pub fn sign(&self, claims: &[u8]) -> Result<String, Error> {
        let keys = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        match &*keys {
            Signing::Ours(keys) => keys.sign(claims),
            Signing::Given(key) => key.sign(claims),
        }
    }
}

impl std::fmt::Debug for TokenSigner {
    /// A key has no place in a log.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("TokenSigner").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for TokenKeys {
    /// How many there are: a key has no place in a log.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("TokenKeys").field("older", &self.older.len()).finish_non_exhaustive()
    }
}

impl TokenKeys {
    /// Opens the keys kept in `directory`: makes the first one, and a new one where the last has signed for long enough;
    /// removes those that nothing valid can be signed with any more.
    ///
    /// # Errors
    /// When the directory cannot be used, or holds a key that cannot be read.
    pub fn open(directory: &Path, now: Timestamp) -> Result<Self, Error> {
        file::make_directory(directory)?;
        let failed = |source| Error::File { path: directory.to_owned(), source };
        let mut known: Vec<(i64, String)> = Vec::new();
        for entry in fs::read_dir(directory).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
            let begun = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX)?.parse().ok());
            known.extend(begun.map(|begun: i64| (begun, name)));
        }
        known.sort_unstable_by(|a, b| b.cmp(a));
        let age = |begun: i64| SignedDuration::from_secs(now.as_second().saturating_sub(begun));
        if known.first().is_none_or(|(begun, _)| age(*begun) >= SIGNS) {
            let pem = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?.serialize_pem();
            let name = format!("{PREFIX}{}{SUFFIX}", now.as_second());
            file::write_atomically(&directory.join(&name), pem.as_bytes())?;
            known.insert(0, (now.as_second(), name));
        }
        let mut keys = Vec::new();
        for (begun, name) in known {
            let path = directory.join(name);
            if age(begun) > VERIFIES {
                fs::remove_file(&path).map_err(failed)?;
                continue;
            }
            keys.push(Key::read(&path)?);
        }
        let mut keys = keys.into_iter();
        let newest = keys.next().ok_or_else(|| Error::Malformed("no token key is left".to_owned()))?;
        Ok(Self { newest, older: keys.collect() })
    }

    /// The claims with their signature, in the compact form.
    ///
    /// # Errors
    /// When there is no randomness to sign with.
    pub fn sign(&self, claims: &[u8]) -> Result<String, Error> {
        let header = json!({"alg": "ES256", "kid": self.newest.id}).to_string();
        let mut text = format!("{}.{}", BASE64.encode(header), BASE64.encode(claims));
        let signature = self.newest.pair.sign(&SystemRandom::new(), text.as_bytes());
        let signature = signature.map_err(|_| Error::Malformed("a token cannot be signed".to_owned()))?;
        text.push('.');
        text.push_str(&BASE64.encode(signature.as_ref()));
        Ok(text)
    }

    /// The claims of a token that one of the keys signed.
    pub fn verify(&self, token: &str) -> Option<Vec<u8>> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let header: Value = serde_json::from_slice(&BASE64.decode(header).ok()?).ok()?;
        if header["alg"] != "ES256" {
            return None;
        }
        let signature = BASE64.decode(signature).ok()?;
        let verifies = |key: &&Key| {
            let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.pair.public_key().as_ref());
            public.verify(signed.as_bytes(), &signature).is_ok()
        };
        // Upstream's kube-controller-manager has names of its own for the keys that it is given: one that it signed with is
        // among ours all the same.
        match self.all().find(|key| header["kid"] == key.id.as_str()) {
            Some(key) => verifies(&key).then_some(())?,
            None => self.all().find(verifies).map(|_| ())?,
        }
        BASE64.decode(claims).ok()
    }

    /// The public halves, as a JSON Web Key Set (RFC 7517).
    pub fn public(&self) -> Value {
        let one = |key: &Key| {
            // Uncompressed: a byte that says so, and two coordinates of 32 bytes.
            let (x, y) = key.pair.public_key().as_ref()[1..].split_at(32);
            json!({
                "use": "sig", "kty": "EC", "kid": key.id, "crv": "P-256", "alg": "ES256",
                "x": BASE64.encode(x), "y": BASE64.encode(y),
            })
        };
        json!({"keys": self.all().map(one).collect::<Vec<_>>()})
    }

    fn all(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.newest).chain(&self.older)
    }
}

impl Key {
    fn read(path: &Path) -> Result<Self, Error> {
        let broken = |reason: String| Error::Malformed(format!("{}: {reason}", path.display()));
        let pem = file::read(path)?.unwrap_or_default();
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes());
        let der = der.map_err(|error| broken(error.to_string()))?;
        let der = der.secret_pkcs8_der();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &SystemRandom::new());
        let pair = pair.map_err(|error| broken(error.to_string()))?;
        let id = BASE64.encode(digest(&SHA256, pair.public_key().as_ref()));
        Ok(Self { id, pair })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;

    fn days(days: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap() + SignedDuration::from_hours(24 * days)
    }

    #[test]
    fn what_an_older_key_signed_stays_valid() {
        let directory = tempfile::tempdir().unwrap();
        let open = |day| TokenKeys::open(directory.path(), days(day)).unwrap();
        let first = open(0).sign(b"{\"a\":1}").unwrap();
        assert_eq!(open(291).verify(&first).unwrap(), b"{\"a\":1}");
        assert_eq!(open(291).public()["keys"].as_array().unwrap().len(), 1);
        let after = open(300);
        assert_eq!(after.public()["keys"].as_array().unwrap().len(), 2);
        assert!(after.verify(&first).is_some());
        let second = after.sign(b"{}").unwrap();
        assert_ne!(first.split('.').next(), second.split('.').next(), "the new key signs");
        let late = open(300 + 3 * 365);
        assert!(late.verify(&first).is_none() && late.verify(&second).is_some());
    }

    #[test]
    fn what_was_changed_or_signed_by_others_is_refused() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let own = TokenKeys::open(here.path(), days(0)).unwrap();
        let other = TokenKeys::open(there.path(), days(0)).unwrap();
        let token = own.sign(b"{\"sub\":\"me\"}").unwrap();
        assert!(own.verify(&token).is_some() && other.verify(&token).is_none());
        let parts: Vec<&str> = token.split('.').collect();
        let forged = BASE64.encode("{\"sub\":\"you\"}");
        let none = BASE64.encode("{\"alg\":\"none\"}");
        for bad in [
            format!("{}.{forged}.{}", parts[0], parts[2]),
            format!("{none}.{}.", parts[1]),
            format!("{}.{}", parts[0], parts[1]),
            String::new(),
            ".".to_owned(),
            "..".to_owned(),
            format!("{token}.x"),
        ] {
            assert!(own.verify(&bad).is_none(), "{bad}");
        }
    }

    proptest! {
        /// The keys are made once: what matters is what comes.
        #[test]
        fn nothing_else_than_what_was_signed_is_believed(
            text in "\\PC{0,80}|([A-Za-z0-9_-]{0,40}\\.){0,4}[A-Za-z0-9_-]{0,90}",
            claims: Vec<u8>,
            at: usize,
            byte: u8,
        ) {
            static KEYS: LazyLock<TokenKeys> =
                LazyLock::new(|| TokenKeys::open(tempfile::tempdir().unwrap().path(), days(0)).unwrap());
            prop_assert!(KEYS.verify(&text).is_none());
            let token = KEYS.sign(&claims).unwrap();
            prop_assert_eq!(KEYS.verify(&token), Some(claims));
            let mut changed = token.clone().into_bytes();
            let at = at % changed.len();
            changed[at] = byte;
            if let Ok(changed) = String::from_utf8(changed) && changed != token {
                prop_assert!(KEYS.verify(&changed).is_none(), "{changed}");
            }
        }
    }
}
