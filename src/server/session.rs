//! One client: a cursor on the history, a socket, and a clock. It ends in exactly one
//! [`Disconnect`], which is counted.
//!
//! Nothing is queued here. Blocks are borrowed from the history for the length of one write and let
//! go, so that a client which stops reading keeps no block alive. Never waits on another session.

use std::future::poll_fn;
use std::io::IoSlice;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::close::{self, Cause};
use super::inbound::{Fault, Heard, Inbound};
use super::outbound::{Outbound, SLICES_MAX, Stream};
use crate::archive::Archive;
use crate::config;
use crate::history::{Cursor, Entries, Entry, Gone, History, Kept, Lag};
use crate::metrics::{Disconnect, Metrics};
use crate::shutdown::Drain;

/// What a client sends is small and rare; this much is read at a time, on the stack.
const READ_BYTES: usize = 1_024;
/// A turn's bound: a session far behind lets others have theirs after this much.
const TURN_BYTES_MAX: usize = 1 << 20;
/// Of tokio's 128 operations per turn, so that some are left for writing and waiting.
const TURN_READS_MAX: usize = 16;
/// Portions of the history without a byte on this stream (empty blocks) that one turn passes over.
const TURN_EMPTY_PORTIONS_MAX: usize = 16;
/// From the decision to close until the socket is dropped, whatever the client does.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A byte stream to a client.
pub trait Transport: AsyncRead + AsyncWrite + Unpin + Send {
    /// Makes dropping it give up at once what the kernel still holds for it.
    fn reset_on_drop(&self);
}

/// What every session looks at.
pub struct Surroundings {
    pub limits: config::Server,
    pub history: Arc<History>,
    pub archive: Arc<Archive>,
    pub metrics: Arc<Metrics>,
    pub drain: Arc<Drain>,
}

pub struct Session<T> {
    transport: T,
    around: Arc<Surroundings>,
    inbound: Inbound,
    outbound: Outbound,
    began_at: Instant,
    /// When bytes last came, or went although the socket had been full.
    alive_at: Instant,
    pinged: bool,
    /// Since when the socket takes nothing though there is something.
    blocked_since: Option<Instant>,
    drained_at: Option<Instant>,
    /// Set with the close frame; its end is the session's.
    closing: Option<Closing>,
    is_write_shut: bool,
}

#[derive(Debug, Clone, Copy)]
struct Closing {
    disconnect: Disconnect,
    until: Instant,
}

/// How reading ended.
enum Read {
    /// A turn's reads are used up.
    More,
    Ended(Disconnect),
}

/// What the history gave.
enum Borrowed {
    /// Entries to write from; none at the end, or when only a close is to be written.
    Entries(Lag),
    /// A turn's worth of entries without a byte on this stream; there may be more.
    OnlyEmpty,
}

/// Why a turn ended.
enum Turn {
    /// Its portion is used up; there is more.
    More,
    /// Something is due earlier than the timer knows.
    Sooner,
    Ended(Disconnect),
}

impl<T: Transport> Session<T> {
    /// A session that begins at `cursor`, taken before the client was told that it is connected.
    pub fn new(transport: T, around: Arc<Surroundings>, stream: Stream, cursor: Cursor) -> Self {
        let now = Instant::now();
        Self {
            transport,
            inbound: Inbound::new(around.limits.max_message_bytes.as_u64()),
            outbound: Outbound::new(stream, cursor),
            around,
            began_at: now,
            alive_at: now,
            pinged: false,
            blocked_since: None,
            drained_at: None,
            closing: None,
            is_write_shut: false,
        }
    }

    /// A session that is only opened to tell why it is refused.
    pub fn refused(transport: T, around: Arc<Surroundings>, cause: &Cause) -> Self {
        let cursor = around.history.live_cursor();
        let mut session = Self::new(transport, around, Stream::Transactions, cursor);
        session.close(cause);
        session
    }

    /// Serves the client until one side ends it.
    pub async fn run(mut self) -> Disconnect {
        let around = Arc::clone(&self.around);
        let mut moved = around.history.watch();
        let mut timer = pin!(tokio::time::sleep_until(self.deadline()));
        loop {
            moved.borrow_and_update();
            if let Some(disconnect) = self.look_at_clock(Instant::now()) {
                return disconnect;
            }
            let deadline = self.deadline();
            if deadline < timer.deadline() || timer.is_elapsed() {
                timer.as_mut().reset(deadline);
            }
            tokio::select! {
                biased;
                turn = poll_fn(|cx| self.poll_turn(cx, deadline)) => match turn {
                    Turn::More => tokio::task::yield_now().await,
                    Turn::Sooner => {}
                    Turn::Ended(disconnect) => return disconnect,
                },
                _ = moved.changed() => {}
                () = &mut timer => {}
            }
        }
    }

