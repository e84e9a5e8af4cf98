use crate::Error;

/// Who a client certificate speaks for. The names are those that `auth`'s bootstrap policy binds roles to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The person who runs the plane: every right, through an ordinary binding that can be taken away.
    Admin,
    /// The controllers.
    ControllerManager,
    /// The scheduler.
    Scheduler,
    /// Who knows what nodes and pods use.
    MetricsServer,
    /// The kubelet of the node of this name.
    Node(String),
    /// The proxy of Services on the node of this name. All have upstream's one user name.
    Proxy(String),
    /// The edge (gateway, component host, durable worker) of this name.
    Edge(String),
    /// The API server where it calls kubelets.
    KubeletClient,
    /// The API server where it installs what every plane has.
    Bootstrap,
    /// The API server where it passes requests on to servers of aggregated APIs. Its authority is none but theirs.
    FrontProxy,
}

impl Identity {
    /// The certificate's common name: the user name.
    pub fn common_name(&self) -> String {
        match self {
            Self::Admin => "kubernetes-admin".to_owned(),
            Self::ControllerManager => "system:kube-controller-manager".to_owned(),
            Self::Scheduler => "system:kube-scheduler".to_owned(),
            Self::MetricsServer => "system:metrics-server".to_owned(),
            Self::Node(name) => format!("system:node:{name}"),
            Self::Proxy(_) => "system:kube-proxy".to_owned(),
            Self::Edge(name) => format!("system:monoplane:edge:{name}"),
            Self::KubeletClient => "kube-apiserver-kubelet-client".to_owned(),
            Self::Bootstrap => "system:apiserver".to_owned(),
            Self::FrontProxy => "front-proxy-client".to_owned(),
        }
    }

    /// The certificate's organisation: the group. The upstream controllers, scheduler and proxy have none.
    pub fn group(&self) -> Option<&'static str> {
        match self {
            Self::Admin => Some("monoplane:cluster-admins"),
            Self::ControllerManager | Self::Scheduler | Self::MetricsServer => None,
            Self::Proxy(_) | Self::FrontProxy => None,
            Self::Node(_) => Some("system:nodes"),
            Self::Edge(_) => Some("system:monoplane:edges"),
            Self::KubeletClient => Some("system:monoplane:kubelet-clients"),
            Self::Bootstrap => Some("system:monoplane:bootstrap"),
        }
    }

    /// The name of the file that keeps its certificate and key.
    pub(crate) fn file_name(&self) -> Result<String, Error> {
        Ok(match self {
            Self::Admin => "admin.pem".to_owned(),
            Self::ControllerManager => "controller-manager.pem".to_owned(),
            Self::Scheduler => "scheduler.pem".to_owned(),
            Self::MetricsServer => "metrics-server.pem".to_owned(),
            Self::Node(name) => format!("node-{}.pem", checked(name)?),
            Self::Proxy(name) => format!("proxy-{}.pem", checked(name)?),
            Self::Edge(name) => format!("edge-{}.pem", checked(name)?),
            Self::KubeletClient => "kubelet-client.pem".to_owned(),
            Self::Bootstrap => "bootstrap.pem".to_owned(),
            Self::FrontProxy => "front-proxy-client.pem".to_owned(),
        })
    }
}

/// The name, if it is one that a node may have (a DNS subdomain): such a name is safe in a path too.
pub(crate) fn checked(name: &str) -> Result<&str, Error> {
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    if name.len() <= 253 && name.split('.').all(label) {
        return Ok(name);
    }
    Err(Error::InvalidName { name: name.to_owned(), reason: "must be a lowercase RFC 1123 subdomain" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_the_directory_are_refused() {
        for name in ["", "..", "a/b", "../ca", "A", "a..b", "-a", "a-", "a\0", "a b", &"a".repeat(254)] {
            assert!(checked(name).is_err(), "{name:?}");
        }
        for name in ["a", "node-1", "host.example.org", "10"] {
            assert!(checked(name).is_ok(), "{name:?}");
        }
    }
}
