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
            let tree = serde_yaml_ng::from_slice(bytes).map_err(|error| malformed(&error))?;
            Ok((tree, Vec::new()))
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
    fn both_syntaxes_and_duplicates() {
        let (tree, duplicates) = decode(br#"{"a":{"b":1,"b":2}}"#, Syntax::Json).unwrap();
        assert_eq!((tree["a"]["b"].as_i64(), duplicates), (Some(2), vec!["a.b".to_owned()]));
        let (tree, _) = decode(b"a:\n  b: [1, x]\n", Syntax::Yaml).unwrap();
        assert_eq!(tree, serde_json::json!({"a": {"b": [1, "x"]}}));
        assert_eq!(decode(b"{", Syntax::Json).unwrap_err().code, 400);
        assert_eq!(optional(b"", Syntax::Json).unwrap(), None);
    }
}
