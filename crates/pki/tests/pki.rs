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
            "O=system:nodes, CN=system:node:one",
            "O=system:monoplane:edges, CN=system:monoplane:edge:one",
            "O=system:monoplane:kubelet-clients, CN=kube-apiserver-kubelet-client",
            "O=system:monoplane:bootstrap, CN=system:apiserver",
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
    let text = kubeconfig(&authority, "https://127.0.0.1:6443", "kubernetes-admin", &admin);
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
