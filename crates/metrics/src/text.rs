//! Prometheus' text format, as far as a reader of samples needs it.

/// One sample: `name{label="value",…} value [milliseconds]`.
#[derive(Debug, PartialEq)]
pub(crate) struct Line<'a> {
    pub(crate) name: &'a str,
    labels: &'a str,
    pub(crate) value: f64,
    /// Since the Unix epoch.
    pub(crate) milliseconds: Option<i64>,
}

/// The samples of a text. What is no sample is left out.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).filter_map(line)
}

fn line(line: &str) -> Option<Line<'_>> {
    let (name, labels, rest) = match line.find(['{', ' ', '\t']) {
        Some(at) if line.as_bytes()[at] == b'{' => {
            let end = at + 1 + end_of_labels(&line[at + 1..])?;
            (&line[..at], &line[at + 1..end], &line[end + 1..])
        }
        Some(at) => (&line[..at], "", &line[at..]),
        None => return None,
    };
    let mut words = rest.split_whitespace();
    let value = words.next()?.parse().ok()?;
    let milliseconds = words.next().map(str::parse).transpose().ok()?;
    Some(Line { name, labels, value, milliseconds })
}

/// Where the brace is that no quotes surround.
fn end_of_labels(text: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'}' if !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

impl<'a> Line<'a> {
    /// The value of a label, as it is written: what kubelets name has nothing to escape.
    pub(crate) fn label(&self, name: &str) -> Option<&'a str> {
        let mut rest = self.labels;
        while !rest.is_empty() {
            let (key, after) = rest.split_once("=\"")?;
            let end = after.bytes().enumerate().scan(false, |escaped, (at, byte)| {
                let ends = byte == b'"' && !*escaped;
                *escaped = byte == b'\\' && !*escaped;
                Some((at, ends))
            });
            let end = end.into_iter().find_map(|(at, ends)| ends.then_some(at))?;
            if key.trim() == name {
                return Some(&after[..end]);
            }
            rest = after[end + 1..].trim_start_matches([',', ' ']);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn samples_are_read() {
        let text = "# HELP a b\n# TYPE a counter\na{x=\"1\",y=\"b}\\\"c\"} 1.5e3 1700000000123\nb 2\nc{} NaN\nnonsense\nd{x=\"1\n";
        let found: Vec<_> = lines(text).collect();
        assert_eq!(found.len(), 3);
        assert_eq!(
            (found[0].name, found[0].value, found[0].milliseconds),
            ("a", 1500.0, Some(1_700_000_000_123))
        );
        assert_eq!(
            (found[0].label("x"), found[0].label("y"), found[0].label("z")),
            (Some("1"), Some("b}\\\"c"), None)
        );
        assert_eq!((found[1].name, found[1].value, found[1].label("x")), ("b", 2.0, None));
        assert!(found[2].value.is_nan());
    }

    proptest! {
        #[test]
        fn nothing_that_a_node_says_ends_the_reader(text in "[ -~\\n]{0,200}") {
            for line in lines(&text) {
                let _ = line.label("x");
            }
        }
    }
}
