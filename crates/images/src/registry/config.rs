//! Which registries a node knows more about than their names: mirrors, credentials, authorities.
//!
//! The shape is that of K3s's `registries.yaml`, which its users know.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use egress::{Allowance, Connector, Policy};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;

use super::RegistryError;
use super::credential::Credential;
use super::url::{Url, is_loopback};

/// Any registry that has no entry of its own.
const ANY: &str = "*";
/// Where Docker Hub really answers.
const HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");

/// What an administrator says of registries.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegistryConfig {
    /// By registry (`docker.io`, `registry.example:5000`, or `*` for all others): who is asked before it is.
    pub mirrors: BTreeMap<String, Mirrors>,
    /// By `host[:port]`, of a registry or of a mirror: how to talk to it.
    pub configs: BTreeMap<String, HostConfig>,
}

/// The mirrors of a registry.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mirrors {
    /// `http://host[:port][/path]` or with https, in the order in which they are asked. `/v2` is added to the path.
    #[serde(alias = "endpoints")]
    pub endpoint: Vec<String>,
}

/// How to talk to one host.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostConfig {
    /// Who the node is to it, when a pod brings nothing better.
    pub auth: Option<Credential>,
    /// Its certificates, and the node's.
    pub tls: Option<Tls>,
    /// Speak plain HTTP with it. So it is anyway for registries on loopback that have no `tls`.
    pub plain_http: bool,
}

/// Certificates.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// Authorities in PEM, trusted beside the web's.
    pub ca_file: Option<PathBuf>,
    /// The node's own certificate in PEM, with its chain.
    pub cert_file: Option<PathBuf>,
    /// Its key in PEM.
    pub key_file: Option<PathBuf>,
}

/// One way to a registry's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Ends in `/v2`.
    pub(crate) base: Url,
    /// It speaks for another registry, of this name.
    pub(crate) mirrors: Option<String>,
}

/// A configuration that has been checked, with the connections that it allows.
#[derive(Debug)]
pub(crate) struct Hosts {
    config: RegistryConfig,
    mirrors: BTreeMap<String, Vec<Url>>,
    connector: Connector,
    /// Those with certificates of their own, by authority.
    secured: HashMap<String, Connector>,
}

impl Hosts {
    /// Checks a configuration. Hosts that it names may be reached wherever they are; of all others `policy` decides.
    pub(crate) fn new(config: RegistryConfig, mut policy: Policy) -> Result<Self, RegistryError> {
        let mut mirrors = BTreeMap::new();
        for (registry, named) in &config.mirrors {
            let mut urls = Vec::new();
            for (index, text) in named.endpoint.iter().enumerate() {
                let at = |error: RegistryError| {
                    RegistryError::Config(format!("mirrors[{registry}].endpoint[{index}]: {error}"))
                };
                let mut url = Url::parse(text).map_err(at)?;
                let path = url.path.trim_end_matches('/');
                url.path = if path.ends_with("/v2") { path.to_owned() } else { format!("{path}/v2") };
                urls.push(url);
            }
            mirrors.insert(registry.clone(), urls);
        }
        let endpoints = mirrors.values().flatten().map(|url| {
            let authority = url.origin.authority();
            if url.origin.https || authority.contains(':') { authority } else { format!("{authority}:80") }
        });
        let named = endpoints.chain(config.configs.keys().cloned());
        for host in named.chain(config.mirrors.keys().filter(|name| *name != ANY).cloned()) {
            policy.allow.push(allowance(&host)?);
        }
        let connector = Connector::new(policy);
        let mut secured = HashMap::new();
        for (host, tls) in
            config.configs.iter().filter_map(|(host, config)| Some((host, config.tls.as_ref()?)))
        {
            let tls = client_config(tls)
                .map_err(|error| RegistryError::Config(format!("configs[{host}].tls: {error}")))?;
            secured.insert(host.to_ascii_lowercase(), connector.with_tls(Arc::new(tls)));
        }
        Ok(Self { config, mirrors, connector, secured })
    }

    /// How to reach this `host[:port]`.
    pub(crate) fn connector(&self, authority: &str) -> &Connector {
        self.secured.get(authority).unwrap_or(&self.connector)
    }

    /// Who is asked for a registry's content, in this order.
    pub(crate) fn endpoints(&self, registry: &str) -> Result<Vec<Endpoint>, RegistryError> {
        let mirrors = self.mirrors.get(registry).or_else(|| self.mirrors.get(ANY));
        let own = self.own(registry)?;
        let mirrors = mirrors.into_iter().flatten().filter(|url| **url != own.base);
        let mirrors = mirrors.map(|base| Endpoint { base: base.clone(), mirrors: Some(registry.to_owned()) });
        Ok(mirrors.chain([own.clone()]).collect())
    }

