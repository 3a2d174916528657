//! What a session says in its own words: where it begins, what was filled behind it, why it ends.

use tokio::time::Instant;

use super::{CLOSE_TIMEOUT, Closing, Session, Transport};
use crate::history::{Gone, Lag};
use crate::metrics::{Disconnect, ResumeOutcome};
use crate::protocol::Cause;
use crate::protocol::control::{Beginning, ControlMessage};
use crate::session::source::End;
use crate::session::start;
use crate::session::writer::Ending;

impl<T: Transport> Session<T> {
    /// Looks for the client's start, and tells where it begins once that is found.
    pub(super) fn begin(&mut self, now: Instant) {
        // Looking may ask for a turn with the broker.
        if self.closing.is_some() || self.is_doubted() {
            return;
        }
        if self.source.first_wanted().is_some_and(|first| self.source.cursor().ends_before(first)) {
            return self.close(&Cause::Done);
        }
        let begun = match self.source.begin(now) {
            Ok(None) => {
                if let Some(at) = self.source.deadline() {
                    self.look_by(at);
                }
                return;
            }
            Ok(Some(begun)) => begun,
            Err(end) => {
                if self.is_resumed {
                    self.context.metrics.resumes.add(ResumeOutcome::NotAvailable);
                }
                return self.close(&cause_of(end));
            }
        };
        if self.is_resumed {
            let outcome = if begun.is_deep { ResumeOutcome::Deep } else { ResumeOutcome::Served };
            self.context.metrics.resumes.add(outcome);
        }
        self.liveness.tell(now);
        if let Some(head) = self.head.take() {
            self.writer.put(head.bytes);
        }
        if let Some((from_height, to_height)) = begun.skipped {
            self.writer.tell(&ControlMessage::Gap { from_height, to_height }.into());
        }
        if self.writer.subscription().has_control {
            let context = &self.context;
            // The client is in that block already; the gap that is told next names it.
            let next_height = self.source.cursor().next_height() + u64::from(begun.is_within_gap);
            let beginning = Beginning {
                first_height: start::oldest(&context.history, &context.tickets),
                tip_height: context.history.summary().tip,
                ..Beginning::before(next_height, self.source.cursor().events_before_start())
            };
            self.writer.tell(&ControlMessage::Position(beginning).into());
        }
    }

    /// Begins the close of a client that cannot be served further; in the middle of a message there
    /// is nothing left to say.
    pub(super) fn let_go(&mut self, end: End) -> Result<(), Disconnect> {
        let cause = cause_of(end);
        if !self.writer.is_at_message_end() {
            self.transport.reset_on_drop();
            return Err(self.closing.map_or(cause.disconnect(), |closing| closing.disconnect));
        }
        self.close(&cause);
        Ok(())
    }

    /// Ends a session whose block cannot be gone on with, without a word: the client knows best what
    /// it has.
    pub(super) fn break_off(&self) -> Disconnect {
        self.transport.reset_on_drop();
        self.closing.map_or(Disconnect::Changed, |closing| closing.disconnect)
    }

    /// Tells of gaps behind the cursor that were filled, if this client is told such things: some of them, as
    /// soon as what was told before has gone out. So a client that does not read has few of them queued.
    pub(super) fn tell_fills(&mut self, lag: Lag) {
        if !self.writer.subscription().has_control || self.writer.is_closing() {
            return;
        }
        self.source.note_fills(lag);
        while self.source.owes_fills() && !self.writer.has_queued() {
            let Ok(heights) = self.source.take_fills() else {
                return self.close(&Cause::TooSlow);
            };
            for height in heights {
                self.writer.tell(&ControlMessage::Filled { height }.into());
            }
        }
    }

    pub(super) fn close(&mut self, cause: &Cause) {
        // Before the start is found the cursor means nothing.
        let asked = self.source.asked();
        let ending = match (self.head.take(), asked) {
            (None, None) => Ending::Cause(cause.clone()),
            (None, Some(asked)) => Ending::Bytes(self.writer.subscription().ending(cause, &asked)),
            // It has not begun: a status is what its client understands.
            (Some(head), asked) => {
                let position = asked.unwrap_or_else(|| self.position());
                Ending::Bytes((head.refuse)(cause, &position, &head.common_lines))
            }
        };
        self.begin_close(ending, cause.disconnect());
    }

    pub(super) fn begin_close(&mut self, ending: Ending, disconnect: Disconnect) {
        if self.closing.is_none() {
            self.writer.close(ending);
            let until = Instant::now() + CLOSE_TIMEOUT;
            self.closing = Some(Closing { disconnect, until });
            self.look_by(until);
        }
    }
}

fn cause_of(end: End) -> Cause {
    match end {
        End::Gone(Gone::FellOff) => Cause::TooSlow,
        End::Gone(Gone::AnotherChain) => Cause::AnotherChain,
        End::NotAvailable { first_height } => Cause::NotAvailable { first_height },
        End::Ahead { tip } => Cause::Ahead { tip },
        End::NotInBlock { height } => {
            Cause::BadRequest(format!("`after`: block {height} has no such transaction"))
        }
    }
}
