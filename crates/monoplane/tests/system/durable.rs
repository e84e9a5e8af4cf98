//! Durable functions: what was promised happens once, whatever is killed in between.

use harness::{Answer, Plane, eventually, send};

use crate::start;

const ORDER: &[u8] = include_bytes!("../../../../examples/order/order.wasm");

fn deploy(plane: &Plane) {
    plane.apply("apiVersion: monoplane.dev/v1alpha1\nkind: KeyValueStore\nmetadata: {name: orders}\nspec: {embedded: {}}\n");
    let rest = "  keyValue: [{name: default, store: orders}]\n  durable: {suspendAfter: 1s}\n";
    plane.apply(&harness::component("order", "order.test", ORDER, rest));
    plane.kubectl_ok(&["wait", "--for=condition=Ready", "component/order", "--timeout=60s"]);
}

fn place(plane: &Plane, id: &str, seconds: u32, headers: &[&str]) -> Option<Answer> {
    let key = format!("idempotency-key: {id}");
    let headers: Vec<&str> = std::iter::once(key.as_str()).chain(headers.iter().copied()).collect();
    let body = format!("{{\"item\":\"x\",\"sleepSeconds\":{seconds}}}");
    send(&plane.endpoint("gateway"), "order.test", "POST", "/orders", &headers, &body)
}

fn counts(plane: &Plane, id: &str) -> Option<(i64, i64)> {
    let answer = send(&plane.endpoint("gateway"), "order.test", "GET", &format!("/orders/{id}"), &[], "")?;
    let value: serde_json::Value = serde_json::from_str(&answer.body).ok()?;
    Some((value["placed"].as_i64()?, value["confirmed"].as_i64()?))
}

#[test]
fn an_id_is_invoked_once() {
    let plane = start(&["--disable", "node"]);
    deploy(&plane);
    let first = place(&plane, "a", 0, &[]).expect("an answer");
    assert_eq!(first.status, 200, "{first:?}");
    let again = place(&plane, "a", 0, &[]).expect("an answer");
    assert_eq!((again.status, again.body), (200, first.body));
    assert_eq!(counts(&plane, "a"), Some((1, 1)));
    let other = place(&plane, "a", 1, &[]).expect("an answer");
    assert_eq!(other.status, 422, "another request under the same id: {other:?}");
}

#[test]
fn a_sleep_outlives_every_process() {
    let mut plane = start(&["--disable", "node"]);
    deploy(&plane);
    let accepted = place(&plane, "b", 8, &["prefer: respond-async"]).expect("an answer");
    assert_eq!(accepted.status, 202, "{accepted:?}");
    eventually("the order is recorded", || (counts(&plane, "b")? == (1, 0)).then_some(()));
    for _ in 0..3 {
        plane.kill_everything_of(&["up", "server", "edge"]);
        plane.up();
    }
    let confirmed =
        eventually("the order is confirmed", || place(&plane, "b", 8, &[]).filter(|a| a.status == 200));
    assert!(confirmed.body.contains("confirmedAt"), "{confirmed:?}");
    assert_eq!(counts(&plane, "b"), Some((1, 1)));
}
