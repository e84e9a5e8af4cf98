//! Requests for certificates: approved where they are a node's own, signed once they are approved, and taken away when
//! nobody looks at them any more.

pub mod approving;
pub mod cleaning;
mod serving;
pub mod signing;

use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use std::collections::BTreeSet;

pub(crate) const APPROVED: &str = "Approved";
pub(crate) const DENIED: &str = "Denied";
pub(crate) const FAILED: &str = "Failed";

/// Who signs for clients of the API.
pub(crate) const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
/// Who signs for kubelets that are clients of the API.
pub(crate) const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// Who signs for kubelets as servers.
pub(crate) const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";

/// Conditions of a type, as far as a request has any.
pub(crate) fn conditions<'a>(
    request: &'a CertificateSigningRequest,
    kind: &'a str,
) -> impl Iterator<Item = &'a CertificateSigningRequestCondition> {
    let all = request.status.iter().flat_map(|status| status.conditions.iter().flatten());
    all.filter(move |condition| condition.type_ == kind)
}

/// Whether a request has a condition of that type, whatever its status: these have only one.
pub(crate) fn has(request: &CertificateSigningRequest, kind: &str) -> bool {
    conditions(request, kind).next().is_some()
}

/// The certificate that was issued (PEM), if one was.
pub(crate) fn issued(request: &CertificateSigningRequest) -> Option<&[u8]> {
    let certificate = request.status.as_ref()?.certificate.as_ref()?;
    Some(certificate.0.as_slice()).filter(|bytes| !bytes.is_empty())
}

/// The usages that are asked for.
pub(crate) fn usages(request: &CertificateSigningRequest) -> BTreeSet<&str> {
    request.spec.usages.iter().flatten().map(String::as_str).collect()
}

/// All conditions and one more, as a patch of the status says them.
pub(crate) fn with_condition(
    request: &CertificateSigningRequest,
    kind: &str,
    reason: &str,
    message: &str,
) -> serde_json::Value {
    let known = request.status.iter().flat_map(|status| status.conditions.iter().flatten());
    // What the API's own types serialise to cannot fail to be JSON.
    let mut all: Vec<_> =
        known.map(|condition| serde_json::to_value(condition).unwrap_or_default()).collect();
    all.push(serde_json::json!({ "type": kind, "status": "True", "reason": reason, "message": message }));
    all.into()
}

/// What the API server asks of a kubelet's certificate, of a client or of a server; the error is upstream's.
pub(crate) fn kubelet_faults(
    asked: &pki::SigningRequest,
    usages: &BTreeSet<&str>,
    serving: bool,
) -> Result<(), String> {
    let refuse = |why: &str| Err(why.to_owned());
    if asked.organisations != ["system:nodes"] {
        return refuse("subject organization is not system:nodes");
    }
    if serving {
        if asked.dns_names.is_empty() && asked.addresses.is_empty() {
            return refuse("DNS or IP subjectAltName is required");
        }
    } else if !asked.dns_names.is_empty() {
        return refuse("DNS subjectAltNames are not allowed");
    }
    if !asked.emails.is_empty() {
        return refuse("Email subjectAltNames are not allowed");
    }
    if !serving && !asked.addresses.is_empty() {
        return refuse("IP subjectAltNames are not allowed");
    }
    if !asked.uris.is_empty() {
        return refuse("URI subjectAltNames are not allowed");
    }
    // The two kinds are checked in different orders; which fault is named first is protocol.
    let name = || {
        let is_node = asked.common_name.starts_with("system:node:");
        is_node.then_some(()).ok_or_else(|| "subject common name does not begin with system:node:".to_owned())
    };
    let words = || kubelet_usages(usages, if serving { "server auth" } else { "client auth" });
    if serving { words().and_then(|()| name()) } else { name().and_then(|()| words()) }
}

/// Exactly these usages; keys other than RSA's have no use for the encipherment of keys.
fn kubelet_usages(usages: &BTreeSet<&str>, purpose: &str) -> Result<(), String> {
    let mut wanted = BTreeSet::from(["digital signature", "key encipherment", purpose]);
    let all: Vec<&str> = wanted.iter().copied().collect();
    if *usages == wanted {
        return Ok(());
    }
    wanted.remove("key encipherment");
    if *usages == wanted {
        return Ok(());
    }
    Err(format!("usages did not match [{}]", all.join(" ")))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A request by `system:node:n` of `system:nodes`, with a key of P-256, and without alternative names.
    pub(crate) const NODE_REQUEST: &str = include_str!("../../tests/fixtures/node.csr");

    type Change = fn(&mut pki::SigningRequest);

    #[test]
    fn what_a_kubelet_may_ask_for() {
        let client = BTreeSet::from(["digital signature", "client auth"]);
        let server = BTreeSet::from(["digital signature", "key encipherment", "server auth"]);
        let asked = pki::SigningRequest::from_pem(NODE_REQUEST.as_bytes()).unwrap();
        let check = |change: Change, usages: &BTreeSet<&str>, serving| {
            let mut asked = asked.clone();
            change(&mut asked);
            kubelet_faults(&asked, usages, serving).err().unwrap_or_default()
        };
        assert_eq!(check(|_| {}, &client, false), "");
        assert_eq!(check(|asked| asked.dns_names.push("n".into()), &server, true), "");
        assert_eq!(check(|_| {}, &server, true), "DNS or IP subjectAltName is required");
        let cases: [(Change, &str); 6] = [
            (|asked| asked.organisations.push("x".into()), "subject organization is not system:nodes"),
            (|asked| asked.dns_names.push("n".into()), "DNS subjectAltNames are not allowed"),
            (|asked| asked.emails.push("n@x".into()), "Email subjectAltNames are not allowed"),
            (|asked| asked.addresses.push([1, 2, 3, 4].into()), "IP subjectAltNames are not allowed"),
            (|asked| asked.uris.push("x:y".into()), "URI subjectAltNames are not allowed"),
            (
                |asked| asked.common_name = "system:nodes:n".into(),
                "subject common name does not begin with system:node:",
            ),
        ];
        for (change, why) in cases {
            assert_eq!(check(change, &client, false), why);
        }
        let why = "usages did not match [client auth digital signature key encipherment]";
        assert_eq!(check(|_| {}, &server, false), why);
        assert_eq!(
            check(|asked| asked.dns_names.push("n".into()), &client, true),
            "usages did not match [digital signature key encipherment server auth]"
        );
    }
}
