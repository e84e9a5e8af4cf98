//! What a joined node or edge keeps of who it is: in its folder, each file whole or not there.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use http::Uri;
use jiff::Timestamp;
use pki::{Credential, Held, Identity};

use crate::layout::keep_file;

/// A certificate that a node or an edge has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certificate {
    /// Of the kubelet, as a client.
    Kubelet,
    /// Of the proxy.
    Proxy,
    /// Of the kubelet's server.
    Serving,
    /// Of an edge.
    Edge,
}

impl Certificate {
    fn file(self) -> &'static str {
        match self {
            Self::Kubelet => "kubelet-client.pem",
            Self::Proxy => "proxy-client.pem",
            // As a server hands it out to its own node.
            Self::Serving => "kubelet.pem",
            Self::Edge => "edge-client.pem",
        }
    }

    /// Whom it speaks for.
    pub fn identity(self, name: &str) -> Identity {
        match self {
            Self::Kubelet | Self::Serving => Identity::Node(name.to_owned()),
            Self::Proxy => Identity::Proxy(name.to_owned()),
            Self::Edge => Identity::Edge(name.to_owned()),
        }
    }

    /// Who signs it.
    pub fn signer(self) -> &'static str {
        match self {
            Self::Kubelet => "kubernetes.io/kube-apiserver-client-kubelet",
            Self::Proxy | Self::Edge => "kubernetes.io/kube-apiserver-client",
            Self::Serving => "kubernetes.io/kubelet-serving",
        }
    }

    /// What it is for.
    pub fn usages(self) -> [&'static str; 2] {
        ["digital signature", if self == Self::Serving { "server auth" } else { "client auth" }]
    }
}

/// The folder.
#[derive(Clone, Debug)]
pub struct Files(PathBuf);

const AUTHORITY: &str = "ca.crt";
const SERVER: &str = "server";
const SERVERS: &str = "servers";

impl Files {
    /// In a node's or an edge's folder.
    pub fn at(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    /// The server that was joined, and the certificate of its authority.
    pub fn joined(&self) -> Option<(String, String)> {
        Some((self.text(SERVER)?, self.text(AUTHORITY)?))
    }

    /// Remembers both.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn join(&self, server: &str, authority: &str) -> Result<()> {
        keep_file(&self.0.join(AUTHORITY), authority.as_bytes(), 0o644)?;
        keep_file(&self.0.join(SERVER), server.as_bytes(), 0o600)
    }

    /// Servers that the plane was said to have, as far as they are remembered.
    pub fn remembered(&self) -> Vec<Uri> {
        let text = self.text(SERVERS).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Remembers them.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn remember(&self, servers: &[Uri]) -> Result<()> {
        let text: String = servers.iter().map(|server| format!("{server}\n")).collect();
        keep_file(&self.0.join(SERVERS), text.as_bytes(), 0o600)
    }

    /// A certificate for this name with its key, if there is one that is valid; damaged ones are none.
    pub fn held(&self, which: Certificate, name: &str, now: Timestamp) -> Option<(Credential, Held)> {
        let credential = Credential::from_pem(&self.text(which.file())?).ok()?;
        let held = Held::read(&credential).ok()?;
        let fits = held.common_name == which.identity(name).common_name() && held.not_after > now;
        fits.then_some((credential, held))
    }

    /// Keeps one, and what clients read of it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep(&self, which: Certificate, name: &str, credential: &Credential) -> Result<()> {
        keep_file(&self.0.join(which.file()), credential.to_pem().as_bytes(), 0o600)?;
        self.kubeconfig(which, name, credential)
    }

    /// Writes the kubeconfig of a client, for the server that was joined.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn kubeconfig(&self, which: Certificate, name: &str, credential: &Credential) -> Result<()> {
        let file = match which {
            Certificate::Kubelet | Certificate::Edge => "kubeconfig",
            Certificate::Proxy => "proxy.kubeconfig",
            Certificate::Serving => return Ok(()),
        };
        let (server, authority) = self.joined().context("this machine has joined no server")?;
        let text = pki::kubeconfig(&authority, &server, &which.identity(name).common_name(), credential);
        keep_file(&self.0.join(file), text.as_bytes(), 0o600)
    }

    /// Forgets whom it was given by another authority.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn forget(&self) -> Result<()> {
        for which in [Certificate::Kubelet, Certificate::Proxy, Certificate::Serving, Certificate::Edge] {
            let path = self.0.join(which.file());
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("removing {}", path.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn text(&self, file: &str) -> Option<String> {
        std::fs::read_to_string(self.0.join(file)).ok()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use jiff::SignedDuration;
    use pki::Authority;

    use super::*;

    #[test]
    fn what_is_kept_is_this_nodes_and_valid() {
        let directory = tempfile::tempdir().unwrap();
        let now: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        let authority = Authority::open(&directory.path().join("pki"), now).unwrap();
        let files = Files::at(directory.path());
        let credential = authority.client(&Identity::Node("one".into()), now).unwrap();
        assert!(files.joined().is_none() && files.keep(Certificate::Kubelet, "one", &credential).is_err());
        files.join("https://192.0.2.1:6443", authority.certificate_pem()).unwrap();
        files.keep(Certificate::Kubelet, "one", &credential).unwrap();
        let held = |node: &str, at| files.held(Certificate::Kubelet, node, at).is_some();
        assert!(held("one", now));
        assert!(!held("two", now), "the machine was another node");
        assert!(!held("one", now + SignedDuration::from_hours(366 * 24)), "it has expired");
        assert!(files.held(Certificate::Proxy, "one", now).is_none());
        let text = std::fs::read_to_string(directory.path().join("kubeconfig")).unwrap();
        assert!(text.contains("https://192.0.2.1:6443") && text.contains("system:node:one"), "{text}");
        std::fs::write(directory.path().join("kubelet-client.pem"), &credential.certificate_pem).unwrap();
        assert!(!held("one", now), "half of it is missing");
        files.keep(Certificate::Kubelet, "one", &credential).unwrap();
        assert!(files.remembered().is_empty());
        let servers: Vec<Uri> =
            ["https://192.0.2.1:6443/", "https://[2001:db8::1]:1/"].map(|text| text.parse().unwrap()).into();
        files.remember(&servers).unwrap();
        assert_eq!(files.remembered(), servers);
        files.forget().unwrap();
        files.forget().unwrap();
        assert!(!held("one", now) && files.joined().is_some());
    }
}
