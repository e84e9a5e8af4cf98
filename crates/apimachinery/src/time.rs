//! Times as the API writes them.

use std::borrow::Cow;

use jiff::Timestamp;

use crate::field::quote;

/// The text is no RFC 3339 time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("parsing time {} as \"2006-01-02T15:04:05Z07:00\": cannot parse {} as \"2006\"", quote(.0), quote(.0))]
pub struct TimeError(String);

/// `v1.Time`: whole seconds in UTC, `2026-11-22T10:00:00Z`.
pub fn format(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `v1.MicroTime`: microseconds in UTC, `2026-11-22T10:00:00.000000Z`.
pub fn format_micro(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// Any RFC 3339 time.
///
/// # Errors
/// When it is none.
pub fn parse(text: &str) -> Result<Timestamp, TimeError> {
    // jiff also takes a space for the T, seconds left out and other ISO 8601 forms that upstream refuses.
    let strict = text.len() >= "2006-01-02T15:04:05Z".len()
        && text.as_bytes().get(10) == Some(&b'T')
        && text.as_bytes().get(16) == Some(&b':')
        && (text.ends_with('Z') || text.as_bytes().get(text.len() - 3) == Some(&b':'))
        && !text.contains('[');
    if !strict {
        return Err(TimeError(text.to_owned()));
    }
    text.parse().map_err(|_| TimeError(text.to_owned()))
}

/// Rewrites a time as [`format()`] would; one that already is so stays untouched.
///
/// # Errors
/// When it is none.
pub fn normalize(text: &mut String) -> Result<(), TimeError> {
    let parsed = parse(text)?;
    if text.len() != "2006-01-02T15:04:05Z".len() {
        *text = format(parsed);
    }
    Ok(())
}

/// Rewrites a time as [`format_micro`] would; one that already is so stays untouched.
///
/// # Errors
/// When it is none.
pub fn normalize_micro(text: &mut String) -> Result<(), TimeError> {
    let parsed = parse(text)?;
    if text.len() != "2006-01-02T15:04:05.000000Z".len() || !text.ends_with('Z') {
        *text = format_micro(parsed);
    }
    Ok(())
}

/// How long ago, as tables show it: `5s`, `3m12s`, `4h5m`, `2d`, `3y24d`; `<invalid>` for times well in the future.
pub fn age(since: Timestamp, now: Timestamp) -> Cow<'static, str> {
    let seconds = now.duration_since(since).as_secs();
    match seconds {
        ..-1 => Cow::Borrowed("<invalid>"),
        -1..0 => Cow::Borrowed("0s"),
        0.. => Cow::Owned(human(seconds.unsigned_abs())),
    }
}

/// A duration in at most two units, coarser the longer it is.
pub fn human(seconds: u64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let pair = |big: u64, unit: char, rest: u64, small: char| {
        if rest == 0 { format!("{big}{unit}") } else { format!("{big}{unit}{rest}{small}") }
    };
    match () {
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => pair(minutes, 'm', seconds % 60, 's'),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => pair(hours, 'h', minutes % 60, 'm'),
        () if hours < 48 => format!("{hours}h"),
        () if hours < 24 * 8 => pair(hours / 24, 'd', hours % 24, 'h'),
        () if hours < 24 * 365 * 2 => format!("{}d", hours / 24),
        () if hours < 24 * 365 * 8 => pair(hours / 24 / 365, 'y', hours / 24 % 365, 'd'),
        () => format!("{}y", hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_take_their_canonical_form() {
        for (text, seconds, micro) in [
            ("2026-11-22T10:00:00Z", "2026-11-22T10:00:00Z", "2026-11-22T10:00:00.000000Z"),
            ("2026-11-22T12:00:00.1234567+02:00", "2026-11-22T10:00:00Z", "2026-11-22T10:00:00.123456Z"),
        ] {
            let (mut a, mut b) = (text.to_owned(), text.to_owned());
            normalize(&mut a).unwrap();
            normalize_micro(&mut b).unwrap();
            assert_eq!((a.as_str(), b.as_str()), (seconds, micro));
        }
        for bad in [
            "",
            "x",
            "2026-11-22",
            "2026-11-22 10:00:00Z",
            "2026-11-22T10:00Z",
            "2026-13-22T10:00:00Z",
            "é026-11-22T10:00:00Z",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ages_get_coarser() {
        let day = 86_400;
        for (seconds, text) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (600, "10m"),
            (3 * 3600, "3h"),
            (3 * 3600 + 60, "3h1m"),
            (9 * 3600, "9h"),
            (2 * day, "2d"),
            (2 * day + 3600, "2d1h"),
            (9 * day + 3600, "9d"),
            (800 * day, "2y70d"),
            (10 * 365 * day, "10y"),
        ] {
            assert_eq!(human(seconds), text);
        }
        let now: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        assert_eq!(age(now + jiff::SignedDuration::from_secs(9), now), "<invalid>");
        assert_eq!(age(now, now), "0s");
    }
}
