//! The entries of a journal.

use bytes::Bytes;
use effects::{Class, Operation, Reply, Request};
use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use crate::codec::{Corrupt, Decoder, Encoder};

/// The first half of a SHA-256: enough to tell two arguments or requests apart.
pub(crate) type Fingerprint = [u8; 16];

/// One entry of an invocation's journal.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    /// It began: what was asked.
    Started(Box<Request>),
    /// A host call: for a write its intent, for a read that it happened.
    Call(Call),
    /// What the call with the same index gave back.
    Result(Bytes),
    /// It sleeps until then.
    Sleep(Timestamp),
    /// It ended with a reply.
    Completed(Box<Reply>),
}

/// What identifies a host call on replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) class: Class,
    pub(crate) interface: String,
    pub(crate) function: String,
    pub(crate) arguments: Fingerprint,
}

impl Call {
    pub(crate) fn of(operation: &Operation) -> Self {
        Self {
            class: operation.class,
            interface: operation.interface.to_owned(),
            function: operation.function.to_owned(),
            arguments: fingerprint([operation.arguments.as_ref()]),
        }
    }

    /// Whether the operation is the one that was recorded.
    pub(crate) fn matches(&self, operation: &Operation) -> bool {
        self.interface == operation.interface
            && self.function == operation.function
            && self.class == operation.class
            && self.arguments == fingerprint([operation.arguments.as_ref()])
    }
}

/// The fingerprint of some parts, told apart from other ways to cut the same bytes.
pub(crate) fn fingerprint<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Fingerprint {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let digest: [u8; 32] = hash.finalize().into();
    let mut half = [0; 16];
    half.copy_from_slice(&digest[..16]);
    half
}

/// What makes two requests with one id the same request: method, path with query, and body.
pub(crate) fn request_fingerprint(request: &Request) -> Fingerprint {
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    fingerprint([request.method().as_str().as_bytes(), target.as_bytes(), request.body()])
}

/// In whose name a request is made: its `Authorization` and `Cookie`. All zeros for one that has neither.
pub(crate) fn credentials(headers: &HeaderMap) -> Fingerprint {
    let of = |name| headers.get_all(name).iter().map(HeaderValue::as_bytes);
    let authorization = fingerprint(of(AUTHORIZATION));
    if headers.contains_key(AUTHORIZATION) || headers.contains_key(COOKIE) {
        fingerprint([authorization, fingerprint(of(COOKIE))].iter().map(<[u8; 16]>::as_slice))
    } else {
        Fingerprint::default()
    }
}

impl Entry {
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Entry::Started(request) => encode_request(Encoder::record(0), request),
            Entry::Call(call) => Encoder::record(1)
                .byte(class_code(call.class))
                .text(&call.interface)
                .text(&call.function)
                .fixed(&call.arguments),
            Entry::Result(bytes) => Encoder::record(2).fixed(bytes),
            Entry::Sleep(until) => Encoder::record(3).time(*until),
            Entry::Completed(reply) => encode_reply(Encoder::record(4), reply),
        }
        .finish()
    }

    /// Reads an entry; the body of a request, a reply or a result shares the given bytes.
    pub(crate) fn decode(bytes: &Bytes) -> Result<Self, Corrupt> {
        let (tag, mut fields) = Decoder::record("journal", bytes)?;
        let entry = match tag {
            0 => Entry::Started(Box::new(decode_request(&mut fields, bytes)?)),
            1 => Entry::Call(Call {
                class: class_of(fields.byte()?).ok_or(fields.corrupt("its class is unknown"))?,
                interface: fields.text()?.to_owned(),
                function: fields.text()?.to_owned(),
                arguments: fields.fixed(16)?.try_into().map_err(|_| fields.corrupt("its hash is short"))?,
            }),
            2 => return Ok(Entry::Result(bytes.slice(2..))),
            3 => Entry::Sleep(fields.time()?),
            4 => Entry::Completed(Box::new(decode_reply(&mut fields, bytes)?)),
            _ => return Err(fields.corrupt("its kind is unknown")),
        };
        fields.end()?;
        Ok(entry)
    }
}

fn class_code(class: Class) -> u8 {
    match class {
        Class::LocalRead => 0,
        Class::RemoteRead => 1,
        Class::Write => 2,
        Class::Refused => 3,
    }
}

fn class_of(code: u8) -> Option<Class> {
    Some(match code {
        0 => Class::LocalRead,
        1 => Class::RemoteRead,
        2 => Class::Write,
        3 => Class::Refused,
        _ => return None,
    })
}

fn encode_request(record: Encoder, request: &Request) -> Encoder {
    let record = record.text(request.method().as_str()).text(&request.uri().to_string());
    encode_headers(record, request.headers()).bytes(request.body())
}

fn encode_reply(record: Encoder, reply: &Reply) -> Encoder {
    let record = record.number(u64::from(reply.status().as_u16()));
    encode_headers(record, reply.headers()).bytes(reply.body())
}

