//! Answers: their heads, and how trees and failures are written.

use apimachinery::status::Status;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WARNING};
use http::{HeaderValue, Response, StatusCode};
use serde_json::Value;

use crate::body::Body;
use crate::negotiate::Syntax;

/// An answer, before it becomes HTTP's.
pub(crate) type Answer = Result<Response<Body>, Status>;

pub(crate) const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache, private");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const YAML: HeaderValue = HeaderValue::from_static("application/yaml");

/// JSON bytes as they are.
pub(crate) fn json(code: StatusCode, body: Body) -> Response<Body> {
    with_type(code, JSON, body)
}

/// Bytes of a media type.
pub(crate) fn with_type(code: StatusCode, media_type: HeaderValue, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, media_type);
    headers.insert(CACHE_CONTROL, NO_CACHE);
    response
}

/// Plain text.
pub(crate) fn text(code: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    with_type(code, HeaderValue::from_static("text/plain; charset=utf-8"), Body::whole(text))
}

/// JSON bytes, or the same as YAML.
pub(crate) fn bytes(code: StatusCode, syntax: Syntax, bytes: Bytes) -> Answer {
    match syntax {
        Syntax::Json | Syntax::Protobuf => Ok(json(code, Body::whole(bytes))),
        Syntax::Yaml => tree(code, syntax, &serde_json::from_slice(&bytes).map_err(Status::internal_error)?),
    }
}

/// A tree.
pub(crate) fn tree(code: StatusCode, syntax: Syntax, tree: &Value) -> Answer {
    let (media_type, bytes) = match syntax {
        Syntax::Json | Syntax::Protobuf => (JSON, serde_json::to_vec(tree).map_err(Status::internal_error)?),
        Syntax::Yaml => (YAML, serde_yaml_ng::to_string(tree).map_err(Status::internal_error)?.into_bytes()),
    };
    Ok(with_type(code, media_type, Body::whole(bytes)))
}

/// A failure. Always JSON: a client whose form we cannot write must still be told so.
pub(crate) fn failure(status: &Status) -> Response<Body> {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json(code, Body::whole(status.to_json()));
    let retry_after = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    if retry_after > 0 {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(retry_after));
    }
    response
}

/// Characters of all warnings of an answer. Where there are more, each is cut, and then the last are left out: clients and
/// proxies bound the size of a head.
const WARNINGS: usize = 4 * 1024;
/// Characters that a warning is cut to.
const CUT_TO: usize = 256;

/// The answer, be it a failure, with the warnings as headers in the form that clients print.
pub(crate) fn with_warnings(answer: Answer, mut warnings: Vec<String>) -> Answer {
    if warnings.is_empty() {
        return answer;
    }
    let length = |warning: &String| warning.chars().count();
    if warnings.iter().map(length).sum::<usize>() > WARNINGS {
        let mut written = 0;
        warnings.retain_mut(|warning| {
            let fits = written < WARNINGS;
            *warning = warning.chars().take(CUT_TO).collect();
            written += length(warning);
            fits
        });
    }
    let mut response = answer.unwrap_or_else(|status| failure(&status));
    for warning in warnings {
        let quoted = warning.replace('\\', "\\\\").replace('"', "\\\"");
        let printable: String = quoted.chars().filter(|character| !character.is_control()).collect();
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{printable}\"").as_bytes()) {
            response.headers_mut().append(WARNING, value);
        }
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long the warnings of an answer are.
    fn lengths(warnings: Vec<String>) -> Vec<usize> {
        let response = with_warnings(Err(Status::no_such_path()), warnings).unwrap();
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        response.headers().get_all(WARNING).iter().map(|value| value.len() - "299 - \"\"".len()).collect()
    }

    #[test]
    fn warnings_go_with_failures_and_are_bounded() {
        assert_eq!(lengths(vec!["x".repeat(4000), "y".to_owned()]), [4000, 1]);
        assert_eq!(lengths(vec!["x".repeat(4096), "y".to_owned()]), [256, 1]);
        assert_eq!(lengths(vec!["x".repeat(300); 40]), [256; 16]);
    }
}
