//! How a write travels: decoded, defaulted, admitted, validated, encoded once, committed, and seen by readers before its
//! writer is answered.

use std::sync::Arc;
use std::time::Duration;

use apimachinery::json;
use apimachinery::status::Status;
use bytes::Bytes;
use serde_json::Value;
use store::{Error, Expect, Txn, Write};

use crate::admit::{Attributes, Operation};
use crate::cache::{Extract, Item};
use crate::claims::{Choices, Claims};
use crate::encode::{Encoded, encode, encode_as};
use crate::managing::{self, Writing};
use crate::modify::Target;
use crate::tree::{map, object, text};
use crate::{Kind, Object, Part, Patch, Registry, RequestContext, Updated, decode, meta};

/// How often a generated name is tried.
const NAME_ATTEMPTS: usize = 8;

/// Bytes of an object that fit into a transaction in any case, beside its key and claims.
const MAX_BYTES: usize = store::MAX_TXN_BYTES - (1 << 14);

/// An object ready to be committed.
pub(crate) struct Draft {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) encoded: Encoded,
    pub(crate) extract: Extract,
    pub(crate) claims: Claims,
}

/// What a write requires of the key that it writes.
#[derive(Clone, Copy)]
pub(crate) enum Requires {
    Absent,
    Revision(u64),
}

/// The store cannot be asked, or refuses what it should not.
pub(crate) fn unavailable(error: Error) -> Status {
    match error {
        Error::Invalid(why) => Status::request_entity_too_large(why),
        // As upstream's when etcd has no space: nobody is told to try again at once.
        Error::Full | Error::Waiting => Status::internal_error(error),
        other => Status::service_unavailable(other.to_string()),
    }
}

impl Registry {
    pub(crate) async fn write_new(
        &self,
        cx: &RequestContext,
        kind: &Arc<Kind>,
        namespace: &str,
        body: Value,
    ) -> Result<Object, Status> {
        self.begin_new(cx, kind, namespace, body, false).await
    }

    /// The same of a body that says itself who manages what.
    pub(crate) async fn write_applied_new(
        &self,
        cx: &RequestContext,
        kind: &Arc<Kind>,
        namespace: &str,
        body: Value,
    ) -> Result<Object, Status> {
        self.begin_new(cx, kind, namespace, body, true).await
    }

    async fn begin_new(
        &self,
        cx: &RequestContext,
        kind: &Arc<Kind>,
        namespace: &str,
        mut body: Value,
        applied: bool,
    ) -> Result<Object, Status> {
        if !kind.verbs.contains(&"create") {
            return Err(Status::method_not_supported(&kind.resource.name, "create"));
        }
        decode::decode(cx, kind, &mut body)?;
        decode::place(kind, namespace, None, &mut body)?;
        if !text(&body, &["metadata", "resourceVersion"]).is_empty() {
            return Err(Status::bad_request("resourceVersion should not be set on objects to be created"));
        }
        kind.strategy.default(&mut body);
        if !applied {
            Writing::new(cx, self, kind, Part::Whole).created(&mut body)?;
        }
        let name = text(&body, &["metadata", "name"]).to_owned();
        let attributes = Attributes {
            operation: Operation::Create,
            kind,
            subresource: "",
            namespace,
            name: &name,
            old: None,
            dry_run: cx.dry_run,
            warnings: &cx.warnings,
        };
        cx.admission.mutate(attributes, &mut body).await?;
        // Webhooks may have named it, and must not have moved it.
        decode::place(kind, namespace, None, &mut body)?;
        let name = text(&body, &["metadata", "name"]).to_owned();
        meta::begin(&mut body, cx.now, self.options.random.as_ref());
        meta::name_owners_once(cx, &mut body);
        kind.strategy.stamp(&mut body, cx.now);
        let mut attempts = if name.is_empty() { NAME_ATTEMPTS } else { 1 };
        loop {
            attempts -= 1;
            // What is made of one name must not outlive it, should another have to be tried.
            let mut body = if attempts > 0 { body.clone() } else { std::mem::take(&mut body) };
            let name = self.name_of(&name, &mut body);
            self.prepare_new(kind, &mut body);
            self.check_new(cx, kind, &name, &body)?;
            cx.admission.validate(Attributes { name: &name, ..attributes }, Some(&body)).await?;
            match self.commit_new(cx, kind, namespace, &name, &mut body).await {
                Ok(object) => return Ok(object),
                Err(status) if status.is_already_exists() && attempts > 0 => {}
                Err(status) if status.is_already_exists() && is_generated(&body) => {
                    return Err(Status::generate_name_conflict(&kind.resource.name, &name));
                }
                Err(status) => return Err(status),
            }
        }
    }