    /// The registry itself, which takes what is pushed.
    pub(crate) fn own(&self, registry: &str) -> Result<Endpoint, RegistryError> {
        let config = self.config.configs.get(registry);
        let tls = config.is_some_and(|config| config.tls.is_some());
        let plain = config.is_some_and(|config| config.plain_http) || (is_loopback(registry) && !tls);
        let host = if registry == HUB.0 { HUB.1 } else { registry };
        let base = Url::parse(&format!("{}://{host}/v2", if plain { "http" } else { "https" }))?;
        Ok(Endpoint { base, mirrors: None })
    }

    /// Who the node itself is to an endpoint.
    pub(crate) fn credential(&self, endpoint: &Endpoint, registry: &str) -> Option<&Credential> {
        let authority = endpoint.base.origin.authority();
        let of = |host: &str| self.config.configs.get(host)?.auth.as_ref();
        of(&authority).or_else(|| endpoint.mirrors.is_none().then(|| of(registry)).flatten())
    }
}

fn allowance(host: &str) -> Result<Allowance, RegistryError> {
    host.parse().map_err(|error| RegistryError::Config(format!("{host}: {error}")))
}

fn client_config(tls: &Tls) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(file) = &tls.ca_file {
        for certificate in certificates("ca_file", file)? {
            roots.add(certificate).map_err(|error| format!("ca_file: {}: {error}", file.display()))?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    let mut config = match (&tls.cert_file, &tls.key_file) {
        (None, None) => builder.with_no_client_auth(),
        (Some(certificate), Some(key)) => {
            let found = PrivateKeyDer::from_pem_file(key);
            let key = found.map_err(|error| format!("key_file: {}: {error}", key.display()))?;
            let chain = certificates("cert_file", certificate)?;
            builder.with_client_auth_cert(chain, key).map_err(|error| error.to_string())?
        }
        _ => return Err("cert_file and key_file go together".to_owned()),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn certificates(field: &str, file: &PathBuf) -> Result<Vec<CertificateDer<'static>>, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("{field}: {}: {error}", file.display());
    let found = CertificateDer::pem_file_iter(file).map_err(|error| wrong(&error))?;
    let found = found.collect::<Result<Vec<_>, _>>().map_err(|error| wrong(&error))?;
    if found.is_empty() { Err(wrong(&"it holds no certificate")) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(json: serde_json::Value) -> Result<Hosts, RegistryError> {
        Hosts::new(serde_json::from_value(json).unwrap(), Policy::default())
    }

    fn asked(hosts: &Hosts, registry: &str) -> Vec<String> {
        hosts.endpoints(registry).unwrap().iter().map(|endpoint| endpoint.base.to_string()).collect()
    }

    #[test]
    fn mirrors_come_first_and_the_registry_last() {
        let hosts = hosts(serde_json::json!({
            "mirrors": {
                "docker.io": {"endpoint": ["http://mirror:5000", "https://other/proxy/"]},
                "*": {"endpoint": ["https://all.example/v2"]},
            },
            "configs": {"plain.example": {"plain_http": true}},
        }))
        .unwrap();
        assert_eq!(
            asked(&hosts, "docker.io"),
            ["http://mirror:5000/v2", "https://other/proxy/v2", "https://registry-1.docker.io/v2"]
        );
        assert_eq!(asked(&hosts, "plain.example"), ["https://all.example/v2", "http://plain.example/v2"]);
        assert_eq!(asked(&hosts, "localhost:5000")[1], "http://localhost:5000/v2");
        assert_eq!(asked(&hosts, "all.example"), ["https://all.example/v2"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = hosts(serde_json::json!({"mirrors": {"a.example": {"endpoint": ["mirror:5000"]}}}));
        assert!(error.unwrap_err().to_string().starts_with("mirrors[a.example].endpoint[0]: "));
        let error = hosts(serde_json::json!({"configs": {"a.example": {"tls": {"ca_file": "/none"}}}}));
        assert!(error.unwrap_err().to_string().starts_with("configs[a.example].tls: ca_file: /none"));
        let unknown = serde_json::json!({"configs": {"a": {"tls": {"insecure_skip_verify": true}}}});
        assert!(serde_json::from_value::<RegistryConfig>(unknown).is_err());
    }
}
