//! Questions to the authorizer that an expression may ask: `authorizer.group('').resource('pods').check('create')`.
//!
//! Whoever evaluates hands in an [`Authorize`]; what it knows about the user is its own affair.

use std::fmt;

use crate::cel_type;
use crate::value::{Library, Value};

/// Answers questions of authorization. It runs within an evaluation: it must neither wait nor ask anybody far away.
pub trait Authorize: Sync {
    /// Whether it is allowed.
    fn authorize(&self, question: &Question) -> Decision;
}

/// Whose request is asked about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Subject {
    /// Whoever sent the request that the expression is evaluated for.
    #[default]
    Requester,
    /// A service account.
    ServiceAccount {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Whose request.
    pub subject: Subject,
    /// The verb.
    pub verb: String,
    /// To what.
    pub target: Target,
}

/// What a question is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A path that is no resource.
    Path(String),
    /// A resource.
    Resource(ResourceTarget),
}

/// A resource that is asked about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResourceTarget {
    /// The group; empty for the core group.
    pub group: String,
    /// The resource.
    pub resource: String,
    /// The subresource; may be empty.
    pub subresource: String,
    /// The namespace; may be empty.
    pub namespace: String,
    /// The name; may be empty.
    pub name: String,
    /// A field selector; may be empty, may be malformed.
    pub field_selector: String,
    /// A label selector; may be empty, may be malformed.
    pub label_selector: String,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decision {
    /// Whether it is allowed.
    pub allowed: bool,
    /// Why; may be empty.
    pub reason: String,
    /// What kept the authorizer from deciding.
    pub error: Option<String>,
}

/// A question that an expression puts together.
#[derive(Clone)]
pub struct Check<'a> {
    pub(crate) authorizer: &'a dyn Authorize,
    pub(crate) subject: Subject,
    pub(crate) stage: Stage,
}

/// How far a question has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stage {
    Authorizer,
    Path(String),
    Group(String),
    Resource(ResourceTarget),
    Decision(Decision),
}

impl fmt::Debug for Check<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Check").field(&self.subject).field(&self.stage).finish()
    }
}

impl<'a> Check<'a> {
    pub(crate) const fn type_name(&self) -> &'static str {
        match self.stage {
            Stage::Authorizer => cel_type::AUTHORIZER,
            Stage::Path(_) => cel_type::PATH_CHECK,
            Stage::Group(_) => cel_type::GROUP_CHECK,
            Stage::Resource(_) => cel_type::RESOURCE_CHECK,
            Stage::Decision(_) => cel_type::DECISION,
        }
    }

    /// The same question, further on.
    pub(crate) fn at(&self, stage: Stage) -> Value<'a> {
        let check = Check { authorizer: self.authorizer, subject: self.subject.clone(), stage };
        Value::Library(Library::Check(check.into()))
    }

    /// Asks.
    pub(crate) fn ask(&self, verb: &str, target: Target) -> Value<'a> {
        let question = Question { subject: self.subject.clone(), verb: verb.to_owned(), target };
        self.at(Stage::Decision(self.authorizer.authorize(&question)))
    }
}

impl<'a> Value<'a> {
    /// The variable `authorizer`.
    pub fn authorizer(authorizer: &'a dyn Authorize) -> Self {
        let check = Check { authorizer, subject: Subject::Requester, stage: Stage::Authorizer };
        Self::Library(Library::Check(check.into()))
    }

    /// The variable `authorizer.requestResource`: a check of that resource.
    pub fn resource_check(authorizer: &'a dyn Authorize, target: ResourceTarget) -> Self {
        let check = Check { authorizer, subject: Subject::Requester, stage: Stage::Resource(target) };
        Self::Library(Library::Check(check.into()))
    }
}
