//! Forms of blocks: which are made, in which order, and who is woken.

use futures_util::FutureExt;

use super::*;
use crate::frame::{Encoding, encode_as};

/// Takes the jobs that are open and that there is room for, in their order, and makes none.
pub(super) fn open_jobs(history: &History) -> Vec<EncodeJob> {
    std::iter::from_fn(|| history.encodings().next_job().now_or_never()).collect()
}

/// Makes what is queued one by one, and returns how many jobs that were.
pub(super) fn make_queued(history: &History) -> usize {
    let jobs = std::iter::from_fn(|| history.encodings().next_job().now_or_never());
    jobs.map(make).count()
}

pub(super) fn make(mut job: EncodeJob) {
    job.make();
    job.finish();
}

/// The block at a height.
pub(super) fn taken(history: &History, height: u64) -> TakenBlock {
    let mut entries = Entries::new();
    history.entries_from(history.live_cursor().at(height), 1, &mut entries).expect("there");
    match entries.into_iter().next() {
        Some(Entry::Block(taken)) => taken,
        other => panic!("no block at {height}: {other:?}"),
    }
}

pub(super) fn cached(history: &History, height: u64) -> Arc<CachedBlock> {
    Arc::clone(taken(history, height).cached())
}

pub(super) fn queue(history: &History, height: u64, required: RequiredEncodings) {
    history.queue_encodings(&cached(history, height), required, usize::MAX);
}

pub(super) fn required(encodings: &[Encoding]) -> RequiredEncodings {
    encodings.iter().fold(RequiredEncodings::NONE, |all, it| all.with(RequiredEncodings::of(*it)))
}

/// Every form.
pub(super) fn everything() -> RequiredEncodings {
    required(&Encoding::ALL).with(RequiredEncodings::INDEX)
}

#[test]
fn a_job_is_one_form_of_live_blocks_first_and_of_small_ones_before_large_ones() {
    let history = Arc::new(History::new(usize::MAX));
    history.append(block(1, 1));
    history.append(block(2, 10));
    queue(&history, 1, everything());
    let _one = history.watch(required(&[Encoding::DeflateEvents, Encoding::BlockEnd]));
    let _other = history.watch(required(&[Encoding::Batch]).with(RequiredEncodings::INDEX));
    history.append(block(3, 100));
    let jobs = open_jobs(&history);
    let taken: Vec<_> = jobs.iter().map(|job| (job.cached.block.height, job.form)).collect();
    let live = [
        Form::Encoding(Encoding::BlockEnd),
        Form::Encoding(Encoding::Batch),
        Form::Index,
        Form::Encoding(Encoding::DeflateEvents),
    ];
    assert_eq!(taken[..4], live.map(|form| (3, form)));
    assert_eq!(taken.len(), 4 + everything().forms().count());
    assert!(taken[4..].iter().all(|(height, _)| *height == 1), "{taken:?}");
}

/// A reader whose wakes are counted.
pub(super) struct CountedReader {
    pub watch: Watch,
    woken: Arc<Woken>,
}

impl CountedReader {
    pub fn of(history: &Arc<History>, required: RequiredEncodings) -> Self {
        let woken = Arc::new(Woken::default());
        let waker = std::task::Waker::from(Arc::clone(&woken));
        let mut watch = history.watch(required);
        watch.enter(&mut std::task::Context::from_waker(&waker));
        Self { watch, woken }
    }

    pub fn wakes(&self) -> usize {
        self.woken.0.load(Ordering::SeqCst)
    }
}

#[test]
fn who_waits_for_a_form_is_woken_by_that_form_and_by_no_other() {
    let history = Arc::new(History::new(usize::MAX));
    let deflate = CountedReader::of(&history, required(&[Encoding::DeflateEvents]));
    let control = required(&[Encoding::DeflateEvents, Encoding::BlockEnd]);
    let both = CountedReader::of(&history, control);
    let others: Vec<_> = Encoding::ALL
        .into_iter()
        .filter(|encoding| *encoding != Encoding::DeflateEvents)
        .map(|encoding| CountedReader::of(&history, required(&[encoding])))
        .collect();
    history.append(block(1, 10));
    let mut jobs = open_jobs(&history);
    assert_eq!(jobs.len(), Encoding::ALL.len(), "each form once");
    let mut make_one = |encoding| {
        let at = jobs.iter().position(|job| job.form == Form::Encoding(encoding));
        make(jobs.swap_remove(at.expect("open")));
    };
    make_one(Encoding::DeflateEvents);
    assert_eq!((deflate.wakes(), both.wakes()), (1, 0), "the end of the block is not there");
    assert!(others.iter().all(|other| other.wakes() == 0), "theirs are not there");
    make_one(Encoding::BlockEnd);
    assert_eq!((deflate.wakes(), both.wakes()), (1, 1));
    jobs.into_iter().for_each(make);
    assert_eq!((deflate.wakes(), both.wakes()), (1, 1), "nor by the others");
    assert!(others.iter().all(|other| other.wakes() == 1), "each by its own");
}

