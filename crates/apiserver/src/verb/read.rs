//! get, list and watch.

use apimachinery::status::Status;
use http::StatusCode;
use registry::{List, ListOptions, Object, Part};
use tokio::sync::OwnedSemaphorePermit;

use super::{On, component_status};
use crate::body::Body;
use crate::negotiate::{Shape, Syntax};
use crate::respond::{self, Answer};
use crate::shape::{self, Include};
use crate::watch::{self, Watching};

/// One object, or a part of it.
pub(super) async fn get(on: On<'_>, part: Part) -> Answer {
    let object = if component_status::is(&on.kind) {
        Object::shown(&on.kind, &component_status::one(on.server, &on.kind, on.name)?)?
    } else {
        on.server.registry.get(&on.kind, on.namespace, on.name, part).await?
    };
    on.object(StatusCode::OK, object, part)
}

/// A collection.
pub(super) async fn list(on: On<'_>) -> Answer {
    let options = on.list_options(false)?;
    if component_status::is(&on.kind) {
        return on.list(List::shown(&on.kind, &component_status::all(on.server))?);
    }
    let list = on.server.registry.list(&on.kind, on.namespace, &options).await?;
    on.list(list)
}

/// Changes of a collection, or of one of its objects.
pub(super) async fn watch(on: On<'_>, permit: OwnedSemaphorePermit) -> Answer {
    if on.form.syntax != Syntax::Json {
        return Err(Status::not_acceptable(&["application/json"]));
    }
    let options = on.list_options(true)?;
    let lasts = watch::duration(on.call.query.number("timeoutSeconds")?, on.call.now);
    let events = match on.server.registry.watch(&on.kind, on.namespace, &options).await {
        Ok(events) => events,
        // Clients expect this one as an event: they then list again.
        Err(status) if status.code == 410 => return watch::error(&status),
        Err(status) => return Err(status),
    };
    let watching = Watching {
        registry: on.server.registry.clone(),
        shape: on.form.shape,
        include: Include::parse(on.call.query.get("includeObject"))?,
        clock: on.server.clock.clone(),
        stop: on.server.stopping.clone(),
        kind: on.kind.clone(),
        events,
        _permit: permit,
    };
    watch::answer(watching, lasts)
}

impl On<'_> {
    /// Which objects of the collection are meant. Where the request was authorized for one name only, that name is made
    /// part of the selector, whatever else it says.
    pub(super) fn list_options(&self, is_watch: bool) -> Result<ListOptions, Status> {
        let mut options = self.call.query.list_options(is_watch)?;
        if !self.name.is_empty() {
            let comma = if options.field_selector.is_empty() { "" } else { "," };
            options.field_selector.push_str(&format!("{comma}metadata.name={}", self.name));
        }
        Ok(options)
    }

    /// An object in the form that the client wants.
    pub(super) fn object(&self, code: StatusCode, object: Object, part: Part) -> Answer {
        let bytes = match self.form.shape {
            // A Scale has no columns of its own.
            Shape::Table if part != Part::Scale => {
                let include = Include::parse(self.call.query.get("includeObject"))?;
                let registry = &self.server.registry;
                shape::table_of_object(registry, &self.kind, object, include, true, self.call.now)?.into()
            }
            Shape::Metadata => shape::partial(&object)?.into(),
            _ => object.to_bytes(),
        };
        respond::bytes(code, self.form.syntax, bytes)
    }

    /// A list in the form that the client wants.
    pub(super) fn list(&self, list: List) -> Answer {
        let bytes = match self.form.shape {
            Shape::Whole if self.form.syntax == Syntax::Json => {
                return Ok(respond::json(StatusCode::OK, Body::pieces(list.into_segments())));
            }
            Shape::Whole => list.to_bytes(),
            Shape::Table => {
                let include = Include::parse(self.call.query.get("includeObject"))?;
                let (registry, now) = (&self.server.registry, self.call.now);
                shape::table_of_list(registry, &self.kind, &list, include, now)?.into()
            }
            Shape::Metadata => shape::partial_list(&list)?.into(),
        };
        respond::bytes(StatusCode::OK, self.form.syntax, bytes)
    }
}
