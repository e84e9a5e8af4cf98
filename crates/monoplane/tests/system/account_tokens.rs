//! Tokens of service accounts that are kept in Secrets, as users of kubectl meet them. No node: objects only.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use harness::{Plane, Said, eventually};

use crate::start;

/// A Secret that asks for a token of the account.
fn secret(name: &str, account: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, annotations: {{kubernetes.io/service-account.name: {account}}}}}\n\
         type: kubernetes.io/service-account-token\n"
    )
}

fn held(plane: &Plane, name: &str, key: &str) -> Option<String> {
    let text = plane.get(&["secret", name])["data"][key].as_str()?.to_owned();
    STANDARD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok())
}

/// Who the API takes the bearer of a token for.
fn whoami(plane: &Plane, token: &str) -> Said {
    let api = plane.endpoint("api");
    let mut command = std::process::Command::new(plane.kubectl_command().get_program());
    command.args([
        "--server",
        &api,
        "--insecure-skip-tls-verify",
        "--kubeconfig",
        "/dev/null",
        "--token",
        token,
    ]);
    Said::from(
        command
            .args(["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"])
            .output()
            .expect("kubectl runs"),
    )
}

#[test]
fn a_token_in_a_secret_lives_as_long_as_the_secret() {
    let plane = start(&["--disable", "node,edge"]);
    plane.kubectl_ok(&["create", "serviceaccount", "robot"]);
    plane.apply(&secret("of-robot", "robot"));
    let token = eventually("the Secret is filled", || held(&plane, "of-robot", "token"));
    assert_eq!(held(&plane, "of-robot", "namespace").as_deref(), Some("default"));
    assert!(held(&plane, "of-robot", "ca.crt").is_some_and(|ca| ca.contains("BEGIN CERTIFICATE")));
    let uid = plane.get(&["serviceaccount", "robot"])["metadata"]["uid"].clone();
    let annotations = plane.get(&["secret", "of-robot"])["metadata"]["annotations"].clone();
    assert_eq!(annotations["kubernetes.io/service-account.uid"], uid);

    assert_eq!(whoami(&plane, &token).out, "system:serviceaccount:default:robot");
    plane.kubectl_ok(&["label", "secret", "of-robot", "kubernetes.io/legacy-token-invalid-since=2026-01-01"]);
    eventually("a token that is marked is refused", || (!whoami(&plane, &token).ok).then_some(()));
    plane.kubectl_ok(&["label", "secret", "of-robot", "kubernetes.io/legacy-token-invalid-since-"]);
    eventually("and taken when it is not", || whoami(&plane, &token).ok.then_some(()));
    plane.kubectl_ok(&["delete", "secret", "of-robot"]);
    eventually("the token goes with its Secret", || (!whoami(&plane, &token).ok).then_some(()));

    plane.apply(&secret("another", "robot"));
    let another = eventually("another is filled", || held(&plane, "another", "token"));
    assert_ne!(token, another);
    plane.kubectl_ok(&["delete", "serviceaccount", "robot"]);
    eventually("Secrets go with their account", || {
        (!plane.kubectl(&["get", "secret", "another"]).ok).then_some(())
    });
    assert!(!whoami(&plane, &another).ok);
    plane.apply(&secret("of-nobody", "nobody"));
    eventually("of nobody there is none", || {
        (!plane.kubectl(&["get", "secret", "of-nobody"]).ok).then_some(())
    });
}
