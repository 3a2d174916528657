//! A session's writes: entries borrowed from the history for the length of one, and what is noted of it.
//! Reads nothing, and keeps no block.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::Instant;

use super::{Session, Transport};
use crate::history::{Entries, Entry, Kept, Lag};
use crate::metrics::Disconnect;
use crate::protocol::Cause;
use crate::session::source::Offer;
use crate::session::view::Slices;
use crate::session::writer::Scratch;

/// A turn's bound: a session far behind lets others have theirs after this much.
const TURN_BYTES_MAX: usize = 1 << 20;
/// Portions of the history without a byte on this stream (empty blocks) that one turn passes over.
const TURN_EMPTY_PORTIONS_MAX: usize = 16;

/// What the history gave.
enum Borrowed {
    /// Entries to write from; none at the end, or when only a close is to be written.
    Entries(Lag),
    /// A turn's worth of entries without a byte on this stream; there may be more.
    OnlyEmpty,
}

impl<T: Transport> Session<T> {
    /// Writes one portion. Pending: the socket is full, or all is written.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Disconnect>> {
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
            let lag = match ready!(self.poll_entries(cx, &mut entries)) {
                Ok(Borrowed::Entries(lag)) => lag,
                Ok(Borrowed::OnlyEmpty) => return Poll::Ready(Ok(())),
                Err(disconnect) => return Poll::Ready(Err(disconnect)),
            };
            let write = {
                let (mut none, mut slices) = (Scratch::default(), Slices::new());
                let scratch = self.scratch.as_deref_mut().unwrap_or(&mut none);
                self.outbound.slices(&entries, scratch, &mut slices);
                if slices.is_empty() {
                    self.blocked_since = None;
                    return Poll::Pending;
                }
                let transport = Pin::new(&mut self.transport);
                match &slices[..] {
                    // The kernel takes one slice with less ado.
                    [slice] => transport.poll_write(cx, slice),
                    slices => transport.poll_write_vectored(cx, slices),
                }
            };
            match write {
                Poll::Ready(Ok(written)) if written > 0 => {
                    self.take_note(&entries, written, lag);
                    if self.has_written_all(&entries, lag) {
                        return Poll::Pending;
                    }
                    left = left.saturating_sub(written);
                    if left == 0 {
                        return Poll::Ready(Ok(()));
                    }
                }
                Poll::Ready(_) => return Poll::Ready(Err(self.lost())),
                Poll::Pending => {
                    self.is_blocked();
                    return Poll::Pending;
                }
            }
        }
    }

    /// Takes the next entries; a client that cannot be served further begins to be closed. Pending:
    /// its turn with the broker is over until the socket takes bytes.
    fn poll_entries(
        &mut self,
        cx: &mut Context<'_>,
        entries: &mut Entries,
    ) -> Poll<Result<Borrowed, Disconnect>> {
        let nothing = Borrowed::Entries(Lag::default());
        for _ in 0..TURN_EMPTY_PORTIONS_MAX {
            entries.clear();
            if self.feed.is_looking() {
                self.begin(Instant::now());
            }
            // While its start is looked for its cursor is anywhere, also behind its end.
            if self.outbound.is_done() && !self.outbound.is_closing() && !self.feed.is_looking() {
                self.close(&Cause::Done);
            }
            if !self.outbound.wants_blocks() || self.feed.is_looking() {
                return Poll::Ready(Ok(nothing));
            }
            let lag = match self.feed.offer(&mut self.outbound, TURN_BYTES_MAX, entries) {
                Ok(Offer::Entries(lag)) => lag,
                Ok(Offer::Nothing) => return Poll::Ready(Ok(nothing)),
                Ok(Offer::Suspended) => {
                    if self.outbound.has_own() && self.outbound.may_write_own() {
                        return Poll::Ready(Ok(nothing));
                    }
                    if self.transport.poll_writable(cx).is_pending() {
                        self.is_blocked();
                        return Poll::Pending;
                    }
                    self.is_unblocked();
                    self.feed.resume(&self.outbound);
                    continue;
                }
                Err(end) => {
                    entries.clear();
                    match self.let_go(end) {
                        Ok(()) => continue,
                        Err(disconnect) => return Poll::Ready(Err(disconnect)),
                    }
                }
            };
            let mut none = Scratch::default();
            let scratch = self.scratch.as_deref_mut().unwrap_or(&mut none);
            if !self.outbound.goes_on_in(entries, scratch) {
                entries.clear();
                return Poll::Ready(Err(self.break_off()));
            }
            self.outbound.pass_empty(entries, scratch);
            self.tell_fills(lag);
            let next_height = self.outbound.cursor().next_height;
            let is_passed = entries.last().is_some_and(|last| last.last_height() < next_height);
            if !is_passed && !self.outbound.is_done() || self.outbound.has_own() {
                return Poll::Ready(Ok(Borrowed::Entries(lag)));
            }
        }
        Poll::Ready(Ok(Borrowed::OnlyEmpty))
    }

    /// Whether that was all there is: what comes after the look wakes this task.
    fn has_written_all(&self, entries: &[Entry], lag: Lag) -> bool {
        let next_height = self.outbound.cursor().next_height;
        self.feed.is_shared()
            && entries.len() == lag.blocks_behind
            && entries.last().is_some_and(|last| last.last_height() < next_height)
            && !self.outbound.has_own()
            && self.outbound.wants_blocks()
    }

    fn take_note(&mut self, entries: &[Entry], written: usize, lag: Lag) {
        let metrics = &self.around.metrics;
        let began_at = self.began_at.into_std();
        // What is read back was appended to a history of its own, and only just.
        let is_shared = self.feed.is_shared();
        let mut finished = |kept: &Kept| {
            if is_shared && kept.appended_at >= began_at {
                metrics.append_to_write_seconds.observe(kept.appended_at.elapsed().as_secs_f64());
            }
        };
        let mut none = Scratch::default();
        let scratch = self.scratch.as_deref_mut().unwrap_or(&mut none);
        let messages = self.outbound.advance(entries, written, scratch, &mut finished);
        self.feed.wrote(&self.outbound);
        metrics.sent_messages.inc_by(messages as u64);
        metrics.sent_bytes.inc_by(written as u64);
        if let Some(seen) = &self.seen {
            seen.sent(messages as u64, written as u64);
        }
        if is_shared && lag.blocks_behind > 0 {
            metrics.session_lag_blocks.observe((lag.blocks_behind - 1) as f64);
        }
        if self.is_told_of_life() && messages > 0 {
            self.told_at = Instant::now();
        }
        self.is_unblocked();
    }
}
