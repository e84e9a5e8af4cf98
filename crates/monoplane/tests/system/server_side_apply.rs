//! Server-side apply and managedFields, with the real kubectl.

use harness::{Plane, Said};
use serde_json::{Value, json};

use crate::start;

fn objects_only() -> Plane {
    start(&["--disable", "node,edge"])
}

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: hello, imagePullPolicy: Never}
";

const TEAM: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default, labels: {team: blue}}
spec:
  replicas: REPLICAS
  template:
    spec:
      containers:
      - {name: side, image: hello, imagePullPolicy: Never}
";

const CRD: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gates.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: gates, singular: gate, kind: Gate, listKind: GateList}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties:
              rules:
                type: array
                x-kubernetes-list-type: map
                x-kubernetes-list-map-keys: [name]
                items:
                  type: object
                  required: [name]
                  properties: {name: {type: string}, to: {type: string}}
";

fn applied(plane: &Plane, manager: &str, manifest: &str, more: &[&str]) -> Said {
    let manager = format!("--field-manager={manager}");
    let mut words = vec!["apply", "--server-side", &manager, "-f", "-"];
    words.extend(more);
    plane.kubectl_with(&words, manifest)
}

fn ok(said: Said) -> String {
    assert!(said.ok, "{said:?}");
    said.out
}

/// The object with its managers, each as `manager operation subresource`.
fn shown(plane: &Plane, words: &[&str]) -> (Value, Vec<String>) {
    let mut all = words.to_vec();
    all.push("--show-managed-fields");
    let object = plane.get(&all);
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    let names = entries.iter().map(|entry| {
        format!("{} {} {}", text(entry, "manager"), text(entry, "operation"), text(entry, "subresource"))
    });
    let mut names: Vec<String> = names.map(|name| name.trim().to_owned()).collect();
    names.sort();
    (object, names)
}

fn containers(object: &Value) -> Vec<&str> {
    let list = object.pointer("/spec/template/spec/containers").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(|each| each["name"].as_str()).collect()
}

#[test]
fn two_teams_share_a_deployment() {
    let plane = objects_only();
    assert_eq!(ok(applied(&plane, "infra", DEPLOYMENT, &[])), "deployment.apps/web serverside-applied\n");
    let (before, _) = shown(&plane, &["deployment", "web"]);
    ok(applied(&plane, "infra", DEPLOYMENT, &[]));
    let (after, _) = shown(&plane, &["deployment", "web"]);
    let of_infra = |object: &Value| {
        let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
        entries.into_iter().find(|entry| entry["manager"] == "infra")
    };
    assert_eq!(of_infra(&after), of_infra(&before), "applying the same again is no change");

    let refused = applied(&plane, "blue", &TEAM.replace("REPLICAS", "3"), &[]);
    assert!(!refused.ok, "{refused:?}");
    for words in
        ["Apply failed with 1 conflict: conflict with \"infra\": .spec.replicas", "--force-conflicts"]
    {
        assert!(refused.err.contains(words), "{words} in {}", refused.err);
    }
    ok(applied(&plane, "blue", &TEAM.replace("REPLICAS", "3"), &["--force-conflicts"]));
    let (object, managers) = shown(&plane, &["deployment", "web"]);
    assert_eq!((&object["spec"]["replicas"], containers(&object)), (&json!(3), vec!["web", "side"]));
    for manager in ["blue Apply", "infra Apply", "kube-controller-manager Update status"] {
        assert!(managers.iter().any(|each| each == manager), "{manager} in {managers:?}");
    }
    // Without being asked for, nobody sees them.
    let yaml = plane.kubectl_ok(&["get", "deployment", "web", "-o", "yaml"]);
    assert!(!yaml.contains("managedFields"), "{yaml}");

    // What a team applies no more goes; the other's stays.
    let less = TEAM.split("  template:").next().expect("a beginning").replace("REPLICAS", "3");
    ok(applied(&plane, "blue", &less, &[]));
    let (object, _) = shown(&plane, &["deployment", "web"]);
    assert_eq!((containers(&object), &object["metadata"]["labels"]["team"]), (vec!["web"], &json!("blue")));

    // Somebody who edits takes what he changes, and is a conflict from then on.
    plane.kubectl_ok(&["scale", "deployment", "web", "--replicas=5"]);
    let (_, managers) = shown(&plane, &["deployment", "web"]);
    assert!(managers.iter().any(|each| each == "kubectl Update scale"), "{managers:?}");
    let refused = applied(&plane, "blue", &less, &[]);
    let words = "conflict with \"kubectl\" with subresource \"scale\" using apps/v1: .spec.replicas";
    assert!(refused.err.contains(words), "{refused:?}");

    let bad = less.replace("replicas", "replicaz");
    let refused = applied(&plane, "blue", &bad, &[]);
    assert!(refused.err.contains(".spec.replicaz: field not declared in schema"), "{refused:?}");
}

