//! The directory of certificates as a process sees it over its starts: first start, restart, change of address,
//! nearing expiry, damage.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use pki::{Authority, Credential, Identity, api_server_names, kubeconfig, kubelet_names};

fn now() -> Timestamp {
    "2026-11-22T10:00:00Z".parse().unwrap()
}

fn later(days: i64) -> Timestamp {
    now() + SignedDuration::from_hours(24 * days)
}

fn subject(credential: &Credential) -> String {
    let (_, certificate) = x509_parser::parse_x509_certificate(&credential.certificate).unwrap();
    certificate.subject().to_string()
}

fn identities() -> Vec<Identity> {
    vec![
        Identity::Admin,
        Identity::ControllerManager,
        Identity::Scheduler,
        Identity::MetricsServer,
        Identity::Node("one".into()),
        Identity::Edge("one".into()),
        Identity::KubeletClient,
        Identity::Bootstrap,
        Identity::FrontProxy,
    ]
}

#[test]
fn a_restart_finds_what_the_first_start_made() {
    let directory = tempfile::tempdir().unwrap();
    let names = api_server_names(["192.0.2.7", "plane.example.org"]);
    let start = |at| {
        let authority = Authority::open(directory.path(), at).unwrap();
        let mut all: Vec<String> = vec![authority.certificate_pem().to_owned()];
        all.extend(identities().iter().map(|identity| authority.client(identity, at).unwrap().to_pem()));
        all.push(authority.serving(&names, at).unwrap().to_pem());
        all.push(
            authority.kubelet_serving("one", &kubelet_names("one", ["192.0.2.7"]), at).unwrap().to_pem(),
        );
        all
    };
    assert_eq!(start(now()), start(later(200)));
    for entry in fs::read_dir(directory.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
    }
}

#[test]
fn each_identity_is_in_the_subject() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::open(directory.path(), now()).unwrap();
    let subjects: Vec<String> =
        identities().iter().map(|identity| subject(&authority.client(identity, now()).unwrap())).collect();
    assert_eq!(
        subjects,
        [
            "O=monoplane:cluster-admins, CN=kubernetes-admin",
            "CN=system:kube-controller-manager",
            "CN=system:kube-scheduler",
            "CN=system:metrics-server",
            "O=system:nodes, CN=system:node:one",
            "O=system:monoplane:edges, CN=system:monoplane:edge:one",
            "O=system:monoplane:kubelet-clients, CN=kube-apiserver-kubelet-client",
            "O=system:monoplane:bootstrap, CN=system:apiserver",
            "CN=front-proxy-client",
        ]
    );
    assert!(authority.client(&Identity::Node("../ca".into()), now()).is_err());
}

#[test]
fn a_change_of_address_reissues_the_serving_certificate_under_the_same_authority() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::open(directory.path(), now()).unwrap();
    let before = authority.serving(&api_server_names(["192.0.2.7"]), now()).unwrap();
    let after = authority.serving(&api_server_names(["192.0.2.8"]), now()).unwrap();
    assert_ne!(before.certificate_pem, after.certificate_pem);
    let again = Authority::open(directory.path(), now()).unwrap();
    assert_eq!(again.serving(&api_server_names(["192.0.2.8"]), now()).unwrap().to_pem(), after.to_pem());
    // An address that is merely spelt otherwise is the same address.
    let spelt = again.serving(&api_server_names(["192.0.2.8", "0:0:0:0:0:0:0:1"]), now()).unwrap();
    assert_eq!(spelt.to_pem(), after.to_pem());
}

#[test]
fn certificates_are_renewed_before_they_expire_and_the_authority_keeps_its_key() {
    let directory = tempfile::tempdir().unwrap();
    let first = Authority::open(directory.path(), now()).unwrap();
    let admin = first.client(&Identity::Admin, now()).unwrap();
    assert_ne!(first.client(&Identity::Admin, later(300)).unwrap().to_pem(), admin.to_pem());

    let renewed = Authority::open(directory.path(), later(3000)).unwrap();
    assert_ne!(renewed.certificate_pem(), first.certificate_pem());
    let key = |pem: &str| {
        let credential = Credential::from_pem(&(pem.to_owned() + &admin.key_pem)).unwrap();
        let (_, certificate) = x509_parser::parse_x509_certificate(&credential.certificate).unwrap();
        certificate.public_key().raw.to_vec()
    };
    assert_eq!(key(renewed.certificate_pem()), key(first.certificate_pem()));
}

