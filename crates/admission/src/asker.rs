//! The authorizer as expressions ask it: about whoever sends the request, or about a service account.

use auth::service_account::user_name;
use auth::{Authorizer, Resource, Target, UserInfo};
use cel::{Authorize, Question, ResourceTarget, Subject};

use crate::Attributes;
use crate::matching::namespace_of;

/// Asks on behalf of one request.
pub(crate) struct Asker<'a> {
    authorizer: &'a dyn Authorizer,
    user: &'a UserInfo,
}

impl<'a> Asker<'a> {
    pub(crate) fn new(authorizer: &'a dyn Authorizer, user: &'a UserInfo) -> Self {
        Self { authorizer, user }
    }
}

/// What the request is about, for `authorizer.requestResource`.
pub(crate) fn target(attributes: &Attributes<'_>) -> ResourceTarget {
    ResourceTarget {
        group: attributes.resource.group.to_string(),
        resource: attributes.resource.resource.to_string(),
        subresource: attributes.subresource.to_owned(),
        namespace: namespace_of(attributes).to_owned(),
        name: attributes.name.to_owned(),
        ..ResourceTarget::default()
    }
}

impl Authorize for Asker<'_> {
    fn authorize(&self, question: &Question) -> cel::Decision {
        let account;
        let user = match &question.subject {
            Subject::Requester => self.user,
            Subject::ServiceAccount { namespace, name } => {
                account = service_account(namespace, name);
                &account
            }
        };
        let target = match &question.target {
            cel::Target::Path(path) => Target::Path(path),
            cel::Target::Resource(asked) => Target::Resource(Resource {
                group: &asked.group,
                version: "*",
                resource: &asked.resource,
                subresource: &asked.subresource,
                namespace: &asked.namespace,
                name: &asked.name,
                field_selector: &asked.field_selector,
            }),
        };
        let attributes = auth::Attributes { user, verb: &question.verb, target };
        match self.authorizer.authorize(&attributes) {
            auth::Decision::Allow(reason) => {
                cel::Decision { allowed: true, reason: reason.to_string(), error: None }
            }
            auth::Decision::NoOpinion(reason) => cel::Decision { allowed: false, reason, error: None },
        }
    }
}

fn service_account(namespace: &str, name: &str) -> UserInfo {
    let groups = vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
    UserInfo { name: user_name(namespace, name), groups, ..UserInfo::default() }.authenticated()
}
