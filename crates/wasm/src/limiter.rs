//! The bound on what one instance allocates, over all its memories and tables.

use wasmtime::ResourceLimiter;

/// Bytes that a table element costs.
const ELEMENT: usize = size_of::<usize>();

/// Counts an instance's memories and tables together.
pub(crate) struct Limiter {
    limit: usize,
    used: usize,
    /// Growth was refused: what a trap that follows is about.
    refused: bool,
}

impl Limiter {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, used: 0, refused: false }
    }

    pub(crate) fn refused(&self) -> bool {
        self.refused
    }

    fn grow(&mut self, current: usize, desired: usize) -> bool {
        match self.used.checked_add(desired.saturating_sub(current)) {
            Some(used) if used <= self.limit => {
                self.used = used;
                true
            }
            _ => {
                self.refused = true;
                false
            }
        }
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // Beyond its own declared maximum a memory does not grow whatever we say; that is no limit of ours.
        Ok(maximum.is_none_or(|maximum| desired <= maximum) && self.grow(current, desired))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let bytes = |elements: usize| elements.saturating_mul(ELEMENT);
        Ok(maximum.is_none_or(|maximum| desired <= maximum) && self.grow(bytes(current), bytes(desired)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_and_tables_share_one_limit() {
        let mut limiter = Limiter::new(1_000);
        assert!(limiter.memory_growing(0, 600, None).unwrap());
        assert!(limiter.table_growing(0, 50, None).unwrap());
        assert!(!limiter.memory_growing(600, 601, None).unwrap());
        assert!(limiter.refused());
    }

    #[test]
    fn growth_beyond_a_declared_maximum_is_not_held_against_the_limit() {
        let mut limiter = Limiter::new(1_000);
        assert!(!limiter.memory_growing(0, 600, Some(500)).unwrap());
        assert!(!limiter.refused());
        assert!(limiter.memory_growing(0, 1_000, None).unwrap());
    }
}
