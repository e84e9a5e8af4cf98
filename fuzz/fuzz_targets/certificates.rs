//! Certificates of clients and requests for certificates: read or refused, and at no great cost; what is signed says what
//! was asked for.

#![no_main]

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use pki::{Authority, Signer, SigningRequest};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;
/// What one input may cost; inputs have 16 KiB at most.
const COST: Duration = Duration::from_millis(100);

static SIGNER: LazyLock<Signer> = LazyLock::new(|| {
    let directory = tempfile::tempdir().unwrap();
    Signer::new(Authority::open(directory.path(), NOW).unwrap())
});

fn pem(label: &str, der: &[u8]) -> Vec<u8> {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der)).into_bytes()
}

fn der(pem: &str) -> Vec<u8> {
    let lines: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    STANDARD.decode(lines).unwrap()
}

fn read(bytes: &[u8]) {
    let _ = auth::user_of_certificate(bytes);
    let _ = pki::expiry(&pem("CERTIFICATE", bytes));
    let request = pem("CERTIFICATE REQUEST", bytes);
    let _ = auth::organizations_of_request(&request);
    let _ = (SigningRequest::from_pem(bytes), pki::expiry(bytes));
    let Ok(asked) = SigningRequest::from_pem(&request) else { return };
    let usages = ["client auth".to_owned()];
    let issued = SIGNER.sign(&asked, &usages, SignedDuration::from_hours(1), NOW).unwrap();
    match auth::user_of_certificate(&der(&issued)) {
        Ok(found) => {
            assert_eq!(found.user.name, asked.common_name);
            let groups = &found.user.groups;
            assert!(asked.organisations.iter().all(|group| groups.contains(group)));
        }
        Err(error) => assert!(asked.common_name.is_empty(), "{error}"),
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    LazyLock::force(&SIGNER);
    // Of three the fastest: the machine may be busy with other things.
    let cost = (0..3).map(|_| {
        let begin = Instant::now();
        read(bytes);
        begin.elapsed()
    });
    let mut cost = cost.take_while(|cost| *cost > COST);
    assert!(cost.by_ref().count() < 3, "it costs more than {COST:?}");
});
