use std::sync::Arc;

use crate::Attributes;

/// What an authorizer says of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Yes, and why.
    Allow(Arc<str>),
    /// Not as far as this authorizer knows; another may say yes. The reason may be empty.
    NoOpinion(String),
}

impl Decision {
    /// No opinion, and nothing to say about it.
    pub fn nothing() -> Self {
        Self::NoOpinion(String::new())
    }

    /// Whether the request may go on.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow(_))
    }
}

/// Decides whether a request may go on.
pub trait Authorizer: Send + Sync {
    /// The decision on one request.
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision;
}

impl<A: Authorizer + ?Sized> Authorizer for &A {
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        (**self).authorize(attributes)
    }
}

impl<A: Authorizer + ?Sized> Authorizer for Arc<A> {
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        (**self).authorize(attributes)
    }
}

/// The first of several that allows; else every reason that was given, one a line.
impl<A: Authorizer> Authorizer for [A] {
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let mut reasons: Vec<String> = Vec::new();
        for authorizer in self {
            match authorizer.authorize(attributes) {
                Decision::NoOpinion(reason) if reason.is_empty() => {}
                Decision::NoOpinion(reason) => reasons.push(reason),
                allowed => return allowed,
            }
        }
        Decision::NoOpinion(reasons.join("\n"))
    }
}
