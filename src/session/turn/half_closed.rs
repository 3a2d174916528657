//! A client of an event stream that says nothing more: it may read on (`nc -N`, tools of HTTP/1.0), or be
//! gone. What is written shows which, since one that is gone answers with a reset.

use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use super::{Session, Transport};
use crate::metrics::Disconnect;

/// How long a reset may take, on slow lines too.
const RESET_WAIT: Duration = Duration::from_secs(1);

impl<T: Transport> Session<T> {
    /// Takes note of the end of what the client sends. Pending: it may still read.
    pub(super) fn read_end(&mut self) -> Poll<Disconnect> {
        // A WebSocket client that reads on sends a close first, and pongs.
        if self.inbound.is_some() || self.is_write_shut {
            return Poll::Ready(self.ended_by_client());
        }
        if !self.is_read_shut {
            self.is_read_shut = true;
            let until = Instant::now() + RESET_WAIT;
            self.doubted_until = Some(until);
            self.look_by(until);
            // Nobody else waits for what may be read for nobody.
            self.source.suspend();
            if !self.writer.is_closing() {
                self.show_life();
            }
        } else if self.transport.is_reset() {
            return Poll::Ready(self.lost());
        }
        Poll::Pending
    }

    /// Whether it is not known yet whether the client is still there: what costs others is not begun.
    pub(super) fn is_doubted(&self) -> bool {
        self.doubted_until.is_some()
    }

    /// Goes on with a client that has not answered with a reset.
    pub(super) fn end_doubt(&mut self, now: Instant) {
        self.doubted_until = self.doubted_until.filter(|until| now < *until);
    }
}
