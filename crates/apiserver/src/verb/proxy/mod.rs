//! Requests that go on to what an object stands for: a node, a pod, or an endpoint of a Service (`proxy` subresources).
//!
//! Upstream's rules hold: the client's credentials stay here; what is asked for is the path behind `proxy`, cleaned, with
//! the query as it is; the answer's links lead back through here, and it can neither be cached nor read by pages of other
//! origins. One thing differs: the query goes along when protocols are changed, too. Whom a name means is in `place`.

mod place;

use std::sync::Arc;

use apimachinery::status::Status;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION,
};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;

use super::{On, PROXY, locate};
use crate::admission::Said;
use crate::body::{self, Body, Sending};
use crate::outgoing::SendError;
use crate::relay::headers::{ask_upgrade, backward, onward};
use crate::relay::{self, IDLE, Links, Reply, cleaned};
use crate::request_info::ResourceInfo;
use crate::respond::{Answer, NO_CACHE};
use crate::server::{ApiServer, Call};

/// What a path is written with that is none of letters and digits.
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b',')
    .remove(b'/')
    .remove(b':')
    .remove(b';')
    .remove(b'=')
    .remove(b'@');
const FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
/// What lets pages of other origins read an answer. They would read what this client may.
const ORIGINS: [HeaderName; 4] = [
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN,
];

/// Answers a request on a `proxy` subresource.
pub(crate) async fn serve(
    server: &Arc<ApiServer>,
    call: Call<'_>,
    info: ResourceInfo<'_>,
    body: Sending,
    permit: OwnedSemaphorePermit,
) -> Answer {
    let on = locate(server, call, &info)?;
    if on.call.query.get("dryRun").is_some() {
        return Err(Status::bad_request("dryRun is not supported"));
    }
    let asked = Asked::of(on.call.parts, info.rest);
    let path = admitted(&on, asked.path).await?;
    let to = place::find(&on).await?;
    let parts = on.call.parts;
    let client = match ask_upgrade(&parts.headers) {
        true => Some(relay::client_of(parts)?),
        false => None,
    };
    if client.is_none() && path.is_empty() && matches!(parts.method, Method::GET | Method::HEAD) {
        return to_the_root(parts);
    }
    // Nothing but escapes is left of what is no text, so that this is clean as it will be sent.
    let path = cleaned(&percent_encode(&path, PATH).to_string());
    let links = Links { prefix: asked.prefix, host: place::authority(&to), asked: asked.host };
    let body = if client.is_some() { body::nothing() } else { body };
    let request = request(&on, &path, &links, (body, client.is_some()))?;
    let reply = tokio::select! {
        reply = relay::send(server, &to, request, IDLE) => reply,
        () = server.clock.sleep(IDLE) => Err(SendError::of(&"context deadline exceeded")),
    };
    match (reply, client) {
        (Ok(Reply::Switched(head, other)), Some(client)) => {
            Ok(relay::join(server, client, (head, other), permit))
        }
        (Ok(Reply::Switched(..)), None) => {
            Err(unreachable(&SendError::of(&"it changed protocols unasked"), false))
        }
        (Ok(Reply::Answered(response)), Some(_)) if response.status().as_u16() < 400 => {
            let code = response.status().as_u16();
            Err(Status::without_reason(format!("invalid upgrade response: status code {code}")))
        }
        (Ok(Reply::Answered(response)), _) => {
            Ok(answer(response, links, &parts.method).map(|body| body.holding(permit)))
        }
        (Err(error), client) => Err(unreachable(&error, client.is_some())),
    }
}

/// What a request's head says of whom it is for.
struct Asked {
    /// What stands before the other side's path in ours.
    prefix: String,
    /// The path there, decoded; with a slash at its beginning unless it is empty, and at its end if ours has one.
    path: Vec<u8>,
    /// The host under which the client knows us, if it said so.
    host: String,
}

impl Asked {
    fn of(parts: &Parts, rest: &str) -> Self {
        let whole = parts.uri.path();
        let trimmed = whole.trim_end_matches('/');
        let prefix = trimmed.strip_suffix(rest).unwrap_or(trimmed).trim_end_matches('/').to_owned();
        let mut path: Vec<u8> = percent_decode_str(rest).collect();
        if path.first().is_some_and(|first| *first != b'/') {
            path.insert(0, b'/');
        }
        if whole.ends_with('/') && path.last() != Some(&b'/') {
            path.push(b'/');
        }
        let header = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
        let host = header.or_else(|| parts.uri.authority().map(|authority| authority.as_str()));
        Self { prefix, path, host: host.unwrap_or_default().to_owned() }
    }
}

/// The path, as admission lets it pass: a webhook may change it.
async fn admitted(on: &On<'_>, path: Vec<u8>) -> Result<Vec<u8>, Status> {
    let kind = on.kind.subresource(PROXY).map(|part| part.kind.as_str()).unwrap_or_default();
    let text = String::from_utf8_lossy(&path).into_owned();
    let mut options = json!({"apiVersion": "v1", "kind": kind});
    if !text.is_empty() {
        options["path"] = text.as_str().into();
    }
    let place = (on.namespace, on.name, PROXY);
    on.admission(Said::Nothing).connect(&on.kind, place, &mut options, &on.call.warnings).await?;
    let admitted = options["path"].as_str().unwrap_or_default();
    Ok(if admitted == text { path } else { admitted.as_bytes().to_vec() })
}

