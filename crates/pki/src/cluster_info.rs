//! Signatures by which somebody who holds a bootstrap token alone recognises the cluster's own information.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::hmac::{HMAC_SHA256, Key, sign};

/// The signature of a text by a bootstrap token: a JSON Web Signature (RFC 7515) under HS256, detached (its appendix F),
/// that names the token by its id. One text and one token make one signature.
pub fn detached_signature(content: &str, id: &str, secret: &str) -> String {
    let header = BASE64.encode(serde_json::json!({"alg": "HS256", "kid": id}).to_string());
    let signed = format!("{header}.{}", BASE64.encode(content));
    let signature = sign(&Key::new(HMAC_SHA256, secret.as_bytes()), signed.as_bytes());
    format!("{header}..{}", BASE64.encode(signature.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_upstreams() {
        // Of upstream's own test of its signer.
        let signed = detached_signature("", "joshua", "my voice is my passcode");
        let expected =
            "eyJhbGciOiJIUzI1NiIsImtpZCI6Impvc2h1YSJ9..7Ui1ALizW4jXphVUB7xUqC9vLYLL9RZeOFfVLoB7Tgk";
        assert_eq!(signed, expected);
    }
}
