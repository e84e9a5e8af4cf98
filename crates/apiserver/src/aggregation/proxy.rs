//! A request on its way to the server of an aggregated API: the same, under the name of whoever asks, over a connection on
//! which we show that we may say so.

use std::sync::Arc;
use std::time::Duration;

use apimachinery::status::Status;
use auth::UserInfo;
use bytes::Bytes;
use futures::StreamExt;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, HeaderName, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyDataStream, BodyExt, Full};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::sync::OwnedSemaphorePermit;

use super::Remote;
use crate::body::{Body, BodyError};
use crate::outgoing::{SendError, Sending};
use crate::respond::{self, Answer};
use crate::server::{ApiServer, Call};
use crate::verb::copy_both;

/// How long the head of the answer to a stream's request may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Headers that are between two neighbours only, or are ours to write.
const NOT_PASSED: [HeaderName; 10] = [
    AUTHORIZATION,
    CONNECTION,
    CONTENT_LENGTH,
    HOST,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];
const USER: HeaderName = HeaderName::from_static("x-remote-user");
const UID: HeaderName = HeaderName::from_static("x-remote-uid");
const GROUP: HeaderName = HeaderName::from_static("x-remote-group");
const EXTRA: &str = "x-remote-extra-";

/// A request that ends by itself.
pub(crate) async fn serve(server: &Arc<ApiServer>, call: &Call<'_>, remote: &Remote) -> Answer {
    if !remote.available {
        return Ok(unavailable());
    }
    let request = request(call.parts, call.user, call.body.clone(), false)?;
    match server.outgoing.send(&remote.server, request).await {
        Ok(response) => Ok(passed_back(response.map(|body| {
            Body::stream(BodyDataStream::new(body).map(|chunk| chunk.map_err(BodyError::from)))
        }))),
        Err(error) => Ok(failed(remote, &error)),
    }
}

/// A request that goes on: a watch, or streams.
pub(crate) async fn stream(
    server: &Arc<ApiServer>,
    call: &Call<'_>,
    remote: &Remote,
    permit: OwnedSemaphorePermit,
) -> Answer {
    if !remote.available {
        return Ok(unavailable());
    }
    let upgrades = call.parts.headers.contains_key(UPGRADE);
    let work = async {
        match upgrades {
            true => upgrade(server, call, remote, permit).await,
            false => watch(server, call, remote, permit).await,
        }
    };
    tokio::select! {
        answer = work => answer,
        () = server.clock.sleep(PATIENCE) => Ok(failed(remote, &SendError("context deadline exceeded".to_owned()))),
    }
}

async fn watch(
    server: &Arc<ApiServer>,
    call: &Call<'_>,
    remote: &Remote,
    permit: OwnedSemaphorePermit,
) -> Answer {
    let request = request(call.parts, call.user, call.body.clone(), false)?;
    match server.outgoing.send(&remote.server, request).await {
        Ok(response) => Ok(passed_back(response.map(|body| {
            let stop = server.stopping.clone();
            let chunks = BodyDataStream::new(body).map(|chunk| chunk.map_err(BodyError::from));
            let chunks = chunks.take_until(async move { stop.cancelled().await });
            Body::stream(chunks).holding(permit)
        }))),
        Err(error) => Ok(failed(remote, &error)),
    }
}

/// Streams in another protocol: the bytes go both ways as they are.
async fn upgrade(
    server: &Arc<ApiServer>,
    call: &Call<'_>,
    remote: &Remote,
    permit: OwnedSemaphorePermit,
) -> Answer {
    let client = call.parts.extensions.get::<OnUpgrade>().cloned();
    let client = client.ok_or_else(|| Status::bad_request("Upgrade request required"))?;
    let request = request(call.parts, call.user, Bytes::new(), true)?;
    let mut response = match server.outgoing.upgrade(&remote.server, request).await {
        Ok(response) => response,
        Err(error) => return Ok(failed(remote, &error)),
    };
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(passed_back(response.map(|body| {
            let chunks = BodyDataStream::new(body).map(|chunk| chunk.map_err(BodyError::from));
            Body::stream(chunks).holding(permit)
        })));
    }
    let upgraded = hyper::upgrade::on(&mut response).await;
    let upgraded = match upgraded {
        Ok(upgraded) => TokioIo::new(upgraded),
        Err(error) => return Ok(failed(remote, &SendError(error.to_string()))),
    };
    let (stop, clock) = (server.stopping.clone(), server.clock.clone());
    server.upgraded.spawn("streams", async move {
        match client.await {
            Ok(client) => tokio::select! {
                () = copy_both(TokioIo::new(client), Box::new(upgraded), clock.as_ref()) => {}
                () = stop.cancelled() => {}
            },
            Err(error) => tracing::debug!(%error, "a client did not change protocols"),
        }
        drop(permit);
    });
    let (head, _) = response.into_parts();
    Ok(Response::from_parts(head, Body::default()))
}

