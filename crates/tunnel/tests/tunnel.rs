//! Both ends over memory: what arrives, what waits, what is left when one end goes, and peers that mean harm.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use clock::{Clock, ManualClock, SystemClock};
use proptest::prelude::*;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex};
use tokio::task::JoinHandle;
use tunnel::{Error, Opener, SILENCE, STREAMS, answer};

fn system() -> Arc<dyn Clock> {
    Arc::new(SystemClock::default())
}

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(test)
}

/// The two ends of a connection, which are told to run.
struct Ends {
    opener: Opener,
    opening: JoinHandle<Option<Error>>,
    answering: JoinHandle<Result<(), Error>>,
}

async fn ends<T, D, F>(near: T, far: T, clock: Arc<dyn Clock>, dial: D) -> Ends
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    D: Fn(String) -> F + Send + Sync + 'static,
    F: Future<Output = Result<DuplexStream, String>> + Send + 'static,
{
    let own = clock.clone();
    let answering = tokio::spawn(async move { answer(far, own, dial).await });
    let (opener, tunnel) = Opener::over(near, clock).await.expect("a tunnel");
    Ends { opener, opening: tokio::spawn(tunnel), answering }
}

/// A server that answers each byte with another, and ends when its client does.
async fn mirror() -> Result<DuplexStream, String> {
    let (near, mut far) = duplex(1 << 10);
    tokio::spawn(async move {
        let mut piece = vec![0; 3000];
        while let Ok(size @ 1..) = far.read(&mut piece).await {
            piece[..size].iter_mut().for_each(|byte| *byte ^= 0xff);
            if far.write_all(&piece[..size]).await.is_err() {
                return;
            }
        }
    });
    Ok(near)
}

/// Bytes by which a stream is told from others.
fn text(stream: usize, length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 + at / 251 + stream * 17) as u8).collect()
}

/// Sends a text in pieces, and gives what comes back, and whether it came to its end.
async fn sent(opener: &Opener, stream: usize, pieces: Vec<usize>) -> (Vec<u8>, bool) {
    let mut back = Vec::new();
    let Ok(stream_) = opener.open("192.0.2.1:1").await else { return (back, false) };
    let (mut reads, mut writes) = tokio::io::split(stream_);
    let whole = text(stream, pieces.iter().sum());
    let writing = async {
        let mut rest = &whole[..];
        for size in pieces {
            let (piece, after) = rest.split_at(size);
            if writes.write_all(piece).await.is_err() {
                return;
            }
            rest = after;
        }
        let _ = writes.shutdown().await;
    };
    let ((), read) = tokio::join!(writing, reads.read_to_end(&mut back));
    (back, read.is_ok())
}

/// A connection that breaks when so many bytes have been written to it, by either end.
struct Brittle {
    inner: DuplexStream,
    left: Arc<Mutex<usize>>,
}

impl AsyncRead for Brittle {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, into)
    }
}

