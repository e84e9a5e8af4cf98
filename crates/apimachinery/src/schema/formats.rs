//! Checks of text by `format`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::meta::names;
use crate::time;

/// Where the text stops being standard base64, if it does.
pub(super) fn base64_fault(text: &str) -> Option<usize> {
    let mut seen = 0usize;
    let mut padding = 0usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            // Go's decoder skips line ends.
            b'\r' | b'\n' => continue,
            b'=' if seen % 4 >= 2 => padding += 1,
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' if padding == 0 => {}
            _ => return Some(at),
        }
        seen += 1;
    }
    (!seen.is_multiple_of(4)).then_some(text.len())
}

/// Whether text of a custom object keeps to its format. Formats that are not known here hold for everything, as upstream.
pub fn holds(format: &str, text: &str) -> bool {
    match format {
        "byte" => base64_fault(text).is_none(),
        "date" => is_date(text),
        "date-time" | "datetime" => time::parse(text).is_ok(),
        "duration" => is_duration(text),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => is_cidr(text),
        "mac" => is_mac(text),
        "uuid" | "uuid3" | "uuid4" | "uuid5" => is_uuid(text, format.as_bytes().get(4).copied()),
        "hostname" => names::dns1123_subdomain(&text.to_ascii_lowercase()).is_empty(),
        "uri" => is_uri(text),
        "email" => is_email(text),
        _ => true,
    }
}

fn is_date(text: &str) -> bool {
    text.len() == "2006-01-02".len() && text.parse::<jiff::civil::Date>().is_ok()
}

/// A duration of Go (`1h30m`), or a number of units in words (`3 days`).
fn is_duration(text: &str) -> bool {
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if rest == "0" {
        return true;
    }
    let mut any = false;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let (number, after) = rest.split_at(digits);
        if number.parse::<f64>().is_err() {
            return false;
        }
        let after = after.trim_start_matches(' ');
        let letters = after.find(|c: char| c.is_ascii_digit() || c == '.' || c == ' ').unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let known = matches!(
            unit,
            "ns" | "us"
                | "µs"
                | "μs"
                | "ms"
                | "s"
                | "m"
                | "h"
                | "d"
                | "w"
                | "day"
                | "days"
                | "week"
                | "weeks"
                | "hour"
                | "hours"
                | "minute"
                | "minutes"
                | "second"
                | "seconds"
        );
        if !known {
            return false;
        }
        any = true;
        rest = after.trim_start_matches(' ');
    }
    any
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let plain = !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit());
    match (address.parse::<IpAddr>(), bits.parse::<u8>()) {
        (Ok(IpAddr::V4(_)), Ok(bits)) => plain && bits <= 32,
        (Ok(IpAddr::V6(_)), Ok(bits)) => plain && bits <= 128,
        _ => false,
    }
}

fn is_mac(text: &str) -> bool {
    let separator = if text.contains('-') { '-' } else { ':' };
    let parts: Vec<&str> = text.split(separator).collect();
    let hex = |part: &&str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
    matches!(parts.len(), 6 | 8 | 20) && parts.iter().all(hex)
}

fn is_uuid(text: &str, version: Option<u8>) -> bool {
    let bare: String = text.chars().filter(|c| *c != '-').collect();
    let dashes_fit = matches!(text.len(), 32 | 36)
        && text.bytes().enumerate().all(|(at, b)| b != b'-' || matches!(at, 8 | 13 | 18 | 23));
    let version_fits = version.is_none() || bare.as_bytes().get(12).copied() == version;
    bare.len() == 32 && bare.bytes().all(|b| b.is_ascii_hexdigit()) && dashes_fit && version_fits
}

/// Absolute, or beginning with a slash: what Go's `url.ParseRequestURI` takes.
fn is_uri(text: &str) -> bool {
    if text.is_empty() || text.bytes().any(|b| b < 0x20 || b == 0x7f || b == b' ') {
        return false;
    }
    if text.starts_with('/') {
        return true;
    }
    text.split_once(':').is_some_and(|(scheme, rest)| {
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
        scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.bytes().all(fits) && !rest.is_empty()
    })
}

fn is_email(text: &str) -> bool {
    text.rsplit_once('@').is_some_and(|(local, domain)| {
        !local.is_empty()
            && !domain.is_empty()
            && !text.contains(char::is_whitespace)
            && !domain.contains('@')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_take_what_they_should() {
        for (format, good, bad) in [
            ("byte", &["", "aGk=", "aG\nk="][..], &["a", "a===", "=aaa", "aG k"][..]),
            ("date", &["2026-11-22"], &["2026-13-01", "2026-11-22T00:00:00Z"]),
            ("date-time", &["2026-11-22T10:00:00Z", "2026-11-22T10:00:00.5+02:00"], &["2026-11-22", ""]),
            ("duration", &["1h30m", "0", "-5s", "3 days", "1.5h"], &["", "5", "1x", "h"]),
            ("ipv4", &["10.0.0.1"], &["::1", "10.0.0.256", "x"]),
            ("ipv6", &["::1"], &["10.0.0.1"]),
            ("cidr", &["10.0.0.0/8", "::/0"], &["10.0.0.0", "10.0.0.0/33", "10.0.0.0/+8"]),
            ("mac", &["00:11:22:aa:bb:cc", "00-11-22-aa-bb-cc"], &["00:11", "00:11:22:aa:bb:cg"]),
            (
                "uuid",
                &["6ba7b810-9dad-11d1-80b4-00c04fd430c8"],
                &["6ba7b810", "-ba7b810-9dad-11d1-80b4-00c04fd430c8"],
            ),
            ("uuid4", &["6ba7b810-9dad-41d1-80b4-00c04fd430c8"], &["6ba7b810-9dad-11d1-80b4-00c04fd430c8"]),
            ("hostname", &["example.com"], &["-x", "a_b"]),
            ("uri", &["https://x/y", "/a", "mailto:a@b"], &["", "x y", "nothing"]),
            ("email", &["a@b"], &["a", "a b@c"]),
            ("something-else", &["", "x"], &[]),
        ] {
            for text in good {
                assert!(holds(format, text), "{format} {text:?}");
            }
            for text in bad {
                assert!(!holds(format, text), "{format} {text:?}");
            }
        }
    }
}
