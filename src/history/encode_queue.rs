//! The order in which encodings are made: those of live blocks first, small ones before large ones.
//! Pure: makes nothing, and nobody waits here.

use std::collections::BTreeMap;

/// Who waits for an encoding; the first goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Urgency {
    /// The readers of the newest block.
    Live,
    /// A reader that is further back.
    Backlog,
    /// A reader for which so much was made again already that others come first.
    Again,
}

/// Open jobs, each with the work that it takes.
///
/// A job is overtaken by smaller ones, but only by those that come before as much work was taken as it is
/// itself: so a large one does not wait for ever behind small ones.
#[derive(Debug)]
pub(super) struct EncodeQueue<J> {
    /// By rank: each with its work.
    jobs: BTreeMap<Rank, (u64, J)>,
    /// Jobs that were ever pushed.
    pushed: u64,
    /// The work of the jobs that were taken, of both urgencies.
    work_taken: u64,
}

/// A job's place in the queue; the lowest goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    urgency: Urgency,
    /// The work that was taken before it came, and its own.
    due: u64,
    /// Among equals the one that came first.
    number: u64,
}

impl<J> Default for EncodeQueue<J> {
    fn default() -> Self {
        Self { jobs: BTreeMap::new(), pushed: 0, work_taken: 0 }
    }
}

impl<J> EncodeQueue<J> {
    /// Adds a job; `work` is about what it takes, as [`crate::frame::Encoding::work`] says.
    pub fn push(&mut self, urgency: Urgency, work: u64, job: J) {
        self.pushed += 1;
        let rank = Rank { urgency, due: self.work_taken + work, number: self.pushed };
        self.jobs.insert(rank, (work, job));
    }

    /// The jobs in the order in which they come.
    pub fn iter(&self) -> impl Iterator<Item = (Rank, &J)> {
        self.jobs.iter().map(|(rank, (_, job))| (*rank, job))
    }

    pub fn get(&self, rank: Rank) -> Option<&J> {
        self.jobs.get(&rank).map(|(_, job)| job)
    }

    /// Takes a job to be done.
    pub fn take(&mut self, rank: Rank) -> Option<J> {
        let (work, job) = self.jobs.remove(&rank)?;
        self.work_taken += work;
        Some(job)
    }

    /// Removes a job that nobody wants.
    pub fn remove(&mut self, rank: Rank) {
        self.jobs.remove(&rank);
    }

    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::Urgency::{Again, Backlog, Live};
    use super::*;

    fn pop<J>(queue: &mut EncodeQueue<J>) -> Option<J> {
        let (rank, _) = queue.iter().next()?;
        queue.take(rank)
    }

    fn order(pushed: &[(Urgency, u64)]) -> Vec<usize> {
        let mut queue = EncodeQueue::default();
        for (job, (urgency, work)) in pushed.iter().enumerate() {
            queue.push(*urgency, *work, job);
        }
        std::iter::from_fn(|| pop(&mut queue)).collect()
    }

    #[test]
    fn live_blocks_come_before_the_backlog_and_small_jobs_before_large_ones() {
        for (pushed, expected) in [
            (&[][..], vec![]),
            (&[(Live, 5), (Live, 5), (Live, 5)], vec![0, 1, 2]),
            (&[(Live, 9), (Live, 1), (Live, 5)], vec![1, 2, 0]),
            (&[(Again, 1), (Backlog, 2), (Live, 1_000)], vec![2, 1, 0]),
            (&[(Backlog, 7), (Live, 9), (Backlog, 2), (Live, 3)], vec![3, 1, 2, 0]),
        ] {
            assert_eq!(order(pushed), expected, "{pushed:?}");
        }
    }

    #[test]
    fn a_large_job_is_not_overtaken_without_end() {
        let mut queue = EncodeQueue::default();
        queue.push(Live, 100, "large");
        let mut overtaken = 0;
        loop {
            queue.push(Live, 10, "small");
            match pop(&mut queue) {
                Some("small") => overtaken += 1,
                _ => break,
            }
        }
        assert_eq!(overtaken, 9, "as much work as it takes itself");
    }
}