impl AsyncWrite for Brittle {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let left = self.left.clone();
        let mut left = left.lock().expect("a lock");
        if *left == 0 {
            // The other end is told as by a reset.
            let _ = Pin::new(&mut self.inner).poll_shutdown(context);
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let most = bytes.len().min(*left);
        let written = Pin::new(&mut self.inner).poll_write(context, &bytes[..most]);
        if let Poll::Ready(Ok(size)) = &written {
            *left -= size;
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

fn pieces() -> impl Strategy<Value = Vec<Vec<usize>>> {
    let size = prop_oneof![0..40_usize, 0..5000_usize, 0..300_000_usize];
    prop::collection::vec(prop::collection::vec(size, 0..6), 1..9)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn every_stream_gets_what_it_was_sent(streams in pieces(), room in 1..40_000_usize) {
        run(async move {
            let (near, far) = duplex(room);
            let ends = ends(near, far, system(), |_| mirror()).await;
            let sending = streams.iter().enumerate().map(|(number, pieces)| sent(&ends.opener, number, pieces.clone()));
            for (number, (back, ended)) in futures::future::join_all(sending).await.into_iter().enumerate() {
                let mut expected = text(number, streams[number].iter().sum());
                expected.iter_mut().for_each(|byte| *byte ^= 0xff);
                assert!(ended && back == expected, "stream {number}: {} of {}", back.len(), expected.len());
            }
            drop(ends.opener);
            assert!(ends.answering.await.expect("no panic").is_ok());
            assert!(ends.opening.await.expect("no panic").is_none());
        });
    }

    #[test]
    fn a_cut_ends_every_stream_and_nothing_is_invented(streams in pieces(), cut in 0..200_000_usize) {
        run(async move {
            let (near, far) = duplex(4096);
            let left = Arc::new(Mutex::new(cut));
            let brittle = |inner| Brittle { inner, left: left.clone() };
            let (near, far) = (brittle(near), brittle(far));
            let answering = tokio::spawn(answer(far, system(), |_| mirror()));
            let Ok((opener, tunnel)) = Opener::over(near, system()).await else { return };
            let opening = tokio::spawn(tunnel);
            let sending = streams.iter().enumerate().map(|(number, pieces)| sent(&opener, number, pieces.clone()));
            for (number, (back, ended)) in futures::future::join_all(sending).await.into_iter().enumerate() {
                let mut expected = text(number, streams[number].iter().sum());
                expected.iter_mut().for_each(|byte| *byte ^= 0xff);
                assert!(expected.starts_with(&back), "stream {number}");
                assert!(!ended || back == expected, "stream {number} ended as if it were whole");
            }
            drop(opener);
            let (_, _) = (opening.await.expect("no panic"), answering.await.expect("no panic"));
        });
    }
}

/// A server that sends as much as it can; how much it could send is counted, and whether it was told that nobody wants more.
#[derive(Clone, Default)]
struct Spring {
    sent: Arc<AtomicUsize>,
    has_ended: Arc<AtomicBool>,
}

impl Spring {
    fn start(&self) -> DuplexStream {
        let (near, mut far) = duplex(1 << 10);
        let own = self.clone();
        tokio::spawn(async move {
            while let Ok(size) = far.write(&[7; 4096]).await {
                own.sent.fetch_add(size, Ordering::SeqCst);
            }
            own.has_ended.store(true, Ordering::SeqCst);
        });
        near
    }
}

async fn until(what: impl Fn() -> bool) {
    while !what() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_unread_stream_waits_and_holds_up_no_other() {
    let spring = Spring::default();
    let own = spring.clone();
    let (near, far) = duplex(1 << 14);
    let ends = ends(near, far, system(), move |to| {
        let spring = own.clone();
        async move { if to.starts_with("spring") { Ok(spring.start()) } else { mirror().await } }
    })
    .await;
    let mut unread = Vec::new();
    for _ in 0..20 {
        unread.push(ends.opener.open("spring:1").await.expect("a stream"));
    }
    // As long as it goes up, it goes on.
    let mut before = 0;
    loop {
        let (back, ended) = sent(&ends.opener, 1, vec![400_000]).await;
        assert!(ended && back.len() == 400_000, "the others are held up");
        let now = spring.sent.load(Ordering::SeqCst);
        if now == before {
            break;
        }
        before = now;
    }
    assert!(before <= 20 * (256 << 10), "{before} bytes wait for nobody");
    assert!(before >= 20 * (128 << 10), "{before} is less than a window each");
    // Whoever wants no more is gone for the other side as well.
    drop(unread);
    until(|| spring.has_ended.load(Ordering::SeqCst)).await;
    assert!(sent(&ends.opener, 2, vec![10]).await.1);
}

#[tokio::test]
async fn there_are_as_many_streams_as_may_be_and_their_places_come_back() {
    let (near, far) = duplex(1 << 14);
    let ends = ends(near, far, system(), |_| mirror()).await;
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        streams.push(ends.opener.open("a:1").await.expect("a stream"));
    }
    assert!(matches!(ends.opener.open("a:1").await, Err(Error::Full)));
    for _ in 0..3 {
        streams.truncate(STREAMS / 2);
        while streams.len() < STREAMS {
            streams.push(ends.opener.open("a:1").await.expect("a place that came back"));
        }
    }
    assert!(matches!(ends.opener.open("a:1").await, Err(Error::Full)));
}

#[tokio::test]
async fn what_is_not_dialled_says_why() {
    let (near, far) = duplex(1 << 14);
    let ends = ends(near, far, system(), |to| async move { Err(format!("{to} is none of mine")) }).await;
    let refused = |to: &'static str| {
        let opener = ends.opener.clone();
        async move { opener.open(to).await.map(drop).expect_err("refused").to_string() }
    };
    assert_eq!(refused("[2001:db8::1]:80").await, "[2001:db8::1]:80 is none of mine");
    assert_eq!(refused("a b:1").await, "\"a b:1\" is no address");
    assert_eq!(refused("nowhere").await, "\"nowhere\" is no address");
}

/// A connection that takes everything and gives nothing, once it is told to: as a router that has forgotten it.
struct Forgotten {
    inner: DuplexStream,
    is_forgotten: Arc<AtomicBool>,
}

impl AsyncRead for Forgotten {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_forgotten.load(Ordering::SeqCst) {
            return Poll::Pending;
        }
        Pin::new(&mut self.inner).poll_read(context, into)
    }
}

impl AsyncWrite for Forgotten {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_forgotten.load(Ordering::SeqCst) {
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn both_ends_notice_that_the_other_is_gone_without_a_word() {
    let clock = Arc::new(ManualClock::new(jiff::Timestamp::UNIX_EPOCH));
    let is_forgotten = Arc::new(AtomicBool::new(false));
    let forgotten = |inner| Forgotten { inner, is_forgotten: is_forgotten.clone() };
    let (near, far) = duplex(1 << 14);
    let ends = ends(forgotten(near), forgotten(far), clock.clone(), |_| mirror()).await;
    let mut stream = ends.opener.open("a:1").await.expect("a stream");
    for _ in 0..5 {
        clock.until_sleepers(2).await;
        clock.advance(SILENCE / 2);
        assert!(sent(&ends.opener, 0, vec![100]).await.1, "both are there");
    }
    is_forgotten.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        clock.until_sleepers(2).await;
        clock.advance(SILENCE / 2);
        tokio::task::yield_now().await;
    }
    assert!(matches!(ends.opening.await.expect("no panic"), Some(Error::Silent)));
    assert!(matches!(ends.answering.await.expect("no panic"), Err(Error::Silent)));
    assert!(stream.read_u8().await.is_err());
    assert!(matches!(ends.opener.open("a:1").await, Err(Error::Broken(_))));
}

#[tokio::test]
async fn garbage_ends_a_tunnel() {
    for text in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], &[0xff; 200], &[0; 4000]] {
        let (near, mut peer) = duplex(1 << 14);
        let (_opener, tunnel) = Opener::over(near, system()).await.expect("a tunnel");
        peer.write_all(text).await.expect("room");
        assert!(tunnel.await.is_some());
        let (far, mut peer) = duplex(1 << 14);
        peer.write_all(text).await.expect("room");
        answer(far, system(), |_| mirror()).await.expect_err("garbage");
    }
    // Nothing at all: who connects has to speak.
    let clock = Arc::new(ManualClock::new(jiff::Timestamp::UNIX_EPOCH));
    let (far, _peer) = duplex(1 << 14);
    let answering = tokio::spawn(answer(far, clock.clone() as Arc<dyn Clock>, |_| mirror()));
    clock.until_sleepers(1).await;
    clock.advance(SILENCE);
    assert!(matches!(answering.await.expect("no panic"), Err(Error::Silent)));
}

