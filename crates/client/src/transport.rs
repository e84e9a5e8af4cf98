//! How the bytes travel: over HTTPS as a kubeconfig says, or straight into a handler of the same process.
//!
//! Both give `kube`'s [`Client`]; nothing above this module can tell them apart. A transport that loses, delays and
//! repeats (for the simulator) is a `tower` layer in front of [`in_memory`]'s service.

use http::header::USER_AGENT;
use http::{HeaderValue, Request, Response};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::Client;
use kube::client::{Body, ConfigExt};
use kube::config::{Config, KubeConfigOptions, Kubeconfig, KubeconfigError};
use std::path::Path;
use std::time::Duration;
use tower::{BoxError, Layer};

use crate::servers::{Connector, Servers};

/// A peer that has acknowledged nothing for twice as long, asked meanwhile whether it is there, is not.
const SILENCE: Duration = Duration::from_secs(10);

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The kubeconfig cannot be read or makes no sense.
    #[error("kubeconfig: {0}")]
    Kubeconfig(#[from] KubeconfigError),
    /// The credentials or the server's address in it cannot be used.
    #[error("client: {0}")]
    Client(#[from] kube::Error),
}

/// A client of that name for the current context of a kubeconfig file: what it writes is managed under the name. Relative
/// paths in the file are taken from its folder.
///
/// # Errors
/// When the file cannot be read, or names credentials that cannot.
pub async fn from_kubeconfig_file(path: &Path, agent: &'static str) -> Result<Client, TransportError> {
    connect(Kubeconfig::read_from(path)?, Some(agent)).await
}

/// The same for somebody with a certificate, over whichever of the servers takes a connection; which of them the file names
/// is no matter. A connection on which nothing comes back is given up.
///
/// # Errors
/// As of [`from_kubeconfig_file`].
pub async fn from_kubeconfig_file_over(
    path: &Path,
    agent: &'static str,
    servers: &Servers,
) -> Result<Client, TransportError> {
    let config = configured(Kubeconfig::read_from(path)?, Some(agent)).await?;
    let mut sockets = HttpConnector::new();
    sockets.enforce_http(false);
    sockets.set_nodelay(true);
    sockets.set_keepalive(Some(SILENCE));
    sockets.set_keepalive_interval(Some(SILENCE));
    sockets.set_tcp_user_timeout(Some(2 * SILENCE));
    let each = config.rustls_https_connector_with_connector(sockets)?;
    let connector = Connector { servers: servers.clone(), each };
    let sender = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(connector);
    let service = config.base_uri_layer().layer(config.extra_headers_layer()?.layer(sender));
    Ok(Client::new(service, config.default_namespace))
}

/// The host of the API that the current context of a kubeconfig file leads to.
///
/// # Errors
/// When the file cannot be read.
pub async fn host_in_kubeconfig_file(path: &Path) -> Result<Option<String>, TransportError> {
    let kubeconfig = Kubeconfig::read_from(path)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(config.cluster_url.host().map(str::to_owned))
}

/// A client for the current context of a kubeconfig given as text.
///
/// # Errors
/// When the text is no kubeconfig, or names credentials that cannot be read.
pub async fn from_kubeconfig(text: &str) -> Result<Client, TransportError> {
    connect(Kubeconfig::from_yaml(text)?, None).await
}

async fn connect(kubeconfig: Kubeconfig, agent: Option<&'static str>) -> Result<Client, TransportError> {
    Ok(Client::try_from(configured(kubeconfig, agent).await?)?)
}

async fn configured(kubeconfig: Kubeconfig, agent: Option<&'static str>) -> Result<Config, TransportError> {
    // Two providers linked into one binary would make rustls panic when asked to choose: choose here.
    // An error only says that another part of the process has already chosen.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    if config.accept_invalid_certs {
        // Whoever answers is believed: the machine need not have any authorities to ask of.
        config.root_cert.get_or_insert_default();
    }
    config.headers.extend(agent.map(|agent| (USER_AGENT, HeaderValue::from_static(agent))));
    Ok(config)
}

/// A client whose requests are handed to `service` in this process: no socket, no TLS, the same HTTP. The service is the
/// API server's own handler with the role's certificate attached by the caller, so authentication, authorisation and
/// admission run as over the wire. Requests arrive as from a socket: an origin-form target and a Host header.
///
/// Must be called inside a tokio runtime (the client's buffer is a task, which ends with the last clone of the client).
pub fn in_memory<S, B>(service: S) -> Client
where
    S: tower::Service<Request<Body>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let service = tower::util::MapRequest::new(service, with_origin);
    Client::new(service, "default")
}

/// `kube` hands out a path with an empty or dangling query and no authority; a handler may expect what a socket delivers:
/// an absolute-path target, a clean query and a Host.
fn with_origin(request: Request<Body>) -> Request<Body> {
    let (mut parts, body) = request.into_parts();
    parts.uri = clean_target(&parts.uri);
    parts.headers.entry(http::header::HOST).or_insert(http::HeaderValue::from_static("in-memory"));
    Request::from_parts(parts, body)
}

fn clean_target(uri: &http::Uri) -> http::Uri {
    let query = uri.query().map(|query| query.trim_matches('&')).filter(|query| !query.is_empty());
    let target = match query {
        Some(query) => format!("{}?{query}", uri.path()),
        None => uri.path().to_owned(),
    };
    target.parse().unwrap_or_else(|_| uri.clone())
}

#[cfg(test)]
mod tests {
    use super::{clean_target, configured};
    use kube::config::Kubeconfig;

    #[tokio::test]
    async fn who_believes_anybody_needs_no_authorities() {
        for (insecure, asked_of) in [(true, Some(Vec::new())), (false, None)] {
            let text = format!(
                "{{current-context: a, contexts: [{{name: a, context: {{cluster: a}}}}], clusters: [{{name: a, cluster: \
                 {{server: 'https://a:1', insecure-skip-tls-verify: {insecure}}}}}]}}"
            );
            let config = configured(Kubeconfig::from_yaml(&text).unwrap(), None).await.unwrap();
            assert_eq!(config.root_cert, asked_of, "{insecure}");
        }
    }

    #[test]
    fn targets_lose_dangling_query_marks() {
        for (given, want) in [
            ("/api/v1/pods?", "/api/v1/pods"),
            ("/api/v1/pods?&limit=5", "/api/v1/pods?limit=5"),
            ("/api/v1/pods?watch=true&", "/api/v1/pods?watch=true"),
            ("/api/v1/pods", "/api/v1/pods"),
            ("http://host:1/api?&a=b%20c", "/api?a=b%20c"),
        ] {
            assert_eq!(clean_target(&given.parse().unwrap()).to_string(), want);
        }
    }
}
