//! Messages to the cluster's name server: answered, passed on or dropped, and what is said can be read.

#![no_main]

use std::sync::OnceLock;

use proxy::dns::Zone;
use proxy::dns::answer::{Response, answer, failure};

static ZONE: OnceLock<Zone> = OnceLock::new();

fn zone() -> Zone {
    let object = |text: &str| std::sync::Arc::new(serde_json::from_str(text).unwrap());
    let services = [
        r#"{"metadata":{"name":"web","namespace":"a"},"spec":{"clusterIP":"10.0.0.1","ports":[{"name":"http","port":80}]}}"#,
        r#"{"metadata":{"name":"out","namespace":"a"},"spec":{"type":"ExternalName","externalName":"web.a.svc.cluster.local"}}"#,
        r#"{"metadata":{"name":"ring","namespace":"a"},"spec":{"type":"ExternalName","externalName":"ring.a.svc.cluster.local"}}"#,
    ];
    Zone::new("cluster.local", &services.map(object), &[])
}

libfuzzer_sys::fuzz_target!(|input: (bool, &[u8])| {
    let (datagram, bytes) = input;
    let said = match answer(ZONE.get_or_init(zone), bytes, datagram) {
        Response::Say(said) => said,
        Response::Follow(follow) => match follow.finish(None) {
            Response::Say(said) => said,
            _ => return,
        },
        _ => match failure(bytes) {
            Response::Say(said) => said,
            _ => return,
        },
    };
    assert_eq!(said[..2], bytes[..2], "the number of the question");
    assert!(said[2] & 0x80 != 0, "an answer is no question");
});
