use std::collections::HashSet;

use auth::bootstrap::{
    BootstrapAuthorizer, Step, cluster_role_bindings, cluster_roles, controllers_on_upstream,
    reconcile_binding, reconcile_role, role_bindings, roles,
};
use auth::rbac::{Objects, Policy};
use auth::{Authorizer, UserInfo, bootstrap_token};
use serde_json::{Value, json};

use crate::{request, user};

fn typed<T: serde::de::DeserializeOwned>(objects: Vec<Value>) -> Vec<T> {
    objects.into_iter().map(|object| serde_json::from_value(object).unwrap()).collect()
}

fn policy(more: Vec<Value>) -> Policy {
    Policy::new(Objects {
        roles: typed(roles()),
        cluster_roles: typed(cluster_roles()),
        role_bindings: typed([role_bindings(), more].concat()),
        cluster_role_bindings: typed(cluster_role_bindings()),
    })
}

#[test]
fn every_controller_of_upstreams_has_its_account_bound_to_its_role() {
    let names = |objects: Vec<Value>| -> HashSet<String> {
        let names = objects.iter().map(|object| object["metadata"]["name"].as_str().unwrap().to_owned());
        names.filter(|name| name.starts_with("system:controller:")).collect()
    };
    assert_eq!(names(cluster_roles()), names(cluster_role_bindings()));
    let policy = policy(Vec::new());
    for (account, can, cannot) in [
        ("endpoint-controller", "create /endpoints a", "create /pods a"),
        ("cronjob-controller", "watch /pods", "create /pods a"),
        ("attachdetach-controller", "create storage.k8s.io/volumeattachments", "delete /nodes - a"),
        ("statefulset-controller", "list /persistentvolumeclaims", "patch /persistentvolumeclaims a b"),
    ] {
        let account = user(&format!("system:serviceaccount:kube-system:{account}"), &[]);
        assert!(granted(&policy, &account, can), "{account:?} {can}");
        assert!(!granted(&policy, &account, cannot), "{account:?} {cannot}");
    }
}

#[test]
fn on_upstreams_api_server_two_objects_let_our_controllers_work() {
    let [role, binding] = controllers_on_upstream();
    let policy = Policy::new(Objects {
        cluster_roles: typed(vec![role]),
        cluster_role_bindings: typed(vec![binding]),
        ..Objects::default()
    });
    let who = user("system:kube-controller-manager", &[]);
    for request in [
        "patch apps/deployments/status a b",
        "create /pods a",
        "escalate rbac.authorization.k8s.io/clusterroles - x",
    ] {
        assert!(granted(&policy, &who, request), "{request}");
    }
    assert!(!granted(&policy, &who, "create rbac.authorization.k8s.io/clusterrolebindings"));
}

fn granted(policy: &Policy, user: &UserInfo, request_text: &str) -> bool {
    policy.authorize(&request(user, request_text)).is_allowed()
}

