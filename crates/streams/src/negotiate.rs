//! Which protocol a request asks for, and the answer that begins it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use http::{Response, StatusCode};

/// Where SPDY clients list the versions that they speak, and are told the one that holds.
const VERSION: HeaderName = HeaderName::from_static("x-stream-protocol-version");
/// What SPDY clients are told when there is none.
const ACCEPTED: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");
const SPDY: &str = "SPDY/3.1";
/// What RFC 6455 has a server hash with the client's key.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// exec and attach.
    RemoteCommand,
    /// Ports.
    PortForward,
}

impl Purpose {
    /// Versions over SPDY, the best first.
    fn spdy(self) -> &'static [(&'static str, u8)] {
        match self {
            Self::RemoteCommand => {
                &[("v4.channel.k8s.io", 4), ("v3.channel.k8s.io", 3), ("v2.channel.k8s.io", 2)]
            }
            Self::PortForward => &[("portforward.k8s.io", 1)],
        }
    }

    /// Protocols over WebSocket. The client's order decides.
    fn web_socket(self, name: &str) -> Option<Protocol> {
        let channels = |version, base64| Some(Protocol::Channels { version, base64 });
        match (name, self) {
            ("v5.channel.k8s.io", Self::RemoteCommand) => channels(5, false),
            ("v4.channel.k8s.io", _) => channels(4, false),
            ("v4.base64.channel.k8s.io", _) => channels(4, true),
            ("channel.k8s.io", _) => channels(1, false),
            ("base64.channel.k8s.io", _) => channels(1, true),
            ("SPDY/3.1+portforward.k8s.io", Self::PortForward) => Some(Protocol::Tunnel),
            _ => None,
        }
    }
}

/// How both sides speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Streams of SPDY.
    Spdy {
        /// Of the remote command protocol.
        version: u8,
    },
    /// Streams of SPDY, in the messages of a WebSocket.
    Tunnel,
    /// Numbered channels of a WebSocket.
    Channels {
        /// Of the remote command protocol; 1 where none is named.
        version: u8,
        /// Whether messages are text.
        base64: bool,
    },
}

impl Protocol {
    /// The version of the remote command protocol, which says what can be told of a command's end.
    pub fn version(self) -> u8 {
        match self {
            Self::Spdy { version } | Self::Channels { version, .. } => version,
            Self::Tunnel => 1,
        }
    }
}

/// An agreement on a protocol, and the head of the answer that begins it.
#[derive(Clone, Debug)]
pub struct Handshake {
    /// How both sides speak from then on.
    pub protocol: Protocol,
    /// `101 Switching Protocols`.
    pub response: Response<()>,
}

/// Why a request cannot be upgraded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// HTTP status.
    pub code: StatusCode,
    /// In upstream's words.
    pub message: String,
    /// Headers of the answer.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl Refused {
    fn new(code: StatusCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), headers: Vec::new() }
    }
}

impl Handshake {
    /// Agrees on a protocol with the client that sent these headers.
    ///
    /// # Errors
    /// When it asks for no upgrade, or only for protocols that are not spoken here.
    pub fn new(headers: &HeaderMap, purpose: Purpose) -> Result<Self, Refused> {
        if !words(headers, &CONNECTION).any(|word| word.eq_ignore_ascii_case("upgrade")) {
            return Err(Refused::new(StatusCode::BAD_REQUEST, "Upgrade request required"));
        }
        let upgrade: Vec<&str> = words(headers, &UPGRADE).collect();
        let asks = |name: &str| upgrade.iter().any(|word| word.eq_ignore_ascii_case(name));
        if asks("websocket") {
            web_socket(headers, purpose)
        } else if asks(SPDY) {
            spdy(headers, purpose)
        } else {
            let message = format!("unable to upgrade: missing upgrade headers in request: {headers:?}");
            Err(Refused::new(StatusCode::BAD_REQUEST, message))
        }
    }
}

/// The words of a header that lists some, over all its lines.
fn words<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|word| !word.is_empty())
}

fn switching(upgrade: &'static str) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static(upgrade));
    response
}

fn web_socket(headers: &HeaderMap, purpose: Purpose) -> Result<Handshake, Refused> {
    let bad = |message: &str| Refused::new(StatusCode::BAD_REQUEST, message);
    if !words(headers, &http::header::SEC_WEBSOCKET_VERSION).any(|version| version == "13") {
        return Err(bad("missing or bad WebSocket Version"));
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).ok_or_else(|| bad("Sec-WebSocket-Key is required"))?;
    let asked: Vec<&str> = words(headers, &SEC_WEBSOCKET_PROTOCOL).collect();
    let agreed = asked.iter().find_map(|name| Some((*name, purpose.web_socket(name)?)));
    let mut response = switching("websocket");
    let protocol = match agreed {
        Some((name, protocol)) => {
            let value = HeaderValue::from_str(name).map_err(|_| bad("bad WebSocket Protocol"))?;
            response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, value);
            protocol
        }
        // The first form of the protocol had no name.
        None if asked.is_empty() => Protocol::Channels { version: 1, base64: false },
        None => {
            let message = format!("requested protocol(s) are not supported: {asked:?}");
            return Err(Refused::new(StatusCode::FORBIDDEN, message));
        }
    };
    let mut hashed = key.as_bytes().to_vec();
    hashed.extend_from_slice(GUID.as_bytes());
    let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, &hashed);
    let accept = HeaderValue::try_from(STANDARD.encode(digest)).map_err(|_| bad("bad Sec-WebSocket-Key"))?;
    response.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
    Ok(Handshake { protocol, response })
}

