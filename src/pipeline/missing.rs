//! Reports of missing heights: counted, and logged with the way out.

use tracing::{debug, error};

use crate::metrics::Metrics;
use crate::sequence::GapCause;

/// Reports heights that were given up, both ends included.
pub fn report_gap((from_height, to_height): (u64, u64), cause: GapCause, metrics: &Metrics) {
    match cause {
        GapCause::WarmUp => debug!(from_height, to_height, "not there yet in warm-up"),
        GapCause::HoldOver | GapCause::HoldBytes => {
            metrics.missing_blocks.inc_by(to_height - from_height + 1);
            error!(
                from_height,
                to_height,
                ?cause,
                "heights given up; publish these blocks again to fill the gap"
            );
        }
    }
}

/// Reports the gaps that are open when warm-up ends. Nothing is held in warm-up, so a gap is final
/// only then.
pub fn report_gaps_of_warm_up(gaps: impl Iterator<Item = (u64, u64)>, metrics: &Metrics) {
    let (ranges, heights) = gaps.fold((0_u64, 0_u64), |(ranges, heights), (from, to)| {
        (ranges + 1, heights.saturating_add(to - from + 1))
    });
    if heights > 0 {
        metrics.missing_blocks.inc_by(heights);
        error!(
            heights,
            ranges, "heights missing in the stream; publish these blocks again to fill the gaps"
        );
    }
}
