//! Components through the gateway: fresh instances, swapped stores, clear conditions.

use harness::{Plane, Redis, eventually, send};

use crate::start;

const ECHO: &[u8] = include_bytes!("../../../../examples/echo/echo.wasm");
const SHORTENER: &[u8] = include_bytes!("../../../../examples/shortener/shortener.wasm");

fn component(name: &str, guest: &[u8], rest: &str) -> String {
    harness::component(name, &format!("{name}.test"), guest, rest)
}

fn ready(plane: &Plane, kind: &str, name: &str) {
    plane.kubectl_ok(&["wait", "--for=condition=Ready", &format!("{kind}/{name}"), "--timeout=60s"]);
}

#[test]
fn each_request_gets_a_fresh_instance() {
    let plane = start(&["--disable", "node"]);
    plane.apply(&component("echo", ECHO, ""));
    ready(&plane, "component", "echo");
    let gateway = plane.endpoint("gateway");
    for word in ["one", "two", "three"] {
        let answer =
            send(&gateway, "echo.test", "GET", "/", &[&format!("x-echo: {word}")], "").expect("an answer");
        assert_eq!((answer.status, answer.body.trim()), (200, format!("{word} 1").as_str()));
    }
    let nowhere = send(&gateway, "nobody.test", "GET", "/", &[], "").expect("an answer");
    assert_eq!(nowhere.status, 404);
    plane.kubectl_ok(&["delete", "component", "echo"]);
    eventually("the route is gone", || {
        (send(&gateway, "echo.test", "GET", "/", &[], "")?.status == 404).then_some(())
    });
}

#[test]
fn the_edge_lives_in_a_limited_control_group_of_its_own() {
    if !harness::is_root() {
        eprintln!("skipped: control groups need root");
        return;
    }
    let plane = start(&["--disable", "node"]);
    let groups = |role: &str| {
        std::fs::read_to_string(format!("/proc/{}/cgroup", plane.pid(role))).expect("the role's groups")
    };
    // The controllers that limit: on a v2 machine one line, on v1 one each.
    let own = |text: &str| text.lines().filter(|line| line.contains("monoplane-test-")).count();
    let edge = groups("edge");
    assert!(own(&edge) > 0 && edge.lines().any(|line| line.ends_with("/edge")), "{edge}");
    assert_eq!(own(&groups("server")), 0);
}

#[test]
fn a_store_changes_its_backend_under_a_running_component() {
    let redis = Redis::start();
    let plane = start(&["--disable", "node", "--egress-allow", &format!("127.0.0.1:{}", redis.port)]);
    let store = |backend: &str| {
        plane.apply(&format!("apiVersion: monoplane.dev/v1alpha1\nkind: KeyValueStore\nmetadata: {{name: links}}\nspec: {backend}\n"));
    };
    store("{embedded: {}}");
    plane.apply(&component("short", SHORTENER, "  keyValue: [{name: default, store: links}]\n"));
    ready(&plane, "component", "short");
    let gateway = plane.endpoint("gateway");
    let shorten = |url: &str| {
        let made = send(&gateway, "short.test", "POST", "/", &[], url).expect("an answer");
        assert_eq!(made.status, 201, "{made:?}");
        made.header("location").expect("a location").to_owned()
    };
    let follow = |path: &str| send(&gateway, "short.test", "GET", path, &[], "").expect("an answer");
    let first = shorten("https://example.com/first");
    assert_eq!(follow(&first).header("location"), Some("https://example.com/first"));

    let generation = plane.get(&["component", "short"])["metadata"]["generation"].clone();
    store(&format!("{{redis: {{address: 'redis://127.0.0.1:{}'}}}}", redis.port));
    eventually("the store is Redis", || (follow(&first).status == 404).then_some(()));
    let second = shorten("https://example.com/second");
    assert_eq!(follow(&second).header("location"), Some("https://example.com/second"));
    assert!(redis.keys() > 0, "the link is in Redis");
    store("{embedded: {}}");
    eventually("the store is embedded again", || (follow(&first).status == 302).then_some(()));
    assert_eq!(
        plane.get(&["component", "short"])["metadata"]["generation"],
        generation,
        "the component was untouched"
    );
}

