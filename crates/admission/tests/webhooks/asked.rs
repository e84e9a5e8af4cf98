//! Which webhooks are asked about a request, and what they are told.

use std::sync::Arc;
use std::time::Duration;

use admission::Operation;
use admission::webhook::{Configured, Webhooks};
use serde_json::{Value, json};

use crate::world::{Nobody, Servers, Write, allow, at, deny, grow, webhook, widget};

#[tokio::test]
async fn a_webhook_is_told_all_of_the_request() {
    let write = Write::with(&[allow()]).set(Configured::Validating, "c", &[json!({})]);
    let write = Write { operation: Operation::Update, old: Some(widget()), dry_run: true, ..write };
    let mut changed = widget();
    changed["size"] = json!(2);
    write.run(changed.clone()).await.unwrap();
    let heard = write.servers.heard.lock().unwrap();
    let (_, review, patience) = &heard[0];
    assert_eq!(*patience, Duration::from_secs(7));
    let uid = review["request"]["uid"].as_str().unwrap();
    assert_eq!(uid.len(), 36);
    let kind = json!({"group": "example.com", "version": "v1", "kind": "Widget"});
    let resource = json!({"group": "example.com", "version": "v1", "resource": "widgets"});
    assert_eq!(
        *review,
        json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": uid, "kind": kind, "resource": resource, "requestKind": kind, "requestResource": resource,
                "name": "a", "namespace": "work", "operation": "UPDATE",
                "userInfo": {"username": "bob", "groups": ["dev"]},
                "object": changed, "oldObject": widget(), "dryRun": true,
                "options": {"kind": "Options", "for": "UPDATE"},
            },
        })
    );
}

