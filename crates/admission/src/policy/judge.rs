//! Judging a request by all policies that it concerns.

use apimachinery::status::{Cause, Reason, Status};
use expressions::{Inputs, Outcome};
use serde_json::Value;

use super::Policies;
use super::namespace;
use super::params;
use super::table::{Binding, Policy};
use crate::asker::{self, Asker};
use crate::lookup::Form;
use crate::matching::{is_exempt, namespace_of};
use crate::request::describe;
use crate::{Attributes, Lookup};

/// What refuses a request.
struct Denial {
    policy: String,
    /// Empty where the policy itself cannot be made out.
    binding: String,
    message: String,
    reason: Option<Reason>,
}

/// One request under judgement.
struct Case<'a> {
    policies: &'a Policies,
    attributes: &'a Attributes<'a>,
    object: Option<&'a Value>,
    lookup: &'a dyn Lookup,
    denials: Vec<Denial>,
}

impl Policies {
    /// Asks every policy whether the request may happen. The first denial counts.
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
        let in_force = self.table.in_force();
        if in_force.is_empty() {
            return Ok(());
        }
        let mut case = Case { policies: self, attributes, object, lookup, denials: Vec::new() };
        for (policy, bindings) in in_force.iter() {
            match policy.criteria.matches(attributes, object, lookup).await {
                Ok(Some(form)) => case.judge(policy, bindings, &form).await?,
                Ok(None) => {}
                Err(status) => case.misconfigured(policy, None, &status.message),
            }
        }
        case.denials.into_iter().next().map_or(Ok(()), |denial| Err(denial.status(attributes)))
    }
}

impl Case<'_> {
    /// What cannot be found out is denied, unless the policy says otherwise.
    fn misconfigured(&mut self, policy: &Policy, binding: Option<&Binding>, why: &str) {
        if policy.ignores_failures {
            return;
        }
        let (what, binding) = match binding {
            None => ("policy", String::new()),
            Some(binding) => ("binding", binding.name.clone()),
        };
        let message = format!("failed to configure {what}: {why}");
        self.denials.push(Denial { policy: policy.name.clone(), binding, message, reason: None });
    }

    async fn judge(
        &mut self,
        policy: &Policy,
        bindings: &[std::sync::Arc<Binding>],
        form: &Form,
    ) -> Result<(), Status> {
        let kind = match &policy.param_kind {
            None => None,
            Some(Ok(kind)) if self.lookup.place_of(kind).is_some() => Some(kind),
            Some(Ok(kind)) => {
                let why = format!("failed to find resource referenced by paramKind: '{kind}'");
                self.misconfigured(policy, None, &why);
                return Ok(());
            }
            Some(Err(why)) => {
                self.misconfigured(policy, None, why);
                return Ok(());
            }
        };
        for binding in bindings {
            if let Some(criteria) = &binding.criteria {
                match criteria.matches(self.attributes, self.object, self.lookup).await {
                    Ok(Some(_)) => {}
                    Ok(None) => continue,
                    Err(status) => {
                        self.misconfigured(policy, Some(binding), &status.message);
                        continue;
                    }
                }
            }
            let namespace = namespace_of(self.attributes);
            match params::collect(kind, binding.params.as_ref(), namespace, self.lookup).await {
                Ok(params) => self.evaluate(policy, binding, form, &params).await?,
                Err(why) => self.misconfigured(policy, Some(binding), &why),
            }
        }
        Ok(())
    }

    async fn evaluate(
        &mut self,
        policy: &Policy,
        binding: &Binding,
        form: &Form,
        params: &[Option<Value>],
    ) -> Result<(), Status> {
        let (object, old) = match self.in_form(form).await {
            Ok(converted) => converted,
            Err(status) => {
                let why = format!("failed to convert object version: {}", status.message);
                self.misconfigured(policy, Some(binding), &why);
                return Ok(());
            }
        };
        let request = describe(self.attributes, form).map_err(Status::internal_error)?;
        let namespace = namespace::of(self.attributes, self.lookup).await?;
        let asker = Asker::new(self.policies.authorizer.as_ref(), self.attributes.user);
        for param in params {
            let outcome = policy.expressions.evaluate(&Inputs {
                object: object.as_ref().or(self.object),
                old: old.as_ref().or(self.attributes.old),
                request: &request,
                namespace: namespace.as_ref(),
                params: param.as_ref(),
                authorizer: &asker,
                resource: asker::target(self.attributes),
            });
            self.take(policy, binding, outcome);
        }
        Ok(())
    }

    /// The object and what it was, where they have to be converted for the policy.
    async fn in_form(&self, form: &Form) -> Result<(Option<Value>, Option<Value>), Status> {
        if form.kind == *self.attributes.kind {
            return Ok((None, None));
        }
        let mut converted = [None, None];
        for (slot, given) in converted.iter_mut().zip([self.object, self.attributes.old]) {
            if let Some(object) = given {
                *slot = Some(self.lookup.convert(object.clone(), form).await?);
            }
        }
        let [object, old] = converted;
        Ok((object, old))
    }

    /// What a verdict comes to, as the binding has it.
    fn take(&mut self, policy: &Policy, binding: &Binding, outcome: Outcome) {
        let (name, bound) = (&policy.name, &binding.name);
        let denial = |message: String, reason| Denial {
            policy: name.clone(),
            binding: bound.clone(),
            message,
            reason,
        };
        for failed in outcome.failed {
            if binding.warns {
                let message = &failed.message;
                self.attributes.warnings.add(format!(
                    "Validation failed for ValidatingAdmissionPolicy '{name}' with binding '{bound}': {message}"
                ));
            }
            if binding.denies {
                self.denials.push(denial(failed.message, failed.reason));
            }
        }
        // Nobody keeps audit annotations yet, but one that cannot be made counts.
        self.denials.extend(outcome.annotation_errors.into_iter().map(|why| denial(why, None)));
    }
}

impl Denial {
    fn status(self, attributes: &Attributes<'_>) -> Status {
        let Self { policy, binding, message, reason } = self;
        let bound = if binding.is_empty() { String::new() } else { format!(" with binding '{binding}'") };
        let message = format!("ValidatingAdmissionPolicy '{policy}'{bound} denied request: {message}");
        let mut status = attributes.forbid(&message);
        status.reason = reason.unwrap_or(Reason::Invalid);
        status.code = match status.reason {
            Reason::Forbidden => 403,
            Reason::Unauthorized => 401,
            Reason::RequestEntityTooLarge => 413,
            _ => 422,
        };
        let cause = Cause { message, ..Cause::default() };
        status.details.get_or_insert_default().causes.push(cause);
        status
    }
}
