use auth::edge::{EdgeAuthorizer, Secrets};
use auth::{Authorizer, Decision};
use serde_json::{Value, json};

use crate::{request, user};

fn ingress(secrets: &[&str]) -> Value {
    let tls: Vec<Value> =
        secrets.iter().map(|name| json!({"hosts": ["a.test"], "secretName": name})).collect();
    json!({"spec": {"tls": tls}})
}

#[test]
fn an_edge_reads_the_secrets_that_objects_name() {
    let mut secrets = Secrets::default();
    secrets.set("ingresses", "red", "a", &ingress(&["one", "two"]));
    secrets.set("ingresses", "red", "b", &ingress(&["two", "three"]));
    secrets.set("ingresses", "red", "b", &ingress(&["two", ""]));
    secrets.set("ingresses", "blue", "a", &ingress(&["four"]));
    secrets.remove("ingresses", "blue", "a");
    secrets.remove("ingresses", "blue", "never");
    secrets.set("ingresses", "red", "a", &ingress(&["one"]));
    // Another kind's object of the same name, and one that was there before its kind was read anew.
    let store = json!({"spec": {"redis": {"address": "redis://cache", "secretName": "login"}}, "status": {"secretName": "no"}});
    secrets.set("keyvaluestores", "red", "a", &store);
    secrets.set("components", "red", "a", &json!({"spec": {"source": {"oci": {"secretName": "gone"}}}}));
    secrets.clear("components");
    let authorizer = EdgeAuthorizer::new(secrets);
    let edge = user("system:monoplane:edge:one", &["system:monoplane:edges"]);
    for (text, allowed) in [
        ("get /secrets red one", true),
        ("list /secrets red two", true),
        ("watch /secrets red two", true),
        ("update /secrets red one", false),
        ("get /secrets red login", true),
        ("get /secrets red no", false),
        ("get /secrets red gone", false),
        ("get /secrets red three", false),
        ("get /secrets blue one", false),
        ("get /secrets blue four", false),
        ("list /secrets red", false),
        ("list /secrets", false),
        ("get /configmaps red one", false),
    ] {
        let decided = matches!(authorizer.authorize(&request(&edge, text)), Decision::Allow(_));
        assert_eq!(decided, allowed, "{text}");
    }
    let other = user("someone", &["system:authenticated"]);
    let decided = authorizer.authorize(&request(&other, "get /secrets red one"));
    assert!(matches!(decided, Decision::NoOpinion(_)));
}
