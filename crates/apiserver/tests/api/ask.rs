//! Requests in memory.

use apiserver::Connection;
use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full};
use pki::Identity;
use serde_json::Value;

use crate::plane::Plane;

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The object of a success.
    pub(crate) fn ok(self) -> Value {
        assert!(self.code < 300, "{self:?}");
        self.json()
    }

    /// Code, reason and message of a failure.
    pub(crate) fn failure(&self) -> (u16, String, String) {
        let status = self.json();
        assert_eq!((&status["kind"], &status["status"]), (&"Status".into(), &"Failure".into()), "{self:?}");
        assert_eq!(status["code"], self.code);
        let text = |field: &str| status[field].as_str().unwrap_or_default().to_owned();
        (self.code, text("reason"), text("message"))
    }
}

/// Somebody who asks.
pub(crate) struct Asker<'a> {
    plane: &'a Plane,
    connection: Connection,
    headers: Vec<(String, String)>,
}

impl<'a> Asker<'a> {
    /// The administrator, by certificate.
    pub(crate) fn admin(plane: &'a Plane) -> Self {
        Self::of(plane, &Identity::Admin)
    }

    /// An identity, by certificate.
    pub(crate) fn of(plane: &'a Plane, identity: &Identity) -> Self {
        Self { plane, connection: plane.connection(identity), headers: Vec::new() }
    }

    /// Nobody, or whoever the headers say.
    pub(crate) fn nobody(plane: &'a Plane) -> Self {
        Self { plane, connection: plane.server.connect(&[], None).unwrap(), headers: Vec::new() }
    }

    /// Whose token this is.
    pub(crate) fn token(plane: &'a Plane, token: &str) -> Self {
        Self::nobody(plane).with("authorization", &format!("Bearer {token}"))
    }

    /// The same with one more header in every request.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], "").await
    }

    pub(crate) async fn get_as(&self, path: &str, accept: &str) -> Answer {
        self.send(Method::GET, path, &[("accept", accept)], "").await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, &[("content-type", "application/json")], &body.to_string()).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PUT, path, &[("content-type", "application/json")], &body.to_string()).await
    }

    pub(crate) async fn patch(&self, path: &str, kind: &str, body: &Value) -> Answer {
        let media_type = format!("application/{kind}+json");
        self.send(Method::PATCH, path, &[("content-type", &media_type)], &body.to_string()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, &[], "").await
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let response = self.begin(method, path, headers, body).await;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { code: parts.status.as_u16(), headers: parts.headers, body }
    }

    /// The same without waiting for the body's end.
    pub(crate) async fn begin(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> http::Response<apiserver::Body> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())) {
            request = request.header(name, value);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
        self.plane.server.handle(request, &self.connection).await
    }
}
