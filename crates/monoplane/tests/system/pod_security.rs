//! The levels of the Pod Security Standards, by namespaces' labels.

use crate::start;

fn pod(name: &str, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: strict}}\nspec: {{containers: [{{name: c, image: i}}]{more}}}\n"
    )
}

#[test]
fn a_namespace_refuses_and_warns_as_it_is_labelled() {
    let plane = start(&["--disable", "node,edge"]);
    plane.kubectl_ok(&["create", "namespace", "strict"]);
    let said = plane.kubectl_with(&["apply", "-f", "-"], &pod("shares", ", hostPID: true"));
    assert!(said.ok, "{said:?}");
    let level = "pod-security.kubernetes.io/enforce=baseline";
    let said =
        plane.kubectl(&["label", "namespace", "strict", level, "pod-security.kubernetes.io/warn=restricted"]);
    assert!(said.ok && said.err.contains("shares: host namespaces"), "{said:?}");
    let said = plane.kubectl(&[
        "label",
        "--overwrite",
        "namespace",
        "strict",
        "pod-security.kubernetes.io/enforce=none",
    ]);
    assert!(!said.ok && said.err.contains("must be one of privileged, baseline, restricted"), "{said:?}");

    let said = plane.kubectl_with(&["apply", "-f", "-"], &pod("other", ", hostNetwork: true"));
    let why = "pods \"other\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)";
    assert!(!said.ok && said.err.contains(why), "{said:?}");
    let said = plane.kubectl_with(&["apply", "-f", "-"], &pod("plain", ""));
    assert!(said.ok && said.err.contains("would violate PodSecurity \"restricted:latest\""), "{said:?}");
    let said = plane.kubectl(&["create", "deployment", "d", "--image=i", "-n", "strict", "--dry-run=server"]);
    assert!(said.ok && said.err.contains("would violate PodSecurity"), "{said:?}");
}
