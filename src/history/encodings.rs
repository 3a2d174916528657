//! The encodings of a replica's histories that are made on demand: which are to be made, in which order, and
//! what those that are made take together.
//!
//! Each is made once, however many clients require it, and stays until its block leaves or its bytes are
//! wanted for another. Then those go first that nobody waits for, furthest from the tip first. No block is
//! ever evicted for an encoding. Nothing is made here, and no reader waits here.
//!
//! Locks are taken in this order: a history's, this one, a block's. What a lock guards is dropped behind it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use prometheus::{IntCounter, IntGauge};
use tokio::sync::Notify;

use super::cached_block::{CachedBlock, Claimed};
use super::encode_queue::{EncodeQueue, Rank, Urgency};
use super::made_form::{Content, Lease, LeaseKey, Lender, MadeForm};
use super::required_encodings::Form;
use super::waits::Whom;

/// Jobs that are looked at for one that there is room for.
const LOOKED_AT_MAX: usize = 64;

/// Encodings under a bound of their own.
#[derive(Debug)]
pub struct Encodings {
    bytes_max: usize,
    state: Mutex<Budget>,
    /// There is a job, or room again for one.
    changed: Notify,
    /// Whether a job may wait for room.
    is_short: AtomicBool,
    counts: EncodingCounts,
}

/// What is counted of encodings, in bytes.
#[derive(Debug, Clone)]
pub struct EncodingCounts {
    /// Those that are kept, and what is set aside for those that are being made.
    pub kept: IntGauge,
    pub made: IntCounter,
    /// Made of what was let go before.
    pub made_again: IntCounter,
    /// Let go to make room, though their block is still there.
    pub let_go: IntCounter,
}

#[derive(Debug, Default)]
struct Budget {
    queue: EncodeQueue<OpenJob>,
    /// Of all leases.
    bytes: usize,
    /// Of those that were let go, and that a reader still writes.
    leaving: BTreeMap<LeaseKey, usize>,
    /// What may be let go, furthest from the tip first.
    kept: BTreeMap<LeaseKey, KeptForm>,
    /// Leases so far.
    leases: u64,
    /// The block of which more is made than there is room for, one at a time.
    above: Option<usize>,
}

/// A form that is in its block.
#[derive(Debug)]
struct KeptForm {
    cached: Weak<CachedBlock>,
    form: Form,
    bytes: usize,
}

/// A form to make. It keeps no block alive: nobody needs one that has left the history.
#[derive(Debug)]
struct OpenJob {
    cached: Weak<CachedBlock>,
    form: Form,
    bytes_max: usize,
    is_again: bool,
}

/// A block, and the form to make of it, for which there is room.
#[derive(Debug)]
pub struct EncodeJob {
    encodings: Arc<Encodings>,
    pub(super) cached: Arc<CachedBlock>,
    pub(super) form: Form,
    is_again: bool,
    lease: Lease,
    made: Option<Content>,
}

/// What a look at the queue comes to.
enum Look {
    Job(EncodeJob),
    /// These are to be dropped, then it is looked again.
    Room(Vec<Arc<MadeForm>>),
    /// There is no job, or no room.
    Nothing,
}

impl Encodings {
    /// Keeps at most `bytes_max`, and beside that what one block alone needs.
    pub fn new(bytes_max: usize, counts: EncodingCounts) -> Arc<Self> {
        Arc::new(Self {
            bytes_max,
            state: Mutex::default(),
            changed: Notify::new(),
            is_short: AtomicBool::new(false),
            counts,
        })
    }

    /// All that is kept, and what is set aside for what is being made.
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Waits for the job that comes next, and takes it. [`crate::encoder`] makes and finishes it.
    ///
    /// # Cancel safety
    /// Nothing is taken when dropped.
    pub async fn next_job(self: &Arc<Self>) -> EncodeJob {
        loop {
            if let Some(job) = self.take() {
                return job;
            }
            self.changed.notified().await;
        }
    }

    pub(super) fn push(&self, urgency: Urgency, cached: &Arc<CachedBlock>, claimed: Claimed) {
        if claimed.forms.is_none() {
            return;
        }
        let mut budget = self.lock();
        for form in claimed.forms.forms() {
            let job = OpenJob {
                cached: Arc::downgrade(cached),
                form,
                bytes_max: cached.form_bytes_max(form),
                is_again: claimed.again.contains(form),
            };
            budget.queue.push(urgency, cached.work(form), job);
        }
        drop(budget);
        self.changed.notify_one();
    }

