//! A `wasi:http` component behind a port of its pod: HTTP/1.1, or HTTP/2 when the client begins with its preface. Each
//! request has an instance of its own.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::complain;
use super::signals::Stop;
use crate::body::Body;
use crate::component::Component;

/// Connections at a time; further ones wait in the socket's queue.
const CONNECTIONS: usize = 4_096;
/// How long the head of a request may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long to wait after the system could not accept a connection.
const RETRY: Duration = Duration::from_millis(50);

type Answer = Response<Either<Body, Full<Bytes>>>;

/// Serves until it is asked to end; then accepts no more and returns when every request has been answered.
pub(super) async fn run(
    component: &Arc<Component>,
    address: SocketAddr,
    mut stop: Stop,
) -> Result<i32, String> {
    let listener = listen(address).await.map_err(|error| format!("port {}: {error}", address.port()))?;
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(HEAD_TIMEOUT);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            _ = stop.asked() => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let Some((stream, place)) = accepted else {
            tokio::time::sleep(RETRY).await;
            continue;
        };
        let component = component.clone();
        let service = hyper::service::service_fn(move |request| answer(component.clone(), request));
        let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
        let watched = graceful.watch(connection);
        tokio::spawn(async move {
            // A client that goes away in the middle is its own affair.
            let _ = watched.await;
            drop(place);
        });
    }
    drop(listener);
    graceful.shutdown().await;
    Ok(0)
}

/// On every address of the pod, of either family where the kernel has both.
async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Err(error),
        Err(_) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await,
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.ok()?;
    let (stream, _) = listener.accept().await.ok()?;
    // Answers are written whole; waiting to join small ones only delays them.
    let _ = stream.set_nodelay(true);
    Some((stream, place))
}

async fn answer(component: Arc<Component>, request: Request<Incoming>) -> Result<Answer, Infallible> {
    Ok(match component.serve(request).await {
        Ok(response) => response.map(Either::Left),
        Err(error) => {
            complain(&error.to_string());
            let mut response = Response::new(Either::Right(Full::new(Bytes::from(format!("{error}\n")))));
            *response.status_mut() = error.status();
            response
        }
    })
}
