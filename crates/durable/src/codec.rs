//! The bytes of records: length-prefixed fields and variable-length integers, after a version byte.

use std::time::Duration;

use jiff::Timestamp;

/// The first byte of every record that this code writes. A record with another one was written by a newer release.
pub(crate) const VERSION: u8 = 1;

/// A record that does not decode: bytes of the disk or of a newer release that this code does not understand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a {what} record cannot be read: {why}")]
pub struct Corrupt {
    what: &'static str,
    why: &'static str,
}

const UNKNOWN_VERSION: &str = "its version is unknown";

impl Corrupt {
    pub(crate) fn new(what: &'static str, why: &'static str) -> Self {
        Self { what, why }
    }

    /// Whether a newer release may be able to read it.
    pub(crate) fn is_newer(&self) -> bool {
        self.why == UNKNOWN_VERSION
    }
}

/// Builds a record.
pub(crate) struct Encoder(Vec<u8>);

impl Encoder {
    /// Begins a record of the kind that `tag` stands for.
    pub(crate) fn record(tag: u8) -> Self {
        Self(vec![VERSION, tag])
    }

    pub(crate) fn byte(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    /// Seven bits a byte, low ones first.
    pub(crate) fn number(mut self, mut value: u64) -> Self {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
        self
    }

    pub(crate) fn bytes(self, value: &[u8]) -> Self {
        let mut with_length = self.number(value.len() as u64);
        with_length.0.extend_from_slice(value);
        with_length
    }

    pub(crate) fn text(self, value: &str) -> Self {
        self.bytes(value.as_bytes())
    }

    pub(crate) fn time(self, value: Timestamp) -> Self {
        self.number(micros(value))
    }

    pub(crate) fn duration(self, value: Duration) -> Self {
        self.number(u64::try_from(value.as_nanos()).unwrap_or(u64::MAX))
    }

    pub(crate) fn fixed(mut self, value: &[u8]) -> Self {
        self.0.extend_from_slice(value);
        self
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Reads a record back.
pub(crate) struct Decoder<'a> {
    what: &'static str,
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    /// Checks the version and returns the tag with a decoder of the fields.
    pub(crate) fn record(what: &'static str, bytes: &'a [u8]) -> Result<(u8, Self), Corrupt> {
        let mut decoder = Self { what, rest: bytes };
        if decoder.byte()? != VERSION {
            return Err(decoder.corrupt(UNKNOWN_VERSION));
        }
        Ok((decoder.byte()?, decoder))
    }

    pub(crate) fn corrupt(&self, why: &'static str) -> Corrupt {
        Corrupt { what: self.what, why }
    }

    pub(crate) fn fixed(&mut self, length: usize) -> Result<&'a [u8], Corrupt> {
        let (head, rest) = self.rest.split_at_checked(length).ok_or(self.corrupt("it ends early"))?;
        self.rest = rest;
        Ok(head)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Corrupt> {
        Ok(self.fixed(1)?[0])
    }

    pub(crate) fn number(&mut self) -> Result<u64, Corrupt> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.corrupt("a number is too long"))
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Corrupt> {
        let length = usize::try_from(self.number()?).map_err(|_| self.corrupt("a length is too large"))?;
        self.fixed(length)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, Corrupt> {
        std::str::from_utf8(self.bytes()?).map_err(|_| self.corrupt("a text is not UTF-8"))
    }

    pub(crate) fn time(&mut self) -> Result<Timestamp, Corrupt> {
        Ok(from_micros(self.number()?))
    }

    pub(crate) fn duration(&mut self) -> Result<Duration, Corrupt> {
        Ok(Duration::from_nanos(self.number()?))
    }

    /// Whether nothing is left: fields that later releases added at the end are not there in older records.
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Nothing may be left over.
    pub(crate) fn end(self) -> Result<(), Corrupt> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.corrupt("it has bytes left over")) }
    }
}

/// Microseconds since 1970 rounded up, so that a timer never fires early. Earlier times count as 1970.
pub(crate) fn micros(time: Timestamp) -> u64 {
    let nanos = time.as_nanosecond().max(0);
    u64::try_from((nanos + 999) / 1000).unwrap_or(u64::MAX)
}

/// The inverse of [`micros`]; what lies beyond the calendar is its end.
pub(crate) fn from_micros(micros: u64) -> Timestamp {
    i64::try_from(micros)
        .ok()
        .and_then(|micros| Timestamp::from_microsecond(micros).ok())
        .unwrap_or(Timestamp::MAX)
}

/// `time` later by `duration`, at most the calendar's end.
pub(crate) fn later(time: Timestamp, duration: Duration) -> Timestamp {
    time.saturating_add(duration).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn fields_come_back(number: u64, text: String, bytes: Vec<u8>, nanos: u64) {
            let encoded = Encoder::record(7)
                .number(number).text(&text).bytes(&bytes).duration(Duration::from_nanos(nanos)).finish();
            let (tag, mut fields) = Decoder::record("test", &encoded).unwrap();
            prop_assert_eq!(tag, 7);
            prop_assert_eq!(fields.number().unwrap(), number);
            prop_assert_eq!(fields.text().unwrap(), text);
            prop_assert_eq!(fields.bytes().unwrap(), bytes);
            prop_assert_eq!(fields.duration().unwrap(), Duration::from_nanos(nanos));
            prop_assert!(fields.end().is_ok());
        }

        #[test]
        fn any_bytes_decode_or_fail_without_a_panic(bytes: Vec<u8>) {
            if let Ok((_, mut fields)) = Decoder::record("test", &bytes) {
                let _ = fields.number();
                let _ = fields.text();
                let _ = fields.bytes();
            }
        }

        #[test]
        fn times_keep_their_order_and_never_become_earlier(a in 0i64..4_000_000_000_000_000_000, b in 0i64..4_000_000_000_000_000_000) {
            let of = |nanos: i64| Timestamp::from_nanosecond(nanos.into()).unwrap();
            prop_assert!(from_micros(micros(of(a))) >= of(a));
            prop_assert_eq!(a < b, of(a) < of(b));
            prop_assert!(a > b || micros(of(a)) <= micros(of(b)));
        }
    }

    #[test]
    fn the_ends_of_the_calendar_are_kept() {
        assert_eq!(from_micros(u64::MAX), Timestamp::MAX);
        assert_eq!(micros(Timestamp::MIN), 0);
        assert_eq!(later(Timestamp::MAX, Duration::from_secs(1)), Timestamp::MAX);
    }

    #[test]
    fn another_version_is_refused() {
        let error = Decoder::record("journal", &[2, 0]).err().unwrap();
        assert_eq!(error.to_string(), "a journal record cannot be read: its version is unknown");
    }
}
