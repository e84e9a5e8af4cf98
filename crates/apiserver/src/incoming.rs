//! Bodies of requests: bounded, and read into trees.

use apimachinery::json;
use apimachinery::status::Status;
use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::Value;

use crate::body::BodyError;
use crate::negotiate::Syntax;
use crate::protobuf;

/// How many values and bytes of text the aliases of a YAML document may unfold to, however short it is.
const UNFOLDED: usize = 1024 * 1024;

/// Reads the whole body, if it is no larger than `limit`.
pub(crate) async fn read<B>(body: B, headers: &HeaderMap, limit: usize) -> Result<Bytes, Status>
where
    B: http_body::Body<Data = Bytes> + Send,
    B::Error: Into<BodyError>,
{
    let too_large = || Status::request_entity_too_large(format!("limit is {limit}"));
    let declared = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let body = std::pin::pin!(Limited::new(body, limit));
    match body.collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(error) => Err(Status::bad_request(format!("unable to read the request's body: {error}"))),
    }
}

/// A body as a tree, and the paths of keys that its text gives twice.
pub(crate) fn decode(bytes: &[u8], syntax: Syntax) -> Result<(Value, Vec<String>), Status> {
    match syntax {
        Syntax::Json => {
            let parsed = json::parse(bytes).map_err(|error| malformed(&error))?;
            Ok((parsed.tree, parsed.duplicates))
        }
        Syntax::Yaml => {
            let reader = serde_yaml_ng::Deserializer::from_slice(bytes);
            // An escape may stand for more bytes than it takes; more than twice as many come of aliases alone.
            let most = bytes.len().saturating_mul(2).max(UNFOLDED);
            let parsed = json::read(reader, most).map_err(|error| malformed(&error))?;
            Ok((parsed.tree, parsed.duplicates))
        }
        Syntax::Protobuf => Ok((protobuf::decode(bytes)?, Vec::new())),
    }
}

fn malformed(error: &dyn std::fmt::Display) -> Status {
    Status::bad_request(format!("the object provided is unrecognized (must be of type Object): {error}"))
}

/// The options in the body of a delete, if it has one.
pub(crate) fn optional(bytes: &[u8], syntax: Syntax) -> Result<Option<Value>, Status> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let (tree, _) = decode(bytes, syntax)?;
    Ok(Some(tree).filter(|tree| !tree.is_null()))
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    #[tokio::test]
    async fn bodies_are_bounded() {
        let body = |size: usize| Full::new(Bytes::from(vec![b'x'; size]));
        assert_eq!(read(body(10), &HeaderMap::new(), 10).await.unwrap().len(), 10);
        let error = read(body(11), &HeaderMap::new(), 10).await.unwrap_err();
        assert_eq!((error.code, error.message.as_str()), (413, "Request entity too large: limit is 10"));
    }

    #[test]
    fn aliases_cannot_unfold_without_end() {
        let bombs = [
            format!("a: &a {}\nb: [{}]\n", "x".repeat(10_000), "*a,".repeat(1000)),
            format!(
                "a: &a [{}]\nb: &b [{}]\nc: [{}]\n",
                "0,".repeat(1000),
                "*a,".repeat(100),
                "*b,".repeat(20)
            ),
        ];
        for bomb in bombs {
            let error = decode(bomb.as_bytes(), Syntax::Yaml).unwrap_err();
            assert_eq!(error.code, 400);
            assert!(error.message.contains("excessive aliasing"), "{error}");
        }
    }

    #[test]
    fn both_syntaxes_and_duplicates() {
        let (tree, duplicates) = decode(br#"{"a":{"b":1,"b":2}}"#, Syntax::Json).unwrap();
        assert_eq!((tree["a"]["b"].as_i64(), duplicates), (Some(2), vec!["a.b".to_owned()]));
        let (tree, duplicates) = decode(b"a: &a\n  b: [1, x]\nc: *a\nd: 1\nd: ~\n", Syntax::Yaml).unwrap();
        let list = serde_json::json!({"b": [1, "x"]});
        assert_eq!(tree, serde_json::json!({"a": list, "c": list, "d": null}));
        assert_eq!(duplicates, ["d"]);
        assert_eq!(decode(b"a: 1\n---\nb: 2\n", Syntax::Yaml).unwrap_err().code, 400);
        assert_eq!(decode(b"{", Syntax::Json).unwrap_err().code, 400);
        assert_eq!(optional(b"", Syntax::Json).unwrap(), None);
    }
}
