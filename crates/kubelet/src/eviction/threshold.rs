//! When a node counts as running short: signals, amounts and times, as flags say them.

use std::collections::BTreeMap;
use std::time::Duration;

use apimachinery::quantity::Quantity;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// Memory of the node that pods could still have.
    MemoryAvailable,
    /// Memory that pods together could still have of what the node lets them have.
    AllocatableMemory,
    /// Bytes on the file system of volumes and logs.
    NodefsAvailable,
    /// Files on it.
    NodefsInodesFree,
    /// Bytes on the file system of images and of what containers write.
    ImagefsAvailable,
    /// Files on it.
    ImagefsInodesFree,
    /// Processes that could still be started.
    PidAvailable,
}

impl Signal {
    const ALL: [Self; 7] = [
        Self::MemoryAvailable,
        Self::AllocatableMemory,
        Self::NodefsAvailable,
        Self::NodefsInodesFree,
        Self::ImagefsAvailable,
        Self::ImagefsInodesFree,
        Self::PidAvailable,
    ];

    /// Upstream's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::MemoryAvailable => "memory.available",
            Self::AllocatableMemory => "allocatableMemory.available",
            Self::NodefsAvailable => "nodefs.available",
            Self::NodefsInodesFree => "nodefs.inodesFree",
            Self::ImagefsAvailable => "imagefs.available",
            Self::ImagefsInodesFree => "imagefs.inodesFree",
            Self::PidAvailable => "pid.available",
        }
    }

    fn parse(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|signal| signal.name() == name);
        found.ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            format!("unknown eviction signal {name:?}: there are {known}")
        })
    }

    /// The condition of the node that says it runs short of this.
    pub(crate) fn condition(self) -> &'static str {
        match self {
            Self::MemoryAvailable | Self::AllocatableMemory => "MemoryPressure",
            Self::PidAvailable => "PIDPressure",
            _ => "DiskPressure",
        }
    }

    /// Whether pods can ask for what is short, in bytes.
    pub(crate) fn is_amount(self) -> bool {
        !matches!(self, Self::NodefsInodesFree | Self::ImagefsInodesFree | Self::PidAvailable)
    }

    /// The resource that pods are asked to leave for.
    pub(crate) fn resource(self) -> &'static str {
        match self {
            Self::MemoryAvailable | Self::AllocatableMemory => "memory",
            Self::NodefsAvailable | Self::ImagefsAvailable => "ephemeral-storage",
            Self::NodefsInodesFree | Self::ImagefsInodesFree => "inodes",
            Self::PidAvailable => "pids",
        }
    }
}

/// An amount, or a part of what there is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    /// So much.
    Fixed(Quantity),
    /// So many hundredths of the capacity.
    Percent(f64),
}

impl Amount {
    fn parse(text: &str) -> Result<Self, String> {
        match text.strip_suffix('%') {
            Some(percent) => {
                let percent = percent.parse::<f64>().ok().filter(|percent| (0.0..100.0).contains(percent));
                let why = || format!("eviction threshold {text:?}: a percentage is from 0% to below 100%");
                percent.map(Self::Percent).ok_or_else(why)
            }
            None => {
                let amount = text.parse::<Quantity>().ok().filter(|amount| amount.signum() >= 0);
                amount.map(Self::Fixed).ok_or_else(|| {
                    format!("eviction threshold {text:?} is neither an amount nor a percentage")
                })
            }
        }
    }

    /// In units of the resource, of which there are so many in all.
    pub(crate) fn of(self, capacity: i64) -> i64 {
        match self {
            Self::Fixed(amount) => amount.value(),
            Self::Percent(percent) => (capacity as f64 * percent / 100.0) as i64,
        }
    }

    fn is_zero(self) -> bool {
        self.of(i64::MAX) == 0
    }
}

/// One threshold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold {
    /// What is measured.
    pub signal: Signal,
    /// It is met when there is less than this.
    pub amount: Amount,
    /// For how long it has to be met; `None`: it is hard, and acted on at once.
    pub grace: Option<Duration>,
    /// Once it was met it counts as met until there is so much more than it asks for.
    pub min_reclaim: Option<Amount>,
}

/// When pods are evicted.
#[derive(Clone, Debug, PartialEq)]
pub struct Eviction {
    /// The hard ones first.
    pub thresholds: Vec<Threshold>,
    /// How long a condition stays after its thresholds were met last.
    pub pressure_transition: Duration,
    /// How long a pod may take to end that is evicted for a soft threshold.
    pub max_pod_grace: Duration,
}

/// Flags as written: lists of `signal<amount`, or `signal=amount`, separated by commas.
#[derive(Clone, Copy, Debug, Default)]
pub struct Written<'a> {
    /// `--eviction-hard`
    pub hard: &'a str,
    /// `--eviction-soft`
    pub soft: &'a str,
    /// `--eviction-soft-grace-period`
    pub soft_grace: &'a str,
    /// `--eviction-minimum-reclaim`
    pub min_reclaim: &'a str,
}

