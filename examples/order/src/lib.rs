//! A durable function: takes an order, sleeps, confirms it.
//!
//! `POST` with `{"order": "A-1", "sleepSeconds": 30}` records the order in the key-value store `default`, sleeps, confirms
//! it, and answers what it did and when. Every step also counts itself under a key of the order, so that whoever looks can
//! see that each happened exactly once, whatever was killed meanwhile. `GET /ORDER` answers what is recorded of an order.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use wasip2::clocks::wall_clock;
use wasip2::http::types::{IncomingRequest, Method, ResponseOutparam};
use wasip2::random::random::get_random_u64;
use web::Answer;

use crate::wasi::keyvalue::atomics::increment;
use crate::wasi::keyvalue::store::{self, Bucket};

wit_bindgen::generate!({ path: "../wit", world: "monoplane:examples/storing", generate_all });
wasip2::http::proxy::export!(Orders);

struct Orders;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    order: String,
    #[serde(default)]
    sleep_seconds: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Order {
    order: String,
    status: String,
    /// Milliseconds since 1970.
    received_at: u64,
    confirmed_at: Option<u64>,
    /// Drawn at random, once.
    confirmation: Option<String>,
    /// How often each step has happened: 1.
    times_received: u64,
    times_confirmed: u64,
}

impl wasip2::exports::http::incoming_handler::Guest for Orders {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        answer(&request).unwrap_or_else(|failure| failure).send(out);
    }
}

fn answer(request: &IncomingRequest) -> Result<Answer, Answer> {
    let orders = store::open("default").map_err(unavailable)?;
    match request.method() {
        Method::Post => {
            let body = web::body(request, 64 << 10).map_err(|why| Answer::text(400, format!("{why}\n")))?;
            let request: Request =
                serde_json::from_str(&body).map_err(|error| Answer::text(400, format!("{error}\n")))?;
            if request.order.is_empty() || request.order.len() > 100 || request.order.contains('/') {
                return Err(Answer::text(400, "order must be a name of 1 to 100 bytes without slashes\n"));
            }
            process(&orders, request)
        }
        Method::Get => {
            let path = web::path(request);
            let order = path.rsplit('/').next().unwrap_or_default();
            match orders.get(&state_key(order)).map_err(unavailable)? {
                Some(state) => Ok(json(String::from_utf8_lossy(&state).into_owned())),
                None => Err(Answer::text(404, "no such order\n")),
            }
        }
        _ => Err(Answer::text(405, "POST an order, or GET one\n").with("allow", "GET, POST")),
    }
}

fn process(orders: &Bucket, request: Request) -> Result<Answer, Answer> {
    let mut order = Order {
        status: "received".into(),
        received_at: now(),
        confirmed_at: None,
        confirmation: None,
        times_received: count(orders, &request.order, "received")?,
        times_confirmed: 0,
        order: request.order,
    };
    keep(orders, &order)?;
    println!("order {} received, confirming in {} s", order.order, request.sleep_seconds);
    std::thread::sleep(Duration::from_secs(request.sleep_seconds.into()));
    order.times_confirmed = count(orders, &order.order, "confirmed")?;
    order.status = "confirmed".into();
    order.confirmation = Some(format!("{:016x}", get_random_u64()));
    order.confirmed_at = Some(now());
    let state = keep(orders, &order)?;
    println!("order {} confirmed", order.order);
    Ok(json(state))
}

/// Counts a step of an order: the side effect that must not happen twice.
fn count(orders: &Bucket, order: &str, step: &str) -> Result<u64, Answer> {
    increment(orders, &format!("count/{order}/{step}"), 1).map_err(unavailable)
}

fn keep(orders: &Bucket, order: &Order) -> Result<String, Answer> {
    let state = serde_json::to_string(order).map_err(|error| Answer::text(500, format!("{error}\n")))?;
    orders.set(&state_key(&order.order), state.as_bytes()).map_err(unavailable)?;
    Ok(state)
}

fn state_key(order: &str) -> String {
    format!("order/{order}")
}

fn now() -> u64 {
    let now = wall_clock::now();
    now.seconds * 1000 + u64::from(now.nanoseconds / 1_000_000)
}

fn json(body: String) -> Answer {
    Answer { status: 200, headers: vec![("content-type", "application/json".into())], body: body + "\n" }
}

fn unavailable(error: store::Error) -> Answer {
    Answer::text(503, format!("the store of orders is not available: {error}\n"))
}
