//! NetworkPolicies: defaults, and what is refused in upstream's words.

use serde_json::{Value, json};

use crate::world::World;

fn policy(spec: Value) -> Value {
    json!({"metadata": {"name": "a"}, "spec": spec})
}

#[tokio::test]
async fn a_policy_gets_its_types_and_protocols() {
    let world = World::new().await;
    let spec = json!({"podSelector": {"matchLabels": {"app": "a"}}, "ingress": [{"ports": [{"port": 80}]}]});
    let made = world.create("networkpolicies.networking.k8s.io", policy(spec)).await.unwrap();
    let expected = json!({
        "podSelector": {"matchLabels": {"app": "a"}}, "policyTypes": ["Ingress"],
        "ingress": [{"ports": [{"port": 80, "protocol": "TCP"}]}],
    });
    assert_eq!((&made["spec"], &made["metadata"]["generation"]), (&expected, &json!(1)));
    let row = world.row("networkpolicies.networking.k8s.io", "a").await;
    assert_eq!(row["Pod-Selector"], json!("app=a"));
    let both = json!({"metadata": {"name": "b"}, "spec": {"egress": [{}]}});
    let made = world.create("networkpolicies.networking.k8s.io", both).await.unwrap();
    assert_eq!(made["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
    assert_eq!(world.row("networkpolicies.networking.k8s.io", "b").await["Pod-Selector"], json!("<none>"));
}

#[tokio::test]
async fn what_is_wrong_is_said_as_upstream_says_it() {
    let world = World::new().await;
    for (spec, expected) in [
        (
            json!({"ingress": [{"ports": [{"protocol": "ICMP"}]}]}),
            "spec.ingress[0].ports[0].protocol: Unsupported value: \"ICMP\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
        ),
        (
            json!({"egress": [{"ports": [{"port": 90, "endPort": 80}]}]}),
            "spec.egress[0].ports[0].endPort: Invalid value: 90: must be greater than or equal to `port`",
        ),
        (
            json!({"egress": [{"ports": [{"port": "web", "endPort": 80}]}]}),
            "spec.egress[0].ports[0].endPort: Invalid value: 80: may not be specified when `port` is non-numeric",
        ),
        (
            json!({"egress": [{"ports": [{"endPort": 80}]}]}),
            "spec.egress[0].ports[0].endPort: Invalid value: 80: may not be specified when `port` is not specified",
        ),
        (
            json!({"ingress": [{"from": [{}]}]}),
            "spec.ingress[0].from[0]: Required value: must specify a peer",
        ),
        (
            json!({"ingress": [{"from": [{"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}}]}]}),
            "spec.ingress[0].from[0]: Forbidden: may not specify both ipBlock and another peer",
        ),
        (
            json!({"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0"}}]}]}),
            "spec.ingress[0].from[0].ipBlock.cidr: Invalid value: \"10.0.0.0\": must be a valid CIDR value, (e.g. \
             10.9.8.0/24 or 2001:db8::/64)",
        ),
        (
            json!({"egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8"]}}]}]}),
            "spec.egress[0].to[0].ipBlock.except[0]: Invalid value: \"10.0.0.0/8\": must be a strict subset of `cidr`",
        ),
        (
            json!({"policyTypes": ["Both"]}),
            "spec.policyTypes[0]: Unsupported value: \"Both\": supported values: \"Egress\", \"Ingress\"",
        ),
        (
            json!({"policyTypes": ["Ingress", "Ingress", "Egress"]}),
            "spec.policyTypes: Invalid value: [\"Ingress\",\"Ingress\",\"Egress\"]: may not specify more than two policyTypes",
        ),
    ] {
        let refused = world.create("networkpolicies.networking.k8s.io", policy(spec)).await.unwrap_err();
        assert_eq!(refused.message, format!("NetworkPolicy.networking.k8s.io \"a\" is invalid: {expected}"));
    }
}
