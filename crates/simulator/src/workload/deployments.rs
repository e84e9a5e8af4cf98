//! Deployments, and ReplicaSets of nobody.

use client::Error;
use client::kube::api::ApiResource;
use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};

use super::User;

fn deployments() -> ApiResource {
    ApiResource::erase::<Deployment>(&())
}

fn sets() -> ApiResource {
    ApiResource::erase::<ReplicaSet>(&())
}

/// What the pods of an app are, in one of its versions.
pub(super) fn template(app: &str, version: usize) -> Value {
    json!({
        "metadata": { "labels": { "app": app } },
        "spec": {
            "terminationGracePeriodSeconds": 5,
            "containers": [{
                "name": "main", "image": format!("example.com/{app}:v{version}"),
                "resources": { "requests": { "cpu": "100m" } },
            }],
        },
    })
}

impl User {
    pub(super) fn version(&self) -> usize {
        self.chance.below(3)
    }

    fn strategy(&self) -> Value {
        if self.chance.in_a_thousand(200) {
            return json!({ "type": "Recreate", "rollingUpdate": null });
        }
        let surge = self.chance.pick(&[json!(0), json!(1), json!(2), json!("25%"), json!("50%")]).clone();
        let unavailable = self.chance.pick(&[json!(1), json!(0), json!(2), json!("25%")]).clone();
        // Both may not be nothing.
        let surge = if surge == 0 && unavailable == 0 { json!(1) } else { surge };
        json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": surge, "maxUnavailable": unavailable } })
    }
}

pub fn create(user: &User) -> BoxFuture<'_, Result<(), Error>> {
    async {
        let (namespace, name) = (user.namespace(), user.name());
        let selector = json!({ "app": name });
        let deployment = json!({
            "metadata": { "name": name },
            "spec": {
                "replicas": user.chance.below(6), "revisionHistoryLimit": 1 + user.chance.below(2),
                "minReadySeconds": *user.chance.pick(&[0, 0, 0, 2]),
                "selector": { "matchLabels": selector }, "template": template(name, user.version()),
                "strategy": user.strategy(),
            },
        });
        user.make(&deployments(), namespace, deployment).await?;
        let service = json!({
            "metadata": { "name": name }, "spec": { "selector": selector, "ports": [{ "port": 80 }] },
        });
        user.make(&ApiResource::erase::<Service>(&()), namespace, service).await
    }
    .boxed()
}

/// Changes one that there is; where there is none, makes one.
async fn change(user: &User, spec: impl FnOnce(&str) -> Value) -> Result<(), Error> {
    user.change_or_make(deployments(), spec, create).await
}

pub fn scale(user: &User) -> BoxFuture<'_, Result<(), Error>> {
    change(user, |_| json!({ "replicas": user.chance.below(7) })).boxed()
}

/// To another version, or back to one that was there before.
pub fn roll_out(user: &User) -> BoxFuture<'_, Result<(), Error>> {
    change(user, |name| json!({ "template": template(name, user.version()) })).boxed()
}

pub fn pause(user: &User) -> BoxFuture<'_, Result<(), Error>> {
    change(user, |_| json!({ "paused": user.chance.in_a_thousand(400) })).boxed()
}

pub fn change_strategy(user: &User) -> BoxFuture<'_, Result<(), Error>> {
    change(user, |_| json!({ "strategy": user.strategy() })).boxed()
}

pub fn delete(user: &User) -> BoxFuture<'_, Result<(), Error>> {
    user.remove_one(deployments()).boxed()
}

/// One that no Deployment owns.
pub fn create_set(user: &User) -> BoxFuture<'_, Result<(), Error>> {
    async {
        let (namespace, name) = (user.namespace(), format!("bare-{}", user.name()));
        let set = json!({
            "metadata": { "name": name },
            "spec": {
                "replicas": user.chance.below(5), "selector": { "matchLabels": { "app": name } },
                "template": template(&name, 0),
            },
        });
        user.make(&sets(), namespace, set).await
    }
    .boxed()
}

/// Whoever owns it: a Deployment takes back what was done to its own.
pub fn scale_set(user: &User) -> BoxFuture<'_, Result<(), Error>> {
    user.change_or_make(sets(), |_| json!({ "replicas": user.chance.below(6) }), create_set).boxed()
}

pub fn delete_set(user: &User) -> BoxFuture<'_, Result<(), Error>> {
    user.remove_one(sets()).boxed()
}
