//! What a session writes to and reads from: a TCP connection, with TLS or without, and in tests a pipe.
//! Knows nothing of frames.

use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::TcpStream;

/// A byte stream to a client.
pub trait Transport: AsyncRead + AsyncWrite + Unpin + Send {
    /// Makes dropping it give up at once what the kernel still holds for it.
    fn reset_on_drop(&self);

    /// Whether a read may find anything; asked instead of one while the task is to be woken by it.
    fn may_be_read(&self) -> bool {
        true
    }

    /// Ready when it may take bytes.
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()>;

    /// Whether the client has answered with a reset; asked where no read would say so.
    fn is_reset(&self) -> bool {
        false
    }

    /// Ends when what was sent stays unacknowledged for so long, where that is known.
    fn give_up_after(&self, _silence: Duration) {}
}

impl Transport for TcpStream {
    fn reset_on_drop(&self) {
        // Failing only means that the kernel keeps trying for a while.
        let _ = socket2::SockRef::from(self).set_linger(Some(Duration::ZERO));
    }

    fn may_be_read(&self) -> bool {
        // Asks neither the kernel nor for a lock.
        self.try_io(Interest::READABLE, || Ok(())).is_ok()
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        // An error shows when something is written.
        self.poll_write_ready(cx).map(|_| ())
    }

    fn is_reset(&self) -> bool {
        // The kernel tells it once; then a write fails.
        !matches!(self.take_error(), Ok(None))
    }

    fn give_up_after(&self, silence: Duration) {
        // Failing only means that the kernel keeps trying for longer.
        let _ = socket2::SockRef::from(self).set_tcp_user_timeout(Some(silence));
    }
}
