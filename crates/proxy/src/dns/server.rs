//! Listens for questions, over datagrams and streams.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use client::Ambient;
use clock::Tasks;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};

use super::Zone;
use super::answer::{Response, answer, failure};

/// How long a resolver may take before the next one is asked.
const RESOLVER_WITHIN: Duration = Duration::from_secs(2);
/// How long a stream may be silent.
const STREAM_IDLE: Duration = Duration::from_secs(10);
/// Questions that wait for resolvers, and streams, at once. A question too many is not answered: its client asks again.
const AT_ONCE: usize = 1000;
/// The longest message.
const LONGEST: usize = 65_535;

/// What a server needs.
#[derive(Clone)]
pub struct Server {
    /// The cluster's names, as they are at the time of a question.
    pub zone: watch::Receiver<Arc<Zone>>,
    /// Who is asked about all other names, in this order.
    pub resolvers: Arc<[SocketAddr]>,
    /// Clock of the waits.
    pub ambient: Ambient,
}

/// Answers on both sockets in tasks of `tasks`.
pub fn serve(server: Server, datagrams: UdpSocket, streams: TcpListener, tasks: &Tasks) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let (own, mine, room) = (server.clone(), tasks.clone(), places.clone());
    tasks.spawn("dns datagrams", async move { own.datagrams(Arc::new(datagrams), &mine, &room).await });
    let mine = tasks.clone();
    tasks.spawn("dns streams", async move { server.streams(streams, &mine, &places).await });
}

impl Server {
    async fn datagrams(&self, socket: Arc<UdpSocket>, tasks: &Tasks, places: &Arc<Semaphore>) {
        let mut bytes = vec![0; LONGEST];
        loop {
            // An error is about an earlier answer that nobody took.
            let Ok((length, from)) = socket.recv_from(&mut bytes).await else { continue };
            let Some(question) = bytes.get(..length) else { continue };
            let response = answer(&self.zone.borrow(), question, true);
            match response {
                Response::Say(said) => {
                    let _ = socket.try_send_to(&said, from);
                }
                Response::Nothing => {}
                response => {
                    let Ok(place) = places.clone().try_acquire_owned() else { continue };
                    let (server, socket, question) = (self.clone(), socket.clone(), question.to_vec());
                    tasks.spawn("dns question", async move {
                        if let Some(said) = server.whole(response, &question, false).await {
                            let _ = socket.send_to(&said, from).await;
                        }
                        drop(place);
                    });
                }
            }
        }
    }

    async fn streams(&self, listener: TcpListener, tasks: &Tasks, places: &Arc<Semaphore>) {
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let server = self.clone();
                    tasks.spawn("dns stream", async move {
                        let _ = server.stream(stream).await;
                        drop(place);
                    });
                }
                // Out of descriptors, perhaps: not at once again.
                Err(_) => self.ambient.clock.sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// Questions one after the other, each with its length in front.
    async fn stream(&self, mut stream: TcpStream) -> io::Result<()> {
        loop {
            let question = match self.within(STREAM_IDLE, read(&mut stream)).await {
                Some(question) => question?,
                None => return Ok(()),
            };
            let response = answer(&self.zone.borrow(), &question, false);
            let Some(said) = self.whole(response, &question, true).await else { return Ok(()) };
            match self.within(STREAM_IDLE, write(&mut stream, &said)).await {
                Some(written) => written?,
                None => return Ok(()),
            }
        }
    }

    /// What to say, with what others have to say about it.
    async fn whole(&self, response: Response, question: &[u8], stream: bool) -> Option<Vec<u8>> {
        match response {
            Response::Say(said) => Some(said),
            Response::Nothing => None,
            Response::Elsewhere => self.elsewhere(question, stream).await,
            Response::Follow(follow) => {
                let said = match follow.question() {
                    Some(question) => self.elsewhere(&question, stream).await,
                    None => None,
                };
                match follow.finish(said.as_deref()) {
                    Response::Say(said) => Some(said),
                    _ => None,
                }
            }
        }
    }

    /// Passes a question on, as it is, and its answer back. Each time from a port of its own, so that nobody else can
    /// guess where an answer would be believed.
    async fn elsewhere(&self, question: &[u8], stream: bool) -> Option<Vec<u8>> {
        for resolver in self.resolvers.iter() {
            let asked = async {
                if stream {
                    by_stream(*resolver, question).await
                } else {
                    by_datagram(*resolver, question).await
                }
            };
            if let Some(Ok(said)) = self.within(RESOLVER_WITHIN, asked).await {
                return Some(said);
            }
        }
        match failure(question) {
            Response::Say(said) => Some(said),
            _ => None,
        }
    }

    async fn within<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = work => Some(done),
            () = self.ambient.clock.sleep(limit) => None,
        }
    }
}

async fn by_datagram(resolver: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let any: SocketAddr = match resolver {
        SocketAddr::V4(_) => (std::net::Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    // Only this resolver's datagrams arrive from here on.
    socket.connect(resolver).await?;
    socket.send(question).await?;
    let mut bytes = vec![0; LONGEST];
    loop {
        let length = socket.recv(&mut bytes).await?;
        if length >= 2 && bytes.get(..2) == question.get(..2) {
            bytes.truncate(length);
            return Ok(bytes);
        }
    }
}

async fn by_stream(resolver: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(resolver).await?;
    write(&mut stream, question).await?;
    read(&mut stream).await
}

async fn read(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn write(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    stream.write_all(&[&length.to_be_bytes()[..], message].concat()).await
}
