//! delete and deletecollection.

use apimachinery::status::{Details, Status, success};
use http::StatusCode;
use registry::{DeleteOptions, FieldValidation, Part, RequestContext};

use super::On;
use crate::admission::Said;
use crate::incoming;
use crate::negotiate;
use crate::query::WriteOptions;
use crate::respond::{self, Answer};

/// One object.
pub(super) async fn one(on: On<'_>) -> Answer {
    let (context, options) = on.remove()?;
    let deleted = on.server.registry.delete(&context, &on.kind, on.namespace, on.name, &options).await?;
    if deleted.shown {
        return on.object(StatusCode::OK, deleted.object, Part::Whole);
    }
    let details = Details {
        name: on.name.to_owned(),
        group: on.kind.group.clone(),
        kind: on.kind.plural.clone(),
        uid: deleted.uid,
        ..Details::default()
    };
    respond::tree(StatusCode::OK, on.form.syntax, &success(details))
}

/// All objects that the selectors choose.
pub(super) async fn many(on: On<'_>) -> Answer {
    let (context, options) = on.remove()?;
    let chosen = on.list_options(false)?;
    let registry = &on.server.registry;
    let deleted = registry.delete_collection(&context, &on.kind, on.namespace, &chosen, &options).await?;
    on.list(deleted)
}

impl On<'_> {
    fn remove(&self) -> Result<(RequestContext, DeleteOptions), Status> {
        let body = if self.call.body.is_empty() {
            None
        } else {
            let syntax = negotiate::body_syntax(&self.call.parts.headers)?;
            incoming::optional(&self.call.body, syntax)?
        };
        let (options, dry_run) = self.call.query.delete_options(body)?;
        let field_validation = FieldValidation::default();
        let said = Said::Delete { dry_run, options: options.clone() };
        let write = WriteOptions { dry_run, field_manager: String::new(), field_validation };
        let context = self.context_saying(write, said);
        Ok((context, options))
    }
}
