//! Bearer tokens: nothing that was not signed is believed, what was is read or refused, and neither costs much.

#![no_main]

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use auth::bootstrap_token::{SECRET_TYPE, Token, TokenSecret};
use auth::service_account::Claims;
use jiff::Timestamp;
use pki::TokenKeys;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;
/// What one input may cost; inputs have 16 KiB at most.
const COST: Duration = Duration::from_millis(100);

static KEYS: LazyLock<TokenKeys> = LazyLock::new(|| {
    let directory = tempfile::tempdir().unwrap();
    TokenKeys::open(directory.path(), NOW).unwrap()
});

fn read(text: &str, claims: &[u8]) {
    assert!(KEYS.verify(text).is_none(), "nobody has signed it");
    let token = KEYS.sign(claims).unwrap();
    assert_eq!(KEYS.verify(&token).as_deref(), Some(claims));
    assert!(KEYS.verify(&format!("{token}{text}")).is_none_or(|_| text.is_empty()));
    if let Ok(claims) = serde_json::from_slice::<Claims>(claims) {
        let _ = claims.check("issuer", &claims.aud, NOW);
        claims.user();
    }
    if let Some(token) = Token::parse(text) {
        assert_eq!(token.secret_name().len(), "bootstrap-token-".len() + 6);
    }
    let secret = TokenSecret::read(text, SECRET_TYPE, |_| Some(claims.to_vec())).unwrap();
    let token = Token { id: &secret.id, secret: &secret.secret };
    if let Some(user) = secret.user(&token, NOW) {
        assert!(user.groups.iter().all(|group| group != "system:masters"));
    }
    secret.signing(NOW);
}

libfuzzer_sys::fuzz_target!(|input: (&str, &[u8])| {
    LazyLock::force(&KEYS);
    // Of three the fastest: the machine may be busy with other things.
    let cost = (0..3).map(|_| {
        let begin = Instant::now();
        read(input.0, input.1);
        begin.elapsed()
    });
    let mut cost = cost.take_while(|cost| *cost > COST);
    assert!(cost.by_ref().count() < 3, "it costs more than {COST:?}");
});