impl Eviction {
    /// Reads the flags.
    ///
    /// # Errors
    /// When one cannot be read, or a soft threshold has no time; the message says which.
    pub fn parse(
        written: Written<'_>,
        pressure_transition: Duration,
        max_pod_grace: Duration,
    ) -> Result<Self, String> {
        let hard = amounts(written.hard, '<')?;
        let soft = amounts(written.soft, '<')?;
        let reclaim = amounts(written.min_reclaim, '=')?;
        let mut grace = BTreeMap::new();
        for (signal, text) in pairs(written.soft_grace, '=')? {
            let time = duration(text)
                .ok_or_else(|| format!("eviction grace period {text:?} is no time such as 1m30s"))?;
            grace.insert(signal, time);
        }
        let mut thresholds = Vec::new();
        let own = hard.contains_key(&Signal::AllocatableMemory);
        for (signal, amount) in hard.into_iter().filter(|(_, amount)| !amount.is_zero()) {
            let min_reclaim = reclaim.get(&signal).copied();
            let threshold = Threshold { signal, amount, grace: None, min_reclaim };
            thresholds.push(threshold);
            if signal == Signal::MemoryAvailable && !own {
                // Beyond what pods may have together, the kernel would choose who is killed.
                thresholds.push(Threshold { signal: Signal::AllocatableMemory, ..threshold });
            }
        }
        for (signal, amount) in soft {
            let time = grace.get(&signal).copied();
            let time = time.ok_or_else(|| {
                format!("grace period must be specified for the soft eviction threshold {}", signal.name())
            })?;
            let min_reclaim = reclaim.get(&signal).copied();
            thresholds.push(Threshold { signal, amount, grace: Some(time), min_reclaim });
        }
        Ok(Self { thresholds, pressure_transition, max_pod_grace })
    }

    /// What hard thresholds keep from pods: they would be evicted before they had it.
    pub(crate) fn kept(&self, signal: Signal, capacity: i64) -> i64 {
        let hard = self.thresholds.iter().filter(|known| known.signal == signal && known.grace.is_none());
        hard.map(|known| known.amount.of(capacity)).max().unwrap_or(0)
    }
}

fn amounts(text: &str, between: char) -> Result<BTreeMap<Signal, Amount>, String> {
    let mut found = BTreeMap::new();
    for (signal, amount) in pairs(text, between)? {
        if found.insert(signal, Amount::parse(amount)?).is_some() {
            return Err(format!("eviction signal {} is there twice", signal.name()));
        }
    }
    Ok(found)
}

fn pairs(text: &str, between: char) -> Result<Vec<(Signal, &str)>, String> {
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    let read = pairs.map(|pair| {
        let found = pair.split_once(between);
        let (name, value) =
            found.ok_or_else(|| format!("{pair:?} is not of the form signal{between}amount"))?;
        Ok((Signal::parse(name.trim())?, value.trim()))
    });
    read.collect()
}

/// A time as Go writes it: `90s`, `1m30s`, `2h`.
pub fn duration(text: &str) -> Option<Duration> {
    let (mut total, mut rest) = (Duration::ZERO, text);
    if rest == "0" {
        return Some(total);
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|length| *length > 0)?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let (length, unit) = match rest.as_bytes() {
            [b'm', b's', ..] => (2, Duration::from_millis(1)),
            [b's', ..] => (1, Duration::from_secs(1)),
            [b'm', ..] => (1, Duration::from_secs(60)),
            [b'h', ..] => (1, Duration::from_secs(3600)),
            _ => return None,
        };
        rest = &rest[length..];
        total = total.checked_add(unit.checked_mul(u32::try_from(number).ok()?)?)?;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(hard: &str, soft: &str, soft_grace: &str) -> Result<Eviction, String> {
        let written = Written { hard, soft, soft_grace, min_reclaim: "memory.available=1Mi" };
        Eviction::parse(written, Duration::from_secs(300), Duration::ZERO)
    }

    #[test]
    fn flags_are_read() {
        let found = parse(
            "memory.available<100Mi, nodefs.available<10%,imagefs.available<0%",
            "memory.available<1Gi",
            "memory.available=1m30s",
        );
        let found = found.unwrap();
        let shown: Vec<_> =
            found.thresholds.iter().map(|t| (t.signal.name(), t.amount.of(1000), t.grace)).collect();
        let soft = Some(Duration::from_secs(90));
        assert_eq!(
            shown,
            [
                ("memory.available", 100 << 20, None),
                ("allocatableMemory.available", 100 << 20, None),
                ("nodefs.available", 100, None),
                ("memory.available", 1 << 30, soft)
            ]
        );
        assert_eq!(found.kept(Signal::MemoryAvailable, 4 << 30), 100 << 20);
        assert_eq!(found.thresholds[0].min_reclaim, Some(Amount::Fixed(Quantity::from_bytes(1 << 20))));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (hard, soft, grace, why) in [
            ("memory<1", "", "", "unknown eviction signal \"memory\""),
            ("memory.available=1", "", "", "is not of the form signal<amount"),
            ("memory.available<x", "", "", "neither an amount nor a percentage"),
            ("nodefs.available<120%", "", "", "a percentage is from 0%"),
            ("pid.available<1,pid.available<2", "", "", "is there twice"),
            ("", "pid.available<1", "", "grace period must be specified"),
            ("", "pid.available<1", "pid.available=1x", "no time such as"),
        ] {
            let error = parse(hard, soft, grace).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        for (text, millis) in [("1h2m3s", 3_723_000), ("500ms", 500), ("0", 0)] {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)));
        }
        assert_eq!([duration(""), duration("5"), duration("s"), duration("1d")], [None; 4]);
    }
}