/// A page's relative links lead somewhere only if its own path ends with a slash.
fn to_the_root(parts: &Parts) -> Answer {
    let query = parts.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let location = format!("{}/{query}", parts.uri.path());
    let mut response = Response::new(Body::default());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    let location = HeaderValue::try_from(location).map_err(Status::internal_error)?;
    response.headers_mut().insert(LOCATION, location);
    response.headers_mut().insert(CACHE_CONTROL, NO_CACHE);
    Ok(response)
}

/// The request as the other side gets it.
fn request(
    on: &On<'_>,
    path: &str,
    links: &Links,
    (body, upgrades): (Sending, bool),
) -> Result<Request<Sending>, Status> {
    let parts = on.call.parts;
    let query = parts.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut headers = onward(&parts.headers, on.call.peer);
    let value = |text: String| HeaderValue::try_from(text).map_err(Status::internal_error);
    if !links.asked.is_empty() {
        headers.insert(HOST, value(links.asked.clone())?);
    }
    if !upgrades {
        headers.insert(FORWARDED_URI, value(format!("{}{path}", links.prefix))?);
    }
    let request = Request::builder().method(parts.method.clone()).uri(format!("{path}{query}"));
    let mut request = request.body(body).map_err(Status::internal_error)?;
    *request.headers_mut() = headers;
    Ok(request)
}

/// The other side's answer, as the client gets it.
fn answer(response: Response<Body>, links: Links, method: &Method) -> Response<Body> {
    let (head, body) = response.into_parts();
    let mut response = Response::new(body);
    (*response.status_mut(), *response.headers_mut()) = (head.status, head.headers);
    let headers: &mut HeaderMap = response.headers_mut();
    backward(headers);
    for name in &ORIGINS {
        headers.remove(name);
    }
    headers.append(CACHE_CONTROL, NO_CACHE);
    let Some(location) = headers.get(LOCATION) else {
        return if *method == Method::HEAD { response } else { relay::rewritten(response, links) };
    };
    let rewritten = location.to_str().ok().and_then(|location| links.rewritten(location));
    if let Some(location) = rewritten.and_then(|location| HeaderValue::try_from(location).ok()) {
        headers.insert(LOCATION, location);
    }
    response
}

fn unreachable(error: &SendError, upgrades: bool) -> Status {
    match error {
        SendError::Refused(_) => Status::bad_request("address not allowed"),
        SendError::Failed(why) if upgrades => Status::without_reason(format!("error dialing backend: {why}")),
        SendError::Failed(why) => {
            Status::service_unavailable(format!("error trying to reach service: {why}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(path: &str, rest: &str) -> (String, String) {
        let (parts, ()) = Request::get(path).body(()).unwrap().into_parts();
        let asked = Asked::of(&parts, rest);
        let path = match asked.path.is_empty() {
            true => String::new(),
            false => cleaned(&percent_encode(&asked.path, PATH).to_string()),
        };
        (asked.prefix, path)
    }

    #[test]
    fn what_is_asked_for() {
        let proxy = "/api/v1/nodes/n/proxy";
        for (rest, trailing, expected) in [
            ("", "", ""),
            ("", "/", "/"),
            ("a", "", "/a"),
            ("a/b", "/", "/a/b/"),
            ("a//b/../c", "", "/a/c"),
            ("..", "", "/"),
            ("%2e%2e/x", "", "/x"),
            ("a%2Fb", "", "/a/b"),
            ("a%20b%3Fc%23d", "", "/a%20b%3Fc%23d"),
            ("%ff", "", "/%FF"),
            ("a+b;c=d:e@f,g&h$i~", "", "/a+b;c=d:e@f,g&h$i~"),
            ("a!b*c(d)", "", "/a%21b%2Ac%28d%29"),
        ] {
            let slash = if rest.is_empty() { "" } else { "/" };
            let (prefix, path) = asked(&format!("{proxy}{slash}{rest}{trailing}"), rest);
            assert_eq!((prefix.as_str(), path.as_str()), (proxy, expected), "{rest}{trailing}");
        }
        assert_eq!(asked(&format!("{proxy}//a"), "/a"), (proxy.to_owned(), "/a".to_owned()));
    }

    #[test]
    fn answers_cannot_be_kept_or_read_by_others_and_lead_back_here() {
        let mut response = Response::new(Body::whole("x"));
        for (name, value) in [
            ("access-control-allow-origin", "*"),
            ("access-control-allow-credentials", "true"),
            ("connection", "close"),
            ("cache-control", "max-age=60"),
            ("location", "http://10.0.0.1:80/elsewhere?x"),
            ("server", "mine"),
        ] {
            response.headers_mut().insert(name, value.parse().unwrap());
        }
        let links = Links { prefix: "/p".to_owned(), host: "10.0.0.1:80".to_owned(), asked: String::new() };
        let response = answer(response, links, &Method::GET);
        let headers = response.headers();
        assert_eq!(headers["location"], "/p/elsewhere?x");
        assert_eq!(headers.get_all("cache-control").iter().count(), 2);
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["cache-control", "location", "server"]);
    }
}
