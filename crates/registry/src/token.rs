//! Continue tokens of lists.

use apimachinery::status::Status;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// Where the next page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// The revision that all pages show; `None` after consistency was given up.
    pub(crate) revision: Option<u64>,
    /// Key of the last object shown, relative to what was listed.
    pub(crate) start: String,
    /// How many objects were shown so far.
    pub(crate) seen: u64,
}

impl Token {
    /// Opaque to clients, but readable for whoever debugs one: upstream's form with one more field.
    pub(crate) fn write(&self) -> String {
        let revision = self.revision.map_or(Value::from(-1), Value::from);
        let token = json!({"v": "meta.k8s.io/v1", "rv": revision, "start": self.start, "seen": self.seen});
        URL_SAFE_NO_PAD.encode(token.to_string())
    }

    pub(crate) fn read(text: &str) -> Result<Self, Status> {
        let invalid = |why: &str| Status::bad_request(format!("continue key is not valid: {why}"));
        let bytes = URL_SAFE_NO_PAD
            .decode(text.trim_end_matches('='))
            .map_err(|error| invalid(&error.to_string()))?;
        let token: Value = serde_json::from_slice(&bytes).map_err(|error| invalid(&error.to_string()))?;
        if token["v"] != "meta.k8s.io/v1" {
            return Err(invalid("server does not recognize this encoded version"));
        }
        let start = token["start"].as_str().filter(|start| !start.is_empty());
        let start =
            start.ok_or_else(|| invalid("encoded start key empty (version meta.k8s.io/v1)"))?.to_owned();
        let seen = token["seen"].as_u64().unwrap_or(u64::MAX);
        match (token["rv"].as_u64(), token["rv"].as_i64()) {
            (Some(revision), _) if revision > 0 => Ok(Self { revision: Some(revision), start, seen }),
            (_, Some(-1)) => Ok(Self { revision: None, start, seen }),
            _ => Err(invalid("incorrect encoded start resourceVersion (version meta.k8s.io/v1)")),
        }
    }
}

/// The 410 for a token whose revision is gone, with one that gives up consistency.
pub(crate) fn expired(go_on: &Token) -> Status {
    let message = "The provided continue parameter is too old to display a consistent list result. You can start a new \
        list without the continue parameter, or use the continue token in this response to retrieve the remainder of \
        the results. Continuing with the provided token results in an inconsistent list - objects that were created, \
        modified, or deleted between the time the first chunk was returned and now may show up in the list.";
    Status::expired(message).with_continue(&go_on.write())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_the_round_trip() {
        for revision in [None, Some(7)] {
            let token = Token { revision, start: "a/b".into(), seen: 3 };
            assert_eq!(Token::read(&token.write()).unwrap(), token);
        }
        for bad in ["", "!", "e30", &URL_SAFE_NO_PAD.encode(r#"{"v":"meta.k8s.io/v1","rv":0,"start":"a"}"#)] {
            assert_eq!(Token::read(bad).unwrap_err().code, 400, "{bad}");
        }
    }
}
