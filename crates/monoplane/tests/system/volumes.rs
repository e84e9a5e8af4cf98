//! What a pod's files and variables are made of, and that files follow what they are made of while variables stay.

use harness::{Plane, eventually};

use crate::containers::{IMAGE, output, plane_with_image};

const SOURCES: &str = "\
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: red, 'not.a-name': dotted, GREETING: hello}
binaryData: {bytes: AAEC}
---
apiVersion: v1
kind: Secret
metadata: {name: hidden}
stringData: {password: sesame}
";

fn pod(name: &str, script: &str, container: &str, spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{tier: one}}, annotations: {{note: first}}}}\nspec:\n  \
         terminationGracePeriodSeconds: 1\n  restartPolicy: Never\n{spec}  containers:\n  - name: main\n    image: {IMAGE}\n    \
         imagePullPolicy: Never\n    command: [/bin/busybox, sh, -c]\n    args:\n    - |\n      {script}\n{container}"
    )
}

fn exec(plane: &Plane, name: &str, script: &str) -> String {
    plane.kubectl_ok(&["exec", name, "--", "/bin/busybox", "sh", "-c", script])
}

#[test]
fn files_are_what_they_are_made_of_and_follow_it() {
    let Some(plane) = plane_with_image() else { return };
    plane.apply(SOURCES);
    let mounts = "    volumeMounts:\n    - {name: settings, mountPath: /settings}\n    - {name: some, mountPath: /some}\n    \
                  - {name: hidden, mountPath: /hidden, readOnly: true}\n    - {name: all, mountPath: /all}\n    \
                  - {name: missing, mountPath: /missing}\n    - {name: settings, mountPath: /one, subPath: colour}\n    \
                  resources: {limits: {cpu: 500m, memory: 64Mi}}\n";
    let volumes = "  volumes:\n  - {name: settings, configMap: {name: settings}}\n  \
                   - {name: some, configMap: {name: settings, items: [{key: colour, path: deep/colour, mode: 0400}]}}\n  \
                   - {name: hidden, secret: {secretName: hidden, defaultMode: 0440}}\n  \
                   - {name: missing, configMap: {name: nowhere, optional: true}}\n  \
                   - name: all\n    projected:\n      sources:\n      - configMap: {name: settings, items: [{key: colour, path: colour}]}\n      \
                   - secret: {name: hidden}\n      - serviceAccountToken: {path: token, audience: somebody, expirationSeconds: 600}\n      \
                   - downwardAPI:\n          items:\n          - {path: labels, fieldRef: {fieldPath: metadata.labels}}\n          \
                   - {path: note, fieldRef: {fieldPath: \"metadata.annotations['note']\"}}\n          \
                   - {path: cpu, resourceFieldRef: {containerName: main, resource: limits.cpu, divisor: 1m}}\n";
    plane.apply(&pod("reads", "sleep 1000", mounts, volumes));
    plane.kubectl_ok(&["wait", "--for=condition=Ready", "pod/reads", "--timeout=60s"]);
    let at = |script: &str| exec(&plane, "reads", script);
    assert_eq!(
        at("cd /settings; ls; cat colour GREETING; hexdump -e '/1 \"%d.\"' bytes"),
        "GREETING\nbytes\ncolour\nnot.a-name\nredhello0.1.2."
    );
    assert_eq!(
        at("cd /some; find . -follow -type f -name colour | grep -v '\\.\\.'; stat -L -c %a deep/colour"),
        "./deep/colour\n400\n"
    );
    assert_eq!(
        at(
            "cat /hidden/password; stat -L -c ' %a' /hidden/password; touch /hidden/x 2>&1 | grep -c Read-only; ls /missing"
        ),
        "sesame 440\n1\n"
    );
    assert_eq!(
        at("cd /all; cat colour password; echo; cat labels; echo; cat note cpu"),
        "redsesame\ntier=\"one\"\nfirst500"
    );
    let claims = at("cut -d. -f2 /all/token | tr _- /+ | base64 -d 2>/dev/null; true");
    assert!(claims.contains("\"aud\":[\"somebody\"]") && claims.contains("\"name\":\"reads\""), "{claims}");

    // All of a volume changes at once: a link leads to the old content, then to the new.
    let before = at("readlink /settings/..data");
    plane.kubectl_ok(&[
        "patch",
        "configmap",
        "settings",
        "--patch",
        r#"{"data":{"colour":"blue","new":"here"}}"#,
    ]);
    plane.kubectl_ok(&[
        "patch",
        "secret",
        "hidden",
        "--patch",
        r#"{"stringData":{"password":"shibboleth"}}"#,
    ]);
    plane.kubectl_ok(&["label", "pod", "reads", "tier=two", "--overwrite"]);
    plane.kubectl_ok(&["annotate", "pod", "reads", "note=second", "--overwrite"]);
    eventually("the files follow", || {
        let said = at(
            "cat /settings/colour /settings/new /hidden/password /all/password /all/labels /all/note 2>&1; true",
        );
        (said == "bluehereshibbolethshibbolethtier=\"two\"second").then_some(())
    });
    assert_ne!(at("readlink /settings/..data"), before);
    // A part that is mounted by itself stays what it was.
    assert_eq!(at("cat /one"), "red");
    plane.kubectl_ok(&["delete", "pod", "reads", "--timeout=30s"]);
}

