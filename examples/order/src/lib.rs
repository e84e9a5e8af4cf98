//! A durable function: takes an order, sleeps, confirms it.
//!
//! `POST /orders` with `{"item": "tea", "sleepSeconds": 30}` takes an order; its id is the request's `Idempotency-Key`. It
//! counts under `orders/ID/placed` in the key-value store `default`, sleeps, counts under `orders/ID/confirmed`, and answers
//! what it did and when. `GET /orders/ID` answers both counts: whatever was killed meanwhile, they are 1 and 1.

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
struct Order {
    item: String,
    #[serde(default)]
    sleep_seconds: u32,
}

/// What was done. Times are in milliseconds since 1970.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Confirmed<'a> {
    id: &'a str,
    item: &'a str,
    placed_at: u64,
    confirmed_at: u64,
    /// Drawn at random, once.
    confirmation: String,
}

#[derive(Serialize)]
struct Counts {
    placed: u64,
    confirmed: u64,
}

impl wasip2::exports::http::incoming_handler::Guest for Orders {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        answer(&request).unwrap_or_else(|failure| failure).send(out);
    }
}

fn answer(request: &IncomingRequest) -> Result<Answer, Answer> {
    let orders = store::open("default").map_err(unavailable)?;
    let path = web::path(request);
    let id = path.trim_matches('/').strip_prefix("orders").map(|rest| rest.trim_start_matches('/'));
    match (request.method(), id) {
        (Method::Post, Some("")) => {
            let id = order_id(request)?;
            let body = web::body(request, 64 << 10).map_err(invalid)?;
            let order = serde_json::from_str(&body).map_err(invalid)?;
            process(&orders, &id, &order)
        }
        (Method::Get, Some(id)) if !id.is_empty() => {
            json(&Counts { placed: counted(&orders, id, "placed")?, confirmed: counted(&orders, id, "confirmed")? })
        }
        _ => Err(Answer::text(404, "POST /orders, or GET /orders/ID\n")),
    }
}

fn order_id(request: &IncomingRequest) -> Result<String, Answer> {
    let id = request.headers().get("idempotency-key").into_iter().next().unwrap_or_default();
    let id = String::from_utf8(id).map_err(invalid)?;
    if id.is_empty() || id.len() > 200 || id.contains('/') {
        return Err(invalid("the header Idempotency-Key must give the order an id without slashes"));
    }
    Ok(id)
}

fn process(orders: &Bucket, id: &str, order: &Order) -> Result<Answer, Answer> {
    let placed_at = now();
    count(orders, id, "placed")?;
    println!("order {id} placed, confirming in {} s", order.sleep_seconds);
    std::thread::sleep(Duration::from_secs(order.sleep_seconds.into()));
    count(orders, id, "confirmed")?;
    let confirmation = format!("{:016x}", get_random_u64());
    println!("order {id} confirmed");
    json(&Confirmed { id, item: &order.item, placed_at, confirmed_at: now(), confirmation })
}

/// Counts a step of an order: the side effect that must not happen twice.
fn count(orders: &Bucket, id: &str, step: &str) -> Result<u64, Answer> {
    increment(orders, &format!("orders/{id}/{step}"), 1).map_err(unavailable)
}

fn counted(orders: &Bucket, id: &str, step: &str) -> Result<u64, Answer> {
    let count = orders.get(&format!("orders/{id}/{step}")).map_err(unavailable)?;
    Ok(count.and_then(|count| String::from_utf8(count).ok()?.parse().ok()).unwrap_or(0))
}

fn now() -> u64 {
    let now = wall_clock::now();
    now.seconds * 1000 + u64::from(now.nanoseconds / 1_000_000)
}

fn json(body: &impl Serialize) -> Result<Answer, Answer> {
    let text = serde_json::to_string(body).map_err(|error| Answer::text(500, format!("{error}\n")))?;
    Ok(Answer::json(200, text + "\n"))
}

fn invalid(why: impl std::fmt::Display) -> Answer {
    Answer::text(400, format!("{why}\n"))
}

fn unavailable(error: store::Error) -> Answer {
    Answer::text(503, format!("the store of orders is not available: {error}\n"))
}
