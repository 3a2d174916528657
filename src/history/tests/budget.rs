//! What encodings take together: their bound, and what goes when it is reached.

use super::encodings::{
    CountedReader, cached, everything, make, make_queued, open_jobs, queue, required, taken,
};
use super::*;
use crate::frame::Encoding;

const BLOCKS: u64 = 20;
const EVENTS: u64 = 30;
const DEFLATE: &[Encoding] = &[Encoding::DeflateEvents];

/// A history that is full with its blocks, and may keep `bytes_max` of their encodings.
fn full_history(bytes_max: usize) -> Arc<History> {
    let encodings = Encodings::new(bytes_max, EncodingCounts::default());
    let blocks_bytes = BLOCKS as usize * CachedBlock::now(block(BLOCKS, EVENTS)).bytes();
    let history = Arc::new(History::with(blocks_bytes, encodings));
    (1..=BLOCKS).for_each(|height| history.append(block(height, EVENTS)));
    assert_eq!(history.first_height(), Some(1));
    history
}

/// What the bound must be for so many forms to be made one after the other.
fn room_for(forms: usize, encoding: Encoding) -> usize {
    forms * cached(&full_history(0), BLOCKS).form_bytes_max(Form::Encoding(encoding))
}

fn is_made(history: &History, height: u64, encodings: &[Encoding]) -> bool {
    taken(history, height).take(required(encodings))
}

/// A reader that waits for forms of a block, which are queued.
fn waiting(history: &Arc<History>, height: u64, wanted: RequiredEncodings) -> CountedReader {
    let mut reader = CountedReader::of(history, wanted);
    assert!(reader.watch.wait_for(&cached(history, height), wanted));
    queue(history, height, wanted);
    reader
}

#[test]
fn no_wish_evicts_a_block_and_all_wishes_keep_their_bound() {
    for bytes_max in [1, room_for(1, Encoding::DeflateEvents), 100_000, usize::MAX] {
        let history = full_history(bytes_max);
        let encodings = Arc::clone(history.encodings());
        let of_a_block = cached(&history, 1).forms_bytes_max(everything());
        let before = history.summary();
        for height in 1..=BLOCKS {
            for form in everything().forms() {
                let mut reader = waiting(&history, height, RequiredEncodings::only(form));
                make_queued(&history);
                assert_eq!(reader.wakes(), 1, "{height} {form:?} with {bytes_max}");
                assert!(encodings.bytes() <= bytes_max.saturating_add(of_a_block));
                reader.watch.end_wait();
            }
        }
        assert_eq!(history.summary(), before, "with {bytes_max}");
        drop(history);
        assert_eq!(encodings.bytes(), 0, "with their blocks they go");
    }
}

#[test]
fn what_nobody_waits_for_goes_first_and_furthest_from_the_tip_first() {
    let room = room_for(3, Encoding::DeflateEvents);
    let history = full_history(room);
    let mut readers: Vec<_> =
        [2, 5, 9].map(|height| waiting(&history, height, required(DEFLATE))).into();
    make_queued(&history);
    let made = |history: &History| {
        Vec::from_iter((1..=BLOCKS).filter(|height| is_made(history, *height, DEFLATE)))
    };
    assert_eq!(made(&history), [2, 5, 9]);
    // What is made takes less than what is set aside for it. The second has had its turn; the first has not.
    readers[1].watch.end_wait();
    let more = Vec::from_iter((10..=BLOCKS).map(|height| {
        let mut reader = waiting(&history, height, required(DEFLATE));
        make_queued(&history);
        assert_eq!(reader.wakes(), 1, "{height}");
        reader.watch.end_wait();
        reader
    }));
    let left = made(&history);
    assert!(left.starts_with(&[2, 9]), "who waits finds its form: {left:?}");
    assert!(left.ends_with(&[BLOCKS]) && left.len() < 2 + more.len(), "{left:?}");
    assert!(left[2..].windows(2).all(|two| two[0] + 1 == two[1]), "the oldest went: {left:?}");
    assert!(history.encodings().bytes() <= room);
}

#[test]
fn a_form_larger_than_the_bound_is_made_one_at_a_time() {
    let history = full_history(1);
    let mut first = waiting(&history, 3, required(DEFLATE));
    let mut second = waiting(&history, 4, required(DEFLATE));
    let mut jobs = open_jobs(&history);
    assert_eq!(jobs.len(), 1, "one is under way");
    make(jobs.pop().expect("one"));
    assert_eq!((first.wakes(), second.wakes()), (1, 0));
    assert!(open_jobs(&history).is_empty(), "the first has not written yet");
    first.watch.end_wait();
    make_queued(&history);
    assert_eq!((first.wakes(), second.wakes()), (1, 1));
    assert!(!is_made(&history, 3, DEFLATE) && is_made(&history, 4, DEFLATE));
    second.watch.end_wait();
}

