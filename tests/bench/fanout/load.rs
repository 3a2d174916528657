//! The load client: sockets that count whole frames and throw the bytes away.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::ready;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, LocalSet};
use tokio_rustls::TlsConnector;

use super::frames::Frames;

pub const UPGRADE: &str = "Host: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
/// Longer than any answer to it.
const HEAD_BYTES: usize = 4_096;
const READ_BYTES: usize = 256 * 1_024;
/// The kernel's least, so that a client which never reads stalls its server at once.
const STALLED_BYTES: u32 = 4_096;
/// For one block to one set of clients; the slowest server here takes ten seconds.
const BLOCK_WITHIN: Duration = Duration::from_secs(60);

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// How a client becomes one.
#[derive(Clone, Default)]
pub struct Greeting {
    /// The request's path and query.
    pub path: String,
    /// Further lines of the request, each with its CR LF.
    pub headers: &'static str,
    /// What the head of the answer must have in it.
    pub answer: &'static str,
    /// Frames to send after it, masked.
    pub frames: Vec<u8>,
    /// Texts that come back for these.
    pub replies: usize,
    /// Whom it trusts, should it speak TLS.
    pub tls: Option<Arc<ClientConfig>>,
}

pub struct Clients {
    local: LocalSet,
    shared: Rc<Shared>,
    readers: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// Frames that each client has in all when it is done with a block.
    due: Cell<usize>,
    done: Cell<usize>,
    /// Why a client is none any more.
    failure: RefCell<Option<anyhow::Error>>,
    /// All are done, or one has failed.
    over: Notify,
    clients: Cell<usize>,
}

impl Greeting {
    pub fn to(path: &str) -> Self {
        Self { path: path.to_owned(), ..Self::default() }
    }

    /// Becomes such a client. Yields the frames that came right behind the answer.
    pub async fn greet(
        &self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    ) -> anyhow::Result<Frames> {
        let request = format!("GET {} HTTP/1.1\r\n{UPGRADE}{}\r\n", self.path, self.headers);
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        let mut bytes = [0; HEAD_BYTES];
        let mut here = 0;
        let end = loop {
            let read = stream.read(&mut bytes[here..]).await?;
            ensure!(read > 0, "closed instead of an answer, or an endless one");
            here += read;
            if let Some(at) = bytes[..here].windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at + 4;
            }
        };
        let head = String::from_utf8_lossy(&bytes[..end]);
        ensure!(head.starts_with("HTTP/1.1 101"), "{head}");
        ensure!(head.contains(self.answer), "its answer has no {:?}", self.answer);
        stream.write_all(&self.frames).await?;
        let mut frames = Frames::default();
        frames.take(&bytes[end..here]);
        Ok(frames)
    }
}

impl Clients {
    /// One for each of these, all subscribed when this returns.
    ///
    /// # Errors
    /// The first that could not be had.
    pub async fn connect(
        address: SocketAddr,
        greetings: impl IntoIterator<Item = Greeting>,
    ) -> anyhow::Result<Self> {
        let mut clients =
            Self { local: LocalSet::new(), shared: Rc::default(), readers: Vec::new() };
        let mut replies = 0;
        for greeting in greetings {
            let mut stream = TcpStream::connect(address).await?;
            replies = greeting.replies;
            let shared = Rc::clone(&clients.shared);
            let reader = match &greeting.tls {
                None => {
                    let frames = greeting.greet(&mut stream).await?;
                    clients.local.spawn_local(read_on(stream, frames, shared))
                }
                Some(tls) => {
                    let name = ServerName::from(address.ip());
                    let connector = TlsConnector::from(Arc::clone(tls));
                    let mut stream = connector.connect(name, stream).await?;
                    let frames = greeting.greet(&mut stream).await?;
                    clients.local.spawn_local(read_on(stream, frames, shared))
                }
            };
            clients.readers.push(reader);
        }
        clients.shared.clients.set(clients.readers.len());
        if replies > 0 {
            clients.all_have(replies, async { Ok(()) }).await?;
        }
        Ok(clients)
    }

    /// Of this service's stream of transactions, one for each query, the question mark included.
    pub async fn connect_asking(
        address: SocketAddr,
        queries: impl IntoIterator<Item = String>,
    ) -> Self {
        let greetings = queries
            .into_iter()
            .map(|query| Greeting::to(&format!("/api/v1/streams/valid_transactions{query}")));
        Self::connect(address, greetings).await.expect("clients")
    }

    /// Sends, and waits until every client has `more` frames above what it was last asked for.
    /// Yields how long after its begin the last client had them.
    ///
    /// # Errors
    /// It could not be sent, a client was cut, or they did not come within a minute.
    pub async fn all_have(
        &mut self,
        more: usize,
        sending: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<Duration> {
        let Self { local, shared, .. } = self;
        shared.due.set(shared.due.get() + more);
        let began_at = Instant::now();
        let received = async {
            while shared.done.get() < shared.clients.get() {
                shared.over.notified().await;
                if let Some(failure) = shared.failure.take() {
                    return Err(failure);
                }
            }
            Ok(began_at.elapsed())
        };
        let received = async {
            let late = || format!("{} of {} clients", shared.done.get(), shared.clients.get());
            tokio::time::timeout(BLOCK_WITHIN, received).await.with_context(late)?
        };
        let both = local.run_until(async { tokio::try_join!(received, sending) }).await;
        shared.done.set(0);
        Ok(both?.0)
    }
}

impl Clients {
    /// Reads whatever comes for as long as `work` takes; these clients are asked for nothing.
    pub async fn read_during<T>(&mut self, work: impl Future<Output = T>) -> T {
        self.shared.due.set(usize::MAX);
        self.local.run_until(work).await
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        for reader in &self.readers {
            reader.abort();
        }
    }
}

/// Clients that never read what follows the answer to their greeting.
pub async fn connect_stalled(
    address: SocketAddr,
    greeting: &Greeting,
    count: usize,
) -> anyhow::Result<Vec<TcpStream>> {
    let mut stalled = Vec::new();
    for _ in 0..count {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(STALLED_BYTES)?;
        let mut stream = socket.connect(address).await?;
        greeting.greet(&mut stream).await?;
        stalled.push(stream);
    }
    Ok(stalled)
}

async fn read_on(stream: impl AsyncRead + Unpin, frames: Frames, shared: Rc<Shared>) {
    let Err(failure) = read(stream, frames, &shared).await;
    shared.failure.replace(Some(failure));
    shared.over.notify_one();
}

async fn read(
    mut stream: impl AsyncRead + Unpin,
    mut frames: Frames,
    shared: &Shared,
) -> anyhow::Result<std::convert::Infallible> {
    let mut due_before = 0;
    loop {
        let read = std::future::poll_fn(|context| {
            BUFFER.with_borrow_mut(|buffer| {
                let mut buffer = ReadBuf::new(buffer);
                ready!(Pin::new(&mut stream).poll_read(context, &mut buffer))?;
                frames.take(buffer.filled());
                std::task::Poll::Ready(std::io::Result::Ok(buffer.filled().len()))
            })
        });
        ensure!(read.await? > 0, "a client was cut");
        let due = shared.due.get();
        ensure!(frames.texts() <= due, "a client has more frames than were due");
        if frames.texts() == due && due > due_before {
            due_before = due;
            shared.done.set(shared.done.get() + 1);
            if shared.done.get() == shared.clients.get() {
                shared.over.notify_one();
            }
        }
    }
}
