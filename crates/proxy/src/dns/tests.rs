use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use clock::Tasks;
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::answer::{Response, answer};
use super::zone::{Answer, Data};
use super::{Server, Zone, serve};

fn object<T: k8s_openapi::serde::de::DeserializeOwned>(value: Value) -> Arc<T> {
    Arc::new(serde_json::from_value(value).expect("an object"))
}

fn meta(name: &str) -> Value {
    json!({"name": name, "namespace": "shop", "labels": {"kubernetes.io/service-name": name}})
}

/// A Service with an address, a headless one of two pods, and one that is elsewhere.
fn zone() -> Zone {
    let services = [
        json!({"metadata": meta("web"), "spec": {"clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10", "fd00::a"],
            "ports": [{"name": "http", "port": 80}, {"port": 81}]}}),
        json!({"metadata": meta("db"), "spec": {"clusterIP": "None", "clusterIPs": ["None"], "ports": [{"name": "sql", "port": 5432}]}}),
        json!({"metadata": meta("pay"), "spec": {"type": "ExternalName", "externalName": "pay.example.com"}}),
    ];
    let slice = json!({
        "metadata": meta("db"), "addressType": "IPv4", "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}],
        "endpoints": [
            {"addresses": ["10.0.0.1"], "hostname": "db-0", "conditions": {"ready": true}},
            {"addresses": ["10.0.0.2"], "conditions": {"ready": true}},
            {"addresses": ["10.0.0.3"], "conditions": {"ready": false}},
        ],
    });
    Zone::new("cluster.local", &services.map(object), &[object(slice)])
}

fn address(text: &str) -> Data {
    Data::Address(text.parse::<IpAddr>().expect("an address"))
}

#[test]
fn names_are_those_of_the_specification() {
    let zone = zone();
    let known = |name: &str| match zone.look_up(name) {
        Answer::Known(data) => data.to_vec(),
        other => panic!("{name}: {other:?}"),
    };
    assert_eq!(known("web.shop.svc.cluster.local"), [address("10.96.0.10"), address("fd00::a")]);
    assert_eq!(known("WEB.Shop.svc.cluster.local."), known("web.shop.svc.cluster.local"));
    let port = |port, target: &str, among| Data::Port { port, target: target.to_owned(), among };
    assert_eq!(known("_http._tcp.web.shop.svc.cluster.local"), [port(80, "web.shop.svc", 1)]);
    assert_eq!(known("db.shop.svc.cluster.local"), [address("10.0.0.1"), address("10.0.0.2")]);
    assert_eq!(known("db-0.db.shop.svc.cluster.local"), [address("10.0.0.1")]);
    let both = [port(5432, "10-0-0-2.db.shop.svc", 2), port(5432, "db-0.db.shop.svc", 2)];
    assert_eq!(known("_sql._tcp.db.shop.svc.cluster.local"), both);
    assert_eq!(known("pay.shop.svc.cluster.local"), [Data::Alias("pay.example.com".to_owned())]);
    assert_eq!(known("dns-version.cluster.local"), [Data::Text("1.1.0")]);
    // Names that others are made of exist and stand for nothing.
    for part in
        ["cluster.local", "svc.cluster.local", "shop.svc.cluster.local", "_tcp.web.shop.svc.cluster.local"]
    {
        assert_eq!(known(part), []);
    }
    assert_eq!(zone.look_up("10-0-0-3.db.shop.svc.cluster.local"), Answer::Unknown);
    assert_eq!(zone.look_up("web.other.svc.cluster.local"), Answer::Unknown);
    for foreign in ["example.com", "notcluster.local", "3.0.0.10.in-addr.arpa", "x.in-addr.arpa"] {
        assert_eq!(zone.look_up(foreign), Answer::Foreign, "{foreign}");
    }
    assert_eq!(zone.look_up("10.0.96.10.in-addr.arpa"), Answer::Names(&["web.shop.svc".to_owned()]));
    assert_eq!(zone.look_up("1.0.0.10.in-addr.arpa"), Answer::Names(&["db-0.db.shop.svc".to_owned()]));
    let sixth = format!("a.{}0.0.d.f.ip6.arpa", "0.".repeat(27));
    assert_eq!(zone.look_up(&sixth), Answer::Names(&["web.shop.svc".to_owned()]));
}

