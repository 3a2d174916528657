//! The line of those who wait for a turn. Pure: times are arguments.
//!
//! Networks take turns, and within a network those who wait. First comes the network with the fewest
//! turns under way, and among these the one that has waited longest since it came or had its last turn.
//! Within a network, who has had much counts as having come later by as much. So one that asks again and
//! again is behind those who have had less, and nobody can be overtaken for ever.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

/// What one has had counts for no more than this: as long as a turn lasts while others wait.
const HAD_MAX: Duration = Duration::from_secs(10);

/// Those who wait, and how many of each network have their turn.
#[derive(Debug)]
pub struct Line<T> {
    /// Only networks of which somebody waits or has a turn.
    networks: HashMap<IpAddr, Network<T>>,
    /// Networks of which somebody waits, the next one first.
    round: BTreeMap<Rank, IpAddr>,
    next_number: u64,
    waiting: usize,
}

#[derive(Debug)]
struct Network<T> {
    rank: Rank,
    /// The next one first.
    waiting: BTreeMap<Place, T>,
}

/// A network's rank in the round; the lowest is the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// Its turns under way.
    turns: usize,
    /// Drawn when it came into the line, and again when a turn of it begins and ends.
    number: u64,
}

/// A place among those of one network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// When it counts as having come.
    at: Instant,
    number: u64,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        let (networks, round) = Default::default();
        Self { networks, round, next_number: 0, waiting: 0 }
    }
}

impl<T> Line<T> {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting
    }

    /// Takes in one who comes now and has `had` so much before.
    pub fn join(&mut self, network: IpAddr, had: Duration, now: Instant, item: T) -> Place {
        let place = Place { at: now + had.min(HAD_MAX), number: self.draw() };
        let rank = Rank { turns: 0, number: place.number };
        let joined = self.networks.entry(network);
        let joined = joined.or_insert_with(|| Network { rank, waiting: BTreeMap::new() });
        joined.waiting.insert(place, item);
        self.round.insert(joined.rank, network);
        self.waiting += 1;
        place
    }

    /// Lets one go who waits no longer; none when it was called before.
    pub fn leave(&mut self, network: IpAddr, place: Place) -> Option<T> {
        let left = self.networks.get_mut(&network)?;
        let item = left.waiting.remove(&place)?;
        self.waiting -= 1;
        self.settle(network);
        Some(item)
    }

    /// Calls the next. Its turn lasts until [`Self::end_turn`].
    pub fn call(&mut self) -> Option<(IpAddr, T)> {
        let (_, network) = self.round.pop_first()?;
        let number = self.draw();
        let called = self.networks.get_mut(&network).expect("bug: it is in the round");
        let (_, item) = called.waiting.pop_first().expect("bug: in the round nobody waits");
        called.rank = Rank { turns: called.rank.turns + 1, number };
        self.waiting -= 1;
        self.settle(network);
        Some((network, item))
    }

    /// Ends the turn of one who was called.
    pub fn end_turn(&mut self, network: IpAddr) {
        let number = self.draw();
        if let Some(ended) = self.networks.get_mut(&network) {
            self.round.remove(&ended.rank);
            ended.rank = Rank { turns: ended.rank.turns.saturating_sub(1), number };
        }
        self.settle(network);
    }

    /// Has a network in the round while somebody of it waits, and forgets it when nothing is left.
    fn settle(&mut self, network: IpAddr) {
        let Some(settled) = self.networks.get(&network) else { return };
        let Network { rank, waiting } = settled;
        match (waiting.is_empty(), rank.turns) {
            (false, _) => {
                self.round.insert(*rank, network);
            }
            (true, turns) => {
                self.round.remove(rank);
                if turns == 0 {
                    self.networks.remove(&network);
                }
            }
        }
    }

    fn draw(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }
}

#[cfg(test)]
mod tests;