#[test]
fn a_reader_further_back_is_woken_by_what_it_asked_for() {
    let history = Arc::new(History::new(usize::MAX));
    history.append(block(1, 10));
    history.append(block(2, 10));
    let mut reader = CountedReader::of(&history, required(&[Encoding::GzipBlock]));
    let mut gone = CountedReader::of(&history, required(&[Encoding::GzipBlock]));
    let first = cached(&history, 1);
    // The rest of a block that it has begun takes another form than the others.
    let wanted = required(&[Encoding::GzipEvents]);
    for _ in 0..3 {
        assert!(reader.watch.wait_for(&first, wanted));
        assert!(gone.watch.wait_for(&first, wanted));
        queue(&history, 1, wanted);
    }
    drop(gone);
    queue(&history, 1, required(&[Encoding::Batch]));
    let mut jobs = open_jobs(&history);
    assert_eq!(jobs.len(), 2, "each once");
    make(jobs.pop().expect("the second"));
    assert_eq!(reader.wakes(), 1);
    let other = jobs.pop().expect("the first");
    assert_eq!(other.form, Form::Encoding(Encoding::Batch));
    make(other);
    assert_eq!(reader.wakes(), 1, "that is nothing to it");
    assert!(!reader.watch.wait_for(&first, wanted), "it is there");
}

#[test]
fn a_reader_is_woken_when_the_block_that_it_waits_for_leaves() {
    let history = Arc::new(History::new(CachedBlock::now(block(1, 10)).bytes()));
    history.append(block(1, 10));
    let mut reader = CountedReader::of(&history, required(&[Encoding::Batch]));
    assert!(reader.watch.wait_for(&cached(&history, 1), required(&[Encoding::Batch])));
    history.append(block(2, 10));
    assert_eq!(reader.wakes(), 1, "though nothing of the second is made yet");
}

#[test]
fn nothing_is_compressed_for_plain_readers_and_once_for_all_that_want_it() {
    let history = Arc::new(History::new(usize::MAX));
    let made = |height| {
        let is_made = |encoding: &Encoding| taken(&history, height).take(required(&[*encoding]));
        Vec::from_iter(Encoding::ALL.into_iter().filter(is_made))
    };
    let _plain = [history.watch(RequiredEncodings::NONE), history.watch(RequiredEncodings::NONE)];
    history.append(block(1, 10));
    assert_eq!(make_queued(&history), 0);
    assert_eq!(made(1), []);

    let deflated = required(&[Encoding::DeflateEvents]);
    let _compressed = [history.watch(deflated), history.watch(deflated)];
    history.append(block(2, 10));
    assert_eq!(make_queued(&history), 1, "one for both");
    assert_eq!(made(2), [Encoding::DeflateEvents]);
    assert_eq!(made(1), [], "nobody has asked for it");
    queue(&history, 2, deflated);
    assert_eq!(make_queued(&history), 0, "it is there");
    let both = [(); 2].map(|()| {
        let mut second = taken(&history, 2);
        assert!(second.take(deflated));
        second
    });
    let messages = both.each_ref().map(|it| it.encoded(Encoding::DeflateEvents).expect("taken"));
    assert!(std::ptr::eq(messages[0], messages[1]), "both write the same bytes");
    assert_eq!(*messages[0], encode_as(&block(2, 10), Encoding::DeflateEvents));
}

#[test]
fn a_job_keeps_no_block_alive_that_has_left() {
    let history = Arc::new(History::new(CachedBlock::now(block(1, 10)).bytes()));
    let _compressed = history.watch(RequiredEncodings::of(Encoding::DeflateEvents));
    history.append(block(1, 10));
    let cached = Arc::downgrade(&cached(&history, 1));
    history.append(block(2, 10));
    assert_eq!(history.summary().first_height, Some(2), "the first has left");
    assert!(cached.upgrade().is_none(), "and is gone");
    assert_eq!(make_queued(&history), 1, "of the second");
}