#[tokio::test]
async fn rules_and_selectors_choose() {
    let rule = |more: Value| {
        let mut rule = json!({"operations": ["CREATE"], "apiGroups": ["example.com"], "apiVersions": ["v1"],
            "resources": ["widgets"], "scope": "*"});
        for (name, value) in more.as_object().unwrap() {
            rule[name] = value.clone();
        }
        json!({"rules": [rule], "matchPolicy": "Exact"})
    };
    for (more, asked) in [
        (rule(json!({})), true),
        (rule(json!({"operations": ["UPDATE", "DELETE"]})), false),
        (rule(json!({"apiGroups": ["", "apps"]})), false),
        (rule(json!({"apiVersions": ["v2"]})), false),
        (rule(json!({"resources": ["widgets/*"]})), true),
        (rule(json!({"resources": ["widgets/status"]})), false),
        (rule(json!({"resources": ["*/status", "gadgets"]})), false),
        (rule(json!({"scope": "Namespaced"})), true),
        (rule(json!({"scope": "Cluster"})), false),
        (json!({"objectSelector": {"matchLabels": {"app": "x"}}}), true),
        (json!({"objectSelector": {"matchLabels": {"app": "y"}}}), false),
        (json!({"namespaceSelector": {"matchLabels": {"team": "blue"}}}), true),
        (
            json!({"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]}}),
            false,
        ),
        (json!({"rules": []}), false),
    ] {
        let write = Write::with(&[allow()]).set(Configured::Validating, "c", std::slice::from_ref(&more));
        write.run(widget()).await.unwrap();
        assert_eq!(!write.asked().is_empty(), asked, "{more}");
    }
}

#[tokio::test]
async fn a_namespace_that_is_not_there_matters_only_to_who_looks_at_it() {
    let selects = json!({"namespaceSelector": {"matchLabels": {"team": "blue"}}});
    let write = Write::with(&[allow()]).set(Configured::Validating, "c", &[selects]);
    let write = Write { namespace: "gone", ..write };
    assert_eq!(write.run(widget()).await.unwrap_err(), "404 NotFound namespaces \"gone\" not found");
    let elsewhere = json!({"rules": [], "namespaceSelector": {"matchLabels": {"team": "blue"}}});
    let write =
        Write { namespace: "gone", ..Write::with(&[]).set(Configured::Validating, "c", &[elsewhere]) };
    write.run(widget()).await.unwrap();
}

#[tokio::test]
async fn configurations_of_admission_are_nobodys_but_the_servers() {
    let write = Write::with(&[deny()]).set(Configured::Validating, "c", &[at("deny", json!({}))]);
    let write = write.set(Configured::Mutating, "c", &[at("deny", json!({}))]);
    let of = |group, plural| Write {
        group,
        plural,
        servers: write.servers.clone(),
        webhooks: write.webhooks.clone(),
        ..Write::with(&[])
    };
    of("admissionregistration.k8s.io", "validatingwebhookconfigurations").run(widget()).await.unwrap();
    of("admissionregistration.k8s.io", "validatingadmissionpolicies").run(widget()).await.unwrap();
    of("other.example.com", "validatingwebhookconfigurations").run(widget()).await.unwrap_err();
}

#[tokio::test]
async fn equivalent_versions_are_asked_about_in_the_version_that_the_rule_names() {
    let of_v2 = json!([{"operations": ["*"], "apiGroups": ["example.com"], "apiVersions": ["v2"], "resources": ["widgets"]}]);
    let grows = at("grow", json!({"rules": of_v2}));
    let write = Write::with(&[grow(), allow()])
        .set(Configured::Mutating, "c", std::slice::from_ref(&grows))
        .set(Configured::Validating, "c", &[json!({"rules": of_v2})]);
    let write = Write { operation: Operation::Update, old: Some(widget()), ..write };
    let changed = write.run(widget()).await.unwrap();
    assert_eq!((&changed["size"], &changed["apiVersion"]), (&json!(2), &json!("example.com/v1")));
    for (_, review, _) in write.servers.heard.lock().unwrap().iter() {
        let request = &review["request"];
        assert_eq!(
            (&request["kind"]["version"], &request["resource"]["version"]),
            (&json!("v2"), &json!("v2"))
        );
        assert_eq!(request["requestKind"]["version"], "v1");
        assert_eq!(request["object"]["apiVersion"], "example.com/v2");
        assert_eq!(request["oldObject"]["extent"], 1);
    }
    let exact = at("grow", json!({"rules": of_v2, "matchPolicy": "Exact"}));
    let write = Write::with(&[grow()]).set(Configured::Mutating, "c", &[exact]);
    assert_eq!(write.run(widget()).await.unwrap()["size"], 1);
}

#[tokio::test]
async fn who_does_something_is_not_asked_about_what_will_not_happen() {
    let ignores = json!({"sideEffects": "Some", "failurePolicy": "Ignore"});
    let write = Write::with(&[allow()]).set(Configured::Mutating, "c", &[ignores]);
    let write = Write { dry_run: true, ..write };
    let refused = write.run(widget()).await.unwrap_err();
    assert_eq!(refused, "400 BadRequest admission webhook \"w.example.com\" does not support dry run");
    assert!(write.asked().is_empty());
}

#[tokio::test]
async fn configurations_come_and_go() {
    let write = Write::with(&[deny()]).set(Configured::Validating, "c", &[at("deny", json!({}))]);
    write.run(widget()).await.unwrap_err();
    write.webhooks.remove(Configured::Validating, "c");
    write.run(widget()).await.unwrap();
}

#[tokio::test]
async fn nobody_slips_through_before_the_webhooks_are_known() {
    let clock = Arc::new(clock::ManualClock::new("2026-01-01T00:00:00Z".parse().unwrap()));
    let random = Arc::new(clock::SeededRandom::new(7));
    let servers = Servers { answers: [deny()].into_iter().collect(), ..Servers::default() };
    let webhooks = Arc::new(Webhooks::new(Arc::new(servers), Arc::new(Nobody), clock.clone(), random));
    webhooks.replace(Configured::Mutating, &[]);
    let write = Write { webhooks: webhooks.clone(), ..Write::with(&[]) };
    let (run, learn) = (write.run(widget()), async {
        clock.until_sleepers(1).await;
        let configuration = json!({"metadata": {"name": "c"}, "webhooks": [webhook(&at("deny", json!({})))]});
        webhooks.replace(Configured::Validating, &[configuration]);
    });
    let (refused, ()) = futures::join!(run, learn);
    assert!(refused.unwrap_err().ends_with("denied the request: too big"));
    let unready = Arc::new(Webhooks::new(
        Arc::new(Servers::default()),
        Arc::new(Nobody),
        clock.clone(),
        Arc::new(clock::SeededRandom::new(8)),
    ));
    let write = Write { webhooks: unready, ..Write::with(&[]) };
    let (refused, ()) = futures::join!(write.run(widget()), async {
        clock.until_sleepers(1).await;
        clock.advance(Duration::from_secs(10));
    });
    assert_eq!(
        refused.unwrap_err(),
        "403 Forbidden widgets.example.com \"a\" is forbidden: not yet ready to handle request"
    );
}

#[tokio::test]
async fn conditions_keep_requests_from_a_webhook() {
    let with = |expressions: &[&str], policy: &str| {
        let conditions: Vec<Value> =
            expressions.iter().map(|one| json!({"name": "c", "expression": one})).collect();
        at("deny", json!({"matchConditions": conditions, "failurePolicy": policy}))
    };
    let run = async |expressions: &[&str], policy: &str| {
        let write = Write::with(&[deny()]).set(Configured::Validating, "c", &[with(expressions, policy)]);
        write.run(widget()).await.err().unwrap_or_default()
    };
    let denied = "403  admission webhook \"w.example.com\" denied the request: too big";
    assert_eq!(run(&["object.size == 1", "request.userInfo.username == 'bob'"], "Fail").await, denied);
    assert_eq!(run(&["object.size == 1", "oldObject != null"], "Fail").await, "");
    assert_eq!(run(&["authorizer.group('').resource('pods').check('get').allowed()"], "Fail").await, "");
    // One that does not hold counts, whatever is wrong with others; else the policy does.
    assert_eq!(run(&["object.none == 1", "false"], "Fail").await, "");
    assert_eq!(run(&["object.none == 1", "true"], "Ignore").await, "");
    assert_eq!(
        run(&["object.none == 1", "true"], "Fail").await,
        "403 Forbidden widgets.example.com \"a\" is forbidden: expression 'object.none == 1' resulted in error: no such \
         key: none"
    );
}

#[tokio::test]
async fn conditions_see_the_form_that_the_webhook_wants() {
    let of = |version: &str, field: &str, size: u8| {
        json!({
            "rules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": [version], "resources": ["widgets"]}],
            "matchConditions": [{"name": "c", "expression": format!("object.{field} == {size}")}],
        })
    };
    let hooks = [
        at("grow", of("v2", "extent", 1)),
        at("grow", of("v1", "size", 2)),
        at("grow", of("v2", "extent", 3)),
    ];
    let write = Write::with(&[grow()]).set(Configured::Mutating, "c", &hooks);
    let write = Write { operation: Operation::Update, old: Some(widget()), ..write };
    assert_eq!(write.run(widget()).await.unwrap()["size"], 4);
}
