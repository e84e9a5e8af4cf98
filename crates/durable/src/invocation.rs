//! What is known of an invocation.

use std::sync::Arc;

use http::HeaderMap;
use jiff::Timestamp;

use crate::codec::{Corrupt, Decoder, Encoder};
use crate::engine::Terms;
use crate::journal::{Fingerprint, credentials};
use crate::tables;

/// The row of one invocation: everything but what it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// Its place among all invocations of the partition; its journal is under it.
    pub sequence: u64,
    /// What it runs, as `namespace/name@revision`.
    pub component: Arc<str>,
    /// Its id, unique in `namespace/name`.
    pub id: Arc<str>,
    /// What its request looked like.
    pub(crate) fingerprint: Fingerprint,
    /// In whose name it was made.
    pub(crate) credentials: Fingerprint,
    /// About how many bytes its request has.
    pub(crate) size: u64,
    /// How it is treated.
    pub terms: Terms,
    /// When it was submitted.
    pub created: Timestamp,
    /// How many attempts have failed.
    pub attempts: u32,
    /// How often in a row something of this host ended an attempt, which then did not count.
    pub interruptions: u32,
    /// Where it stands.
    pub phase: Phase,
}

/// Where an invocation stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It runs, or will as soon as there is room and its component is ready.
    Ready {
        /// Its place in the order of those that can run.
        place: u64,
    },
    /// It sleeps.
    Sleeping {
        /// When it goes on.
        until: Timestamp,
    },
    /// An attempt failed.
    Retrying {
        /// When the next begins.
        at: Timestamp,
        /// Why it failed.
        error: String,
    },
    /// It has replied.
    Completed {
        /// When.
        at: Timestamp,
    },
    /// It has been given up.
    Failed {
        /// When.
        at: Timestamp,
        /// Why the last attempt failed.
        error: String,
    },
    /// It was cancelled.
    Cancelled {
        /// When.
        at: Timestamp,
    },
}

impl Phase {
    /// When it ended, if it has.
    pub fn ended(&self) -> Option<Timestamp> {
        match self {
            Phase::Completed { at } | Phase::Failed { at, .. } | Phase::Cancelled { at } => Some(*at),
            Phase::Ready { .. } | Phase::Sleeping { .. } | Phase::Retrying { .. } => None,
        }
    }
}

/// The part of `namespace/name@revision` before the `@`.
pub fn unpinned(component: &str) -> &str {
    component.split_once('@').map_or(component, |(name, _)| name)
}

impl Invocation {
    /// `namespace/name` of its component.
    pub fn name(&self) -> &str {
        unpinned(&self.component)
    }

    /// Whether a request with these headers is made in the same name (`Authorization` and `Cookie`) as the one that began
    /// this invocation, and so may have its reply.
    pub fn was_begun_by(&self, headers: &HeaderMap) -> bool {
        self.credentials == credentials(headers)
    }

    pub(crate) fn key(&self) -> Vec<u8> {
        tables::invocation_key(self.name(), &self.id)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let revision = self.component.split_once('@').map_or("", |(_, revision)| revision);
        let record = Encoder::record(0)
            .number(self.sequence)
            .text(revision)
            .fixed(&self.fingerprint)
            .duration(self.terms.suspend_after)
            .time(self.created)
            .number(u64::from(self.attempts));
        match &self.phase {
            Phase::Ready { place } => record.byte(0).number(*place),
            Phase::Sleeping { until } => record.byte(1).time(*until),
            Phase::Retrying { at, error } => record.byte(2).time(*at).text(error),
            Phase::Completed { at } => record.byte(3).time(*at),
            Phase::Failed { at, error } => record.byte(4).time(*at).text(error),
            Phase::Cancelled { at } => record.byte(5).time(*at),
        }
        .number(u64::from(self.interruptions))
        .number(self.size)
        .fixed(&self.credentials)
        .byte(self.terms.retention.is_some().into())
        .duration(self.terms.retention.unwrap_or_default())
        .finish()
    }

