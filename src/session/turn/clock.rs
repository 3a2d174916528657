//! A session's clock: what is due, and when it must be looked at next. Waits for nothing itself.

use std::time::Duration;

use tokio::time::Instant;

use super::{Session, Transport};
use crate::metrics::Disconnect;
use crate::protocol::control::{ControlMessage, Notice};
use crate::protocol::{Cause, Start};

/// A look that comes later than this judges nobody: this process stood still (its machine was
/// suspended, say), and what its clients did meanwhile is still to be seen.
const LATE_MAX: Duration = Duration::from_secs(1);
/// In which that is seen.
const LATE_GRACE: Duration = Duration::from_secs(1);

impl<T: Transport> Session<T> {
    /// Whether [`Self::look_at_clock`] may have something to do.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        // Who was let in may be put out, and a drain begin, at any time.
        now >= self.due_at
            || self.pass.is_some()
            || self.around.drain.has_begun()
            || self.is_owed_a_message_end()
    }

    /// Does what is due by now, and says when to look again. Returns how the session ended, if it is
    /// over.
    pub(super) fn look_at_clock(&mut self, now: Instant) -> Option<Disconnect> {
        let late = now.saturating_duration_since(self.due_at);
        if late > LATE_MAX {
            self.alive_at += late + LATE_GRACE;
            self.blocked_since = self.blocked_since.map(|since| since + late + LATE_GRACE);
        }
        let ended = self.do_what_is_due(now);
        // A timer that is set too early costs less than setting it again each time.
        if now < self.due_at {
            self.look_by(self.deadline());
        } else {
            self.due_at = self.deadline();
            self.is_timer_set = false;
        }
        ended
    }

    /// Has the clock looked at by then.
    pub(super) fn look_by(&mut self, at: Instant) {
        if at < self.due_at {
            self.due_at = at;
            self.is_timer_set = false;
        }
    }

    /// Takes note that the socket takes nothing.
    pub(super) fn is_blocked(&mut self) {
        if self.blocked_since.is_none() {
            let now = Instant::now();
            self.blocked_since = Some(now);
            self.look_by(now + self.around.limits.write_stall_timeout);
        }
    }

    /// Takes note that the socket takes bytes, for which its client must have made room.
    pub(super) fn is_unblocked(&mut self) {
        if self.blocked_since.take().is_some() {
            self.alive_at = Instant::now();
        }
    }

    fn do_what_is_due(&mut self, now: Instant) -> Option<Disconnect> {
        let limits = &self.around.limits;
        if self.around.drain.is_over() {
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
        if self.blocked_since.is_some_and(|since| now >= since + limits.write_stall_timeout) {
            self.transport.reset_on_drop();
            return Some(Disconnect::Stalled);
        }
        if self.drained_at.is_none() {
            self.drained_at = self.around.drain.draw_close_time();
        }
        let heartbeat_interval = limits.heartbeat_interval;
        if self.feed.deadline().is_some_and(|at| now >= at) {
            self.begin(now);
        }
        if self.is_told_of_life() && now >= self.told_at + heartbeat_interval {
            self.beat(now);
        }
        if self.is_owed_a_message_end() {
            // It cannot be asked whether it is there, and what it waits for is ours.
            (self.alive_at, self.pinged) = (now, false);
        }
        let limits = &self.around.limits;
        let over = self.pass.as_ref().and_then(|pass| pass.is_over(now));
        if let Some(over) = over {
            self.close(&over.into());
        } else if self.drained_at.is_some_and(|at| now >= at) {
            self.close(&Cause::Draining);
        } else if self.inbound.is_none() {
            // Its heartbeats are unanswered; TCP's own timeout finds a peer that is gone.
        } else if self.pinged && now >= self.alive_at + limits.ping_interval + limits.pong_timeout {
            self.close(&Cause::NoPong);
        } else if !self.pinged && now >= self.alive_at + limits.ping_interval {
            // The answer has its whole time, also when this process stood still before it asked.
            (self.alive_at, self.pinged) = (now - limits.ping_interval, true);
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
        let pinged_at = self.inbound.is_some().then(|| self.alive_at + silence);
        let stalled_at = self.blocked_since.map(|since| since + limits.write_stall_timeout);
        let told_at = self.is_told_of_life().then(|| self.told_at + limits.heartbeat_interval);
        let expires_at = self.pass.as_ref().and_then(|pass| pass.until);
        [pinged_at, stalled_at, told_at, expires_at, self.drained_at, self.feed.deadline()]
            .into_iter()
            .flatten()
            .min()
            .expect("bug: a session without pings has heartbeats")
    }

    /// Whether the rest of a message is still to come from the broker, though the socket takes bytes.
    fn is_owed_a_message_end(&self) -> bool {
        !self.outbound.may_write_own() && self.blocked_since.is_none()
    }

    /// Whether silence towards this client is broken by a heartbeat.
    pub(super) fn is_told_of_life(&self) -> bool {
        self.inbound.is_none() || self.outbound.form().has_control
    }

    /// Says that there is nothing to say, and up to where that is so.
    fn beat(&mut self, now: Instant) {
        self.told_at = now;
        if self.inbound.is_none() && self.feed.is_looking() {
            // A proxy would take the silence for a dead server: what is wrong with the start is told
            // behind the head then.
            if let Some(head) = self.head.take() {
                self.outbound.put(head.bytes);
            }
            return self.outbound.put(self.outbound.form().silent_heartbeat(None));
        }
        if self.feed.is_looking() || !self.outbound.is_between_blocks() {
            return;
        }
        let height = self.outbound.cursor().next_height.checked_sub(1);
        // With what the client has of the block that it begins in: its cursor must not go back.
        let id = match self.outbound.position() {
            Start::After(position) => Some(position.to_string()),
            _ => None,
        };
        match (self.outbound.form().has_control, height) {
            (true, Some(_)) => {
                let message = ControlMessage::Heartbeat { height };
                self.outbound.tell(&Notice { message, id });
            }
            // Nothing has been sent that a WebSocket client could be told of.
            (true, None) if self.inbound.is_some() => {}
            _ => {
                let heartbeat = self.outbound.form().silent_heartbeat(id.as_deref());
                self.outbound.put(heartbeat);
            }
        }
    }
}
