//! A request on its way to the server of an aggregated API: the same, under the name of whoever asks, over a connection on
//! which we show that we may say so.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use apimachinery::status::Status;
use auth::UserInfo;
use http::header::HeaderName;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use tokio::sync::OwnedSemaphorePermit;

use super::{By, Remote};
use crate::body::{self, Body, Sending};
use crate::outgoing::SendError;
use crate::relay::headers::{ask_upgrade, backward};
use crate::relay::{self, IDLE, Reply, To};
use crate::respond::{self, Answer};
use crate::server::{ApiServer, Call, took_too_long};

/// How long the head of the answer to a stream's request may take.
const PATIENCE: Duration = Duration::from_secs(60);
const USER: HeaderName = HeaderName::from_static("x-remote-user");
const UID: HeaderName = HeaderName::from_static("x-remote-uid");
const GROUP: HeaderName = HeaderName::from_static("x-remote-group");
const EXTRA: &str = "x-remote-extra-";

/// How long the head of the answer may take.
#[derive(Clone, Copy)]
pub(crate) enum Patience {
    /// That of a request that ends by itself: then it has taken too long. No part of its body may take longer, either.
    Request(Duration),
    /// That of one that goes on, a watch or streams: then the other server is not there.
    Stream,
}

/// A request as the other server answers it.
pub(crate) async fn serve(
    server: &Arc<ApiServer>,
    call: &Call<'_>,
    remote: &Remote,
    body: Sending,
    (patience, permit): (Patience, OwnedSemaphorePermit),
) -> Answer {
    if !remote.available {
        return Ok(unavailable());
    }
    let client = match ask_upgrade(&call.parts.headers) {
        true => Some(relay::client_of(call.parts)?),
        false => None,
    };
    let body = if client.is_some() { body::nothing() } else { body };
    let request = request(call.parts, call.peer, call.user, body)?;
    let (lasts, idle) = match patience {
        Patience::Request(lasts) => (lasts, lasts),
        Patience::Stream => (PATIENCE, IDLE),
    };
    let asked = async {
        match &remote.by {
            By::Server(other) => relay::send(server, &To::Server(other.clone()), request, idle).await,
            By::Extension(extension) => Ok(Reply::Answered(extension.answer(request).await)),
        }
    };
    let reply = tokio::select! {
        reply = asked => reply,
        () = server.clock.sleep(lasts) => match patience {
            Patience::Request(lasts) => return Err(took_too_long(lasts)),
            Patience::Stream => Err(SendError::of(&"context deadline exceeded")),
        },
    };
    Ok(match (reply, client) {
        (Ok(Reply::Switched(head, other)), Some(client)) => {
            relay::join(server, client, (head, other), permit)
        }
        (Ok(Reply::Switched(..)), None) => failed(remote, &SendError::of(&"it changed protocols unasked")),
        (Ok(Reply::Answered(response)), _) => {
            let (stop, goes_on) = (server.stopping.clone(), matches!(patience, Patience::Stream));
            passed_back(response).map(|body| {
                match goes_on {
                    true => body.until(stop.cancelled_owned()),
                    false => body,
                }
                .holding(permit)
            })
        }
        (Err(error), _) => failed(remote, &error),
    })
}

/// The request as the other server gets it: the client's headers but for those by which it is known to us, and those that
/// say who it is.
fn request(
    parts: &Parts,
    peer: Option<SocketAddr>,
    user: &UserInfo,
    body: Sending,
) -> Result<Request<Sending>, Status> {
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let mut request = Request::builder()
        .method(parts.method.clone())
        .uri(target)
        .body(body)
        .map_err(Status::internal_error)?;
    let mut headers = relay::headers::onward(&parts.headers, peer);
    identify(&mut headers, user)?;
    *request.headers_mut() = headers;
    Ok(request)
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
    backward(&mut head.headers);
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
        let asked = Request::get("/apis/x/v1?a=b")
            .header("accept", "application/json")
            .header("x-remote-user", "admin")
            .header("x-remote-extra-a", "b");
        let (parts, ()) = asked.body(()).unwrap().into_parts();
        let user = UserInfo {
            name: "bob".to_owned(),
            groups: vec!["dev".to_owned(), "system:authenticated".to_owned()],
            extra: [("example.org/Scope%".to_owned(), vec!["1".to_owned(), "2".to_owned()])].into(),
            ..UserInfo::default()
        };
        let request = request(&parts, None, &user, body::nothing()).unwrap();
        assert_eq!(request.uri(), "/apis/x/v1?a=b");
        let told = request.headers();
        let all =
            |name: &str| told.get_all(name).iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>();
        assert_eq!(all("x-remote-user"), ["bob"]);
        assert_eq!(all("x-remote-group"), ["dev", "system:authenticated"]);
        assert_eq!(all("x-remote-extra-example.org%2f%53cope%25"), ["1", "2"]);
        assert_eq!(told.keys().count(), 4, "{told:?}");
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
