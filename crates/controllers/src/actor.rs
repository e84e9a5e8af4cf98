//! The hands: carries plans out, and lays the server's answers over the readers.

use crate::World;
use crate::plan::{Action, Announce, Attempt, Create, Delete, Failure, Lists, Patch};
use client::kube::Error;
use client::kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, ListParams, ObjectList, PatchParams, PostParams,
    Preconditions, Request,
};
use client::write::{is_already_exists, is_conflict, is_namespace_terminating, is_not_found};
use client::{EventRecorder, EventType, ObjectKey, ObjectMeta};
use futures::StreamExt;
use futures::stream;
use http::Method;
use http::header::{CONTENT_TYPE, HeaderValue};
use k8s_openapi::api::core::v1::Namespace;

/// Writes in flight at once for one key: enough to be quick, few enough to leave others room.
const CONCURRENCY: usize = 16;
/// Objects that one request takes away at most.
const PAGE: u32 = 500;

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

/// What an action is about: kind and name. What is yet to be made has no name: all of a kind counts as one, so that a quota
/// that refuses all is asked once.
#[derive(PartialEq)]
struct Object(String, ObjectKey);

impl Object {
    fn of(action: &Action) -> Option<Self> {
        match action {
            Action::Patch(Patch { resource, key, .. })
            | Action::Delete(Delete { resource, key, .. })
            | Action::Confirm { resource, key, .. } => Some(Self(resource.kind.clone(), key.clone())),
            Action::Tell { regarding, .. } => {
                let key = ObjectKey::new(
                    regarding.namespace.clone().unwrap_or_default(),
                    regarding.name.clone().unwrap_or_default(),
                );
                Some(Self(regarding.kind.clone().unwrap_or_default(), key))
            }
            Action::Create(Create { resource, namespace, .. }) => {
                Some(Self(resource.kind.clone(), ObjectKey::new(namespace.clone(), "")))
            }
            Action::DeleteAll { .. } | Action::Finalize { .. } => None,
        }
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

    /// Carries out actions that have nothing to do with each other but for those on one object, of which a failure ends only
    /// that object's; the first error is returned at the end.
    pub(crate) async fn perform_independently(&self, actions: Vec<Action>) -> Result<(), ActError> {
        let mut objects: Vec<(Option<Object>, Vec<Action>)> = Vec::new();
        for action in actions {
            let object = Object::of(&action);
            match objects.iter_mut().find(|(known, _)| known.is_some() && *known == object) {
                Some((_, theirs)) => theirs.push(action),
                None => objects.push((object, vec![action])),
            }
        }
        let performed = stream::iter(objects).map(|(_, actions)| self.perform(actions));
        first_error(performed.buffered(CONCURRENCY).collect().await)
    }

    /// Carries out actions in order, runs of creates and of deletes together; ends at the first that fails.
    pub(crate) async fn perform(&self, actions: Vec<Action>) -> Result<(), ActError> {
        let mut actions = actions.into_iter().peekable();
        while let Some(action) = actions.next() {
            match action {
                Action::Create(first) => {
                    let kind = first.resource.clone();
                    let mut run = vec![first];
                    while let Some(Action::Create(next)) = actions.next_if(
                        |next| matches!(next, Action::Create(Create { resource, .. }) if *resource == kind),
                    ) {
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
                Action::Confirm { resource, key, uid } => {
                    if !self.confirm(&resource, &key, uid.as_deref()).await? {
                        return Ok(());
                    }
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
            // One of this name that is not seen yet, or another's: nothing to tell people about at each attempt.
            Err(error) if is_already_exists(&error) => Err(failed(error, Attempt::Create, &resource)),
            Err(error) => Err(self.tell_failed(announce, error, Attempt::Create, &resource)),
        }
    }

    async fn patch(&self, patch: Patch) -> Result<(), ActError> {
        let Patch { resource, key, subresource, body, lists } = patch;
        let api = self.api(&resource, &key.namespace);
        let params = PatchParams::default();
        let body = match lists {
            Lists::Replaced => client::kube::api::Patch::Merge(body),
            Lists::ByKey => client::kube::api::Patch::Strategic(body),
        };
        let outcome = match subresource {
            None => api.patch(&key.name, &params, &body).await,
            Some(subresource) => api.patch_subresource(subresource, &key.name, &params, &body).await,
        };
        match outcome {
            // A scale is not the object that has it.
            Ok(_) if subresource == Some("scale") => Ok(()),
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
            Err(error) if self.went_all_the_same(&error, &resource, &key, uid.as_deref()).await => {
                self.tell_done(announce, &key.name);
                Ok(())
            }
            Err(error) => Err(self.tell_failed(announce, error, Attempt::Delete, &resource)),
        }
    }

    /// Whether what could not be deleted, by an error that leaves it open, is going or gone: whoever believes it undone would
    /// take another away in its place.
    async fn went_all_the_same(
        &self,
        error: &Error,
        resource: &ApiResource,
        key: &ObjectKey,
        uid: Option<&str>,
    ) -> bool {
        let (Some(uid), false) = (uid, is_refusal(error)) else { return false };
        let Ok(found) = self.api(resource, &key.namespace).get_opt(&key.name).await else { return false };
        match found.filter(|found| found.metadata.uid.as_deref() == Some(uid)) {
            Some(found) if found.metadata.deletion_timestamp.is_none() => return false,
            Some(going) => self.world.wrote(resource, going),
            None => self.world.deleted(resource, key.clone(), uid.to_owned()),
        }
        true
    }

    async fn delete_all(&self, resource: ApiResource, namespace: String) -> Result<(), ActError> {
        let api = self.api(&resource, &namespace);
        // In pages: a server should not have to hold all that there is of a kind for one request.
        let mut page = ListParams::default().limit(PAGE);
        loop {
            match self.delete_page(&api, &page).await {
                Ok(next) => page.continue_token = next,
                Err(error) if is_not_found(&error) => return Ok(()),
                Err(error) => return Err(failed(error, Attempt::Delete, &resource)),
            }
            if page.continue_token.as_ref().is_none_or(String::is_empty) {
                // Whoever wants all gone looks again anyway.
                return Ok(());
            }
        }
    }

    /// Takes away one page of a kind; where the next begins. (`Api::delete_collection` leaves out the page.)
    async fn delete_page(
        &self,
        api: &Api<DynamicObject>,
        page: &ListParams,
    ) -> Result<Option<String>, Error> {
        let mut request = Request::new(api.resource_url()).list(page).map_err(Error::BuildRequest)?;
        *request.method_mut() = Method::DELETE;
        *request.body_mut() = serde_json::to_vec(&DeleteParams::background()).map_err(Error::SerdeError)?;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let answer = self.world.client().request_status::<ObjectList<DynamicObject>>(request).await?;
        Ok(answer.left().and_then(|list| list.metadata.continue_))
    }

    async fn confirm(
        &self,
        resource: &ApiResource,
        key: &ObjectKey,
        uid: Option<&str>,
    ) -> Result<bool, ActError> {
        let found = self.api(resource, &key.namespace).get_metadata_opt(&key.name).await;
        let found = found.map_err(|error| failed(error, Attempt::Update, resource))?;
        let stays = |meta: &ObjectMeta| meta.uid.as_deref() == uid && meta.deletion_timestamp.is_none();
        Ok(found.is_some_and(|found| stays(&found.metadata)))
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
            let message = match words.split_once("{}") {
                Some((before, after)) => format!("{before}{name}{after}"),
                None => format!("{words}{name}"),
            };
            self.recorder.record_on(*regarding, EventType::Normal, reason, message);
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
    let message = client::message(&error);
    ActError { failure: Failure { attempt, plural: resource.plural.clone(), message }, error }
}

/// Whether the server says that it has not done it. Its own failures and the network's leave that open.
fn is_refusal(error: &Error) -> bool {
    matches!(error, Error::Api(status) if (400..500).contains(&status.code))
}

fn first_error(outcomes: Vec<Result<(), ActError>>) -> Result<(), ActError> {
    outcomes.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Settings;
    use crate::plan::{create, delete, patch, patch_status};
    use client::Ambient;
    use clock::{ManualClock, SeededRandom, Tasks};
    use k8s_openapi::api::core::v1::{ConfigMap, Pod};
    use serde_json::{Value, from_value, json};
    use std::sync::Arc;
    use testkit::FakeApi;

    fn actor() -> (FakeApi, Actor) {
        let clock = Arc::new(ManualClock::new("2026-01-02T03:04:05Z".parse().unwrap()));
        let ambient = Ambient { clock, random: Arc::new(SeededRandom::new(1)) };
        let (api, tasks) = (FakeApi::new(ambient.clone()), Tasks::default());
        let recorder = EventRecorder::start(api.client(), "test", None, ambient.clone(), &tasks);
        let world = World::new(api.client(), ambient, Settings::default(), tasks);
        (api, Actor::new(world, recorder))
    }

    async fn pod(api: &FakeApi, name: &str) -> Pod {
        let pods: Api<Pod> = Api::namespaced(api.client(), "x");
        let pod = from_value(json!({ "metadata": { "name": name } })).unwrap();
        pods.create(&PostParams::default(), &pod).await.unwrap()
    }

    fn names(api: &FakeApi) -> Vec<Value> {
        api.objects("pods").iter().map(|pod| pod["metadata"]["name"].clone()).collect()
    }

    #[tokio::test]
    async fn a_refused_write_leaves_other_objects_and_ends_its_own() {
        let (api, actor) = actor();
        let (mut stale, fresh) = (pod(&api, "a").await, pod(&api, "b").await);
        stale.metadata.resource_version = Some("77".into());
        let actions = || {
            let both = [&stale, &fresh].into_iter();
            both.flat_map(|pod| {
                [patch_status(pod, json!({ "phase": "Failed" })), Action::Delete(delete(pod))]
            })
        };
        actor.perform(actions().collect()).await.unwrap_err();
        assert_eq!(names(&api), ["a", "b"], "a plan in order ends where it fails");
        let error = actor.perform_independently(actions().collect()).await.unwrap_err();
        assert!(is_conflict(&error.error));
        assert_eq!(names(&api), ["a"], "the other one has gone; this one is not deleted unmarked");
    }

    #[tokio::test]
    async fn a_delete_without_an_answer_is_looked_after() {
        let (api, actor) = actor();
        let doomed = pod(&api, "a").await;
        let pods: Api<Pod> = Api::namespaced(api.client(), "x");
        api.refuse("DELETE", "pods", 500, "InternalError", "who knows");
        let delete_it = || actor.perform(vec![Action::Delete(delete(&doomed))]);
        delete_it().await.unwrap_err();
        api.accept();
        let hold = client::Patch::Merge(json!({ "metadata": { "finalizers": ["example.com/hold"] } }));
        pods.patch("a", &PatchParams::default(), &hold).await.unwrap();
        pods.delete("a", &DeleteParams::default()).await.unwrap();
        api.refuse("DELETE", "pods", 500, "InternalError", "who knows");
        delete_it().await.unwrap();
        let let_go = client::Patch::Merge(json!({ "metadata": { "finalizers": null } }));
        pods.patch("a", &PatchParams::default(), &let_go).await.unwrap();
        delete_it().await.unwrap();
        pod(&api, "a").await;
        delete_it().await.unwrap();
        assert_eq!(names(&api), ["a"], "another of its name is not meant");
        api.accept();
        api.refuse("DELETE", "pods", 403, "Forbidden", "never");
        delete_it().await.unwrap_err();
    }

    #[tokio::test]
    async fn what_is_made_of_one_kind_waits_for_what_is_made_of_another_before_it() {
        let (api, actor) = actor();
        let map = |name: &str| {
            let map: ConfigMap =
                from_value(json!({ "metadata": { "name": name, "namespace": "x" } })).unwrap();
            Action::Create(create(&map))
        };
        let made: Pod = from_value(json!({ "metadata": { "name": "pod", "namespace": "x" } })).unwrap();
        let plan = || vec![map("a"), map("b"), Action::Create(create(&made))];
        actor.perform(vec![map("b")]).await.unwrap();
        actor.perform(plan()).await.unwrap_err();
        assert_eq!(api.requests("POST", "pods"), 0, "the second map is there already");
        actor.perform(vec![map("c"), Action::Create(create(&made))]).await.unwrap();
        assert_eq!(names(&api), ["pod"]);
    }

    #[tokio::test]
    async fn a_plan_for_what_is_no_longer_so_is_not_carried_out() {
        let (api, actor) = actor();
        let (owner, pods) = (pod(&api, "owner").await, Api::<Pod>::namespaced(api.client(), "x"));
        let adopted = pod(&api, "adopted").await;
        let plan =
            || vec![crate::plan::confirm(&owner), patch(&adopted, json!({ "spec": { "nodeName": "n" } }))];
        let hold = client::Patch::Merge(json!({ "metadata": { "finalizers": ["example.com/hold"] } }));
        pods.patch("owner", &PatchParams::default(), &hold).await.unwrap();
        pods.delete("owner", &DeleteParams::default()).await.unwrap();
        actor.perform(plan()).await.unwrap();
        assert_eq!(api.requests("PATCH", "pods"), 1, "it is being deleted");
        let release = client::Patch::Merge(json!({ "metadata": { "finalizers": null } }));
        pods.patch("owner", &PatchParams::default(), &release).await.unwrap();
        actor.perform(plan()).await.unwrap();
        let other = pod(&api, "owner").await;
        actor.perform(plan()).await.unwrap();
        assert_eq!(api.requests("PATCH", "pods"), 2, "it is gone, and then it is another");
        let plan =
            vec![crate::plan::confirm(&other), patch(&adopted, json!({ "spec": { "nodeName": "n" } }))];
        actor.perform(plan).await.unwrap();
        assert_eq!(api.requests("PATCH", "pods"), 3);
    }

    #[tokio::test]
    async fn a_full_namespace_is_emptied_in_pages() {
        let (api, actor) = actor();
        for number in 0..=PAGE {
            pod(&api, &format!("p{number}")).await;
        }
        let resource = ApiResource::erase::<Pod>(&());
        actor.perform(vec![Action::DeleteAll { resource, namespace: "x".into() }]).await.unwrap();
        assert_eq!((names(&api).len(), api.requests("DELETE", "pods")), (0, 2));
    }
}
