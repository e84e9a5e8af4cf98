//! What names may look like. Each function gives upstream's sentences about what is wrong; none if nothing is.

/// Longest DNS label.
pub const LABEL_MAX: usize = 63;
/// Longest DNS subdomain.
pub const SUBDOMAIN_MAX: usize = 253;

const DNS1123_LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const DNS1123_SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const DNS1035_LABEL: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED_NAME: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

/// What is wrong with a name.
pub type Faults = Vec<String>;

fn max_length(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

fn is_alnum(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn is_dns_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends = [bytes.first(), bytes.last()];
    ends.iter().all(|end| end.is_some_and(|byte| is_alnum(*byte))) && bytes.iter().all(|b| is_alnum(*b) || *b == b'-')
}

fn is_name_part(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends = [bytes.first(), bytes.last()];
    ends.iter().all(|end| end.is_some_and(u8::is_ascii_alphanumeric))
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

fn check(text: &str, max: usize, well_formed: bool, sentence: &str) -> Faults {
    let mut faults = Vec::new();
    if text.len() > max {
        faults.push(max_length(max));
    }
    if !well_formed {
        faults.push(sentence.to_owned());
    }
    faults
}

/// A DNS label: `my-name`.
pub fn dns1123_label(text: &str) -> Faults {
    check(text, LABEL_MAX, is_dns_label(text), DNS1123_LABEL)
}

/// DNS labels joined by dots: `my.name`.
pub fn dns1123_subdomain(text: &str) -> Faults {
    check(text, SUBDOMAIN_MAX, text.split('.').all(is_dns_label), DNS1123_SUBDOMAIN)
}

/// A DNS label that begins with a letter: names of services.
pub fn dns1035_label(text: &str) -> Faults {
    let well_formed = is_dns_label(text) && text.starts_with(|c: char| c.is_ascii_lowercase());
    check(text, LABEL_MAX, well_formed, DNS1035_LABEL)
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
            faults.extend(dns1123_subdomain(prefix).into_iter().map(|fault| format!("prefix part {fault}")));
        }
    }
    if name.is_empty() {
        faults.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_MAX {
        faults.push(format!("name part {}", max_length(LABEL_MAX)));
    }
    if !is_name_part(name) {
        faults.push(format!("name part {QUALIFIED_NAME}"));
    }
    faults
}

/// A label's value.
pub fn label_value(text: &str) -> Faults {
    check(text, LABEL_MAX, text.is_empty() || is_name_part(text), LABEL_VALUE)
}
