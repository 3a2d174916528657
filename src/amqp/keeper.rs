//! One kept connection: made when it is asked for, given up when it fails, made again elsewhere.
//!
//! The feed's source, the reader of the stream, the dead letters and a producer have a keeper each, so
//! that what a broker does to one of them is met by the same rules. A keeper never logs: its owner
//! knows what a loss means.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::connection::{ConnectError, Connection, Connector};
use super::precedence::Precedence;
use super::tls;
use crate::backoff::Backoff;
use crate::config;
use crate::metrics::Metrics;

/// A connection that lasted this long was sound, so the next wait is a short one again.
const SOUND_AFTER: Duration = Duration::from_secs(30);

/// Keeper of one connection.
pub struct Keeper {
    connector: Connector,
    precedence: Arc<Precedence>,
    /// Sender: this keeper, and each owner that gives the connection up. Receivers: those who wait for
    /// a connection. It holds one value.
    connection: watch::Sender<Option<Arc<Connection>>>,
    attempts: Mutex<Attempts>,
}

#[derive(Default)]
struct Attempts {
    backoff: Backoff,
    /// Index of the address that the next attempt begins with, among the addresses of all URIs.
    turn: usize,
    connected_at: Option<Instant>,
    connections: u64,
}

/// What a failed connection, or a failed attempt to make one, says about its broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeeperFailure {
    /// The broker did what it is for, and then it was lost: the next attempt begins with it again.
    Lost,
    /// The broker never did what it is for: the next attempt begins with the address behind it.
    Unfit,
}

impl Keeper {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// A URI or a TLS file is malformed: the configuration must be mended.
    pub fn new(config: Arc<config::Amqp>) -> Result<Self, ConnectError> {
        let keeper = Self::beside(Arc::clone(&config), Arc::new(Precedence::none()))?;
        tls::check(&config)?;
        Ok(keeper)
    }

    /// A keeper that connects only after the feed. Reads no TLS file: the feed's keeper has.
    ///
    /// # Errors
    /// A URI is malformed: the configuration must be mended.
    pub fn beside(
        config: Arc<config::Amqp>,
        precedence: Arc<Precedence>,
    ) -> Result<Self, ConnectError> {
        Ok(Self {
            connector: Connector::new(config)?,
            precedence,
            connection: watch::Sender::new(None),
            attempts: Mutex::default(),
        })
    }

    /// Counts what is mended of what its connections bring.
    pub fn counting(self, metrics: Arc<Metrics>) -> Self {
        Self { connector: self.connector.counting(metrics), ..self }
    }

    /// Makes connections that take little memory, for owners that have many.
    pub fn with_small_frames(self) -> Self {
        Self { connector: self.connector.with_small_frames(), ..self }
    }

    /// The open connection; without one, a new one, for which every address is tried once. Beside the
    /// feed it waits until that has its own.
    ///
    /// # Errors
    /// No broker answers. Say so with [`Self::failed`] and try again.
    ///
    /// # Cancel safety
    /// Dropped, the attempt under way is ended and nothing is left open.
    pub async fn connection(&self) -> Result<Arc<Connection>, ConnectError> {
        if let Some(open) = self.current() {
            return Ok(open);
        }
        self.precedence.feed_connected().await;
        let turn = self.attempts().turn;
        let (connection, turn) = self.connector.connect(turn).await?;
        let connection = Arc::new(connection);
        let mut attempts = self.attempts();
        attempts.turn = turn;
        attempts.connected_at = Some(Instant::now());
        attempts.connections += 1;
        self.connection.send_replace(Some(Arc::clone(&connection)));
        Ok(connection)
    }

    /// The open connection, if there is one.
    pub fn current(&self) -> Option<Arc<Connection>> {
        self.connection.borrow().clone().filter(|connection| connection.is_open())
    }

    /// Each connection as it is made, for those who wait for one.
    pub fn subscribe(&self) -> watch::Receiver<Option<Arc<Connection>>> {
        self.connection.subscribe()
    }

    /// How many connections were made so far.
    pub fn connections(&self) -> u64 {
        self.attempts().connections
    }

