//! A connection as HTTP is given it, which keeps back what HTTP says by itself: a bare status where a request
//! cannot be read, of which nobody learns what to mend.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::course::Course;

/// Where a status stands in an answer's first line.
const STATUS: std::ops::Range<usize> = 9..12;

pub struct Spoken<T> {
    transport: T,
    /// Told what comes, and when all is sent.
    course: Arc<Course>,
    kept_back: Option<u16>,
}

impl<T> Spoken<T> {
    pub fn new(transport: T, course: Arc<Course>) -> Self {
        Self { transport, course, kept_back: None }
    }

    /// The status of the answer that was kept back, if one was.
    pub fn kept_back(&self) -> Option<u16> {
        self.kept_back
    }

    pub fn into_transport(self) -> T {
        self.transport
    }

    /// Whether these bytes stay here. Behind a bare answer nothing comes.
    fn keeps_back(&mut self, bytes: &[u8]) -> bool {
        self.kept_back = self.kept_back.or_else(|| bare_status(bytes));
        self.kept_back.is_some()
    }
}

/// The status of a refusal without a body; ours all have one.
fn bare_status(answer: &[u8]) -> Option<u16> {
    let has = |text: &str| answer.windows(text.len()).any(|bytes| bytes == text.as_bytes());
    let is_bare = answer.starts_with(b"HTTP/1.1 4") && has("content-length: 0\r\n");
    let status = std::str::from_utf8(answer.get(STATUS)?).ok()?;
    status.parse().ok().filter(|_| is_bare && !has("content-type: "))
}

impl<T: AsyncRead + Unpin> AsyncRead for Spoken<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.transport).poll_read(cx, buffer));
        self.course.read(&buffer.filled()[before..]);
        Poll::Ready(read)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Spoken<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.keeps_back(bytes) {
            true => Poll::Ready(Ok(bytes.len())),
            false => Pin::new(&mut self.transport).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = slices.iter().find(|slice| !slice.is_empty());
        match first.is_some_and(|first| self.keeps_back(first)) {
            true => Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum())),
            false => Pin::new(&mut self.transport).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.transport).poll_flush(cx))?;
        self.course.flushed();
        Poll::Ready(Ok(()))
    }

    /// Whoever answers instead ends it.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.kept_back.is_none() {
            ready!(Pin::new(&mut self.transport).poll_shutdown(cx))?;
        }
        Poll::Ready(Ok(()))
    }
}
