mod budget;
mod encodings;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::frame::testing::block;

/// Heights of what a cursor reads from `next_height` on; gaps as ranges.
fn read(history: &History, next_height: u64) -> Result<Vec<(u64, u64)>, Gone> {
    let mut cursor = history.live_cursor().at(next_height);
    let (mut entries, mut heights) = (Entries::new(), Vec::new());
    loop {
        history.entries_from(cursor, 1 << 20, &mut entries)?;
        let Some(last) = entries.last() else { return Ok(heights) };
        cursor = cursor.at(last.last_height() + 1);
        heights.extend(entries.iter().map(|entry| (entry.first_height(), entry.last_height())));
    }
}

fn blocks(heights: impl IntoIterator<Item = u64>) -> Vec<(u64, u64)> {
    heights.into_iter().map(|height| (height, height)).collect()
}

#[test]
fn a_cursor_reads_in_order_from_wherever_it_is_placed() {
    let history = History::new(usize::MAX);
    for height in 1..=200 {
        history.append(block(height, 1));
    }
    assert_eq!(read(&history, 1), Ok(blocks(1..=200)));
    assert_eq!(read(&history, 0), Ok(blocks(1..=200)), "nothing below 1 has left");
    assert_eq!(read(&history, 150), Ok(blocks(150..=200)));
    assert_eq!(read(&history, 201), Ok(vec![]));
    assert_eq!(history.live_cursor().next_height, 201);
}

#[test]
fn one_read_is_bounded_but_yields_a_large_block() {
    let history = History::new(usize::MAX);
    for height in 1..=3 {
        history.append(block(height, 10));
    }
    let size = block(1, 10).events.len();
    for (bytes_max, expected) in
        [(0, 1), (size, 1), (2 * size, 2), (2 * size + 1, 2), (9 * size, 3)]
    {
        let mut entries = Entries::new();
        let lag = history.entries_from(history.live_cursor().at(1), bytes_max, &mut entries);
        assert_eq!(entries.len(), expected, "{bytes_max}");
        assert_eq!(lag, Ok(Lag { blocks_behind: 3, fills: 0 }));
    }
}

#[test]
fn the_oldest_leave_and_a_cursor_there_is_told() {
    let one = CachedBlock::now(block(1, 10)).bytes();
    let history = History::new(3 * one);
    for height in 1..=5 {
        history.append(block(height, 10));
    }
    assert_eq!(history.summary().first_height, Some(3));
    assert!(history.summary().bytes <= 3 * one);
    assert_eq!(read(&history, 2), Err(Gone::FellOff));
    assert_eq!(read(&history, 3), Ok(blocks(3..=5)));
}

#[test]
fn a_block_larger_than_the_history_is_kept_alone() {
    let history = History::new(1);
    history.append(block(1, 10));
    history.append(block(2, 10));
    assert_eq!(read(&history, 2), Ok(blocks([2])));
    assert_eq!(read(&history, 1), Err(Gone::FellOff));
}

#[test]
fn what_was_read_is_let_go_and_the_rest_stays() {
    let history = History::new(usize::MAX);
    let one = CachedBlock::now(block(1, 10)).bytes();
    for height in 1..=3 {
        history.append(block(height, 10));
    }
    history.append_gap(4, 6);
    assert_eq!(history.let_go_below(3), one);
    assert_eq!(read(&history, 3), Ok(vec![(3, 3), (4, 6)]));
    assert_eq!(read(&history, 2), Err(Gone::FellOff));
    assert_eq!(history.let_go_below(5), 0, "the gap still ends above");
    assert_eq!(read(&history, 5), Ok(vec![(4, 6)]));
    assert_eq!(history.let_go_below(7), 0);
    assert_eq!(read(&history, 7), Ok(vec![]));
    assert!(!history.fill(block(5, 1)), "its place has left");
    history.append(block(7, 10));
    assert_eq!(history.summary().bytes, one);
}

