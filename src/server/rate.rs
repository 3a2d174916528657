//! Limit of requests for a stream: so many a second from one network, and a few seconds' worth at once.
//!
//! Our own, since it is bounded: it remembers so many networks and no more, whoever asks. The crates for
//! this keep an entry for each key until somebody has them swept.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::admission::network;

/// What may come at once is this long's worth: a replica that ends sends its clients to another.
const BURST: Duration = Duration::from_secs(5);
/// Networks that are remembered; the entries of those that were silent for a while go first. Beyond
/// it all further ones share one allowance.
const NETWORKS_MAX: usize = 65_536;

/// The generic cell rate algorithm: per network only when it would be even again.
#[derive(Debug)]
pub struct Rate {
    /// None without a limit.
    interval: Option<Duration>,
    even_at: Mutex<HashMap<Option<IpAddr>, Instant>>,
}

/// Too many: a while must pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooOften;

impl Rate {
    /// `per_second`: 0 for no limit.
    pub fn new(per_second: u32) -> Self {
        let interval = Duration::from_secs(1).checked_div(per_second);
        Self { interval, even_at: Mutex::default() }
    }

    /// Counts one request of `address`.
    ///
    /// # Errors
    /// It came too early, and is not counted.
    pub fn take(&self, address: IpAddr, now: Instant) -> Result<(), TooOften> {
        let Some(interval) = self.interval else { return Ok(()) };
        let mut even_at =
            self.even_at.lock().expect("bug: nothing panics while it holds this lock");
        let mut key = Some(network(address));
        if even_at.len() >= NETWORKS_MAX && !even_at.contains_key(&key) {
            even_at.retain(|_, at| *at > now);
            key = key.filter(|_| even_at.len() < NETWORKS_MAX);
        }
        let at = even_at.entry(key).or_insert(now);
        let next = (*at).max(now) + interval;
        if next > now + BURST.max(interval) {
            return Err(TooOften);
        }
        *at = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_let_in_then_the_rate_and_each_network_by_itself() {
        let rate = Rate::new(2);
        let began = Instant::now();
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        let one = address("2001:db8::1");
        let taken = |at: Instant| (0..100).take_while(|_| rate.take(one, at).is_ok()).count();
        assert_eq!(taken(began), 10, "five seconds' worth");
        assert_eq!(rate.take(address("2001:db8::2"), began), Err(TooOften), "one /64");
        assert_eq!(rate.take(address("192.0.2.1"), began), Ok(()));
        assert_eq!(taken(began + Duration::from_secs(1)), 2);
        assert_eq!(taken(began + Duration::from_secs(60)), 10);
        let unlimited = Rate::new(0);
        assert!((0..1_000).all(|_| unlimited.take(one, began).is_ok()));
    }

    #[test]
    fn no_number_of_networks_takes_more_than_its_room() {
        let rate = Rate::new(1);
        let now = Instant::now();
        let address = |at: u32| IpAddr::from(at.to_be_bytes());
        for at in 0..NETWORKS_MAX as u32 {
            assert_eq!(rate.take(address(at), now), Ok(()));
        }
        let late = (0..100).filter(|at| rate.take(address(1 << 24 | at), now).is_ok()).count();
        assert_eq!(late, 5, "they share one allowance");
        assert!(rate.even_at.lock().expect("whole").len() <= NETWORKS_MAX + 1);
        let later = now + Duration::from_secs(10);
        assert_eq!(rate.take(address(1 << 24), later), Ok(()));
        assert_eq!(rate.even_at.lock().expect("whole").len(), 1, "those that were silent went");
    }
}
