//! A form of a block that was made, and the bytes that it takes of the budget for as long as it is kept.

use std::fmt::Debug;
use std::sync::Arc;

use arrayvec::ArrayVec;

use super::required_encodings::{FORMS_TAKEN_MAX, Form};
use crate::filter::Index;
use crate::frame::{EncodedBlock, MessageRun, encode_as};

/// Per form, beside what is counted exactly: reference counts, its entries in its block and in the budget,
/// and what the allocator adds to four allocations.
pub(super) const BESIDE_BYTES: usize = 256;

/// A form of a block. Counted until nobody has it any more.
#[derive(Debug)]
pub struct MadeForm {
    pub(super) form: Form,
    content: Content,
    pub(super) lease: Lease,
}

#[derive(Debug)]
pub(super) enum Content {
    Messages(MessageRun),
    Index(Index),
}

/// The forms that one reader takes of a block.
pub(super) type TakenForms = ArrayVec<Arc<MadeForm>, FORMS_TAKEN_MAX>;

/// Who counts what forms take.
pub(super) trait Lender: Debug + Send + Sync {
    fn give_back(&self, key: LeaseKey, bytes: usize);
}

/// Bytes of the budget, given back when dropped. Not to be dropped under a lock of the budget or of a block.
#[derive(Debug)]
pub(super) struct Lease {
    pub lender: Arc<dyn Lender>,
    pub key: LeaseKey,
    pub bytes: usize,
}

/// Names a lease, and what it is for: the height comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LeaseKey {
    pub height: u64,
    pub number: u64,
}

impl MadeForm {
    pub(super) fn new(form: Form, content: Content, lease: Lease) -> Self {
        Self { form, content, lease }
    }

    /// The messages; none of an index.
    pub fn messages(&self) -> Option<&MessageRun> {
        match &self.content {
            Content::Messages(messages) => Some(messages),
            Content::Index(_) => None,
        }
    }

    /// The index, if it is one.
    pub fn index(&self) -> Option<&Index> {
        match &self.content {
            Content::Messages(_) => None,
            Content::Index(index) => Some(index),
        }
    }
}

impl Content {
    /// Makes a form. Takes as long as encoding the block does.
    pub fn of(block: &EncodedBlock, form: Form) -> Self {
        match form {
            Form::Encoding(encoding) => Self::Messages(encode_as(block, encoding)),
            Form::Index => Self::Index(Index::of(&block.fields)),
        }
    }

    /// All that is kept for it.
    pub fn bytes(&self) -> usize {
        let own = match self {
            Self::Messages(messages) => messages.bytes_kept(),
            Self::Index(index) => index.bytes(),
        };
        own + size_of::<MadeForm>() + BESIDE_BYTES
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.lender.give_back(self.key, self.bytes);
    }
}
