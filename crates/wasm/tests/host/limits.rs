//! Guests that take more than they are given.

use std::sync::Arc;
use std::time::Duration;

use wasm::{Component, Limits, ServeError};

use crate::fixture::{Fixture, Within, ask, get, post, text};

async fn limited(fixture: &Fixture, limits: Limits) -> Arc<Component> {
    let mut spec = fixture.spec("probe").await;
    spec.limits = limits;
    fixture.host.deploy("test/probe", spec).unwrap()
}

async fn limit_hit(component: &Arc<Component>, path: &str) -> &'static str {
    match component.serve(get(path)).within().await.unwrap_err() {
        ServeError::LimitExceeded { limit, .. } => limit,
        other => panic!("{other}"),
    }
}

/// One thread: a guest that kept it would stop the test.
#[tokio::test(flavor = "current_thread")]
async fn a_guest_that_spins_shares_its_thread() {
    let fixture = Fixture::new();
    let probe = limited(&fixture, Limits { cpu_time: Duration::from_secs(600), ..Limits::default() }).await;
    let spinning = tokio::spawn({
        let probe = probe.clone();
        async move { probe.serve(get("/spin")).await.map(drop) }
    });
    tokio::task::yield_now().await;
    assert_eq!(ask(&probe, "/big/1").within().await.1, "x");
    assert!(!spinning.is_finished());
    spinning.abort();
    assert!(spinning.await.unwrap_err().is_cancelled());
}

#[tokio::test]
async fn a_guest_that_spins_is_ended() {
    let fixture = Fixture::new();
    let probe = limited(&fixture, Limits { cpu_time: Duration::from_millis(50), ..Limits::default() }).await;
    assert_eq!(limit_hit(&probe, "/spin").await, "cpu time");
}

#[tokio::test]
async fn a_guest_that_only_waits_is_ended_by_the_clock() {
    let fixture = Fixture::new();
    let probe =
        limited(&fixture, Limits { wall_time: Duration::from_millis(100), ..Limits::default() }).await;
    let error = probe.serve(get("/sleep/600000")).within().await.unwrap_err();
    assert_eq!(error.status(), 504);
    // It has answered its head already: the client sees the body break off.
    let response = probe.serve(get("/stream/100000")).await.unwrap();
    let body = http_body_util::BodyExt::collect(response.into_body()).within().await;
    assert!(body.unwrap_err().to_string().contains("wall time"));
}

#[tokio::test]
async fn memory_ends_where_the_limit_is() {
    let fixture = Fixture::new();
    let probe = limited(&fixture, Limits { memory: 16 << 20, ..Limits::default() }).await;
    assert_eq!(limit_hit(&probe, "/allocate").await, "memory");
    assert_eq!(ask(&probe, "/big/1000000").await.1.len(), 1_000_000);
}

#[tokio::test]
async fn a_stack_that_runs_out_is_the_guests_end_only() {
    let fixture = Fixture::new();
    let probe = limited(&fixture, Limits::default()).await;
    assert_eq!(limit_hit(&probe, "/recurse").await, "stack");
    assert_eq!(ask(&probe, "/big/1").await.1, "x");
}

#[tokio::test]
async fn traps_exits_and_silence_are_told() {
    let fixture = Fixture::new();
    let probe = limited(&fixture, Limits::default()).await;
    for path in ["/panic", "/exit"] {
        let error = probe.serve(get(path)).within().await.unwrap_err();
        assert!(matches!(error, ServeError::Failed { .. }), "{error}");
        assert_eq!(error.status(), 502);
    }
    let error = probe.serve(get("/nothing")).await.unwrap_err();
    assert!(matches!(error, ServeError::NoResponse(_)), "{error}");
    assert!(
        fixture.logs.take().iter().any(|line| line.contains("as asked")),
        "the panic's message is in the log"
    );
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_or_broken_off() {
    let fixture = Fixture::new();
    let probe = limited(&fixture, Limits { request_body: 1000, ..Limits::default() }).await;
    assert_eq!(text(probe.serve(post("/body", vec![0x61; 1000])).await.unwrap()).await, (200, "1000".into()));
    let error = probe.serve(post("/body", vec![0x61; 1001])).await.unwrap_err();
    assert_eq!(error.status(), 413);
    // Of unknown length: the guest sees it break off.
    let chunks =
        (0..20).map(|_| Ok::<_, std::convert::Infallible>(http_body::Frame::data(vec![0x61; 100].into())));
    let body = http_body_util::StreamBody::new(futures::stream::iter(chunks));
    let request = http::Request::post("http://test.local/body").body(body).unwrap();
    assert_eq!(text(probe.serve(request).await.unwrap()).await, (400, "the body broke off".into()));
}

#[tokio::test]
async fn whoever_finds_no_place_in_time_is_turned_away() {
    let fixture = Fixture::new();
    let probe = limited(&fixture, Limits { concurrency: 1, ..Limits::default() }).await;
    let mut running = Box::pin(probe.serve(get("/sleep/600000")));
    assert!(futures::poll!(&mut running).is_pending());
    let error = probe.serve(get("/big/1")).within().await.unwrap_err();
    assert_eq!(error.status(), 503);
}

#[tokio::test]
async fn what_a_guest_makes_the_host_hold_is_bounded() {
    let fixture = Fixture::new();
    let store = fixture.store("links").await;
    store.set("large", vec![0; 1 << 20].into()).await.unwrap();
    let mut spec = fixture.spec("probe").await;
    spec.key_value.insert("default".into(), store);
    let probe = fixture.host.deploy("test/probe", spec).unwrap();
    assert_eq!(ask(&probe, "/handles/1000").await.1, "1000");
    let error = probe.serve(get("/handles/3000")).within().await.unwrap_err();
    assert!(matches!(error, ServeError::Failed { .. }), "{error}");
    let (status, written) = ask(&probe, "/hoard/300").within().await;
    assert_eq!(status, 200);
    assert!(written.parse::<u64>().unwrap() < 16 << 20, "{written}");
    assert_eq!(ask(&probe, "/many/16/large").await.1, "16");
    let (status, why) = ask(&probe, "/many/17/large").await;
    assert_eq!((status, why.contains("must not exceed")), (503, true), "{why}");
}
