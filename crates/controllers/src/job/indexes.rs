//! Sets of indexes, as a Job's status writes them: `0-2,5`.

use std::fmt;

/// Intervals, both ends included, in order and apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Indexes(Vec<(u32, u32)>);

impl Indexes {
    /// Those of the text that are below `completions`; what is no interval counts for nothing.
    pub(super) fn parse(text: &str, completions: u32) -> Self {
        let Some(last) = completions.checked_sub(1) else { return Self::default() };
        let interval = |part: &str| {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            let (from, to) = (from.parse::<u32>().ok()?, to.parse::<u32>().ok()?.min(last));
            (from <= to).then_some((from, to))
        };
        Self::of(text.split(',').filter_map(interval).collect())
    }

    fn of(mut intervals: Vec<(u32, u32)>) -> Self {
        intervals.sort_unstable();
        let mut apart: Vec<(u32, u32)> = Vec::new();
        for (from, to) in intervals {
            match apart.last_mut() {
                Some(before) if from <= before.1.saturating_add(1) => before.1 = before.1.max(to),
                _ => apart.push((from, to)),
            }
        }
        Self(apart)
    }

    pub(super) fn with(&self, more: impl IntoIterator<Item = u32>) -> Self {
        let more = more.into_iter().map(|index| (index, index));
        Self::of(self.0.iter().copied().chain(more).collect())
    }

    pub(super) fn and(&self, other: &Self) -> Self {
        Self::of(self.0.iter().chain(&other.0).copied().collect())
    }

    pub(super) fn count(&self) -> usize {
        self.0.iter().map(|(from, to)| (to - from) as usize + 1).sum()
    }

    pub(super) fn has(&self, index: u32) -> bool {
        let after = self.0.partition_point(|(_, to)| *to < index);
        self.0.get(after).is_some_and(|(from, _)| *from <= index)
    }

    /// How many both have.
    pub(super) fn shared(&self, other: &Self) -> usize {
        self.count() + other.count() - self.and(other).count()
    }

    /// The first indexes below `end` that are not here, so many at most.
    pub(super) fn missing(&self, end: u32, most: usize) -> Vec<u32> {
        let mut missing = Vec::new();
        let mut next = 0;
        for (from, to) in self.0.iter().copied().chain([(end, end)]) {
            missing.extend((next..from.min(end)).take(most - missing.len()));
            next = to.saturating_add(1);
        }
        missing
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (from, to)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            match to - from {
                0 => write!(f, "{comma}{from}")?,
                1 => write!(f, "{comma}{from},{to}")?,
                _ => write!(f, "{comma}{from}-{to}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Indexes;

    #[test]
    fn read_and_written() {
        for (text, written, count) in [
            ("", "", 0),
            ("0", "0", 1),
            ("0,1", "0,1", 2),
            ("0-2,3,7,9-20", "0-3,7,9", 6),
            ("x,4-,8", "8", 1),
        ] {
            let read = Indexes::parse(text, 10);
            assert_eq!((read.to_string().as_str(), read.count()), (written, count), "{text}");
        }
        assert_eq!(Indexes::parse("0-5", 0), Indexes::default());
    }

    #[test]
    fn what_is_here_and_what_is_not() {
        let some = Indexes::default().with([1, 2, 3, 6]);
        assert!(some.has(3) && some.has(6) && !some.has(0) && !some.has(4) && !some.has(7));
        assert_eq!(some.missing(9, 9), [0, 4, 5, 7, 8]);
        assert_eq!(some.missing(9, 2), [0, 4]);
        assert_eq!(some.missing(2, 9), [0]);
        assert_eq!(some.shared(&Indexes::parse("0-2,6-9", 10)), 3);
    }
}
