//! Prometheus' text format.

use std::fmt::{Display, Write as _};

use crate::Histogram;

/// Its media type.
pub const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a family's numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// They only grow.
    Counter,
    /// They grow and shrink.
    Gauge,
    /// They are buckets.
    Histogram,
}

/// A page of samples, family after family.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
    name: &'static str,
}

impl Page {
    /// Begins a family: the samples that follow are its.
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.name = name;
        self.write(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    /// A sample of the family.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.line("", labels, None, value, None);
    }

    /// A sample that was taken at a time, in milliseconds since the Unix epoch.
    pub fn sample_at(&mut self, labels: &[(&str, &str)], value: impl Display, milliseconds: i64) {
        self.line("", labels, None, value, Some(milliseconds));
    }

    /// A histogram of the family.
    pub fn histogram(&mut self, labels: &[(&str, &str)], histogram: &Histogram) {
        let (buckets, sum) = histogram.read();
        let all = buckets.last().map_or(0, |(_, count)| *count);
        for (bound, count) in buckets {
            let bound = if bound.is_finite() { bound.to_string() } else { "+Inf".to_owned() };
            self.line("_bucket", labels, Some(&bound), count, None);
        }
        self.line("_sum", labels, None, sum, None);
        self.line("_count", labels, None, all, None);
    }

    /// The whole text.
    pub fn finish(self) -> String {
        self.text
    }

    fn line(
        &mut self,
        suffix: &str,
        labels: &[(&str, &str)],
        bound: Option<&str>,
        value: impl Display,
        at: Option<i64>,
    ) {
        let name = self.name;
        self.write(format_args!("{name}{suffix}"));
        let all = labels.iter().copied().chain(bound.map(|bound| ("le", bound)));
        let mut before = '{';
        for (label, value) in all {
            self.write(format_args!("{before}{label}=\""));
            for character in value.chars() {
                match character {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    plain => self.text.push(plain),
                }
            }
            self.text.push('"');
            before = ',';
        }
        if before == ',' {
            self.text.push('}');
        }
        self.write(format_args!(" {value}"));
        if let Some(at) = at {
            self.write(format_args!(" {at}"));
        }
        self.text.push('\n');
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing into a String does not fail.
        let _ = self.text.write_fmt(text);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn families_are_written_one_after_the_other() {
        let mut page = Page::default();
        page.family("a_total", Kind::Counter, "What is counted.");
        page.sample(&[("x", "1\"\n\\"), ("y", "")], 3);
        page.sample_at(&[], 0.5, 1_700_000_000_000);
        page.family("b_seconds", Kind::Histogram, "How long.");
        let histogram = Histogram::new(&[500_000_000]);
        histogram.observe(Duration::from_secs(2));
        page.histogram(&[("z", "w")], &histogram);
        let wanted = "# HELP a_total What is counted.\n# TYPE a_total counter\na_total{x=\"1\\\"\\n\\\\\",y=\"\"} 3\n\
                      a_total 0.5 1700000000000\n# HELP b_seconds How long.\n# TYPE b_seconds histogram\n\
                      b_seconds_bucket{z=\"w\",le=\"0.5\"} 0\nb_seconds_bucket{z=\"w\",le=\"+Inf\"} 1\n\
                      b_seconds_sum{z=\"w\"} 2\nb_seconds_count{z=\"w\"} 1\n";
        assert_eq!(page.finish(), wanted);
    }
}
