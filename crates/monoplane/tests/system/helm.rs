//! The real Helm with a chart that holds what charts hold: a CRD and an object of it, a workload behind a Service, hooks and a
//! test.

use std::process::{Command, Stdio};

use harness::{Plane, Said, eventually};

use crate::containers::plane_with_image;

fn helm(plane: &Plane, words: &[&str]) -> Said {
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/chart");
    let mut helm = Command::new(harness::tools().join("helm"));
    helm.args(words.iter().map(|word| if *word == "CHART" { chart } else { word }));
    helm.arg("--kubeconfig").arg(plane.data().join("admin.kubeconfig"));
    // What it remembers, away from others'.
    for (name, folder) in
        [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")]
    {
        helm.env(name, plane.data().join("helm").join(folder));
    }
    helm.stdin(Stdio::null()).output().expect("helm runs").into()
}

#[track_caller]
fn helm_ok(plane: &Plane, words: &[&str]) -> String {
    let said = helm(plane, words);
    assert!(said.ok, "helm {}: {}{}\n{}", words.join(" "), said.out, said.err, plane.log());
    said.out
}

#[test]
fn a_chart_is_installed_upgraded_rolled_back_tested_and_uninstalled() {
    let Some(plane) = plane_with_image() else { return };
    let in_shop = ["-n", "shop", "--wait", "--timeout", "120s"];
    let kubectl = |words: &[&str]| plane.kubectl_ok(&[words, &["-n", "shop"]].concat());
    let greeting = || kubectl(&["get", "configmap", "web-words", "-o", "jsonpath={.data.greeting}"]);
    let replicas = || kubectl(&["get", "deployment", "web", "-o", "jsonpath={.status.readyReplicas}"]);

    helm_ok(&plane, &["lint", "CHART"]);
    // A dry run at the server sees the object of a kind that is not there yet.
    let early =
        helm(&plane, &["install", "web", "CHART", "-n", "shop", "--create-namespace", "--dry-run=client"]);
    assert!(early.ok && early.out.contains("kind: Coupon"), "{early:?}");

    helm_ok(&plane, &[&["install", "web", "CHART", "--create-namespace"][..], &in_shop].concat());
    assert_eq!((greeting(), replicas()), ("hello".into(), "1".into()));
    assert_eq!(kubectl(&["get", "coupon", "web-welcome", "-o", "jsonpath={.spec.percent}"]), "10");
    for hook in ["pre-install", "post-install"] {
        assert_eq!(kubectl(&["logs", &format!("web-{hook}")]), format!("{hook} of hello\n"));
    }
    helm_ok(&plane, &["test", "web", "-n", "shop", "--timeout", "60s"]);

    let better = ["upgrade", "web", "CHART", "--set", "greeting=welcome,replicas=2"];
    helm_ok(&plane, &[&better[..], &in_shop].concat());
    assert_eq!((greeting(), replicas()), ("welcome".into(), "2".into()));
    assert_eq!(kubectl(&["logs", "web-pre-upgrade"]), "pre-upgrade of welcome\n");
    helm_ok(&plane, &["test", "web", "-n", "shop", "--timeout", "60s"]);

    // What the API refuses fails the release, and leaves what ran.
    let worse = helm(&plane, &["upgrade", "web", "CHART", "-n", "shop", "--set", "replicas=-1"]);
    assert!(!worse.ok && worse.err.contains("must be greater than or equal to 0"), "{worse:?}");
    assert_eq!(replicas(), "2");

    helm_ok(&plane, &[&["rollback", "web", "1"][..], &in_shop].concat());
    eventually("one replica is left", || (replicas() == "1").then_some(()));
    assert_eq!(greeting(), "hello");
    let history = helm_ok(&plane, &["history", "web", "-n", "shop", "-o", "json"]);
    let history: serde_json::Value = serde_json::from_str(&history).expect("JSON");
    let states: Vec<_> = history.as_array().into_iter().flatten().map(|each| &each["status"]).collect();
    assert_eq!(states, ["superseded", "superseded", "failed", "deployed"], "{history}");
    assert_eq!(
        helm_ok(&plane, &["get", "values", "web", "-n", "shop", "--revision", "2"]).lines().count(),
        3
    );

    helm_ok(&plane, &["uninstall", "web", "-n", "shop", "--wait", "--timeout", "60s"]);
    assert_eq!(
        kubectl(&["get", "deployments,services,coupons,configmaps", "-l", "app.kubernetes.io/instance=web"]),
        ""
    );
    assert_eq!(kubectl(&["logs", "web-pre-delete"]), "pre-delete of hello\n");
    // As ever: a CRD stays.
    kubectl(&["get", "coupons"]);
}
