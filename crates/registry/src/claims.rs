//! What an object takes for itself alone beside its key: a service's addresses and ports. A claim is a key of the store
//! that the object's own transaction creates, so that no two objects can hold the same.

use apimachinery::status::Status;
use bytes::Bytes;
use serde_json::Value;
use store::{Expect, Txn, Write};

use crate::Kind;

/// Changes of claims that go with a write.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claims {
    /// Keys of new claims.
    pub(crate) take: Vec<Bytes>,
    /// Those of them whose values were chosen here, not by the client.
    pub(crate) chosen: Vec<Bytes>,
    /// Keys of claims that end.
    pub(crate) release: Vec<Bytes>,
}

/// How often another value is chosen before the range counts as full.
const CHOICES: usize = 256;

/// What was chosen for one write over all its attempts.
#[derive(Debug, Default)]
pub(crate) struct Choices(Vec<Bytes>);

impl Choices {
    /// Choices of earlier attempts stay choices: the object holds them as if the client had named them.
    pub(crate) fn keep(&mut self, mut claims: Claims) -> Result<Claims, Status> {
        self.0.append(&mut claims.chosen);
        if self.0.len() > CHOICES {
            return Err(Status::internal_error("failed to allocate: range is full"));
        }
        claims.chosen.clone_from(&self.0);
        Ok(claims)
    }
}

impl Claims {
    /// Makes the claims part of the transaction that writes their owner; `value` gives what is kept of each.
    pub(crate) fn add_to(&self, txn: &mut Txn, value: impl Fn(&Bytes) -> Bytes) {
        for key in &self.take {
            txn.expect.push((key.clone(), Expect::Absent));
            txn.writes.push(Write::Put(key.clone(), value(key)));
        }
        txn.writes.extend(self.release.iter().map(|key| Write::Delete(key.clone())));
    }

    /// Whether a conflict on this key means that a claim is taken.
    pub(crate) fn concerns(&self, key: &Bytes) -> bool {
        self.take.contains(key)
    }

    /// After a conflict on a claim: takes a value that was chosen here back out of the object, so that another can be
    /// chosen. What the client chose is not changed behind its back.
    pub(crate) fn retract(
        &self,
        kind: &Kind,
        name: &str,
        key: &Bytes,
        object: &mut Value,
    ) -> Result<(), Status> {
        let text = String::from_utf8_lossy(key);
        if self.chosen.contains(key) {
            kind.strategy.unchoose(&text, object);
            return Ok(());
        }
        Err(Status::invalid(&kind.resource.kind, name, vec![kind.strategy.taken(&text, object)]))
    }
}
