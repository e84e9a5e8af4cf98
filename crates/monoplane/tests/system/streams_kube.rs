//! exec, attach and port-forward by kube's own client, which speaks channels over WebSocket.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, AttachParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::containers::{plane_with_image, pod};

#[test]
fn another_client_has_streams_too() {
    let Some(plane) = plane_with_image() else { return };
    let script = "/bin/busybox nc -ll -p 8081 -e /bin/busybox echo answer & while read line; do echo \"got $line\"; done";
    plane.apply(&pod("p", script, "    stdin: true\n"));
    plane.kubectl_ok(&["wait", "--for=condition=Ready", "pod/p", "--timeout=60s"]);
    let kubeconfig = Kubeconfig::read_from(plane.data().join("admin.kubeconfig")).expect("a kubeconfig");
    let tokio = tokio::runtime::Runtime::new().expect("a runtime");
    tokio.block_on(async {
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        let client = kube::Client::try_from(config.expect("a configuration")).expect("a client");
        let pods: Api<Pod> = Api::default_namespaced(client);

        let params = AttachParams::default().stdin(true).stdout(true).stderr(false);
        let command = ["/bin/busybox", "sh", "-c", "read line; echo said $line; exit 9"];
        let mut process = pods.exec("p", command, &params).await.expect("exec");
        let status = process.take_status().expect("a status");
        let (mut stdin, mut stdout) = (process.stdin().expect("stdin"), process.stdout().expect("stdout"));
        stdin.write_all(b"word\n").await.expect("it is sent");
        let mut said = String::new();
        stdout.read_to_string(&mut said).await.expect("an answer");
        assert_eq!(said, "said word\n");
        let status = status.await.expect("a status");
        assert_eq!(status.reason.as_deref(), Some("NonZeroExitCode"), "{status:?}");

        let mut attached = pods.attach("p", &params).await.expect("attach");
        let (mut stdin, mut stdout) = (attached.stdin().expect("stdin"), attached.stdout().expect("stdout"));
        stdin.write_all(b"one\n").await.expect("it is sent");
        let mut line = [0; 8];
        stdout.read_exact(&mut line).await.expect("an answer");
        assert_eq!(&line, b"got one\n");

        // The server may not listen yet: then the stream ends with nothing.
        let mut text = String::new();
        let ask = async {
            while text.is_empty() {
                let mut forwarder = pods.portforward("p", &[8081]).await.expect("port-forward");
                let mut stream = forwarder.take_stream(8081).expect("a stream");
                stream.read_to_string(&mut text).await.expect("an answer");
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), ask).await.expect("an answer");
        assert_eq!(text, "answer\n");
    });
}