    /// Reads what there is, then writes what goes; the timer stands at `deadline`.
    fn poll_turn(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<Turn> {
        let read = self.poll_read(cx);
        if let Poll::Ready(Read::Ended(disconnect)) = read {
            if self.outbound.is_closing() {
                // A client that closed and shut its side at once may still read our answer.
                let _ = self.poll_write(cx);
            }
            return Poll::Ready(Turn::Ended(disconnect));
        }
        match self.poll_write(cx) {
            Poll::Ready(Err(disconnect)) => Poll::Ready(Turn::Ended(disconnect)),
            Poll::Ready(Ok(())) => Poll::Ready(Turn::More),
            Poll::Pending if read.is_ready() => Poll::Ready(Turn::More),
            Poll::Pending if self.deadline() < deadline => Poll::Ready(Turn::Sooner),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Reads what there is, up to a turn's bound: a client that never stops sending must not keep
    /// the clock, the writes and tokio's budget for them from their turn.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Read> {
        for _ in 0..TURN_READS_MAX {
            let mut bytes = [0; READ_BYTES];
            let mut buffer = ReadBuf::new(&mut bytes);
            match ready!(Pin::new(&mut self.transport).poll_read(cx, &mut buffer)) {
                Ok(()) if buffer.filled().is_empty() => {
                    return Poll::Ready(Read::Ended(self.ended_by_client()));
                }
                Ok(()) => self.listen(buffer.filled()),
                Err(_) => return Poll::Ready(Read::Ended(self.lost())),
            }
        }
        Poll::Ready(Read::More)
    }

    /// Takes bytes that the client sent; also those that came with its handshake.
    pub fn listen(&mut self, mut bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.alive_at = Instant::now();
        self.pinged = false;
        while self.closing.is_none() {
            match self.inbound.next(&mut bytes) {
                Ok(None) => return,
                Ok(Some(Heard::Pong)) => {}
                Ok(Some(Heard::Ping(payload))) => self.outbound.pong(payload),
                Ok(Some(Heard::Close(code))) => {
                    self.begin_close(close::echo_frame(code), Disconnect::Client);
                }
                Err(Fault::Protocol(fault)) => self.close(&Cause::Protocol(fault)),
                Err(Fault::NotUtf8) => self.close(&Cause::NotUtf8),
                Err(Fault::TooBig) => self.close(&Cause::TooBig),
            }
        }
    }

    /// Writes one portion. Pending: the socket is full, or all is written.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Disconnect>> {
        let mut entries = Entries::new();
        let mut left = TURN_BYTES_MAX;
        loop {
            if self.is_write_shut {
                return Poll::Pending;
            }
            if self.outbound.is_close_written() {
                // The peer's own close, or its end of stream, is awaited by poll_read.
                let shut = Pin::new(&mut self.transport).poll_shutdown(cx);
                self.is_write_shut = ready!(shut).is_ok();
                return match self.is_write_shut {
                    true => Poll::Pending,
                    false => Poll::Ready(Err(self.lost())),
                };
            }
            let lag = match self.borrow_entries(&mut entries) {
                Ok(Borrowed::Entries(lag)) => lag,
                Ok(Borrowed::OnlyEmpty) => return Poll::Ready(Ok(())),
                Err(disconnect) => return Poll::Ready(Err(disconnect)),
            };
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = self.outbound.slices(&entries, &mut slices);
            if count == 0 {
                self.blocked_since = None;
                return Poll::Pending;
            }
            let write = Pin::new(&mut self.transport).poll_write_vectored(cx, &slices[..count]);
            match write {
                Poll::Ready(Ok(written)) if written > 0 => {
                    self.take_note(&entries, written, lag);
                    left = left.saturating_sub(written);
                    if left == 0 {
                        return Poll::Ready(Ok(()));
                    }
                }
                Poll::Ready(_) => return Poll::Ready(Err(self.lost())),
                Poll::Pending => {
                    self.blocked_since.get_or_insert_with(Instant::now);
                    return Poll::Pending;
                }
            }
        }
    }

    /// Takes the next entries from the history; a cursor that it no longer has begins a close.
    fn borrow_entries(&mut self, entries: &mut Entries) -> Result<Borrowed, Disconnect> {
        entries.clear();
        for _ in 0..TURN_EMPTY_PORTIONS_MAX {
            if !self.outbound.wants_blocks() {
                return Ok(Borrowed::Entries(Lag { blocks_behind: 0 }));
            }
            let cursor = self.outbound.cursor();
            match self.around.history.entries_from(cursor, TURN_BYTES_MAX, entries) {
                Ok(lag) => {
                    self.outbound.pass_empty(entries);
                    let next_height = self.outbound.cursor().next_height;
                    if entries.last().is_none_or(|last| next_height <= last.last_height()) {
                        return Ok(Borrowed::Entries(lag));
                    }
                }
                Err(gone) => self.let_go(gone, entries)?,
            }
        }
        Ok(Borrowed::OnlyEmpty)
    }

    /// Begins the close of a client that cannot be served further; in the middle of a frame there
    /// is nothing left to say.
    fn let_go(&mut self, gone: Gone, entries: &mut Entries) -> Result<(), Disconnect> {
        entries.clear();
        let cause = match gone {
            Gone::FellOff => Cause::TooSlow,
            Gone::AnotherChain => Cause::AnotherChain,
        };
        if !self.outbound.is_at_frame_end() {
            self.transport.reset_on_drop();
            return Err(self.closing.map_or(cause.disconnect(), |closing| closing.disconnect));
        }
        self.close(&cause);
        Ok(())
    }

    fn take_note(&mut self, entries: &[Entry], written: usize, lag: Lag) {
        let metrics = &self.around.metrics;
        let began_at = self.began_at.into_std();
        let mut finished = |kept: &Kept| {
            if kept.appended_at >= began_at {
                metrics.append_to_write_seconds.observe(kept.appended_at.elapsed().as_secs_f64());
            }
        };
        let messages = self.outbound.advance(entries, written, &mut finished);
        metrics.sent_messages.inc_by(messages as u64);
        metrics.sent_bytes.inc_by(written as u64);
        if lag.blocks_behind > 0 {
            metrics.session_lag_blocks.observe((lag.blocks_behind - 1) as f64);
        }
        if self.blocked_since.take().is_some() {
            self.alive_at = Instant::now();
        }
    }

    fn close(&mut self, cause: &Cause) {
        let frame = cause.frame(&self.outbound.position());
        self.begin_close(frame, cause.disconnect());
    }

    fn begin_close(&mut self, frame: Vec<u8>, disconnect: Disconnect) {
        if self.closing.is_none() {
            self.outbound.close(frame);
            self.closing = Some(Closing { disconnect, until: Instant::now() + CLOSE_TIMEOUT });
        }
    }

    /// What is due by now. Returns how the session ended, if it is over.
    fn look_at_clock(&mut self, now: Instant) -> Option<Disconnect> {
        let limits = &self.around.limits;
        if let Some(closing) = self.closing {
            if now < closing.until {
                return None;
            }
            self.transport.reset_on_drop();
            return Some(closing.disconnect);
        }
        if self.blocked_since.is_some_and(|since| now >= since + limits.write_stall_timeout) {
            self.transport.reset_on_drop();
            return Some(Disconnect::Stalled);
        }
        if self.drained_at.is_none() {
            self.drained_at = self.around.drain.draw_close_time();
        }
        if self.drained_at.is_some_and(|at| now >= at) {
            self.close(&Cause::Draining);
        } else if self.pinged && now >= self.alive_at + limits.ping_interval + limits.pong_timeout {
            self.close(&Cause::NoPong);
        } else if !self.pinged && now >= self.alive_at + limits.ping_interval {
            self.pinged = true;
            self.outbound.ping();
        }
        None
    }

    /// When [`Self::look_at_clock`] has something to do next.
    fn deadline(&self) -> Instant {
        let limits = &self.around.limits;
        if let Some(closing) = self.closing {
            return closing.until;
        }
        let silence = match self.pinged {
            true => limits.ping_interval + limits.pong_timeout,
            false => limits.ping_interval,
        };
        let stalled_at = self.blocked_since.map(|since| since + limits.write_stall_timeout);
        [stalled_at, self.drained_at]
            .into_iter()
            .flatten()
            .fold(self.alive_at + silence, Instant::min)
    }

    /// The client's end of stream: the answer to our close, or its own end without one.
    fn ended_by_client(&self) -> Disconnect {
        self.closing.map_or(Disconnect::Client, |closing| closing.disconnect)
    }

    fn lost(&self) -> Disconnect {
        self.closing.map_or(Disconnect::Lost, |closing| closing.disconnect)
    }
}

impl Transport for tokio::net::TcpStream {
    fn reset_on_drop(&self) {
        // Failing only means that the kernel keeps trying for a while.
        let _ = socket2::SockRef::from(self).set_linger(Some(Duration::ZERO));
    }
}

#[cfg(test)]
mod tests;
