use crate::{Attributes, Target};

/// Why a request was refused, in upstream's words: what follows `… is forbidden: ` in the Status.
pub fn forbidden_message(attributes: &Attributes<'_>, reason: &str) -> String {
    let (user, verb) = (&attributes.user.name, attributes.verb);
    let mut message = match &attributes.target {
        Target::Path(path) => format!("User {user:?} cannot {verb} path {path:?}"),
        Target::Resource(target) => {
            let slash = if target.subresource.is_empty() { "" } else { "/" };
            let resource = format!("{}{slash}{}", target.resource, target.subresource);
            let group = target.group;
            let wanted = format!("User {user:?} cannot {verb} resource {resource:?} in API group {group:?}");
            if target.namespace.is_empty() {
                format!("{wanted} at the cluster scope")
            } else {
                format!("{wanted} in the namespace {:?}", target.namespace)
            }
        }
    };
    // Names and paths come from outside; a browser that shows the answer must not read markup in it.
    if message.contains(['&', '<', '>']) {
        message = message.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    }
    if !reason.is_empty() {
        message.push_str(": ");
        message.push_str(reason);
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Resource, UserInfo};

    #[test]
    fn in_upstreams_words() {
        let user = UserInfo { name: "bob".into(), ..UserInfo::default() };
        let message = |verb, target| forbidden_message(&Attributes { user: &user, verb, target }, "");
        let config_maps = Resource { resource: "configmaps", namespace: "default", ..Resource::default() };
        assert_eq!(
            message("get", Target::Resource(config_maps)),
            r#"User "bob" cannot get resource "configmaps" in API group "" in the namespace "default""#
        );
        let scale =
            Resource { group: "apps", resource: "deployments", subresource: "scale", ..Resource::default() };
        assert_eq!(
            message("update", Target::Resource(scale)),
            r#"User "bob" cannot update resource "deployments/scale" in API group "apps" at the cluster scope"#
        );
        assert_eq!(message("get", Target::Path("/a<b")), r#"User "bob" cannot get path "/a&lt;b""#);
    }
}