#[test]
fn what_cannot_run_says_why() {
    let plane = start(&["--disable", "node"]);
    plane.apply(&component("broken", b"\0asm not a component", ""));
    plane.apply(&component("lonely", SHORTENER, "  keyValue: [{name: default, store: nowhere}]\n"));
    let reason = |name: &str| {
        let object = plane.get(&["component", name]);
        let conditions = object["status"]["conditions"].as_array()?.clone();
        let ready = conditions.into_iter().find(|c| c["type"] == "Ready" && c["status"] == "False")?;
        Some(ready["reason"].as_str()?.to_owned())
    };
    eventually("a broken component says so", || {
        ["SourceInvalid", "CompileFailed"].contains(&reason("broken")?.as_str()).then_some(())
    });
    eventually("a missing store is named", || (reason("lonely")? == "StoreNotFound").then_some(()));
}

#[test]
fn who_may_not_read_a_secret_or_use_a_store_cannot_lend_it_either() {
    let redis = Redis::start();
    redis.say("CONFIG SET requirepass p@ss/word");
    let plane = start(&["--disable", "node", "--egress-allow", &format!("127.0.0.1:{}", redis.port)]);
    plane.kubectl_ok(&[
        "create",
        "role",
        "author",
        "--verb=create,update,get",
        "--resource=components,keyvaluestores",
    ]);
    plane.kubectl_ok(&["create", "rolebinding", "author", "--role=author", "--user=anna"]);
    let store = format!(
        "apiVersion: monoplane.dev/v1alpha1\nkind: KeyValueStore\nmetadata: {{name: links}}\nspec: {{redis: {{address: 'redis://127.0.0.1:{}', secretName: login}}}}\n",
        redis.port
    );
    let refused = plane.kubectl_with(&["create", "-f", "-", "--as=anna"], &store);
    let expected = "spec.redis.secretName: to give a store the Secret login you must be allowed to get it";
    assert!(!refused.ok && refused.err.contains(expected), "{}", refused.err);

    // With a Secret that is missing, wrong and right, in this order.
    plane.apply(&store);
    let message = || {
        let path = "-o=jsonpath={.status.conditions[0].reason} {.status.conditions[0].message}";
        plane.kubectl_ok(&["get", "keyvaluestore", "links", path])
    };
    let says = |what: &str| eventually(what, || message().contains(what).then_some(()));
    says("SecretInvalid Secret login: it does not exist");
    plane.kubectl_ok(&["create", "secret", "generic", "login", "--from-literal=password=wrong"]);
    says("BackendUnavailable");
    plane.kubectl_ok(&["delete", "secret", "login"]);
    plane.kubectl_ok(&["create", "secret", "generic", "login", "--from-literal=password=p@ss/word"]);
    says("Ready the backend answers");

    let binding = "  keyValue: [{name: default, store: links}]\n";
    let short = component("short", SHORTENER, binding);
    let refused = plane.kubectl_with(&["create", "-f", "-", "--as=anna"], &short);
    let expected = "spec.keyValue: to bind the KeyValueStore links you need the verb use on it";
    assert!(!refused.ok && refused.err.contains(expected), "{}", refused.err);
    // kubectl's own command for roles knows no such verb of theirs.
    plane.apply(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: user}\nrules: [{apiGroups: [monoplane.dev], resources: [keyvaluestores], verbs: [use]}]\n",
    );
    plane.kubectl_ok(&["create", "rolebinding", "user", "--role=user", "--user=anna"]);
    eventually("anna may bind the store", || {
        plane.kubectl_with(&["create", "-f", "-", "--as=anna"], &short).ok.then_some(())
    });
    ready(&plane, "component", "short");
    let made = send(&plane.endpoint("gateway"), "short.test", "POST", "/", &[], "http://a.test/")
        .expect("an answer");
    assert_eq!(made.status, 201, "{made:?}");
}