    fn prepare_new(&self, kind: &Kind, body: &mut Value) {
        let rules = &kind.rules;
        if rules.status {
            if !rules.status_on_create {
                map(body).remove("status");
            }
            if !kind.custom {
                object(body, "status");
            }
        }
        kind.strategy.prepare_create(body);
        if rules.generation != crate::strategy::Generation::None {
            object(body, "metadata").insert("generation".into(), 1.into());
        }
    }

    /// The object's name; a generated one where only its beginning is given.
    fn name_of(&self, given: &str, body: &mut Value) -> String {
        if !given.is_empty() {
            return given.to_owned();
        }
        let metadata = object(body, "metadata");
        let base = metadata.get("generateName").and_then(Value::as_str).unwrap_or_default();
        if base.is_empty() {
            return String::new();
        }
        let name = meta::generated(base, self.options.random.as_ref());
        metadata.insert("name".into(), name.clone().into());
        name
    }

    fn check_new(&self, cx: &RequestContext, kind: &Kind, name: &str, body: &Value) -> Result<(), Status> {
        let mut errors = meta::validate(kind, body);
        kind.strategy.validate(body, &mut errors);
        kind.strategy.validate_rules(body, None, &mut errors, &cx.warnings);
        if !errors.is_empty() {
            return Err(Status::invalid(&kind.resource.kind, name, errors));
        }
        for warning in kind.strategy.warnings(body) {
            cx.warnings.add(warning);
        }
        Ok(())
    }

    async fn commit_new(
        &self,
        cx: &RequestContext,
        kind: &Arc<Kind>,
        namespace: &str,
        name: &str,
        body: &mut Value,
    ) -> Result<Object, Status> {
        let mut choices = Choices::default();
        loop {
            let claims = choices.keep(kind.strategy.claim(&self.ranges, body, None)?)?;
            let draft = draft(kind, namespace, name, body, claims).await?;
            if cx.dry_run {
                return match self.item(kind, namespace, name) {
                    Ok(_) => Err(self.already_exists(kind, namespace, name)),
                    Err(_) => {
                        let body = unversioned(kind, &draft).await?;
                        Ok(Object { head: kind.head.clone(), body, revision: 0 })
                    }
                };
            }
            let claimed = draft.claims.clone();
            match self.commit(kind, draft, Requires::Absent).await {
                Ok(item) => return kind.object(&item).await,
                Err(Error::Conflict { key, .. }) if claimed.concerns(&key) => {
                    claimed.retract(kind, name, &key, body)?;
                }
                Err(Error::Conflict { .. }) => return Err(self.already_exists(kind, namespace, name)),
                Err(error) => return Err(unavailable(error)),
            }
        }
    }

    /// Says so, and that it is about to go where it is: to wait is then the thing to do.
    fn already_exists(&self, kind: &Kind, namespace: &str, name: &str) -> Status {
        let mut status = Status::already_exists(&kind.resource.name, name);
        let there = self.item(kind, namespace, name).and_then(|item| item.tree());
        if there.is_ok_and(|object| apimachinery::meta::is_deleting(&object)) {
            status.message.insert_str(0, "object is being deleted: ");
        }
        status
    }

    /// Commits and waits until readers see it.
    pub(crate) async fn commit(
        &self,
        kind: &Kind,
        draft: Draft,
        requires: Requires,
    ) -> Result<Arc<Item>, Error> {
        let resource = &kind.resource;
        let key = resource.store_key(&draft.namespace, &draft.name);
        let (expect, patience) = match requires {
            Requires::Absent => (Expect::Absent, Duration::ZERO),
            Requires::Revision(revision) => {
                (Expect::ModRevision(revision), kind.strategy.patience(&draft.namespace))
            }
        };
        let mut txn = Txn { expect: vec![(key.clone(), expect)], writes: Vec::with_capacity(1), patience };
        txn.writes.push(Write::Put(key.clone(), draft.encoded.stored.clone()));
        let stamp = |claim: &mut Value| {
            meta::begin(claim, self.options.clock.now(), self.options.random.as_ref());
        };
        draft.claims.add_to(&mut txn, |claim| {
            let text = String::from_utf8_lossy(claim);
            let kept = kind.strategy.claimed(&text, &draft.namespace, &draft.name, &stamp);
            kept.unwrap_or_else(|| key.clone())
        });
        let announced = self.pending.announce(key, draft.encoded.clone(), draft.extract.clone());
        let committed = self.store.commit(txn).await?;
        let seen = self.applied.reached(committed.revision).await;
        drop(announced);
        let short = resource.key(&draft.namespace, &draft.name);
        match resource.hub.get(&short).filter(|item| seen && item.revision == committed.revision) {
            Some(item) => Ok(item),
            // Somebody wrote again already: the writer is still told what it wrote.
            None => Ok(Arc::new(Item::new(short.into(), &draft.encoded, committed.revision, draft.extract))),
        }
    }

