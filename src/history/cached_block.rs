//! A block in the history, with the forms of it that are made only when some client requires them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Instant, SystemTime};

use super::made_form::{BESIDE_BYTES as FORM_BESIDE_BYTES, MadeForm, TakenForms};
use super::required_encodings::{Form, RequiredEncodings};
use super::waits::{Waits, Whom};
use crate::filter::Index;
use crate::frame::EncodedBlock;

/// Per block, beside what is counted exactly: reference counts, what the allocator adds to four
/// allocations, and the sequencer's entry for the height.
const BESIDE_BYTES: usize = 192;
/// How much longer than copying a block's frames making its index takes, about.
const INDEX_WORK: u64 = 4;
/// The run's entry for the block: two heights, and which kind it is. `entry` checks it.
pub(super) const ENTRY_BYTES: usize = 24;

/// A block in the history, and since when.
#[derive(Debug)]
pub struct CachedBlock {
    pub block: EncodedBlock,
    pub appended_at: Instant,
    pub appended_time: SystemTime,
    /// What the run has counted of others before it.
    counted_before: AtomicU64,
    /// Looked at by those alone that require some.
    forms: Mutex<Forms>,
}

/// The forms of a block, in every state.
#[derive(Debug, Default)]
struct Forms {
    made: Vec<Arc<MadeForm>>,
    /// Those to be made.
    queued: RequiredEncodings,
    /// Those that were made once, also if they were let go.
    made_before: RequiredEncodings,
    waits: Waits,
}

/// What was queued with one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Claimed {
    pub forms: RequiredEncodings,
    /// Those of them that were made before.
    pub again: RequiredEncodings,
}

impl CachedBlock {
    pub(super) fn now(block: EncodedBlock) -> Self {
        Self {
            block,
            appended_at: Instant::now(),
            appended_time: SystemTime::now(),
            counted_before: AtomicU64::new(0),
            forms: Mutex::default(),
        }
    }

    pub(super) fn counted_before(&self) -> u64 {
        self.counted_before.load(Ordering::Relaxed)
    }

    pub(super) fn set_counted_before(&self, bytes: u64) {
        self.counted_before.store(bytes, Ordering::Relaxed);
    }

    /// All of these forms that the block has anything of; none if one is not made.
    pub(super) fn forms(&self, required: RequiredEncodings) -> Option<TakenForms> {
        let required = self.existing(required);
        if required.is_none() {
            return Some(TakenForms::new());
        }
        let forms = self.lock();
        if !forms.has(required) {
            return None;
        }
        let taken = forms.made.iter().filter(|made| required.contains(made.form));
        Some(taken.cloned().collect())
    }

    /// About what making a form takes: the work of copying so many bytes.
    pub(super) fn work(&self, form: Form) -> u64 {
        match form {
            Form::Encoding(encoding) => encoding.work(&self.block),
            Form::Index => INDEX_WORK * self.block.events.len() as u64,
        }
    }

    /// At least what is kept of a form.
    pub(super) fn form_bytes_max(&self, form: Form) -> usize {
        let own = match form {
            Form::Encoding(encoding) => encoding.bytes_max(&self.block),
            Form::Index => Index::bytes_max(&self.block.fields),
        };
        own + size_of::<MadeForm>() + FORM_BESIDE_BYTES
    }

    /// At least what is kept of these forms.
    pub fn forms_bytes_max(&self, required: RequiredEncodings) -> usize {
        match required.is_none() {
            true => 0,
            false => self.existing(required).forms().map(|form| self.form_bytes_max(form)).sum(),
        }
    }

    /// Claims those that are neither made nor queued for the caller to queue.
    pub(super) fn claim(&self, required: RequiredEncodings) -> Claimed {
        let required = self.existing(required);
        if required.is_none() {
            return Claimed::default();
        }
        let mut forms = self.lock();
        let claimed = required.without(forms.queued).without(forms.all_made());
        forms.queued = forms.queued.with(claimed);
        Claimed { forms: claimed, again: claimed.among(forms.made_before) }
    }

