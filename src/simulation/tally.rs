//! What a simulation has come across; shows that it looked at something.

use std::collections::BTreeMap;

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Tally {
    pub steps: u64,
    pub counts: BTreeMap<Seen, u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Seen {
    Messages,
    Pongs,
    Resumes,
    ResumesInside,
    Gaps,
    Fills,
    PassedMissing,
    Slow,
    Stalled,
    NoPong,
    NotAvailable,
    Ahead,
    OtherChains,
    Done,
    Limited,
    Drained,
    Cut,
    Ids,
    LastEventIds,
    Fallbacks,
}

impl Tally {
    pub fn note(&mut self, seen: Seen) {
        *self.counts.entry(seen).or_default() += 1;
    }

    pub fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        for (seen, count) in &other.counts {
            *self.counts.entry(*seen).or_default() += count;
        }
    }
}

impl Seen {
    pub const ALL: [Self; 20] = [
        Self::Messages,
        Self::Pongs,
        Self::Resumes,
        Self::ResumesInside,
        Self::Gaps,
        Self::Fills,
        Self::PassedMissing,
        Self::Slow,
        Self::Stalled,
        Self::NoPong,
        Self::NotAvailable,
        Self::Ahead,
        Self::OtherChains,
        Self::Done,
        Self::Limited,
        Self::Drained,
        Self::Cut,
        Self::Ids,
        Self::LastEventIds,
        Self::Fallbacks,
    ];
}