#[test]
fn directories_of_pod_and_node_are_had_whole_or_in_parts() {
    let Some(plane) = plane_with_image() else { return };
    let node = tempfile::tempdir().expect("a directory");
    std::fs::write(node.path().join("given"), "by the node\n").expect("a file");
    let path = node.path().display();
    let mounts = "    env: [{name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]\n    volumeMounts:\n    \
                  - {name: scratch, mountPath: /scratch}\n    - {name: scratch, mountPath: /mine, subPathExpr: of/$(NAME)}\n    \
                  - {name: memory, mountPath: /memory}\n    - {name: node, mountPath: /node, readOnly: true}\n    \
                  - {name: made, mountPath: /made}\n    - {name: file, mountPath: /file}\n";
    let volumes = format!(
        "  volumes:\n  - {{name: scratch, emptyDir: {{}}}}\n  - {{name: memory, emptyDir: {{medium: Memory, sizeLimit: 2Mi}}}}\n  \
         - {{name: node, hostPath: {{path: {path}, type: Directory}}}}\n  \
         - {{name: made, hostPath: {{path: {path}/made, type: DirectoryOrCreate}}}}\n  \
         - {{name: file, hostPath: {{path: {path}/given, type: File}}}}\n"
    );
    let script = "echo of me > /mine/file; cat /scratch/of/parts/file; cat /node/given /file; touch /node/x 2>&1 | grep -c Read-only; \
                  echo left > /made/behind; dd if=/dev/zero of=/memory/file bs=1M count=4 2>&1 | grep -c 'No space'; \
                  grep -c ' /memory tmpfs' /proc/mounts";
    plane.apply(&pod("parts", script, mounts, &volumes));
    assert_eq!(output(&plane, "parts"), "of me\nby the node\nby the node\n1\n1\n1\n");
    assert_eq!(std::fs::read_to_string(node.path().join("made/behind")).expect("it is left"), "left\n");

    let wrong =
        format!("  volumes:\n  - {{name: node, hostPath: {{path: {path}/nowhere, type: Directory}}}}\n");
    plane.apply(&pod("wrong", "true", "    volumeMounts: [{name: node, mountPath: /node}]\n", &wrong));
    plane.apply(&pod(
        "early",
        "cat /v/key",
        "    volumeMounts: [{name: v, mountPath: /v}]\n",
        "  volumes: [{name: v, configMap: {name: later}}]\n",
    ));
    for (name, words) in [("wrong", "hostPath type check failed"), ("early", "configmap \"later\" not found")]
    {
        eventually("why it waits is said", || {
            let described = plane.kubectl_ok(&["describe", "pod", name]);
            (described.contains("FailedMount") && described.contains(words)).then_some(())
        });
    }
    plane.kubectl_ok(&["create", "configmap", "later", "--from-literal=key=come"]);
    assert_eq!(output(&plane, "early"), "come");
    plane.kubectl_ok(&["delete", "pods", "--all", "--timeout=30s"]);
}

#[test]
fn variables_come_from_everywhere_and_are_expanded_as_upstream_does() {
    let Some(plane) = plane_with_image() else { return };
    plane.apply(SOURCES);
    let container = "    envFrom:\n    - {configMapRef: {name: settings}}\n    - {prefix: S_, secretRef: {name: hidden}}\n    \
                     - {configMapRef: {name: nowhere, optional: true}}\n    env:\n    - {name: GREETING, value: own}\n    \
                     - {name: FIRST, value: one}\n    - {name: SECOND, value: '$(FIRST)-two-$(LATER)-$$(FIRST)-$(S_password)'}\n    \
                     - {name: LATER, value: three}\n    - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}\n    \
                     - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}\n    \
                     - {name: TIER, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['tier']\"}}}\n    \
                     - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}\n    \
                     - {name: CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}\n    \
                     - {name: MEMORY, valueFrom: {resourceFieldRef: {resource: requests.memory, divisor: 1Mi}}}\n    \
                     - {name: KEY, valueFrom: {secretKeyRef: {name: hidden, key: password}}}\n    \
                     - {name: NONE, valueFrom: {configMapKeyRef: {name: settings, key: none, optional: true}}}\n    \
                     resources: {limits: {cpu: 1500m, memory: 64Mi}, requests: {memory: 32Mi}}\n";
    let script = "echo $colour $GREETING $S_password; echo \"$SECOND\"; echo $POD $NODE $TIER $CPU $MEMORY $KEY ${NONE-unset}; \
                  tr '\\0' '\\n' < /proc/1/environ | grep -c not.a-name; [ \"$IP\" = \"$(hostname -i)\" ] && echo same; echo '$(FIRST)' '$$(FIRST)'";
    plane.apply(&pod("told", script, container, ""));
    assert_eq!(
        output(&plane, "told"),
        "red own sesame\none-two-$(LATER)-$(FIRST)-sesame\ntold test-node one 2 32 sesame unset\n1\nsame\none $(FIRST)\n"
    );
    plane.apply(&pod(
        "lacks",
        "true",
        "    env: [{name: KEY, valueFrom: {secretKeyRef: {name: hidden, key: absent}}}]\n",
        "",
    ));
    eventually("what is missing is named", || {
        let waiting =
            plane.get(&["pod", "lacks"])["status"]["containerStatuses"][0]["state"]["waiting"].clone();
        let message = waiting["message"].as_str().unwrap_or_default();
        (waiting["reason"] == "CreateContainerConfigError"
            && message == "couldn't find key absent in Secret default/hidden")
            .then_some(())
    });
    plane.kubectl_ok(&["delete", "pods", "--all", "--timeout=30s"]);
}
