//! Certificates that people and machines ask for, with the real kubectl: approved, denied, signed, and used against the API;
//! machines that join with a bootstrap token.

use std::path::PathBuf;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use harness::{Plane, Said, eventually};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use serde_json::{Value, json};

use crate::start;

/// A key and a request for this name and these groups. (Only one group can be said with this library.)
fn asked(name: &str, group: &str) -> (KeyPair, String) {
    let key = KeyPair::generate().expect("a key");
    let mut parameters = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, group);
    subject.push(DnType::CommonName, name);
    parameters.distinguished_name = subject;
    let request = parameters.serialize_request(&key).expect("a request").pem().expect("PEM");
    (key, request)
}

fn request(name: &str, signer: &str, usages: &[&str], pem: &str) -> String {
    json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": name},
        "spec": {"request": STANDARD.encode(pem), "signerName": format!("kubernetes.io/{signer}"),
            "expirationSeconds": 3600, "usages": usages},
    })
    .to_string()
}

fn certificate(plane: &Plane, name: &str) -> Option<String> {
    let request = plane.get(&["csr", name]);
    let encoded = request["status"]["certificate"].as_str()?;
    Some(String::from_utf8(STANDARD.decode(encoded).expect("base64")).expect("PEM"))
}

fn condition(plane: &Plane, name: &str, kind: &str) -> Option<Value> {
    let request = plane.get(&["csr", name]);
    let all = request["status"]["conditions"].as_array()?.clone();
    all.into_iter().find(|condition| condition["type"] == kind)
}

/// Runs kubectl as whoever the flags say, and nobody else.
fn kubectl_as(plane: &Plane, who: &[&str], words: &[&str]) -> Said {
    let mut command = Command::new(plane.kubectl_command().get_program());
    command.args(["--kubeconfig", "/dev/null", "--insecure-skip-tls-verify", "--server"]);
    command.arg(plane.endpoint("api")).arg("--cache-dir").arg(plane.data().join("kubectl-cache-of-others"));
    Said::from(command.args(who).args(words).output().expect("kubectl runs"))
}

fn keep(plane: &Plane, name: &str, text: &str) -> PathBuf {
    let path = plane.data().join(name);
    std::fs::write(&path, text).expect("a file");
    path
}

/// Who the API says that the holder of the certificate is.
fn whoami(plane: &Plane, key: &KeyPair, certificate: &str) -> Value {
    let certificate = keep(plane, "client.crt", certificate);
    let key = keep(plane, "client.key", &key.serialize_pem());
    let [certificate, key] = [&certificate, &key].map(|path| path.to_str().expect("a path"));
    let said = kubectl_as(
        plane,
        &["--client-certificate", certificate, "--client-key", key],
        &["auth", "whoami", "-o", "json"],
    );
    let answer: Value = serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{said:?}"));
    answer["status"]["userInfo"].clone()
}