#[test]
fn each_identity_can_do_its_work_and_no_more() {
    let policy = policy(Vec::new());
    let cases = [
        ("kubernetes-admin", "monoplane:cluster-admins", "delete /secrets a b", true),
        ("kubernetes-admin", "monoplane:cluster-admins", "post path:/anything", true),
        ("system:kube-controller-manager", "-", "create apps/replicasets a", true),
        ("system:kube-controller-manager", "-", "update apps/deployments/status a b", true),
        ("system:kube-controller-manager", "-", "create apps/controllerrevisions a", true),
        ("system:kube-controller-manager", "-", "create /persistentvolumeclaims a", true),
        ("system:kube-controller-manager", "-", "patch policy/poddisruptionbudgets/status a b", true),
        ("system:kube-controller-manager", "-", "get example.com/widgets/scale a b", true),
        ("system:kube-controller-manager", "-", "delete monoplane.dev/components a b", true),
        (
            "system:kube-controller-manager",
            "-",
            "create rbac.authorization.k8s.io/clusterrolebindings",
            false,
        ),
        ("system:kube-controller-manager", "-", "escalate rbac.authorization.k8s.io/clusterroles - x", false),
        ("system:kube-controller-manager", "-", "aggregate rbac.authorization.k8s.io/clusterroles - x", true),
        ("system:kube-scheduler", "-", "create /pods/binding a b", true),
        ("system:kube-scheduler", "-", "update /pods/status a b", true),
        ("system:kube-scheduler", "-", "get /secrets a b", false),
        ("system:kube-scheduler", "-", "watch resource.k8s.io/resourceslices", true),
        ("system:kube-scheduler", "-", "watch resource.k8s.io/deviceclasses", true),
        ("system:kube-scheduler", "-", "update resource.k8s.io/resourceclaims/status a b", true),
        ("system:kube-scheduler", "-", "update resource.k8s.io/resourceclaims/binding", true),
        (
            "system:kube-scheduler",
            "-",
            "arbitrary-node:update resource.k8s.io/resourceclaims/driver a b",
            false,
        ),
        ("system:monoplane:edge:one", "system:monoplane:edges", "watch monoplane.dev/components", true),
        (
            "system:monoplane:edge:one",
            "system:monoplane:edges",
            "patch monoplane.dev/components/status a b",
            true,
        ),
        ("system:monoplane:edge:one", "system:monoplane:edges", "patch monoplane.dev/components a b", false),
        ("system:monoplane:edge:one", "system:monoplane:edges", "get /secrets a b", false),
        // Kubelets are the node authorizer's.
        ("system:node:one", "system:nodes", "list /pods", false),
        ("bob", "-", "get path:/version", true),
        ("bob", "-", "get path:/openapi/v3", true),
        ("bob", "-", "create authorization.k8s.io/selfsubjectaccessreviews", true),
        ("bob", "-", "get /pods default a", false),
        ("bob", "-", "get path:/metrics", false),
    ];
    for (name, group, text, expected) in cases {
        let who = user(name, &[group]);
        assert_eq!(granted(&policy, &who, text), expected, "{name}: {text}");
    }
    let anonymous = UserInfo::anonymous();
    assert!(
        granted(&policy, &anonymous, "get path:/healthz") && !granted(&policy, &anonymous, "get path:/api")
    );
}

#[test]
fn view_edit_and_admin_hold_what_their_parts_do() {
    let binding = |role: &str| {
        json!({
            "metadata": {"name": role, "namespace": "red"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "User", "name": role}],
        })
    };
    let policy = policy(vec![binding("view"), binding("edit"), binding("admin")]);
    let can = |text: &str| ["view", "edit", "admin"].map(|name| granted(&policy, &user(name, &[]), text));
    assert_eq!(can("get /pods/log red a"), [true, true, true]);
    assert_eq!(can("list monoplane.dev/components red"), [true, true, true]);
    assert_eq!(can("get /secrets red a"), [false, true, true]);
    assert_eq!(can("update apps/deployments/scale red a"), [false, true, true]);
    assert_eq!(can("create rbac.authorization.k8s.io/roles red"), [false, false, true]);
    assert_eq!(can("get /pods blue a"), [false, false, false]);
    assert_eq!(can("update /pods/status red a"), [false, false, false]);
    // What stands behind a Service may lead into other namespaces (CVE-2021-25740).
    for kind in ["/endpoints", "discovery.k8s.io/endpointslices"] {
        assert_eq!(can(&format!("get {kind} red a")), [true, true, true]);
        for verb in ["create", "update", "patch", "delete", "deletecollection"] {
            assert_eq!(can(&format!("{verb} {kind} red a")), [false, false, false], "{verb} {kind}");
        }
    }
}

#[test]
fn the_tables_are_whole() {
    let names = |objects: &[Value]| -> HashSet<String> {
        let name =
            |object: &Value| format!("{}/{}", object["metadata"]["namespace"], object["metadata"]["name"]);
        let found: HashSet<String> = objects.iter().map(name).collect();
        assert_eq!(found.len(), objects.len());
        found
    };
    let (cluster, namespaced) = (names(&cluster_roles()), names(&roles()));
    names(&role_bindings());
    for binding in [cluster_role_bindings(), role_bindings()].concat() {
        let (role, namespace) = (&binding["roleRef"]["name"], &binding["metadata"]["namespace"]);
        assert!(
            cluster.contains(&format!("null/{role}")) || namespaced.contains(&format!("{namespace}/{role}"))
        );
    }
    let privileged: Vec<Value> = cluster_role_bindings()
        .into_iter()
        .filter(|binding| binding["roleRef"]["name"] == "cluster-admin")
        .flat_map(|binding| binding["subjects"].as_array().unwrap().clone())
        .map(|subject| subject["name"].clone())
        .collect();
    assert_eq!(privileged, ["system:masters", "monoplane:cluster-admins"]);
}