fn question(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
    message.to_vec().expect("bytes")
}

fn said(zone: &Zone, name: &str, kind: RecordType) -> Message {
    match answer(zone, &question(name, kind), true) {
        Response::Say(bytes) => Message::from_vec(&bytes).expect("a message"),
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn an_alias_is_followed_within_the_zone_and_beyond() {
    let names = [
        ("near", "web.shop.svc.cluster.local"),
        ("ring", "ring.shop.svc.cluster.local"),
        ("lost", "no.cluster.local"),
    ];
    let services = names.map(|(name, target)| {
        json!({"metadata": meta(name), "spec": {"type": "ExternalName", "externalName": target}})
    });
    let web = json!({"metadata": meta("web"), "spec": {"clusterIP": "10.96.0.10", "ports": [{"port": 80}]}});
    let pay =
        json!({"metadata": meta("pay"), "spec": {"type": "ExternalName", "externalName": "pay.example.com"}});
    let all: Vec<_> = services.into_iter().chain([web, pay]).map(object).collect();
    let zone = Zone::new("cluster.local", &all, &[]);
    let asked = |name: &str| said(&zone, &format!("{name}.shop.svc.cluster.local."), RecordType::A);
    let near = asked("near");
    assert!(matches!(near.answers[0].data, RData::CNAME(_)) && matches!(near.answers[1].data, RData::A(_)));
    assert_eq!(asked("lost").metadata.response_code, ResponseCode::NXDomain);
    assert!(asked("ring").answers.len() < 20);

    // Somebody else knows the rest: both are said in one answer.
    let follow = || match answer(&zone, &question("pay.shop.svc.cluster.local.", RecordType::A), true) {
        Response::Follow(follow) => follow,
        other => panic!("{other:?}"),
    };
    let passed = Message::from_vec(&follow().question().expect("bytes")).expect("a message");
    assert_eq!(passed.queries[0].name().to_ascii(), "pay.example.com.");
    let mut their = Message::response(7, OpCode::Query);
    their.answers = near.answers[1..].to_vec();
    let whole = |said: Option<&[u8]>| match follow().finish(said) {
        Response::Say(bytes) => Message::from_vec(&bytes).expect("a message"),
        other => panic!("{other:?}"),
    };
    let found = whole(Some(&their.to_vec().expect("bytes")));
    assert_eq!(
        (found.queries[0].name().to_ascii().as_str(), found.answers.len()),
        ("pay.shop.svc.cluster.local.", 2)
    );
    assert_eq!(whole(None).metadata.response_code, ResponseCode::ServFail);
}

#[test]
fn answers_say_what_is_there_what_is_empty_and_what_is_not() {
    let zone = zone();
    let found = said(&zone, "web.shop.svc.cluster.local.", RecordType::A);
    assert_eq!((found.metadata.response_code, found.answers.len()), (ResponseCode::NoError, 1));
    assert!(found.metadata.authoritative && found.metadata.recursion_available);
    let port = said(&zone, "_http._tcp.web.shop.svc.cluster.local.", RecordType::SRV);
    assert!(matches!(&port.answers[0].data, RData::SRV(srv) if srv.port == 80));
    assert_eq!(port.additionals.len(), 2);
    let alias = said(&zone, "pay.shop.svc.cluster.local.", RecordType::CNAME);
    assert!(matches!(&alias.answers[0].data, RData::CNAME(name) if name.0.to_ascii() == "pay.example.com."));
    let back = said(&zone, "10.0.96.10.in-addr.arpa.", RecordType::PTR);
    assert!(
        matches!(&back.answers[0].data, RData::PTR(name) if name.0.to_ascii() == "web.shop.svc.cluster.local.")
    );
    // A name of the other family's addresses only is there; one that is nobody's is not.
    let empty = said(&zone, "db.shop.svc.cluster.local.", RecordType::AAAA);
    assert_eq!((empty.metadata.response_code, empty.answers.len()), (ResponseCode::NoError, 0));
    assert!(matches!(&empty.authorities[0].data, RData::SOA(_)));
    let missing = said(&zone, "nobody.shop.svc.cluster.local.", RecordType::A);
    assert_eq!(missing.metadata.response_code, ResponseCode::NXDomain);
    assert!(matches!(answer(&zone, &question("example.com.", RecordType::A), true), Response::Elsewhere));
}

#[test]
fn an_answer_too_long_for_a_datagram_says_so() {
    let endpoints: Vec<Value> = (0..100)
        .map(|n| json!({"addresses": [format!("10.0.1.{n}")], "conditions": {"ready": true}}))
        .collect();
    let service = json!({"metadata": meta("many"), "spec": {"clusterIP": "None"}});
    let slice = json!({"metadata": meta("many"), "addressType": "IPv4", "ports": [], "endpoints": endpoints});
    let zone = Zone::new("cluster.local", &[object(service)], &[object(slice)]);
    let short = said(&zone, "many.shop.svc.cluster.local.", RecordType::A);
    assert!(short.metadata.truncation && short.answers.is_empty());
    let question = question("many.shop.svc.cluster.local.", RecordType::A);
    let Response::Say(bytes) = answer(&zone, &question, false) else { panic!("no answer") };
    assert_eq!(Message::from_vec(&bytes).expect("a message").answers.len(), 100);
}

proptest! {
    #[test]
    fn whatever_arrives_is_answered_or_not_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = answer(&zone(), &bytes, true);
    }
}

async fn ask(server: SocketAddr, name: &str) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    socket.send_to(&question(name, RecordType::A), server).await.expect("sent");
    let mut bytes = vec![0; 2000];
    let length = socket.recv(&mut bytes).await.expect("an answer");
    Message::from_vec(&bytes[..length]).expect("a message")
}