#[test]
fn a_certificate_is_approved_signed_and_used() {
    let plane = start(&["--disable", "node,edge"]);
    let (key, pem) = asked("jane", "dev");
    let usages = ["digital signature", "key encipherment", "client auth"];
    plane.apply(&request("jane", "kube-apiserver-client", &usages, &pem));
    let row = |name: &str| {
        let table = plane.kubectl_ok(&["get", "csr", name, "--no-headers"]);
        table.split_whitespace().skip(2).map(str::to_owned).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(row("jane"), "kubernetes.io/kube-apiserver-client kubernetes-admin 60m Pending");
    let said = plane.kubectl_ok(&["certificate", "approve", "jane"]);
    assert_eq!(said, "certificatesigningrequest.certificates.k8s.io/jane approved\n");
    let signed = eventually("jane's certificate", || certificate(&plane, "jane"));
    assert_eq!(row("jane"), "kubernetes.io/kube-apiserver-client kubernetes-admin 60m Approved,Issued");
    let who = whoami(&plane, &key, &signed);
    assert_eq!((&who["username"], &who["groups"]), (&json!("jane"), &json!(["dev", "system:authenticated"])));
    let ends = pki::expiry(signed.as_bytes()).expect("a certificate");
    let left = ends.duration_since(jiff::Timestamp::now()).as_mins();
    assert!((50..=60).contains(&left), "{left} minutes are left");

    let (_, pem) = asked("joe", "dev");
    plane.apply(&request("joe", "kube-apiserver-client", &usages, &pem));
    let said = plane.kubectl_ok(&["certificate", "deny", "joe"]);
    assert_eq!(said, "certificatesigningrequest.certificates.k8s.io/joe denied\n");
    assert_eq!(row("joe"), "kubernetes.io/kube-apiserver-client kubernetes-admin 60m Denied");
    let both = plane.kubectl(&["certificate", "approve", "joe"]);
    assert!(!both.ok && both.err.contains("Denied"), "{both:?}");

    plane.apply(&request("server", "kube-apiserver-client", &["server auth"], &pem));
    plane.kubectl_ok(&["certificate", "approve", "server"]);
    let failed = eventually("the signer refuses", || condition(&plane, "server", "Failed"));
    assert_eq!(failed["reason"], "SignerValidationFailure");
    assert_eq!(failed["message"], "invalid usage for client certificate: server auth");
    assert_eq!(row("server"), "kubernetes.io/kube-apiserver-client kubernetes-admin 60m Approved,Failed");
    assert_eq!(certificate(&plane, "joe"), None);
    // The same by somebody else's right.
    let (_, masters) = asked("root", "system:masters");
    let refused = request("root", "kube-apiserver-client", &usages, &masters);
    let refused = plane.kubectl_with(&["create", "-f", "-"], &refused);
    assert!(refused.err.contains("signer with system:masters group is not allowed"), "{refused:?}");
}

const TOKEN: &str = "abcdef.0123456789abcdef";

/// What an administrator does once so that machines with a token can join: upstream's roles, bound as upstream's tools do.
fn let_join(plane: &Plane) {
    for (name, role, group) in [
        ("join", "system:node-bootstrapper", "system:bootstrappers"),
        (
            "approve",
            "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
            "system:bootstrappers",
        ),
        ("renew", "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient", "system:nodes"),
    ] {
        let (role, group) = (format!("--clusterrole={role}"), format!("--group={group}"));
        plane.kubectl_ok(&["create", "clusterrolebinding", name, &role, &group]);
    }
    let secret = [
        "create",
        "secret",
        "generic",
        "bootstrap-token-abcdef",
        "-n",
        "kube-system",
        "--type=bootstrap.kubernetes.io/token",
        "--from-literal=token-id=abcdef",
        "--from-literal=token-secret=0123456789abcdef",
        "--from-literal=usage-bootstrap-authentication=true",
        "--from-literal=usage-bootstrap-signing=true",
    ];
    plane.kubectl_ok(&secret);
}

#[test]
fn a_machine_joins_with_a_token() {
    let plane = start(&["--disable", "node,edge"]);
    let token = ["--token", TOKEN];
    let early = kubectl_as(&plane, &token, &["auth", "whoami"]);
    assert!(!early.ok && early.err.contains("Unauthorized"), "{early:?}");
    let_join(&plane);
    let who = kubectl_as(&plane, &token, &["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"]);
    assert_eq!(who.out, "system:bootstrap:abcdef", "{who:?}");

    let (key, pem) = asked("system:node:joiner", "system:nodes");
    let usages = ["digital signature", "client auth"];
    let file = keep(&plane, "join.json", &request("join", "kube-apiserver-client-kubelet", &usages, &pem));
    let file = file.to_str().expect("a path");
    eventually("the binding counts", || kubectl_as(&plane, &token, &["create", "-f", file]).ok.then_some(()));
    let signed = eventually("the node's certificate", || certificate(&plane, "join"));
    let approved = condition(&plane, "join", "Approved").expect("it is approved");
    assert_eq!(approved["reason"], "AutoApproved");
    assert_eq!(whoami(&plane, &key, &signed)["username"], "system:node:joiner");

    // A node renews its own certificate, and nobody else's.
    let certificate_file = plane.data().join("client.crt");
    let key_file = plane.data().join("client.key");
    let [crt, node_key] = [&certificate_file, &key_file].map(|path| path.to_str().expect("a path"));
    let node = ["--client-certificate", crt, "--client-key", node_key];
    let ask = |name: &str, subject: &str| {
        let (_, pem) = asked(subject, "system:nodes");
        let file = keep(&plane, "node.json", &request(name, "kube-apiserver-client-kubelet", &usages, &pem));
        kubectl_as(&plane, &node, &["create", "-f", file.to_str().expect("a path")])
    };
    let other = ask("other", "system:node:other");
    assert!(other.err.contains("can only create a node CSR with CN=system:node:joiner"), "{other:?}");
    let again = ask("again", "system:node:joiner");
    assert!(again.ok, "{again:?}");
    eventually("the renewed certificate", || certificate(&plane, "again"));

    // Who holds the token alone can tell that this is the cluster's own information.
    let (content, signature) = eventually("a signature", || {
        let information = plane.get(&["cm", "cluster-info", "-n", "kube-public"]);
        let text = |key: &str| Some(information["data"][key].as_str()?.to_owned());
        Some((text("kubeconfig")?, text("jws-kubeconfig-abcdef")?))
    });
    assert!(content.contains("certificate-authority-data"), "{content}");
    assert_eq!(signature, pki::detached_signature(&content, "abcdef", "0123456789abcdef"));

    // A token that has expired goes, and what it signed with it.
    let expiration = STANDARD.encode("2020-01-01T00:00:00Z");
    let patch = json!({"data": {"expiration": expiration}}).to_string();
    plane.kubectl_ok(&["patch", "secret", "bootstrap-token-abcdef", "-n", "kube-system", "-p", &patch]);
    eventually("the token is gone", || {
        let secret = plane.kubectl(&["get", "secret", "bootstrap-token-abcdef", "-n", "kube-system"]);
        secret.err.contains("not found").then_some(())
    });
    assert!(!kubectl_as(&plane, &token, &["auth", "whoami"]).ok);
    eventually("no signature", || {
        let information = plane.get(&["cm", "cluster-info", "-n", "kube-public"]);
        information["data"]["jws-kubeconfig-abcdef"].is_null().then_some(())
    });
}
