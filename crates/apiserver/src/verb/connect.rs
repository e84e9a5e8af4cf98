//! Streams to a pod: exec, attach and forwarded ports. Who asks is authorised here, and then the bytes go to and from
//! the kubelet of the pod's node as they are, in whichever protocol the client and the kubelet agree on.

use apimachinery::status::Status;
use http::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{Request, Response};
use registry::Part;
use serde_json::{Map, Value};
use tokio::sync::OwnedSemaphorePermit;

use super::{On, kubelet};
use crate::admission::Said;
use crate::body::{self, Body};
use crate::dial::{NodeAnswer, NodeReply};
use crate::query::Query;
use crate::relay::{self, headers};
use crate::request_info::{RequestInfo, ResourceInfo};
use crate::respond::Answer;

/// What of a request's head the kubelet is told: which protocol the client speaks, and nothing that it is known by.
const PASSED: [HeaderName; 5] = [
    CONNECTION,
    UPGRADE,
    SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION,
    HeaderName::from_static("x-stream-protocol-version"),
];
/// Our name of each stream of a command, the kubelet's, and whether it is wanted where the client does not say.
const FLAGS: [(&str, &str, bool); 4] =
    [("stdin", "input", false), ("stdout", "output", true), ("stderr", "error", true), ("tty", "tty", false)];

pub(super) async fn connect(on: On<'_>, info: &ResourceInfo<'_>, permit: OwnedSemaphorePermit) -> Answer {
    if info.verb == "get" {
        // A WebSocket begins with a GET, which must not let those in who may only read.
        let create = RequestInfo::Resource(ResourceInfo { verb: "create", ..info.clone() });
        on.server.authorize(on.call.user, &create, on.call.parts, on.call.query).await?;
    }
    if on.call.query.get("dryRun").is_some() {
        return Err(Status::bad_request("dryRun is not supported"));
    }
    let mut options = options_of(&on, info)?;
    let place = (on.namespace, on.name, &*info.subresource);
    on.admission(Said::Nothing).connect(&on.kind, place, &mut options, &on.call.warnings).await?;
    let pod = on.server.registry.get(&on.kind, on.namespace, on.name, Part::Whole).await?.tree();
    let path = path_of(&on, info, &pod, &options)?;
    let node = kubelet::of(&on, &pod).await?;
    let unassigned = || Status::bad_request(format!("pod {} does not have a host assigned", on.name));
    let node = node.ok_or_else(unassigned)?;
    let parts = on.call.parts;
    let client = relay::client_of(parts)?;
    let mut request = Request::new(body::nothing());
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = path.parse().map_err(Status::internal_error)?;
    *request.headers_mut() = passed(&parts.headers);
    let unreachable = |error| {
        Status::internal_error(format!(
            "error dialing backend: {error} (https://{}:{})",
            node.host, node.port
        ))
    };
    match on.server.dialer.send(&node, request).await.map_err(unreachable)? {
        NodeReply::Answered(answer) => Ok(refused(answer)),
        NodeReply::Switched(head, node) => Ok(relay::join(on.server, client, (head, node), permit)),
    }
}

/// What is asked for, as an object of its kind: what admission judges, and may change.
fn options_of(on: &On<'_>, info: &ResourceInfo<'_>) -> Result<Value, Status> {
    let query = on.call.query;
    let kind = on.kind.subresource(&info.subresource).map(|part| part.kind.as_str()).unwrap_or_default();
    let mut options = Map::new();
    options.insert("apiVersion".to_owned(), "v1".into());
    options.insert("kind".to_owned(), kind.into());
    if info.subresource == "portforward" {
        let given = query.all("ports").filter(|ports| !ports.is_empty());
        let ports = given.map(|port| {
            let number = port.parse::<i32>();
            number.map_err(|_| {
                Status::bad_request(format!("strconv.ParseInt: parsing {port:?}: invalid syntax"))
            })
        });
        let ports: Vec<i32> = ports.collect::<Result<_, _>>()?;
        if !ports.is_empty() {
            options.insert("ports".to_owned(), ports.into());
        }
        return Ok(options.into());
    }
    for (name, _, default) in FLAGS {
        if is_set(query, name, default) {
            options.insert(name.to_owned(), true.into());
        }
    }
    if let Some(container) = query.get("container").filter(|container| !container.is_empty()) {
        options.insert("container".to_owned(), container.into());
    }
    if info.subresource == "exec" {
        let command: Vec<&str> = query.all("command").collect();
        options.insert("command".to_owned(), command.into());
    }
    Ok(options.into())
}

/// The kubelet's path for it, with the parameters that it knows.
fn path_of(on: &On<'_>, info: &ResourceInfo<'_>, pod: &Value, options: &Value) -> Result<String, Status> {
    let mut passed = form_urlencoded::Serializer::new(String::new());
    let (namespace, name) = (on.namespace, on.name);
    if info.subresource == "portforward" {
        for port in options["ports"].as_array().into_iter().flatten() {
            passed.append_pair("port", &port.to_string());
        }
        return Ok(format!("/portForward/{namespace}/{name}?{}", passed.finish()));
    }
    let container = kubelet::container(pod, name, options["container"].as_str())?;
    for (ours, theirs, _) in FLAGS {
        if options[ours] == true {
            passed.append_pair(theirs, "1");
        }
    }
    for word in options["command"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        passed.append_pair("command", word);
    }
    Ok(format!("/{}/{namespace}/{name}/{container}?{}", info.subresource, passed.finish()))
}

fn is_set(query: &Query, name: &str, default: bool) -> bool {
    match query.get(name) {
        None => default,
        Some(_) => query.flag(name),
    }
}

fn passed(from: &HeaderMap) -> HeaderMap {
    let mut passed = HeaderMap::new();
    for name in &PASSED {
        for value in from.get_all(name) {
            passed.append(name, value.clone());
        }
    }
    if let Some(protocols) = headers::protocols(from) {
        passed.insert(SEC_WEBSOCKET_PROTOCOL, protocols);
    }
    passed
}

/// The kubelet's refusal as it is: clients show its text.
fn refused(answer: NodeAnswer) -> Response<Body> {
    let mut response = Response::new(Body::stream(answer.body));
    *response.status_mut() = answer.head.status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authenticate::TOKEN_PROTOCOL;

    #[test]
    fn a_kubelet_is_not_told_who_asks() {
        let mut headers = HeaderMap::new();
        let token = format!("{TOKEN_PROTOCOL}c2VjcmV0, v5.channel.k8s.io");
        for (name, value) in [
            ("authorization", "Bearer secret"),
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-protocol", token.as_str()),
            ("x-stream-protocol-version", "v4.channel.k8s.io"),
            ("x-stream-protocol-version", "v3.channel.k8s.io"),
        ] {
            headers.append(name, value.parse().unwrap());
        }
        let passed = passed(&headers);
        assert_eq!(passed["sec-websocket-protocol"], "v5.channel.k8s.io");
        assert_eq!(passed.get_all("x-stream-protocol-version").iter().count(), 2);
        assert_eq!(passed.len(), 5);
    }
}
