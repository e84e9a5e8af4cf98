//! A webhook's call: a review goes out as JSON and comes back answered.

use std::time::Duration;

use apimachinery::json;
use apimachinery::status::Status;
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use serde_json::Value;

use super::connection::within;
use super::{Outgoing, Webhook};
use crate::body::Sending;

/// Why a webhook has not answered: the words that stand behind `failed calling webhook …`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CallError(String);

impl CallError {
    pub(crate) fn of(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

/// How a review is sent.
#[derive(Clone, Copy, Debug)]
pub struct Post {
    /// How long connecting, sending and receiving may take together.
    pub patience: Duration,
    /// Whether the webhook is told that (`?timeout=10s`), as those of admission are.
    pub told: bool,
    /// Bytes of the answer.
    pub limit: usize,
    /// Our name.
    pub agent: &'static str,
}

impl Outgoing {
    /// Sends a review and gives what came back. The answer's kind is for the caller to check.
    ///
    /// # Errors
    /// When there is no answer in time, it is no success, it is too large, or it is not JSON.
    pub async fn post(&self, to: &Webhook, review: &Value, how: Post) -> Result<Value, CallError> {
        let timeout = if how.told { format!("?timeout={}s", how.patience.as_secs()) } else { String::new() };
        let target = format!("{}{timeout}", to.path);
        let url = format!("https://{}{target}", to.server.place.authority());
        let failed = |why: &dyn std::fmt::Display| CallError(format!("Post {url:?}: {why}"));
        let body: Sending =
            Full::new(Bytes::from(review.to_string())).map_err(|never| match never {}).boxed_unsync();
        let request = Request::builder()
            .method(Method::POST)
            .uri(&target)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, */*")
            .header(header::USER_AGENT, how.agent)
            .body(body)
            .map_err(|error| failed(&error))?;
        let exchange = async {
            let response = self.send(&to.server, request).await.map_err(|error| failed(&error))?;
            let code = response.status();
            let body = Limited::new(response.into_body(), how.limit).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    failed(&format!("the answer is longer than {} bytes", how.limit))
                } else {
                    failed(&error)
                }
            })?;
            Ok((code, body.to_bytes()))
        };
        let (code, body) = within(self, how.patience, exchange).await.map_err(|error| failed(&error))??;
        if !code.is_success() {
            return Err(CallError(refusal(code, &body)));
        }
        json::parse(&body).map(|parsed| parsed.tree).map_err(|error| CallError(error.to_string()))
    }
}

/// What is said of an answer that is no success: what it says itself, or what client libraries say of its code.
fn refusal(code: StatusCode, body: &[u8]) -> String {
    if let Some(status) = Status::from_json(body).filter(|status| !status.message.is_empty()) {
        return status.message;
    }
    /// Of a text that is no Status this much is shown.
    const SHOWN: usize = 512;
    let text = String::from_utf8_lossy(body.get(..SHOWN).unwrap_or(body)).trim().to_owned();
    match code.as_u16() {
        400 => "the server rejected our request for an unknown reason".to_owned(),
        401 => "the server has asked for the client to provide credentials".to_owned(),
        403 => format!("forbidden: {text}"),
        404 => "the server could not find the requested resource".to_owned(),
        405 => "the server does not allow this method on the requested resource".to_owned(),
        429 => "the server has received too many requests and has asked us to try again later".to_owned(),
        503 => "the server is currently unable to handle the request".to_owned(),
        504 => "the server was unable to return a response in the time allotted, but may still be processing the request"
            .to_owned(),
        500..=599 => format!("an error on the server ({text:?}) has prevented the request from succeeding"),
        number => format!("the server responded with the status code {number} but did not return more information"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_as_client_libraries_tell_them() {
        let said = |code: u16, body: &str| refusal(StatusCode::from_u16(code).unwrap(), body.as_bytes());
        assert_eq!(said(404, "nothing here"), "the server could not find the requested resource");
        assert_eq!(
            said(500, "oh\n"),
            "an error on the server (\"oh\") has prevented the request from succeeding"
        );
        let status = r#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"no","code":403}"#;
        assert_eq!(said(403, status), "no");
        assert_eq!(
            said(302, ""),
            "the server responded with the status code 302 but did not return more information"
        );
        let long = "x".repeat(10_000);
        assert!(said(500, &long).len() < 700);
    }
}
