//! The `Prefer` header (RFC 7240), as far as it is about waiting.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};

/// What the client would like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Preference {
    asynchronous: bool,
    wait: Option<u32>,
}

impl Preference {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut preference = Self::default();
        let values = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
        for part in values.flat_map(|value| value.split(',')) {
            // Parameters after a semicolon are none of ours.
            let part = part.split(';').next().unwrap_or_default().trim();
            if part.eq_ignore_ascii_case("respond-async") {
                preference.asynchronous = true;
            } else if let Some((name, value)) = part.split_once('=')
                && name.trim().eq_ignore_ascii_case("wait")
                && let Ok(seconds) = value.trim().trim_matches('"').parse()
            {
                // The first of several counts.
                preference.wait.get_or_insert(seconds);
            }
        }
        preference
    }

    /// How long to wait for a reply; `None`: as long as it takes.
    pub(super) fn patience(self) -> Option<Duration> {
        match (self.wait, self.asynchronous) {
            (Some(seconds), _) => Some(Duration::from_secs(seconds.into())),
            (None, true) => Some(Duration::ZERO),
            (None, false) => None,
        }
    }

    /// The value of `Preference-Applied` on an answer that did not wait any longer.
    pub(super) fn applied(self) -> Option<HeaderValue> {
        let text = match (self.asynchronous, self.wait) {
            (true, Some(seconds)) => format!("respond-async, wait={seconds}"),
            (true, None) => "respond-async".to_owned(),
            (false, Some(seconds)) => format!("wait={seconds}"),
            (false, None) => return None,
        };
        HeaderValue::try_from(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preferences_are_read_from_all_headers() {
        let check = |values: &[&'static str], patience: Option<u64>, applied: Option<&str>| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("prefer", HeaderValue::from_static(value));
            }
            let preference = Preference::of(&headers);
            assert_eq!(preference.patience(), patience.map(Duration::from_secs), "{values:?}");
            assert_eq!(
                preference.applied().as_ref().and_then(|value| value.to_str().ok()),
                applied,
                "{values:?}"
            );
        };
        check(&[], None, None);
        check(&["return=minimal"], None, None);
        check(&["respond-async"], Some(0), Some("respond-async"));
        check(&["Respond-Async, wait=10"], Some(10), Some("respond-async, wait=10"));
        check(&["foo; wait=3", "wait = \"7\"", "wait=9"], Some(7), Some("wait=7"));
        check(&["wait=never"], None, None);
    }
}
