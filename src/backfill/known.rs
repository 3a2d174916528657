//! What is known of the RabbitMQ stream: asked once, by one task, for all who want to know.
//!
//! It may be some time ago that it was asked. What lies behind the end that is known, a reading comes
//! to; what retention has taken since shows when it is read. Nobody is told that something is not there
//! before that was asked anew.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::amqp::Bounds;

/// How old it may be: twice as long as from one asking to the next.
const KNOWN_FOR: Duration = Duration::from_secs(60);
/// Looks that are kept, of searches for other heights: some hundred KB.
const LOOKS_MAX: usize = 4_096;

/// What one asking has found.
#[derive(Debug)]
pub struct Known {
    /// None for a stream that is empty, or not there.
    pub ends: Option<Ends>,
    /// The number of the asking.
    number: u64,
    asked_at: Instant,
    /// The highest height among some messages from an offset on, as searches have seen them.
    looks: Mutex<HashMap<u64, Option<u64>>>,
}

/// Where a stream begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    pub bounds: Bounds,
    /// None when none of its first messages is a block.
    pub first_height: Option<u64>,
}

/// What is known, and who wants to know.
#[derive(Debug)]
pub struct KnownStream {
    /// Sender: the task that asks. Receivers: those who want to know.
    known: watch::Sender<Option<Arc<Known>>>,
    /// The number of the last asking that has begun, and of the one that is wanted. Senders: the task
    /// that asks, and those who want to know. Receiver: the task that asks.
    askings: watch::Sender<Askings>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Askings {
    begun: u64,
    wanted: u64,
    /// The last one that may have found what is no longer so.
    outdated: u64,
}

/// A moment between one asking and the next.
#[derive(Debug, Clone, Copy)]
pub struct Mark(u64);

impl Default for KnownStream {
    fn default() -> Self {
        Self { known: watch::Sender::new(None), askings: watch::Sender::default() }
    }
}

impl KnownStream {
    /// What is known, asked at most a minute ago.
    pub async fn recent(&self) -> Arc<Known> {
        let known = self.known.borrow().clone();
        let outdated = self.askings.borrow().outdated;
        let number = known.as_ref().map_or(0, |known| known.number);
        let is_young = |known: &Arc<Known>| known.asked_at.elapsed() <= KNOWN_FOR;
        match known.filter(is_young) {
            Some(known) if number > outdated => known,
            // One that is under way will do.
            _ => self.since(Mark(number.max(outdated))).await,
        }
    }

    /// Now.
    pub fn mark(&self) -> Mark {
        Mark(self.askings.borrow().begun)
    }

    /// What is known and was asked after `mark`. Waits for a broker as long as it takes.
    pub async fn since(&self, mark: Mark) -> Arc<Known> {
        let mut known = self.known.subscribe();
        let wanted = mark.0 + 1;
        self.askings.send_if_modified(|askings| {
            let is_new = askings.wanted < wanted;
            askings.wanted = askings.wanted.max(wanted);
            is_new
        });
        let is_since =
            |known: &Option<Arc<Known>>| known.as_ref().is_some_and(|known| known.number >= wanted);
        let known = known.wait_for(is_since).await;
        let known = known.expect("bug: this holds the sender").clone();
        known.expect("bug: it was there a moment ago")
    }

    /// What is known so far is wrong, or may be.
    pub fn forget(&self) {
        self.askings.send_if_modified(|askings| {
            askings.outdated = askings.begun;
            false
        });
    }

    /// Begins to ask. Returns the number of the asking.
    pub fn begin(&self) -> u64 {
        let mut number = 0;
        self.askings.send_modify(|askings| {
            askings.begun += 1;
            number = askings.begun;
        });
        number
    }

    /// Says what was found.
    pub fn tell(&self, number: u64, asked_at: Instant, ends: Option<Ends>) {
        let known = Known { ends, number, asked_at, looks: Mutex::default() };
        self.known.send_replace(Some(Arc::new(known)));
    }

    /// Waits until an asking after this one is wanted.
    ///
    /// # Cancel safety
    /// No wish is lost when dropped.
    pub async fn wanted_after(&self, number: u64) {
        let mut askings = self.askings.subscribe();
        let wanted = askings.wait_for(|askings| askings.wanted > number).await;
        let _askings = wanted.expect("bug: this holds the sender");
    }
}

impl Known {
    /// Whether there is nothing from this height on, or not all.
    pub fn lacks(&self, height: u64) -> bool {
        match self.ends {
            None => true,
            Some(ends) => ends.first_height.is_some_and(|first| first > height),
        }
    }

    /// What a look at this offset has seen.
    pub fn seen_at(&self, offset: u64) -> Option<Option<u64>> {
        self.looks().get(&offset).copied()
    }

    /// Keeps what a look at this offset has seen.
    pub fn keep_look(&self, offset: u64, highest: Option<u64>) {
        let mut looks = self.looks();
        if looks.len() < LOOKS_MAX {
            looks.insert(offset, highest);
        }
    }

    fn looks(&self) -> MutexGuard<'_, HashMap<u64, Option<u64>>> {
        self.looks.lock().expect("bug: nothing panics while it holds this lock")
    }
}
