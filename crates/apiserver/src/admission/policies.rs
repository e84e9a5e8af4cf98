//! ValidatingAdmissionPolicies and their bindings as they come and go.

use std::sync::Arc;

use admission::policy::{Part, Policies};
use auth::Authorizer;
use clock::{Clock, Tasks};
use registry::{Kind, Object, Registry};
use serde_json::Value;

use super::webhooks::GROUP;
use crate::follow::{self, Follower};

const FOLLOWED: [(&str, Part); 2] =
    [("validatingadmissionpolicies", Part::Policy), ("validatingadmissionpolicybindings", Part::Binding)];

/// The policies that are stored, in step with those until the tasks end.
pub(crate) fn start(
    registry: &Arc<Registry>,
    authorizer: Arc<dyn Authorizer>,
    clock: &Arc<dyn Clock>,
    tasks: &Tasks,
) -> Arc<Policies> {
    let policies = Arc::new(Policies::new(authorizer, clock.clone()));
    for (plural, part) in FOLLOWED {
        let follower = Arc::new(Parts { policies: policies.clone(), part });
        follow::start(follower, (GROUP, "v1", plural), registry, clock, tasks);
    }
    policies
}

/// The objects of one kind.
struct Parts {
    policies: Arc<Policies>,
    part: Part,
}

impl Follower for Parts {
    fn replace(&self, _: &Kind, objects: Vec<Object>) {
        let objects: Vec<Value> = objects.iter().map(Object::tree).collect();
        self.policies.replace(self.part, &objects);
    }

    fn set(&self, _: &Kind, object: &Object) {
        self.policies.set(self.part, &object.tree());
    }

    fn remove(&self, _: &Kind, object: &Object) {
        let (_, name) = object.names();
        self.policies.remove(self.part, &name);
    }
}