#[test]
fn a_gap_is_one_entry_and_is_filled_in_its_place() {
    let history = History::new(usize::MAX);
    history.append(block(1, 1));
    history.append_gap(2, 6);
    history.append_gap(7, 9);
    history.append(block(10, 1));
    assert_eq!(history.gaps(9), [(2, 9)], "neighbours are one");
    assert_eq!(read(&history, 5), Ok(vec![(2, 9), (10, 10)]), "a cursor inside a gap meets it");
    for (height, gaps) in [
        (5, vec![(2, 4), (6, 9)]),
        (2, vec![(3, 4), (6, 9)]),
        (9, vec![(3, 4), (6, 8)]),
        (3, vec![(4, 4), (6, 8)]),
        (4, vec![(6, 8)]),
    ] {
        assert!(history.fill(block(height, 1)));
        assert_eq!(history.gaps(9), gaps, "after {height}");
    }
    assert_eq!(
        read(&history, 1),
        Ok(vec![(1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 8), (9, 9), (10, 10)])
    );
}

#[test]
fn heights_left_out_without_a_gap_can_be_filled_too() {
    let history = History::new(usize::MAX);
    history.append(block(10, 1));
    history.append(block(20, 1));
    assert!(history.fill(block(15, 1)));
    assert_eq!(read(&history, 11), Ok(blocks([15, 20])));
}

#[test]
fn another_chain_voids_every_cursor() {
    let history = History::new(usize::MAX);
    history.append(block(7, 1));
    let before = history.live_cursor();
    history.start_over();
    history.append(block(1, 1));
    let mut entries = Entries::new();
    assert_eq!(history.entries_from(before, 1, &mut entries), Err(Gone::AnotherChain));
    assert_eq!(read(&history, 0), Ok(blocks([1])));
}

#[test]
fn a_reader_is_woken_by_every_change() {
    let history = Arc::new(History::new(usize::MAX));
    let woken = Arc::new(Woken::default());
    let waker = std::task::Waker::from(Arc::clone(&woken));
    let mut cx = std::task::Context::from_waker(&waker);
    let mut watch = history.watch(RequiredEncodings::NONE);
    assert!(watch.poll_moved(&mut cx).is_pending());
    let changes: [(&str, &dyn Fn()); 4] = [
        ("append", &|| history.append(block(1, 1))),
        ("gap", &|| history.append_gap(2, 3)),
        ("fill", &|| assert!(history.fill(block(2, 1)))),
        ("start over", &|| history.start_over()),
    ];
    for (name, change) in changes {
        let before = woken.0.load(Ordering::SeqCst);
        change();
        assert_eq!(woken.0.load(Ordering::SeqCst), before + 1, "{name}, though not polled between");
    }
    assert!(watch.poll_moved(&mut cx).is_ready());
    assert!(watch.poll_moved(&mut cx).is_pending());
    drop(watch);
    history.append(block(9, 1));
    assert_eq!(woken.0.load(Ordering::SeqCst), 4, "it has gone");
}

/// Counts.
#[derive(Default)]
struct Woken(AtomicUsize);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Two histories given the same blocks hold the same, whether a block came in its turn or late.
#[test]
fn what_is_kept_does_not_depend_on_when_gaps_were_filled() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..100 {
        let sizes: BTreeMap<u64, u64> = (1..=40).map(|height| (height, random.u64(0..8))).collect();
        let bytes_max = random.usize(1..6) * CachedBlock::now(block(1, 8)).bytes();
        let in_turn = History::new(bytes_max);
        for (height, size) in &sizes {
            in_turn.append(block(*height, *size));
        }
        let late = History::new(bytes_max);
        let mut missing = Vec::new();
        for (height, size) in &sizes {
            if *height < 40 && random.bool() {
                late.append_gap(*height, *height);
                missing.push((*height, *size));
            } else {
                late.append(block(*height, *size));
            }
            if random.u8(..) < 40 {
                random.shuffle(&mut missing);
                for (height, size) in missing.drain(..) {
                    late.fill(block(height, size));
                }
            }
        }
        for (height, size) in missing {
            late.fill(block(height, size));
        }
        let (in_turn, late) = (in_turn.summary(), late.summary());
        assert_eq!(
            (in_turn.first_height, in_turn.blocks, in_turn.bytes),
            (late.first_height, late.blocks, late.bytes)
        );
    }
}
