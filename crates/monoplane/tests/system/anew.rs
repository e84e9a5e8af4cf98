//! What a container that begins, or begins anew, takes over from those before it.

use harness::eventually;
use serde_json::Value;

use crate::containers::{IMAGE, plane_with_image};

fn container(name: &str, script: &str, rest: &str) -> String {
    format!(
        "  - name: {name}\n    image: {IMAGE}\n    imagePullPolicy: Never\n    command: [/bin/busybox, sh, -c]\n    args:\n    - |\n      {script}\n{rest}"
    )
}

fn pod(name: &str, init: &str, apps: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 1\n  restartPolicy: Never\n  \
         volumes: [{{name: v, emptyDir: {{}}}}]\n  initContainers:\n{init}  containers:\n{apps}"
    )
}

#[test]
fn an_environment_is_read_from_a_file_that_an_init_container_wrote() {
    let Some(plane) = plane_with_image() else { return };
    let mount = "    volumeMounts: [{name: v, mountPath: /v}]\n";
    let write = container(
        "write",
        r##"printf "# from me\nHOST='a b'\nLINES='one\ntwo'\n" > /v/env; echo "HOST=bare" > /v/bad"##,
        mount,
    );
    let from = |path: &str, key: &str, optional: bool| {
        format!(
            "    env: [{{name: GOT, valueFrom: {{fileKeyRef: {{volumeName: v, path: {path}, key: {key}, optional: {optional}}}}}}}]\n"
        )
    };
    let show = "echo \"got [$GOT]\"";
    for (name, source) in [
        ("there", from("env", "HOST", false)),
        ("lines", from("env", "LINES", false)),
        ("optional", from("env", "NONE", true)),
        ("no-file", from("none", "HOST", true)),
        ("missing", from("env", "NONE", false)),
        ("bad", from("bad", "HOST", false)),
    ] {
        plane.apply(&pod(name, &write, &container("main", show, &source)));
    }
    for (name, expected) in [
        ("there", "got [a b]\n"),
        ("lines", "got [one\ntwo]\n"),
        ("optional", "got []\n"),
        ("no-file", "got []\n"),
    ] {
        plane.kubectl_ok(&[
            "wait",
            "--for=jsonpath={.status.phase}=Succeeded",
            &format!("pod/{name}"),
            "--timeout=60s",
        ]);
        assert_eq!(plane.kubectl_ok(&["logs", name, "-c", "main"]), expected, "{name}");
    }
    for (name, expected) in [
        ("missing", "environment variable key \"NONE\" not found in file"),
        ("bad", "couldn't parse env file"),
    ] {
        eventually("it is said what is wrong", || {
            let waiting =
                plane.get(&["pod", name])["status"]["containerStatuses"][0]["state"]["waiting"].clone();
            let message = waiting["message"].as_str().unwrap_or_default();
            (waiting["reason"] == "CreateContainerConfigError" && message.contains(expected)).then_some(())
        });
    }
    let outside = pod("outside", &write, &container("main", show, &from("../env", "HOST", false)));
    let said = plane.kubectl_with(&["apply", "-f", "-"], &outside);
    assert!(
        !said.ok && said.err.contains("fileKeyRef.path: Invalid value: \"../env\": must not contain '..'"),
        "{said:?}"
    );
    plane.kubectl_ok(&["delete", "pods", "--all", "--timeout=60s"]);
}

#[test]
fn the_end_of_one_container_begins_all_anew() {
    let Some(plane) = plane_with_image() else { return };
    let mount = "    volumeMounts: [{name: v, mountPath: /v}]\n";
    let init = container("first", "echo x >> /v/inits", mount);
    let rules = format!(
        "    restartPolicy: Never\n    restartPolicyRules: [{{action: RestartAllContainers, exitCodes: {{operator: In, values: [42]}}}}]\n{mount}"
    );
    // The first time it asks for all to begin anew, then it ends well.
    let trigger =
        container("trigger", "[ -e /v/again ] && exec sleep 1000; touch /v/again; sleep 1; exit 42", &rules);
    let steady = container("steady", "echo begun; sleep 1000", mount);
    plane.apply(&pod("all", &init, &format!("{trigger}{steady}")));
    let told = |object: &Value, list: &str, name: &str| {
        let all = object["status"][list].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|one| one["name"] == name).unwrap_or_default()
    };
    let object = eventually("all have begun anew", || {
        let object = plane.get(&["pod", "all"]);
        assert_ne!(object["status"]["phase"], "Failed", "{object}");
        let again = |list: &str, name: &str| told(&object, list, name)["restartCount"] == 1;
        let all = again("initContainerStatuses", "first")
            && again("containerStatuses", "trigger")
            && again("containerStatuses", "steady");
        (all && told(&object, "containerStatuses", "steady")["state"]["running"].is_object())
            .then_some(object)
    });
    let last = &told(&object, "containerStatuses", "trigger")["lastState"]["terminated"];
    assert_eq!(last["exitCode"], 42, "{object}");
    let last = &told(&object, "containerStatuses", "steady")["lastState"]["terminated"];
    assert_eq!(last["exitCode"], 137, "{object}");
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.iter().find(|one| one["type"] == "AllContainersRestarting").expect("a condition");
    assert_eq!(found["status"], "False");
    // The volume stays, and so do the sandbox and its address.
    let seen = plane.kubectl_ok(&["exec", "all", "-c", "steady", "--", "/bin/busybox", "cat", "/v/inits"]);
    assert_eq!(seen, "x\nx\n");
    assert_eq!(plane.kubectl_ok(&["logs", "all", "-c", "steady", "--previous"]), "begun\n");
    // The node's next process knows that it is done.
    plane.restart("node", 9);
    plane.apply(&pod("other", &container("first", "true", ""), &container("main", "true", "")));
    plane.kubectl_ok(&["wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/other", "--timeout=60s"]);
    let object = plane.get(&["pod", "all"]);
    assert_eq!(told(&object, "containerStatuses", "steady")["restartCount"], 1, "{object}");
    plane.kubectl_ok(&["delete", "pods", "--all", "--timeout=60s"]);
}
