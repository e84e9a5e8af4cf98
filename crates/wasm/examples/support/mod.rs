//! A current-thread runtime per core, each with a listener on the same port.

use std::error::Error;
use std::net::SocketAddr;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::service::HttpService;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpSocket};

/// Serves on `address` until the process is ended.
pub fn run<S, B>(
    address: &str,
    service: impl Fn() -> S + Clone + Send + 'static,
) -> Result<(), Box<dyn Error>>
where
    S: HttpService<Incoming, ResBody = B, Error: Into<Box<dyn Error + Send + Sync>>, Future: 'static>
        + 'static,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + 'static,
{
    let first = listen(address.parse()?)?;
    let address = first.local_addr()?;
    println!("listening on http://{address}");
    let cores = std::thread::available_parallelism()?.get();
    let mut threads = Vec::new();
    for listener in std::iter::once(Ok(first)).chain((1..cores).map(|_| listen(address))) {
        let (listener, service) = (listener?, service.clone());
        threads.push(std::thread::spawn(move || -> std::io::Result<()> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(tokio::task::LocalSet::new().run_until(accept(listener, service)))
        }));
    }
    for thread in threads {
        thread.join().map_err(|_| "a thread panicked")??;
    }
    Ok(())
}

fn listen(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    // A socket is bound outside of any runtime here, and registered with the one that accepts from it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _entered = runtime.enter();
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    socket.listen(1024)?.into_std()
}

async fn accept<S, B>(listener: std::net::TcpListener, service: impl Fn() -> S) -> std::io::Result<()>
where
    S: HttpService<Incoming, ResBody = B, Error: Into<Box<dyn Error + Send + Sync>>, Future: 'static>
        + 'static,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + 'static,
{
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let connection = hyper::server::conn::http1::Builder::new()
            .pipeline_flush(true)
            .serve_connection(TokioIo::new(stream), service());
        tokio::task::spawn_local(async move {
            // A client that goes away in the middle is its own affair.
            let _ = connection.await;
        });
    }
}
