//! Protocol Buffers' encoding, as far as etcd's messages use it: numbers as varints, bytes, and messages within messages.
//! A field that a reader does not know is skipped, one that holds its default is not written.

use bytes::{Buf, Bytes};

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;

/// What came is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("etcd's message is malformed")]
pub(super) struct Malformed;

/// Writes one message, field by field.
#[derive(Clone, Debug, Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn number(mut self, field: u64, value: u64) -> Self {
        if value != 0 {
            self.varint(field << 3 | VARINT);
            self.varint(value);
        }
        self
    }

    pub(super) fn flag(self, field: u64, value: bool) -> Self {
        self.number(field, value.into())
    }

    pub(super) fn bytes(self, field: u64, value: &[u8]) -> Self {
        if value.is_empty() { self } else { self.nested(field, value) }
    }

    /// A message is there even when it is empty: which one of several it is can be all that it says.
    pub(super) fn message(self, field: u64, message: Writer) -> Self {
        self.nested(field, &message.0)
    }

    fn nested(mut self, field: u64, value: &[u8]) -> Self {
        self.varint(field << 3 | BYTES);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    fn varint(&mut self, mut value: u64) {
        loop {
            let low = value.to_le_bytes()[0] & 0x7f;
            value >>= 7;
            if value == 0 {
                self.0.push(low);
                return;
            }
            self.0.push(low | 0x80);
        }
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// A field's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Number(u64),
    Bytes(Bytes),
    /// Of a kind that no message here has.
    Other,
}

impl Value {
    pub(super) fn number(&self) -> Result<u64, Malformed> {
        match self {
            Value::Number(number) => Ok(*number),
            _ => Err(Malformed),
        }
    }

    pub(super) fn bytes(self) -> Result<Bytes, Malformed> {
        match self {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(Malformed),
        }
    }

    pub(super) fn text(self) -> Result<String, Malformed> {
        self.bytes().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Reads one message, field by field, in the order in which they were written. Content is not copied.
#[derive(Clone, Debug)]
pub(super) struct Fields(Bytes);

impl Fields {
    pub(super) fn of(message: Bytes) -> Self {
        Self(message)
    }

    /// The next field's number and content.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Value)>, Malformed> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let value = match tag & 7 {
            VARINT => Value::Number(self.varint()?),
            BYTES => {
                let length = self.varint()?;
                Value::Bytes(self.take(length)?)
            }
            FIXED64 => self.take(8).map(|_| Value::Other)?,
            FIXED32 => self.take(4).map(|_| Value::Other)?,
            _ => return Err(Malformed),
        };
        Ok(Some((tag >> 3, value)))
    }

    fn take(&mut self, length: u64) -> Result<Bytes, Malformed> {
        let length = usize::try_from(length).ok().filter(|length| *length <= self.0.len());
        length.map(|length| self.0.split_to(length)).ok_or(Malformed)
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            if self.0.is_empty() {
                return Err(Malformed);
            }
            let byte = self.0.get_u8();
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields(bytes: impl Into<Bytes>) -> Result<Vec<(u64, Value)>, Malformed> {
        let (mut fields, mut found) = (Fields::of(bytes.into()), Vec::new());
        while let Some(field) = fields.next()? {
            found.push(field);
        }
        Ok(found)
    }

    #[test]
    fn bytes_are_those_of_the_specification() {
        // The examples of the format's own documentation.
        assert_eq!(Writer::default().number(1, 150).finish(), [0x08, 0x96, 0x01]);
        assert_eq!(Writer::default().bytes(2, b"testing").finish(), b"\x12\x07testing");
        let inner = Writer::default().number(1, 150);
        assert_eq!(Writer::default().message(3, inner).finish(), [0x1a, 0x03, 0x08, 0x96, 0x01]);
        assert_eq!(Writer::default().number(1, 0).bytes(2, b"").flag(3, false).finish(), b"");
        assert_eq!(fields(&b"\x0d\0\0\0\0\x11\0\0\0\0\0\0\0\0"[..]).unwrap().len(), 2);
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(number in 1u64.., field in 1u64..1000, bytes in prop::collection::vec(any::<u8>(), 1..300)) {
            let written = Writer::default().number(field, number).bytes(field + 1, &bytes).finish();
            let expected = vec![(field, Value::Number(number)), (field + 1, Value::Bytes(bytes.into()))];
            prop_assert_eq!(fields(written.clone()).unwrap(), expected);
            for end in 1..written.len() {
                // Cut anywhere, it is refused or shorter, and never more than it was.
                let cut = fields(written[..end].to_vec());
                prop_assert!(cut.is_err() || cut.unwrap().len() < 2);
            }
        }

        #[test]
        fn noise_does_not_panic(noise in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = fields(noise);
        }
    }
}
