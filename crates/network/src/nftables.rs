//! As much of nf_tables' netlink language as masquerading takes: tables, one kind of chain, rules of six expressions.
//!
//! Written out here because the crates for it run the `nft` program or need C libraries at build time. Numbers and
//! names are those of `linux/netfilter/nf_tables.h`; all integers of that language are big-endian, those of netlink
//! itself are the machine's.

use std::io;
use std::net::Ipv4Addr;

use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

use crate::{Error, Result};

const SUBSYSTEM: u16 = 10 << 8;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = SUBSYSTEM;
const GET_TABLE: u16 = SUBSYSTEM | 1;
const DELETE_TABLE: u16 = SUBSYSTEM | 2;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const NEW_RULE: u16 = SUBSYSTEM | 6;
const ERROR: u16 = 2;
const DONE: u16 = 3;

const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;
const DUMP: u16 = 0x300;

const NESTED: u16 = 0x8000;
const FAMILY_NONE: u8 = 0;
const FAMILY_IPV4: u8 = 2;
/// Bytes of a netlink header, and of nf_tables' own after it.
const HEADER: usize = 16;
const OWN_HEADER: usize = 4;

/// One attribute: length, kind, value, padded to four bytes.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    let mut bytes = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn nested(kind: u16, parts: &[Vec<u8>]) -> Vec<u8> {
    attribute(kind | NESTED, &parts.concat())
}

fn text(kind: u16, value: &str) -> Vec<u8> {
    attribute(kind, &[value.as_bytes(), b"\0"].concat())
}

fn number(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, &value.to_be_bytes())
}

/// An interface's name as rules compare it.
pub(crate) fn interface(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(name.bytes().take(15)).for_each(|(to, from)| *to = from);
    bytes
}

/// The expressions of a rule. Each works on the first register.
pub(crate) mod expression {
    use super::{Ipv4Addr, attribute, nested, number, text};

    const REGISTER: u32 = 1;

    fn named(name: &str, data: &[Vec<u8>]) -> Vec<u8> {
        nested(1, &[text(1, name), nested(2, data)])
    }

    fn value(kind: u16, bytes: &[u8]) -> Vec<u8> {
        nested(kind, &[attribute(1, bytes)])
    }

    /// Loads the packet's source address: four bytes at the twelfth of the network header.
    pub(crate) fn source_address() -> Vec<u8> {
        named("payload", &[number(1, REGISTER), number(2, 1), number(3, 12), number(4, 4)])
    }

    /// Loads the name of the interface that the packet leaves by.
    pub(crate) fn output_interface() -> Vec<u8> {
        named("meta", &[number(2, 7), number(1, REGISTER)])
    }

    /// Keeps the bits of a mask.
    pub(crate) fn mask(mask: Ipv4Addr) -> Vec<u8> {
        let parts = [number(1, REGISTER), number(2, REGISTER), number(3, 4)];
        named("bitwise", &[parts.concat(), value(4, &mask.octets()), value(5, &[0; 4])])
    }

    /// Goes on if the register holds this.
    pub(crate) fn equals(bytes: &[u8]) -> Vec<u8> {
        named("cmp", &[number(1, REGISTER), number(2, 0), value(3, bytes)])
    }

    /// Goes on if it holds anything else.
    pub(crate) fn differs(bytes: &[u8]) -> Vec<u8> {
        named("cmp", &[number(1, REGISTER), number(2, 1), value(3, bytes)])
    }

    /// Gives the packet the outgoing interface's address.
    pub(crate) fn masquerade() -> Vec<u8> {
        named("masq", &[])
    }
}

/// Changes that take effect together or not at all.
pub(crate) struct Batch {
    bytes: Vec<u8>,
    sequence: u32,
    acknowledged: u32,
}

impl Batch {
    pub(crate) fn new() -> Self {
        let mut batch = Self { bytes: Vec::new(), sequence: 0, acknowledged: 0 };
        batch.message(BATCH_BEGIN, REQUEST, FAMILY_NONE, SUBSYSTEM >> 8, &[]);
        batch
    }

