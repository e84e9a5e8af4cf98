//! A container's log, fetched from the kubelet of the pod's node.

use apimachinery::status::Status;
use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderValue, StatusCode};
use registry::{Object, Part};
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;

use super::On;
use crate::body::Body;
use crate::dial::{NodeAddress, NodeAnswer};
use crate::query::Query;
use crate::respond::{self, Answer};

/// Parameters that the kubelet takes as the client gave them.
const PASSED: [&str; 7] =
    ["follow", "previous", "sinceSeconds", "sinceTime", "timestamps", "tailLines", "limitBytes"];

/// The port of a kubelet that does not say.
const KUBELET_PORT: u16 = 10250;

/// An error's text that is longer is cut.
const ERROR_LIMIT: usize = 64 * 1024;

pub(super) async fn get(on: On<'_>, permit: OwnedSemaphorePermit) -> Answer {
    let pod = on.server.registry.get(&on.kind, on.namespace, on.name, Part::Whole).await?.tree();
    let container = container_of(&pod, on.name, on.call.query)?;
    let node_name = pod.pointer("/spec/nodeName").and_then(Value::as_str).unwrap_or_default();
    if node_name.is_empty() {
        // Nothing runs yet, so nothing was written.
        return Ok(respond::text(StatusCode::OK, Bytes::new()));
    }
    let kinds = on.server.registry.kinds();
    let nodes = kinds.lookup("", "v1", "nodes").ok_or_else(Status::no_such_path)?;
    let node = on.server.registry.get(nodes, "", node_name, Part::Whole).await?;
    let address = address_of(node_name, &node)?;
    let path = path_of(on.namespace, on.name, &container, on.call.query);
    let answer = on.server.dialer.get(&address, &path).await.map_err(|error| {
        Status::internal_error(format!("Get \"https://{}:{}{path}\": {error}", address.host, address.port))
    })?;
    if answer.code != StatusCode::OK {
        return Err(refused(answer).await);
    }
    let stop = on.server.stopping.clone();
    // The place among the streams is held until the last byte has gone.
    let held = answer.body.map(move |chunk| {
        let _ = &permit;
        chunk
    });
    let body = Body::stream(held.take_until(stop.cancelled_owned()));
    Ok(respond::with_type(StatusCode::OK, HeaderValue::from_static("text/plain"), body))
}

/// The container asked for, or the only one, or the one that the pod calls its default.
fn container_of(pod: &Value, name: &str, query: &Query) -> Result<String, Status> {
    let names = |list: &str| -> Vec<String> {
        let all = pod["spec"][list].as_array().into_iter().flatten();
        all.filter_map(|container| Some(container["name"].as_str()?.to_owned())).collect()
    };
    let (containers, init) = (names("containers"), names("initContainers"));
    let ephemeral = names("ephemeralContainers");
    if let Some(wanted) = query.get("container").filter(|wanted| !wanted.is_empty()) {
        if [&containers, &init, &ephemeral].iter().any(|list| list.iter().any(|name| name == wanted)) {
            return Ok(wanted.to_owned());
        }
        return Err(Status::bad_request(format!("container {wanted} is not valid for pod {name}")));
    }
    if let ([only], []) = (containers.as_slice(), init.as_slice()) {
        return Ok(only.clone());
    }
    let default = pod.pointer("/metadata/annotations/kubectl.kubernetes.io~1default-container");
    if let Some(default) =
        default.and_then(Value::as_str).filter(|name| containers.iter().any(|each| each == name))
    {
        return Ok(default.to_owned());
    }
    let mut choices = format!("choose one of: [{}]", containers.join(" "));
    if !init.is_empty() {
        choices.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
    }
    if !ephemeral.is_empty() {
        choices.push_str(&format!(" or one of the ephemeral containers: [{}]", ephemeral.join(" ")));
    }
    Err(Status::bad_request(format!("a container name must be specified for pod {name}, {choices}")))
}

fn path_of(namespace: &str, pod: &str, container: &str, query: &Query) -> String {
    let mut passed = form_urlencoded::Serializer::new(String::new());
    for (key, value) in query.iter().filter(|(key, _)| PASSED.contains(key)) {
        passed.append_pair(key, value);
    }
    let passed = passed.finish();
    let mark = if passed.is_empty() { "" } else { "?" };
    format!("/containerLogs/{namespace}/{pod}/{container}{mark}{passed}")
}

/// Where the node says that its kubelet listens. Addresses are tried in upstream's order.
fn address_of(name: &str, node: &Object) -> Result<NodeAddress, Status> {
    let node = node.tree();
    let addresses = node.pointer("/status/addresses").and_then(Value::as_array);
    let addresses: Vec<&Value> = addresses.into_iter().flatten().collect();
    let of_type = |wanted: &str| addresses.iter().find(|address| address["type"] == wanted);
    let preferred = ["InternalIP", "Hostname", "InternalDNS", "ExternalDNS", "ExternalIP"];
    let host = preferred.iter().find_map(|wanted| of_type(wanted)?["address"].as_str());
    let host = host.ok_or_else(|| {
        Status::internal_error(format!("no preferred addresses found; known addresses of node {name:?}: []"))
    })?;
    let port = node.pointer("/status/daemonEndpoints/kubeletEndpoint/Port").and_then(Value::as_u64);
    let port =
        port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0).unwrap_or(KUBELET_PORT);
    Ok(NodeAddress { name: name.to_owned(), host: host.to_owned(), port })
}

/// The kubelet's refusal, in its own words.
async fn refused(answer: NodeAnswer) -> Status {
    let (mut body, mut text) = (answer.body, Vec::new());
    while let Some(Ok(chunk)) = body.next().await {
        text.extend_from_slice(&chunk);
        if text.len() > ERROR_LIMIT {
            text.truncate(ERROR_LIMIT);
            break;
        }
    }
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    match answer.code {
        StatusCode::BAD_REQUEST => Status::bad_request(text),
        code => {
            let mut status = Status::internal_error(&text);
            if code == StatusCode::NOT_FOUND {
                let why = format!("the server could not find the requested resource ({text})");
                (status.code, status.message) = (404, why);
                status.reason = apimachinery::status::Reason::NotFound;
            }
            status
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn chosen(pod: &Value, query: &str) -> Result<String, String> {
        container_of(pod, "p", &Query::parse(Some(query))).map_err(|status| status.message)
    }

    #[test]
    fn which_container() {
        let one = json!({"spec": {"containers": [{"name": "a"}]}});
        assert_eq!(chosen(&one, ""), Ok("a".into()));
        let mut two = json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]}});
        assert_eq!(
            chosen(&two, ""),
            Err("a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]".into())
        );
        assert_eq!(chosen(&two, "container=i"), Ok("i".into()));
        assert_eq!(chosen(&two, "container=x"), Err("container x is not valid for pod p".into()));
        two["metadata"] = json!({"annotations": {"kubectl.kubernetes.io/default-container": "b"}});
        assert_eq!(chosen(&two, ""), Ok("b".into()));
    }

    #[test]
    fn only_known_parameters_reach_the_kubelet() {
        let query = Query::parse(Some("follow=true&container=a&tailLines=5&x=y"));
        assert_eq!(path_of("ns", "p", "a", &query), "/containerLogs/ns/p/a?follow=true&tailLines=5");
        assert_eq!(path_of("ns", "p", "a", &Query::default()), "/containerLogs/ns/p/a");
    }
}