    /// Somebody does not wait for a form any more: there may be room for another.
    pub(super) fn note_unawaited(&self) {
        if self.is_short.load(Ordering::SeqCst) {
            self.changed.notify_one();
        }
    }

    fn take(self: &Arc<Self>) -> Option<EncodeJob> {
        loop {
            // Dropped behind the lock: a block's last reference has leases to give back.
            let mut seen = Vec::new();
            let look = {
                let mut budget = self.lock();
                let look = self.look(&mut budget, &mut seen);
                let is_open = !budget.queue.is_empty();
                self.is_short.store(is_open, Ordering::SeqCst);
                if is_open && matches!(look, Look::Job(_)) {
                    // For the next maker that has nothing to do.
                    self.changed.notify_one();
                }
                look
            };
            match look {
                Look::Job(job) => return Some(job),
                Look::Room(let_go) => drop(let_go),
                Look::Nothing => return None,
            }
        }
    }

    /// Looks for the first job that there is room for, or for what makes room for it.
    fn look(self: &Arc<Self>, budget: &mut Budget, seen: &mut Vec<Arc<CachedBlock>>) -> Look {
        // Before it is seen who waits: who stops waiting from now on says so.
        self.is_short.store(true, Ordering::SeqCst);
        let mut has_pinned_only = false;
        for rank in budget.first_ranks() {
            let Some(job) = budget.queue.get(rank) else { continue };
            let (form, bytes) = (job.form, job.bytes_max);
            let Some(cached) = job.cached.upgrade() else {
                budget.queue.remove(rank);
                continue;
            };
            seen.push(Arc::clone(&cached));
            if self.has_room(budget.bytes, bytes) {
                return Look::Job(self.admit(budget, rank, cached));
            }
            let leaving = budget.leaving.values().sum::<usize>();
            if self.has_room(budget.bytes - leaving, bytes) {
                // A reader is about to let it go.
                continue;
            }
            let is_awaited = cached.is_awaited(form);
            if !is_awaited && bytes > self.bytes_max && cached.give_up_unless_awaited(form) {
                budget.queue.remove(rank);
                continue;
            }
            if !(has_pinned_only && is_awaited) {
                // What nobody waits for takes the place of nothing that is nearer to the tip.
                let below = if is_awaited { u64::MAX } else { cached.block.height };
                let wanted = (budget.bytes - leaving).saturating_add(bytes) - self.bytes_max;
                let let_go = self.let_go(budget, wanted, below, seen);
                if !let_go.is_empty() {
                    return Look::Room(let_go);
                }
                has_pinned_only |= is_awaited;
            }
            if !is_awaited && cached.give_up_unless_awaited(form) {
                budget.queue.remove(rank);
                continue;
            }
            let block = Arc::as_ptr(&cached) as usize;
            let may_go_above = match budget.above {
                None => true,
                Some(above) => above == block && cached.holds_back(form),
            };
            if may_go_above {
                budget.above = Some(block);
                return Look::Job(self.admit(budget, rank, cached));
            }
        }
        Look::Nothing
    }

    fn has_room(&self, kept: usize, bytes: usize) -> bool {
        kept.checked_add(bytes).is_some_and(|bytes| bytes <= self.bytes_max)
    }

    fn admit(
        self: &Arc<Self>,
        budget: &mut Budget,
        rank: Rank,
        cached: Arc<CachedBlock>,
    ) -> EncodeJob {
        let OpenJob { form, bytes_max: bytes, is_again, .. } =
            budget.queue.take(rank).expect("bug: a job that is looked at is in the queue");
        budget.bytes += bytes;
        budget.leases += 1;
        self.counts.kept.add(bytes as i64);
        let key = LeaseKey { height: cached.block.height, number: budget.leases };
        let encodings = Arc::clone(self);
        let lease = Lease { lender: Arc::<Self>::clone(self), key, bytes };
        EncodeJob { encodings, cached, form, is_again, lease, made: None }
    }

