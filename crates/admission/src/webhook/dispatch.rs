//! Asking all webhooks that a request concerns: those that change objects one after the other, those that judge at once.

use std::collections::BTreeSet;

use apimachinery::status::Status;
use expressions::Inputs;
use futures::future::join_all;
use serde_json::Value;

use super::Webhooks;
use super::ask::{Question, apply};
use super::hook::Hook;
use crate::asker::{self, Asker};
use crate::lookup::Form;
use crate::matching::{is_exempt, own_form};
use crate::request::describe;
use crate::{Attributes, Lookup};

/// What the webhooks have made of one request so far, from the first time that they are asked to the second.
#[derive(Debug, Default)]
pub(crate) struct Round {
    is_second: bool,
    /// One of them has changed the object.
    has_changed: bool,
    /// Those that want to see later changes, and have seen no later one than their own.
    asked: BTreeSet<String>,
    /// Those that are asked once more.
    due: BTreeSet<String>,
    /// What they left behind the first time.
    left: Value,
}

impl Round {
    /// Whether the plugins see the object again, and then those webhooks that want to: once.
    pub(crate) fn goes_on(&mut self, object: &Value) -> bool {
        if self.is_second || !self.has_changed {
            return false;
        }
        self.is_second = true;
        self.left = object.clone();
        true
    }

    /// The object has changed since those that were asked saw it.
    fn changed(&mut self) {
        self.due.append(&mut self.asked);
    }

    fn is_asked(&self, hook: &Hook) -> bool {
        !self.is_second || self.due.contains(&hook.id)
    }
}

/// What is admitted, in the form in which somebody wants to see it.
struct Subject<'a> {
    attributes: &'a Attributes<'a>,
    form: Form,
    object: Option<&'a mut Value>,
    /// What it was, in that form, unless that is the request's own.
    old: Option<Value>,
}

impl<'a> Subject<'a> {
    fn new(attributes: &'a Attributes<'a>, object: Option<&'a mut Value>) -> Self {
        Self { attributes, form: own_form(attributes), object, old: None }
    }

    async fn take_form(&mut self, form: &Form, lookup: &dyn Lookup) -> Result<(), Status> {
        if self.form.kind != form.kind {
            if let Some(object) = &mut self.object {
                **object = lookup.convert(object.take(), form).await?;
            }
            self.old = in_form(self.attributes.old, self.attributes, form, lookup).await?;
        }
        self.form = form.clone();
        Ok(())
    }
}

impl Subject<'_> {
    /// What a webhook is asked that wants it in this form.
    fn question(&self) -> Question<'_> {
        Question {
            attributes: self.attributes,
            form: &self.form,
            object: self.object.as_deref(),
            old: self.old.as_ref().or(self.attributes.old),
            is_mutating: true,
        }
    }
}

/// The object in that form, unless that is the request's own.
async fn in_form(
    object: Option<&Value>,
    attributes: &Attributes<'_>,
    form: &Form,
    lookup: &dyn Lookup,
) -> Result<Option<Value>, Status> {
    match object.filter(|_| form.kind != *attributes.kind) {
        Some(object) => lookup.convert(object.clone(), form).await.map(Some),
        None => Ok(None),
    }
}

impl Webhooks {
    /// Lets webhooks change the object, each what the one before made of it. Deletions have none, but may be refused.
    pub(crate) async fn mutate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&mut Value>,
        lookup: &dyn Lookup,
        round: &mut Round,
    ) -> Result<(), Status> {
        if is_exempt(attributes) {
            return Ok(());
        }
        self.known(attributes).await?;
        let hooks = self.mutating.hooks();
        if hooks.is_empty() {
            return Ok(());
        }
        let mut subject = Subject::new(attributes, object);
        if round.is_second && subject.object.as_deref() != Some(&round.left) {
            round.changed();
        }
        for hook in hooks.iter() {
            let object = subject.object.as_deref();
            let Some(form) = hook.criteria.matches(attributes, object, lookup).await? else { continue };
            subject.take_form(&form, lookup).await?;
            // As upstream: one that was not asked the first time is not asked the second.
            if self.is_met(hook, &subject.question())? && round.is_asked(hook) {
                if self.change(hook, &mut subject, lookup).await? {
                    round.changed();
                    round.has_changed = true;
                }
                if hook.is_reinvoked {
                    round.asked.insert(hook.id.clone());
                }
            }
        }
        subject.take_form(&own_form(attributes), lookup).await
    }

    /// Lets one webhook change the object. Whether it has.
    async fn change(
        &self,
        hook: &Hook,
        subject: &mut Subject<'_>,
        lookup: &dyn Lookup,
    ) -> Result<bool, Status> {
        let asked = self.ask(hook, &subject.question()).await;
        let done = asked.and_then(|answer| {
            let object = subject.object.as_deref_mut();
            apply(hook, &answer, subject.attributes, &subject.form, object, lookup)
        });
        match done {
            Ok(changed) => Ok(changed),
            Err(failure) => failure.status(hook).map_or(Ok(false), Err),
        }
    }

    /// Asks webhooks whether the request may happen, all at once; of several refusals the first in order counts.
    pub(crate) async fn validate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&Value>,
        lookup: &dyn Lookup,
    ) -> Result<(), Status> {
        if is_exempt(attributes) {
            return Ok(());
        }
        self.known(attributes).await?;
        let hooks = self.validating.hooks();
        let mut concerned = Vec::new();
        for hook in hooks.iter() {
            if let Some(form) = hook.criteria.matches(attributes, object, lookup).await? {
                let seen = in_form(object, attributes, &form, lookup).await?;
                let old = in_form(attributes.old, attributes, &form, lookup).await?;
                concerned.push((hook, form, seen, old));
            }
        }
        let mut asked = Vec::with_capacity(concerned.len());
        for (hook, form, seen, old) in &concerned {
            let (object, old) = (seen.as_ref().or(object), old.as_ref().or(attributes.old));
            let question = Question { attributes, form, object, old, is_mutating: false };
            if self.is_met(hook, &question)? {
                asked.push(self.judge(hook, question));
            }
        }
        join_all(asked).await.into_iter().find(Result::is_err).unwrap_or(Ok(()))
    }

    async fn judge(&self, hook: &Hook, question: Question<'_>) -> Result<(), Status> {
        match self.ask(hook, &question).await {
            Ok(_) => Ok(()),
            Err(failure) => failure.status(hook).map_or(Ok(()), Err),
        }
    }

    /// Whether the webhook's conditions hold; what cannot be made out is its failure policy's.
    fn is_met(&self, hook: &Hook, question: &Question<'_>) -> Result<bool, Status> {
        if hook.conditions.is_empty() {
            return Ok(true);
        }
        let Question { attributes, form, object, old, .. } = *question;
        let request = describe(attributes, form).map_err(Status::internal_error)?;
        let asker = Asker::new(self.authorizer.as_ref(), attributes.user);
        let hold = hook.conditions.hold(&Inputs {
            object,
            old,
            request: &request,
            namespace: None,
            params: None,
            authorizer: &asker,
            resource: asker::target(attributes),
        });
        match hold {
            Ok(hold) => Ok(hold),
            Err(_) if hook.ignores_failures => Ok(false),
            Err(why) => Err(attributes.forbid(why)),
        }
    }
}