    fn message(&mut self, kind: u16, flags: u16, family: u8, resource: u16, parts: &[Vec<u8>]) {
        let body = parts.concat();
        let length = u32::try_from(HEADER + OWN_HEADER + body.len()).unwrap_or(u32::MAX);
        self.sequence += 1;
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&self.sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&[family, 0]);
        self.bytes.extend_from_slice(&resource.to_be_bytes());
        self.bytes.extend_from_slice(&body);
    }

    fn change(&mut self, kind: u16, flags: u16, parts: &[Vec<u8>]) {
        self.acknowledged += 1;
        self.message(kind, REQUEST | ACKNOWLEDGE | flags, FAMILY_IPV4, 0, parts);
    }

    pub(crate) fn add_table(&mut self, name: &str) {
        self.change(NEW_TABLE, CREATE, &[text(1, name)]);
    }

    pub(crate) fn delete_table(&mut self, name: &str) {
        self.change(DELETE_TABLE, 0, &[text(1, name)]);
    }

    /// Adds a chain that sees the first packet of each connection as it leaves.
    pub(crate) fn add_nat_postrouting(&mut self, table: &str, chain: &str) {
        let hook = nested(4, &[number(1, 4), number(2, 100)]);
        self.change(NEW_CHAIN, CREATE, &[text(1, table), text(3, chain), hook, number(5, 1), text(7, "nat")]);
    }

    pub(crate) fn add_rule(&mut self, table: &str, chain: &str, expressions: &[Vec<u8>]) {
        let parts = [text(1, table), text(2, chain), nested(4, expressions)];
        self.change(NEW_RULE, CREATE | APPEND, &parts);
    }

    /// Sends it, and waits for the kernel's word on every change.
    pub(crate) fn commit(mut self, what: &str) -> Result<()> {
        self.message(BATCH_END, REQUEST, FAMILY_NONE, SUBSYSTEM >> 8, &[]);
        let run = || {
            let socket = socket()?;
            socket.send(&self.bytes, 0)?;
            let mut left = self.acknowledged;
            while left > 0 {
                for (kind, body) in messages(&socket.recv_from_full()?.0) {
                    if kind == ERROR {
                        acknowledgement(body)?;
                        left = left.saturating_sub(1);
                    }
                }
            }
            Ok(())
        };
        run().map_err(Error::kernel(what))
    }
}

/// The names of the IPv4 tables. None where the kernel has no nf_tables.
pub(crate) fn tables() -> Result<Vec<String>> {
    let run = || -> io::Result<Vec<String>> {
        let socket = socket()?;
        let mut batch = Batch { bytes: Vec::new(), sequence: 0, acknowledged: 0 };
        batch.message(GET_TABLE, REQUEST | DUMP, FAMILY_IPV4, 0, &[]);
        socket.send(&batch.bytes, 0)?;
        let mut names = Vec::new();
        loop {
            for (kind, body) in messages(&socket.recv_from_full()?.0) {
                match kind {
                    DONE => return Ok(names),
                    ERROR => acknowledgement(body)?,
                    NEW_TABLE => names.extend(body.get(OWN_HEADER..).and_then(|body| text_of(body, 1))),
                    _ => {}
                }
            }
        }
    };
    match run() {
        Err(error) if matches!(error.raw_os_error(), Some(NO_PROTOCOL | NO_SUBSYSTEM)) => Ok(Vec::new()),
        other => other.map_err(Error::kernel("nftables: tables")),
    }
}

/// EPROTONOSUPPORT and EINVAL: what a kernel without netfilter's netlink, or without nf_tables, answers.
const NO_PROTOCOL: i32 = 93;
const NO_SUBSYSTEM: i32 = 22;

fn socket() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

/// The messages of a datagram: kind and what follows the header.
fn messages(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    while let Some((header, _)) = bytes.split_first_chunk::<HEADER>() {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let Some(body) = bytes.get(HEADER..length) else { break };
        found.push((u16::from_ne_bytes([header[4], header[5]]), body));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// Zero is success, all else an error's number, negated.
fn acknowledgement(body: &[u8]) -> io::Result<()> {
    match body.first_chunk::<4>().map(|code| i32::from_ne_bytes(*code)) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// A text attribute of a message.
fn text_of(mut bytes: &[u8], wanted: u16) -> Option<String> {
    loop {
        let header = bytes.first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let value = bytes.get(4..length)?;
        if u16::from_ne_bytes([header[2], header[3]]) & !NESTED == wanted {
            return std::str::from_utf8(value).ok().map(|text| text.trim_end_matches('\0').to_owned());
        }
        bytes = bytes.get(length.next_multiple_of(4)..)?;
    }
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

    #[test]
    fn a_batch_is_a_sequence_of_messages() {
        let mut batch = Batch::new();
        batch.add_table("t");
        batch.add_rule("t", "c", &[expression::masquerade()]);
        let kinds: Vec<u16> = messages(&batch.bytes).iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, [BATCH_BEGIN, NEW_TABLE, NEW_RULE]);
        assert_eq!(batch.acknowledged, 2);
    }

    proptest! {
        #[test]
        fn whatever_arrives_is_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            for (_, body) in messages(&bytes) {
                let _ = (acknowledgement(body), text_of(body, 1));
            }
        }
    }
}
