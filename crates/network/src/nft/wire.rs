//! How netfilter's netlink messages are made of bytes.
//!
//! Integers of that language are big-endian, those of netlink itself are the machine's.

use std::io;

use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

pub(crate) const REQUEST: u16 = 1;
pub(crate) const ACKNOWLEDGE: u16 = 4;
pub(crate) const CREATE: u16 = 0x400;
pub(crate) const APPEND: u16 = 0x800;
pub(crate) const DUMP: u16 = 0x300;

pub(crate) const ERROR: u16 = 2;
pub(crate) const DONE: u16 = 3;

const NESTED: u16 = 0x8000;
/// Bytes of a netlink header, and of nf_tables' own after it.
pub(crate) const HEADER: usize = 16;
pub(crate) const OWN_HEADER: usize = 4;

/// How long the kernel may think about a change: it waits for nobody, so this is never reached on a healthy machine.
const ANSWER_WITHIN_SECONDS: i64 = 30;

/// One attribute: length, kind, value, padded to four bytes.
pub(crate) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    let mut bytes = Vec::with_capacity(value.len() + 8);
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

pub(crate) fn nested(kind: u16, parts: &[Vec<u8>]) -> Vec<u8> {
    attribute(kind | NESTED, &parts.concat())
}

pub(crate) fn text(kind: u16, value: &str) -> Vec<u8> {
    attribute(kind, &[value.as_bytes(), b"\0"].concat())
}

pub(crate) fn number(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, &value.to_be_bytes())
}

/// A message with both headers.
pub(crate) fn message(
    kind: u16,
    flags: u16,
    sequence: u32,
    family: u8,
    resource: u16,
    body: &[u8],
) -> Vec<u8> {
    let length = HEADER + OWN_HEADER + body.len();
    let mut bytes = Vec::with_capacity(length);
    bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&sequence.to_ne_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&[family, 0]);
    bytes.extend_from_slice(&resource.to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// A message that arrived.
pub(crate) struct Received<'a> {
    pub(crate) kind: u16,
    pub(crate) sequence: u32,
    /// What follows netlink's header.
    pub(crate) body: &'a [u8],
}

/// The messages of a datagram.
pub(crate) fn messages(mut bytes: &[u8]) -> Vec<Received<'_>> {
    let mut found = Vec::new();
    while let Some((header, _)) = bytes.split_first_chunk::<HEADER>() {
        let word =
            |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let length = word(0) as usize;
        let Some(body) = bytes.get(HEADER..length) else { break };
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        found.push(Received { kind, sequence: word(8), body });
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// Zero is success, all else an error's number, negated.
pub(crate) fn acknowledgement(body: &[u8]) -> io::Result<()> {
    match body.first_chunk::<4>().map(|code| i32::from_ne_bytes(*code)) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// The value of an attribute, of a message's or another attribute's.
pub(crate) fn value_of(mut bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let header = bytes.first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let value = bytes.get(4..length)?;
        if u16::from_ne_bytes([header[2], header[3]]) & !NESTED == wanted {
            return Some(value);
        }
        bytes = bytes.get(length.next_multiple_of(4)..)?;
    }
}

/// A text attribute of a message.
pub(crate) fn text_of(bytes: &[u8], wanted: u16) -> Option<String> {
    let text = std::str::from_utf8(value_of(bytes, wanted)?).ok()?;
    Some(text.trim_end_matches('\0').to_owned())
}

/// A socket to the kernel's netfilter that can send this many bytes at once.
pub(crate) fn socket(bytes: usize) -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    // A transaction is one datagram, larger than the default buffer where there are hundreds of Services.
    setsockopt(&socket, sockopt::SndBufForce, &(bytes + (64 << 10)))?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(ANSWER_WITHIN_SECONDS))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn attributes_are_padded_and_counted_unpadded() {
        let bytes = text(7, "nat");
        assert_eq!(bytes, [&8u16.to_ne_bytes()[..], &7u16.to_ne_bytes(), b"nat\0"].concat());
        let bytes = attribute(1, b"abcde");
        assert_eq!((bytes.len(), bytes[0] as usize + bytes[1] as usize), (12, 9));
        assert_eq!(text_of(&[number(3, 1), text(1, "name")].concat(), 1).as_deref(), Some("name"));
    }

    proptest! {
        #[test]
        fn whatever_arrives_is_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            for received in messages(&bytes) {
                let _ = (acknowledgement(received.body), text_of(received.body, 1));
            }
        }
    }
}
