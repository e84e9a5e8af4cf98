//! The heads of requests for streams are answered or refused.

#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue};
use streams::{Handshake, Purpose};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let mut headers = HeaderMap::new();
    for (name, value) in text.lines().filter_map(|line| line.split_once(':')) {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value.trim())) {
            headers.append(name, value);
        }
    }
    for purpose in [Purpose::RemoteCommand, Purpose::PortForward] {
        match Handshake::new(&headers, purpose) {
            Ok(agreed) => assert_eq!(agreed.response.status(), 101),
            Err(refused) => assert!(refused.code.is_client_error()),
        }
    }
});