#[test]
fn a_certificate_of_a_lost_authority_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let before = Authority::open(directory.path(), now()).unwrap().client(&Identity::Admin, now()).unwrap();
    fs::remove_file(directory.path().join("ca.pem")).unwrap();
    let authority = Authority::open(directory.path(), now()).unwrap();
    assert_ne!(authority.client(&Identity::Admin, now()).unwrap().to_pem(), before.to_pem());
    assert_eq!(fs::read_to_string(directory.path().join("ca.crt")).unwrap(), authority.certificate_pem());
}

/// Every state that a kill between two system calls can leave: a temporary file, torn or whole, beside the old state.
#[test]
fn what_a_killed_process_leaves_behind_does_no_harm() {
    let directory = tempfile::tempdir().unwrap();
    let torn = |name: &str| fs::write(directory.path().join(name), "-----BEGIN CERT").unwrap();
    torn(".ca.pem.tmp");
    torn(".admin.pem.tmp");
    let authority = Authority::open(directory.path(), now()).unwrap();
    let admin = authority.client(&Identity::Admin, now()).unwrap();
    torn(".admin.pem.tmp");
    assert_eq!(authority.client(&Identity::Admin, now()).unwrap().to_pem(), admin.to_pem());
    // A leaf that something else tore is issued again; an authority is never replaced silently.
    torn("admin.pem");
    assert_ne!(authority.client(&Identity::Admin, now()).unwrap().to_pem(), admin.to_pem());
    torn("ca.pem");
    let error = Authority::open(directory.path(), now()).unwrap_err().to_string();
    assert!(error.contains("not a certificate authority"), "{error}");
    assert!(leftovers(directory.path()).is_empty());
}

fn leftovers(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".tmp") && !name.starts_with(".admin")).collect()
}

#[test]
fn the_kubeconfig_embeds_what_it_needs() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::open(directory.path(), now()).unwrap();
    let admin = authority.client(&Identity::Admin, now()).unwrap();
    let text = kubeconfig(authority.certificate_pem(), "https://127.0.0.1:6443", "kubernetes-admin", &admin);
    for line in [
        "current-context: monoplane",
        "    server: \"https://127.0.0.1:6443\"",
        "- name: \"kubernetes-admin\"",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
    assert!(text.lines().any(|line| line.starts_with("    client-key-data: LS0tLS1CRUdJTi")));
}

#[test]
fn a_key_is_not_printed() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::open(directory.path(), now()).unwrap();
    let printed = format!("{:?}", authority.client(&Identity::Admin, now()).unwrap());
    assert!(printed.contains("BEGIN CERTIFICATE"), "{printed}");
    assert!(!printed.contains("PRIVATE KEY") && !printed.contains("Pkcs8"), "{printed}");
}

