//! The verbs on resources: from what a request names to the registry's calls and back.

pub(crate) mod component_status;
mod connect;
mod delete;
mod kubelet;
mod log;
mod proxy;
mod read;
mod token;
mod write;

pub(crate) use proxy::serve as proxied;

use std::sync::Arc;

use apimachinery::gvk::GroupResource;
use apimachinery::status::Status;
use http::Method;
use registry::{Kind, Part, RequestContext};
use tokio::sync::OwnedSemaphorePermit;

use crate::admission::{OfRequest, Said};
use crate::negotiate::{self, Form};
use crate::query::WriteOptions;
use crate::request_info::ResourceInfo;
use crate::respond::Answer;
use crate::review;
use crate::server::{ApiServer, Call};

/// The subresource through which requests go on to what an object stands for.
pub(crate) const PROXY: &str = "proxy";

/// A request on a resource that is served: the call, the kind, and where in it.
pub(crate) struct On<'a> {
    pub(crate) server: &'a Arc<ApiServer>,
    pub(crate) call: Call<'a>,
    pub(crate) kind: Arc<Kind>,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    pub(crate) form: Form,
}

/// A request that ends by itself.
pub(crate) async fn dispatch(server: &Arc<ApiServer>, call: Call<'_>, info: ResourceInfo<'_>) -> Answer {
    if let Some(review) = review::find(&info) {
        return match review.plural == review::BINDING.plural {
            true => write::bind_named(server, call, &info).await,
            false => review::answer(server, &call, &info, review),
        };
    }
    let on = locate(server, call, &info)?;
    on.warn_of_deprecation();
    let part = part_of(&info.subresource);
    match (info.verb, part) {
        ("get", Some(part)) => read::get(on, part).await,
        ("list", Some(Part::Whole)) => read::list(on).await,
        ("create", Some(Part::Whole)) => write::create(on).await,
        ("create", None) if info.subresource == "binding" => write::bind(on).await,
        ("create", None) if info.subresource == "eviction" => write::evict(on).await,
        ("create", None) if info.subresource == "token" => token::create(on).await,
        ("update", Some(part)) => write::update(on, part).await,
        ("patch", Some(part)) => write::patch(on, part).await,
        ("delete", Some(Part::Whole)) => delete::one(on).await,
        ("deletecollection", Some(Part::Whole)) => delete::many(on).await,
        _ => Err(not_supported(&info)),
    }
}

/// A request that goes on: a watch, a log, or streams.
pub(crate) async fn dispatch_stream(
    server: &Arc<ApiServer>,
    call: Call<'_>,
    info: ResourceInfo<'_>,
    permit: OwnedSemaphorePermit,
) -> Answer {
    let on = locate(server, call, &info)?;
    on.warn_of_deprecation();
    match (info.verb, &*info.subresource) {
        ("watch", "") => read::watch(on, permit).await,
        ("get", "log") => log::get(on, permit).await,
        ("get" | "create", "attach" | "exec" | "portforward") => connect::connect(on, &info, permit).await,
        _ => Err(not_supported(&info)),
    }
}

fn part_of(subresource: &str) -> Option<Part> {
    let all = [
        Part::Whole,
        Part::Status,
        Part::Scale,
        Part::Finalize,
        Part::EphemeralContainers,
        Part::Resize,
        Part::Approval,
    ];
    all.into_iter().find(|part| part.name() == subresource)
}

fn not_supported(info: &ResourceInfo<'_>) -> Status {
    let resource = GroupResource::new(info.group.clone().into_owned(), info.resource.clone().into_owned());
    Status::method_not_supported(&resource, info.verb)
}

/// The kind that the path names, if it serves the verb at that place.
fn locate<'a>(
    server: &'a Arc<ApiServer>,
    call: Call<'a>,
    info: &'a ResourceInfo<'_>,
) -> Result<On<'a>, Status> {
    let kinds = server.registry.kinds();
    let kind =
        kinds.lookup(&info.group, &info.version, &info.resource).ok_or_else(Status::no_such_path)?.clone();
    // A namespace's own path names it twice.
    let is_own_namespace = info.group.is_empty() && info.resource == "namespaces";
    if is_own_namespace && !info.namespace.is_empty() && info.namespace != info.name {
        // Authorized as if it were in the first namespace, it would reach the second.
        return Err(Status::no_such_path());
    }
    let namespace: &str = if is_own_namespace { "" } else { &info.namespace };
    let verbs = if info.subresource.is_empty() {
        kind.verbs
    } else {
        kind.subresource(&info.subresource).ok_or_else(Status::no_such_path)?.verbs
    };
    let misplaced = if kind.namespaced {
        // Across all namespaces there are only lists and watches.
        namespace.is_empty() && !matches!(info.verb, "list" | "watch")
    } else {
        !namespace.is_empty()
    };
    let proxied = info.subresource == PROXY;
    if misplaced || (!info.rest.is_empty() && !proxied) {
        return Err(Status::no_such_path());
    }
    // A creation names its object in the body, a write to an object in the path.
    let wrong_name = match info.verb {
        "create" => info.subresource.is_empty() != info.name.is_empty(),
        "update" | "patch" => info.name.is_empty(),
        _ => false,
    };
    // Of those there is no verb for OPTIONS.
    let is_served = verbs.contains(&info.verb) || (proxied && info.verb.is_empty());
    if !is_served || wrong_name {
        return Err(not_supported(info));
    }
    // What is proxied has the form that the other side gives it.
    let form = if proxied { Form::default() } else { negotiate::form(&call.parts.headers)? };
    Ok(On { server, call, kind, namespace, name: &info.name, form })
}

impl On<'_> {
    fn warn_of_deprecation(&self) {
        if let Some(warning) = &self.kind.deprecation {
            self.call.warnings.add(warning.clone());
        }
    }

    /// The admission of this request, which says that beside its object.
    fn admission(&self, said: Said) -> OfRequest {
        let may_create = self.call.parts.method == Method::POST;
        OfRequest::new(self.call.user.clone(), self.server.clone(), may_create, said)
    }

    /// The surroundings of a write.
    fn context(&self, options: WriteOptions) -> RequestContext {
        let said = Said::Write {
            patch: self.call.parts.method == Method::PATCH,
            dry_run: options.dry_run,
            field_manager: options.field_manager.clone(),
            field_validation: self.call.query.get("fieldValidation").unwrap_or_default().to_owned(),
        };
        self.context_saying(options, said)
    }

    fn context_saying(&self, options: WriteOptions, said: Said) -> RequestContext {
        let admission = Arc::new(self.admission(said));
        let mut context = RequestContext::new(self.call.now, admission);
        context.dry_run = options.dry_run;
        context.field_validation = options.field_validation;
        context.field_manager = options.field_manager;
        if context.field_manager.is_empty() {
            context.field_manager = self.user_agent();
        }
        context.warnings = self.call.warnings.clone();
        context
    }

    /// The first word of the client's name for itself: who manages fields where nobody is named.
    fn user_agent(&self) -> String {
        let agent = self.call.parts.headers.get(http::header::USER_AGENT);
        let agent = agent.and_then(|agent| agent.to_str().ok()).unwrap_or_default();
        let mut name = String::new();
        for c in agent.split('/').next().unwrap_or_default().chars().filter(|c| !c.is_control()) {
            if name.len() + c.len_utf8() > 128 {
                break;
            }
            name.push(c);
        }
        name
    }
}
