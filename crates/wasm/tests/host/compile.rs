//! Compiling in a child.

use std::time::Duration;

use wasm::{CompileError, CompileLimits};

use crate::fixture::{Fixture, Within, bytes_of};

#[tokio::test]
async fn a_component_is_compiled_once_and_found_again() {
    let fixture = Fixture::compiling(CompileLimits::default());
    let (a, b) = tokio::join!(fixture.host.compile(bytes_of("echo")), fixture.host.compile(bytes_of("echo")));
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!(a.digest(), b.digest());
    assert!(a.digest().starts_with("sha256:"));
    assert!(fixture.host.cached(a.digest()).await.unwrap().is_some());
    assert!(fixture.host.cached("sha256:00").await.unwrap().is_none());
}

#[tokio::test]
async fn what_is_no_component_is_invalid() {
    let fixture = Fixture::compiling(CompileLimits::default());
    for bytes in [&b""[..], b"hello", b"\0asm\x01\0\0\0", &bytes_of("echo")[..1000]] {
        let error = fixture.host.compile(bytes.to_vec().into()).within().await.unwrap_err();
        assert!(matches!(error, CompileError::Invalid(_)), "{error}");
    }
}

#[tokio::test]
async fn a_compiler_without_memory_hits_its_limit_and_harms_nobody() {
    let limits = CompileLimits { address_space: 40 << 20, ..CompileLimits::default() };
    let fixture = Fixture::compiling(limits);
    let error = fixture.host.compile(bytes_of("probe")).within().await.unwrap_err();
    assert!(matches!(error, CompileError::LimitExceeded("memory")), "{error}");
}

#[tokio::test]
async fn a_compiler_that_takes_too_long_is_killed() {
    let limits = CompileLimits { wall_time: Duration::from_millis(1), ..CompileLimits::default() };
    let fixture = Fixture::compiling(limits);
    let error = fixture.host.compile(bytes_of("probe")).within().await.unwrap_err();
    assert!(matches!(error, CompileError::LimitExceeded("wall time")), "{error}");
}

#[tokio::test]
async fn a_component_over_the_size_limit_is_not_even_tried() {
    let limits = CompileLimits { component: 1000, ..CompileLimits::default() };
    let fixture = Fixture::compiling(limits);
    let error = fixture.host.compile(bytes_of("echo")).within().await.unwrap_err();
    assert!(matches!(error, CompileError::TooLarge { limit: 1000 }), "{error}");
}
