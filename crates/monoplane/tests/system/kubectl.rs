//! What kubectl users do, with the real kubectl: first what needs no container, then a rollout.

use harness::{Plane, Said, eventually};

use crate::start;

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: hello, imagePullPolicy: Never}
";

/// No node: objects only, and nothing that waits for pods to run.
fn objects_only() -> Plane {
    start(&["--disable", "node,edge"])
}

#[test]
fn version_and_discovery() {
    let plane = objects_only();
    let version = plane.kubectl_ok(&["version"]);
    assert!(version.contains("Server Version: v1.36"), "{version}");
    let ready = plane.kubectl_ok(&["get", "--raw", "/readyz?verbose"]);
    for check in ["[+]etcd ok\n", "[+]etcd-readiness ok\n", "readyz check passed"] {
        assert!(ready.contains(check), "{check} in {ready}");
    }
    let resources = plane.kubectl_ok(&["api-resources", "--no-headers"]);
    for line in ["deployments", "pods", "components", "keyvaluestores", "customresourcedefinitions"] {
        assert!(resources.lines().any(|l| l.starts_with(line)), "{line} in {resources}");
    }
    let pods = resources.lines().find(|l| l.starts_with("pods ")).expect("pods");
    assert_eq!(pods.split_whitespace().collect::<Vec<_>>(), ["pods", "po", "v1", "true", "Pod"]);
}

