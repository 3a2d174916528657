//! The bytes between a broker and the client library: a plain or TLS connection whose frames are mended
//! on their way in (see [`Mender`]).
//!
//! The library takes any runtime's connections. [`runtime`] is tokio's with one difference: its
//! connections are [`Wire`]s. Absent here: what is mended, and how a connection comes about.

use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use async_rs::traits::Reactor;
use async_rs::util::RuntimeParts;
use async_rs::{Runtime, Tokio};
use futures_lite::io::{AsyncRead, AsyncWrite};
use futures_util::Stream;
use lapin::tcp::AsyncTcpStream;
use tracing::warn;

use super::mend::Mender;
use crate::metrics::Metrics;

/// A plain TCP connection as the library makes it.
pub type Tcp = <Tokio as Reactor>::TcpStream;

/// A connection to a broker. What is read from it, the library can read.
pub struct Wire {
    inner: AsyncTcpStream<Tcp>,
    mender: Mender,
    tally: Tally,
    /// Set when something was mended: it is told once.
    is_told: bool,
}

/// Whose connection it is, and where what it brings is counted.
#[derive(Clone)]
pub struct Tally {
    pub address: SocketAddr,
    /// None: not counted.
    pub metrics: Option<Arc<Metrics>>,
    /// Bytes that came so far.
    pub received_bytes: Arc<AtomicU64>,
}

/// Tokio's reactor with [`Wire`]s for connections.
#[derive(Debug, Clone)]
pub struct Wires(Tokio);

/// The runtime of the calling task, for the library.
pub fn runtime() -> Runtime<RuntimeParts<Tokio, Wires>> {
    Runtime::new(RuntimeParts::new(Tokio::current(), Wires(Tokio::current())))
}

impl Wire {
    /// `frame_bytes_max`: what the library asks for; none leaves it to the broker.
    pub fn new(inner: AsyncTcpStream<Tcp>, frame_bytes_max: Option<u32>, tally: Tally) -> Self {
        Self { inner, mender: Mender::new(frame_bytes_max), tally, is_told: false }
    }

    /// Counts what was mended, and says it the first time: never the bytes, which are a producer's.
    fn tell(&mut self) {
        let Some(mended) = self.mender.take_mended() else { return };
        if let Some(metrics) = &self.tally.metrics {
            metrics.amqp_mended_frames.inc_by(mended.frames);
        }
        if !std::mem::replace(&mut self.is_told, true) {
            warn!(
                field = mended.field,
                address = %self.tally.address,
                "a producer's bytes are not what AMQP allows; replaced, here and further on"
            );
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        room: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let wire = self.get_mut();
        if room.is_empty() {
            return Poll::Ready(Ok(0));
        }
        loop {
            if wire.mender.is_ready() {
                return Poll::Ready(Ok(wire.mender.give(room)));
            }
            let wanted = wire.mender.wanted();
            let len = if wanted == 0 { room.len() } else { wanted.min(room.len()) };
            let read = Pin::new(&mut wire.inner).poll_read(context, &mut room[..len]);
            let len = ready!(read)?;
            wire.tally.received_bytes.fetch_add(len as u64, Ordering::Relaxed);
            let passed = match (len, wanted) {
                (0, 0) => return Poll::Ready(Ok(0)),
                (0, _) => {
                    wire.mender.end();
                    0
                }
                (_, 0) => wire.mender.pass(&mut room[..len]),
                (_, _) => {
                    wire.mender.hold(&room[..len]);
                    0
                }
            };
            wire.tell();
            if passed > 0 {
                return Poll::Ready(Ok(passed));
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, pieces)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(context)
    }
}

impl Reactor for Wires {
    type TcpStream = Wire;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: Read + Write + AsFd + AsRawFd + Send + 'static>(
        &self,
        socket: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        self.0.register(socket)
    }

    fn sleep(&self, duration: Duration) -> Self::Sleep {
        self.0.sleep(duration)
    }

    fn interval(&self, duration: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.0.interval(duration)
    }

    fn tcp_connect_addr(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        let connecting = self.0.tcp_connect_addr(address);
        async move {
            let stream = AsyncTcpStream::Plain(connecting.await?);
            let tally = Tally { address, metrics: None, received_bytes: Arc::default() };
            Ok(Wire::new(stream, None, tally))
        }
    }
}
