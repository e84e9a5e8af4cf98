//! Changes that take effect together or not at all.

use super::Family;
use super::table::{Chain, Set, Value};
use super::wire::{
    ACKNOWLEDGE, APPEND, CREATE, ERROR, REQUEST, acknowledgement, attribute, message, messages, nested,
    number, socket, text,
};
use super::{SUBSYSTEM, expression};
use crate::{Error, Result};

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = SUBSYSTEM;
const DELETE_TABLE: u16 = SUBSYSTEM | 2;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const DELETE_CHAIN: u16 = SUBSYSTEM | 5;
const NEW_RULE: u16 = SUBSYSTEM | 6;
const DELETE_RULE: u16 = SUBSYSTEM | 8;
const NEW_SET: u16 = SUBSYSTEM | 9;
const DELETE_SET: u16 = SUBSYSTEM | 11;
const NEW_ELEMENTS: u16 = SUBSYSTEM | 12;
const DELETE_ELEMENTS: u16 = SUBSYSTEM | 14;

/// An attribute's length is a 16-bit number; this many elements of the longest kind stay well below.
const ELEMENTS_A_MESSAGE: usize = 200;

/// What a set's data type is called when it holds verdicts.
const TYPE_VERDICT: u32 = 0xffff_ff00;

/// One transaction on one table.
pub(crate) struct Batch {
    bytes: Vec<u8>,
    sequence: u32,
    family: Family,
    table: String,
    /// Where the last change begins: it alone is acknowledged.
    last: Option<usize>,
    sets: u32,
}

impl Batch {
    pub(crate) fn new(family: Family, table: &str) -> Self {
        let bytes = message(BATCH_BEGIN, REQUEST, 0, 0, SUBSYSTEM >> 8, &[]);
        Self { bytes, sequence: 0, family, table: table.to_owned(), last: None, sets: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.last.is_none()
    }

    fn change(&mut self, kind: u16, flags: u16, parts: &[Vec<u8>]) {
        self.sequence += 1;
        self.last = Some(self.bytes.len());
        // Every kind names its table in the first attribute.
        let body = [text(1, &self.table), parts.concat()].concat();
        let family = self.family as u8;
        self.bytes.extend(message(kind, REQUEST | flags, self.sequence, family, 0, &body));
    }

    pub(crate) fn add_table(&mut self) {
        self.change(NEW_TABLE, CREATE, &[]);
    }

    pub(crate) fn delete_table(&mut self) {
        self.change(DELETE_TABLE, 0, &[]);
    }

    pub(crate) fn add_chain(&mut self, name: &str, chain: &Chain) {
        let mut parts = vec![text(3, name)];
        if let Some(hook) = &chain.hook {
            parts.push(nested(4, &[number(1, hook.point as u32), number(2, hook.priority.cast_unsigned())]));
            // What no rule decides is accepted.
            parts.extend([number(5, 1), text(7, hook.kind)]);
        }
        self.change(NEW_CHAIN, CREATE, &parts);
    }

    pub(crate) fn delete_chain(&mut self, name: &str) {
        self.change(DELETE_CHAIN, 0, &[text(3, name)]);
    }

    pub(crate) fn add_rules(&mut self, chain: &str, rules: &[Vec<u8>]) {
        for rule in rules {
            self.change(NEW_RULE, CREATE | APPEND, &[text(2, chain), nested(4, std::slice::from_ref(rule))]);
        }
    }

    /// Removes all rules of a chain.
    pub(crate) fn empty_chain(&mut self, chain: &str) {
        self.change(DELETE_RULE, 0, &[text(2, chain)]);
    }

    pub(crate) fn add_set(&mut self, name: &str, set: &Set) {
        self.sets += 1;
        let data = match set.data {
            0 if set.verdicts => vec![number(6, TYPE_VERDICT), number(7, 16)],
            0 => Vec::new(),
            length => vec![number(6, 0), number(7, length)],
        };
        let mut parts = vec![
            text(2, name),
            number(3, set.flags()),
            number(4, set.kind),
            number(5, set.key),
            data.concat(),
            number(10, self.sets),
        ];
        if let Some(size) = set.dynamic {
            parts.push(nested(9, &[number(1, size)]));
        }
        self.change(NEW_SET, CREATE, &parts);
    }

    pub(crate) fn delete_set(&mut self, name: &str) {
        self.change(DELETE_SET, 0, &[text(2, name)]);
    }

    pub(crate) fn add_elements<'a>(
        &mut self,
        set: &str,
        elements: impl Iterator<Item = (&'a Vec<u8>, &'a Value)>,
    ) {
        let encoded = elements.map(|(key, value)| {
            let data = match value {
                Value::Member => Vec::new(),
                Value::Verdict(verdict) => nested(2, &[expression::verdict_data(verdict)]),
                Value::Bytes(bytes) => nested(2, &[attribute(1, bytes)]),
            };
            nested(1, &[nested(1, &[attribute(1, key)]), data])
        });
        self.elements(NEW_ELEMENTS, CREATE, set, &encoded.collect::<Vec<_>>());
    }

    pub(crate) fn delete_elements<'a>(&mut self, set: &str, keys: impl Iterator<Item = &'a Vec<u8>>) {
        let encoded = keys.map(|key| nested(1, &[nested(1, &[attribute(1, key)])]));
        self.elements(DELETE_ELEMENTS, 0, set, &encoded.collect::<Vec<_>>());
    }

    fn elements(&mut self, kind: u16, flags: u16, set: &str, elements: &[Vec<u8>]) {
        for some in elements.chunks(ELEMENTS_A_MESSAGE) {
            self.change(kind, flags, &[text(2, set), nested(3, some)]);
        }
    }

    /// Sends it, and waits for the kernel's word: its errors, and after them its acknowledgement of the last change.
    pub(crate) fn commit(mut self, what: &str) -> Result<()> {
        let Some(last) = self.last else { return Ok(()) };
        if let Some(flags) = self.bytes.get_mut(last + 6..last + 8) {
            flags.iter_mut().zip(ACKNOWLEDGE.to_ne_bytes()).for_each(|(to, bit)| *to |= bit);
        }
        self.bytes.extend(message(BATCH_END, REQUEST, self.sequence + 1, 0, SUBSYSTEM >> 8, &[]));
        let run = || {
            let socket = socket(self.bytes.len())?;
            socket.send(&self.bytes, 0)?;
            loop {
                for received in messages(&socket.recv_from_full()?.0) {
                    if received.kind == ERROR {
                        acknowledgement(received.body)?;
                        if received.sequence == self.sequence {
                            return Ok(());
                        }
                    }
                }
            }
        };
        run().map_err(Error::kernel(what))
    }
}
