//! What names may look like. Each function gives upstream's sentences about what is wrong; none if nothing is.

/// Longest DNS label.
pub const LABEL_MAX: usize = 63;
/// Longest DNS subdomain.
pub const SUBDOMAIN_MAX: usize = 253;

const DNS1123_LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const DNS1123_SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const WILDCARD_DNS1123_SUBDOMAIN: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const DNS1035_LABEL: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED_NAME: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

/// What is wrong with a name.
pub type Faults = Vec<String>;

/// What lengths are said to be counted in: upstream has two wordings, and both count bytes.
#[derive(Clone, Copy)]
enum Unit {
    /// Of names.
    Characters,
    /// Of keys and values of labels.
    Bytes,
}

fn max_length(max: usize, unit: Unit) -> String {
    let unit = match unit {
        Unit::Characters => "characters",
        Unit::Bytes => "bytes",
    };
    format!("must be no more than {max} {unit}")
}

fn is_alnum(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn is_dns_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends = [bytes.first(), bytes.last()];
    ends.iter().all(|end| end.is_some_and(|byte| is_alnum(*byte)))
        && bytes.iter().all(|b| is_alnum(*b) || *b == b'-')
}

fn is_name_part(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends = [bytes.first(), bytes.last()];
    ends.iter().all(|end| end.is_some_and(u8::is_ascii_alphanumeric))
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

fn check(text: &str, (max, unit): (usize, Unit), well_formed: bool, sentence: &str) -> Faults {
    let mut faults = Vec::new();
    if text.len() > max {
        faults.push(max_length(max, unit));
    }
    if !well_formed {
        faults.push(sentence.to_owned());
    }
    faults
}

/// A DNS label: `my-name`.
pub fn dns1123_label(text: &str) -> Faults {
    check(text, (LABEL_MAX, Unit::Characters), is_dns_label(text), DNS1123_LABEL)
}

/// DNS labels joined by dots: `my.name`.
pub fn dns1123_subdomain(text: &str) -> Faults {
    subdomain(text, Unit::Characters)
}

fn subdomain(text: &str, unit: Unit) -> Faults {
    check(text, (SUBDOMAIN_MAX, unit), text.split('.').all(is_dns_label), DNS1123_SUBDOMAIN)
}

/// `*.` and a DNS subdomain.
pub fn wildcard_dns1123_subdomain(text: &str) -> Faults {
    let well_formed = text.strip_prefix("*.").is_some_and(|rest| rest.split('.').all(is_dns_label));
    check(text, (SUBDOMAIN_MAX, Unit::Characters), well_formed, WILDCARD_DNS1123_SUBDOMAIN)
}

/// A DNS label that begins with a letter: names of services.
pub fn dns1035_label(text: &str) -> Faults {
    let well_formed = is_dns_label(text) && text.starts_with(|c: char| c.is_ascii_lowercase());
    check(text, (LABEL_MAX, Unit::Characters), well_formed, DNS1035_LABEL)
}

/// A name that may stand as one segment of a URL's path: names of roles.
pub fn path_segment(text: &str) -> Faults {
    let mut faults = Vec::new();
    if text == "." || text == ".." {
        faults.push(format!("may not be '{text}'"));
        return faults;
    }
    for illegal in ['/', '%'] {
        if text.contains(illegal) {
            faults.push(format!("may not contain '{illegal}'"));
        }
    }
    faults
}

/// A key of labels, annotations or finalizers: `name`, or `dns.prefix/name`.
pub fn qualified_name(text: &str) -> Faults {
    let mut faults = Vec::new();
    let mut parts = text.split('/');
    let (first, second, more) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    if more.is_some() {
        faults.push(format!("a qualified name {QUALIFIED_NAME} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"));
        return faults;
    }
    let (prefix, name) = second.map_or((None, first), |name| (Some(first), name));
    if let Some(prefix) = prefix {
        if prefix.is_empty() {
            faults.push("prefix part must be non-empty".to_owned());
        } else {
            faults.extend(
                subdomain(prefix, Unit::Bytes).into_iter().map(|fault| format!("prefix part {fault}")),
            );
        }
    }
    if name.is_empty() {
        faults.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_MAX {
        faults.push(format!("name part {}", max_length(LABEL_MAX, Unit::Bytes)));
    }
    if !is_name_part(name) {
        faults.push(format!("name part {QUALIFIED_NAME}"));
    }
    faults
}

/// A label's value.
pub fn label_value(text: &str) -> Faults {
    check(text, (LABEL_MAX, Unit::Bytes), text.is_empty() || is_name_part(text), LABEL_VALUE)
}

/// The name of a port: what IANA registers as a service name.
pub fn port_name(text: &str) -> Faults {
    const MAX: usize = 15;
    let mut faults = Vec::new();
    if text.len() > MAX {
        faults.push(max_length(MAX, Unit::Characters));
    }
    if text.is_empty() || !text.bytes().all(|b| is_alnum(b) || b == b'-') {
        faults.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !text.bytes().any(|b| b.is_ascii_lowercase()) {
        faults.push("must contain at least one letter (a-z)".to_owned());
    }
    if text.contains("--") {
        faults.push("must not contain consecutive hyphens".to_owned());
    }
    if text.starts_with('-') || text.ends_with('-') {
        faults.push("must not begin or end with a hyphen".to_owned());
    }
    faults
}

/// The number of a port.
pub fn port_number(port: i64) -> Faults {
    if (1..=65_535).contains(&port) {
        Vec::new()
    } else {
        vec!["must be between 1 and 65535, inclusive".to_owned()]
    }
}

/// The name of an environment variable.
pub fn environment_variable(text: &str) -> Faults {
    let mut faults = Vec::new();
    if text.is_empty() {
        faults.push("environment variable name must be non-empty".to_owned());
    } else if !text.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=') {
        let sentence = "a valid environment variable name must consist only of printable ASCII characters other than '='";
        faults.push(sentence.to_owned());
    }
    faults
}

/// A key of a ConfigMap or Secret: a file name.
pub fn config_key(text: &str) -> Faults {
    const SENTENCE: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let mut faults =
        check(text, (SUBDOMAIN_MAX, Unit::Characters), !text.is_empty() && text.bytes().all(fits), SENTENCE);
    match text {
        "." => faults.push("must not be '.'".to_owned()),
        ".." => faults.push("must not be '..'".to_owned()),
        _ if text.starts_with("..") => faults.push("must not start with '..'".to_owned()),
        _ => {}
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_takes_what_it_should() {
        type Rule = fn(&str) -> Faults;
        let long = "a".repeat(64);
        let rules: [(Rule, &[&str], &[&str]); 9] = [
            (dns1123_label, &["a", "0-a"], &["", "-a", "a-", "a.b", "A", "é", &long]),
            (dns1123_subdomain, &["a", "a.b-c"], &["", ".a", "a..b", "a.-b", "A"]),
            (dns1035_label, &["a", "a-0"], &["", "0a", "a.b"]),
            (path_segment, &["a", "system:x", "A b"], &[".", "..", "a/b", "a%b"]),
            (qualified_name, &["a", "A_b.c", "x.y/Z"], &["", "/a", "a/", "a/b/c", "A/b", "-a", &long]),
            (label_value, &["", "a", "A_b.c-d"], &["-a", "a-", "a b", &long]),
            (port_name, &["http", "p-1"], &["", "1", "a--b", "-a", "a-", "HTTP", "sixteen-letters-x"]),
            (environment_variable, &["A", "a.b", "1"], &["", "a=b", "é", "a\n"]),
            (config_key, &["a", ".bashrc", "A_b"], &["", ".", "..", "..a", "a/b", "é"]),
        ];
        for (rule, good, bad) in rules {
            for text in good {
                assert_eq!(rule(text), [""; 0], "{text:?}");
            }
            for text in bad {
                assert_ne!(rule(text), [""; 0], "{text:?}");
            }
        }
        assert!(port_number(65_535).is_empty() && !port_number(0).is_empty());
    }
}
