//! Deletion: at once, after a period of grace, or when the last finalizer is gone.

use std::sync::Arc;

use apimachinery::gvk::GroupResource;
use apimachinery::meta as metadata;
use apimachinery::status::Status;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::admit::{Attributes, Operation};
use crate::cache::Item;
use crate::claims::Claims;
use crate::modify::Failed;
use crate::race::ATTEMPTS;
use crate::write::{Requires, draft, unversioned};
use crate::{DeleteOptions, Deleted, Kind, List, ListOptions, Object, Propagation, Registry, RequestContext};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
/// How many objects of a collection are deleted at the same time: they share the store's group commit.
const AT_ONCE: usize = 32;

/// What a deletion does to the object now.
enum Step {
    /// Nothing: it is under way already.
    Wait,
    /// The object is written with its deletionTimestamp.
    Mark(Value),
    /// The object goes.
    Remove,
}

impl Registry {
    pub(crate) async fn delete_one(
        &self,
        cx: &RequestContext,
        kind: &Arc<Kind>,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Deleted, Status> {
        if let Some(why) = kind.strategy.forbids_deletion(name) {
            return Err(Status::forbidden(&kind.resource.name, name, why));
        }
        if kind.rules.orphans && options.propagation.is_none() {
            kind.strategy.orphan_warning().into_iter().for_each(|warning| cx.warnings.add(warning));
        }
        self.fresh().await?;
        let mut race = self.race(kind, namespace, name);
        for _ in 0..ATTEMPTS {
            let item = self.item(kind, namespace, name)?;
            let old = kind.tree(&item).await?;
            let uid = metadata::uid(&old).to_owned();
            check_preconditions(kind, name, &old, options)?;
            let attributes = Attributes {
                operation: Operation::Delete,
                kind,
                subresource: "",
                namespace,
                name,
                old: Some(&old),
                dry_run: cx.dry_run,
                warnings: &cx.warnings,
            };
            cx.admission.validate(attributes, None).await?;
            let done = match step(kind, &old, options, cx.now) {
                Step::Wait => Ok((kind.object(&item).await?, false)),
                Step::Mark(new) => self.mark(cx, kind, &item, &new).await.map(|object| (object, false)),
                Step::Remove if cx.dry_run => Ok((kind.object(&item).await?, true)),
                Step::Remove => {
                    let claims = kind.strategy.release(&old);
                    match self.remove(kind, &item, &claims).await {
                        Ok(revision) => Ok((kind.object(&item.gone_at(revision)).await?, true)),
                        Err(error) => Err(error.into()),
                    }
                }
            };
            match done {
                Ok((object, gone)) => {
                    let shown = !gone || kind.rules.shows_deleted;
                    return Ok(Deleted { object, gone, shown, uid });
                }
                Err(Failed::Conflict(current)) => race.lost(current.as_deref()).await?,
                Err(Failed::Status(status)) => return Err(status),
            }
        }
        Err(Status::modified(&kind.resource.name, name))
    }

    async fn mark(
        &self,
        cx: &RequestContext,
        kind: &Kind,
        item: &Arc<Item>,
        new: &Value,
    ) -> Result<Object, Failed> {
        let (namespace, name) = item.names();
        let draft = draft(kind, namespace, name, new, Claims::default()).await?;
        if cx.dry_run {
            let body = unversioned(kind, &draft).await?;
            return Ok(Object { head: kind.head.clone(), body, revision: item.revision });
        }
        if item.is(&draft.encoded) {
            return Ok(kind.object(item).await?);
        }
        let item = self.commit(kind, draft, Requires::Revision(item.revision)).await?;
        Ok(kind.object(&item).await?)
    }

    pub(crate) async fn delete_many(
        &self,
        cx: &RequestContext,
        kind: &Arc<Kind>,
        namespace: &str,
        list: &ListOptions,
        options: &DeleteOptions,
    ) -> Result<List, Status> {
        let selected = self.read_list(kind, namespace, list).await?;
        let each = selected.objects().map(|object| {
            let (namespace, name) = object.names();
            (namespace, name, options.clone())
        });
        self.delete_each(cx, kind, each).await?;
        Ok(selected)
    }

    /// Deletes objects by namespace and name, some at a time. One that is gone already is fine; the first failure ends it.
    pub(crate) async fn delete_each(
        &self,
        cx: &RequestContext,
        kind: &Arc<Kind>,
        mut each: impl Iterator<Item = (String, String, DeleteOptions)> + Send,
    ) -> Result<(), Status> {
        let mut running = FuturesUnordered::new();
        loop {
            while running.len() < AT_ONCE
                && let Some((namespace, name, options)) = each.next()
            {
                running.push(self.delete_if_there(cx, kind, namespace, name, options));
            }
            match running.next().await {
                Some(done) => done?,
                None => return Ok(()),
            }
        }
    }

    // Boxed, because the compiler cannot tell otherwise that it may move between threads.
    fn delete_if_there<'a>(
        &'a self,
        cx: &'a RequestContext,
        kind: &'a Arc<Kind>,
        namespace: String,
        name: String,
        options: DeleteOptions,
    ) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            match self.delete_one(cx, kind, &namespace, &name, &options).await {
                Err(status) if !status.is_not_found() => Err(status),
                _ => Ok(()), // Where it is not found, somebody else was faster.
            }
        })
    }
}

