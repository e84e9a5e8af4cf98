//! How long etcd took over what it was asked for.

use std::fmt;

use instruments::{Family, Histogram, OF_REQUESTS};
use tokio::time::Instant;

/// Parts of the keys that are told apart.
const PARTS: usize = 4096;
/// What etcd is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Get,
    List,
    Create,
    Update,
    Delete,
}

impl Operation {
    const ALL: [Self; 5] = [Self::Get, Self::List, Self::Create, Self::Update, Self::Delete];

    fn label(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// By the operation and the part of the key that says what is there.
pub struct Requests {
    part: fn(&[u8]) -> Option<&str>,
    took: [Family<Box<str>, Histogram>; 5],
}

impl fmt::Debug for Requests {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Requests").finish_non_exhaustive()
    }
}

impl Requests {
    /// Told apart by a part of the key, of which there may not be many. What has none is not counted.
    pub fn by(part: fn(&[u8]) -> Option<&str>) -> Self {
        Self { part, took: [(); 5].map(|()| Family::new(|| Histogram::new(OF_REQUESTS), PARTS)) }
    }

    /// Etcd has answered, or will not.
    pub(super) fn note(&self, operation: Operation, key: &[u8], began: Instant) {
        if let Some(part) = (self.part)(key) {
            self.took[operation as usize].with(part, |took| took.observe(began.elapsed()));
        }
    }

    /// Shows each: what was done, to which part, and how long that took.
    pub fn each(&self, mut show: impl FnMut(&'static str, &str, &Histogram)) {
        for operation in Operation::ALL {
            for (part, took) in self.took[operation as usize].all() {
                show(operation.label(), &part, &took);
            }
        }
    }
}
