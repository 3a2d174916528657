//! Whether this replica takes clients, as a latch: warm once, then ready until the drain or a long
//! time without a broker. Knows nothing of what sets it.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The states `/health/ready` tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Ready,
    /// Not yet caught up with the tail found at start.
    Warming,
    /// Warm, but without a broker for longer than `amqp.unready_after`.
    BrokerLost,
    /// Warm, but before an entry that the broker cannot hand over.
    Unreadable,
    /// Told to end.
    Draining,
}

#[derive(Debug)]
pub struct Readiness {
    unready_after: Duration,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    warm: bool,
    draining: bool,
    refusing: bool,
    before_unreadable: bool,
    /// None while connected.
    broker_lost_at: Option<Instant>,
}

impl Readiness {
    pub fn new(unready_after: Duration) -> Self {
        let inner = Inner {
            warm: false,
            draining: false,
            refusing: false,
            before_unreadable: false,
            broker_lost_at: Some(Instant::now()),
        };
        Self { unready_after, inner: Mutex::new(inner) }
    }

    pub fn state(&self) -> State {
        let inner = self.lock();
        let lost_for = inner.broker_lost_at.map(|at| at.elapsed());
        match () {
            () if inner.draining => State::Draining,
            () if !inner.warm => State::Warming,
            () if lost_for.is_some_and(|time| time > self.unready_after) => State::BrokerLost,
            () if inner.before_unreadable => State::Unreadable,
            () => State::Ready,
        }
    }

    /// Whether a stream handshake is taken now: not while warming, nor late in the drain; still
    /// while the broker is lost or an entry cannot be read, since the history serves.
    pub fn takes_clients(&self) -> Result<(), State> {
        let inner = self.lock();
        match () {
            () if inner.refusing => Err(State::Draining),
            () if !inner.warm => Err(State::Warming),
            () => Ok(()),
        }
    }

    pub fn set_warm(&self, warm: bool) {
        self.lock().warm = warm;
    }

    pub fn set_connected(&self, connected: bool) {
        let mut inner = self.lock();
        match connected {
            true => inner.broker_lost_at = None,
            false => drop(inner.broker_lost_at.get_or_insert_with(Instant::now)),
        }
    }

    pub fn is_connected(&self) -> bool {
        self.lock().broker_lost_at.is_none()
    }

    /// Whether the feed stands before an entry that the broker cannot hand over.
    pub fn set_before_unreadable(&self, is_so: bool) {
        self.lock().before_unreadable = is_so;
    }

    /// Unready from now on, though clients are still taken.
    pub fn set_draining(&self) {
        self.lock().draining = true;
    }

    /// No client is taken from now on.
    pub fn set_refusing(&self) {
        self.lock().refusing = true;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().expect("bug: nothing panics while it holds this lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_is_a_latch_and_drain_wins() {
        let readiness = Readiness::new(Duration::ZERO);
        assert_eq!(readiness.state(), State::Warming);
        assert_eq!(readiness.takes_clients(), Err(State::Warming));
        readiness.set_warm(true);
        readiness.set_connected(true);
        assert_eq!(readiness.state(), State::Ready);
        readiness.set_draining();
        assert_eq!(readiness.state(), State::Draining);
        assert_eq!(readiness.takes_clients(), Ok(()), "balancers take a moment");
        readiness.set_refusing();
        assert_eq!(readiness.takes_clients(), Err(State::Draining));
    }

    #[test]
    fn a_lost_broker_makes_unready_but_clients_are_still_taken() {
        let readiness = Readiness::new(Duration::ZERO);
        readiness.set_warm(true);
        readiness.set_connected(false);
        let lost = (0..1_000_000).find(|_| readiness.state() == State::BrokerLost);
        assert!(lost.is_some(), "any time at all is longer than zero");
        assert_eq!(readiness.takes_clients(), Ok(()));
        readiness.set_connected(true);
        assert_eq!(readiness.state(), State::Ready);
    }

    #[test]
    fn an_unreadable_entry_makes_unready_but_clients_are_still_taken() {
        let readiness = Readiness::new(Duration::MAX);
        readiness.set_before_unreadable(true);
        assert_eq!(readiness.state(), State::Warming);
        readiness.set_warm(true);
        assert_eq!(readiness.state(), State::Unreadable);
        assert_eq!(readiness.takes_clients(), Ok(()));
        readiness.set_before_unreadable(false);
        assert_eq!(readiness.state(), State::Ready);
    }
}
