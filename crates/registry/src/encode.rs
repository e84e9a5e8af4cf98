//! The one encoding of a write: canonical JSON without TypeMeta and resourceVersion, and where a reader's copy takes the
//! latter. Custom objects say in front of which version they are: what version is stored may change under them.

use bytes::Bytes;
use serde_json::Value;

/// An object in its stored form.
#[derive(Clone, Debug)]
pub(crate) struct Encoded {
    /// Canonical JSON without kind and metadata.resourceVersion; with apiVersion, as its first member, if at all.
    pub(crate) stored: Bytes,
    /// Just behind the opening brace of `metadata`.
    splice_at: usize,
    /// Bytes of the apiVersion's member and the comma behind it.
    head: usize,
}

/// Encodes a tree without its version. The keys left out may be present in it.
pub(crate) fn encode(object: &Value) -> Result<Encoded, serde_json::Error> {
    encode_as(object, None)
}

/// Encodes a tree that is of this version.
pub(crate) fn encode_as(object: &Value, api_version: Option<&str>) -> Result<Encoded, serde_json::Error> {
    let mut out = Vec::with_capacity(1024);
    let mut splice_at = 0;
    out.push(b'{');
    let mut first = true;
    let mut head = 0;
    if let Some(api_version) = api_version {
        begin_member(&mut out, &mut first, "apiVersion")?;
        serde_json::to_writer(&mut out, api_version)?;
        // The comma will follow: every object has metadata.
        head = out.len();
    }
    for (key, value) in object.as_object().into_iter().flatten() {
        if key == "apiVersion" || key == "kind" {
            continue;
        }
        begin_member(&mut out, &mut first, key)?;
        match value {
            Value::Object(metadata) if key == "metadata" => {
                out.push(b'{');
                splice_at = out.len();
                let mut first = true;
                for (key, value) in metadata.iter().filter(|(key, _)| *key != "resourceVersion") {
                    begin_member(&mut out, &mut first, key)?;
                    serde_json::to_writer(&mut out, value)?;
                }
                out.push(b'}');
            }
            value => serde_json::to_writer(&mut out, value)?,
        }
    }
    if splice_at == 0 {
        begin_member(&mut out, &mut first, "metadata")?;
        out.extend_from_slice(b"{}");
        splice_at = out.len() - 1;
    }
    out.push(b'}');
    Ok(Encoded { stored: out.into(), splice_at, head })
}

fn begin_member(out: &mut Vec<u8>, first: &mut bool, key: &str) -> Result<(), serde_json::Error> {
    if !std::mem::take(first) {
        out.push(b',');
    }
    serde_json::to_writer(&mut *out, key)?;
    out.push(b':');
    Ok(())
}

impl Encoded {
    /// Finds the splice point of bytes that were stored earlier. `None`: they are not an object of ours.
    pub(crate) fn locate(stored: Bytes) -> Option<Self> {
        let splice_at = metadata_opening(&stored)?;
        let head = match stored.strip_prefix(VERSION) {
            Some(rest) => VERSION.len() + string_end(rest, 0)?,
            None => 0,
        };
        (head < splice_at).then_some(Self { stored, splice_at, head })
    }

    /// The reader's copy: with the resourceVersion in place, without the version.
    pub(crate) fn at(&self, revision: u64) -> Bytes {
        match self.head {
            0 => splice(&self.stored, self.splice_at, revision),
            _ => splice(&self.bare(), self.body_splice(), revision),
        }
    }

    /// Where the reader's copy takes its resourceVersion.
    pub(crate) fn body_splice(&self) -> usize {
        self.splice_at - self.head
    }

    /// The stored bytes without the version.
    pub(crate) fn bare(&self) -> Bytes {
        if self.head == 0 {
            return self.stored.clone();
        }
        let mut out = Vec::with_capacity(self.stored.len() - self.head);
        out.push(b'{');
        out.extend_from_slice(&self.stored[self.head + 1..]);
        out.into()
    }

    /// The version that the object is of, where the bytes say it.
    pub(crate) fn api_version(&self) -> Option<&str> {
        let text = self.stored.get(VERSION.len()..self.head.checked_sub(1)?)?;
        std::str::from_utf8(text).ok()
    }
}

/// How bytes begin that say of which version they are. Groups and versions need no escapes.
const VERSION: &[u8] = b"{\"apiVersion\":\"";

const MEMBER: &[u8] = b"\"resourceVersion\":\"";

fn splice(stored: &[u8], at: usize, revision: u64) -> Bytes {
    let mut out = Vec::with_capacity(stored.len() + MEMBER.len() + 22);
    out.extend_from_slice(&stored[..at]);
    out.extend_from_slice(MEMBER);
    out.extend_from_slice(revision.to_string().as_bytes());
    out.push(b'"');
    if stored.get(at) != Some(&b'}') {
        out.push(b',');
    }
    out.extend_from_slice(&stored[at..]);
    out.into()
}

