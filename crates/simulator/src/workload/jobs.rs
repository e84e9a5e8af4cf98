//! Jobs, once and at times.

use client::Error;
use client::kube::ResourceExt;
use client::kube::api::{ApiResource, ListParams};
use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use serde_json::{Value, json};

use super::deployments::template;
use super::{NAMESPACES, User};

fn jobs() -> ApiResource {
    ApiResource::erase::<Job>(&())
}

fn crons() -> ApiResource {
    ApiResource::erase::<CronJob>(&())
}

/// Pods that end: the machines let some of them fail.
fn ending(app: &str) -> Value {
    let mut template = template(app, 0);
    template["spec"]["restartPolicy"] = "Never".into();
    template
}

impl User {
    fn job(&self, app: &str, completions: usize) -> Value {
        let mode = *self.chance.pick(&["NonIndexed", "NonIndexed", "Indexed"]);
        json!({
            "completions": completions, "parallelism": 1 + self.chance.below(3), "completionMode": mode,
            "backoffLimit": self.chance.below(4), "template": ending(app),
        })
    }
}

pub fn create(user: &User) -> BoxFuture<'_, Result<(), Error>> {
    async {
        let (namespace, name) = (user.namespace(), format!("{}-work", user.name()));
        let job = json!({ "metadata": { "name": name }, "spec": user.job(&name, 1 + user.chance.below(5)) });
        user.make(&jobs(), namespace, job).await
    }
    .boxed()
}

/// Lets one have more pods at a time, or fewer, or none for now.
pub fn change(user: &User) -> BoxFuture<'_, Result<(), Error>> {
    let spec = |_: &str| match user.chance.below(2) {
        0 => json!({ "parallelism": 1 + user.chance.below(4) }),
        _ => json!({ "suspend": user.chance.in_a_thousand(500) }),
    };
    user.change_or_make(jobs(), spec, create).boxed()
}

pub fn delete(user: &User) -> BoxFuture<'_, Result<(), Error>> {
    user.remove_one(jobs()).boxed()
}

/// One for every minute, whose Jobs may take longer than that.
pub fn create_cron(user: &User) -> BoxFuture<'_, Result<(), Error>> {
    async {
        let (namespace, name) = (user.namespace(), format!("{}-cron", user.name()));
        let mut job = user.job(&name, *user.chance.pick(&[1, 6, 12]));
        job["parallelism"] = 1.into();
        let cron = json!({
            "metadata": { "name": name },
            "spec": {
                "schedule": "* * * * *", "jobTemplate": { "spec": job },
                "concurrencyPolicy": *user.chance.pick(&["Forbid", "Replace", "Allow"]),
                "successfulJobsHistoryLimit": user.chance.below(3), "failedJobsHistoryLimit": user.chance.below(2),
            },
        });
        user.make(&crons(), namespace, cron).await
    }
    .boxed()
}

/// No more Jobs by the clock, and none that waits for somebody.
pub async fn let_all_end(user: &User) -> Result<(), Error> {
    for (kind, suspend) in [(crons(), true), (jobs(), false)] {
        for namespace in NAMESPACES {
            for object in user.api(&kind, namespace).list(&ListParams::default()).await?.items {
                let patch = json!({ "spec": { "suspend": suspend } });
                match user.change(&kind, namespace, &object.name_any(), patch).await {
                    Err(error) if client::write::is_not_found(&error) => {}
                    outcome => outcome?,
                }
            }
        }
    }
    Ok(())
}
