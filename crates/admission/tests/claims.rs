//! Claims on devices: who may have them beside others, and who may write which part of their status.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::sync::Arc;

use admission::plugins::{DeviceAdminAccess, ResourceClaimStatus};
use admission::{Attributes, Chain, Lookup, NoOptions, Operation, Options, Plugin};
use apimachinery::gvk::{GroupResource, GroupVersionKind};
use apimachinery::status::Status;
use apimachinery::warnings::Warnings;
use async_trait::async_trait;
use auth::{Authorizer, Decision, Target, UserInfo};
use serde_json::{Value, json};

const KIND: GroupVersionKind = GroupVersionKind::of("resource.k8s.io", "v1", "ResourceClaim");

/// Namespaces `open` and `closed`.
struct Namespaces;

#[async_trait]
impl Lookup for Namespaces {
    async fn get(&self, _: &GroupResource, _: &str, name: &str) -> Result<Option<Value>, Status> {
        let label = if name == "open" { "true" } else { "no" };
        Ok(Some(
            json!({"metadata": {"name": name, "labels": {"resource.kubernetes.io/admin-access": label}}}),
        ))
    }

    async fn list(&self, _: &GroupResource, _: &str) -> Result<Vec<Value>, Status> {
        Ok(Vec::new())
    }

    async fn replace_status(&self, _: &GroupResource, _: Value) -> Result<bool, Status> {
        Ok(true)
    }
}

/// Allows what it lists, as `user verb subresource namespace name`.
struct Grants(Vec<&'static str>);

impl Authorizer for Grants {
    fn authorize(&self, attributes: &auth::Attributes<'_>) -> Decision {
        let Target::Resource(target) = &attributes.target else { return Decision::nothing() };
        let (user, verb) = (&attributes.user.name, attributes.verb);
        let text = format!("{user} {verb} {} {} {}", target.subresource, target.namespace, target.name);
        match self.0.contains(&text.trim_end()) {
            true => Decision::Allow("".into()),
            false => Decision::NoOpinion("ask somebody else".into()),
        }
    }
}

#[derive(Debug)]
struct Patch;

impl Options for Patch {
    fn object(&self, _: Operation) -> Value {
        Value::Null
    }

    fn is_patch(&self) -> bool {
        true
    }
}

struct Request<'a> {
    resource: &'static str,
    namespace: &'static str,
    user: UserInfo,
    old: Option<Value>,
    options: &'a dyn Options,
}

impl Request<'_> {
    async fn run(&self, plugin: impl Plugin + 'static, object: Value) -> Result<(), String> {
        let resource = GroupResource::of("resource.k8s.io", self.resource);
        let warnings = Warnings::default();
        let attributes = Attributes {
            operation: if self.old.is_some() { Operation::Update } else { Operation::Create },
            resource: &resource,
            version: "v1",
            kind: &KIND,
            subresource: if self.old.is_some() { "status" } else { "" },
            namespace: self.namespace,
            name: "c",
            user: &self.user,
            old: self.old.as_ref(),
            warnings: &warnings,
            dry_run: false,
            options: self.options,
        };
        let chain = Chain::new(vec![Box::new(plugin)]);
        let result = chain.validate(&attributes, Some(&object), &Namespaces).await;
        result.map_err(|status| format!("{} {}", status.code, status.message))
    }
}

fn user(name: &str) -> UserInfo {
    UserInfo { name: name.to_owned(), ..UserInfo::default() }
}

