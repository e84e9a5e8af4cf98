//! Which container of a pod a request is about, and where the kubelet of the pod's node listens.

use apimachinery::status::Status;
use futures::StreamExt;
use http::StatusCode;
use registry::{Object, Part};
use serde_json::Value;

use super::On;
use crate::dial::{NodeAddress, NodeAnswer};

/// The port of a kubelet that does not say.
const KUBELET_PORT: u16 = 10250;

/// An error's text that is longer is cut.
const ERROR_LIMIT: usize = 64 * 1024;

/// The kubelet of a pod's node; `None`: the pod has none yet.
pub(super) async fn of(on: &On<'_>, pod: &Value) -> Result<Option<NodeAddress>, Status> {
    let node_name = pod.pointer("/spec/nodeName").and_then(Value::as_str).unwrap_or_default();
    if node_name.is_empty() {
        return Ok(None);
    }
    of_node(on, node_name).await.map(Some)
}

/// The kubelet of a node.
pub(super) async fn of_node(on: &On<'_>, name: &str) -> Result<NodeAddress, Status> {
    let kinds = on.server.registry.kinds();
    let nodes = kinds.lookup("", "v1", "nodes").ok_or_else(Status::no_such_path)?;
    let node = on.server.registry.get(nodes, "", name, Part::Whole).await?;
    address_of(name, &node)
}

/// The container asked for, or the only one, or the one that the pod calls its default.
pub(super) fn container(pod: &Value, name: &str, wanted: Option<&str>) -> Result<String, Status> {
    let names = |list: &str| -> Vec<String> {
        let all = pod["spec"][list].as_array().into_iter().flatten();
        all.filter_map(|container| Some(container["name"].as_str()?.to_owned())).collect()
    };
    let (containers, init) = (names("containers"), names("initContainers"));
    let ephemeral = names("ephemeralContainers");
    if let Some(wanted) = wanted.filter(|wanted| !wanted.is_empty()) {
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
pub(super) async fn refused(answer: NodeAnswer) -> Status {
    let (mut body, mut text) = (answer.body, Vec::new());
    while let Some(Ok(chunk)) = body.next().await {
        text.extend_from_slice(&chunk);
        if text.len() > ERROR_LIMIT {
            text.truncate(ERROR_LIMIT);
            break;
        }
    }
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    match answer.head.status {
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

    fn chosen(pod: &Value, wanted: &str) -> Result<String, String> {
        container(pod, "p", Some(wanted)).map_err(|status| status.message)
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
        assert_eq!(chosen(&two, "i"), Ok("i".into()));
        assert_eq!(chosen(&two, "x"), Err("container x is not valid for pod p".into()));
        two["metadata"] = json!({"annotations": {"kubectl.kubernetes.io/default-container": "b"}});
        assert_eq!(chosen(&two, ""), Ok("b".into()));
    }
}
