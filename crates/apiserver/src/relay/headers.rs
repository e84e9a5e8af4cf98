//! What of a head goes on to the other side: not what is between two neighbours only, and nothing by which the client is
//! known to us.

use std::net::SocketAddr;

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};

use crate::authenticate::TOKEN_PROTOCOL;

/// Headers between two neighbours.
const BETWEEN: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Headers of a request that are for us, or for whoever speaks to the other side to write.
const OURS: [HeaderName; 4] = [AUTHORIZATION, CONTENT_LENGTH, EXPECT, HOST];

/// Whether the client wants another protocol.
pub(crate) fn ask_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(UPGRADE) && listed(headers).any(|name| name.eq_ignore_ascii_case("upgrade"))
}

/// The names that a connection's head calls its own.
fn listed(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(CONNECTION).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',').map(str::trim)).filter(|name| !name.is_empty())
}

/// The headers of a request as the other side gets them; `peer` is where it came from, if that is known.
pub(crate) fn onward(from: &HeaderMap, peer: Option<SocketAddr>) -> HeaderMap {
    let upgrades = ask_upgrade(from);
    let own: Vec<&str> = listed(from).collect();
    let mut onward = HeaderMap::with_capacity(from.len());
    for (name, value) in from {
        let text = name.as_str();
        let is_about_the_user = text.starts_with("x-remote-") || text.starts_with("impersonate-");
        let is_between = BETWEEN.contains(name) || own.iter().any(|own| own.eq_ignore_ascii_case(text));
        let changes_protocol = upgrades && (*name == CONNECTION || *name == UPGRADE);
        if changes_protocol || !(is_about_the_user || is_between || OURS.contains(name)) {
            onward.append(name.clone(), value.clone());
        }
    }
    onward.remove(SEC_WEBSOCKET_PROTOCOL);
    if let Some(protocols) = protocols(from) {
        onward.insert(SEC_WEBSOCKET_PROTOCOL, protocols);
    }
    if let Some(peer) = peer {
        let before = from.get_all(FORWARDED_FOR).into_iter().filter_map(|value| value.to_str().ok());
        let all: Vec<String> = before.map(str::to_owned).chain([peer.ip().to_string()]).collect();
        if let Ok(all) = HeaderValue::try_from(all.join(", ")) {
            onward.insert(FORWARDED_FOR, all);
        }
    }
    onward
}

/// The protocols that a WebSocket's client offers, but for the one in which it sends its token.
pub(crate) fn protocols(from: &HeaderMap) -> Option<HeaderValue> {
    let protocols: Vec<&str> = from
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .into_iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(',').map(str::trim))
        .filter(|protocol| !protocol.is_empty() && !protocol.starts_with(TOKEN_PROTOCOL))
        .collect();
    HeaderValue::try_from(protocols.join(", ")).ok().filter(|value| !value.is_empty())
}

/// Takes from an answer's headers what the client is not to get.
pub(crate) fn backward(headers: &mut HeaderMap) {
    let own: Vec<HeaderName> = listed(headers).filter_map(|name| name.parse().ok()).collect();
    for name in BETWEEN.iter().chain(&own) {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(of: &[(&str, &str)]) -> HeaderMap {
        let parsed = of.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        let mut headers = HeaderMap::new();
        for (name, value) in parsed {
            let name: HeaderName = name;
            let value: HeaderValue = value;
            headers.append(name, value);
        }
        headers
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn what_is_between_neighbours_or_about_the_user_stays_here() {
        let from = headers(&[
            ("authorization", "Bearer secret"),
            ("accept", "text/html"),
            ("cookie", "a=b"),
            ("connection", "keep-alive, X-Own"),
            ("connection", "close"),
            ("x-own", "1"),
            ("upgrade", "h2c"),
            ("x-remote-user", "admin"),
            ("impersonate-user", "admin"),
            ("transfer-encoding", "chunked"),
            ("content-length", "3"),
            ("host", "here"),
        ]);
        assert_eq!(names(&onward(&from, None)), ["accept", "cookie"]);
        let told = onward(&headers(&[("x-forwarded-for", "10.0.0.1")]), Some(([10, 0, 0, 2], 1).into()));
        assert_eq!(told["x-forwarded-for"], "10.0.0.1, 10.0.0.2");
        let mut back = headers(&[
            ("connection", "x-own"),
            ("x-own", "1"),
            ("keep-alive", "timeout=5"),
            ("content-length", "3"),
            ("set-cookie", "a=b"),
        ]);
        backward(&mut back);
        assert_eq!(names(&back), ["content-length", "set-cookie"]);
    }

    #[test]
    fn a_change_of_protocols_goes_on_without_the_token() {
        let token = format!("{TOKEN_PROTOCOL}c2VjcmV0, chat");
        let mut from = headers(&[
            ("connection", "Keep-Alive, Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-protocol", &token),
        ]);
        assert!(ask_upgrade(&from));
        let told = onward(&from, None);
        assert_eq!(names(&told), ["connection", "sec-websocket-protocol", "upgrade"]);
        assert_eq!(told["sec-websocket-protocol"], "chat");
        from.remove("connection");
        assert!(!ask_upgrade(&from));
    }
}