fn check_preconditions(kind: &Kind, name: &str, old: &Value, options: &DeleteOptions) -> Result<(), Status> {
    // Upstream names the kind here, and not the resource.
    let about = GroupResource { group: kind.group.clone().into(), resource: kind.kind.clone().into() };
    let fail = |why: String| Err(Status::conflict(&about, name, why));
    if let Some(wanted) = options.uid.as_deref().filter(|wanted| *wanted != metadata::uid(old)) {
        let uid = metadata::uid(old);
        return fail(format!(
            "the UID in the precondition ({wanted}) does not match the UID in record ({uid}). The object might have been deleted and then recreated"
        ));
    }
    let version = metadata::resource_version(old);
    if let Some(wanted) = options.resource_version.as_deref().filter(|wanted| *wanted != version) {
        return fail(format!(
            "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record ({version}). The object might have been modified"
        ));
    }
    Ok(())
}

/// What has to happen to this object so that it goes.
fn step(kind: &Kind, old: &Value, options: &DeleteOptions, now: Timestamp) -> Step {
    let mut new = old.clone();
    let changed = set_dependents_finalizers(&mut new, options.propagation.or(propagation(kind, old)));
    if metadata::is_deleting(old) {
        return step_again(kind, new, old, options, changed);
    }
    kind.strategy.begin_deletion(&mut new, now);
    if let Some(grace) = kind.strategy.grace(old, options.grace_period_seconds) {
        mark(&mut new, now, grace);
        let held = metadata::has_finalizers(&new) || kind.strategy.is_held(&new);
        return if grace > 0 || held { Step::Mark(new) } else { Step::Remove };
    }
    if metadata::has_finalizers(&new) || kind.strategy.is_held(&new) {
        mark(&mut new, now, 0);
        // A namespace is not held by grace, and upstream does not write any.
        if kind.strategy.is_held(&new) && !metadata::has_finalizers(&new) {
            metadata::set_deletion_grace_period(&mut new, None);
        }
        return Step::Mark(new);
    }
    Step::Remove
}

/// The same for one that is being deleted already: its grace can only become shorter.
fn step_again(kind: &Kind, mut new: Value, old: &Value, options: &DeleteOptions, changed: bool) -> Step {
    let held = metadata::has_finalizers(&new) || kind.strategy.is_held(&new);
    let left = metadata::deletion_grace_period(old).unwrap_or_default();
    if left == 0 {
        return match (held, changed) {
            (false, _) => Step::Remove,
            (true, true) => Step::Mark(new),
            (true, false) => Step::Wait,
        };
    }
    let wanted =
        options.grace_period_seconds.and_then(|_| kind.strategy.grace(old, options.grace_period_seconds));
    let Some(wanted) = wanted.filter(|wanted| *wanted < left) else {
        return if changed { Step::Mark(new) } else { Step::Wait };
    };
    if let Some(deadline) = metadata::deletion_timestamp(old) {
        let earlier = deadline.saturating_sub(SignedDuration::from_secs(left - wanted));
        metadata::set_deletion_timestamp(&mut new, earlier.ok());
    }
    metadata::set_deletion_grace_period(&mut new, Some(wanted));
    if wanted == 0 && !held { Step::Remove } else { Step::Mark(new) }
}

fn mark(object: &mut Value, now: Timestamp, grace: i64) {
    let deadline = now.saturating_add(SignedDuration::from_secs(grace)).unwrap_or(Timestamp::MAX);
    metadata::set_deletion_timestamp(object, Some(deadline));
    metadata::set_deletion_grace_period(object, Some(grace));
    let generation = metadata::generation(object);
    if generation > 0 {
        metadata::set_generation(object, generation + 1);
    }
}

/// What becomes of the dependents when nobody says so; `None` to leave it at what the object's finalizers say.
fn propagation(kind: &Kind, old: &Value) -> Option<Propagation> {
    let is_said = metadata::finalizers(old).any(|name| name == ORPHAN || name == FOREGROUND);
    (kind.rules.orphans && !is_said).then_some(Propagation::Orphan)
}

/// The finalizers that tell the garbage collector what to do about dependents. True if they have changed.
fn set_dependents_finalizers(object: &mut Value, propagation: Option<Propagation>) -> bool {
    let (add, remove): (Option<&str>, &[&str]) = match propagation {
        None => return false,
        Some(Propagation::Orphan) => (Some(ORPHAN), &[FOREGROUND]),
        Some(Propagation::Foreground) => (Some(FOREGROUND), &[ORPHAN]),
        Some(Propagation::Background) => (None, &[ORPHAN, FOREGROUND]),
    };
    let mut changed = false;
    for name in remove {
        changed |= metadata::remove_finalizer(object, name);
    }
    if let Some(name) = add {
        changed |= metadata::add_finalizer(object, name);
    }
    changed
}