#[tokio::test]
async fn admin_access_is_for_namespaces_that_allow_it() {
    let spec = |admin: bool| json!({"devices": {"requests": [{"name": "a", "exactly": {}}, {"name": "b", "exactly": {"adminAccess": admin}}]}});
    let result = json!({"status": {"allocation": {"devices": {"results": [{"adminAccess": true}]}}}});
    let why = "admin access to devices requires the `resource.kubernetes.io/admin-access: true` label on the containing \
               namespace";
    let cases = [
        ("resourceclaims", None, json!({"spec": spec(true)}), Some("spec.devices.requests[1]")),
        ("resourceclaims", None, json!({"spec": spec(false)}), None),
        (
            "resourceclaimtemplates",
            None,
            json!({"spec": {"spec": spec(true)}}),
            Some("spec.devices.requests[1]"),
        ),
        ("resourceclaims", Some(json!({})), result.clone(), Some("status.allocation.devices.results[0]")),
        ("resourceclaims", Some(result.clone()), result, None),
    ];
    for (resource, old, object, refused) in cases {
        for namespace in ["open", "closed"] {
            let request =
                Request { resource, namespace, user: user("u"), old: old.clone(), options: &NoOptions };
            let said = request.run(DeviceAdminAccess, object.clone()).await;
            let expected = refused.filter(|_| namespace == "closed").map(|at| {
                let kind =
                    if resource == "resourceclaims" { "ResourceClaim" } else { "ResourceClaimTemplate" };
                format!("422 {kind}.resource.k8s.io \"c\" is invalid: {at}.adminAccess: Forbidden: {why}")
            });
            assert_eq!(said.err(), expected, "{object} in {namespace}");
        }
    }
}

#[tokio::test]
async fn parts_of_a_status_take_permissions_of_their_own() {
    let given = |node: &str| {
        json!({"nodeSelector": {"nodeSelectorTerms": [
            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}]}})
    };
    let device =
        |driver: &str, data: i64| json!({"driver": driver, "pool": "p", "device": "d", "data": {"n": data}});
    let status =
        |allocation: Value, devices: Value| json!({"status": {"allocation": allocation, "devices": devices}});
    let old = status(given("n1"), json!([device("a", 1), device("b", 1)]));
    let driver_on = |node: &str| {
        let mut user = user("system:serviceaccount:drivers:a");
        user.extra.insert("authentication.kubernetes.io/node-name".into(), vec![node.into()]);
        user
    };
    let said = |changed: Value| status(given("n1"), changed);
    let of_a = said(json!([device("a", 2), device("b", 1)]));
    let of_b = said(json!([device("a", 1)]));
    let cases: [(UserInfo, Value, Option<&str>); 8] = [
        (user("scheduler"), status(given("n2"), old["status"]["devices"].clone()), None),
        (user("scheduler"), of_a.clone(), Some("status.devices: ")),
        (user("controller"), of_a.clone(), None),
        (driver_on("n1"), of_a.clone(), None),
        (driver_on("n2"), of_a, Some("verb=\"[arbitrary-node:update]\"")),
        (driver_on("n1"), of_b, Some("verb=\"[associated-node:update arbitrary-node:update]\"")),
        (driver_on("n1"), status(json!(null), old["status"]["devices"].clone()), Some("status: Forbidden: ")),
        (user("nobody"), old.clone(), None),
    ];
    let grants = || {
        ResourceClaimStatus::new(Arc::new(Grants(vec![
            "scheduler update binding",
            "controller arbitrary-node:update driver work a",
            "system:serviceaccount:drivers:a associated-node:update driver work a",
            "scheduler patch binding",
        ])))
    };
    for (user, object, refused) in cases {
        let request = Request {
            resource: "resourceclaims",
            namespace: "work",
            user: user.clone(),
            old: Some(old.clone()),
            options: &NoOptions,
        };
        match (request.run(grants(), object.clone()).await, refused) {
            (Ok(()), None) => {}
            (Err(said), Some(part)) => assert!(said.contains(part), "{said}"),
            (result, _) => panic!("{}: {object}: {result:?}", user.name),
        }
    }
    let by_patch = |name| Request {
        resource: "resourceclaims",
        namespace: "work",
        user: user(name),
        old: Some(json!({})),
        options: &Patch,
    };
    by_patch("scheduler").run(grants(), old.clone()).await.unwrap_err();
    let reserved = json!({"status": {"reservedFor": [{"uid": "u"}]}});
    by_patch("scheduler").run(grants(), reserved.clone()).await.unwrap();
    let refused = by_patch("nobody").run(grants(), reserved).await.unwrap_err();
    let expected = "422 ResourceClaim.resource.k8s.io \"c\" is invalid: status: Forbidden: changing status.allocation or \
                    status.reservedFor requires resource=\"resourceclaims/binding\", verb=\"patch\" permission: \
                    resourceclaims.resource.k8s.io is forbidden: User \"nobody\" cannot patch resource \
                    \"resourceclaims/binding\" in API group \"resource.k8s.io\" at the cluster scope: ask somebody else";
    assert_eq!(refused, expected);
}
