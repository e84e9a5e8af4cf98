//! Changing an object that exists: what update, patch, status, scale and finalize have in common.

use std::sync::Arc;

use apimachinery::status::Status;
use async_trait::async_trait;
use serde_json::Value;
use store::Error;

use crate::admit::{Attributes, Operation};
use crate::cache::Item;
use crate::claims::Choices;
use crate::managing::{self, Writing};
use crate::race::ATTEMPTS;
use crate::strategy::Generation;
use crate::tree::{at, copy, map, object, text};
use crate::write::{Requires, draft, unavailable, unversioned};
use crate::{Kind, Object, Part, Registry, RequestContext, Updated, decode, meta};

/// Which object a change is of.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) kind: &'a Arc<Kind>,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    pub(crate) part: Part,
    /// The client named a resourceVersion: when others get in between, it is told instead of tried again.
    pub(crate) conditional: bool,
    /// The change has already said who manages what.
    pub(crate) applied: bool,
}

/// What becomes of an object. It may be asked for more than once, while others get in between.
#[async_trait]
pub(crate) trait Change: Send + Sync {
    async fn of(&self, old: &Value) -> Result<Value, Status>;
}

/// What a function makes of it at once.
struct By<F>(F);

#[async_trait]
impl<F: Fn(&Value) -> Result<Value, Status> + Send + Sync> Change for By<F> {
    async fn of(&self, old: &Value) -> Result<Value, Status> {
        (self.0)(old)
    }
}

impl Registry {
    /// Makes `change` of the current object, again and again while others get in between.
    pub(crate) async fn modify(
        &self,
        cx: &RequestContext,
        target: Target<'_>,
        change: impl Fn(&Value) -> Result<Value, Status> + Send + Sync,
    ) -> Result<Updated, Status> {
        self.modify_by(cx, target, By(change)).await
    }

    /// The same with a change that may take time.
    pub(crate) async fn modify_by(
        &self,
        cx: &RequestContext,
        target: Target<'_>,
        change: impl Change,
    ) -> Result<Updated, Status> {
        let Target { kind, namespace, name, .. } = target;
        self.fresh().await?;
        let mut race = self.race(kind, namespace, name);
        for _ in 0..ATTEMPTS {
            let item = self.item(kind, namespace, name)?;
            let old = kind.tree(&item).await?;
            let mut new = change.of(&old).await?;
            let version = text(&new, &["metadata", "resourceVersion"]);
            if !version.is_empty() && version != text(&old, &["metadata", "resourceVersion"]) {
                return Err(meta::stale(kind, name, version));
            }
            self.shape(cx, target, &mut new, &old).await?;
            match self.finish(cx, kind, &item, &mut new, &old).await {
                Ok(object) => return Ok(Updated { object, created: false }),
                Err(Failed::Conflict(current)) if !target.conditional => {
                    race.lost(current.as_deref()).await?
                }
                Err(Failed::Conflict(_)) => return Err(Status::modified(&kind.resource.name, name)),
                Err(Failed::Status(status)) => return Err(status),
            }
        }
        Err(Status::modified(&kind.resource.name, name))
    }

    /// Brings a changed tree into the form in which it may be stored: defaults, admission, what may not change, checks.
    async fn shape(
        &self,
        cx: &RequestContext,
        target: Target<'_>,
        new: &mut Value,
        old: &Value,
    ) -> Result<(), Status> {
        let Target { kind, namespace, name, part, applied, .. } = target;
        kind.strategy.default(new);
        // As upstream: what admission adds is nobody's, and a binding is no change of the pod's fields.
        if !applied && part != Part::Binding {
            let writing = Writing::new(cx, self, kind, part);
            // As upstream: an update goes through though nobody can say what it is to managers of another version.
            let others = writing.others(managing::versions_of(old), old, new).await.unwrap_or_default();
            writing.changed(old, new, &others)?;
        }
        let attributes = Attributes {
            operation: Operation::Update,
            kind,
            subresource: part.name(),
            namespace,
            name,
            old: Some(old),
            dry_run: cx.dry_run,
            warnings: &cx.warnings,
        };
        match part {
            Part::Scale => self.admit_scale(cx, attributes, new).await?,
            _ => cx.admission.mutate(attributes, new).await?,
        }
        decode::place(kind, namespace, Some(name), new)?;
        let managed = managing::take(new);
        meta::keep(kind, new, old)?;
        meta::name_owners_once(cx, new);
        let errors = match part {
            Part::Status => {
                keep_all_but_status(kind, new, old);
                kind.strategy.prepare_status(new, old, cx.now);
                let mut errors = meta::validate_update(kind, new, old);
                kind.strategy.validate_status(new, old, &mut errors);
                kind.strategy.validate_rules(new, Some(old), &mut errors, &cx.warnings);
                errors
            }
            Part::Finalize => {
                keep_all_but_finalizers(new, old);
                Vec::new()
            }
            Part::Binding => meta::validate_update(kind, new, old),
            Part::EphemeralContainers | Part::Resize | Part::Approval => {
                kind.strategy.keep_part(part, new, old, cx.now);
                grow(kind, new, old);
                let mut errors = meta::validate_update(kind, new, old);
                kind.strategy.validate_part(part, new, old, &mut errors);
                errors
            }
            Part::Whole | Part::Scale => {
                if kind.rules.status {
                    copy(new, old, "status");
                }
                kind.strategy.stamp(new, cx.now);
                kind.strategy.prepare_update(new, old);
                grow(kind, new, old);
                let mut errors = meta::validate_update(kind, new, old);
                kind.strategy.validate_update(new, old, &mut errors);
                kind.strategy.validate_rules(new, Some(old), &mut errors, &cx.warnings);
                errors
            }
        };
        managing::put(new, managed);
        if !errors.is_empty() {
            return Err(Status::invalid(&kind.resource.kind, name, errors));
        }
        if part == Part::Whole {
            // A status says nothing that its writer could be warned of.
            kind.strategy.warnings(new).into_iter().for_each(|warning| cx.warnings.add(warning));
        }
        match part {
            Part::Scale => self.judge_scale(cx, attributes, new).await,
            _ => cx.admission.validate(attributes, Some(new)).await,
        }
    }

