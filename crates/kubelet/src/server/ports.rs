//! Ports of a pod, forwarded.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::stream::FuturesUnordered;
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use http::{Response, StatusCode};
use runtime::Runtime;
use streams::{Forward, Purpose};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::find;
use super::query;
use super::route::Refusal;
use super::upgrade::Upgrade;

/// A pod of which ports are forwarded.
struct Pod {
    runtime: Arc<dyn Runtime>,
    sandbox: String,
    name: String,
    uid: String,
}

/// Forwards ports of a pod.
pub(super) async fn port_forward(
    upgrade: Upgrade<'_>,
    namespace: &str,
    pod: &str,
    query: &str,
) -> Result<Response<()>, Refusal> {
    let ports = ports(query)?;
    let (runtime, sandbox, uid) = find::sandbox(&upgrade.cx, namespace, pod).await?;
    let pod = Pod { runtime, sandbox, name: format!("{pod}_{namespace}"), uid };
    upgrade.begin(Purpose::PortForward, move |terms, io, protocol| async move {
        streams::port_forward(&terms, io, protocol, &ports, |asked| serve(&pod, asked)).await;
    })
}

/// The ports that the request names. Over SPDY each stream names its own.
fn ports(query: &str) -> Result<Vec<u16>, Refusal> {
    let named = query::pairs(query).filter(|(name, _)| name == "port").map(|(_, value)| value);
    let named: Vec<String> = named.collect();
    let each = named.iter().flat_map(|value| value.split(',')).filter(|port| !port.is_empty());
    each.map(|port| match port.parse() {
        Ok(0) | Err(_) => {
            let message = format!("invalid port {port:?}: port must be a number from 1 to 65535");
            Err(Refusal::new(StatusCode::BAD_REQUEST, message))
        }
        Ok(port) => Ok(port),
    })
    .collect()
}

/// Makes the connections that are asked for, and serves them side by side.
async fn serve(pod: &Pod, mut asked: mpsc::Receiver<Forward>) {
    let mut open = FuturesUnordered::new();
    let mut more = true;
    while more || !open.is_empty() {
        tokio::select! {
            forward = asked.recv(), if more => match forward {
                Some(forward) => open.push(pod.connect(forward)),
                None => more = false,
            },
            Some(()) = open.next(), if !open.is_empty() => {}
        }
    }
}

impl Pod {
    async fn connect(&self, forward: Forward) {
        let Forward { port, mut input, output, error, half_closes } = forward;
        let connection = match self.runtime.port_forward(&self.sandbox, port).await {
            Ok(connection) => connection,
            Err(why) => {
                let message =
                    format!("error forwarding port {port} to pod {}, uid {}: {why}", self.name, self.uid);
                tracing::debug!(message);
                // A client that has gone needs no answer.
                let _ = error.send(message.into()).await;
                output.finish().await;
                return error.finish().await;
            }
        };
        let (mut from, mut to) = connection.split();
        let over = CancellationToken::new();
        let inward = async {
            while let Some(piece) = input.next().await {
                if to.write_all(&piece).await.is_err() {
                    break;
                }
            }
            let _ = to.close().await;
            drop(input);
        };
        let outward = async {
            let mut piece = BytesMut::zeroed(streams::PIECE);
            while let Ok(count @ 1..) = from.read(&mut piece).await {
                if output.send(Bytes::copy_from_slice(&piece[..count])).await.is_err() {
                    break;
                }
            }
            output.clone().finish().await;
            over.cancel();
        };
        tokio::select! {
            // Each way ends by itself.
            _ = async { tokio::join!(inward, outward) } => {}
            // Thrown away by the client: so is the connection.
            () = output.gone() => {}
            // Nothing more comes, and the client can be told so by the end alone.
            () = over.cancelled(), if !half_closes => {}
        }
        error.finish().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_numbers() {
        assert_eq!(ports("port=80,443&port=1").ok(), Some(vec![80, 443, 1]));
        assert_eq!(ports("").ok(), Some(vec![]));
        for bad in ["port=0", "port=65536", "port=x"] {
            assert_eq!(ports(bad).err().unwrap().code, 400, "{bad}");
        }
    }
}