/// A port of both kinds. The first that is free for one may be taken for the other.
async fn both() -> (UdpSocket, TcpListener) {
    loop {
        let datagrams = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        let at = datagrams.local_addr().expect("an address");
        if let Ok(streams) = TcpListener::bind(at).await {
            return (datagrams, streams);
        }
    }
}

#[tokio::test]
async fn a_server_answers_for_the_cluster_and_asks_others_for_the_rest() {
    // The resolver of the machine: it knows one name. The one before it does not answer.
    let silent = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let resolver = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let resolvers = [silent.local_addr().expect("an address"), resolver.local_addr().expect("an address")];
    let other = object(json!({"metadata": {"name": "a", "namespace": "b"},
        "spec": {"clusterIP": "192.0.2.9", "clusterIPs": ["192.0.2.9"]}}));
    let theirs = Zone::new("example", &[other], &[]);
    let tasks = Tasks::under(&CancellationToken::new());
    tasks.spawn("resolver", async move {
        let mut bytes = vec![0; 2000];
        loop {
            let (length, from) = resolver.recv_from(&mut bytes).await.expect("a question");
            if let Response::Say(said) = answer(&theirs, &bytes[..length], true) {
                resolver.send_to(&said, from).await.expect("answered");
            }
        }
    });
    let (datagrams, streams) = both().await;
    let at = streams.local_addr().expect("an address");
    let (change, zone) = watch::channel(Arc::new(Zone::new("cluster.local", &[], &[])));
    let server = Server { zone, resolvers: resolvers.into(), ambient: client::Ambient::system() };
    serve(server, datagrams, streams, &tasks);

    let missing = ask(at, "web.shop.svc.cluster.local.").await;
    assert_eq!(missing.metadata.response_code, ResponseCode::NXDomain);
    change.send_replace(Arc::new(self::zone()));
    assert_eq!(ask(at, "web.shop.svc.cluster.local.").await.answers.len(), 1);
    assert_eq!(ask(at, "a.b.svc.example.").await.answers.len(), 1);

    let mut stream = TcpStream::connect(at).await.expect("a stream");
    for _ in 0..2 {
        let question = question("db.shop.svc.cluster.local.", RecordType::A);
        let length = u16::try_from(question.len()).expect("short");
        stream.write_all(&[&length.to_be_bytes()[..], &question].concat()).await.expect("asked");
        let mut bytes = vec![0; usize::from(stream.read_u16().await.expect("a length"))];
        stream.read_exact(&mut bytes).await.expect("an answer");
        assert_eq!(Message::from_vec(&bytes).expect("a message").answers.len(), 2);
    }
    tasks.stop().await;
}