#[test]
fn from_client_side_to_server_side() {
    let plane = objects_only();
    plane.apply(DEPLOYMENT);
    let (_, managers) = shown(&plane, &["deployment", "web"]);
    assert!(managers.iter().any(|each| each == "kubectl-client-side-apply Update"), "{managers:?}");
    let new = DEPLOYMENT.replace("replicas: 1", "replicas: 2");

    let diff = plane.kubectl_with(&["diff", "--server-side", "-f", "-"], &new);
    assert!(diff.out.contains("-  replicas: 1\n+  replicas: 2\n"), "{diff:?}");
    assert_eq!(plane.get(&["deployment", "web"])["spec"]["replicas"], 1, "a diff changes nothing");

    ok(applied(&plane, "kubectl", &new, &[]));
    let (object, managers) = shown(&plane, &["deployment", "web"]);
    assert_eq!(object["spec"]["replicas"], 2);
    assert!(managers.iter().any(|each| each == "kubectl Apply"), "{managers:?}");
    assert!(!managers.iter().any(|each| each == "kubectl-client-side-apply Update"), "{managers:?}");
    // What is gone from the file goes from the object, although it was first applied from the client.
    let labelled = new.replace("namespace: default", "namespace: default, labels: {a: b}");
    ok(applied(&plane, "kubectl", &labelled, &[]));
    ok(applied(&plane, "kubectl", &new, &[]));
    assert_eq!(plane.get(&["deployment", "web"])["metadata"].get("labels"), None);
    // And back: the client finds what it last applied.
    let back = plane.apply(&new.replace("replicas: 2", "replicas: 3"));
    assert_eq!(back, "deployment.apps/web configured\n");
}

#[test]
fn custom_objects_are_shared_by_their_keys() {
    let plane = objects_only();
    plane.apply(CRD);
    plane.kubectl_ok(&["wait", "--for=condition=Established", "crd/gates.example.com"]);
    let gate = |rules: &str| {
        format!(
            "apiVersion: example.com/v1\nkind: Gate\nmetadata: {{name: g, namespace: default}}\nspec: {{rules: [{rules}]}}\n"
        )
    };
    ok(applied(&plane, "ada", &gate("{name: a, to: left}"), &[]));
    ok(applied(&plane, "bob", &gate("{name: b, to: right}"), &[]));
    let refused = applied(&plane, "bob", &gate("{name: a, to: z}"), &[]);
    assert!(refused.err.contains("conflict with \"ada\": .spec.rules[name=\"a\"].to"), "{refused:?}");
    let (object, managers) = shown(&plane, &["gate", "g"]);
    assert_eq!(object["spec"]["rules"], json!([{"name": "a", "to": "left"}, {"name": "b", "to": "right"}]));
    assert_eq!(managers, ["ada Apply", "bob Apply"]);
    ok(applied(&plane, "ada", &gate(""), &[]));
    assert_eq!(plane.get(&["gate", "g"])["spec"]["rules"], json!([{"name": "b", "to": "right"}]));
}
