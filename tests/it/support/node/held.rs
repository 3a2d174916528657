//! Answers that a stand-in for a node holds back, and how many are due at a time.

use std::sync::{Mutex, MutexGuard};

use tokio::sync::Semaphore;

pub struct Held {
    turns: Semaphore,
    counts: Mutex<Counts>,
}

/// Of what was asked so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Asked and not answered.
    pub due: usize,
    /// The most that were ever due.
    pub most_due: usize,
    pub answered: usize,
}

impl Held {
    pub fn new() -> Self {
        Self { turns: Semaphore::new(0), counts: Mutex::default() }
    }

    /// Lets so many more be answered.
    pub fn let_go(&self, answers: usize) {
        self.turns.add_permits(answers);
    }

    pub fn counts(&self) -> Counts {
        *self.locked()
    }

    /// Waits until this one may be answered.
    pub(super) async fn turn(&self) {
        {
            let mut counts = self.locked();
            counts.due += 1;
            counts.most_due = counts.most_due.max(counts.due);
        }
        self.turns.acquire().await.expect("never closed").forget();
        let mut counts = self.locked();
        counts.due -= 1;
        counts.answered += 1;
    }

    fn locked(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().expect("nobody panicked while it held this lock")
    }
}