/// Length of what [`splice`] put in at `at`.
fn spliced_len(body: &[u8], at: usize) -> usize {
    let Some(rest) = body.get(at..).filter(|rest| rest.starts_with(MEMBER)) else { return 0 };
    let digits = rest[MEMBER.len()..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let end = MEMBER.len() + digits + 1;
    end + usize::from(rest.get(end) == Some(&b','))
}

/// The same body under another resourceVersion.
pub(crate) fn resplice(body: &[u8], at: usize, revision: u64) -> Bytes {
    let mut stored = Vec::with_capacity(body.len());
    stored.extend_from_slice(&body[..at]);
    stored.extend_from_slice(&body[at + spliced_len(body, at)..]);
    splice(&stored, at, revision)
}

/// Whether a reader's copy is of exactly this, whatever version it is of.
pub(crate) fn same(body: &[u8], at: usize, encoded: &Encoded) -> bool {
    let rest = &body[at + spliced_len(body, at)..];
    let (begin, split) = (encoded.head + 1, encoded.head + at);
    let Some((before, behind)) = encoded.stored.split_at_checked(split) else { return false };
    at > 0 && before.get(begin..) == body.get(1..at) && behind == rest
}

/// Offset just behind the brace that opens the top-level `metadata`.
fn metadata_opening(bytes: &[u8]) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.checked_sub(1)?,
            b'"' => {
                let end = string_end(bytes, at + 1)?;
                if depth == 1 && &bytes[at..end] == b"\"metadata\"" && bytes.get(end..end + 2) == Some(b":{")
                {
                    return Some(end + 2);
                }
                at = end;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// Offset just behind the quote that ends the string whose text begins at `at`.
fn string_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn encoding_leaves_out_and_splices_back() {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"metadata": "{\"", "a\\\"": "x"},
            "metadata": {"name": "a", "resourceVersion": "7", "annotations": {}}});
        let encoded = encode(&object).unwrap();
        let located = Encoded::locate(encoded.stored.clone()).unwrap();
        assert_eq!(located.splice_at, encoded.splice_at);
        let body = encoded.at(42);
        let tree: Value = serde_json::from_slice(&body).unwrap();
        let expected = json!({"data": {"metadata": "{\"", "a\\\"": "x"},
            "metadata": {"name": "a", "resourceVersion": "42", "annotations": {}}});
        assert_eq!(tree, expected);
        assert!(same(&body, encoded.splice_at, &encoded));
        assert_eq!(resplice(&body, encoded.splice_at, 1234), encoded.at(1234));
        assert_eq!(encode(&tree).unwrap().stored, encoded.stored);
    }

    #[test]
    fn a_version_is_stored_and_not_shown() {
        let object = json!({"apiVersion": "other/v9", "Zed": 1, "metadata": {"name": "a"}, "spec": {"x": 1}});
        let plain = encode(&object).unwrap();
        let versioned = encode_as(&object, Some("stable.example.com/v1beta1")).unwrap();
        assert_eq!(
            (plain.api_version(), versioned.api_version()),
            (None, Some("stable.example.com/v1beta1"))
        );
        assert_eq!(versioned.bare(), plain.stored);
        assert_eq!(versioned.at(7), plain.at(7));
        assert_eq!(versioned.body_splice(), plain.splice_at);
        let located = Encoded::locate(versioned.stored.clone()).unwrap();
        assert_eq!((located.head, located.splice_at), (versioned.head, versioned.splice_at));
        let body = versioned.at(7);
        assert!(
            same(&body, versioned.body_splice(), &versioned) && same(&body, versioned.body_splice(), &plain)
        );
        let other = encode_as(&json!({"metadata": {"name": "b"}}), Some("g/v1")).unwrap();
        assert!(!same(&body, versioned.body_splice(), &other));
        for torn in [
            &br#"{"apiVersion":"#[..],
            br#"{"apiVersion":"a"#,
            br#"{"apiVersion":"a\"#,
            br#"{"apiVersion":"{\"metadata\":{"#,
        ] {
            assert!(Encoded::locate(Bytes::from_static(torn)).is_none());
        }
    }

    #[test]
    fn no_or_empty_metadata_still_takes_a_version() {
        for object in [json!({}), json!({"metadata": {}}), json!({"spec": 1})] {
            let encoded = encode(&object).unwrap();
            let body = encoded.at(5);
            let tree: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(tree["metadata"]["resourceVersion"], "5", "{object}");
            assert!(same(&body, encoded.splice_at, &encoded));
            assert!(!same(&body, encoded.splice_at, &encode(&json!({"other": 1})).unwrap()));
        }
    }

    #[test]
    fn torn_bytes_are_refused() {
        for bytes in
            ["", "{", "}", "{\"metadata\":", "{\"metadata", "[\"metadata\",{\"metadata\":{}}]", "{\"a\\"]
        {
            assert!(Encoded::locate(Bytes::from_static(bytes.as_bytes())).is_none(), "{bytes}");
        }
    }
}
