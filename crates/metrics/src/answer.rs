//! Requests and their answers.

use apimachinery::gvk::GroupResource;
use apimachinery::status::Status;
use bytes::Bytes;
use client::kube::api::ObjectList;
use client::{Api, Error, ListParams, ObjectMeta, PartialObjectMeta, message};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode, header};
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::Value;

use crate::objects::{self, Kind, Measured};
use crate::{GROUP, Metrics, VERSION};

const JSON: HeaderValue = HeaderValue::from_static("application/json");

pub(crate) async fn answer(metrics: &Metrics, request: &Parts) -> Response<Bytes> {
    let (code, body) = match serve(metrics, request).await {
        Ok(body) => (StatusCode::OK, Bytes::from(body.to_string())),
        Err(status) => {
            let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            (code, Bytes::from(status.to_json()))
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response
}

async fn serve(metrics: &Metrics, request: &Parts) -> Result<Value, Status> {
    let path = request.uri.path().trim_matches('/');
    let below = path.strip_prefix("apis/").and_then(|path| path.strip_prefix(GROUP)?.strip_prefix('/'));
    let below = below.and_then(|path| path.strip_prefix(VERSION)).ok_or_else(Status::no_such_path)?;
    let parts: Vec<&str> = below.split('/').skip(1).collect();
    let (kind, namespace, name) = match parts[..] {
        [] => return only_read(request, "").map(|()| objects::resources()),
        ["nodes"] => (Kind::Nodes, "", None),
        ["nodes", name] => (Kind::Nodes, "", Some(name)),
        ["pods"] => (Kind::Pods, "", None),
        ["namespaces", namespace, "pods"] => (Kind::Pods, namespace, None),
        ["namespaces", namespace, "pods", name] => (Kind::Pods, namespace, Some(name)),
        _ => return Err(Status::no_such_path()),
    };
    only_read(request, kind.plural())?;
    let found = match name {
        Some(name) => vec![get(metrics, kind, namespace, name).await?],
        None => list(metrics, kind, namespace, request.uri.query()).await?,
    };
    Ok(match (wants_table(request), name) {
        (true, _) => objects::table(&found),
        (false, None) => objects::list(kind, &found),
        (false, Some(_)) => found.first().map(|one| one.object(true)).unwrap_or_default(),
    })
}

fn only_read(request: &Parts, plural: &str) -> Result<(), Status> {
    match request.method {
        Method::GET | Method::HEAD => Ok(()),
        ref method => {
            let resource = GroupResource::new(GROUP.to_owned(), plural.to_owned());
            Err(Status::method_not_supported(&resource, &method.as_str().to_ascii_lowercase()))
        }
    }
}

fn wants_table(request: &Parts) -> bool {
    let accept = request.headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut wanted = accept.flat_map(|accept| accept.split(','));
    let is_of_v1 = |media: &str| media.contains("v=v1") && !media.contains("v=v1beta1");
    wanted.any(|media| media.contains("as=Table") && is_of_v1(media))
}

async fn list(
    metrics: &Metrics,
    kind: Kind,
    namespace: &str,
    query: Option<&str>,
) -> Result<Vec<Measured>, Status> {
    // What the server has at hand is good enough.
    let mut params = ListParams::default().match_any();
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        match &*name {
            "labelSelector" => params = params.labels(&value),
            "fieldSelector" => params = params.fields(&value),
            _ => {}
        }
    }
    let client = metrics.client.clone();
    let known: Vec<ObjectMeta> = match kind {
        Kind::Nodes => of(Api::<Node>::all(client).list_metadata(&params).await)?,
        Kind::Pods if namespace.is_empty() => of(Api::<Pod>::all(client).list_metadata(&params).await)?,
        Kind::Pods => of(Api::<Pod>::namespaced(client, namespace).list_metadata(&params).await)?,
    };
    Ok(known.iter().filter_map(|metadata| measured(metrics, kind, metadata)).collect())
}

async fn get(metrics: &Metrics, kind: Kind, namespace: &str, name: &str) -> Result<Measured, Status> {
    let client = metrics.client.clone();
    let metadata = match kind {
        Kind::Nodes => Api::<Node>::all(client).get_metadata(name).await.map(|node| node.metadata),
        Kind::Pods => {
            Api::<Pod>::namespaced(client, namespace).get_metadata(name).await.map(|pod| pod.metadata)
        }
    };
    let metadata = metadata.map_err(|error| said(&error))?;
    measured(metrics, kind, &metadata).ok_or_else(|| {
        let resource = GroupResource::new(GROUP.to_owned(), kind.name().to_ascii_lowercase());
        match kind {
            Kind::Nodes => Status::not_found(&resource, name),
            Kind::Pods => Status::not_found(&resource, &format!("{namespace}/{name}")),
        }
    })
}

fn measured(metrics: &Metrics, kind: Kind, metadata: &ObjectMeta) -> Option<Measured> {
    let (name, namespace) = (metadata.name.as_deref()?, metadata.namespace.as_deref().unwrap_or_default());
    let store = metrics.store();
    let parts = match kind {
        Kind::Nodes => vec![(String::new(), store.node(name)?)],
        Kind::Pods => {
            store.pod(namespace, name)?.into_iter().map(|(name, usage)| (name.to_owned(), usage)).collect()
        }
    };
    Measured::new(kind, metadata, parts, metrics.ambient.clock.now())
}

fn of<K>(listed: Result<ObjectList<PartialObjectMeta<K>>, Error>) -> Result<Vec<ObjectMeta>, Status>
where
    K: Clone,
{
    let listed = listed.map_err(|error| said(&error))?;
    Ok(listed.items.into_iter().map(|item| item.metadata).collect())
}

/// What the API said, to whoever asked.
fn said(error: &Error) -> Status {
    match error {
        Error::Api(status) if status.code == 404 => {
            let mut told = Status::internal_error("");
            told.code = 404;
            told.reason = apimachinery::status::Reason::NotFound;
            told.message.clone_from(&status.message);
            told
        }
        Error::Api(status) if status.code == 400 => Status::bad_request(&status.message),
        other => Status::internal_error(message(other)),
    }
}
