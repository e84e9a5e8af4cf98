//! Property names as CEL identifiers: `a-b` is `a__dash__b`, `namespace` is `__namespace__`.

/// Words that are no identifiers in CEL.
const RESERVED: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// Whether the word may not be an identifier.
pub fn is_reserved(word: &str) -> bool {
    RESERVED.contains(&word)
}

/// The identifier by which expressions reach a property, if there is one.
pub fn escape(name: &str) -> Option<String> {
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if is_reserved(name) {
        return Some(format!("__{name}__"));
    }
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(c) = rest.chars().next() {
        let taken = if let Some(after) = rest.strip_prefix("__") {
            out.push_str("__underscores__");
            rest = after;
            continue;
        } else {
            c
        };
        match taken {
            '.' => out.push_str("__dot__"),
            '-' => out.push_str("__dash__"),
            '/' => out.push_str("__slash__"),
            c if c.is_ascii_alphanumeric() || c == '_' => out.push(c),
            _ => return None,
        }
        rest = &rest[c.len_utf8()..];
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped() {
        let check =
            |name: &str, expected: Option<&str>| assert_eq!(escape(name).as_deref(), expected, "{name}");
        check("a", Some("a"));
        check("a_b", Some("a_b"));
        check("a__b", Some("a__underscores__b"));
        check("a-b.c/d", Some("a__dash__b__dot__c__slash__d"));
        check("namespace", Some("__namespace__"));
        check("int", Some("int"));
        check("a___b", Some("a__underscores___b"));
        check("", None);
        check("1a", None);
        check("a b", None);
        check("é", None);
    }
}
