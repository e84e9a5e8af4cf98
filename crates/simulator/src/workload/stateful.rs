//! StatefulSets.

use client::Error;
use client::kube::api::ApiResource;
use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::apps::v1::StatefulSet;
use serde_json::json;

use super::User;
use super::deployments::template;

fn sets() -> ApiResource {
    ApiResource::erase::<StatefulSet>(&())
}

pub fn create(user: &User) -> BoxFuture<'_, Result<(), Error>> {
    async {
        let (namespace, name) = (user.namespace(), format!("{}-db", user.name()));
        let policy = *user.chance.pick(&["OrderedReady", "OrderedReady", "Parallel"]);
        let set = json!({
            "metadata": { "name": name },
            "spec": {
                "replicas": user.chance.below(5), "podManagementPolicy": policy, "serviceName": name,
                "minReadySeconds": *user.chance.pick(&[0, 0, 0, 2]),
                "revisionHistoryLimit": 1 + user.chance.below(2),
                "selector": { "matchLabels": { "app": name } }, "template": template(&name, user.version()),
            },
        });
        user.make(&sets(), namespace, set).await
    }
    .boxed()
}

/// Scales one, or rolls it out or back.
pub fn change(user: &User) -> BoxFuture<'_, Result<(), Error>> {
    let spec = |name: &str| match user.chance.below(2) {
        0 => json!({ "replicas": user.chance.below(5) }),
        _ => json!({ "template": template(name, user.version()) }),
    };
    user.change_or_make(sets(), spec, create).boxed()
}

pub fn delete(user: &User) -> BoxFuture<'_, Result<(), Error>> {
    user.remove_one(sets()).boxed()
}
