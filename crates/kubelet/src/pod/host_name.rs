//! The names by which a pod's processes know their machine.

use api::k8s::api::core::v1::PodSpec;

/// Of a label of a name, in bytes.
const LABEL_LIMIT: usize = 63;
/// Of what the kernel takes for a host's name, in bytes.
const KERNEL_LIMIT: usize = 64;

/// The pod's host name, without a domain.
pub(crate) fn short(spec: &PodSpec, pod_name: &str) -> String {
    let name = spec.hostname_override.as_ref().or(spec.hostname.as_ref()).map_or(pod_name, String::as_str);
    let short = name.get(..LABEL_LIMIT).unwrap_or(name);
    short.trim_end_matches(['-', '.']).to_owned()
}

/// The name with its domain, for a pod that has one: `cluster` is the cluster's.
pub(crate) fn qualified(spec: &PodSpec, pod_name: &str, namespace: &str, cluster: &str) -> Option<String> {
    let subdomain = spec.subdomain.as_deref().filter(|subdomain| !subdomain.is_empty())?;
    // A name that is said to be the kernel's is all of it.
    let own = spec.hostname_override.is_none();
    own.then(|| format!("{}.{subdomain}.{namespace}.svc.{cluster}", short(spec, pod_name)))
}

/// What `hostname` says in a container.
///
/// # Errors
/// When the pod wants its domain there too and the kernel has no room for it.
pub(crate) fn in_kernel(
    spec: &PodSpec,
    pod_name: &str,
    namespace: &str,
    cluster: &str,
) -> Result<String, String> {
    let wanted = spec.set_hostname_as_fqdn == Some(true);
    let Some(name) = qualified(spec, pod_name, namespace, cluster).filter(|_| wanted) else {
        return Ok(short(spec, pod_name));
    };
    match name.len() {
        ..=KERNEL_LIMIT => Ok(name),
        length => Err(format!(
            "failed to construct FQDN from pod hostname and cluster domain, FQDN {name} is too long \
             ({KERNEL_LIMIT} characters is the max, {length} characters requested)"
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_kernel_knows_the_domain_where_the_pod_wants_it_and_it_fits() {
        let check = |mut spec: serde_json::Value, expected: Result<&str, &str>| {
            spec["containers"] = json!([]);
            let spec: PodSpec = serde_json::from_value(spec).unwrap();
            match (in_kernel(&spec, "pod.one", "n", "c.l"), expected) {
                (Ok(name), Ok(expected)) => assert_eq!(name, expected),
                (Err(why), Err(expected)) => assert!(why.contains(expected), "{why}"),
                (found, expected) => panic!("{found:?} instead of {expected:?}"),
            }
        };
        check(json!({}), Ok("pod.one"));
        check(json!({"setHostnameAsFQDN": true}), Ok("pod.one"));
        check(json!({"hostname": "h", "subdomain": "s"}), Ok("h"));
        check(json!({"hostname": "h", "subdomain": "s", "setHostnameAsFQDN": true}), Ok("h.s.n.svc.c.l"));
        check(json!({"hostnameOverride": "o.p", "subdomain": "s"}), Ok("o.p"));
        let long = "s".repeat(54);
        check(
            json!({"hostname": "h", "subdomain": long, "setHostnameAsFQDN": true}),
            Err("66 characters requested"),
        );
        let fits = "s".repeat(52);
        let name = format!("h.{fits}.n.svc.c.l");
        check(json!({"hostname": "h", "subdomain": fits, "setHostnameAsFQDN": true}), Ok(&name));
    }
}
