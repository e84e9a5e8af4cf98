//! The chapter of durable functions: an order that is taken, slept on and confirmed, once.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};

use super::components::{apply, component, ready};
use super::http::{self, Ask};
use super::plane::{Plane, eventually};

const HOST: &str = "orders.localhost";
/// The guest, built from `examples/order`.
const GUEST: &[u8] = include_bytes!("../../../../examples/order/order.wasm");
/// Long enough to be killed in.
const SLEEP: Duration = Duration::from_secs(12);
const ID: &str = "order-1";

/// An order under way.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    due: SystemTime,
}

/// Deploys the order desk with a store of its own.
///
/// # Errors
/// When it does not become ready.
pub async fn deploy(plane: &Plane) -> Result<((), String)> {
    apply(
        plane,
        "apiVersion: monoplane.dev/v1alpha1\nkind: KeyValueStore\nmetadata: {name: orders}\nspec: {embedded: {}}\n",
    )
    .await?;
    let rest = "  keyValue: [{name: default, store: orders}]\n  durable: {suspendAfter: 1s}\n";
    apply(plane, &component("order", HOST, GUEST, rest)).await?;
    ready(plane, "order").await?;
    Ok(((), format!("component/order is Ready at http://{HOST}/, every host call journaled")))
}

fn place_request() -> Ask {
    let body = serde_json::json!({ "item": "a red bicycle", "sleepSeconds": SLEEP.as_secs() });
    Ask::post(HOST, "/orders", body.to_string()).header("idempotency-key", ID)
}

/// Places an order and does not wait for it.
///
/// # Errors
/// When it is not accepted.
pub async fn place(plane: &Plane) -> Result<(Order, String)> {
    let due = SystemTime::now() + SLEEP;
    let answer = http::send(plane.gateway()?, &place_request().header("prefer", "respond-async")).await?;
    ensure!(answer.status == 202, "the order desk answered {}: {}", answer.status, answer.text());
    eventually("the order is recorded", || async { Ok((recorded(plane).await?.0 == 1).then_some(())) })
        .await?;
    Ok((
        Order { due },
        format!("202 Accepted; it confirms in {} s and holds no memory until then", SLEEP.as_secs()),
    ))
}

/// How often the order was recorded and confirmed in the store, as the order desk itself counts it. The question goes to
/// the same durable component, under ids of its own.
async fn recorded(plane: &Plane) -> Result<(i64, i64)> {
    let answer = http::send(plane.gateway()?, &Ask::get(HOST, &format!("/orders/{ID}"))).await?;
    ensure!(answer.status == 200, "GET /orders/{ID} answered {}: {}", answer.status, answer.text());
    let order = answer.json()?;
    Ok((order["placed"].as_i64().unwrap_or(0), order["confirmed"].as_i64().unwrap_or(0)))
}

/// Attaches to the order and waits until it is confirmed; says how late that was.
///
/// # Errors
/// When it was confirmed early, twice, or never.
pub async fn confirmed(plane: &Plane, order: Order) -> Result<(Duration, String)> {
    let answer = http::send(plane.gateway()?, &place_request()).await?;
    let late = SystemTime::now().duration_since(order.due).context("it was confirmed before its time")?;
    ensure!(answer.status == 200, "the order desk answered {}: {}", answer.status, answer.text());
    let (placed, confirmed) = recorded(plane).await?;
    ensure!((placed, confirmed) == (1, 1), "recorded {placed} times, confirmed {confirmed} times");
    Ok((
        late,
        format!(
            "{}\nrecorded once, confirmed once, although its process was killed in between",
            answer.text().trim()
        ),
    ))
}
