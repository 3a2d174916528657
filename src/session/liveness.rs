//! The signs of life between a session and its client, and when the next is due. Pure: time is an argument.

use std::time::Duration;

use tokio::time::Instant;

use crate::config;

/// A look that comes later than this judges nobody: this process stood still (its machine was
/// suspended, say), and what its clients did meanwhile is still to be seen.
const LATE_MAX: Duration = Duration::from_secs(1);
/// In which that is seen.
const LATE_GRACE: Duration = Duration::from_secs(1);

/// When what was last heard of a client, and told to it. What every block touches comes first.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Liveness {
    /// When the clock has something for the session, at the earliest.
    due_at: Instant,
    /// Set while the socket takes nothing though there is something to write.
    blocked_since: Option<Instant>,
    /// When bytes last came, or went although the socket had been full.
    alive_at: Instant,
    /// When a message last went out, or began to.
    told_at: Instant,
    is_pinged: bool,
}

/// What silence of a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientSilence {
    /// Nothing yet.
    Short,
    /// A ping.
    Long,
    /// The ping is not answered: the end.
    Unanswered,
}

/// The signs that a session gives and waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LifeSigns {
    pub has_pings: bool,
    pub has_heartbeats: bool,
}

impl Liveness {
    pub fn new(now: Instant) -> Self {
        Self { due_at: now, blocked_since: None, alive_at: now, told_at: now, is_pinged: false }
    }

    pub fn due_at(&self) -> Instant {
        self.due_at
    }

    pub fn is_blocked(&self) -> bool {
        self.blocked_since.is_some()
    }

    /// Has the clock looked at by then. Returns whether that is earlier than before.
    pub fn look_by(&mut self, at: Instant) -> bool {
        let is_earlier = at < self.due_at;
        self.due_at = self.due_at.min(at);
        is_earlier
    }

    /// Has the clock looked at then.
    pub fn look_at(&mut self, at: Instant) {
        self.due_at = at;
    }

    /// Takes note that bytes came.
    pub fn hear(&mut self, now: Instant) {
        (self.alive_at, self.is_pinged) = (now, false);
    }

    /// Takes note that a message went out, or begins to.
    pub fn tell(&mut self, now: Instant) {
        self.told_at = now;
    }

    /// Takes note that the socket takes nothing.
    pub fn block(&mut self, now: Instant) {
        self.blocked_since = Some(now);
    }

    /// Takes note that all is written.
    pub fn finish(&mut self) {
        self.blocked_since = None;
    }

    /// Takes note that the socket takes bytes. `now` is asked for only if it was full: its client must have
    /// made room.
    pub fn unblock(&mut self, now: impl FnOnce() -> Instant) {
        if self.blocked_since.take().is_some() {
            self.alive_at = now();
        }
    }

    /// Gives a client the time that this process stood still, if it did.
    pub fn forgive_standstill(&mut self, now: Instant) {
        let late = now.saturating_duration_since(self.due_at);
        if late > LATE_MAX {
            self.alive_at += late + LATE_GRACE;
            self.blocked_since = self.blocked_since.map(|since| since + late + LATE_GRACE);
        }
    }

    /// Whether no write has made progress for too long.
    pub fn is_stalled(&self, now: Instant, limits: &config::ServerConfig) -> bool {
        self.blocked_since.is_some_and(|since| now >= since + limits.write_stall_timeout)
    }

    /// Whether a heartbeat is due.
    pub fn wants_heartbeat(&self, now: Instant, limits: &config::ServerConfig) -> bool {
        now >= self.told_at + limits.heartbeat_interval
    }

    /// What the client's silence asks for.
    pub fn silence(&self, now: Instant, limits: &config::ServerConfig) -> ClientSilence {
        match now < self.alive_at + self.silence_max(limits) {
            true => ClientSilence::Short,
            false if self.is_pinged => ClientSilence::Unanswered,
            false => ClientSilence::Long,
        }
    }

    /// Takes note that a ping goes out. Its answer has its whole time, also when this process stood still
    /// before it asked.
    pub fn ping(&mut self, now: Instant, limits: &config::ServerConfig) {
        (self.alive_at, self.is_pinged) = (now - limits.ping_interval, true);
    }

