//! What is published, and the model: a block that came to the replica is there, one that did not is
//! missing, and nothing else may be said of it.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::pipe::Stamp;

/// Of the blocks above a missing one, how many are looked at for the first to be due.
const ABOVE_MAX: usize = 64;

/// One chain. Its blocks follow from its number: nothing of them is kept.
#[derive(Debug)]
pub struct Chain {
    pub number: u64,
    /// The height that came first: what is below is old.
    pub base: Option<u64>,
    /// The step by which the history was of this chain.
    pub began: Option<u64>,
    arrivals: BTreeMap<u64, Arrival>,
}

/// When a block was taken.
#[derive(Debug, Clone, Copy)]
struct Arrival {
    step: u64,
    /// When a gap before it may be given up.
    due: Instant,
    /// It may have been given up before.
    is_late: bool,
}

impl Chain {
    pub fn new(number: u64) -> Self {
        Self { number, base: None, began: None, arrivals: BTreeMap::new() }
    }

    /// Takes note that a block came; `sent.at` is when, and `sent.step` by when it had been taken.
    pub fn take(&mut self, height: u64, sent: Stamp, hold: Duration) {
        let base = *self.base.get_or_insert(height);
        if height < base || self.has(height) {
            return;
        }
        let is_late = self.is_due_above(height, Instant::now());
        let arrival = Arrival { step: sent.step, due: sent.at + hold, is_late };
        self.arrivals.insert(height, arrival);
    }

    /// Another replica has read all of it: that waits for nothing.
    pub fn is_read_again(&mut self) {
        let now = Instant::now();
        self.arrivals.values_mut().for_each(|arrival| arrival.due = arrival.due.min(now));
    }

    pub fn has(&self, height: u64) -> bool {
        self.arrivals.contains_key(&height)
    }

    pub fn arrivals(&self) -> usize {
        self.arrivals.len()
    }

    pub fn tip(&self) -> Option<u64> {
        self.arrivals.keys().next_back().copied()
    }

    /// Whether a client may have been led past this height at `now`, having been written to last in
    /// step `seen`: it had not come by then, and whoever waits for it had waited long enough.
    pub fn may_be_missing(&self, height: u64, seen: u64, now: Instant) -> bool {
        if self.base.is_none_or(|base| height < base) {
            return true;
        }
        let arrival = self.arrivals.get(&height);
        let is_fair = arrival.is_none_or(|arrival| arrival.is_late && arrival.step >= seen);
        is_fair && self.is_due_above(height, now)
    }

    /// What came around a height, for whoever looks into a failure.
    pub fn around(&self, height: u64) -> String {
        let near = self.arrivals.range(height.saturating_sub(2)..height + 6);
        format!("chain {} from {:?}: {:?}", self.number, self.base, near.collect::<Vec<_>>())
    }

    /// Whether something above the height has waited long enough.
    fn is_due_above(&self, height: u64, now: Instant) -> bool {
        let mut above = self.arrivals.range(height + 1..).take(ABOVE_MAX);
        above.any(|(_, arrival)| arrival.due <= now)
    }

    /// The transactions of a block.
    pub fn events(&self, height: u64) -> u64 {
        [2, 1, 0, 5, 3, 1, 0, 2, 9, 1][(self.mixed(height) % 10) as usize]
    }

    pub fn is_create(&self, height: u64, index: u64) -> bool {
        self.mixed(height.wrapping_mul(31).wrapping_add(index)).is_multiple_of(3)
    }

    pub fn id(&self, height: u64, index: u64) -> String {
        format!("{:08x}{height:040x}{index:016x}", self.number)
    }

    /// A message body.
    pub fn body(&self, height: u64) -> Vec<u8> {
        let transactions = (0..self.events(height)).map(|index| {
            let operation = if self.is_create(height, index) { "CREATE" } else { "TRANSFER" };
            format!("{{\"id\":\"{}\",\"operation\":\"{operation}\"}}", self.id(height, index))
        });
        let transactions = transactions.collect::<Vec<_>>().join(",");
        format!("{{\"height\":{height},\"transactions\":[{transactions}]}}").into_bytes()
    }

    /// Byte for byte, as BigchainDB 2.2.2 has it.
    pub fn event(&self, height: u64, index: u64) -> String {
        let id = self.id(height, index);
        format!("{{\"height\": {height}, \"asset_id\": \"{id}\", \"transaction_id\": \"{id}\"}}")
    }

    pub fn summary(&self, height: u64) -> String {
        let ids = (0..self.events(height)).map(|index| format!("\"{}\"", self.id(height, index)));
        let ids = ids.collect::<Vec<_>>().join(", ");
        format!("{{\"height\": {height}, \"hash\": null, \"transaction_ids\": [{ids}]}}")
    }

    pub fn batch(&self, height: u64, indices: &[u64]) -> String {
        let events = indices.iter().map(|index| self.event(height, *index));
        let events = events.collect::<Vec<_>>().join(", ");
        format!("{{\"height\": {height}, \"hash\": null, \"events\": [{events}]}}")
    }

    fn mixed(&self, place: u64) -> u64 {
        let mixed = (place ^ self.number << 48).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ mixed >> 29
    }
}
