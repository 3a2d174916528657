//! A block that was taken out of a history for one write, with the forms that its reader is sent.

use std::ops::Deref;
use std::sync::{Arc, LazyLock};

use super::cached_block::CachedBlock;
use super::made_form::{MadeForm, TakenForms};
use super::required_encodings::{Form, RequiredEncodings};
use crate::filter::Index;
use crate::frame::{Encoding, MessageRun};

/// A block, and forms of it: what is let go meanwhile stays here.
#[derive(Debug, Clone)]
pub struct TakenBlock {
    cached: Arc<CachedBlock>,
    forms: TakenForms,
}

static NO_MESSAGES: LazyLock<MessageRun> = LazyLock::new(MessageRun::default);
static NO_INDEX: LazyLock<Index> = LazyLock::new(Index::default);

impl TakenBlock {
    /// Without forms.
    pub(super) fn of(cached: Arc<CachedBlock>) -> Self {
        Self { cached, forms: TakenForms::new() }
    }

    pub fn cached(&self) -> &Arc<CachedBlock> {
        &self.cached
    }

    /// Takes these forms in the place of those before. Returns whether they are all made.
    pub fn take(&mut self, required: RequiredEncodings) -> bool {
        if required.is_none() {
            return true;
        }
        match self.cached.forms(required) {
            Some(forms) => self.forms = forms,
            None => return false,
        }
        true
    }

    /// The block in this encoding, if that was taken.
    pub fn encoded(&self, encoding: Encoding) -> Option<&MessageRun> {
        if encoding.is_nothing_of(&self.cached.block) {
            return Some(&NO_MESSAGES);
        }
        self.taken(Form::Encoding(encoding)).and_then(MadeForm::messages)
    }

    /// What filters look things up in, if that was taken.
    pub fn index(&self) -> Option<&Index> {
        if self.cached.block.events_len() == 0 {
            return Some(&NO_INDEX);
        }
        self.taken(Form::Index).and_then(MadeForm::index)
    }

    fn taken(&self, form: Form) -> Option<&MadeForm> {
        self.forms.iter().find(|made| made.form == form).map(|made| &**made)
    }
}

impl Deref for TakenBlock {
    type Target = CachedBlock;

    fn deref(&self) -> &CachedBlock {
        &self.cached
    }
}

impl AsRef<CachedBlock> for TakenBlock {
    fn as_ref(&self) -> &CachedBlock {
        &self.cached
    }
}
