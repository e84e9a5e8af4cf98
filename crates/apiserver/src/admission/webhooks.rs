//! Admission webhooks: their configurations as they come and go, and the way to them.

use std::sync::Arc;
use std::time::Duration;

use admission::webhook::{Caller, Configured, Endpoint, Webhooks};
use async_trait::async_trait;
use auth::Authorizer;
use clock::{Clock, Random, Tasks};
use registry::{Kind, Object, Registry};
use serde_json::Value;

use crate::follow::{self, Follower};
use crate::{Outgoing, Post, Webhook};

/// Bytes of a webhook's answer: as many as a client may send us.
const ANSWER: usize = 3 << 20;
/// By what webhooks know who asks: upstream's.
const AGENT: &str = "kube-apiserver-admission";

pub(super) const GROUP: &str = "admissionregistration.k8s.io";
const FOLLOWED: [(&str, Configured); 2] = [
    ("mutatingwebhookconfigurations", Configured::Mutating),
    ("validatingwebhookconfigurations", Configured::Validating),
];

/// The webhooks that the stored configurations name, in step with those until the tasks end.
pub(crate) fn start(
    registry: &Arc<Registry>,
    outgoing: &Arc<Outgoing>,
    authorizer: Arc<dyn Authorizer>,
    (clock, random): (&Arc<dyn Clock>, Arc<dyn Random>),
    tasks: &Tasks,
) -> Arc<Webhooks> {
    let ways = Arc::new(Ways(outgoing.clone()));
    let webhooks = Arc::new(Webhooks::new(ways, authorizer, clock.clone(), random));
    for (plural, configured) in FOLLOWED {
        let follower = Arc::new(Configurations { webhooks: webhooks.clone(), configured });
        follow::start(follower, (GROUP, "v1", plural), registry, clock, tasks);
    }
    webhooks
}

/// The configurations of one kind.
struct Configurations {
    webhooks: Arc<Webhooks>,
    configured: Configured,
}

impl Follower for Configurations {
    fn replace(&self, _: &Kind, objects: Vec<Object>) {
        let configurations: Vec<Value> = objects.iter().map(Object::tree).collect();
        self.webhooks.replace(self.configured, &configurations);
    }

    fn set(&self, _: &Kind, object: &Object) {
        self.webhooks.set(self.configured, &object.tree());
    }

    fn remove(&self, _: &Kind, object: &Object) {
        let (_, name) = object.names();
        self.webhooks.remove(self.configured, &name);
    }
}

/// Ways to webhooks.
struct Ways(Arc<Outgoing>);

impl Caller for Ways {
    fn endpoint(&self, client_config: &Value) -> Result<Arc<dyn Endpoint>, String> {
        let webhook = Webhook::of(client_config).map_err(|error| error.to_string())?;
        Ok(Arc::new(Way { outgoing: self.0.clone(), webhook }))
    }
}

/// The way to one webhook; connections are kept by whom it goes through.
struct Way {
    outgoing: Arc<Outgoing>,
    webhook: Webhook,
}

#[async_trait]
impl Endpoint for Way {
    async fn call(&self, review: &Value, patience: Duration) -> Result<Value, String> {
        let how = Post { patience, told: true, limit: ANSWER, agent: AGENT };
        self.outgoing.post(&self.webhook, review, how).await.map_err(|error| error.to_string())
    }
}
