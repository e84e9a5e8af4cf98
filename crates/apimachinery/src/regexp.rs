//! Regular expressions as Go's package `regexp` reads them, compiled by ours.
//!
//! Both are RE2's syntax and run in linear time. They differ in what a few signs mean: `\d`, `\w`, `\s` and `\b` are of ASCII in
//! Go, and in a class `[` is a character, and `&&` and `~~` are two. Those are written as ours needs them.

use std::fmt::Write as _;

/// Compiles an expression of at most so many bytes in its compiled form.
///
/// # Errors
/// When it is malformed, or too large.
pub fn compile(text: &str, most: usize) -> Result<regex::Regex, regex::Error> {
    regex::RegexBuilder::new(&ours(text)).size_limit(most).dfa_size_limit(most).build()
}

/// The expression in our library's words.
fn ours(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text.chars();
    let mut in_class = false;
    while let Some(character) = rest.next() {
        match character {
            '\\' => match rest.next() {
                Some(escaped) => escape(escaped, in_class, &mut rest, &mut out),
                None => out.push('\\'),
            },
            '[' if !in_class => {
                in_class = true;
                out.push('[');
                // A bracket that comes first is one of the class.
                if rest.as_str().starts_with('^') {
                    out.push('^');
                    rest.next();
                }
                if rest.as_str().starts_with(']') {
                    out.push_str("\\]");
                    rest.next();
                }
            }
            '[' if rest.as_str().starts_with(':') => match rest.as_str().find(":]") {
                Some(end) => {
                    let (name, behind) = rest.as_str().split_at(end + 2);
                    let _ = write!(out, "[{name}");
                    rest = behind.chars();
                }
                None => out.push_str("\\["),
            },
            '[' | '&' | '~' if in_class => {
                out.push('\\');
                out.push(character);
            }
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            other => out.push(other),
        }
    }
    out
}

/// What follows a backslash.
fn escape(escaped: char, in_class: bool, rest: &mut std::str::Chars<'_>, out: &mut String) {
    match escaped {
        'd' => out.push_str("[0-9]"),
        'D' => out.push_str("[^0-9]"),
        'w' => out.push_str("[0-9A-Za-z_]"),
        'W' => out.push_str("[^0-9A-Za-z_]"),
        's' => out.push_str("[\\t\\n\\x0C\\r ]"),
        'S' => out.push_str("[^\\t\\n\\x0C\\r ]"),
        'b' | 'B' if !in_class => {
            let _ = write!(out, "(?-u:\\{escaped})");
        }
        // Everything up to the end as it stands.
        'Q' if !in_class => {
            let (quoted, behind) = rest.as_str().split_once("\\E").unwrap_or((rest.as_str(), ""));
            out.push_str(&regex::escape(quoted));
            *rest = behind.chars();
        }
        other => {
            out.push('\\');
            out.push(other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(expression: &str, text: &str) -> bool {
        compile(expression, 1 << 20).unwrap_or_else(|error| panic!("{expression}: {error}")).is_match(text)
    }

    #[test]
    fn classes_are_of_ascii() {
        for (expression, text, expected) in [
            (r"^\d$", "7", true),
            (r"^\d$", "\u{663}", false),
            (r"^\D$", "\u{663}", true),
            (r"^\w$", "ü", false),
            (r"^[\w-]+$", "a-b_c", true),
            (r"^[^\W_]+$", "ab", true),
            (r"^[^\W_]+$", "a_b", false),
            (r"^\s$", "\u{a0}", false),
            (r"^\s$", "\t", true),
            (r"^\S$", "\u{a0}", true),
            (r"\bb", "üb", true),
            (r"^.$", "ü", true),
            (r"^\pL\p{Greek}$", "üπ", true),
        ] {
            assert_eq!(matches(expression, text), expected, "{expression} {text}");
        }
    }

    #[test]
    fn signs_in_a_class_are_characters() {
        for (expression, yes, no) in [
            ("^[[]$", "[", "x"),
            ("^[a[b]$", "[", "x"),
            ("^[]a]$", "]", "x"),
            ("^[^]a]$", "x", "]"),
            ("^[a&&b]$", "&", "x"),
            ("^[a~~b]$", "~", "x"),
            ("^[[:alpha:]_]$", "_", "1"),
            ("^[[:^alpha:]]$", "1", "a"),
            (r"^[\]]$", "]", r"\"),
            (r"^\[a]$", "[a]", "a"),
            (r"^\Qa.b[\E+$", "a.b[[", "axb["),
        ] {
            assert!(matches(expression, yes), "{expression} {yes}");
            assert!(!matches(expression, no), "{expression} {no}");
        }
    }

    #[test]
    fn what_is_malformed_or_large_is_refused() {
        for expression in ["(", "[a", "a**b(", "\\", r"\p{Nothing}"] {
            assert!(compile(expression, 1 << 20).is_err(), "{expression}");
        }
        assert!(compile("((a{100}){100}){100}", 1 << 20).is_err());
    }
}
