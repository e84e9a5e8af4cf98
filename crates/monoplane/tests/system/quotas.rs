//! Quotas, limits, storage and certificates, as users of kubectl meet them. No node: objects only.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use harness::{Plane, eventually};

use crate::start;

const REQUEST: &str = include_str!("../../../registry/tests/fixtures/request.pem");
const MASTERS: &str = include_str!("../../../registry/tests/fixtures/masters.pem");

fn objects_only() -> Plane {
    start(&["--disable", "node,edge"])
}

/// A pod that asks for that much memory.
fn pod(name: &str, memory: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  containers:\n  - {{name: c, image: i, resources: \
         {{requests: {{memory: {memory}}}}}}}\n"
    )
}

/// What the quota says to have counted.
fn used(plane: &Plane, quota: &str, name: &str) -> String {
    plane.get(&["quota", quota])["status"]["used"][name].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_namespace_has_a_quota_and_limits() {
    let plane = objects_only();
    let hard = "--hard=pods=2,requests.memory=1Gi,count/configmaps=2";
    assert_eq!(plane.kubectl_ok(&["create", "quota", "q", hard]), "resourcequota/q created\n");
    eventually("the quota is counted", || (used(&plane, "q", "pods") == "0").then_some(()));
    assert_eq!(used(&plane, "q", "count/configmaps"), "1", "the certificates of the API");

    plane.apply(&pod("a", "512Mi"));
    let refused = plane.kubectl_with(&["apply", "-f", "-"], &pod("b", "600Mi"));
    let why = "pods \"b\" is forbidden: exceeded quota: q, requested: requests.memory=600Mi, used: requests.memory=512Mi, \
               limited: requests.memory=1Gi";
    assert!(refused.err.contains(why), "{}", refused.err);
    plane.kubectl_ok(&["create", "configmap", "one"]);
    let refused = plane.kubectl(&["create", "configmap", "two"]);
    assert!(refused.err.contains("exceeded quota: q, requested: count/configmaps=1"), "{}", refused.err);

    let range = "apiVersion: v1\nkind: LimitRange\nmetadata: {name: r}\nspec:\n  limits:\n  - {type: Container, \
                 defaultRequest: {memory: 64Mi}, max: {memory: 1Gi}, default: {memory: 128Mi}}\n";
    plane.apply(range);
    let described = plane.kubectl_ok(&["describe", "limits", "r"]);
    let row: Vec<&str> = described.lines().last().expect("a row").split_whitespace().collect();
    assert_eq!(row, ["Container", "memory", "-", "1Gi", "64Mi", "128Mi", "-"]);
    plane.kubectl_ok(&["run", "b", "--image=i"]);
    let made = plane.get(&["pod", "b"]);
    assert_eq!(made["spec"]["containers"][0]["resources"]["limits"]["memory"], "128Mi");
    let table = plane.kubectl_ok(&["get", "quota"]);
    assert!(table.contains("count/configmaps: 2/2, pods: 2/2, requests.memory: 576Mi/1Gi"), "{table}");
    let described = plane.kubectl_ok(&["describe", "namespace", "default"]);
    assert!(described.contains("requests.memory   576Mi  1Gi"), "{described}");

    plane.kubectl_ok(&["delete", "pod", "a", "--now"]);
    eventually("what is given back is counted", || (used(&plane, "q", "pods") == "1").then_some(()));
    plane.apply(&pod("c", "100Mi"));
    let explained = plane.kubectl_ok(&["explain", "resourcequota.spec.hard"]);
    assert!(explained.contains("KIND:       ResourceQuota"), "{explained}");
}

#[test]
fn volumes_and_claims_are_shown_and_held() {
    let plane = objects_only();
    plane.apply(
        "apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata:\n  name: fast\n  annotations: \
         {storageclass.kubernetes.io/is-default-class: 'true'}\nprovisioner: x.test/y\n",
    );
    let table = plane.kubectl_ok(&["get", "sc", "fast"]);
    assert!(table.contains("fast (default)   x.test/y      Delete          Immediate"), "{table}");
    plane.apply(
        "apiVersion: v1\nkind: PersistentVolume\nmetadata: {name: v}\nspec:\n  capacity: {storage: 5Gi}\n  accessModes: \
         [ReadWriteOnce]\n  hostPath: {path: /data}\n---\napiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: c}\n\
         spec:\n  accessModes: [ReadWriteOnce]\n  resources: {requests: {storage: 1Gi}}\n",
    );
    plane.kubectl_ok(&["wait", "--for=jsonpath={.status.phase}=Available", "pv/v", "--timeout=30s"]);
    let table = plane.kubectl_ok(&["get", "pv,pvc", "-o", "wide"]);
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[1][..5], ["persistentvolume/v", "5Gi", "RWO", "Retain", "Available"]);
    assert_eq!(rows[4][..4], ["persistentvolumeclaim/c", "Pending", "fast", "<unset>"]);
    assert_eq!((rows[1].last(), rows[4].last()), (Some(&"Filesystem"), Some(&"Filesystem")));

    let uses = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  nodeName: nowhere\n  containers: [{name: c, image: i}]\n  \
                volumes: [{name: v, persistentVolumeClaim: {claimName: c}}]\n";
    plane.apply(uses);
    plane.kubectl_ok(&["delete", "pvc", "c", "--wait=false"]);
    let table = plane.kubectl_ok(&["get", "pvc", "c"]);
    assert!(table.contains("Terminating"), "{table}");
    plane.kubectl_ok(&["delete", "pod", "p", "--force", "--grace-period=0"]);
    plane.kubectl_ok(&["wait", "--for=delete", "pvc/c", "--timeout=30s"]);
    plane.kubectl_ok(&["delete", "pv", "v", "--timeout=30s"]);

    let shown = plane.kubectl(&["get", "cs"]);
    assert!(shown.out.contains("etcd-0") && shown.out.contains("Healthy   ok"), "{}", shown.out);
    assert!(shown.err.contains("Warning: v1 ComponentStatus is deprecated in v1.19+"), "{}", shown.err);
    let services = plane.kubectl_ok(&["get", "apiservices"]);
    assert!(services.contains("v1.apps") && services.contains("Local     True"), "{services}");
}

