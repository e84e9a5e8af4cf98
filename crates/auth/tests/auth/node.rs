use std::sync::Arc;

use auth::node::{Graph, NodeAuthorizer};
use auth::{Authorizer, Decision};
use serde_json::{Value, json};

use crate::{request, user};

fn pod(node: &str) -> Value {
    json!({"metadata": {"name": "a"}, "spec": {
        "nodeName": node,
        "serviceAccountName": "runner",
        "imagePullSecrets": [{"name": "pull"}],
        "containers": [{
            "env": [{"valueFrom": {"secretKeyRef": {"name": "env"}}}, {"valueFrom": {"configMapKeyRef": {"name": "settings"}}}],
            "envFrom": [{"configMapRef": {"name": "all-settings"}}],
        }],
        "initContainers": [{"envFrom": [{"secretRef": {"name": "init"}}]}],
        "volumes": [
            {"secret": {"secretName": "volume"}},
            {"projected": {"sources": [{"secret": {"name": "part"}}, {"configMap": {"name": "part-settings"}}]}},
            {"persistentVolumeClaim": {"claimName": "data"}},
            {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}},
        ],
        "resourceClaims": [{"name": "gpu", "resourceClaimName": "own"}, {"name": "net", "resourceClaimTemplateName": "t"}],
    }, "status": {
        "resourceClaimStatuses": [{"name": "net", "resourceClaimName": "a-net"}],
        "extendedResourceClaimStatus": {"resourceClaimName": "a-extended"},
    }})
}

fn graph() -> Graph {
    let mut graph = Graph::default();
    // As it is fed: with what it looks at and nothing else.
    let excerpt = |pod: Value| auth::node::excerpt().read(pod.to_string().as_bytes()).unwrap();
    graph.set("red", "a", &excerpt(pod("one")));
    let mut mirror = pod("two");
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    graph.set("red", "m", &excerpt(mirror));
    graph.set("red", "unbound", &pod(""));
    graph
}

#[test]
fn what_a_kubelet_may_do() {
    let authorizer = NodeAuthorizer::new(Arc::new(graph()));
    let cases = [
        ("get /nodes - one", true),
        ("get /nodes - two", false),
        ("list /nodes", false),
        ("create /nodes", true),
        ("patch /nodes/status - one", true),
        ("delete /nodes - one", false),
        ("get /pods red a", true),
        ("get /pods red m", false),
        ("list /pods -", false),
        ("watch /pods - - spec.nodeName=one", true),
        ("list /pods - - spec.nodeName=two", false),
        ("update /pods/status red a", true),
        ("patch /pods red a", false),
        ("create /pods/binding red a", false),
        ("get /persistentvolumeclaims red a-scratch", true),
        ("get /persistentvolumeclaims red b-scratch", false),
        ("get /secrets red pull", true),
        ("get /secrets red env", true),
        ("watch /secrets red init", true),
        ("get /secrets red volume", true),
        ("get /secrets red part", true),
        ("get /secrets red other", false),
        ("get /secrets blue pull", false),
        ("list /secrets red", false),
        ("update /secrets red pull", false),
        ("get /configmaps red settings", true),
        ("get /configmaps red all-settings", true),
        ("get /configmaps red part-settings", true),
        ("get /configmaps red pull", false),
        ("get /persistentvolumeclaims red data", true),
        ("create /serviceaccounts/token red runner", true),
        ("create /serviceaccounts/token red other", false),
        ("get /serviceaccounts red runner", false),
        ("update coordination.k8s.io/leases kube-node-lease one", true),
        ("create coordination.k8s.io/leases kube-node-lease", true),
        ("update coordination.k8s.io/leases kube-node-lease two", false),
        ("update coordination.k8s.io/leases kube-system one", false),
        ("list coordination.k8s.io/leases kube-node-lease", false),
        ("list /services", true),
        ("create /events red", true),
        ("watch node.k8s.io/runtimeclasses", true),
        ("get resource.k8s.io/resourceclaims red own", true),
        ("get resource.k8s.io/resourceclaims red a-net", true),
        ("get resource.k8s.io/resourceclaims red a-extended", true),
        ("get resource.k8s.io/resourceclaims red other", false),
        ("list resource.k8s.io/resourceclaims red", false),
        ("update resource.k8s.io/resourceclaims/status red own", false),
        ("create resource.k8s.io/resourceslices", true),
        ("deletecollection resource.k8s.io/resourceslices - - spec.nodeName=one", true),
        ("list resource.k8s.io/resourceslices - - spec.nodeName=two", false),
        ("watch resource.k8s.io/resourceslices", false),
        ("delete resource.k8s.io/resourceslices - s", false),
        ("get path:/version", false),
        ("create rbac.authorization.k8s.io/roles red", false),
    ];
    let one = user("system:node:one", &["system:nodes"]);
    for (text, expected) in cases {
        assert_eq!(authorizer.authorize(&request(&one, text)).is_allowed(), expected, "{text}");
    }
    // A mirror pod gives its node no secrets; a name without the group is no node; a node without a name is refused.
    let not_theirs =
        [("system:node:two", "system:nodes"), ("system:node:one", "other"), ("system:node:", "system:nodes")];
    for (name, group) in not_theirs {
        assert!(!authorizer.authorize(&request(&user(name, &[group]), "get /secrets red pull")).is_allowed());
    }
    assert_eq!(
        authorizer.authorize(&request(&one, "get /secrets red other")),
        Decision::NoOpinion("no relationship found between node 'one' and this object".into())
    );
}

#[test]
fn the_graph_forgets_what_pods_no_longer_say() {
    let one = user("system:node:one", &["system:nodes"]);
    let may = |graph: &Graph| {
        let authorizer = NodeAuthorizer::new(Arc::new(graph.clone()));
        authorizer.authorize(&request(&one, "get /secrets red pull")).is_allowed()
    };
    let mut graph = graph();
    graph.set("red", "b", &pod("one"));
    graph.remove("red", "a");
    assert!(may(&graph), "another pod still refers to it");
    graph.set("red", "b", &pod("two"));
    assert!(!may(&graph));
    graph.set("red", "b", &pod("one"));
    graph.set("red", "b", &pod("one"));
    graph.remove("red", "b");
    graph.remove("red", "b");
    assert!(!may(&graph));
}
