//! What a session writes to and reads from: a TCP connection, with TLS or without, and in tests a pipe.
//! Knows nothing of frames.

use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A byte stream to a client.
pub trait Transport: AsyncRead + AsyncWrite + Unpin + Send {
    /// Makes dropping it give up at once what the kernel still holds for it.
    fn reset_on_drop(&self);

    /// Ready when it may take bytes.
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()>;

    /// Ends when what was sent stays unacknowledged for so long, where that is known.
    fn give_up_after(&self, _silence: Duration) {}
}

impl Transport for TcpStream {
    fn reset_on_drop(&self) {
        // Failing only means that the kernel keeps trying for a while.
        let _ = socket2::SockRef::from(self).set_linger(Some(Duration::ZERO));
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        // An error shows when something is written.
        self.poll_write_ready(cx).map(|_| ())
    }

    fn give_up_after(&self, silence: Duration) {
        // Failing only means that the kernel keeps trying for longer.
        let _ = socket2::SockRef::from(self).set_tcp_user_timeout(Some(silence));
    }
}