    /// When one of the signs is due next.
    pub fn deadline(&self, signs: LifeSigns, limits: &config::ServerConfig) -> Option<Instant> {
        let silent_at = signs.has_pings.then(|| self.alive_at + self.silence_max(limits));
        let stalled_at = self.blocked_since.map(|since| since + limits.write_stall_timeout);
        let told_at = signs.has_heartbeats.then(|| self.told_at + limits.heartbeat_interval);
        [silent_at, stalled_at, told_at].into_iter().flatten().min()
    }

    fn silence_max(&self, limits: &config::ServerConfig) -> Duration {
        match self.is_pinged {
            true => limits.ping_interval + limits.pong_timeout,
            false => limits.ping_interval,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn limits() -> config::ServerConfig {
        config::ServerConfig {
            ping_interval: 20 * SECOND,
            pong_timeout: 5 * SECOND,
            heartbeat_interval: 15 * SECOND,
            write_stall_timeout: 30 * SECOND,
            ..config::ServerConfig::default()
        }
    }

    #[test]
    fn a_silent_client_is_pinged_and_given_up_when_it_does_not_answer() {
        let (limits, began) = (limits(), Instant::now());
        let mut liveness = Liveness::new(began);
        let check = |liveness: &Liveness, second, expected| {
            assert_eq!(liveness.silence(began + second * SECOND, &limits), expected, "{second}");
        };
        check(&liveness, 19, ClientSilence::Short);
        check(&liveness, 20, ClientSilence::Long);
        // Asked late: the answer has its five seconds all the same.
        liveness.ping(began + 23 * SECOND, &limits);
        check(&liveness, 27, ClientSilence::Short);
        check(&liveness, 28, ClientSilence::Unanswered);
        liveness.hear(began + 27 * SECOND);
        check(&liveness, 46, ClientSilence::Short);
        check(&liveness, 47, ClientSilence::Long);
    }

    #[test]
    fn a_client_that_takes_nothing_is_stalled_and_one_that_takes_something_alive() {
        let (limits, began) = (limits(), Instant::now());
        let mut liveness = Liveness::new(began);
        assert!(!liveness.is_stalled(began + 99 * SECOND, &limits));
        liveness.block(began + 10 * SECOND);
        assert!(!liveness.is_stalled(began + 39 * SECOND, &limits));
        assert!(liveness.is_stalled(began + 40 * SECOND, &limits));
        liveness.unblock(|| began + 40 * SECOND);
        assert!(!liveness.is_stalled(began + 99 * SECOND, &limits));
        assert_eq!(liveness.silence(began + 59 * SECOND, &limits), ClientSilence::Short);
        liveness.unblock(|| panic!("it was not blocked"));
        liveness.block(began + 60 * SECOND);
        liveness.finish();
        // All is written, and nothing shows that anybody reads it.
        assert_eq!(liveness.silence(began + 60 * SECOND, &limits), ClientSilence::Long);
    }

    #[test]
    fn a_process_that_stood_still_judges_nobody() {
        let (limits, began) = (limits(), Instant::now());
        let mut liveness = Liveness::new(began);
        liveness.block(began);
        liveness.look_at(began + 20 * SECOND);
        liveness.forgive_standstill(began + 21 * SECOND);
        assert_eq!(liveness.silence(began + 21 * SECOND, &limits), ClientSilence::Long);
        liveness.forgive_standstill(began + 100 * SECOND);
        let now = began + 100 * SECOND;
        assert_eq!(liveness.silence(now, &limits), ClientSilence::Short);
        assert!(!liveness.is_stalled(now, &limits));
        assert!(liveness.is_stalled(now + 12 * SECOND, &limits));
    }

    #[test]
    fn the_next_look_is_at_what_is_due_first() {
        let (limits, began) = (limits(), Instant::now());
        let mut liveness = Liveness::new(began);
        let due = |liveness: &Liveness, has_pings, has_heartbeats| {
            let deadline = liveness.deadline(LifeSigns { has_pings, has_heartbeats }, &limits);
            deadline.map(|at| (at - began).as_secs())
        };
        assert_eq!(due(&liveness, false, false), None);
        assert_eq!(due(&liveness, true, false), Some(20));
        assert_eq!(due(&liveness, true, true), Some(15));
        liveness.tell(began + 10 * SECOND);
        assert_eq!(due(&liveness, false, true), Some(25));
        liveness.block(began);
        assert_eq!(due(&liveness, false, false), Some(30));
        liveness.look_at(began + 30 * SECOND);
        assert!(liveness.look_by(began + 9 * SECOND));
        assert!(!liveness.look_by(began + 9 * SECOND));
        assert_eq!(liveness.due_at(), began + 9 * SECOND);
    }
}
