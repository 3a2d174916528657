//! Entries of a RabbitMQ stream that the broker cannot hand over as AMQP 0-9-1.
//!
//! RabbitMQ answers an attach to such an entry with 541 and the end of the connection, every time, so
//! that one entry would end the feed for ever. It is passed over, but only on proof ([`proof`]). What
//! was proven once is known to all who read the stream in this process, and told once: as an error, in
//! the metrics and in the status.

pub mod lanes;
pub mod look;
pub mod proof;
pub mod prover;
pub mod tail;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use lapin::types::ShortString;
use tokio::time::Instant;
use tracing::error;

use crate::metrics::Metrics;
use crate::operator_status::OperatorStatus;

/// Runs kept; beyond it the oldest part of the stream is forgotten, to be proven again when read.
const RUNS_MAX: usize = 1_024;
/// For so long after a 541 whoever reads the stream at places does so apart from the others.
const SUSPECT_FOR: Duration = Duration::from_mins(10);

/// What this process knows of unreadable entries.
pub struct UnreadableEntries {
    metrics: Arc<Metrics>,
    operator_status: Arc<OperatorStatus>,
    inner: Mutex<KnownRuns>,
}

#[derive(Default)]
struct KnownRuns {
    /// By a run's first offset: its last one, and the first delivery behind it.
    runs: BTreeMap<u64, (u64, u64)>,
    met_at: Option<Instant>,
    last_taken: Option<u64>,
}

impl UnreadableEntries {
    pub fn new(metrics: Arc<Metrics>, operator_status: Arc<OperatorStatus>) -> Self {
        Self { metrics, operator_status, inner: Mutex::default() }
    }

    /// Keeps what was proven, and tells it unless all of it is known.
    pub fn learn(&self, queue: &ShortString, run: &RangeInclusive<u64>, readable: u64) {
        let entries = self.known().add(run, readable);
        if entries == 0 {
            return;
        }
        let (from_offset, to_offset) = (*run.start(), *run.end());
        let queue = queue.as_str();
        error!(
            queue,
            from_offset,
            to_offset,
            "the broker cannot hand over these entries of the stream (541); they are passed over: publish the blocks that were in them again"
        );
        self.metrics.unreadable_entries.inc_by(entries);
        self.operator_status.record_unreadable(from_offset, to_offset);
    }

    /// Where reading goes on if this offset lies in a known run.
    pub fn behind(&self, offset: u64) -> Option<u64> {
        let known = self.known();
        let (_, (to, readable)) = known.runs.range(..=offset).next_back()?;
        (offset <= *to).then_some(*readable)
    }

    /// Forgets the runs: another stream took the place of the one that they were in.
    pub fn forget(&self) {
        self.known().runs.clear();
    }

    /// Says that the broker answered 541.
    pub fn set_met(&self) {
        self.known().met_at = Some(Instant::now());
    }

    /// Whether the broker answered 541 not long ago.
    pub fn is_suspect(&self) -> bool {
        self.known().met_at.is_some_and(|at| at.elapsed() < SUSPECT_FOR)
    }

    /// The offset that the feed has come to, said when it comes to what it cannot read and behind it.
    pub fn set_last_taken(&self, offset: u64) {
        self.known().last_taken = Some(offset);
    }

    pub fn last_taken(&self) -> Option<u64> {
        self.known().last_taken
    }

    fn known(&self) -> MutexGuard<'_, KnownRuns> {
        self.inner.lock().expect("bug: nothing panics while it holds this lock")
    }
}

impl KnownRuns {
    /// Adds a run; returns how many of its offsets were in none that is known.
    fn add(&mut self, run: &RangeInclusive<u64>, readable: u64) -> u64 {
        let (mut from, mut to, mut readable) = (*run.start(), *run.end(), readable);
        let mut new = to - from + 1;
        let overlapping: Vec<u64> = {
            let runs = self.runs.range(..=to);
            runs.filter(|(_, (known_to, _))| *known_to >= from).map(|(from, _)| *from).collect()
        };
        for known_from in overlapping {
            let Some((known_to, known_readable)) = self.runs.remove(&known_from) else { continue };
            new -= known_to.min(*run.end()) - known_from.max(*run.start()) + 1;
            from = from.min(known_from);
            if known_to > to {
                (to, readable) = (known_to, known_readable);
            }
        }
        self.runs.insert(from, (to, readable));
        if self.runs.len() > RUNS_MAX {
            self.runs.pop_first();
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_new_once() {
        let mut known = KnownRuns::default();
        for (run, readable, new) in [
            (40..=41, 42, 2),
            (41..=41, 42, 0),
            (40..=41, 42, 0),
            (38..=41, 42, 2),
            (50..=50, 55, 1),
            (30..=60, 61, 26),
        ] {
            assert_eq!(known.add(&run, readable), new, "{run:?}");
        }
        assert_eq!(known.runs, BTreeMap::from([(30, (60, 61))]));
        (0..2 * RUNS_MAX as u64)
            .for_each(|at| assert_eq!(known.add(&(100 * at + 99..=100 * at + 99), 0), 1));
        assert_eq!(known.runs.len(), RUNS_MAX);
    }

    #[test]
    fn what_is_known_is_told_once_and_skipped() {
        let metrics = Arc::new(Metrics::new());
        let unreadable = UnreadableEntries::new(Arc::clone(&metrics), Arc::default());
        for _ in 0..2 {
            unreadable.learn(&"q".into(), &(40..=41), 42);
        }
        assert_eq!(metrics.unreadable_entries.get(), 2);
        for (offset, behind) in [(39, None), (40, Some(42)), (41, Some(42)), (42, None)] {
            assert_eq!(unreadable.behind(offset), behind);
        }
        let (from, to, _) = unreadable.operator_status.snapshot().last_unreadable.expect("told");
        assert_eq!((from, to), (40, 41));
        unreadable.forget();
        assert_eq!(unreadable.behind(40), None);
    }
}
