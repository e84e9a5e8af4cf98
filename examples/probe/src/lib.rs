//! Does what the host's tests ask of it by path: well-behaved things, and things that a host must survive.

use std::time::{Duration, Instant};

use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    Fields, IncomingRequest, Method, OutgoingBody, OutgoingRequest, OutgoingResponse, RequestOptions,
    ResponseOutparam, Scheme,
};
use web::Answer;

use crate::wasi::keyvalue::{atomics, batch, store};

wit_bindgen::generate!({ path: "../wit", world: "monoplane:examples/probing", generate_all });
wasip2::http::proxy::export!(Probe);

struct Probe;

impl wasip2::exports::http::incoming_handler::Guest for Probe {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = web::path(&request);
        let mut words = path.trim_matches('/').splitn(2, '/');
        let (what, argument) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        match what {
            "stream" => stream(number(argument), out),
            "after" => after(argument, out),
            "length" => length(argument, out),
            "trailers" => trailers(out),
            "flood" => flood(out),
            "nothing" => {}
            _ => answer(what, argument, &request).send(out),
        }
    }
}

fn answer(what: &str, argument: &str, request: &IncomingRequest) -> Answer {
    match what {
        "spin" => loop {
            std::hint::spin_loop();
        },
        "allocate" => {
            let mut kept = Vec::new();
            loop {
                kept.push(vec![1_u8; 1 << 20]);
            }
        }
        "recurse" => Answer::text(200, recurse(1).to_string()),
        "panic" => panic!("as asked"),
        "exit" => std::process::exit(3),
        "sleep" => {
            std::thread::sleep(Duration::from_millis(number(argument)));
            Answer::text(200, "slept")
        }
        "elapsed" => {
            let before = Instant::now();
            std::thread::sleep(Duration::from_millis(number(argument)));
            Answer::text(200, before.elapsed().as_millis().to_string())
        }
        "body" => match web::body(request, usize::MAX) {
            Ok(body) => Answer::text(200, body.len().to_string()),
            Err(why) => Answer::text(400, why),
        },
        "big" => Answer::text(200, "x".repeat(number(argument) as usize)),
        "environment" => {
            let pairs = std::env::vars().map(|(name, value)| format!("{name}={value}\n"));
            Answer::text(200, pairs.collect::<String>())
        }
        "log" => {
            println!("out {argument}");
            eprintln!("err {argument}");
            Answer::text(200, "logged")
        }
        "file" => Answer::text(200, describe(std::fs::read("/etc/passwd").map(|_| "read"))),
        "directory" => Answer::text(200, describe(std::fs::read_dir("/").map(|_| "listed"))),
        "socket" => Answer::text(200, describe(std::net::TcpStream::connect(argument).map(|_| "connected"))),
        "random" => Answer::text(200, format!("{:x}", wasip2::random::random::get_random_u64())),
        "get" => fetch(Method::Get, argument, None),
        "post" => fetch(Method::Post, argument, None),
        // With little patience between two pieces of the answer.
        "impatient" => {
            let options = RequestOptions::new();
            let _ = options.set_between_bytes_timeout(Some(50_000_000));
            fetch(Method::Get, argument, Some(options))
        }
        "hoard" => Answer::text(200, hoard(number(argument)).to_string()),
        "handles" => {
            let kept: Vec<_> = (0..number(argument)).map(|_| Fields::new()).collect();
            Answer::text(200, kept.len().to_string())
        }
        // `TIMES/KEY`: one value, asked for many times in one call.
        "many" => {
            let (times, key) = argument.split_once('/').unwrap_or((argument, ""));
            let Ok(bucket) = store::open("default") else { return Answer::text(503, "no store") };
            match batch::get_many(&bucket, &vec![key.to_owned(); number(times) as usize]) {
                Ok(pairs) => Answer::text(200, pairs.len().to_string()),
                Err(error) => Answer::text(503, error.to_string()),
            }
        }
        "increment" => match store::open("default") {
            Ok(bucket) => Answer::text(200, format!("{:?}", atomics::increment(&bucket, argument, 1))),
            Err(error) => Answer::text(503, error.to_string()),
        },
        // A write, a request and another write, each of which must happen once.
        "steps" => {
            let Ok(bucket) = store::open("default") else { return Answer::text(503, "no store") };
            let first = atomics::increment(&bucket, "first", 1);
            let fetched = fetch(Method::Post, argument, None);
            let second = atomics::increment(&bucket, "second", 1);
            Answer::text(200, format!("{first:?} {} {second:?}", fetched.body))
        }
        _ => Answer::text(404, "what?"),
    }
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or(0)
}

#[allow(unconditional_recursion, reason = "it is asked to run out of stack")]
fn recurse(depth: u64) -> u64 {
    std::hint::black_box(recurse(std::hint::black_box(depth + 1)) + 1)
}

fn describe<E: std::fmt::Display>(outcome: Result<&str, E>) -> String {
    match outcome {
        Ok(done) => done.to_owned(),
        Err(error) => format!("refused: {error}"),
    }
}

