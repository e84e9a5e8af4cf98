//! A URL shortener. `POST /` with a URL answers its short form, `GET /CODE` redirects to it, `GET /` lists all of them as
//! JSON.
//! Links live in the key-value store `default`. `BASE_PATH` in the environment is the path under which it is served.

use wasip2::http::types::{IncomingRequest, Method, ResponseOutparam};
use wasip2::random::random::get_random_u64;
use web::Answer;

use crate::wasi::keyvalue::store::{self, Bucket};

wit_bindgen::generate!({ path: "../wit", world: "monoplane:examples/storing", generate_all });
wasip2::http::proxy::export!(Shortener);

const ALPHABET: &[u8; 32] = b"23456789abcdefghijkmnpqrstuvwxyz";
const CODE_LENGTH: usize = 7;
const URL_LENGTH: usize = 2048;

struct Shortener;

impl wasip2::exports::http::incoming_handler::Guest for Shortener {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        answer(&request).unwrap_or_else(|failure| failure).send(out);
    }
}

fn answer(request: &IncomingRequest) -> Result<Answer, Answer> {
    let base = std::env::var("BASE_PATH").unwrap_or_default();
    let base = base.trim_end_matches('/');
    let path = web::path(request);
    let code = path.strip_prefix(base).unwrap_or(&path).trim_matches('/');
    let links = store::open("default").map_err(unavailable)?;
    match (request.method(), code) {
        (Method::Post, "") => {
            let body = web::body(request, 2 * URL_LENGTH).map_err(|why| Answer::text(400, format!("{why}\n")))?;
            shorten(&links, base, body.trim())
        }
        (Method::Get | Method::Head, "") => list(&links),
        (Method::Get | Method::Head, code) => follow(&links, code),
        _ => Err(Answer::text(405, "POST a URL, or GET a code\n").with("allow", "GET, HEAD, POST")),
    }
}

fn shorten(links: &Bucket, base: &str, url: &str) -> Result<Answer, Answer> {
    let web = url.starts_with("http://") || url.starts_with("https://");
    if !web || url.len() > URL_LENGTH || url.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(Answer::text(400, "the body must be one http:// or https:// URL\n"));
    }
    loop {
        let mut bits = get_random_u64();
        let letters = (0..CODE_LENGTH).map(|_| {
            let letter = ALPHABET[(bits % 32) as usize];
            bits /= 32;
            char::from(letter)
        });
        let code: String = letters.collect();
        if !links.exists(&code).map_err(unavailable)? {
            links.set(&code, url.as_bytes()).map_err(unavailable)?;
            return Ok(Answer::text(201, format!("{code}\n")).with("location", format!("{base}/{code}")));
        }
    }
}

fn follow(links: &Bucket, code: &str) -> Result<Answer, Answer> {
    match links.get(code).map_err(unavailable)? {
        Some(url) => Ok(Answer::text(302, "").with("location", String::from_utf8_lossy(&url))),
        None => Err(Answer::text(404, "no such link\n")),
    }
}

fn list(links: &Bucket) -> Result<Answer, Answer> {
    let mut items = Vec::new();
    let mut cursor = None;
    loop {
        let page = links.list_keys(cursor).map_err(unavailable)?;
        for code in page.keys {
            if let Some(url) = links.get(&code).map_err(unavailable)? {
                let url = quoted(&String::from_utf8_lossy(&url));
                items.push(format!("{{\"code\":{},\"url\":{url}}}", quoted(&code)));
            }
        }
        cursor = page.cursor;
        if cursor.is_none() {
            return Ok(Answer::json(200, format!("[{}]\n", items.join(","))));
        }
    }
}

/// A JSON string. The store may hold what somebody else has put there.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control < ' ' => quoted.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

fn unavailable(error: store::Error) -> Answer {
    Answer::text(503, format!("the store of links is not available: {error}\n"))
}
