//! The hands: carries plans out, and lays the server's answers over the readers.

use crate::World;
use crate::plan::{Action, Announce, Attempt, Create, Delete, Failure, Patch};
use client::kube::Error;
use client::kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, ListParams, PatchParams, PostParams, Preconditions,
};
use client::write::{is_already_exists, is_conflict, is_namespace_terminating, is_not_found};
use client::{EventRecorder, EventType};
use futures::StreamExt;
use futures::stream;
use k8s_openapi::api::core::v1::Namespace;

/// Writes in flight at once for one key: enough to be quick, few enough to leave others room.
const CONCURRENCY: usize = 16;

/// A write that did not work, and why.
#[derive(Debug, thiserror::Error)]
#[error("{} {}: {error}", verb(.failure.attempt), .failure.plural)]
pub struct ActError {
    /// As plans see it.
    pub failure: Failure,
    /// What the transport or the server said.
    #[source]
    pub error: Error,
}

fn verb(attempt: Attempt) -> &'static str {
    match attempt {
        Attempt::Create => "create",
        Attempt::Update => "update",
        Attempt::Delete => "delete",
    }
}

pub(crate) struct Actor {
    world: World,
    recorder: EventRecorder,
}

impl Actor {
    pub(crate) fn new(world: World, recorder: EventRecorder) -> Self {
        Self { world, recorder }
    }

    /// Carries out actions in order, runs of creates and of deletes together; ends at the first that fails.
    pub(crate) async fn perform(&self, actions: Vec<Action>) -> Result<(), ActError> {
        let mut actions = actions.into_iter().peekable();
        while let Some(action) = actions.next() {
            match action {
                Action::Create(first) => {
                    let mut run = vec![first];
                    while let Some(Action::Create(next)) =
                        actions.next_if(|next| matches!(next, Action::Create(_)))
                    {
                        run.push(next);
                    }
                    self.create_slowly(run).await?;
                }
                Action::Delete(first) => {
                    let mut run = vec![first];
                    while let Some(Action::Delete(next)) =
                        actions.next_if(|next| matches!(next, Action::Delete(_)))
                    {
                        run.push(next);
                    }
                    let deletes =
                        stream::iter(run).map(|delete| self.delete(delete)).buffer_unordered(CONCURRENCY);
                    first_error(deletes.collect().await)?;
                }
                Action::Patch(patch) => self.patch(patch).await?,
                Action::DeleteAll { resource, namespace } => {
                    let mut run = vec![(resource, namespace)];
                    while let Some(Action::DeleteAll { resource, namespace }) =
                        actions.next_if(|next| matches!(next, Action::DeleteAll { .. }))
                    {
                        run.push((resource, namespace));
                    }
                    let deletes =
                        stream::iter(run).map(|(resource, namespace)| self.delete_all(resource, namespace));
                    first_error(deletes.buffer_unordered(CONCURRENCY).collect().await)?;
                }
                Action::Finalize { namespace } => self.finalize(&namespace).await?,
                Action::Tell { regarding, kind, reason, message } => {
                    self.recorder.record_on(*regarding, kind, reason, message);
                }
            }
        }
        Ok(())
    }

    /// One, then two, then four…: a quota or a webhook that refuses all is asked once, not a thousand times.
    async fn create_slowly(&self, mut run: Vec<Create>) -> Result<(), ActError> {
        let mut batch = 1;
        while !run.is_empty() {
            let now: Vec<_> = run.drain(..batch.min(run.len())).collect();
            let creates = stream::iter(now).map(|create| self.create(create)).buffer_unordered(CONCURRENCY);
            first_error(creates.collect().await)?;
            batch *= 2;
        }
        Ok(())
    }

    async fn create(&self, create: Create) -> Result<(), ActError> {
        let Create { resource, namespace, object, announce, unless_exists } = create;
        let outcome = match serde_json::from_value::<DynamicObject>(object) {
            Ok(object) => self.api(&resource, &namespace).create(&PostParams::default(), &object).await,
            Err(error) => Err(Error::SerdeError(error)),
        };
        match outcome {
            Ok(object) => {
                self.tell_done(announce, object.metadata.name.as_deref().unwrap_or_default());
                self.world.wrote(&resource, object);
                Ok(())
            }
            // Nothing can be made in a namespace that goes away, and its objects go with it.
            Err(error) if is_namespace_terminating(&error) => Ok(()),
            Err(error) if unless_exists && is_already_exists(&error) => Ok(()),
            Err(error) => Err(self.tell_failed(announce, error, Attempt::Create, &resource)),
        }
    }

