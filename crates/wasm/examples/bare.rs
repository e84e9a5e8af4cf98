//! Bare hyper on a current-thread runtime per core: the limit that `serve` is measured against.
//!
//! `bare ADDRESS`. Answers what the echo guest answers, and says its address when it listens.

#![allow(clippy::print_stdout, reason = "a tool for the terminal")]

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;

#[path = "support/mod.rs"]
mod support;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".into());
    support::run(&address, || {
        hyper::service::service_fn(|request: Request<_>| async move {
            let _: &hyper::body::Incoming = request.body();
            let word = request.headers().get("x-echo").map(|word| word.as_bytes()).unwrap_or_default();
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from([word, b" 1\n"].concat()))))
        })
    })
}
