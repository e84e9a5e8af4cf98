//! Plain requests to the API, with its errors in words.

use anyhow::{Context, Result, bail};
use client::{Client, Error};
use http::Request;
use serde_json::Value;

/// The form in which the server renders lists for people.
pub(crate) const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

/// Fetches `path` in the form that `accept` names.
pub(crate) async fn get(client: &Client, path: &str, accept: &str) -> Result<Value> {
    let request = Request::get(path).header("accept", accept).body(Vec::new())?;
    client.request(request).await.map_err(said)
}

/// The object at `path`, or `None` where there is none.
pub(crate) async fn find(client: &Client, path: &str) -> Result<Option<Value>> {
    match client.request(Request::get(path).header("accept", "application/json").body(Vec::new())?).await {
        Ok(object) => Ok(Some(object)),
        Err(Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(said(error)),
    }
}

/// Sends a body.
pub(crate) async fn send(
    client: &Client,
    method: &str,
    path: &str,
    media: &str,
    body: &Value,
) -> Result<Value> {
    let body = serde_json::to_vec(body).context("encoding the request")?;
    let request = Request::builder().method(method).uri(path).header("content-type", media).body(body)?;
    client.request(request).await.map_err(said)
}

/// An API error as the server said it; anything else with what to look at.
pub(crate) fn said(error: Error) -> anyhow::Error {
    match error {
        Error::Api(status) => anyhow::anyhow!("Error from server ({}): {}", status.reason, status.message),
        other => anyhow::Error::new(other)
            .context("the API server did not answer (is the plane up? `monoplane status`)"),
    }
}

/// A path's query, percent-encoded.
pub(crate) fn query(pairs: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in pairs {
        text.push(if text.is_empty() { '?' } else { '&' });
        text.push_str(name);
        text.push('=');
        for byte in value.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                    text.push(byte as char)
                }
                _ => text.push_str(&format!("%{byte:02X}")),
            }
        }
    }
    text
}

/// Refuses a name that would change the path it is put into.
pub(crate) fn path_segment(name: &str) -> Result<&str> {
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '%', '?', '#']) {
        bail!("{name:?} is no name of an object");
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_encoded() {
        assert_eq!(query(&[]), "");
        assert_eq!(query(&[("a", "x=y,z"), ("b", "1")]), "?a=x%3Dy%2Cz&b=1");
    }

    #[test]
    fn names_cannot_leave_their_place() {
        for bad in ["", "..", "a/b", "a%2fb", "a?b"] {
            assert!(path_segment(bad).is_err(), "{bad}");
        }
        assert_eq!(path_segment("system:node").ok(), Some("system:node"));
    }
}