/// How many addresses are being dialled.
#[derive(Clone, Default)]
struct Dials {
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    all: Arc<AtomicUsize>,
}

struct Dial(Dials);

impl Drop for Dial {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Dials {
    /// Never comes to an end.
    async fn dial(self) -> Result<DuplexStream, String> {
        self.all.fetch_add(1, Ordering::SeqCst);
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        let _dial = Dial(self);
        std::future::pending().await
    }
}

#[tokio::test]
async fn who_asks_and_takes_it_back_holds_nothing() {
    let (near, far) = duplex(1 << 16);
    let dials = Dials::default();
    let own = dials.clone();
    let answering = tokio::spawn(answer(far, system(), move |_| own.clone().dial()));
    let (requests, connection) = h2::client::handshake(near).await.expect("HTTP/2");
    let driving = tokio::spawn(connection);
    for number in 0..3000 {
        let Ok(mut requests) = requests.clone().ready().await else { break };
        let request = http::Request::connect("a:1").body(()).expect("a request");
        let Ok((_answer, mut stream)) = requests.send_request(request, false) else { break };
        if number % 3 > 0 {
            tokio::task::yield_now().await;
        }
        stream.send_reset(h2::Reason::CANCEL);
    }
    assert!(dials.all.load(Ordering::SeqCst) > 0);
    assert!(dials.most.load(Ordering::SeqCst) <= 2 * STREAMS);
    drop(requests);
    until(|| dials.now.load(Ordering::SeqCst) == 0).await;
    drop(driving);
    drop(answering);
}

#[tokio::test]
async fn only_short_requests_to_connect_are_understood() {
    let (near, far) = duplex(1 << 16);
    let dials = Dials::default();
    let own = dials.clone();
    let _answering = tokio::spawn(answer(far, system(), move |_| own.clone().dial()));
    let (mut requests, connection) = h2::client::handshake(near).await.expect("HTTP/2");
    let _driving = tokio::spawn(connection);
    let get = http::Request::get("https://a:1/").body(()).expect("a request");
    let (answer, _) = requests.send_request(get, true).expect("sent");
    assert_eq!(answer.await.expect("an answer").status(), 405);
    let long = http::Request::connect("a:1").header("x", "y".repeat(9000)).body(()).expect("a request");
    let (answer, _) = requests.clone().ready().await.expect("room").send_request(long, false).expect("sent");
    let code = answer.await.map(|answer| answer.status().as_u16());
    assert!(matches!(code, Err(_) | Ok(431)), "{code:?}");
    assert_eq!(dials.all.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_peer_that_never_answers_holds_no_place() {
    let (near, far) = duplex(1 << 16);
    let dials = Dials::default();
    let own = dials.clone();
    let ends = ends(near, far, system(), move |_| own.clone().dial()).await;
    for _ in 0..2 {
        let mut opening: Vec<_> = (0..STREAMS).map(|_| Box::pin(ends.opener.open("a:1"))).collect();
        until_dialled(&mut opening, &dials).await;
        assert!(matches!(ends.opener.open("a:1").await, Err(Error::Full)));
        drop(opening);
        until(|| dials.now.load(Ordering::SeqCst) == 0).await;
    }
}

/// Polls all until the other end dials for each.
async fn until_dialled<F: Future + Unpin>(opening: &mut [F], dials: &Dials) {
    while dials.now.load(Ordering::SeqCst) < opening.len() {
        for one in &mut *opening {
            assert!(futures::poll!(one).is_pending());
        }
        tokio::task::yield_now().await;
    }
}
