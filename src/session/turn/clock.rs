//! A session's clock: what is due, and when it must be looked at next. Waits for nothing itself.

use tokio::time::Instant;

use super::{Session, Transport};
use crate::metrics::Disconnect;
use crate::protocol::Cause;
use crate::protocol::Start;
use crate::protocol::control::{ControlMessage, Notice};
use crate::session::liveness::{ClientSilence, LifeSigns};

impl<T: Transport> Session<T> {
    /// Whether [`Self::look_at_clock`] may have something to do.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        // Who was let in may be put out, and a drain begin, at any time.
        now >= self.liveness.due_at()
            || self.pass.is_some()
            || self.context.drain.has_begun()
            || self.is_owed_a_message_end()
    }

    /// Does what is due by now, and says when to look again. Returns how the session ended, if it is
    /// over.
    pub(super) fn look_at_clock(&mut self, now: Instant) -> Option<Disconnect> {
        self.liveness.forgive_standstill(now);
        let ended = self.do_what_is_due(now);
        // A timer that is set too early costs less than setting it again each time.
        if now < self.liveness.due_at() {
            self.look_by(self.deadline());
        } else {
            self.liveness.look_at(self.deadline());
            self.is_timer_set = false;
        }
        ended
    }

    /// Has the clock looked at by then.
    pub(super) fn look_by(&mut self, at: Instant) {
        if self.liveness.look_by(at) {
            self.is_timer_set = false;
        }
    }

    /// Takes note that the socket takes nothing.
    pub(super) fn note_blocked(&mut self) {
        self.source.let_go_of_forms();
        if !self.liveness.is_blocked() {
            let now = Instant::now();
            self.liveness.block(now);
            self.look_by(now + self.context.limits.write_stall_timeout);
        }
    }

    /// Takes note that the socket takes bytes, for which its client must have made room.
    pub(super) fn note_unblocked(&mut self) {
        self.liveness.unblock(Instant::now);
    }

    fn do_what_is_due(&mut self, now: Instant) -> Option<Disconnect> {
        let limits = &self.context.limits;
        if self.context.drain.is_over() {
            self.transport.reset_on_drop();
            return Some(self.closing.map_or(Disconnect::Drained, |closing| closing.disconnect));
        }
        if let Some(closing) = self.closing {
            if now < closing.until {
                return None;
            }
            self.transport.reset_on_drop();
            return Some(closing.disconnect);
        }
        if self.liveness.is_stalled(now, limits) {
            self.transport.reset_on_drop();
            return Some(Disconnect::Stalled);
        }
        self.end_doubt(now);
        if self.drained_at.is_none() {
            self.drained_at = self.context.drain.draw_close_time();
        }
        if self.source.deadline().is_some_and(|at| now >= at) {
            self.begin(now);
        }
        let is_silent = self.liveness.wants_heartbeat(now, &self.context.limits);
        if is_silent && self.has_heartbeats() {
            self.beat(now);
        }
        if self.is_owed_a_message_end() {
            // It cannot be asked whether it is there, and what it waits for is ours.
            self.liveness.hear(now);
        }
        let over = self.pass.as_ref().and_then(|pass| pass.is_over(now));
        if let Some(over) = over {
            self.close(&over.into());
        } else if self.drained_at.is_some_and(|at| now >= at) {
            self.close(&Cause::Draining);
        } else if self.inbound.is_none() {
            // Its heartbeats are unanswered; TCP's own timeout finds a peer that is gone.
        } else {
            let limits = &self.context.limits;
            match self.liveness.silence(now, limits) {
                ClientSilence::Short => {}
                ClientSilence::Long => {
                    self.liveness.ping(now, limits);
                    self.writer.ping();
                }
                ClientSilence::Unanswered => self.close(&Cause::NoPong),
            }
        }
        None
    }

    /// When [`Self::look_at_clock`] has something to do next.
    fn deadline(&self) -> Instant {
        let limits = &self.context.limits;
        if let Some(closing) = self.closing {
            return closing.until;
        }
        let signs =
            LifeSigns { has_pings: self.inbound.is_some(), has_heartbeats: self.has_heartbeats() };
        let silent_at = self.liveness.deadline(signs, limits);
        let expires_at = self.pass.as_ref().and_then(|pass| pass.until);
        let look_at = self.source.deadline().filter(|_| !self.is_doubted());
        [silent_at, expires_at, self.drained_at, self.doubted_until, look_at]
            .into_iter()
            .flatten()
            .min()
            .expect("bug: a session without pings has heartbeats")
    }

    /// Whether the rest of a message is still to come from the broker, though the socket takes bytes.
    fn is_owed_a_message_end(&self) -> bool {
        !self.writer.may_write_queued() && !self.liveness.is_blocked()
    }

    /// Whether silence towards this client is broken by a heartbeat.
    pub(super) fn has_heartbeats(&self) -> bool {
        self.inbound.is_none() || self.writer.subscription().has_control
    }

    /// Writes a comment to a client of an event stream. What is wrong with its start is told behind the head
    /// then.
    pub(super) fn show_life(&mut self) {
        self.liveness.tell(Instant::now());
        if let Some(head) = self.head.take() {
            self.writer.put(head.bytes);
        }
        self.writer.put(self.writer.subscription().silent_heartbeat(None));
    }

    /// Says that there is nothing to say, and up to where that is so.
    fn beat(&mut self, now: Instant) {
        self.liveness.tell(now);
        if self.writer.has_queued() {
            // That breaks the silence, as soon as the client takes it.
            return;
        }
        if self.inbound.is_none() && self.source.is_looking() {
            // A proxy would take the silence for a dead server.
            return self.show_life();
        }
        if self.source.is_looking() || !self.writer.is_between_blocks() {
            return;
        }
        let height = self.source.cursor().next_height().checked_sub(1);
        // With what the client has of the block that it begins in: its cursor must not go back.
        let id = match self.position() {
            Start::After(position) => Some(position.to_string()),
            _ => None,
        };
        match (self.writer.subscription().has_control, height) {
            (true, Some(_)) => {
                let message = ControlMessage::Heartbeat { height };
                self.writer.tell(&Notice { message, id });
            }
            // Nothing has been sent that a WebSocket client could be told of.
            (true, None) if self.inbound.is_some() => {}
            _ => {
                let heartbeat = self.writer.subscription().silent_heartbeat(id.as_deref());
                self.writer.put(heartbeat);
            }
        }
    }
}
