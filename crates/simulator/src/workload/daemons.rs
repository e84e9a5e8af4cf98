//! DaemonSets.

use client::Error;
use client::kube::api::ApiResource;
use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::apps::v1::DaemonSet;
use serde_json::{Value, json};

use super::User;
use super::deployments::template;

fn sets() -> ApiResource {
    ApiResource::erase::<DaemonSet>(&())
}

impl User {
    /// Old pods go first, or new ones come first.
    fn daemon_strategy(&self) -> Value {
        let (surge, unavailable) =
            self.chance.pick(&[(0, json!(1)), (0, json!("50%")), (1, json!(0))]).clone();
        let rolling = json!({ "maxSurge": surge, "maxUnavailable": unavailable });
        json!({ "type": "RollingUpdate", "rollingUpdate": rolling })
    }
}

pub fn create(user: &User) -> BoxFuture<'_, Result<(), Error>> {
    async {
        let (namespace, name) = (user.namespace(), format!("{}-agent", user.name()));
        let set = json!({
            "metadata": { "name": name },
            "spec": {
                "updateStrategy": user.daemon_strategy(), "revisionHistoryLimit": 1 + user.chance.below(2),
                "selector": { "matchLabels": { "app": name } }, "template": template(&name, user.version()),
            },
        });
        user.make(&sets(), namespace, set).await
    }
    .boxed()
}

/// Rolls one out or back, or changes how that is done.
pub fn change(user: &User) -> BoxFuture<'_, Result<(), Error>> {
    let spec = |name: &str| match user.chance.below(4) {
        0 => json!({ "updateStrategy": user.daemon_strategy() }),
        _ => json!({ "template": template(name, user.version()) }),
    };
    user.change_or_make(sets(), spec, create).boxed()
}

pub fn delete(user: &User) -> BoxFuture<'_, Result<(), Error>> {
    user.remove_one(sets()).boxed()
}