    /// Says how long to wait before the next attempt. `chance` is in 0.0..1.0. After a sound
    /// connection the waits begin with the shortest again. A connection that is still open stays so
    /// until it is closed or taken.
    pub fn failed(&self, failure: KeeperFailure, chance: f64) -> Duration {
        let mut attempts = self.attempts();
        let lasted = attempts.connected_at.take().map(|since| since.elapsed());
        if lasted.is_some_and(|lasted| lasted >= SOUND_AFTER) {
            attempts.backoff.reset();
        }
        if failure == KeeperFailure::Unfit {
            attempts.turn = attempts.turn.wrapping_add(1);
        }
        attempts.backoff.next(chance)
    }

    /// Waits before the next attempt, for as long as [`Self::failed`] says.
    ///
    /// # Cancel safety
    /// Dropped, the failure has been counted.
    pub async fn rest(&self, failure: KeeperFailure) {
        tokio::time::sleep(self.failed(failure, fastrand::f64())).await;
    }

    /// Begins with the shortest wait again, since what follows has nothing to do with the failures
    /// before it.
    pub fn forget_failures(&self) {
        self.attempts().backoff.reset();
    }

    /// Has the next attempt begin with the address behind the one of this connection.
    pub fn move_on(&self) {
        let mut attempts = self.attempts();
        attempts.turn = attempts.turn.wrapping_add(1);
    }

    /// Has the next attempt begin with the address that the other keeper's next one begins with.
    pub fn follow(&self, other: &Self) {
        let turn = other.attempts().turn;
        self.attempts().turn = turn;
    }

    /// Takes the connection out, to be closed or dropped.
    pub fn take(&self) -> Option<Arc<Connection>> {
        self.connection.send_replace(None)
    }

    /// Takes this connection out, unless another one has come in its place.
    pub fn take_this(&self, connection: &Arc<Connection>) -> bool {
        self.connection.send_if_modified(|current| {
            current.take_if(|current| Arc::ptr_eq(current, connection)).is_some()
        })
    }

    /// Waits until the feed seeks a broker in vain, closes the connection, which may be the one that
    /// the feed is not given, and waits until the feed has its own.
    ///
    /// # Cancel safety
    /// Dropped, the connection may be closed or not.
    pub async fn give_way(&self) {
        self.precedence.feed_searching().await;
        self.close().await;
        self.precedence.feed_connected().await;
    }

    /// Says goodbye to the broker, for at most two seconds.
    pub async fn close(&self) {
        if let Some(connection) = self.take() {
            connection.close().await;
        }
    }

    fn attempts(&self) -> MutexGuard<'_, Attempts> {
        self.attempts.lock().expect("bug: nothing panics while it holds this lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keeper() -> Keeper {
        Keeper::new(Arc::new(config::Amqp::default())).expect("the default configuration")
    }

    /// Waits, with the longest chance, of so many failures in a row.
    fn waits(keeper: &Keeper, failures: usize) -> Vec<u64> {
        let wait = |_| keeper.failed(KeeperFailure::Unfit, 1.0).as_millis() as u64;
        (0..failures).map(wait).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_sound_connection_makes_the_waits_short_again() {
        let keeper = keeper();
        assert_eq!(waits(&keeper, 3), [250, 500, 1_000]);
        let lost_after = async |lasted: Duration| {
            keeper.attempts().connected_at = Some(Instant::now());
            tokio::time::advance(lasted).await;
            keeper.failed(KeeperFailure::Lost, 1.0).as_millis()
        };
        assert_eq!(lost_after(SOUND_AFTER - Duration::from_millis(1)).await, 2_000);
        assert_eq!(lost_after(SOUND_AFTER).await, 250);
        assert_eq!(waits(&keeper, 1), [500]);
        keeper.forget_failures();
        assert_eq!(waits(&keeper, 1), [250]);
    }

    #[test]
    fn only_an_unfit_broker_is_passed_over() {
        let keeper = keeper();
        keeper.failed(KeeperFailure::Lost, 0.0);
        assert_eq!(keeper.attempts().turn, 0);
        keeper.failed(KeeperFailure::Unfit, 0.0);
        assert_eq!(keeper.attempts().turn, 1);
    }
}