/// Writes a piece, waits, and so on: the client must see each piece as it is written.
fn stream(pieces: u64, out: ResponseOutparam) {
    let response = OutgoingResponse::new(Fields::new());
    let Ok(body) = response.body() else { return };
    ResponseOutparam::set(out, Ok(response));
    if let Ok(stream) = body.write() {
        for piece in 0..pieces {
            if stream.blocking_write_and_flush(format!("{piece}\n").as_bytes()).is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    let _ = OutgoingBody::finish(body, None);
}

/// Answers, with a status if one is named, and then does something more.
fn after(status: &str, out: ResponseOutparam) {
    match status.parse() {
        Ok(status) => {
            let response = OutgoingResponse::new(Fields::new());
            let _ = response.set_status_code(status);
            ResponseOutparam::set(out, Ok(response));
        }
        Err(_) => Answer::text(200, "answered").send(out),
    }
    std::thread::sleep(Duration::from_millis(20));
    if let Ok(bucket) = store::open("default") {
        let _ = bucket.set("after", b"done");
    }
}

/// `ANNOUNCED/WRITTEN`: writes another number of bytes than it announced, and forgets the body so that nobody compares.
fn length(numbers: &str, out: ResponseOutparam) {
    let (announced, written) = numbers.split_once('/').unwrap_or((numbers, "0"));
    let headers = Fields::new();
    let _ = headers.append("content-length", announced.as_bytes());
    let response = OutgoingResponse::new(headers);
    let Ok(body) = response.body() else { return };
    ResponseOutparam::set(out, Ok(response));
    if let Ok(stream) = body.write() {
        let _ = stream.blocking_write_and_flush("x".repeat(number(written) as usize).as_bytes());
    }
    std::mem::forget(body);
}

/// Answers a small body and a trailer.
fn trailers(out: ResponseOutparam) {
    let response = OutgoingResponse::new(Fields::new());
    let Ok(body) = response.body() else { return };
    ResponseOutparam::set(out, Ok(response));
    if let Ok(stream) = body.write() {
        let _ = stream.blocking_write_and_flush(b"small");
    }
    let trailers = Fields::new();
    let _ = trailers.append("x-sum", b"5");
    let _ = OutgoingBody::finish(body, Some(trailers));
}

/// Writes for as long as somebody reads.
fn flood(out: ResponseOutparam) {
    let response = OutgoingResponse::new(Fields::new());
    let Ok(body) = response.body() else { return };
    ResponseOutparam::set(out, Ok(response));
    if let Ok(stream) = body.write() {
        while stream.blocking_write_and_flush(&[b'x'; 4096]).is_ok() {}
    }
    let _ = OutgoingBody::finish(body, None);
}

/// Makes requests with a body each that it never sends, and says how many bytes could be written to all of them.
fn hoard(requests: u64) -> u64 {
    let mut written = 0;
    let mut kept = Vec::new();
    for _ in 0..requests {
        let request = OutgoingRequest::new(Fields::new());
        let Ok(body) = request.body() else { break };
        let Ok(stream) = body.write() else { break };
        while let Ok(room) = stream.check_write()
            && room > 0
        {
            if stream.write(&vec![1; room as usize]).is_err() {
                break;
            }
            written += room;
        }
        kept.push((stream, body, request));
    }
    written
}

/// Sends a request to `HOST:PORT/PATH` and answers what came back.
fn fetch(method: Method, target: &str, options: Option<RequestOptions>) -> Answer {
    let (authority, path) = target.split_once('/').unwrap_or((target, ""));
    let request = OutgoingRequest::new(Fields::new());
    let prepared = request
        .set_method(&method)
        .and_then(|()| request.set_scheme(Some(&Scheme::Http)))
        .and_then(|()| request.set_authority(Some(authority)))
        .and_then(|()| request.set_path_with_query(Some(&format!("/{path}"))));
    if prepared.is_err() {
        return Answer::text(400, "no such target");
    }
    if let (Method::Post, Ok(body)) = (&method, request.body()) {
        if let Ok(stream) = body.write() {
            let _ = stream.blocking_write_and_flush(b"posted");
        }
        let _ = OutgoingBody::finish(body, None);
    }
    let future = match outgoing_handler::handle(request, options) {
        Ok(future) => future,
        Err(error) => return Answer::text(502, format!("{error:?}")),
    };
    future.subscribe().block();
    let response = match future.get() {
        Some(Ok(Ok(response))) => response,
        Some(Ok(Err(error))) => return Answer::text(502, format!("{error:?}")),
        _ => return Answer::text(502, "no answer"),
    };
    let mut bytes = Vec::new();
    if let Ok(body) = response.consume()
        && let Ok(stream) = body.stream()
    {
        loop {
            match stream.blocking_read(1 << 16) {
                Ok(piece) => bytes.extend_from_slice(&piece),
                Err(wasip2::io::streams::StreamError::Closed) => break,
                Err(error) => return Answer::text(502, error.to_string()),
            }
        }
    }
    Answer::text(200, format!("{} {}", response.status(), String::from_utf8_lossy(&bytes)))
}
