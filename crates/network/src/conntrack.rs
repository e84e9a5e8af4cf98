//! Connections of datagrams that the kernel remembers.
//!
//! A datagram goes where the one before it went, whatever the tables say now: where a pool has changed, connections to
//! endpoints that have left it are forgotten, and those that began when there was none.

use std::io;
use std::net::{IpAddr, SocketAddr};

use crate::nft::wire::{
    ACKNOWLEDGE, DONE, DUMP, ERROR, OWN_HEADER, REQUEST, acknowledgement, attribute, message, messages,
    nested, socket, value_of,
};
use crate::services::Protocol;
use crate::{Error, Result};

const SUBSYSTEM: u16 = 1 << 8;
const NEW: u16 = SUBSYSTEM;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;

const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const STATUS: u16 = 3;
const ID: u16 = 12;
/// The bit of a connection whose destination was translated.
const TRANSLATED: u32 = 1 << 5;

/// ENOENT: it ended by itself; EINVAL and EPROTONOSUPPORT: the kernel has no such table, and so no connections.
const GONE: i32 = 2;
const NO_SUBSYSTEM: [i32; 2] = [22, 93];

/// A connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flow {
    /// Who began it.
    pub(crate) source: SocketAddr,
    /// With whom it meant to.
    pub(crate) destination: SocketAddr,
    /// Who answers.
    pub(crate) answers: SocketAddr,
    /// Whether its destination was translated.
    pub(crate) translated: bool,
    id: Vec<u8>,
}

/// Forgets those connections of UDP that are stale, of one family.
///
/// # Errors
/// When the kernel cannot be asked, or refuses.
pub(crate) fn forget(v6: bool, stale: impl Fn(&Flow) -> bool) -> Result<()> {
    let flows = match flows(v6) {
        Err(error) if error.raw_os_error().is_some_and(|code| NO_SUBSYSTEM.contains(&code)) => return Ok(()),
        flows => flows.map_err(Error::kernel("connections: listing"))?,
    };
    for flow in flows.iter().filter(|flow| stale(flow)) {
        match delete(v6, flow) {
            Err(error) if error.raw_os_error() == Some(GONE) => {}
            deleted => deleted.map_err(Error::kernel("connections: forgetting one"))?,
        }
    }
    Ok(())
}

fn family(v6: bool) -> u8 {
    if v6 { 10 } else { 2 }
}

fn flows(v6: bool) -> io::Result<Vec<Flow>> {
    let socket = socket(0)?;
    socket.send(&message(GET, REQUEST | DUMP, 1, family(v6), 0, &[]), 0)?;
    let mut found = Vec::new();
    loop {
        for received in messages(&socket.recv_from_full()?.0) {
            match received.kind {
                DONE => return Ok(found),
                ERROR => acknowledgement(received.body)?,
                NEW => found.extend(received.body.get(OWN_HEADER..).and_then(read)),
                _ => {}
            }
        }
    }
}

/// A connection of UDP from its attributes; `None` for any other.
fn read(body: &[u8]) -> Option<Flow> {
    let (source, destination) = ends(value_of(body, ORIGINAL)?)?;
    let (answers, _) = ends(value_of(body, REPLY)?)?;
    let status = value_of(body, STATUS)?.first_chunk::<4>()?;
    let translated = u32::from_be_bytes(*status) & TRANSLATED != 0;
    Some(Flow { source, destination, answers, translated, id: value_of(body, ID)?.to_vec() })
}

fn ends(tuple: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let (addresses, ports) = (value_of(tuple, 1)?, value_of(tuple, 2)?);
    if value_of(ports, 1)? != [Protocol::Udp as u8] {
        return None;
    }
    let address = |v4: u16, v6: u16| match value_of(addresses, v4) {
        Some(bytes) => Some(IpAddr::from(*bytes.first_chunk::<4>()?)),
        None => Some(IpAddr::from(*value_of(addresses, v6)?.first_chunk::<16>()?)),
    };
    let port = |kind: u16| Some(u16::from_be_bytes(*value_of(ports, kind)?.first_chunk::<2>()?));
    Some((SocketAddr::new(address(1, 3)?, port(2)?), SocketAddr::new(address(2, 4)?, port(3)?)))
}

fn delete(v6: bool, flow: &Flow) -> io::Result<()> {
    let address = |address: IpAddr, v4: u16| match address {
        IpAddr::V4(address) => attribute(v4, &address.octets()),
        IpAddr::V6(address) => attribute(v4 + 2, &address.octets()),
    };
    let addresses = nested(1, &[address(flow.source.ip(), 1), address(flow.destination.ip(), 2)]);
    let ports = nested(
        2,
        &[
            attribute(1, &[Protocol::Udp as u8]),
            attribute(2, &flow.source.port().to_be_bytes()),
            attribute(3, &flow.destination.port().to_be_bytes()),
        ],
    );
    let body = [nested(ORIGINAL, &[addresses, ports]), attribute(ID, &flow.id)].concat();
    let socket = socket(body.len())?;
    socket.send(&message(DELETE, REQUEST | ACKNOWLEDGE, 1, family(v6), 0, &body), 0)?;
    loop {
        for received in messages(&socket.recv_from_full()?.0) {
            if received.kind == ERROR {
                return acknowledgement(received.body);
            }
        }
    }
}
