//! Paths that are no resources: discovery, OpenAPI, the version, health.

use std::sync::{Arc, LazyLock};

use apimachinery::status::Status;
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode};
use serde_json::json;

use crate::aggregation::Table;
use crate::body::Body;
use crate::document::View;
use crate::negotiate::{self, Syntax};
use crate::respond::{self, Answer};
use crate::server::{ApiServer, Call};
use crate::{health, instruments};

pub(crate) async fn serve(server: &Arc<ApiServer>, call: &Call<'_>) -> Answer {
    if !matches!(call.parts.method, Method::GET | Method::HEAD) {
        return Err(Status::no_such_path());
    }
    let path = call.parts.uri.path();
    if let Some(answer) = health::serve(server, path, call.query).await {
        return answer;
    }
    match path.trim_end_matches('/') {
        "" => paths(server, &server.aggregation.table()),
        "/version" => respond::bytes(StatusCode::OK, Syntax::Json, VERSION.clone()),
        "/metrics" => {
            let media_type = HeaderValue::from_static(::instruments::TEXT);
            Ok(respond::with_type(StatusCode::OK, media_type, Body::whole(instruments::page(server))))
        }
        "/.well-known/openid-configuration" => {
            respond::tree(StatusCode::OK, Syntax::Json, &server.authenticators.accounts()?.configuration())
        }
        "/openid/v1/jwks" => {
            let keys = server.authenticators.accounts()?.keys().to_string();
            let media_type = HeaderValue::from_static("application/jwk-set+json");
            Ok(respond::with_type(StatusCode::OK, media_type, Body::whole(keys)))
        }
        trimmed => {
            let (kinds, table) = (server.registry.kinds(), server.aggregation.table());
            let view = View { kinds: &kinds, table: &table };
            server.documents.serve(view, &call.parts.headers, trimmed, call.query)
        }
    }
}

/// What there is.
fn paths(server: &ApiServer, table: &Table) -> Answer {
    let kinds = server.registry.kinds();
    let mut paths = vec!["/api".to_owned(), "/api/v1".to_owned(), "/apis".to_owned()];
    for group in kinds.groups().iter().filter(|group| !group.name.is_empty()) {
        paths.push(format!("/apis/{}", group.name));
        paths.extend(group.versions.iter().map(|version| format!("/apis/{}/{version}", group.name)));
    }
    for remote in table.all().filter(|remote| remote.available) {
        paths.extend([format!("/apis/{}", remote.group), remote.path()]);
    }
    paths.sort();
    paths.dedup();
    paths.extend(
        [
            "/.well-known/openid-configuration",
            "/healthz",
            "/livez",
            "/metrics",
            "/openapi/v2",
            "/openapi/v3",
            "/readyz",
            "/version",
        ]
        .map(str::to_owned),
    );
    respond::tree(StatusCode::OK, Syntax::Json, &json!({"paths": paths}))
}

/// The version of Kubernetes that we speak, and our own behind it.
pub(crate) const GIT_VERSION: &str = concat!("v1.36.0+monoplane.", env!("CARGO_PKG_VERSION"));

static VERSION: LazyLock<Bytes> = LazyLock::new(|| {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let version = json!({
        "major": "1",
        "minor": "36",
        "gitVersion": GIT_VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("linux/{architecture}"),
        "emulationMajor": "1",
        "emulationMinor": "36",
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "35",
    });
    Bytes::from(version.to_string())
});

/// Whether the client has the document already.
pub(crate) fn is_known(headers: &http::HeaderMap, etag: &str) -> bool {
    let known = headers.get(http::header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    known.is_some_and(|known| known.split(',').any(|each| each.trim() == etag || each.trim() == "*"))
}

/// Whether a document may be sent as JSON to this client.
pub(crate) fn takes_json(headers: &http::HeaderMap) -> Result<(), Status> {
    negotiate::form(headers).map(|_| ())
}