fn request(name: &str, pem: &str, signer: &str) -> String {
    let encoded = STANDARD.encode(pem);
    format!(
        "apiVersion: certificates.k8s.io/v1\nkind: CertificateSigningRequest\nmetadata: {{name: {name}}}\nspec:\n  request: \
         {encoded}\n  signerName: {signer}\n  usages: [client auth]\n"
    )
}

#[test]
fn certificates_are_asked_for_approved_and_denied() {
    let plane = objects_only();
    let signer = "kubernetes.io/kube-apiserver-client";
    plane.apply(&request("jane", REQUEST, signer));
    plane.apply(&request("joe", REQUEST, signer));
    let state = |name: &str| {
        let table = plane.kubectl_ok(&["get", "csr", name, "--no-headers"]);
        table.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let row = state("jane");
    assert_eq!((row[2].as_str(), row.last().map(String::as_str)), (signer, Some("Pending")));
    assert_ne!(row[3], "<none>", "who asked");
    plane.kubectl_ok(&["certificate", "approve", "jane"]);
    plane.kubectl_ok(&["certificate", "deny", "joe"]);
    eventually("it is signed", || (state("jane").last()? == "Approved,Issued").then_some(()));
    assert_eq!(state("joe").last().map(String::as_str), Some("Denied"));
    let refused = plane.kubectl_with(&["apply", "-f", "-"], &request("root", MASTERS, signer));
    let why = "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed";
    assert!(refused.err.contains(why), "{}", refused.err);

    plane.kubectl_ok(&[
        "create",
        "clusterrole",
        "approver",
        "--verb=get,list,update,patch",
        "--resource=certificatesigningrequests,certificatesigningrequests/approval",
    ]);
    plane.kubectl_ok(&["create", "clusterrolebinding", "approver", "--clusterrole=approver", "--user=eve"]);
    plane.apply(&request("jim", REQUEST, signer));
    let refused = plane.kubectl(&["certificate", "approve", "jim", "--as=eve"]);
    let why = format!("user not permitted to approve requests with signerName \"{signer}\"");
    assert!(refused.err.contains(&why), "{}", refused.err);
}
