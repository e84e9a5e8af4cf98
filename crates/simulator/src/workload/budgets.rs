//! Disruption budgets, and evictions that come up against them.

use client::Error;
use client::kube::api::{ApiResource, ListParams};
use client::write::is_already_exists;
use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde_json::{Value, json};

use super::{User, machines};

fn budgets() -> ApiResource {
    ApiResource::erase::<PodDisruptionBudget>(&())
}

impl User {
    /// Numbers or parts, of what must be or of what may be missing. In a patch each takes the place of the other.
    fn demand(&self) -> Value {
        let least = |least: Value| json!({ "minAvailable": least, "maxUnavailable": null });
        let most = |most: Value| json!({ "minAvailable": null, "maxUnavailable": most });
        let all = [least(json!(1)), least(json!(2)), least(json!(3)), least(json!("60%")), most(json!(1))];
        self.chance.pick(&all).clone()
    }
}

/// One over an app's pods: what it asks for, if there is such a one already.
pub fn change(user: &User) -> BoxFuture<'_, Result<(), Error>> {
    async {
        let (namespace, mut spec) = (user.namespace(), user.demand());
        let app = format!("{}{}", user.name(), user.chance.pick(&["", "", "-db"]));
        spec["selector"] = json!({ "matchLabels": { "app": app } });
        let budget = json!({ "metadata": { "name": app }, "spec": spec });
        match user.make(&budgets(), namespace, budget).await {
            Err(error) if is_already_exists(&error) => {
                user.change(&budgets(), namespace, &app, json!({ "spec": spec })).await
            }
            outcome => outcome,
        }
    }
    .boxed()
}

/// All pods of an app, one after the other, as far as its budget lets them go.
pub fn evict(user: &User) -> BoxFuture<'_, Result<(), Error>> {
    async {
        let app = format!("{}{}", user.name(), user.chance.pick(&["", "", "-db"]));
        machines::evict(user, &ListParams::default().labels(&format!("app={app}"))).await
    }
    .boxed()
}