#[test]
fn tokens_and_certificates_let_their_holders_be_what_they_are_for_and_nothing_else() {
    let policy = policy(Vec::new());
    let holders = [
        ("system:bootstrap:abcdef", bootstrap_token::NODES, ["nodeclient"].as_slice()),
        ("system:bootstrap:abcdef", bootstrap_token::EDGES, &["edgeclient"]),
        ("system:node:one", "system:nodes", &["selfnodeclient", "nodeproxy"]),
        ("system:monoplane:edge:one", "system:monoplane:edges", &["selfedgeclient"]),
    ];
    for (name, group, rights) in holders {
        let who = user(name, &[group]);
        let may = |what: &str| {
            let request = format!("create certificates.k8s.io/certificatesigningrequests{what}");
            granted(&policy, &who, &request)
        };
        // A node's own is the node authorizer's matter.
        assert_eq!(may(""), group != "system:nodes", "{name} {group}");
        for right in ["nodeclient", "selfnodeclient", "nodeproxy", "edgeclient", "selfedgeclient"] {
            assert_eq!(may(&format!("/{right}")), rights.contains(&right), "{name} {group} {right}");
        }
        assert!(!granted(&policy, &who, "list /secrets a"), "{name} {group}");
    }
}

#[test]
fn the_bootstrap_identity_installs_before_any_role_is_stored() {
    let authorizer = BootstrapAuthorizer::default();
    let who = user("system:apiserver", &["system:monoplane:bootstrap"]);
    assert!(
        authorizer.authorize(&request(&who, "create rbac.authorization.k8s.io/clusterroles")).is_allowed()
    );
    assert!(!authorizer.authorize(&request(&who, "get /secrets a b")).is_allowed());
    let other = user("system:apiserver", &[]);
    assert!(
        !authorizer.authorize(&request(&other, "create rbac.authorization.k8s.io/clusterroles")).is_allowed()
    );
}

#[test]
fn reconciling_adds_what_is_missing_and_keeps_what_was_added() {
    for role in [cluster_roles(), roles()].concat() {
        assert_eq!(reconcile_role(&role, None), Step::Create(role.clone()));
        assert_eq!(reconcile_role(&role, Some(&role)), Step::Nothing);
    }
    for binding in [cluster_role_bindings(), role_bindings()].concat() {
        assert_eq!(reconcile_binding(&binding, None), Step::Create(binding.clone()));
        assert_eq!(reconcile_binding(&binding, Some(&binding)), Step::Nothing);
    }
    let wanted =
        cluster_roles().into_iter().find(|role| role["metadata"]["name"] == "system:discovery").unwrap();
    let mut stored = wanted.clone();
    let extra = json!({"verbs": ["get"], "nonResourceURLs": ["/mine"]});
    stored["rules"] = json!([extra]);
    stored["metadata"]["labels"] = json!({"mine": "yes"});
    let Step::Update(updated) = reconcile_role(&wanted, Some(&stored)) else { panic!("no update") };
    assert_eq!(updated["rules"], json!([extra, wanted["rules"][0]]));
    assert_eq!(updated["metadata"]["labels"]["mine"], "yes");
    assert_eq!(reconcile_role(&wanted, Some(&updated)), Step::Nothing);
    stored["metadata"]["annotations"] = json!({"rbac.authorization.kubernetes.io/autoupdate": "false"});
    assert_eq!(reconcile_role(&wanted, Some(&stored)), Step::Nothing);

    let wanted = cluster_role_bindings().into_iter().next().unwrap();
    let mut stored = wanted.clone();
    let mine = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "me"});
    stored["subjects"] = json!([mine]);
    let Step::Update(updated) = reconcile_binding(&wanted, Some(&stored)) else { panic!("no update") };
    assert_eq!(updated["subjects"], json!([mine, wanted["subjects"][0]]));
    stored["roleRef"]["name"] = json!("view");
    assert_eq!(reconcile_binding(&wanted, Some(&stored)), Step::Replace(wanted));
}