/// The request as the other server gets it.
fn request(parts: &Parts, user: &UserInfo, body: Bytes, upgrades: bool) -> Result<Request<Sending>, Status> {
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let body: Sending = Full::new(body).map_err(|never| match never {}).boxed_unsync();
    let mut request = Request::builder()
        .method(parts.method.clone())
        .uri(target)
        .body(body)
        .map_err(Status::internal_error)?;
    *request.headers_mut() = headers(&parts.headers, user, upgrades)?;
    Ok(request)
}

/// The client's headers but for those by which it is known to us, and those that say who it is.
fn headers(from: &HeaderMap, user: &UserInfo, upgrades: bool) -> Result<HeaderMap, Status> {
    let mut passed = HeaderMap::new();
    for (name, value) in from {
        let is_ours = name.as_str().starts_with("x-remote-") || name.as_str().starts_with("impersonate-");
        let changes_protocol = upgrades && (*name == CONNECTION || *name == UPGRADE);
        if !is_ours && (changes_protocol || !NOT_PASSED.contains(name)) {
            passed.append(name.clone(), value.clone());
        }
    }
    identify(&mut passed, user)?;
    Ok(passed)
}

/// Says who asks.
pub(super) fn identify(headers: &mut HeaderMap, user: &UserInfo) -> Result<(), Status> {
    let value = |text: &str| HeaderValue::from_bytes(text.as_bytes()).map_err(Status::internal_error);
    headers.insert(USER, value(&user.name)?);
    if !user.uid.is_empty() {
        headers.insert(UID, value(&user.uid)?);
    }
    for group in &user.groups {
        headers.append(GROUP, value(group)?);
    }
    for (key, values) in &user.extra {
        let name =
            HeaderName::try_from(format!("{EXTRA}{}", escaped(key))).map_err(Status::internal_error)?;
        for each in values {
            headers.append(name.clone(), value(each)?);
        }
    }
    Ok(())
}

/// A key as the name of a header: what may not be in one, and what would not be read back as it was, in percent signs.
fn escaped(key: &str) -> String {
    let mut name = String::with_capacity(key.len());
    for byte in key.bytes() {
        let is_legal = byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte);
        // Header names have no case.
        if is_legal && !byte.is_ascii_uppercase() {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02X}"));
        }
    }
    name
}

/// The other server's answer, as the client gets it.
fn passed_back(response: Response<Body>) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    if head.status.is_redirection() && head.status != StatusCode::NOT_MODIFIED {
        let why = "the backend attempted to redirect this request, which is not permitted\n";
        return respond::text(StatusCode::BAD_GATEWAY, why);
    }
    for name in NOT_PASSED.iter().filter(|name| **name != CONTENT_LENGTH) {
        head.headers.remove(name);
    }
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    response
}

fn unavailable() -> Response<Body> {
    respond::text(StatusCode::SERVICE_UNAVAILABLE, "service unavailable\n")
}

fn failed(remote: &Remote, error: &SendError) -> Response<Body> {
    tracing::debug!(name = remote.name, %error, "the server of an APIService cannot be reached");
    respond::text(StatusCode::SERVICE_UNAVAILABLE, format!("error trying to reach service: {error}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_server_is_told_who_asks_and_by_nobody_else() {
        let mut from = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer secret"),
            ("accept", "application/json"),
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("x-remote-user", "admin"),
            ("x-remote-group", "system:masters"),
            ("x-remote-extra-a", "b"),
            ("impersonate-user", "admin"),
            ("transfer-encoding", "chunked"),
        ] {
            from.append(name, value.parse().unwrap());
        }
        let user = UserInfo {
            name: "bob".to_owned(),
            groups: vec!["dev".to_owned(), "system:authenticated".to_owned()],
            extra: [("example.org/Scope%".to_owned(), vec!["1".to_owned(), "2".to_owned()])].into(),
            ..UserInfo::default()
        };
        let told = headers(&from, &user, false).unwrap();
        let all =
            |name: &str| told.get_all(name).iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>();
        assert_eq!(all("x-remote-user"), ["bob"]);
        assert_eq!(all("x-remote-group"), ["dev", "system:authenticated"]);
        assert_eq!(all("x-remote-extra-example.org%2f%53cope%25"), ["1", "2"]);
        assert_eq!(told.keys().count(), 4, "{told:?}");
        assert_eq!(headers(&from, &user, true).unwrap()["upgrade"], "websocket");
    }

    #[test]
    fn redirects_are_not_followed_for_the_client() {
        let answer = |code: u16| {
            let mut response = Response::new(Body::whole("x"));
            *response.status_mut() = StatusCode::from_u16(code).unwrap();
            response.headers_mut().insert("location", "https://elsewhere".parse().unwrap());
            passed_back(response)
        };
        assert_eq!(answer(302).status(), 502);
        assert!(answer(302).headers().get("location").is_none());
        assert_eq!((answer(304).status(), answer(200).status()), (StatusCode::NOT_MODIFIED, StatusCode::OK));
    }
}