    /// Removes the object at exactly that revision and waits until readers see it. Gives the revision of the removal.
    pub(crate) async fn remove(&self, kind: &Kind, item: &Item, claims: &Claims) -> Result<u64, Error> {
        let (namespace, name) = item.names();
        let key = kind.resource.store_key(namespace, name);
        let mut txn = Txn {
            expect: vec![(key.clone(), Expect::ModRevision(item.revision))],
            writes: vec![Write::Delete(key.clone())],
            ..Txn::default()
        };
        claims.add_to(&mut txn, |_| key.clone());
        let committed = self.store.commit(txn).await?;
        self.applied.reached(committed.revision).await;
        Ok(committed.revision)
    }

    pub(crate) async fn write_over(
        &self,
        cx: &RequestContext,
        kind: &Arc<Kind>,
        namespace: &str,
        name: &str,
        part: Part,
        mut body: Value,
    ) -> Result<Updated, Status> {
        if part == Part::Scale {
            return self.replace_scale(cx, kind, namespace, name, body).await;
        }
        decode::decode(cx, kind, &mut body)?;
        decode::place(kind, namespace, Some(name), &mut body)?;
        let rules = &kind.rules;
        if part == Part::Whole && rules.create_on_update && self.item(kind, namespace, name).is_err() {
            if text(&body, &["metadata", "resourceVersion"]).is_empty() {
                let object = self.write_new(cx, kind, namespace, body).await?;
                return Ok(Updated { object, created: true });
            }
            return Err(Status::not_found(&kind.resource.name, name));
        }
        if part == Part::Whole && !rules.unconditional_update {
            meta::require_version(kind, name, &body)?;
        }
        let conditional = !text(&body, &["metadata", "resourceVersion"]).is_empty();
        self.modify(cx, Target { kind, namespace, name, part, conditional, applied: false }, |_| {
            Ok(body.clone())
        })
        .await
    }

    pub(crate) async fn write_patch(
        &self,
        cx: &RequestContext,
        kind: &Arc<Kind>,
        namespace: &str,
        name: &str,
        part: Part,
        patch: &Patch,
    ) -> Result<Updated, Status> {
        if part == Part::Scale {
            return self.patch_scale(cx, kind, namespace, name, patch).await;
        }
        let conditional = crate::patching::names_version(patch);
        let target = Target { kind, namespace, name, part, conditional, applied: false };
        self.modify(cx, target, |old| {
            let mut new = crate::patching::apply(kind, old, patch)?;
            decode::decode(cx, kind, &mut new)?;
            decode::place(kind, namespace, Some(name), &mut new)?;
            Ok(new)
        })
        .await
    }
}

/// Encodes a tree of this version, and takes out what selectors look at. What could not be read back is refused.
pub(crate) async fn draft(
    kind: &Kind,
    namespace: &str,
    name: &str,
    body: &Value,
    claims: Claims,
) -> Result<Draft, Status> {
    let converted = kind.stored_form(body).await?;
    let stored = converted.as_ref().unwrap_or(body);
    let lean;
    let (stored, encoded) = match fit(kind, stored)? {
        Fit::Well(encoded) => (stored, encoded),
        // As upstream: who manages what is left out where there is no room for it.
        misfit => match managing::without(stored) {
            Some(without) => {
                lean = without;
                (&lean, fit(kind, &lean)?.encoded()?)
            }
            None => (stored, misfit.encoded()?),
        },
    };
    let extract = Extract::of(stored, &kind.resource.fields);
    Ok(Draft { namespace: namespace.to_owned(), name: name.to_owned(), encoded, extract, claims })
}

/// How an object fits into the store.
enum Fit {
    Well(Encoded),
    /// The store will say so.
    TooLong(Encoded),
    TooDeep,
}

impl Fit {
    fn encoded(self) -> Result<Encoded, Status> {
        match self {
            Self::Well(encoded) | Self::TooLong(encoded) => Ok(encoded),
            Self::TooDeep => {
                let why = format!("the object is nested deeper than {} levels", json::MAX_DEPTH);
                Err(Status::bad_request(why))
            }
        }
    }
}

fn fit(kind: &Kind, stored: &Value) -> Result<Fit, Status> {
    if json::depth(stored) > json::MAX_DEPTH {
        return Ok(Fit::TooDeep);
    }
    let encoded = encode_as(stored, kind.stored_as()).map_err(Status::internal_error)?;
    let is_long = encoded.stored.len() > MAX_BYTES;
    Ok(if is_long { Fit::TooLong(encoded) } else { Fit::Well(encoded) })
}

fn is_generated(body: &Value) -> bool {
    !text(body, &["metadata", "generateName"]).is_empty()
}

/// The body of a write that was not committed, without a resourceVersion.
pub(crate) async fn unversioned(kind: &Kind, draft: &Draft) -> Result<Bytes, Status> {
    let item = Item::new(draft.name.as_str().into(), &draft.encoded, 0, draft.extract.clone());
    let tree = kind.tree(&item).await?;
    encode(&tree).map(|encoded| encoded.stored).map_err(Status::internal_error)
}
