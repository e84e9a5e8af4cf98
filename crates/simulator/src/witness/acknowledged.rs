//! What the server has acknowledged is in the store.

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::Value;

use super::{History, text};
use crate::link::Sent;

/// Whether what an answer says has happened.
pub fn is_kept(history: &History, sent: &Sent, status: StatusCode, body: &Bytes) -> Result<(), String> {
    if !status.is_success() || !sent.is_write() {
        return Ok(());
    }
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    let (uid, version) = (text(&answer, "/metadata/uid"), text(&answer, "/metadata/resourceVersion"));
    let said = format!("{} {} by {}", sent.method, sent.path, sent.process.name);
    if sent.method == Method::DELETE {
        let gone = text(&answer, "/details/uid");
        return match history.has(gone) {
            true => Err(format!("acknowledged, and it is still there: {said}")),
            false => Ok(()),
        };
    }
    if uid.is_empty() || version.is_empty() {
        return Ok(());
    }
    match version.parse().is_ok_and(|version| history.had(uid, version)) {
        true => Ok(()),
        false => Err(format!("acknowledged, and never happened: {said} at {version}")),
    }
}
