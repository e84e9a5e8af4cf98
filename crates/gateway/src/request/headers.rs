//! Headers that are about one connection only, and those that say where a request came from.

use http::header::{
    CONNECTION, EXPECT, HOST, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING,
    UPGRADE,
};
use http::{HeaderMap, HeaderValue};

use super::Origin;

pub(super) const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(super) const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(super) const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// What else clients could say of where a request came from.
const FORWARDED: [HeaderName; 5] = [
    HeaderName::from_static("forwarded"),
    FORWARDED_HOST,
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-server"),
    HeaderName::from_static("x-real-ip"),
];

/// Those of one connection (RFC 9110, 7.6.1), with what older programs send.
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    TRANSFER_ENCODING,
    TE,
    UPGRADE,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Says where a request came from. What a client says of itself is believed only of a trusted proxy.
pub(super) fn tell_origin(headers: &mut HeaderMap, origin: &Origin) {
    if origin.trusted {
        headers.append(FORWARDED_FOR, origin.address.clone());
        headers.entry(FORWARDED_PROTO).or_insert_with(|| origin.scheme.clone());
        return;
    }
    // Few clients say any of it: looking costs less than removing five.
    if headers.keys().any(|name| FORWARDED.contains(name)) {
        FORWARDED.iter().for_each(|name| drop(headers.remove(name)));
    }
    headers.insert(FORWARDED_FOR, origin.address.clone());
    headers.insert(FORWARDED_PROTO, origin.scheme.clone());
}

/// The protocol that both sides may go over to, where the message says so.
pub(super) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let wanted = headers.get(UPGRADE)?;
    named_in_connection(headers).any(|name| name.eq_ignore_ascii_case("upgrade")).then(|| wanted.clone())
}

fn named_in_connection(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|name| !name.is_empty())
}

/// Takes off what is about one connection, and what `Connection` names. That a client takes trailers is passed on.
pub(super) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    // Most messages have none.
    if !headers.keys().any(|name| HOP_BY_HOP.contains(name)) {
        return;
    }
    let trailers = headers.get_all(TE).iter().any(|value| {
        value
            .to_str()
            .is_ok_and(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case("trailers")))
    });
    let kept = [HOST, FORWARDED_FOR, FORWARDED_PROTO, FORWARDED_HOST];
    let named = named_in_connection(headers).filter_map(|name| HeaderName::try_from(name).ok());
    // Whoever names these wants the endpoint not to see them.
    let named: Vec<HeaderName> = named.filter(|name| !kept.contains(name)).collect();
    HOP_BY_HOP.iter().chain(&named).for_each(|name| drop(headers.remove(name)));
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// The client was told to go on when its body was first read.
pub(super) fn strip_expectation(headers: &mut HeaderMap) {
    headers.remove(EXPECT);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn lines(headers: &HeaderMap) -> Vec<(&str, &str)> {
        headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect()
    }

    fn origin(trusted: bool) -> Origin {
        Origin {
            address: HeaderValue::from_static("192.0.2.7"),
            scheme: HeaderValue::from_static("https"),
            trusted,
        }
    }

    #[test]
    fn what_a_client_says_of_itself_is_taken_off() {
        let names = ["forwarded", "x-forwarded-host", "x-forwarded-port", "x-real-ip", "accept"];
        let mut headers = HeaderMap::new();
        for name in names {
            headers.append(name, HeaderValue::from_static("a"));
            headers.append(name, HeaderValue::from_static("b"));
        }
        headers.append(FORWARDED_FOR, HeaderValue::from_static("10.0.0.1"));
        tell_origin(&mut headers, &origin(false));
        let expected = [
            ("accept", "a"),
            ("accept", "b"),
            ("x-forwarded-for", "192.0.2.7"),
            ("x-forwarded-proto", "https"),
        ];
        let mut found = lines(&headers);
        found.sort_unstable();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_trusted_proxy_is_believed() {
        let mut headers = map(&[
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-host", "a.test"),
            ("x-forwarded-proto", "http"),
        ]);
        tell_origin(&mut headers, &origin(true));
        let mut found = lines(&headers);
        found.sort_unstable();
        let expected = [
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-for", "192.0.2.7"),
            ("x-forwarded-host", "a.test"),
            ("x-forwarded-proto", "http"),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_about_one_connection_goes_no_further() {
        let mut headers = map(&[
            ("connection", "close, X-Mine"),
            ("connection", "host, x-forwarded-for"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("te", "deflate;q=0.5, Trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("x-mine", "1"),
            ("x-forwarded-for", "192.0.2.7"),
            ("host", "a.test"),
            ("accept", "a"),
        ]);
        strip_hop_by_hop(&mut headers);
        let mut found = lines(&headers);
        found.sort_unstable();
        let expected =
            [("accept", "a"), ("host", "a.test"), ("te", "trailers"), ("x-forwarded-for", "192.0.2.7")];
        assert_eq!(found, expected);
    }

    #[test]
    fn an_upgrade_is_one_that_the_connection_header_names() {
        let named = map(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]);
        assert_eq!(upgrade(&named).unwrap(), "websocket");
        assert_eq!(upgrade(&map(&[("upgrade", "websocket")])), None);
        assert_eq!(upgrade(&map(&[("connection", "upgrade")])), None);
    }
}