    /// Commits a changed object; removes it, when the change let go of the last thing that held it.
    async fn finish(
        &self,
        cx: &RequestContext,
        kind: &Arc<Kind>,
        item: &Arc<Item>,
        new: &mut Value,
        old: &Value,
    ) -> Result<Object, Failed> {
        let (namespace, name) = item.names();
        managing::forget_times(old, new);
        let let_go = meta::is_released(new, old) && !kind.strategy.is_held(new);
        let mut choices = Choices::default();
        loop {
            let claims = choices.keep(kind.strategy.claim(&self.ranges, new, Some(old))?)?;
            let draft = draft(kind, namespace, name, new, claims).await?;
            if cx.dry_run {
                let body = unversioned(kind, &draft).await?;
                return Ok(Object { head: kind.head.clone(), body, revision: item.revision });
            }
            let claimed = draft.claims.clone();
            let done = if let_go {
                let claims = kind.strategy.release(old);
                self.remove(kind, item, &claims).await.map(|revision| Arc::new(item.gone_at(revision)))
            } else if item.is(&draft.encoded) {
                Ok(item.clone())
            } else {
                self.commit(kind, draft, Requires::Revision(item.revision)).await
            };
            match done {
                Ok(item) => return Ok(kind.object(&item).await?),
                Err(Error::Conflict { key, .. }) if claimed.concerns(&key) => {
                    claimed.retract(kind, name, &key, new)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Why a change was not committed.
pub(crate) enum Failed {
    /// The object has changed meanwhile; what it is now.
    Conflict(Option<Box<store::Entry>>),
    Status(Status),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        match error {
            Error::Conflict { current, .. } => Self::Conflict(current),
            other => Self::Status(unavailable(other)),
        }
    }
}

impl From<Status> for Failed {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

/// A write of status changes the status, and what metadata the kind lets it change.
fn keep_all_but_status(kind: &Kind, new: &mut Value, old: &Value) {
    let mut kept = old.clone();
    copy(&mut kept, new, "status");
    if kind.rules.status_metadata {
        let mut metadata = kept.get("metadata").cloned().unwrap_or_default();
        for name in ["labels", "annotations", "finalizers"] {
            copy(&mut metadata, new.get("metadata").unwrap_or(&Value::Null), name);
        }
        map(&mut kept).insert("metadata".into(), metadata);
    }
    *new = kept;
}

fn keep_all_but_finalizers(new: &mut Value, old: &Value) {
    let finalizers = new.get("spec").and_then(|spec| spec.get("finalizers")).cloned();
    let mut kept = old.clone();
    let spec = object(&mut kept, "spec");
    match finalizers {
        Some(finalizers) => spec.insert("finalizers".into(), finalizers),
        None => spec.remove("finalizers"),
    };
    *new = kept;
}

/// Lets the generation grow if what it counts has changed.
fn grow(kind: &Kind, new: &mut Value, old: &Value) {
    let changed = match kind.rules.generation {
        Generation::None => return,
        Generation::Spec => new.get("spec") != old.get("spec"),
        Generation::SpecAndAnnotations => {
            let annotations = |tree: &Value| at(tree, &["metadata", "annotations"]).cloned();
            new.get("spec") != old.get("spec") || annotations(new) != annotations(old)
        }
        Generation::AllButMetadata => {
            let rest = |tree: &Value| -> Vec<(String, Value)> {
                let members = tree.as_object().into_iter().flatten();
                let counted = members.filter(|(name, _)| *name != "metadata");
                counted.map(|(name, value)| (name.clone(), value.clone())).collect()
            };
            rest(new) != rest(old)
        }
    };
    let generation = apimachinery::meta::generation(old) + i64::from(changed);
    apimachinery::meta::set_generation(new, generation);
}
