//! The forms of blocks that one session takes, and what it has asked to be made, held against what its client
//! takes.
//!
//! A client has the first block that it lacks made, and further ones ahead of that only for blocks that it has
//! passed since it asked last. So who reads a trickle has little made that is let go before it is written.

use std::sync::Arc;

use crate::history::{CachedBlock, Entries, Entry, RequiredEncodings, Watch};

/// How much more than its client takes a session has made ahead, and made again.
const MADE_PER_TAKEN: usize = 4;

/// What was asked for, and what was taken.
#[derive(Debug, Default)]
pub struct FormRequests {
    /// Where the client was when this last asked.
    asked_at: Option<u64>,
    /// Bytes that the client took.
    taken: usize,
    /// Bytes at most that were made again for it.
    again: usize,
    /// Whether the socket was seen to take bytes since this last asked.
    may_ask: bool,
}

impl FormRequests {
    /// The client took so many bytes.
    pub fn took(&mut self, bytes: usize) {
        self.taken = self.taken.saturating_add(bytes);
    }

    /// The socket takes bytes: from now on it may be asked once.
    pub fn allow(&mut self) {
        self.may_ask = true;
    }

    /// Takes the forms that the client is sent, and leaves the entries up to the first that lacks one.
    ///
    /// Returns false if that is the first of all, and is to be asked for once the socket takes bytes.
    pub fn keep_ready(
        &mut self,
        watch: &mut Watch,
        required: impl Fn(&CachedBlock) -> RequiredEncodings,
        entries: &mut Entries,
    ) -> bool {
        let unready = entries.iter_mut().position(|entry| match entry {
            Entry::Block(taken) => {
                let required = required(taken);
                !taken.take(required)
            }
            Entry::Gap { .. } => false,
        });
        if unready != Some(0) {
            // What it waited for is in its hands for this turn: a client that takes nothing keeps nothing.
            watch.end_met_wait();
            entries.truncate(unready.unwrap_or(entries.len()));
            return true;
        }
        let is_waiting = match entries.first() {
            Some(Entry::Block(first)) => watch.waits_for(first.cached(), required(first)),
            _ => false,
        };
        let is_asked = is_waiting
            || self.may_ask && {
                let wanted = entries.iter().filter_map(|entry| match entry {
                    Entry::Block(taken) => Some((Arc::clone(taken.cached()), required(taken))),
                    Entry::Gap { .. } => None,
                });
                self.ask(watch, &Vec::from_iter(wanted))
            };
        entries.clear();
        is_asked
    }

    /// Has the first of these blocks made, and of the others what is due to the client. It waits for the
    /// first. Returns false if that is made already.
    fn ask(&mut self, watch: &mut Watch, blocks: &[(Arc<CachedBlock>, RequiredEncodings)]) -> bool {
        self.may_ask = false;
        let Some(((first, required), others)) = blocks.split_first() else { return false };
        if !watch.wait_for(first, *required) {
            return false;
        }
        let height = first.block.height;
        let passed =
            self.asked_at.replace(height).map_or(0, |before| height.saturating_sub(before));
        let ahead = MADE_PER_TAKEN.saturating_mul(usize::try_from(passed).unwrap_or(usize::MAX));
        let again_max = MADE_PER_TAKEN
            .saturating_mul(self.taken)
            .saturating_add(first.forms_bytes_max(*required));
        let history = watch.history();
        let mut queue = |cached, required| {
            let again_max = again_max.saturating_sub(self.again);
            self.again += history.queue_encodings(cached, required, again_max);
        };
        queue(first, *required);
        for (cached, required) in others.iter().take(ahead) {
            queue(cached, *required);
        }
        true
    }
}
