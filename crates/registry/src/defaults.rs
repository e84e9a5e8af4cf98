//! The objects that every plane begins with. The composition creates them through the API, like any client.

use apimachinery::status::Status;
use serde_json::{Value, json};

use crate::{Options, ranges::Ranges};

/// Namespaces that are always there.
pub const NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// The namespaces, and the service by which pods find the API at `port`: it has the first address of the service range.
/// In the order in which they are to be created; what exists already is left alone.
pub fn manifests(options: &Options, port: u16) -> Result<Vec<Value>, Status> {
    let ranges = Ranges::new(&options.service_cidr, options.node_ports, options.random.clone())?;
    let namespace = |name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    let mut all: Vec<Value> = NAMESPACES.iter().map(namespace).collect();
    let address = ranges.first_address().to_string();
    all.push(json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "clusterIP": address,
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}],
        },
    }));
    Ok(all)
}
