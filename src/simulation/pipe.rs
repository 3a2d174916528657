//! The network between a session and its client: takes and gives as much as it pleases.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use fastrand::Rng;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::server::testing::Transport;

/// Of a hundred writes, how many find a full socket that takes bytes a moment later.
const BUSY_PERCENT: u8 = 5;

/// When bytes were written.
#[derive(Debug, Clone, Copy)]
pub struct Stamp {
    pub step: u64,
    pub at: Instant,
}

/// The client's end.
pub struct Pipe(Arc<Mutex<Inner>>);

/// The server's end.
pub struct ServerEnd(Arc<Mutex<Inner>>);

struct Inner {
    random: Rng,
    /// What the world's step is.
    step: Arc<AtomicU64>,
    to_client: VecDeque<u8>,
    to_client_max: usize,
    /// Where each write ended, counted from the first byte on; those that were read are gone.
    written: VecDeque<(u64, Stamp)>,
    written_bytes: u64,
    read_bytes: u64,
    to_server: VecDeque<u8>,
    is_client_shut: bool,
    is_client_gone: bool,
    is_server_shut: bool,
    is_server_gone: bool,
    is_reset: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

pub fn pipe(random: Rng, step: Arc<AtomicU64>, to_client_max: usize) -> (Pipe, ServerEnd) {
    let inner = Inner {
        random,
        step,
        to_client: VecDeque::new(),
        to_client_max,
        written: VecDeque::new(),
        written_bytes: 0,
        read_bytes: 0,
        to_server: VecDeque::new(),
        is_client_shut: false,
        is_client_gone: false,
        is_server_shut: false,
        is_server_gone: false,
        is_reset: false,
        reader: None,
        writer: None,
    };
    let inner = Arc::new(Mutex::new(inner));
    (Pipe(Arc::clone(&inner)), ServerEnd(inner))
}

impl Pipe {
    /// Reads at most `bytes_max` of one write. None: nothing is there.
    pub fn read(&self, bytes_max: usize) -> Option<(Vec<u8>, Stamp)> {
        let mut inner = lock(&self.0);
        let &(end, stamp) = inner.written.front()?;
        let of_write = (end - inner.read_bytes) as usize;
        let len = of_write.min(bytes_max);
        let bytes = inner.to_client.drain(..len).collect();
        inner.read_bytes += len as u64;
        if len == of_write {
            inner.written.pop_front();
        }
        wake(&mut inner.writer);
        Some((bytes, stamp))
    }

    /// Whether nothing more will come.
    pub fn is_at_end(&self) -> bool {
        let inner = lock(&self.0);
        inner.to_client.is_empty() && (inner.is_server_shut || inner.is_server_gone)
    }

    pub fn write(&self, bytes: &[u8]) {
        let mut inner = lock(&self.0);
        inner.to_server.extend(bytes);
        wake(&mut inner.reader);
    }

    /// Says that nothing more is sent, and goes on reading.
    pub fn shut(&self) {
        let mut inner = lock(&self.0);
        inner.is_client_shut = true;
        wake(&mut inner.reader);
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let mut inner = lock(&self.0);
        inner.is_client_gone = true;
        wake(&mut inner.reader);
        wake(&mut inner.writer);
    }
}

impl Drop for ServerEnd {
    fn drop(&mut self) {
        let mut inner = lock(&self.0);
        inner.is_server_gone = true;
        // What the client has not read yet may be lost with a reset.
        if inner.is_reset && inner.random.bool() {
            inner.to_client.clear();
            inner.written.clear();
        }
    }
}

impl Transport for ServerEnd {
    fn reset_on_drop(&self) {
        lock(&self.0).is_reset = true;
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = lock(&self.0);
        if inner.room() > 0 || inner.is_client_gone {
            return Poll::Ready(());
        }
        inner.writer = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl AsyncRead for ServerEnd {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut inner = lock(&self.0);
        if inner.to_server.is_empty() {
            if inner.is_client_shut || inner.is_client_gone {
                return Poll::Ready(Ok(()));
            }
            inner.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let most = inner.to_server.len().min(buffer.remaining());
        let len = inner.random.usize(1..=most);
        let bytes: Vec<u8> = inner.to_server.drain(..len).collect();
        buffer.put_slice(&bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ServerEnd {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut inner = lock(&self.0);
        if inner.is_client_gone {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if inner.room() == 0 {
            inner.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if inner.random.u8(0..100) < BUSY_PERCENT {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let offered: usize = slices.iter().map(|slice| slice.len()).sum();
        let most = offered.min(inner.room());
        let len = if inner.random.bool() { most } else { inner.random.usize(1..=most) };
        let mut left = len;
        for slice in slices {
            let here = slice.len().min(left);
            inner.to_client.extend(&slice[..here]);
            left -= here;
        }
        inner.written_bytes += len as u64;
        let stamp = Stamp { step: inner.step.load(Ordering::Relaxed), at: Instant::now() };
        let end = inner.written_bytes;
        inner.written.push_back((end, stamp));
        Poll::Ready(Ok(len))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.0).is_server_shut = true;
        Poll::Ready(Ok(()))
    }
}

impl Inner {
    fn room(&self) -> usize {
        self.to_client_max - self.to_client.len()
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

fn lock(inner: &Arc<Mutex<Inner>>) -> MutexGuard<'_, Inner> {
    inner.lock().expect("bug: nothing panics while it holds this lock")
}
