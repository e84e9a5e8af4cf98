//! An edge that is killed again and again while real components take orders: each step of each order happens once.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use http::{Request, StatusCode};

use crate::durable::{order, orders};
use crate::edge::send;

const FOLDER: &str = "GATEWAY_TEST_FOLDER";
const LISTENING: &str = "listening on ";
const KILLS: usize = 8;
const ORDERS: usize = 4;

/// What the killed process runs; it does nothing when nobody is there to kill it.
#[test]
#[ignore = "run by the test below, in a process of its own"]
#[allow(clippy::print_stdout, reason = "it tells its parent where it listens")]
fn the_edge_that_is_killed() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (_api, edge) = runtime.block_on(orders(Path::new(&folder)));
    println!("\n{LISTENING}{}", edge.address);
    // Until whoever started it is gone.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

/// A process that does not outlive the test.
struct Edge {
    child: Child,
    address: std::net::SocketAddr,
}

impl Edge {
    fn start(folder: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::the_edge_that_is_killed", "--ignored", "--nocapture"])
            .env(FOLDER, folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let address = lines.filter_map(|line| line.strip_prefix(LISTENING)?.parse().ok()).next();
        Self { child, address: address.unwrap() }
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn body(number: usize) -> String {
    format!(r#"{{"item":"tea","sleepSeconds":{}}}"#, number % 2)
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_each_order_is_taken_once_and_confirmed_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut ids = Vec::new();
    for kill in 0..KILLS {
        let edge = Edge::start(folder.path());
        for number in 0..ORDERS {
            let id = format!("{kill}-{number}");
            let request = order(&id).header("prefer", "respond-async");
            let accepted = send(edge.address, request, &body(number)).await;
            assert!(accepted.status.is_success(), "{}", accepted.text);
            ids.push((id, number));
        }
        // Something else each time, so that the kills fall into every part of the work.
        for _ in 0..kill {
            send(edge.address, Request::get("http://shop.test/orders/0-0"), "").await;
        }
    }
    let edge = Edge::start(folder.path());
    for (id, number) in ids {
        let reply = send(edge.address, order(&id), &body(number)).await;
        assert_eq!(reply.status, StatusCode::OK, "{id}: {}", reply.text);
        let counts = send(edge.address, Request::get(format!("http://shop.test/orders/{id}")), "").await;
        assert_eq!(counts.text.trim(), r#"{"placed":1,"confirmed":1}"#, "{id}");
    }
}
