//! Readers that wait for encodings of one block, each woken once when what it requires is made.

use std::sync::Arc;
use std::task::Waker;

use slab::Slab;

use super::readers::HistoryReaders;
use super::required_encodings::{Form, RequiredEncodings};

/// The waiting readers of one block.
#[derive(Debug, Default)]
pub(super) struct Waits {
    waits: Slab<Wait>,
}

#[derive(Debug)]
struct Wait {
    required: RequiredEncodings,
    /// None for a reader that was woken, and has not ended its wait: it is about to write.
    whom: Option<Whom>,
}

/// Who is woken.
#[derive(Debug)]
pub(super) enum Whom {
    /// One reader, which ends its wait itself.
    Reader(Waker),
    /// All of a kind, for a new block.
    Kind(Arc<HistoryReaders>),
}

impl Waits {
    /// Adds one. Returns its key, to [`Waits::end`] it with.
    pub fn begin(&mut self, required: RequiredEncodings, whom: Whom) -> usize {
        self.waits.insert(Wait { required, whom: Some(whom) })
    }

    /// Removes one, and returns whom it was to wake.
    pub fn end(&mut self, key: usize) -> Option<Whom> {
        self.waits.try_remove(key).and_then(|wait| wait.whom)
    }

    /// Whether its reader was woken.
    pub fn is_met(&self, key: usize) -> bool {
        self.waits.get(key).is_none_or(|wait| wait.whom.is_none())
    }

    /// Whether somebody waits for a form, or has been woken for it and has not written since.
    pub fn want(&self, form: Form) -> bool {
        self.waits.iter().any(|(_, wait)| wait.required.contains(form))
    }

    /// Whether somebody waits for a form and for one of these.
    pub fn want_with(&self, form: Form, others: RequiredEncodings) -> bool {
        self.waits
            .iter()
            .any(|(_, wait)| wait.required.contains(form) && !wait.required.among(others).is_none())
    }

    /// Removes all, and returns whom they were to wake.
    pub fn end_all(&mut self) -> impl Iterator<Item = Whom> {
        self.waits.drain().filter_map(|wait| wait.whom)
    }

    /// Takes those to wake now that a form is made and `has` says what else is.
    pub fn made(&mut self, form: Form, has: impl Fn(RequiredEncodings) -> bool) -> Vec<Whom> {
        let mut woken = Vec::new();
        self.waits.retain(|_, wait| {
            if !wait.required.contains(form) || !has(wait.required) {
                return true;
            }
            let is_reader = matches!(wait.whom, None | Some(Whom::Reader(_)));
            woken.extend(wait.whom.take());
            is_reader
        });
        woken
    }
}

impl Whom {
    pub fn wake(self) {
        match self {
            Self::Reader(waker) => waker.wake(),
            Self::Kind(readers) => readers.wake(),
        }
    }
}
