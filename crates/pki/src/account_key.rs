//! A key that somebody else made and that signs service accounts' tokens: what kube-controller-manager's
//! `--service-account-private-key-file` names. RSA or P-256, as those who set up clusters make them.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::rsa;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::json;
use yasna::models::ObjectIdentifier;

use crate::{Error, file};

/// Such a key.
pub struct AccountKey {
    id: String,
    pair: Pair,
}

enum Pair {
    P256(EcdsaKeyPair),
    Rsa(rsa::KeyPair),
}

impl AccountKey {
    /// Reads it: PKCS #8, or of RSA's own form (PKCS #1), in PEM.
    ///
    /// # Errors
    /// When the file cannot be read, or holds no such key.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let broken = |reason: String| Error::Malformed(format!("{}: {reason}", path.display()));
        let pem = file::read(path)?.ok_or_else(|| broken("there is no such file".to_owned()))?;
        let der = PrivateKeyDer::from_pem_slice(pem.as_bytes());
        let pair = match der.map_err(|error| broken(error.to_string()))? {
            PrivateKeyDer::Pkcs1(der) => {
                let pair = rsa::KeyPair::from_der(der.secret_pkcs1_der());
                Pair::Rsa(pair.map_err(|error| broken(error.to_string()))?)
            }
            PrivateKeyDer::Pkcs8(der) => {
                let der = der.secret_pkcs8_der();
                let p256 =
                    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &SystemRandom::new());
                match p256 {
                    Ok(pair) => Pair::P256(pair),
                    Err(_) => Pair::Rsa(rsa::KeyPair::from_pkcs8(der).map_err(|error| {
                        broken(format!("neither a key of P-256 nor one of RSA that will do: {error}"))
                    })?),
                }
            }
            _ => {
                return Err(broken(
                    "a key of this form is not read; convert it with: openssl pkcs8 -topk8 -nocrypt"
                        .to_owned(),
                ));
            }
        };
        // Upstream's name of a key, by which its API server finds the one that verifies.
        let id = BASE64.encode(digest(&SHA256, &pair.public()));
        Ok(Self { id, pair })
    }

    pub(crate) fn sign(&self, claims: &[u8]) -> Result<String, Error> {
        let header = json!({ "alg": self.pair.algorithm(), "kid": self.id }).to_string();
        let text = format!("{}.{}", BASE64.encode(header), BASE64.encode(claims));
        let signature = self.pair.sign(text.as_bytes());
        let signature = signature.ok_or_else(|| Error::Malformed("a token cannot be signed".to_owned()))?;
        Ok(format!("{text}.{}", BASE64.encode(signature)))
    }
}

impl Pair {
    /// As JSON Web Algorithms has it (RFC 7518).
    fn algorithm(&self) -> &'static str {
        match self {
            Self::P256(_) => "ES256",
            Self::Rsa(_) => "RS256",
        }
    }

    fn sign(&self, text: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match self {
            Self::P256(pair) => Some(pair.sign(&random, text).ok()?.as_ref().to_vec()),
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, text, &mut signature).ok()?;
                Some(signature)
            }
        }
    }

    /// The public half as a `SubjectPublicKeyInfo` (RFC 5280) in DER.
    fn public(&self) -> Vec<u8> {
        let (algorithm, parameter, key): (&[u64], Option<&[u64]>, &[u8]) = match self {
            Self::P256(pair) => {
                (&[1, 2, 840, 10045, 2, 1], Some(&[1, 2, 840, 10045, 3, 1, 7]), pair.public_key().as_ref())
            }
            Self::Rsa(pair) => (&[1, 2, 840, 113_549, 1, 1, 1], None, pair.public().as_ref()),
        };
        yasna::construct_der(|writer| {
            writer.write_sequence(|writer| {
                writer.next().write_sequence(|writer| {
                    writer.next().write_oid(&ObjectIdentifier::from_slice(algorithm));
                    match parameter {
                        Some(curve) => writer.next().write_oid(&ObjectIdentifier::from_slice(curve)),
                        None => writer.next().write_null(),
                    }
                });
                writer.next().write_bitvec_bytes(key, key.len() * 8);
            });
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
    use serde_json::Value;

    use super::*;
    use crate::TokenKeys;

    fn key(name: &str) -> Result<AccountKey, Error> {
        AccountKey::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keys").join(name))
    }

    fn header(token: &str) -> Value {
        serde_json::from_slice(&BASE64.decode(token.split('.').next().unwrap()).unwrap()).unwrap()
    }

    #[test]
    fn a_key_of_rsa_signs_in_either_form_under_upstreams_name() {
        for name in ["rsa-pkcs1.pem", "rsa-pkcs8.pem"] {
            let key = key(name).unwrap();
            let token = key.sign(b"{}").unwrap();
            // By: openssl rsa -pubout -outform DER | openssl dgst -sha256 -binary | base64
            let id = "uiS-TxOSZWIgifxUwyLvxrhgKyqj-rYMi7neyLh705Q";
            assert_eq!(header(&token), json!({ "alg": "RS256", "kid": id }));
            let Pair::Rsa(pair) = &key.pair else { panic!("{name}") };
            let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public().as_ref());
            let (signed, signature) = token.rsplit_once('.').unwrap();
            public.verify(signed.as_bytes(), &BASE64.decode(signature).unwrap()).unwrap();
        }
    }

    #[test]
    fn what_is_signed_with_a_planes_own_key_under_another_name_is_valid_there() {
        let directory = tempfile::tempdir().unwrap();
        let keys = TokenKeys::open(directory.path(), jiff::Timestamp::UNIX_EPOCH).unwrap();
        let given = AccountKey::read(&directory.path().join("service-account-0.pem")).unwrap();
        let token = given.sign(b"{\"sub\":\"me\"}").unwrap();
        assert_ne!(header(&token)["kid"], header(&keys.sign(b"").unwrap())["kid"]);
        assert_eq!(keys.verify(&token).unwrap(), b"{\"sub\":\"me\"}");
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let why = |name| key(name).err().unwrap().to_string();
        assert!(why("sec1.pem").contains("openssl pkcs8"), "{}", why("sec1.pem"));
        assert!(why("none.pem").contains("none.pem: there is no such file"), "{}", why("none.pem"));
    }
}
