//! What is mounted on the node below a volume, and what a container sees of it.

use std::path::{Path, PathBuf};
use std::process::Command;

use harness::eventually;

use crate::containers::{IMAGE, plane_with_image};

/// A directory of the node whose mounts are told to others, until it is dropped.
struct Shared(PathBuf);

impl Shared {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory").keep();
        let this = Self(directory);
        let path = this.0.display().to_string();
        mount(&["--bind", &path, &path]);
        mount(&["--make-shared", &path]);
        this
    }

    /// Mounts an empty file system below it, with a file in it.
    fn mount(&self, name: &str) {
        let at = self.0.join(name);
        std::fs::create_dir_all(&at).expect("a directory");
        mount(&["-t", "tmpfs", "tmpfs", &at.display().to_string()]);
        std::fs::write(at.join("sign"), name).expect("a file");
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-R", "-l"]).arg(&self.0).status();
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn mount(words: &[&str]) {
    assert!(Command::new("mount").args(words).status().expect("mount runs").success(), "mount {words:?}");
}

fn pod(name: &str, directory: &Path, mount: &str, script: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 1\n  restartPolicy: Never\n  \
         volumes: [{{name: v, hostPath: {{path: {}}}}}]\n  containers:\n  - name: main\n    image: {IMAGE}\n    imagePullPolicy: Never\n    \
         command: [/bin/busybox, sh, -c]\n    args: ['{script}']\n    volumeMounts: [{{name: v, mountPath: /v, {mount}}}]\n",
        directory.display()
    )
}

#[test]
fn mounts_of_the_node_come_where_they_are_asked_for() {
    let Some(plane) = plane_with_image() else { return };
    let shared = Shared::new();
    shared.mount("before");
    let watch = "while true; do sleep 1; done";
    plane.apply(&pod("follows", &shared.0, "mountPropagation: HostToContainer", watch));
    plane.apply(&pod("stays", &shared.0, "mountPropagation: None", watch));
    plane.kubectl_ok(&["wait", "--for=condition=Ready", "pod/follows", "pod/stays", "--timeout=60s"]);
    shared.mount("after");
    let sees = |pod: &str, name: &str| {
        let path = format!("/v/{name}/sign");
        plane.kubectl(&["exec", pod, "--", "/bin/busybox", "cat", &path]).out == name
    };
    assert!(sees("follows", "before") && sees("stays", "before"));
    eventually("what was mounted since is seen", || sees("follows", "after").then_some(()));
    assert!(!sees("stays", "after"));

    // A container that may says it the other way round.
    let mount =
        "mkdir /v/inside && mount -t tmpfs tmpfs /v/inside && echo -n inside > /v/inside/sign && sleep 1000";
    let both = pod("both", &shared.0, "mountPropagation: Bidirectional", mount);
    let said = plane.kubectl_with(&["apply", "-f", "-"], &both);
    let words = "volumeMounts.mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers";
    assert!(!said.ok && said.err.contains(words), "{said:?}");
    let privileged =
        |pod: &str| pod.replace("    command:", "    securityContext: {privileged: true}\n    command:");
    plane.apply(&privileged(&both));
    eventually("the node sees it", || {
        (std::fs::read_to_string(shared.0.join("inside/sign")).ok()? == "inside").then_some(())
    });
    assert!(sees("follows", "inside") && !sees("stays", "inside"));
    shared.mount("last");
    eventually("it sees the node's too", || sees("both", "last").then_some(()));
    plane.kubectl_ok(&["delete", "pod", "both", "--timeout=60s"]);
    // It is the node's by now, as upstream.
    assert_eq!(std::fs::read_to_string(shared.0.join("inside/sign")).expect("a file"), "inside");
    assert!(sees("follows", "inside"));

    // Where the node's own mount tells nobody, it is said.
    let alone = tempfile::tempdir().expect("a directory");
    let path = alone.path().display().to_string();
    self::mount(&["--bind", &path, &path]);
    let alone = Shared(alone.keep());
    self::mount(&["--make-private", &path]);
    plane.apply(&privileged(&pod("alone", &alone.0, "mountPropagation: Bidirectional", "true")));
    eventually("it is said", || {
        let state = plane.get(&["pod", "alone"])["status"]["containerStatuses"][0]["state"].to_string();
        state.contains("which is not a shared mount").then_some(())
    });
    plane.kubectl_ok(&["delete", "pods", "--all", "--timeout=60s"]);
}

#[test]
fn what_is_mounted_below_a_volume_is_read_only_where_all_of_it_is_to_be() {
    let Some(plane) = plane_with_image() else { return };
    let shared = Shared::new();
    shared.mount("below");
    let script = "for at in /v /v/below; do touch $at/file 2>/dev/null && echo wrote $at; done; echo end";
    plane.apply(&pod("top", &shared.0, "readOnly: true", script));
    plane.apply(&pod("all", &shared.0, "readOnly: true, recursiveReadOnly: Enabled", script));
    for (name, expected) in [("top", "wrote /v/below\nend\n"), ("all", "end\n")] {
        plane.kubectl_ok(&[
            "wait",
            "--for=jsonpath={.status.phase}=Succeeded",
            &format!("pod/{name}"),
            "--timeout=60s",
        ]);
        assert_eq!(plane.kubectl_ok(&["logs", name]), expected, "{name}");
    }
    plane.kubectl_ok(&["delete", "pods", "--all", "--timeout=60s"]);
}