    /// Reads a row.
    pub(crate) fn decode(key: &[u8], value: &[u8]) -> Result<Self, Corrupt> {
        let (_, mut fields) = Decoder::record("invocation", value)?;
        let (name, id) =
            tables::split_invocation_key(key).ok_or(fields.corrupt("its key has no component and id"))?;
        let sequence = fields.number()?;
        let component = match fields.text()? {
            "" => Arc::from(name),
            revision => Arc::from(format!("{name}@{revision}")),
        };
        let mut invocation = Self {
            sequence,
            component,
            id: Arc::from(id),
            fingerprint: fingerprint(&mut fields)?,
            terms: Terms::suspending_after(fields.duration()?),
            created: fields.time()?,
            attempts: u32::try_from(fields.number()?).map_err(|_| fields.corrupt("too many attempts"))?,
            interruptions: 0,
            size: 0,
            credentials: Fingerprint::default(),
            phase: match fields.byte()? {
                0 => Phase::Ready { place: fields.number()? },
                1 => Phase::Sleeping { until: fields.time()? },
                2 => Phase::Retrying { at: fields.time()?, error: fields.text()?.to_owned() },
                3 => Phase::Completed { at: fields.time()? },
                4 => Phase::Failed { at: fields.time()?, error: fields.text()?.to_owned() },
                5 => Phase::Cancelled { at: fields.time()? },
                _ => return Err(fields.corrupt("its phase is unknown")),
            },
        };
        if !fields.is_empty() {
            invocation.interruptions = u32::try_from(fields.number()?).unwrap_or(u32::MAX);
            invocation.size = fields.number()?;
            invocation.credentials = fingerprint(&mut fields)?;
            let (some, retention) = (fields.byte()?, fields.duration()?);
            invocation.terms.retention = (some != 0).then_some(retention);
        }
        fields.end()?;
        Ok(invocation)
    }
}

fn fingerprint(fields: &mut Decoder<'_>) -> Result<Fingerprint, Corrupt> {
    fields.fixed(16)?.try_into().map_err(|_| fields.corrupt("its fingerprint is short"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn second(n: i64) -> Timestamp {
        Timestamp::from_second(n).unwrap()
    }

    #[test]
    fn every_phase_comes_back() {
        for phase in [
            Phase::Ready { place: 1 << 40 },
            Phase::Sleeping { until: second(9) },
            Phase::Retrying { at: second(8), error: "trap".into() },
            Phase::Completed { at: second(7) },
            Phase::Failed { at: second(6), error: "a \u{1f41b}".into() },
            Phase::Cancelled { at: second(5) },
        ] {
            for component in ["shop/order@sha256:1", "shop/order"] {
                let invocation = Invocation {
                    sequence: 3,
                    component: component.into(),
                    id: "a/b:c".into(),
                    fingerprint: [7; 16],
                    credentials: [9; 16],
                    size: 1 << 33,
                    terms: Terms {
                        suspend_after: Duration::from_secs(1),
                        retention: Some(Duration::from_secs(7)),
                    },
                    created: second(1),
                    attempts: 300,
                    interruptions: 5,
                    phase: phase.clone(),
                };
                let found = Invocation::decode(&invocation.key(), &invocation.encode()).unwrap();
                assert_eq!(found, invocation);
            }
        }
    }

    #[test]
    fn rows_of_the_first_release_are_read() {
        let invocation = Invocation {
            sequence: 3,
            component: "shop/order@1".into(),
            id: "x".into(),
            fingerprint: [7; 16],
            credentials: Fingerprint::default(),
            size: 0,
            terms: Terms::suspending_after(Duration::from_secs(1)),
            created: second(1),
            attempts: 2,
            interruptions: 0,
            phase: Phase::Sleeping { until: second(9) },
        };
        let mut row = invocation.encode();
        row.truncate(row.len() - 20);
        assert_eq!(Invocation::decode(&invocation.key(), &row).unwrap(), invocation);
    }
}
