//! The place in a RabbitMQ stream from which a height is read, found with few looks. Pure: a look is an
//! argument.
//!
//! Offsets have holes. Heights repeat, and rise only roughly: several nodes publish each block, each at
//! its own time, and somebody publishes old heights again. The search wants the last place with nothing
//! but lower heights before it. No look proves that a place is the right one. So the reader that begins
//! there checks what it misses.

/// Messages to step back from the place that was found, since producers are not in step. They are few,
/// since each may be large.
const BACK: u64 = 64;
/// A range of so few messages is not cut again: one look sees all of them.
const NARROW: u64 = 32;
/// Parts into which a range is cut. They are looked at from the front, and the first that reaches the
/// height ends a round. So heights that were published again behind it are not looked at.
const PARTS: u64 = 8;
/// A height may lie so far below one before it, only because producers are not in step.
const DISORDER: u64 = 64;
/// A range that cannot be narrowed with confidence is read through if it has no more messages than
/// this. That takes less than a second.
const READ_THROUGH_MAX: u64 = 16_384;

/// Finds an offset from which to read, for the first copy of `height`.
///
/// `first` and `last` are the stream's ends; behind `last` may be more. `look` yields the highest
/// height among some messages from an offset on, None if there is none. Takes at most 42 looks
/// in a million messages, unless long runs of heights were published again.
///
/// # Errors
/// The look's own.
pub async fn place<F, E>(
    height: u64,
    (first, last): (u64, u64),
    mut look: impl FnMut(u64) -> F,
) -> Result<u64, E>
where
    F: Future<Output = Result<Option<u64>, E>>,
{
    let mut range = Range { low: first, high: last.max(first) + 1, highest: 0 };
    while range.len() > NARROW {
        let before = range.len();
        let round = range.narrow(height, &mut look).await?;
        let is_halved = round.narrowed.len() <= before / 2;
        let is_narrowed = round.narrowed.len() < before - before / (2 * PARTS);
        range = match (is_halved, before <= READ_THROUGH_MAX) {
            (true, _) => round.narrowed,
            (false, true) => break,
            (false, false) if is_narrowed => round.narrowed,
            // Old heights from the range's beginning to its end: believed to lie before `height`.
            (false, false) => match round.passed {
                Some(passed) => passed,
                None => break,
            },
        };
    }
    Ok(range.low.saturating_sub(BACK).max(first))
}

/// Where the place is: not before `low`, and behind `high` at most by what a look sees.
#[derive(Debug, Clone, Copy)]
struct Range {
    low: u64,
    high: u64,
    /// The highest height seen at `low` or before.
    highest: u64,
}

struct Round {
    narrowed: Range,
    /// The range from the last look that did not reach the height, whatever was seen before it.
    passed: Option<Range>,
}

impl Range {
    fn len(&self) -> u64 {
        self.high - self.low
    }

    async fn narrow<F, E>(&self, height: u64, look: &mut impl FnMut(u64) -> F) -> Result<Round, E>
    where
        F: Future<Output = Result<Option<u64>, E>>,
    {
        let (mut narrowed, mut passed) = (*self, None);
        let mut rises = true;
        for part in 1..PARTS {
            let offset = self.low + self.len() / PARTS * part;
            match look(offset).await? {
                Some(seen) if seen >= height => {
                    narrowed.high = offset;
                    break;
                }
                Some(seen) => {
                    // Below what came before, these are heights published again: what came before
                    // them may have gone further up than was seen.
                    rises &= seen.saturating_add(DISORDER) >= narrowed.highest;
                    let highest = narrowed.highest.max(seen);
                    if rises {
                        (narrowed.low, narrowed.highest) = (offset, highest);
                    }
                    passed = Some(Range { low: offset, high: self.high, highest });
                }
                None => {}
            }
        }
        let passed = passed.map(|passed| Range { high: narrowed.high, ..passed });
        Ok(Round { narrowed, passed })
    }
}

/// The lowest height among a stream's first messages that belongs to the others. It is counted down from
/// the middle one, in steps of `apart` at most. A single old height may stand there: it was published
/// again, and then the stream was trimmed to here. The chain does not begin with it.
pub fn lowest(mut heights: Vec<u64>, apart: u64) -> Option<u64> {
    heights.sort_unstable();
    let middle = heights.len().checked_sub(1)? / 2;
    let falling = heights[..=middle].iter().rev();
    falling.copied().reduce(|lowest, height| match lowest - height <= apart {
        true => height,
        false => lowest,
    })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// Searches among messages, the offset of each its index. Returns the place and the looks.
    async fn search(messages: &[u64], height: u64) -> (usize, u32) {
        let mut looks = 0;
        let last = messages.len() as u64 - 1;
        let found = place(height, (0, last), |offset| {
            looks += 1;
            let seen = messages[offset as usize..].iter().take(32).copied().max();
            async move { Ok::<_, Infallible>(seen) }
        });
        let Ok(found) = found.await;
        (found as usize, looks)
    }

    async fn check(messages: &[u64], heights: &[u64], looks_max: u32) {
        for height in heights {
            let (found, looks) = search(messages, *height).await;
            let first = messages.iter().position(|seen| seen >= height).unwrap_or(messages.len());
            assert!(found <= first, "{height} is at {first}, before {found}");
            let behind = first as u64 - found as u64;
            assert!(behind <= READ_THROUGH_MAX, "{height}: {behind} messages to read first");
            assert!(looks <= looks_max, "{height}: {looks} looks");
        }
    }

    #[tokio::test]
    async fn a_height_is_found_with_few_looks() {
        let chain: Vec<u64> = (0..1_000_000).collect();
        check(&chain, &[0, 1, 300, 12_345, 500_000, 999_999, 2_000_000], 42).await;
        let copies: Vec<u64> = (0..250_000u64).flat_map(|height| [height; 4]).collect();
        check(&copies, &[0, 1, 300, 12_345, 249_999], 42).await;
        let behind = |height: u64| [height + 500, height, height + 50];
        let disorder: Vec<u64> = (0..100_000u64).flat_map(behind).collect();
        check(&disorder, &[500, 12_345, 99_000], 300).await;
        check(&[7], &[0, 7, 9], 0).await;
    }

    #[tokio::test]
    async fn old_heights_published_again_do_not_hide_the_first_copies() {
        let chain = |to: u64| (0..to).collect::<Vec<u64>>();
        // At the tail; in the middle; one by one, everywhere.
        let tail = [chain(50_000), chain(10_000)].concat();
        check(&tail, &[5, 9_990, 10_000, 49_000, 49_999], 300).await;
        let middle = [chain(30_000), chain(25_000), (30_000..60_000).collect()].concat();
        check(&middle, &[24_000, 26_000, 30_000, 31_000, 59_000], 300).await;
        // What lies only just before a long run of old heights can be missed.
        let (found, _) = search(&middle, 29_990).await;
        assert!(found > 29_990, "if this is found now, say so above");
        let singles: Vec<u64> = (0..60_000u64)
            .flat_map(|height| [height, height.saturating_sub(height % 977)])
            .collect();
        check(&singles, &[976, 10_000, 59_999], 300).await;
    }

    #[test]
    fn a_single_old_height_is_not_the_lowest() {
        for (heights, expected) in [
            (vec![], None),
            (vec![5], Some(5)),
            (vec![0, 1, 2], Some(0)),
            (vec![1_002, 7, 1_000, 1_001, 1_005], Some(1_000)),
            (vec![1_000, 1_001, 50_000], Some(1_000)),
        ] {
            assert_eq!(lowest(heights.clone(), 64), expected, "{heights:?}");
        }
    }
}
