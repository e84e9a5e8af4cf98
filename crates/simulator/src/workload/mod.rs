//! What people do: a user who wants one thing after another, drawn by the seed. A kind of work is a file with its steps, and
//! a line in [`STEPS`].

mod budgets;
mod daemons;
mod deployments;
mod jobs;
mod machines;
mod namespaces;
mod objects;
mod stateful;

use std::sync::Arc;

use client::kube::ResourceExt;
use client::kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams,
    PropagationPolicy,
};
use client::{Client, Error};
use clock::Clock;
use futures::future::BoxFuture;
use pki::Identity;
use serde_json::{Value, json};

use crate::chance::Chance;
use crate::link::client;
use crate::process::Process;
use crate::world::World;

/// One thing that a user may do.
type Step = fn(&User) -> BoxFuture<'_, Result<(), Error>>;

/// Each with how often it is done, and how it is called in the trace.
const STEPS: [(usize, &str, Step); 25] = [
    (10, "deploys", deployments::create),
    (10, "scales a deployment", deployments::scale),
    (12, "rolls out", deployments::roll_out),
    (3, "pauses or resumes", deployments::pause),
    (4, "changes a strategy", deployments::change_strategy),
    (4, "deletes a deployment", deployments::delete),
    (5, "makes a replicaset", deployments::create_set),
    (5, "scales a replicaset", deployments::scale_set),
    (3, "deletes a replicaset", deployments::delete_set),
    (6, "deletes a pod", objects::delete_pod),
    (5, "makes a dependent", objects::dependent),
    (2, "deletes a namespace", namespaces::delete),
    (6, "cordons, drains or uncordons", machines::maintain),
    (5, "makes a statefulset", stateful::create),
    (9, "changes a statefulset", stateful::change),
    (3, "deletes a statefulset", stateful::delete),
    (4, "makes a daemonset", daemons::create),
    (5, "changes a daemonset", daemons::change),
    (2, "deletes a daemonset", daemons::delete),
    (7, "makes a job", jobs::create),
    (4, "changes a job", jobs::change),
    (2, "deletes a job", jobs::delete),
    (3, "makes a cronjob", jobs::create_cron),
    (5, "makes or changes a budget", budgets::change),
    (5, "evicts pods", budgets::evict),
];

/// Where users work.
const NAMESPACES: [&str; 2] = ["red", "blue"];
/// What they call things.
const NAMES: [&str; 3] = ["api", "cache", "web"];

/// The user.
pub struct User {
    client: Client,
    chance: Chance,
    world: Arc<World>,
}

impl std::fmt::Debug for User {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("User")
    }
}

impl User {
    /// One who has done nothing yet.
    pub fn new(world: &Arc<World>) -> Self {
        let process = Process::new("user".to_owned(), None, world.clock.clone());
        let client = client(world, &process, Identity::Admin, "kubectl");
        Self { client, chance: Chance::of(world.seed, "user"), world: world.clone() }
    }

    /// Makes the namespaces, and something in them.
    pub async fn begin(&self) {
        for namespace in NAMESPACES {
            self.outcome("makes a namespace", namespaces::create(self, namespace).await);
        }
        for _ in 0..2 {
            self.outcome("deploys", deployments::create(self).await);
        }
        self.outcome("makes a statefulset", stateful::create(self).await);
        self.outcome("makes a daemonset", daemons::create(self).await);
        self.outcome("makes a cronjob", jobs::create_cron(self).await);
        for _ in 0..2 {
            self.outcome("makes or changes a budget", budgets::change(self).await);
        }
    }

    /// Does one thing.
    pub async fn step(&self) {
        let mut lot = self.chance.below(STEPS.iter().map(|(weight, ..)| weight).sum());
        for (weight, name, step) in STEPS {
            if lot < weight {
                return self.outcome(name, step(self).await);
            }
            lot -= weight;
        }
    }

    /// Leaves the plane in a state in which all that was asked for can be had.
    pub async fn end(&self) {
        loop {
            let ended = async {
                namespaces::create_all(self).await?;
                jobs::let_all_end(self).await?;
                machines::uncordon_all(self).await
            };
            match ended.await {
                Ok(()) => return,
                Err(error) => self.outcome("cleans up", Err(error)),
            }
            self.world.clock.sleep(self.chance.milliseconds(200, 1_000)).await;
        }
    }

    fn outcome(&self, step: &str, outcome: Result<(), Error>) {
        match outcome {
            Ok(()) => self.world.trace.tell(format_args!("the user {step}")),
            Err(error) => self.world.trace.tell(format_args!("the user {step}: {error}")),
        }
    }

    fn namespace(&self) -> &'static str {
        NAMESPACES[self.chance.below(NAMESPACES.len())]
    }

    fn name(&self) -> &'static str {
        NAMES[self.chance.below(NAMES.len())]
    }

    fn api(&self, resource: &ApiResource, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, resource)
    }

    /// The name of one that there is.
    async fn existing(&self, resource: &ApiResource, namespace: &str) -> Result<Option<String>, Error> {
        let found = self.api(resource, namespace).list(&ListParams::default()).await?.items;
        Ok((!found.is_empty()).then(|| self.chance.pick(&found).name_any()))
    }

    async fn make(&self, resource: &ApiResource, namespace: &str, object: Value) -> Result<(), Error> {
        let object = serde_json::from_value(object).map_err(Error::SerdeError)?;
        self.api(resource, namespace).create(&PostParams::default(), &object).await.map(drop)
    }

    async fn change(
        &self,
        resource: &ApiResource,
        namespace: &str,
        name: &str,
        patch: Value,
    ) -> Result<(), Error> {
        let api = self.api(resource, namespace);
        api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
    }

    /// Changes what one that there is should be, by a function of its name; where there is none, makes one.
    async fn change_or_make(
        &self,
        resource: ApiResource,
        spec: impl FnOnce(&str) -> Value,
        make: Step,
    ) -> Result<(), Error> {
        let namespace = self.namespace();
        match self.existing(&resource, namespace).await? {
            Some(name) => self.change(&resource, namespace, &name, json!({ "spec": spec(&name) })).await,
            None => make(self).await,
        }
    }

    /// Deletes one, if there is any.
    async fn remove_one(&self, resource: ApiResource) -> Result<(), Error> {
        let namespace = self.namespace();
        match self.existing(&resource, namespace).await? {
            Some(name) => self.remove(&resource, namespace, &name).await,
            None => Ok(()),
        }
    }

    async fn remove(&self, resource: &ApiResource, namespace: &str, name: &str) -> Result<(), Error> {
        let policy = self.chance.pick(&[
            PropagationPolicy::Background,
            PropagationPolicy::Foreground,
            PropagationPolicy::Orphan,
        ]);
        let params = DeleteParams { propagation_policy: Some(policy.clone()), ..DeleteParams::default() };
        self.api(resource, namespace).delete(name, &params).await.map(drop)
    }
}
