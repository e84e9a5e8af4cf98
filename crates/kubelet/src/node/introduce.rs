//! A node that is told to the API before it can run pods: others decide what it needs for that.

use std::net::IpAddr;

use api::k8s::api::core::v1::{Node, NodeAddress, NodeSpec, NodeStatus, Taint};
use client::{Api, Client, Error, ObjectMeta, Patch, PatchParams, PostParams, write};
use serde_json::json;

/// The addresses of a node, as its status has them.
pub(crate) fn addresses(name: &str, all: &[IpAddr]) -> Vec<NodeAddress> {
    let address = |kind: &str, address: String| NodeAddress { type_: kind.to_owned(), address };
    let internal = all.iter().map(|ip| address("InternalIP", ip.to_string()));
    internal.chain([address("Hostname", name.to_owned())]).collect()
}

/// Makes the Node, if it is not there, and says by which addresses it is reached: from then on it may be given ranges of
/// addresses for its pods (`spec.podCIDRs`), and ask for a certificate of its server. No pod is sent to it yet.
///
/// # Errors
/// When the API cannot be reached, or refuses.
pub async fn introduce(client: &Client, name: &str, reached_by: &[IpAddr]) -> Result<Node, Error> {
    let nodes: Api<Node> = Api::all(client.clone());
    let addresses = addresses(name, reached_by);
    let known = nodes.get_opt(name).await?;
    let told =
        |node: &Node| node.status.as_ref().and_then(|status| status.addresses.as_ref()) == Some(&addresses);
    if let Some(node) = known.as_ref().filter(|node| told(node)) {
        return Ok(node.clone());
    }
    if known.is_none() {
        match nodes.create(&PostParams::default(), &unready(name)).await {
            Err(error) if !write::is_already_exists(&error) => return Err(error),
            _ => {}
        }
    }
    let status = Patch::Merge(json!({ "status": { "addresses": addresses } }));
    nodes.patch_status(name, &PatchParams::default(), &status).await
}

/// As upstream's admission marks a node that has not said yet that it is ready.
fn unready(name: &str) -> Node {
    let taint = Taint {
        key: "node.kubernetes.io/not-ready".to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Taint::default()
    };
    Node {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        spec: Some(NodeSpec { taints: Some(vec![taint]), ..NodeSpec::default() }),
        status: Some(NodeStatus::default()),
    }
}
