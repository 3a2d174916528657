//! A session's writes: entries borrowed from the history for the length of one, and what is noted of it.
//! Reads nothing, and keeps no block.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::Instant;

use super::{Session, Transport};
use crate::history::{CachedBlock, Entries, Entry, Lag};
use crate::metrics::Disconnect;
use crate::protocol::Cause;
use crate::session::source::Offer;
use crate::session::view::{Selection, Slices, Views};

/// A turn's bound: a session far behind lets others have theirs after this much.
const TURN_BYTES_MAX: usize = 1 << 20;
/// Looks at the source that one turn takes at most without a byte to write: portions of empty blocks, say.
const TURN_EMPTY_LOOKS_MAX: usize = 16;

/// What a look at the source came to.
enum Look {
    /// Entries to write from; none at the end.
    Entries(Lag),
    /// No entries are wanted, or none are there before the source wakes this task.
    Nothing,
    /// The next look comes to something else.
    Again,
}

impl<T: Transport> Session<T> {
    /// Writes one turn's worth. Pending: the socket is full, or all is written.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Disconnect>> {
        // Lent for the turn: views borrow it while the session changes.
        let mut selection = self.selection.take();
        let written = match &mut selection {
            Some(selection) => self.poll_portions(cx, selection),
            None => self.poll_portions(cx, &mut Selection::default()),
        };
        if written.is_pending()
            && let Some(selection) = &mut selection
        {
            selection.let_go();
        }
        self.selection = selection;
        written
    }

    /// Takes and writes one portion of the history after the other.
    fn poll_portions(
        &mut self,
        cx: &mut Context<'_>,
        selection: &mut Selection,
    ) -> Poll<Result<(), Disconnect>> {
        if self.is_still_blocked(cx) {
            return Poll::Pending;
        }
        let mut entries = Entries::new();
        let (mut bytes_left, mut empty_looks) = (TURN_BYTES_MAX, 0);
        while empty_looks < TURN_EMPTY_LOOKS_MAX {
            if self.is_write_shut {
                return Poll::Pending;
            }
            if self.writer.is_close_written() {
                // The peer's own close, or its end of stream, is awaited by poll_read.
                let shut = Pin::new(&mut self.transport).poll_shutdown(cx);
                self.is_write_shut = ready!(shut).is_ok();
                return match self.is_write_shut {
                    true => Poll::Pending,
                    false => Poll::Ready(Err(self.lost())),
                };
            }
            let lag = match ready!(self.poll_look(cx, &mut entries)) {
                Ok(Look::Entries(lag)) => Some(lag),
                Ok(Look::Nothing) => None,
                Ok(Look::Again) => {
                    empty_looks += 1;
                    continue;
                }
                Err(disconnect) => return Poll::Ready(Err(disconnect)),
            };
            if let Some(lag) = lag {
                self.tell_fills(lag);
                if self.source.owes_fills() && self.writer.is_at_message_end() {
                    // Which of them the client has passed is known as long as it passes nothing.
                    entries.clear();
                }
            }
            let mut views = Views::new();
            if !self.writer.view(&mut views, &entries, self.source.cursor(), selection) {
                drop(views);
                self.writer.count_batch(&entries, self.source.cursor(), selection);
                return Poll::Ready(Ok(()));
            }
            if lag.is_some() {
                if !self.writer.goes_on_in(&views) {
                    return Poll::Ready(Err(self.break_off()));
                }
                self.writer.pass_empty(&mut views);
                self.source.move_to(views.next_height());
                let is_passed = !entries.is_empty() && views.is_passed();
                if (is_passed || self.is_done()) && !self.writer.has_queued() {
                    empty_looks += 1;
                    continue;
                }
            }
            let lag = lag.unwrap_or_default();
            match ready!(self.poll_views(cx, &entries, &mut views, lag, &mut bytes_left)) {
                Ok(()) if bytes_left > 0 => {}
                ended => return Poll::Ready(ended),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Whether the socket took nothing and still takes nothing. Then nothing is looked for, picked out or put
    /// together for its client.
    fn is_still_blocked(&mut self, cx: &mut Context<'_>) -> bool {
        self.liveness.is_blocked()
            && !self.source.is_looking()
            && self.source.is_there()
            && self.transport.poll_writable(cx).is_pending()
    }

    /// Takes the next entries; a client that cannot be served further begins to be closed. Pending: its
    /// turn with the broker is over until the socket takes bytes.
    fn poll_look(
        &mut self,
        cx: &mut Context<'_>,
        entries: &mut Entries,
    ) -> Poll<Result<Look, Disconnect>> {
        entries.clear();
        if self.source.is_looking() {
            self.begin(Instant::now());
        }
        // While its start is looked for its cursor is anywhere, also behind its end.
        if self.is_done() && !self.writer.is_closing() && !self.source.is_looking() {
            self.close(&Cause::Done);
        }
        if !self.wants_blocks() || self.source.is_looking() {
            return Poll::Ready(Ok(Look::Nothing));
        }
        let (writer, is_between) = (&self.writer, self.writer.is_between_blocks());
        let required = |events_before| writer.required_encodings(events_before);
        match self.source.offer(is_between, required, TURN_BYTES_MAX, entries) {
            Ok(Offer::Entries(lag)) => Poll::Ready(Ok(Look::Entries(lag))),
            Ok(Offer::Nothing) => Poll::Ready(Ok(Look::Nothing)),
            Ok(Offer::FellOff) => {
                self.context.metrics.falls.inc();
                Poll::Ready(Ok(Look::Again))
            }
            Ok(offer @ (Offer::Suspended | Offer::Unmade)) => {
                let is_over = offer == Offer::Suspended;
                if is_over && self.writer.has_queued() && self.writer.may_write_queued() {
                    return Poll::Ready(Ok(Look::Nothing));
                }
                if self.is_doubted() {
                    return Poll::Pending;
                }
                if self.transport.poll_writable(cx).is_pending() {
                    self.note_blocked();
                    return Poll::Pending;
                }
                self.note_unblocked();
                self.source.resume();
                Poll::Ready(Ok(Look::Again))
            }
            Err(end) => {
                entries.clear();
                Poll::Ready(self.let_go(end).map(|()| Look::Again))
            }
        }
    }

    /// Writes what there is of the views. Pending: the socket is full, or all is written. Ready: what comes
    /// next is to be looked for, or `bytes_left` is used up.
    fn poll_views(
        &mut self,
        cx: &mut Context<'_>,
        entries: &[Entry],
        views: &mut Views<'_>,
        lag: Lag,
        bytes_left: &mut usize,
    ) -> Poll<Result<(), Disconnect>> {
        loop {
            let write = {
                let (source, mut slices) = (&self.source, Slices::new());
                let position = |told| source.cursor().position(told);
                self.writer.slices(views, position, &mut slices);
                if slices.is_empty() {
                    self.liveness.finish();
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
                    self.take_note(views, written, lag);
                    if self.has_written_all(entries, lag) {
                        return Poll::Pending;
                    }
                    *bytes_left = bytes_left.saturating_sub(written);
                    let owes_fills = self.source.owes_fills() && self.writer.is_at_message_end();
                    let is_over = *bytes_left == 0 || views.is_written() || owes_fills;
                    if is_over || self.writer.is_closing() {
                        return Poll::Ready(Ok(()));
                    }
                }
                Poll::Ready(_) => return Poll::Ready(Err(self.lost())),
                Poll::Pending => {
                    self.note_blocked();
                    return Poll::Pending;
                }
            }
        }
    }

    /// Whether the client has all that it wanted.
    pub(super) fn is_done(&self) -> bool {
        self.writer.is_done() || self.source.cursor().is_over()
    }

    /// Whether blocks may still be written: not once an end waits, but for a message under way.
    fn wants_blocks(&self) -> bool {
        self.writer.wants_blocks() && !self.source.cursor().is_over()
    }

    /// Whether that was all there is: what comes after the look wakes this task.
    fn has_written_all(&self, entries: &[Entry], lag: Lag) -> bool {
        let next_height = self.source.cursor().next_height();
        self.source.is_shared()
            && entries.len() == lag.blocks_behind
            && entries.last().is_some_and(|last| last.last_height() < next_height)
            && !self.writer.has_queued()
            && self.wants_blocks()
    }

    fn take_note(&mut self, views: &mut Views<'_>, written: usize, lag: Lag) {
        let metrics = &self.context.metrics;
        let began_at = self.began_at.into_std();
        // What is read back was appended to a history of its own, and only just.
        let is_shared = self.source.is_shared();
        let mut finished = |cached: &CachedBlock| {
            if is_shared && cached.appended_at >= began_at {
                metrics.append_to_write_seconds.observe(cached.appended_at.elapsed().as_secs_f64());
            }
        };
        let messages = self.writer.advance(views, written, &mut finished);
        self.source.move_to(views.next_height());
        self.source.wrote(written);
        metrics.sent_messages.inc_by(messages as u64);
        metrics.sent_bytes.inc_by(written as u64);
        if let Some(seen) = &self.status {
            seen.sent(messages as u64, written as u64);
        }
        if is_shared && lag.blocks_behind > 0 {
            metrics.session_lag_blocks.observe((lag.blocks_behind - 1) as f64);
        }
        if self.has_heartbeats() && messages > 0 {
            self.liveness.tell(Instant::now());
        }
        self.note_unblocked();
    }
}