mod requests {
    use pki::{Authority, Signer, SigningRequest, expiry};
    use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ED25519, SanType};

    use super::{later, now};
    use jiff::SignedDuration;

    /// Two groups, which is what people ask for most: `rcgen` cannot say this, `openssl` made it.
    const JANE: &str = include_str!("fixtures/jane.csr");

    fn year() -> SignedDuration {
        SignedDuration::from_hours(365 * 24)
    }

    fn usages(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn text(pem: &str) -> (String, x509_parser::pem::Pem) {
        let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
        let certificate = block.parse_x509().unwrap();
        (certificate.subject().to_string(), block.clone())
    }

    #[test]
    fn what_is_asked_for_is_granted_within_bounds() {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::open(directory.path(), now()).unwrap();
        let anchor = authority.certificate().clone();
        let signer = Signer::new(authority);
        let jane = SigningRequest::from_pem(JANE.as_bytes()).unwrap();
        assert_eq!(
            (jane.common_name.as_str(), &*jane.organisations),
            ("jane", &["dev".to_owned(), "ops".to_owned()][..])
        );
        let wanted = usages(&["client auth", "key encipherment", "digital signature"]);
        let pem = signer.sign(&jane, &wanted, year(), now()).unwrap();
        let (subject, block) = text(&pem);
        assert_eq!(subject, "O=dev, O=ops, CN=jane");
        let certificate = block.parse_x509().unwrap();
        let (_, anchor) = x509_parser::parse_x509_certificate(&anchor).unwrap();
        certificate.verify_signature(Some(anchor.public_key())).unwrap();
        assert_eq!(certificate.issuer(), anchor.subject());
        let key_usage = certificate.key_usage().unwrap().unwrap().value;
        assert!(key_usage.digital_signature() && key_usage.key_encipherment() && !key_usage.key_cert_sign());
        let extended = certificate.extended_key_usage().unwrap().unwrap().value;
        assert!(extended.client_auth && !extended.server_auth && !extended.any);
        assert!(!certificate.is_ca());
        let minutes = |at: i64| (at - now().as_second()) / 60;
        let validity = certificate.validity();
        assert_eq!(minutes(validity.not_before.timestamp()), -5);
        assert_eq!(minutes(validity.not_after.timestamp()), 365 * 24 * 60 - 5);
        let short = signer.sign(&jane, &wanted, SignedDuration::from_mins(10), now()).unwrap();
        assert_eq!(minutes(expiry(short.as_bytes()).unwrap().as_second()), 10);
        assert_ne!(certificate.raw_serial(), text(&short).1.parse_x509().unwrap().raw_serial());
        let last = signer.sign(&jane, &wanted, year(), later(3649)).unwrap();
        assert_eq!(expiry(last.as_bytes()).unwrap(), later(3650), "no longer than the authority");
        assert!(signer.sign(&jane, &wanted, year(), later(3651)).is_err());
        let unknown = signer.sign(&jane, &usages(&["fun"]), year(), now()).unwrap_err();
        assert!(unknown.to_string().ends_with(r#"unrecognized usage values: ["fun"]"#), "{unknown}");
    }

    #[test]
    fn alternative_names_and_other_keys_are_taken_over() {
        let directory = tempfile::tempdir().unwrap();
        let signer = Signer::new(Authority::open(directory.path(), now()).unwrap());
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let mut asked = CertificateParams::new(["a.example".to_owned(), "10.0.0.7".to_owned()]).unwrap();
        asked.subject_alt_names.push(SanType::IpAddress("fd00::7".parse().unwrap()));
        asked.subject_alt_names.push(SanType::Rfc822Name("a@b.example".try_into().unwrap()));
        asked.subject_alt_names.push(SanType::URI("spiffe://x/y".try_into().unwrap()));
        asked.distinguished_name = rcgen::DistinguishedName::new();
        asked.distinguished_name.push(DnType::CommonName, "Zoë*");
        let pem = asked.serialize_request(&key).unwrap().pem().unwrap();
        let request = SigningRequest::from_pem(pem.as_bytes()).unwrap();
        let issued = signer.sign(&request, &usages(&["server auth", "signing"]), year(), now()).unwrap();
        let (subject, block) = text(&issued);
        assert_eq!(subject, "CN=Zoë*");
        let certificate = block.parse_x509().unwrap();
        assert_eq!(certificate.public_key().subject_public_key.data.as_ref(), key.public_key_raw());
        let names = certificate.subject_alternative_name().unwrap().unwrap().value;
        let names: Vec<String> = names.general_names.iter().map(ToString::to_string).collect();
        assert_eq!(names.len(), 5, "{names:?}");
        assert!(names[0].contains("a.example") && names[1].contains("a@b.example"), "{names:?}");
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let refused = |text: &str| SigningRequest::from_pem(text.as_bytes()).unwrap_err().to_string();
        assert!(refused("").ends_with("PEM block type must be CERTIFICATE REQUEST"));
        let renamed = JANE.replace("CERTIFICATE REQUEST", "CERTIFICATE");
        assert!(refused(&renamed).ends_with("PEM block type must be CERTIFICATE REQUEST"));
        assert!(expiry(b"").is_err() && expiry(JANE.as_bytes()).is_err());
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(bytes: Vec<u8>, at: usize, byte: u8) {
            let _ = (SigningRequest::from_pem(&bytes), expiry(&bytes));
            let mut changed = JANE.as_bytes().to_vec();
            let at = at % changed.len();
            changed[at] = byte;
            // What is read is what was signed, whatever else of the text is changed.
            if let Ok(read) = SigningRequest::from_pem(&changed) {
                proptest::prop_assert_eq!(read, SigningRequest::from_pem(JANE.as_bytes()).unwrap());
            }
        }
    }
}
