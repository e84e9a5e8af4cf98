//! As much of nf_tables' netlink language as pods' networks take: tables, chains, rules, sets and maps.
//!
//! Written out here because the crates for it run the `nft` program, need C libraries at build time or carry another
//! licence. [`table::Table`] is the way in: a table as it should be, compared with what was installed before, so that a
//! change costs what has changed.

use std::io;

pub(crate) mod batch;
pub(crate) mod expression;
pub(crate) mod installed;
pub(crate) mod key;
pub(crate) mod table;
pub(crate) mod wire;

use crate::{Error, Result};
use batch::Batch;
use wire::{DONE, DUMP, ERROR, OWN_HEADER, REQUEST, acknowledgement, message, messages, socket, text_of};

const SUBSYSTEM: u16 = 10 << 8;
const GET_TABLE: u16 = SUBSYSTEM | 1;

/// EPROTONOSUPPORT and EINVAL: what a kernel without netfilter's netlink, or without nf_tables, answers.
const NO_PROTOCOL: i32 = 93;
const NO_SUBSYSTEM: i32 = 22;

/// Which packets a table sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Ipv4 = 2,
    Ipv6 = 10,
}

/// The names of a family's tables. None where the kernel has no nf_tables.
pub(crate) fn tables(family: Family) -> Result<Vec<String>> {
    match dump_tables(family) {
        Err(error) if matches!(error.raw_os_error(), Some(NO_PROTOCOL | NO_SUBSYSTEM)) => Ok(Vec::new()),
        other => other.map_err(Error::kernel("nftables: tables")),
    }
}

fn dump_tables(family: Family) -> io::Result<Vec<String>> {
    const NEW_TABLE: u16 = SUBSYSTEM;
    let socket = socket(0)?;
    socket.send(&message(GET_TABLE, REQUEST | DUMP, 1, family as u8, 0, &[]), 0)?;
    let mut names = Vec::new();
    loop {
        for received in messages(&socket.recv_from_full()?.0) {
            match received.kind {
                DONE => return Ok(names),
                ERROR => acknowledgement(received.body)?,
                NEW_TABLE => {
                    names.extend(received.body.get(OWN_HEADER..).and_then(|body| text_of(body, 1)));
                }
                _ => {}
            }
        }
    }
}

/// Removes a table, if it is there.
pub(crate) fn remove(family: Family, name: &str) -> Result<()> {
    if tables(family)?.iter().any(|table| table == name) {
        let mut batch = Batch::new(family, name);
        batch.delete_table();
        batch.commit("nftables: removal")?;
    }
    Ok(())
}