    /// Takes about `wanted` bytes of forms that nobody waits for out of their blocks below a height.
    fn let_go(
        &self,
        budget: &mut Budget,
        wanted: usize,
        below: u64,
        seen: &mut Vec<Arc<CachedBlock>>,
    ) -> Vec<Arc<MadeForm>> {
        let (mut let_go, mut bytes) = (Vec::new(), 0);
        for (key, kept) in &budget.kept {
            if bytes >= wanted || key.height >= below {
                break;
            }
            let Some(cached) = kept.cached.upgrade() else { continue };
            if let Some(made) = cached.take_out(kept.form) {
                bytes += kept.bytes;
                self.counts.let_go.inc_by(kept.bytes as u64);
                let_go.push(made);
            }
            seen.push(cached);
        }
        for made in &let_go {
            budget.kept.remove(&made.lease.key);
            budget.leaving.insert(made.lease.key, made.lease.bytes);
        }
        let_go
    }

    /// Counts a form by what it takes, from now on.
    fn settle(&self, job: &mut EncodeJob, bytes: usize) {
        let before = std::mem::replace(&mut job.lease.bytes, bytes);
        let mut budget = self.lock();
        budget.bytes = budget.bytes - before + bytes;
        if budget.bytes <= self.bytes_max {
            budget.above = None;
        }
        drop(budget);
        self.counts.kept.add(bytes as i64 - before as i64);
        self.counts.made.inc_by(bytes as u64);
        if job.is_again {
            self.counts.made_again.inc_by(bytes as u64);
        }
    }

    /// From now on it may be let go.
    fn keep(&self, key: LeaseKey, kept: KeptForm) {
        self.lock().kept.insert(key, kept);
        self.note_unawaited();
    }

    fn lock(&self) -> MutexGuard<'_, Budget> {
        self.state.lock().expect("bug: nothing panics while it holds this lock")
    }
}

impl Budget {
    /// The jobs to look at, in the order in which they come. Those of the block that is above the bound are
    /// among them wherever they are: who waits for them keeps others from their turn.
    fn first_ranks(&self) -> Vec<Rank> {
        let is_of_above =
            |job: &OpenJob| self.above.is_some_and(|above| job.cached.as_ptr() as usize == above);
        let mut ranks = Vec::new();
        for (place, (rank, job)) in self.queue.iter().enumerate() {
            if place < LOOKED_AT_MAX || is_of_above(job) {
                ranks.push(rank);
            } else if self.above.is_none() {
                break;
            }
        }
        ranks
    }
}

impl Lender for Encodings {
    fn give_back(&self, key: LeaseKey, bytes: usize) {
        let mut budget = self.lock();
        budget.bytes -= bytes;
        budget.leaving.remove(&key);
        let kept = budget.kept.remove(&key);
        if budget.bytes <= self.bytes_max {
            budget.above = None;
        }
        drop(budget);
        // Behind the lock: it may keep what is left of its block.
        drop(kept);
        self.counts.kept.sub(bytes as i64);
        self.note_unawaited();
    }
}

impl Default for EncodingCounts {
    /// Counts that nobody sees.
    fn default() -> Self {
        let gauge = IntGauge::new("bytes", "bytes").expect("bug: a name is malformed");
        let counter = || IntCounter::new("bytes", "bytes").expect("bug: a name is malformed");
        Self { kept: gauge, made: counter(), made_again: counter(), let_go: counter() }
    }
}

impl EncodeJob {
    pub fn form(&self) -> Form {
        self.form
    }

    /// Makes the form; [`EncodeJob::finish`] comes next. Takes as long as encoding the block does.
    pub fn make(&mut self) {
        self.made = Some(Content::of(&self.cached.block, self.form));
    }

    /// Puts what was made where readers find it, and wakes those that waited for it.
    pub fn finish(mut self) {
        let Some(content) = self.made.take() else { return };
        let encodings = Arc::clone(&self.encodings);
        let bytes = content.bytes();
        encodings.settle(&mut self, bytes);
        let Self { cached, form, lease, .. } = self;
        let key = lease.key;
        let woken = cached.put(Arc::new(MadeForm::new(form, content, lease)));
        encodings.keep(key, KeptForm { cached: Arc::downgrade(&cached), form, bytes });
        woken.into_iter().for_each(Whom::wake);
    }
}
