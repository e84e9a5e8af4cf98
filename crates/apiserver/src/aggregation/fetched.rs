//! What another server says of what it serves.

use std::collections::BTreeSet;

use auth::UserInfo;
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use serde_json::{Map, Value, json};

use super::{Remote, proxy};
use crate::body;
use crate::outgoing::Outgoing;

/// Bytes of a document.
const LIMIT: usize = 16 << 20;

/// What a server said when it was asked last.
#[derive(Debug, PartialEq)]
pub(crate) struct Fetched {
    /// Its resources, as entries of an `APIResourceList`.
    pub(crate) resources: Vec<Value>,
    /// Where its OpenAPI v3 document is, with what identifies that; none if it has no such.
    pub(crate) openapi_v3: Option<String>,
    /// What its OpenAPI v2 document says of this group version: `paths` and `definitions`, as JSON.
    pub(crate) openapi_v2: Option<Bytes>,
}

impl Fetched {
    /// Asks the server, in the name of that user. Without OpenAPI it is there all the same.
    pub(super) async fn fetch(outgoing: &Outgoing, remote: &Remote, user: &UserInfo) -> Result<Self, String> {
        let list = get(outgoing, remote, user, &remote.path()).await?;
        let resources = list["resources"].as_array().cloned().unwrap_or_default();
        let openapi_v3 = get(outgoing, remote, user, "/openapi/v3").await.ok();
        let openapi_v3 = openapi_v3.and_then(|root| own_document(&root, remote));
        let openapi_v2 = get(outgoing, remote, user, "/openapi/v2").await.ok();
        let openapi_v2 = openapi_v2.and_then(|whole| serde_json::to_vec(&own_part(&whole, remote)).ok());
        Ok(Self { resources, openapi_v3, openapi_v2: openapi_v2.map(Bytes::from) })
    }
}

async fn get(outgoing: &Outgoing, remote: &Remote, user: &UserInfo, path: &str) -> Result<Value, String> {
    let said = |error: &dyn std::fmt::Display| error.to_string();
    let mut request = Request::get(path).body(body::nothing()).map_err(|error| said(&error))?;
    let headers = request.headers_mut();
    headers.insert(header::ACCEPT, header::HeaderValue::from_static("application/json"));
    proxy::identify(headers, user).map_err(|status| status.message)?;
    let response = remote.send(outgoing, request).await.map_err(|error| said(&error))?;
    let code = response.status();
    if code != StatusCode::OK {
        return Err(format!("bad status from {}: {}", remote.url(path), code.as_u16()));
    }
    let body = Limited::new(response.into_body(), LIMIT).collect().await.map_err(|error| said(&error))?;
    serde_json::from_slice(&body.to_bytes()).map_err(|error| said(&error))
}

/// Where the root of a server's OpenAPI v3 has the document of this group version: only where that is expected.
fn own_document(root: &Value, remote: &Remote) -> Option<String> {
    let name = format!("apis/{}/{}", remote.group, remote.version);
    let url = root["paths"][name.as_str()]["serverRelativeURL"].as_str()?;
    let rest = url.strip_prefix("/openapi/v3/")?.strip_prefix(name.as_str())?;
    let plain = |c: char| c.is_ascii_graphic();
    ((rest.is_empty() || rest.starts_with('?')) && rest.len() < 256 && rest.chars().all(plain))
        .then(|| url.to_owned())
}

/// The paths of this group version in an OpenAPI v2 document, and the definitions that they need.
fn own_part(whole: &Value, remote: &Remote) -> Value {
    let prefix = format!("{}/", remote.path());
    let paths = whole["paths"].as_object().into_iter().flatten();
    let paths: Map<String, Value> = paths
        .filter(|(path, _)| path.starts_with(&prefix))
        .map(|(path, item)| (path.clone(), item.clone()))
        .collect();
    let mut wanted = BTreeSet::new();
    let mut open: Vec<&Value> = paths.values().collect();
    let mut definitions = Map::new();
    while let Some(next) = open.pop() {
        let mut found = Vec::new();
        references(next, &mut found);
        for name in found {
            if let Some(definition) = whole["definitions"].get(name).filter(|_| wanted.insert(name)) {
                definitions.insert(name.to_owned(), definition.clone());
                open.push(definition);
            }
        }
    }
    json!({"paths": paths, "definitions": definitions})
}

/// The definitions that a tree refers to. Its depth was bounded when it was read.
fn references<'a>(tree: &'a Value, found: &mut Vec<&'a str>) {
    match tree {
        Value::Object(map) => {
            let reference = map.get("$ref").and_then(Value::as_str);
            found.extend(reference.and_then(|reference| reference.strip_prefix("#/definitions/")));
            map.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::By;
    use super::*;
    use crate::outgoing::{Place, Server, Trust};

    fn remote() -> Remote {
        let place = Place::Host { host: "h".to_owned(), port: 1 };
        Remote {
            name: "v1.g.io".to_owned(),
            group: "g.io".to_owned(),
            version: "v1".to_owned(),
            by: By::Server(Server { place, trust: Trust::Anything, shown_who: true }),
            available: true,
            group_priority: 1,
            version_priority: 1,
            fetched: None,
        }
    }

    #[test]
    fn only_what_belongs_to_the_group_version_is_taken() {
        let whole = json!({
            "paths": {
                "/apis/g.io/v1/things": {"get": {"responses": {"200": {"schema": {"$ref": "#/definitions/A"}}}}},
                "/apis/g.io/v1beta1/things": {"get": {"responses": {"200": {"schema": {"$ref": "#/definitions/C"}}}}},
                "/version/": {},
            },
            "definitions": {
                "A": {"properties": {"b": {"$ref": "#/definitions/B"}, "a": {"$ref": "#/definitions/A"}}},
                "B": {"type": "string"},
                "C": {"type": "string"},
            },
        });
        let own = own_part(&whole, &remote());
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&own["paths"]), ["/apis/g.io/v1/things"]);
        assert_eq!(keys(&own["definitions"]), ["A", "B"]);
    }

    #[test]
    fn a_document_is_where_it_belongs() {
        let at = |url: &str| {
            own_document(&json!({"paths": {"apis/g.io/v1": {"serverRelativeURL": url}}}), &remote())
        };
        let good = "/openapi/v3/apis/g.io/v1?hash=ABC";
        assert_eq!(at(good).as_deref(), Some(good));
        for bad in [
            "https://evil/openapi/v3/apis/g.io/v1",
            "/openapi/v3/apis/g.io/v1beta1",
            "/api/v1/secrets",
            "/openapi/v3/apis/g.io/v1?a b",
        ] {
            assert_eq!(at(bad), None, "{bad}");
        }
    }
}