    async fn patch(&self, patch: Patch) -> Result<(), ActError> {
        let Patch { resource, key, subresource, body } = patch;
        let api = self.api(&resource, &key.namespace);
        let params = PatchParams::default();
        let body = client::kube::api::Patch::Merge(body);
        let outcome = match subresource {
            None => api.patch(&key.name, &params, &body).await,
            Some(subresource) => api.patch_subresource(subresource, &key.name, &params, &body).await,
        };
        match outcome {
            Ok(object) => {
                self.world.wrote(&resource, object);
                Ok(())
            }
            // The watch tells soon that it is gone.
            Err(error) if is_not_found(&error) => Ok(()),
            Err(error) => Err(failed(error, Attempt::Update, &resource)),
        }
    }

    async fn delete(&self, delete: Delete) -> Result<(), ActError> {
        let Delete { resource, key, uid, resource_version, propagation, immediately, announce } = delete;
        let exact = resource_version.is_some();
        let preconditions = Preconditions { uid: uid.clone(), resource_version };
        let params = DeleteParams {
            preconditions: Some(preconditions).filter(|p| p.uid.is_some() || p.resource_version.is_some()),
            propagation_policy: propagation,
            grace_period_seconds: immediately.then_some(0),
            ..DeleteParams::default()
        };
        match self.api(&resource, &key.namespace).delete(&key.name, &params).await {
            Ok(answer) => {
                self.tell_done(announce, &key.name);
                match answer.left() {
                    Some(object) if object.metadata.deletion_timestamp.is_some() => {
                        self.world.wrote(&resource, object)
                    }
                    _ => uid.into_iter().for_each(|uid| self.world.deleted(&resource, key.clone(), uid)),
                }
                Ok(())
            }
            Err(error) if is_not_found(&error) || (is_conflict(&error) && !exact) => {
                uid.into_iter().for_each(|uid| self.world.deleted(&resource, key.clone(), uid));
                Ok(())
            }
            Err(error) => Err(self.tell_failed(announce, error, Attempt::Delete, &resource)),
        }
    }

    async fn delete_all(&self, resource: ApiResource, namespace: String) -> Result<(), ActError> {
        let api = self.api(&resource, &namespace);
        match api.delete_collection(&DeleteParams::background(), &ListParams::default()).await {
            Ok(_) => Ok(()),
            Err(error) if is_not_found(&error) => Ok(()),
            Err(error) => Err(failed(error, Attempt::Delete, &resource)),
        }
    }

    async fn finalize(&self, namespace: &Namespace) -> Result<(), ActError> {
        let api: Api<Namespace> = Api::all(self.world.client().clone());
        let name = namespace.metadata.name.clone().unwrap_or_default();
        match api.replace_subresource("finalize", &name, &PostParams::default(), namespace).await {
            Ok(_) => Ok(()),
            Err(error) if is_not_found(&error) => Ok(()),
            Err(error) => Err(failed(error, Attempt::Update, &ApiResource::erase::<Namespace>(&()))),
        }
    }

    fn api(&self, resource: &ApiResource, namespace: &str) -> Api<DynamicObject> {
        let client = self.world.client().clone();
        if namespace.is_empty() {
            Api::all_with(client, resource)
        } else {
            Api::namespaced_with(client, namespace, resource)
        }
    }

    fn tell_done(&self, announce: Option<Announce>, name: &str) {
        if let Some(Announce { regarding, done: (reason, words), .. }) = announce {
            self.recorder.record_on(*regarding, EventType::Normal, reason, format!("{words}{name}"));
        }
    }

    fn tell_failed(
        &self,
        announce: Option<Announce>,
        error: Error,
        attempt: Attempt,
        resource: &ApiResource,
    ) -> ActError {
        let error = failed(error, attempt, resource);
        if let Some(Announce { regarding, failed: (reason, words), .. }) = announce {
            let message = format!("{words}{}", error.failure.message);
            self.recorder.record_on(*regarding, EventType::Warning, reason, message);
        }
        error
    }
}

fn failed(error: Error, attempt: Attempt, resource: &ApiResource) -> ActError {
    let message = match &error {
        Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    };
    ActError { failure: Failure { attempt, plural: resource.plural.clone(), message }, error }
}

fn first_error(outcomes: Vec<Result<(), ActError>>) -> Result<(), ActError> {
    outcomes.into_iter().collect()
}