fn spdy(headers: &HeaderMap, purpose: Purpose) -> Result<Handshake, Refused> {
    let spoken = purpose.spdy();
    let asked: Vec<&str> = words(headers, &VERSION).collect();
    // The client's order decides, as upstream has it.
    let agreed = asked.iter().find_map(|name| spoken.iter().find(|(known, _)| known == name));
    let Some((name, version)) = agreed else {
        let names: Vec<&str> = spoken.iter().map(|(name, _)| *name).collect();
        let (asked, known) = (asked.join(" "), names.join(" "));
        let message = format!(
            "unable to upgrade: unable to negotiate protocol: client supports [{asked}], server accepts [{known}]"
        );
        let mut refused = Refused::new(StatusCode::FORBIDDEN, message);
        for name in names {
            refused.headers.push((ACCEPTED, HeaderValue::from_static(name)));
        }
        return Err(refused);
    };
    let mut response = switching(SPDY);
    response.headers_mut().insert(VERSION, HeaderValue::from_static(name));
    Ok(Handshake { protocol: Protocol::Spdy { version: *version }, response })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(lines: &[(&'static str, &str)], purpose: Purpose) -> Result<Handshake, Refused> {
        let line = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        Handshake::new(&lines.iter().map(line).collect(), purpose)
    }

    fn web(protocols: &str, purpose: Purpose) -> Result<Handshake, Refused> {
        // The key and its answer are those of RFC 6455, section 1.3.
        let mut lines = vec![
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        if !protocols.is_empty() {
            lines.push(("sec-websocket-protocol", protocols));
        }
        asked(&lines, purpose)
    }

    #[test]
    fn web_sockets() {
        let agreed = web("v5.channel.k8s.io, v4.channel.k8s.io", Purpose::RemoteCommand).unwrap();
        assert_eq!(agreed.protocol, Protocol::Channels { version: 5, base64: false });
        assert_eq!(agreed.response.status(), 101);
        assert_eq!(agreed.response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(agreed.response.headers()["sec-websocket-protocol"], "v5.channel.k8s.io");
        let tunnel = web("SPDY/3.1+portforward.k8s.io", Purpose::PortForward).unwrap();
        assert_eq!(tunnel.protocol, Protocol::Tunnel);
        let nameless = web("", Purpose::RemoteCommand).unwrap();
        assert_eq!(nameless.protocol, Protocol::Channels { version: 1, base64: false });
        assert!(!nameless.response.headers().contains_key("sec-websocket-protocol"));
        let text = web("x, v4.base64.channel.k8s.io", Purpose::PortForward).unwrap();
        assert_eq!(text.protocol, Protocol::Channels { version: 4, base64: true });
        assert_eq!(web("v5.channel.k8s.io", Purpose::PortForward).unwrap_err().code, 403);
    }

    #[test]
    fn spdy_negotiates_by_a_header_of_its_own() {
        let base = [("connection", "Upgrade"), ("upgrade", "SPDY/3.1")];
        let with = |versions: &[&'static str], purpose| {
            let lines = versions.iter().map(|version| ("x-stream-protocol-version", *version));
            asked(&base.into_iter().chain(lines).collect::<Vec<_>>(), purpose)
        };
        let agreed =
            with(&["v5.channel.k8s.io", "v4.channel.k8s.io", "v3.channel.k8s.io"], Purpose::RemoteCommand);
        let agreed = agreed.unwrap();
        assert_eq!(agreed.protocol, Protocol::Spdy { version: 4 });
        assert_eq!(agreed.response.headers()["upgrade"], "SPDY/3.1");
        assert_eq!(agreed.response.headers()["x-stream-protocol-version"], "v4.channel.k8s.io");
        assert!(with(&["portforward.k8s.io"], Purpose::PortForward).is_ok());
        let refused = with(&["v9.channel.k8s.io"], Purpose::RemoteCommand).unwrap_err();
        assert_eq!(refused.code, 403);
        assert!(refused.headers.iter().all(|(name, _)| *name == ACCEPTED) && refused.headers.len() == 3);
    }

    #[test]
    fn what_asks_for_no_upgrade_is_told_so() {
        for lines in [&[][..], &[("connection", "upgrade")], &[("connection", "upgrade"), ("upgrade", "h2c")]]
        {
            assert_eq!(asked(lines, Purpose::RemoteCommand).unwrap_err().code, 400, "{lines:?}");
        }
    }
}
