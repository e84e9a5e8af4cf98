//! Who asks for certificates, and who may approve and sign them: upstream's CertificateApproval, CertificateSigning and
//! CertificateSubjectRestriction, and what NodeRestriction says of them.

use std::sync::Arc;

use apimachinery::gvk::GroupResource;
use apimachinery::status::Status;
use auth::{Authorizer, Resource, Target, UserInfo};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use registry::{Attributes, Operation};
use serde_json::{Value, json};

use crate::ApiServer;

const GROUP: &str = "certificates.k8s.io";
const PLURAL: &str = "certificatesigningrequests";
/// Whose certificates are those of clients of this server.
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";
const MASTERS: &str = "system:masters";
/// Whose certificates are kubelets'.
const KUBELET_SIGNERS: [&str; 2] =
    ["kubernetes.io/kube-apiserver-client-kubelet", "kubernetes.io/kubelet-serving"];

/// Why a kubelet may not ask so: it asks for its own certificates and for no other node's. Upstream's NodeRestriction.
fn fault_of_node(user: &UserInfo, signer: &str, asked: &[u8]) -> Option<String> {
    let node = user.node().filter(|_| KUBELET_SIGNERS.contains(&signer))?;
    let own = format!("{}{node}", auth::user::NODE_PREFIX);
    match pki::SigningRequest::from_pem(asked) {
        Err(error) => Some(format!("unable to parse csr: {error}")),
        Ok(asked) if asked.common_name == own => None,
        Ok(_) => Some(format!("can only create a node CSR with CN={own}")),
    }
}

fn is_request(attributes: &Attributes<'_>) -> bool {
    attributes.kind.group == GROUP && attributes.kind.plural == PLURAL
}

/// Writes into a new request who made it, whatever it says itself.
pub(super) fn stamp(user: &UserInfo, attributes: &Attributes<'_>, object: &mut Value) {
    if !is_request(attributes) || attributes.operation != Operation::Create {
        return;
    }
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else { return };
    for field in ["username", "uid", "groups", "extra"] {
        spec.remove(field);
    }
    spec.insert("username".into(), user.name.clone().into());
    if !user.uid.is_empty() {
        spec.insert("uid".into(), user.uid.clone().into());
    }
    if !user.groups.is_empty() {
        spec.insert("groups".into(), json!(user.groups));
    }
    if !user.extra.is_empty() {
        spec.insert("extra".into(), json!(user.extra));
    }
}

/// Refuses what the user may not ask for, approve or sign.
pub(super) fn check(
    server: &Arc<ApiServer>,
    user: &UserInfo,
    attributes: &Attributes<'_>,
    object: Option<&Value>,
) -> Result<(), Status> {
    let Some(request) = object.filter(|_| is_request(attributes)) else { return Ok(()) };
    let refuse = |why: String| {
        let resource = GroupResource::of(GROUP, PLURAL);
        Err(Status::forbidden(&resource, attributes.name, why))
    };
    let signer = |request: &Value| text(request, "/spec/signerName").to_owned();
    match (attributes.operation, attributes.subresource) {
        (Operation::Create, "") => {
            let asked = STANDARD.decode(text(request, "/spec/request")).unwrap_or_default();
            if let Some(why) = fault_of_node(user, &signer(request), &asked) {
                return refuse(why);
            }
            let is_master = || auth::organizations_of_request(&asked).iter().any(|name| name == MASTERS);
            if signer(request) == CLIENT_SIGNER && is_master() {
                return refuse(format!("use of {CLIENT_SIGNER} signer with {MASTERS} group is not allowed"));
            }
        }
        (Operation::Update, "approval") => {
            let signer = signer(attributes.old.unwrap_or(request));
            if !may(server, user, "approve", &signer) {
                return refuse(format!("user not permitted to approve requests with signerName {signer:?}"));
            }
        }
        (Operation::Update, "status") => {
            let is_same =
                |part: &str| attributes.old.and_then(|old| old.pointer(part)) == request.pointer(part);
            let signer = signer(attributes.old.unwrap_or(request));
            let is_signed = !is_same("/status/certificate") || !is_same("/status/conditions");
            if is_signed && !may(server, user, "sign", &signer) {
                return refuse(format!("user not permitted to sign requests with signerName {signer:?}"));
            }
        }
        _ => {}
    }
    Ok(())
}

/// Whether the user has the verb on the signer, or on all of its domain.
fn may(server: &ApiServer, user: &UserInfo, verb: &str, signer: &str) -> bool {
    let domain = signer.split('/').next().unwrap_or_default();
    [signer, &format!("{domain}/*")].into_iter().any(|name| {
        let resource =
            Resource { group: GROUP, version: "*", resource: "signers", name, ..Resource::default() };
        let attributes = auth::Attributes { user, verb, target: Target::Resource(resource) };
        server.authorization.authorize(&attributes).is_allowed()
    })
}

fn text<'a>(tree: &'a Value, pointer: &str) -> &'a str {
    tree.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