#[test]
fn who_needs_several_forms_of_a_block_gets_them_though_each_is_above_the_bound() {
    let history = full_history(1);
    let one =
        required(&[Encoding::SseEvents, Encoding::SseBlockEnd]).with(RequiredEncodings::INDEX);
    let other = required(&[Encoding::GzipEvents, Encoding::GzipBlockEnd]);
    let mut readers = Vec::new();
    for height in 1..=BLOCKS {
        readers.push(waiting(&history, height, one));
        readers.push(waiting(&history, height, other.with(RequiredEncodings::INDEX)));
    }
    // Each has its turn once it is woken; nobody waits for ever.
    let mut rounds = 0;
    while readers.iter().any(|reader| reader.wakes() == 0) {
        make_queued(&history);
        readers.iter_mut().filter(|it| it.wakes() > 0).for_each(|it| it.watch.end_wait());
        rounds += 1;
        assert!(rounds <= 2 * BLOCKS, "nothing moves");
    }
}

#[test]
fn what_nobody_waits_for_takes_the_place_of_nothing_that_is_nearer_to_the_tip() {
    let history = full_history(room_for(1, Encoding::DeflateEvents));
    let mut reader = waiting(&history, 9, required(DEFLATE));
    make_queued(&history);
    reader.watch.end_wait();
    queue(&history, 3, required(DEFLATE));
    assert_eq!(make_queued(&history), 0);
    assert!(is_made(&history, 9, DEFLATE));
    queue(&history, 10, required(DEFLATE));
    assert_eq!(make_queued(&history), 1);
    assert!(is_made(&history, 10, DEFLATE) && !is_made(&history, 9, DEFLATE));
    let mut asked_again = waiting(&history, 3, required(DEFLATE));
    make_queued(&history);
    assert_eq!(asked_again.wakes(), 1, "what was given up is made once it is waited for");
    asked_again.watch.end_wait();
}

#[test]
fn what_a_block_has_nothing_of_costs_nothing() {
    let history = Arc::new(History::new(usize::MAX));
    let of_events =
        [Encoding::DeflateEvents, Encoding::SseEvents, Encoding::GzipEvents, Encoding::GzipBlock];
    let wanted = required(&of_events).with(RequiredEncodings::INDEX);
    let readers = Vec::from_iter(of_events.map(|it| CountedReader::of(&history, required(&[it]))));
    for height in 1..=100 {
        history.append(block(height, 0));
        queue(&history, height, wanted);
    }
    assert_eq!(make_queued(&history), 0);
    assert_eq!(history.encodings().bytes(), 0);
    assert!(readers.iter().all(|reader| reader.wakes() == 100), "for each block, at once");
    for encoding in of_events {
        let mut first = taken(&history, 1);
        assert!(first.take(required(&[encoding])));
        assert_eq!(first.encoded(encoding).map(|run| run.ends.len()), Some(0));
    }
    assert!(taken(&history, 1).index().is_some());
}

/// What the allocator itself takes, and entries of blocks and budget, are counted, and not seen here.
const BESIDE_BYTES_MAX: i64 = 512;

#[test]
fn blocks_and_all_that_is_made_of_them_keep_no_more_than_is_counted() {
    for events in [0, 1, 10, 1_000] {
        let mut history = None;
        let kept = allocation_counter::measure(|| {
            let made = History::new(usize::MAX);
            for height in 1..=4 {
                made.append(block(height, events));
                queue(&made, height, everything());
            }
            make_queued(&made);
            history = Some(made);
        });
        let history = history.expect("made");
        let forms = 4 * if events == 0 { 10 } else { 15 };
        assert_eq!((1..=4).filter(|it| taken(&history, *it).take(everything_taken())).count(), 4);
        let counted = (history.summary().bytes + history.encodings().bytes()) as i64;
        let slack = BESIDE_BYTES_MAX * (4 + forms);
        assert!(kept.bytes_current <= counted, "{} above {counted}", kept.bytes_current);
        assert!(kept.bytes_current + slack > counted, "{} below {counted}", kept.bytes_current);
    }
}

/// As many forms as a reader takes of one block.
fn everything_taken() -> RequiredEncodings {
    required(&[Encoding::GzipBatch, Encoding::GzipBlockEnd]).with(RequiredEncodings::INDEX)
}
