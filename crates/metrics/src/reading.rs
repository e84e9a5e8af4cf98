//! What one node said of itself and its pods.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::text;

/// Counted at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Point {
    /// When.
    pub(crate) at: Timestamp,
    /// Since when it counts, where that is said.
    pub(crate) since: Option<Timestamp>,
    /// CPU time used since then, in nanoseconds.
    pub(crate) cpu: u64,
    /// Bytes of the working set.
    pub(crate) memory: u64,
}

/// Containers by name.
pub(crate) type Containers = BTreeMap<String, Point>;

/// A node, and its pods by namespace and name.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Reading {
    pub(crate) node: Option<Point>,
    pub(crate) pods: BTreeMap<(String, String), Containers>,
}

/// A point of which not everything has been said yet.
#[derive(Default)]
struct Partial {
    at: Option<Timestamp>,
    since: Option<Timestamp>,
    cpu: Option<u64>,
    memory: Option<u64>,
}

impl Partial {
    fn whole(&self, now: Timestamp) -> Option<Point> {
        let (cpu, memory) = (self.cpu?, self.memory?);
        Some(Point { at: self.at.unwrap_or(now), since: self.since, cpu, memory })
    }

    fn note(&mut self, what: &str, line: &text::Line<'_>) {
        match what {
            "cpu_usage_seconds_total" => {
                self.cpu = whole(line.value * 1e9);
                self.at = line.milliseconds.and_then(|at| Timestamp::from_millisecond(at).ok());
            }
            "memory_working_set_bytes" => self.memory = whole(line.value),
            "start_time_seconds" => {
                let nanoseconds = whole(line.value * 1e9).map(i128::from);
                self.since = nanoseconds.and_then(|at| Timestamp::from_nanosecond(at).ok());
            }
            _ => {}
        }
    }
}

impl Reading {
    /// Reads `/metrics/resource`. A container of which not all is said is left out, and with it its pod: half a pod would be
    /// taken for one that uses little.
    pub(crate) fn parse(said: &str, now: Timestamp) -> Self {
        let mut node = Partial::default();
        let mut pods: BTreeMap<(&str, &str), BTreeMap<&str, Partial>> = BTreeMap::new();
        for line in text::lines(said) {
            if let Some(what) = line.name.strip_prefix("node_") {
                node.note(what, &line);
            } else if let Some(what) = line.name.strip_prefix("container_")
                && let Some(container) = line.label("container")
                && let Some(namespace) = line.label("namespace")
                && let Some(pod) = line.label("pod")
            {
                pods.entry((namespace, pod)).or_default().entry(container).or_default().note(what, &line);
            }
        }
        let pods = pods.into_iter().filter_map(|((namespace, name), containers)| {
            let whole = containers
                .into_iter()
                .map(|(name, partial)| Some((name.to_owned(), partial.whole(now)?)))
                .collect::<Option<Containers>>()?;
            Some(((namespace.to_owned(), name.to_owned()), whole))
        });
        Self { node: node.whole(now), pods: pods.collect() }
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn whole(value: f64) -> Option<u64> {
    (value.is_finite() && value >= 0.0).then_some(value.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_kubelet_says_is_read() {
        let said = r#"
container_cpu_usage_seconds_total{container="c",namespace="x",pod="a"} 1.5 1767322985000
container_memory_working_set_bytes{container="c",namespace="x",pod="a"} 4096 1767322985000
container_start_time_seconds{container="c",namespace="x",pod="a"} 1.767322e+09
container_cpu_usage_seconds_total{container="d",namespace="x",pod="b"} 1
node_cpu_usage_seconds_total 7.25 1767322985500
node_memory_working_set_bytes 1e6 1767322985500
scrape_error 0
"#;
        let now = Timestamp::from_second(1_767_322_999).unwrap();
        let reading = Reading::parse(said, now);
        let node = Point {
            at: Timestamp::from_millisecond(1_767_322_985_500).unwrap(),
            since: None,
            cpu: 7_250_000_000,
            memory: 1_000_000,
        };
        assert_eq!(reading.node, Some(node));
        let container = Point {
            at: Timestamp::from_second(1_767_322_985).unwrap(),
            since: Timestamp::from_second(1_767_322_000).ok(),
            cpu: 1_500_000_000,
            memory: 4096,
        };
        let pods: Vec<_> = reading.pods.into_iter().collect();
        assert_eq!(
            pods,
            [(("x".into(), "a".into()), [("c".to_owned(), container)].into())],
            "half of b is none"
        );
    }
}