#[test]
fn objects_live_through_every_verb() {
    let plane = objects_only();
    let out = plane.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {k: v}\n");
    assert_eq!(out, "configmap/a created\n");
    assert_eq!(
        plane.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {k: v}\n"),
        "configmap/a unchanged\n"
    );
    assert_eq!(
        plane.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {k: w}\n"),
        "configmap/a configured\n"
    );
    assert_eq!(plane.kubectl_ok(&["get", "cm", "a", "-o", "jsonpath={.data.k}"]), "w");
    let yaml = plane.kubectl_ok(&["get", "configmap", "a", "-o", "yaml"]);
    assert!(
        yaml.contains("apiVersion: v1\n") && yaml.contains("kind: ConfigMap\n") && yaml.contains("  k: w\n"),
        "{yaml}"
    );
    let table = plane.kubectl_ok(&["get", "cm", "a"]);
    assert!(table.starts_with("NAME   DATA   AGE\na      1      "), "{table}");

    assert_eq!(plane.kubectl_ok(&["label", "cm", "a", "tier=front"]), "configmap/a labeled\n");
    assert_eq!(plane.kubectl_ok(&["annotate", "cm", "a", "note=hi"]), "configmap/a annotated\n");
    assert_eq!(plane.kubectl_ok(&["get", "cm", "-l", "tier in (front,back)", "-o", "name"]), "configmap/a\n");
    for (kind, patch) in [
        ("merge", r#"{"data":{"m":"1"}}"#),
        ("strategic", r#"{"data":{"s":"1"}}"#),
        ("json", r#"[{"op":"add","path":"/data/j","value":"1"}]"#),
    ] {
        assert_eq!(
            plane.kubectl_ok(&["patch", "cm", "a", "--type", kind, "-p", patch]),
            "configmap/a patched\n"
        );
    }
    let object = plane.get(&["cm", "a"]);
    assert_eq!(object["data"], serde_json::json!({"k": "w", "m": "1", "s": "1", "j": "1"}));
    assert_eq!(plane.kubectl_ok(&["delete", "cm", "a"]), "configmap \"a\" deleted from default namespace\n");
    let gone = plane.kubectl(&["get", "cm", "a"]);
    assert_eq!(gone.err, "Error from server (NotFound): configmaps \"a\" not found\n");
}

#[test]
fn a_bad_field_is_rejected_by_name() {
    let plane = objects_only();
    let bad = DEPLOYMENT.replace("replicas: 2", "replicaz: 2");
    let said = plane.kubectl_with(&["create", "-f", "-"], &bad);
    assert!(
        !said.ok && said.err.contains("strict decoding error: unknown field \"spec.replicaz\""),
        "{said:?}"
    );
    let bad = DEPLOYMENT.replace("replicas: 2", "replicas: -2");
    let said = plane.kubectl_with(&["create", "-f", "-"], &bad);
    let wanted = "The Deployment \"web\" is invalid: spec.replicas: Invalid value: -2: must be greater than or equal to 0";
    assert!(!said.ok && said.err.contains(wanted), "{said:?}");
    let bad = DEPLOYMENT.replace("replicas: 2", "replicas: two");
    let said = plane.kubectl_with(&["create", "-f", "-"], &bad);
    assert!(!said.ok && said.err.contains("replicas"), "{said:?}");
}

#[test]
fn a_custom_kind_is_like_a_built_in_one() {
    let plane = objects_only();
    plane.apply(include_str!("crontab.yaml"));
    plane.kubectl_ok(&[
        "wait",
        "--for=condition=Established",
        "crd/crontabs.stable.example.com",
        "--timeout=20s",
    ]);
    let object = "apiVersion: stable.example.com/v1\nkind: CronTab\nmetadata: {name: mine}\nspec: {cronSpec: '* * * * *', image: it}\n";
    assert_eq!(plane.apply(object), "crontab.stable.example.com/mine created\n");
    assert_eq!(
        plane.kubectl_ok(&["get", "ct", "mine", "-o", "jsonpath={.spec.replicas}"]),
        "1",
        "the schema's default"
    );
    let table = plane.kubectl_ok(&["get", "crontabs"]);
    let head: Vec<&str> = table.lines().next().unwrap_or_default().split_whitespace().collect();
    assert_eq!(head, ["NAME", "SPEC", "REPLICAS", "AGE"]);
    assert_eq!(
        plane.kubectl_ok(&["scale", "--replicas=3", "ct/mine"]),
        "crontab.stable.example.com/mine scaled\n"
    );
    assert_eq!(plane.kubectl_ok(&["get", "ct", "mine", "-o", "jsonpath={.spec.replicas}"]), "3");
    let described = plane.kubectl_ok(&["describe", "ct", "mine"]);
    assert!(described.contains("Cron Spec:  * * * * *"), "{described}");
    let said =
        plane.kubectl_with(&["apply", "-f", "-"], &object.replace("image: it", "image: it, imagee: x"));
    assert!(!said.ok && said.err.contains("unknown field \"spec.imagee\""), "{said:?}");
    let said = plane.kubectl_with(&["apply", "-f", "-"], &object.replace("'* * * * *'", "never"));
    assert!(!said.ok && said.err.contains("spec.cronSpec: Invalid value: \"never\""), "{said:?}");
    plane.kubectl_ok(&["patch", "ct", "mine", "--type=merge", "-p", r#"{"spec":{"image":"other"}}"#]);
    plane.kubectl_ok(&["label", "ct", "mine", "a=b"]);
    plane.kubectl_ok(&["delete", "ct", "mine"]);
    plane.kubectl_ok(&["delete", "crd", "crontabs.stable.example.com"]);
    let said = plane.kubectl(&["get", "crontabs.stable.example.com"]);
    assert!(!said.ok && said.err.contains("the server doesn't have a resource type"), "{said:?}");
}

#[test]
fn roles_are_enforced() {
    let dir = tempfile::tempdir().expect("a directory");
    let tokens = dir.path().join("tokens.csv");
    std::fs::write(&tokens, "bobs-token,bob,1001,\"dev,qa\"\n").expect("a token file");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(dir.path(), open).expect("permissions");
    let plane = start(&["--disable", "node,edge", "--token-auth-file", tokens.to_str().expect("a path")]);
    let api = plane.endpoint("api");
    let bob = |words: &[&str]| {
        let given = [
            "--server",
            &api,
            "--insecure-skip-tls-verify",
            "--token",
            "bobs-token",
            "--kubeconfig",
            "/dev/null",
        ];
        let mut command = std::process::Command::new(plane.kubectl_command().get_program());
        Said::from(command.args(given).args(words).output().expect("kubectl runs"))
    };
    let said = bob(&["get", "configmaps"]);
    assert_eq!(
        said.err,
        "Error from server (Forbidden): configmaps is forbidden: User \"bob\" cannot list resource \"configmaps\" in API group \"\" in the namespace \"default\"\n"
    );
    assert_eq!(bob(&["auth", "can-i", "get", "pods"]).out, "no\n");
    assert_eq!(plane.kubectl_ok(&["auth", "can-i", "get", "pods"]), "yes\n");
    plane.kubectl_ok(&["create", "rolebinding", "bob", "--clusterrole=view", "--group=dev"]);
    eventually("the binding counts", || bob(&["get", "configmaps"]).ok.then_some(()));
    assert_eq!(bob(&["auth", "can-i", "get", "pods"]).out, "yes\n");
    assert_eq!(bob(&["auth", "can-i", "create", "pods"]).out, "no\n");
    assert!(!bob(&["get", "secrets"]).ok, "view may not read secrets");
    let wrong = bob(&["get", "configmaps", "--token", "nobodys"]);
    assert!(wrong.err.contains("Unauthorized") || wrong.err.contains("must be logged in"), "{wrong:?}");
}

#[test]
fn no_role_of_the_plane_is_a_master() {
    let plane = start(&["--disable", "node,edge"]);
    let credentials = plane.data().join("server/credentials");
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(&credentials).expect("credentials") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|e| e != "kubeconfig") {
            continue;
        }
        let mut kubectl = std::process::Command::new(plane.kubectl_command().get_program());
        let said = kubectl.arg("--kubeconfig").arg(&path).args(["auth", "whoami", "-o", "json"]).output();
        let said = Said::from(said.expect("kubectl runs"));
        let who: serde_json::Value = serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{said:?}"));
        let info = &who["status"]["userInfo"];
        assert!(!info["groups"].to_string().contains("system:masters"), "{info}");
        seen.push(info["username"].as_str().unwrap_or_default().to_owned());
    }
    seen.sort();
    assert_eq!(
        seen,
        ["kubernetes-admin", "system:kube-proxy", "system:monoplane:edge:test-node", "system:node:test-node"]
    );
}

#[test]
fn deployments_make_replica_sets_and_pods() {
    let plane = objects_only();
    plane.apply(DEPLOYMENT);
    let pods = || plane.get(&["pods", "-l", "app=web"])["items"].as_array().map_or(0, Vec::len);
    eventually("two pods", || (pods() == 2).then_some(()));
    plane.kubectl_ok(&["scale", "deployment/web", "--replicas=4"]);
    eventually("four pods", || (pods() == 4).then_some(()));
    plane.kubectl_ok(&["set", "image", "deployment/web", "web=hello:2"]);
    eventually("a second replica set", || {
        (plane.get(&["rs", "-l", "app=web"])["items"].as_array()?.len() == 2).then_some(())
    });
    let history = plane.kubectl_ok(&["rollout", "history", "deployment/web"]);
    assert!(history.contains("\n1 ") && history.contains("\n2 "), "{history}");
    plane.kubectl_ok(&["rollout", "undo", "deployment/web"]);
    eventually("the first image again", || {
        let object = plane.get(&["deploy", "web"]);
        (object["spec"]["template"]["spec"]["containers"][0]["image"] == "hello").then_some(())
    });
    let described = plane.kubectl_ok(&["describe", "deployment", "web"]);
    assert!(described.contains("StrategyType:           RollingUpdate"), "{described}");
    assert!(described.contains("ScalingReplicaSet"), "events in {described}");

    let orphan = plane.kubectl_ok(&["delete", "deployment", "web", "--cascade=orphan"]);
    assert!(orphan.contains("deleted"), "{orphan}");
    eventually("replica sets without an owner", || {
        let sets = plane.get(&["rs", "-l", "app=web"]);
        let sets = sets["items"].as_array()?;
        (!sets.is_empty() && sets.iter().all(|s| s["metadata"]["ownerReferences"].is_null())).then_some(())
    });
    plane.kubectl_ok(&["delete", "rs", "-l", "app=web", "--cascade=background"]);
    eventually("no pods", || (pods() == 0).then_some(()));
    plane.apply(DEPLOYMENT);
    eventually("two pods", || (pods() == 2).then_some(()));
    plane.kubectl_ok(&["delete", "deployment", "web", "--cascade=foreground"]);
    assert_eq!(
        plane.get(&["rs", "-l", "app=web"])["items"].as_array().map(Vec::len),
        Some(0),
        "foreground waits for dependants"
    );
}

#[test]
fn a_namespace_takes_its_content_along() {
    let plane = objects_only();
    plane.kubectl_ok(&["create", "namespace", "short"]);
    plane.kubectl_ok(&["create", "configmap", "a", "-n", "short"]);
    eventually("a service account", || {
        plane.kubectl(&["get", "sa", "default", "-n", "short"]).ok.then_some(())
    });
    plane.kubectl_ok(&["delete", "namespace", "short", "--timeout=30s"]);
    assert!(!plane.kubectl(&["get", "cm", "a", "-n", "short"]).ok);
    let said = plane.kubectl(&["create", "configmap", "a", "-n", "short"]);
    assert_eq!(said.err, "error: failed to create configmap: namespaces \"short\" not found\n");
}

#[test]
fn watches_show_changes_as_they_come() {
    let plane = objects_only();
    let mut watch = plane
        .kubectl_command()
        .args(["get", "configmaps", "-w", "-o", "name", "--field-selector", "metadata.name=seen"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("kubectl runs");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(watch.stdout.take().expect("a pipe")));
    eventually("the watch is on", || plane.kubectl(&["create", "configmap", "seen"]).ok.then_some(()));
    let first = lines.next().expect("a line").expect("text");
    assert_eq!(first, "configmap/seen");
    plane.kubectl_ok(&["label", "cm", "seen", "x=y"]);
    assert_eq!(lines.next().expect("a line").expect("text"), "configmap/seen");
    watch.kill().expect("kubectl ends");
    watch.wait().expect("kubectl ends");
}