fn encode_headers(record: Encoder, headers: &HeaderMap) -> Encoder {
    let record = record.number(headers.len() as u64);
    headers.iter().fold(record, |record, (name, value)| record.text(name.as_str()).bytes(value.as_bytes()))
}

fn decode_request(fields: &mut Decoder<'_>, whole: &Bytes) -> Result<Request, Corrupt> {
    let method =
        http::Method::try_from(fields.text()?).map_err(|_| fields.corrupt("its method is invalid"))?;
    let uri = fields.text()?.parse::<http::Uri>().map_err(|_| fields.corrupt("its target is invalid"))?;
    let headers = decode_headers(fields)?;
    let mut request = Request::new(whole.slice_ref(fields.bytes()?));
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Ok(request)
}

fn decode_reply(fields: &mut Decoder<'_>, whole: &Bytes) -> Result<Reply, Corrupt> {
    let code = u16::try_from(fields.number()?).map_err(|_| fields.corrupt("its status is invalid"))?;
    let status = http::StatusCode::from_u16(code).map_err(|_| fields.corrupt("its status is invalid"))?;
    let headers = decode_headers(fields)?;
    let mut reply = Reply::new(whole.slice_ref(fields.bytes()?));
    *reply.status_mut() = status;
    *reply.headers_mut() = headers;
    Ok(reply)
}

fn decode_headers(fields: &mut Decoder<'_>) -> Result<HeaderMap, Corrupt> {
    let mut headers = HeaderMap::new();
    for _ in 0..fields.number()? {
        let name = HeaderName::try_from(fields.text()?);
        let value = HeaderValue::from_bytes(fields.bytes()?);
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err(fields.corrupt("a header is invalid"));
        };
        headers.try_append(name, value).map_err(|_| fields.corrupt("it has too many headers"))?;
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn back(entry: &Entry) -> Entry {
        Entry::decode(&Bytes::from(entry.encode())).unwrap()
    }

    #[test]
    fn a_request_and_a_reply_come_back_with_repeated_headers() {
        let request = http::Request::post("http://shop.test/orders?x=1%202")
            .header("cookie", "a")
            .header("cookie", HeaderValue::from_bytes(b"\xff").unwrap())
            .body(Bytes::from_static(b"\x00body"))
            .unwrap();
        let Entry::Started(found) = back(&Entry::Started(Box::new(request.clone()))) else { panic!() };
        assert_eq!((found.method(), found.uri()), (request.method(), request.uri()));
        assert_eq!((found.headers(), found.body()), (request.headers(), request.body()));

        let reply = http::Response::builder().status(418).header("a", "b").body(Bytes::new()).unwrap();
        let Entry::Completed(found) = back(&Entry::Completed(Box::new(reply.clone()))) else { panic!() };
        assert_eq!((found.status(), found.headers()), (reply.status(), reply.headers()));
    }

    #[test]
    fn a_call_matches_only_itself() {
        let operation = Operation {
            interface: "wasi:keyvalue/store",
            function: "bucket.set",
            class: Class::Write,
            arguments: Bytes::from_static(b"key=value"),
        };
        let Entry::Call(call) = back(&Entry::Call(Call::of(&operation))) else { panic!() };
        assert!(call.matches(&operation));
        for other in [
            Operation { function: "bucket.delete", ..operation.clone() },
            Operation { interface: "wasi:keyvalue/atomics", ..operation.clone() },
            Operation { class: Class::RemoteRead, ..operation.clone() },
            Operation { arguments: Bytes::from_static(b"key=valu"), ..operation.clone() },
        ] {
            assert!(!call.matches(&other), "{other:?}");
        }
    }

    #[test]
    fn a_fingerprint_depends_on_where_the_parts_are_cut() {
        let of = |parts: [&[u8]; 2]| fingerprint(parts);
        assert_ne!(of([b"ab", b"c"]), of([b"a", b"bc"]));
    }

    #[test]
    fn credentials_tell_callers_apart() {
        let of = |pairs: &[(HeaderName, &'static str)]| {
            let values = pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
            credentials(&values.collect())
        };
        let all = [
            of(&[]),
            of(&[(AUTHORIZATION, "a")]),
            of(&[(COOKIE, "a")]),
            of(&[(AUTHORIZATION, "a"), (COOKIE, "a")]),
            of(&[(AUTHORIZATION, "b")]),
        ];
        assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), all.len());
        assert_eq!(all[0], Fingerprint::default());
    }

    proptest! {
        #[test]
        fn results_come_back(bytes: Vec<u8>) {
            let Entry::Result(found) = back(&Entry::Result(Bytes::from(bytes.clone()))) else { panic!() };
            prop_assert_eq!(found, bytes);
        }

        #[test]
        fn any_bytes_decode_or_fail_without_a_panic(mut bytes: Vec<u8>, tag in 0u8..7) {
            if let [first, second, ..] = bytes.as_mut_slice() {
                (*first, *second) = (crate::codec::VERSION, tag);
            }
            let _ = Entry::decode(&Bytes::from(bytes));
        }
    }
}
