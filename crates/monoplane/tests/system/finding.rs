//! Pods find the API, each other and the cluster's names, as unmodified clients expect to.

use harness::eventually;

use crate::containers::{output, plane_with_image, pod};

#[test]
fn a_client_in_a_pod_finds_the_api_and_is_judged_by_its_roles() {
    let Some(plane) = plane_with_image() else { return };
    plane.kubectl_ok(&["create", "serviceaccount", "reader"]);
    plane.kubectl_ok(&["create", "role", "reads", "--verb=get,list", "--resource=configmaps"]);
    plane.kubectl_ok(&["create", "rolebinding", "reads", "--role=reads", "--serviceaccount=default:reader"]);
    plane.kubectl_ok(&["create", "configmap", "told", "--from-literal=a=b"]);
    // The very kubectl that drives this test, with nothing said about where the API is.
    let tools = harness::tools();
    let mounts = "    volumeMounts: [{name: tools, mountPath: /tools, readOnly: true}]\n";
    let volumes = format!(
        "  serviceAccountName: reader\n  restartPolicy: Never\n  volumes: [{{name: tools, hostPath: {{path: {}}}}}]\n",
        tools.display()
    );
    let script = "cd /tmp 2>/dev/null; export HOME=/; /tools/kubectl get configmap told -o name; /tools/kubectl get pods; \
                  /tools/kubectl auth whoami -o jsonpath={.status.userInfo.username}; echo; \
                  cat /var/run/secrets/kubernetes.io/serviceaccount/namespace; echo; \
                  nslookup kubernetes.default.svc.cluster.local; cat /etc/resolv.conf; env";
    plane.apply(&pod("client", script, &format!("{mounts}{volumes}")));
    let said = output(&plane, "client");
    let address = |namespace: &str, name: &str| {
        let service = plane.get(&["service", "-n", namespace, name]);
        service["spec"]["clusterIP"].as_str().expect("an address").to_owned()
    };
    let (api, dns) = (address("default", "kubernetes"), address("kube-system", "kube-dns"));
    for expected in [
        "configmap/told",
        "pods is forbidden: User \"system:serviceaccount:default:reader\" cannot list resource \"pods\"",
        "\nsystem:serviceaccount:default:reader\n",
        "\ndefault\n",
        &format!("Address: {api}"),
        &format!("nameserver {dns}\n"),
        &format!("KUBERNETES_SERVICE_HOST={api}\n"),
        "KUBERNETES_SERVICE_PORT=443\n",
        "KUBERNETES_SERVICE_PORT_HTTPS=443\n",
    ] {
        assert!(said.contains(expected), "{expected} in {said}");
    }

    // The token of a pod that is gone is worth nothing; one that a person asks for names its account.
    let token = plane.kubectl_ok(&["create", "token", "reader", "--duration=10m"]);
    let mine = |token: &str| {
        plane.kubectl(&[
            "--token",
            token.trim(),
            "--kubeconfig",
            "/dev/null",
            "--server",
            &plane.endpoint("api"),
            "--insecure-skip-tls-verify",
            "get",
            "configmap",
            "told",
            "-o",
            "name",
        ])
    };
    assert_eq!(mine(&token).out, "configmap/told\n");
    plane.kubectl_ok(&["delete", "serviceaccount", "reader"]);
    let refused = mine(&token);
    assert!(!refused.ok && refused.err.contains("Unauthorized"), "{refused:?}");
}

#[test]
fn endpoints_by_hand_lead_somewhere_and_names_are_aliases() {
    let Some(plane) = plane_with_image() else { return };
    let web = "mkdir -p /www; echo found > /www/index.html; exec /bin/busybox httpd -f -p 8080 -h /www";
    let probe = "    readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1}\n";
    let named = "  hostname: one\n  subdomain: herd\n";
    let server = pod("server", web, &format!("{probe}{named}"))
        .replace("metadata: {name: server}", "metadata: {name: server, labels: {app: server}}");
    plane.apply(&server);
    plane.kubectl_ok(&["wait", "--for=condition=Ready", "pod/server", "--timeout=60s"]);
    let ip = plane.get(&["pod", "server"])["status"]["podIP"].as_str().expect("an address").to_owned();
    plane.apply(&format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: by-hand}}\nspec: {{ports: [{{port: 80}}]}}\n---\n\
         apiVersion: v1\nkind: Endpoints\nmetadata: {{name: by-hand}}\nsubsets: [{{addresses: [{{ip: {ip}}}], ports: [{{port: 8080}}]}}]\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {{name: herd}}\nspec: {{clusterIP: None, selector: {{app: server}}, ports: [{{port: 8080}}]}}\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {{name: elsewhere}}\nspec: {{type: ExternalName, externalName: by-hand.default.svc.cluster.local}}\n"
    ));
    let listed = eventually("the slice is made", || {
        let listed = plane.kubectl(&["get", "endpointslices", "-l", "kubernetes.io/service-name=by-hand"]);
        listed.out.contains(&ip).then_some(listed.out)
    });
    assert!(listed.contains("8080"), "{listed}");
    eventually("the controller has written Endpoints", || {
        let said = plane.kubectl(&["get", "endpoints", "herd"]);
        (said.out.contains(&format!("{ip}:8080")) && said.err.contains("deprecated")).then_some(())
    });
    let script =
        "for name in by-hand:80 elsewhere:80 one.herd:8080; do wget -qO- http://$name/index.html; done";
    plane.apply(&pod("asker", script, "  restartPolicy: Never\n"));
    assert_eq!(output(&plane, "asker"), "found\nfound\nfound\n");
}