    /// Gives up a form that was queued, unless somebody waits for it. Returns whether it is given up.
    pub(super) fn give_up_unless_awaited(&self, form: Form) -> bool {
        let mut forms = self.lock();
        let is_given_up = !forms.waits.want(form);
        if is_given_up {
            forms.queued = forms.queued.without(RequiredEncodings::only(form));
        }
        is_given_up
    }

    /// Whether somebody waits for a form.
    pub(super) fn is_awaited(&self, form: Form) -> bool {
        self.lock().waits.want(form)
    }

    /// Whether somebody waits for a form who keeps another of this block until that is there.
    pub(super) fn holds_back(&self, form: Form) -> bool {
        let forms = self.lock();
        forms.waits.want_with(form, forms.all_made())
    }

    /// Puts a form that was made, and returns who has all that it waited for.
    pub(super) fn put(&self, made: Arc<MadeForm>) -> Vec<Whom> {
        let form = made.form;
        let mut forms = self.lock();
        let is_new = RequiredEncodings::only(form);
        forms.queued = forms.queued.without(is_new);
        forms.made_before = forms.made_before.with(is_new);
        forms.made.push(made);
        let all_made = forms.all_made();
        let has = |required| self.existing(required).without(all_made).is_none();
        forms.waits.made(form, has)
    }

    /// Takes out a form that nobody waits for, to let it go. None: somebody does.
    pub(super) fn take_out(&self, form: Form) -> Option<Arc<MadeForm>> {
        let mut forms = self.lock();
        if forms.waits.want(form) {
            return None;
        }
        let at = forms.made.iter().position(|made| made.form == form)?;
        Some(forms.made.swap_remove(at))
    }

    /// Puts down whom to wake when these are made. Returns the key of the wait, or `whom` if they are made.
    pub(super) fn wait(&self, required: RequiredEncodings, whom: Whom) -> Result<usize, Whom> {
        let existing = self.existing(required);
        let mut forms = self.lock();
        // Who makes the last of them looks for waits behind that.
        match forms.has(existing) {
            true => Err(whom),
            false => Ok(forms.waits.begin(required, whom)),
        }
    }

    pub(super) fn end_wait(&self, key: usize) {
        let ended = self.lock().waits.end(key);
        // Dropped behind the lock: its waker may be the last of its task.
        drop(ended);
    }

    /// Whether all is made that is waited for.
    pub(super) fn is_wait_met(&self, key: usize) -> bool {
        self.lock().waits.is_met(key)
    }

    /// Everything that this entry keeps in memory but for forms, which a budget of their own counts.
    pub fn bytes(&self) -> usize {
        self.block.bytes() + size_of::<Self>() + ENTRY_BYTES + BESIDE_BYTES
    }

    /// Those of these that this block has anything of.
    fn existing(&self, required: RequiredEncodings) -> RequiredEncodings {
        if self.block.events_len() > 0 {
            return required;
        }
        let is_there = |form: &Form| match form {
            Form::Encoding(encoding) => !encoding.is_nothing_of(&self.block),
            Form::Index => false,
        };
        let there = required.forms().filter(is_there);
        there.map(RequiredEncodings::only).fold(RequiredEncodings::NONE, RequiredEncodings::with)
    }

    fn lock(&self) -> MutexGuard<'_, Forms> {
        self.forms.lock().expect("bug: nothing panics while it holds this lock")
    }
}

/// Who waits for it finds that it has left.
impl Drop for CachedBlock {
    fn drop(&mut self) {
        let forms = self.forms.get_mut().expect("bug: nothing panics while it holds this lock");
        forms.waits.end_all().for_each(Whom::wake);
    }
}

impl Forms {
    fn all_made(&self) -> RequiredEncodings {
        let made = self.made.iter().map(|made| RequiredEncodings::only(made.form));
        made.fold(RequiredEncodings::NONE, RequiredEncodings::with)
    }

    fn has(&self, required: RequiredEncodings) -> bool {
        required.without(self.all_made()).is_none()
    }
}
