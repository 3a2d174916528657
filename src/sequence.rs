//! The order of blocks by height: publish, hold, duplicate, conflict, gap, fill.
//!
//! A pure state machine: time is an argument, what it carries is opaque, and what is to be done
//! comes out as [`Step`]s. Which heights a history ends up with depends on the messages and their
//! order alone, never on timing (but for [`SequenceRules::doubt`], where set). Whatever decides that a
//! block is taken looks at the heights taken so far, published or still held. Time and memory only
//! decide when a gap is given up, and a block that comes later fills it. (One exception:
//! [`Sequencer::forget_below`] follows the history.)
//!
//! No input, no clock, no log, no metric is touched here.

mod hold;
mod jump;
mod known;
mod step;
mod waiting;

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use crate::block::BlockContent;
use crate::config::{Heights, Hold};

use hold::Held;
use jump::{Candidates, Probation, Reach};
use known::KnownHeights;
pub use step::{GapCause, OfferedBlock, Step};
use waiting::WaitingBlock;

/// Heights that must vouch for the beginning before heights far below it are just old.
const VOUCHERS: usize = 2;

/// How heights follow each other, and the bounds on what waits.
#[derive(Debug, Clone)]
pub struct SequenceRules {
    pub heights: Heights,
    /// How long a block waits for the missing heights before it, from its own arrival.
    pub hold: Hold,
    /// The most that held blocks and doubted ones may take together.
    pub hold_bytes: u64,
    /// A height further than this above every one taken is doubted. 0 is taken for 1.
    pub jump_max: u64,
    /// How long a doubted block may wait to be believed, from its own arrival; none: for ever.
    pub doubt: Option<Duration>,
}

/// Where the history begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SequenceStart {
    /// At the first block offered.
    AtFirstMessage,
    /// Above what the first 64 blocks show, since reading began where a first copy may lie before
    /// them.
    AfterProbation,
    /// At this height exactly, whose place is known: lower ones are old, and a first block above it
    /// comes behind a gap.
    At(u64),
}

/// The order of one chain. Its memory is what waits, bounded by [`SequenceRules::hold_bytes`], and one
/// entry per known height and per gap, bounded by the caller with [`Sequencer::forget_below`].
#[derive(Debug)]
pub struct Sequencer<T> {
    hold: Hold,
    hold_bytes: u64,
    doubt: Option<Duration>,
    reach: Reach,
    warming: bool,
    /// While the beginning is looked for; `known` is none then.
    probation: Option<Probation>,
    /// None until the beginning is known.
    known: Option<KnownHeights>,
    /// How many heights have vouched for the beginning, counted up to [`VOUCHERS`].
    vouchers: usize,
    held: Held<T>,
    candidates: Candidates<T>,
    conflicts_in_a_row: u32,
}

/// What to make of a height that is not known.
enum Verdict {
    Take,
    Doubt,
    Old,
}

impl<T> Sequencer<T> {
    /// A sequencer in warm-up: nothing is held until [`Sequencer::end_warm_up`].
    pub fn new(rules: SequenceRules, start: SequenceStart) -> Self {
        let (known, vouchers) = match start {
            SequenceStart::AtFirstMessage | SequenceStart::AfterProbation => (None, 0),
            SequenceStart::At(height) => (Some(KnownHeights::beginning_at(height)), VOUCHERS),
        };
        Self {
            hold: rules.hold,
            hold_bytes: rules.hold_bytes,
            doubt: rules.doubt,
            reach: Reach::new(rules.heights, rules.jump_max),
            warming: true,
            probation: (start == SequenceStart::AfterProbation).then(Probation::default),
            known,
            vouchers,
            held: Held::default(),
            candidates: Candidates::default(),
            conflicts_in_a_row: 0,
        }
    }

    /// Takes a block and appends what follows from it to `steps`.
    pub fn offer(&mut self, offer: OfferedBlock<T>, now: Instant, steps: &mut Vec<Step<T>>) {
        if let Some(probation) = &mut self.probation {
            let is_over = probation.see(offer.height);
            steps.push(Step::Old { item: offer.item });
            if is_over {
                self.end_probation();
            }
            return;
        }
        if let Some(taken) = self.content_mut(offer.height) {
            let agrees = taken.agrees(&offer.content);
            if agrees {
                *taken = taken.merged(offer.content);
            }
            return steps.push(self.repeated(offer, agrees));
        }
        let waiting = WaitingBlock { offer, arrived: now };
        match self.verdict(waiting.offer.height) {
            Verdict::Take => self.take(waiting, now, steps),
            Verdict::Doubt => self.doubt(waiting, now, steps),
            Verdict::Old => steps.push(Step::Old { item: waiting.offer.item }),
        }
    }

    /// Gives up the gaps before blocks that have waited long enough, and the doubted blocks that have.
    pub fn expire(&mut self, now: Instant, steps: &mut Vec<Step<T>>) {
        self.release(now, steps);
        let refused = self.doubt.map(|doubt| self.candidates.pop_due(doubt, now));
        self.refuse(refused.unwrap_or_default(), steps);
    }

    /// When [`Sequencer::expire`] must be called next; none if nothing waits, or for ever.
    pub fn deadline(&self) -> Option<Instant> {
        let until = |oldest: Option<Instant>, wait: Option<Duration>| oldest?.checked_add(wait?);
        let held = until(self.held.oldest(), self.hold_time());
        let doubted = until(self.candidates.oldest(), self.doubt);
        held.into_iter().chain(doubted).min()
    }

    /// Caught up: blocks behind a missing height wait from now on. Ends the probation too; if that
    /// has seen nothing, the next block is the beginning.
    pub fn end_warm_up(&mut self, now: Instant, steps: &mut Vec<Step<T>>) {
        self.warming = false;
        self.end_probation();
        self.release(now, steps);
    }

    /// Drops what is known of lower heights, since the history no longer has them: a copy that
    /// comes later is old. The tip is never forgotten.
    pub fn forget_below(&mut self, height: u64) {
        if let Some(known) = &mut self.known {
            known.forget_below(height);
        }
    }

    /// The height to be published next, if it comes in time; none before the beginning.
    pub fn next_height(&self) -> Option<u64> {
        self.known.as_ref().map(KnownHeights::next)
    }

    /// The highest height published.
    pub fn tip(&self) -> Option<u64> {
        self.known.as_ref().and_then(KnownHeights::tip)
    }

    /// The lowest height that is not old; it may be missing.
    pub fn first_height(&self) -> Option<u64> {
        self.known.as_ref().map(KnownHeights::first)
    }

    /// The heights given up and not filled since: from, to, both included, rising.
    pub fn gaps(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.known.iter().flat_map(KnownHeights::gaps)
    }

    /// What waits: held blocks and doubted ones. Never above [`SequenceRules::hold_bytes`] after a call.
    pub fn held_bytes(&self) -> u64 {
        self.held.bytes().saturating_add(self.candidates.bytes())
    }

    pub fn conflicts_in_a_row(&self) -> u32 {
        self.conflicts_in_a_row
    }

    /// What waits and will come back in no step, when this sequencer is given up.
    pub fn into_waiting(self) -> impl Iterator<Item = T> {
        self.held.into_items().chain(self.candidates.into_items())
    }

    fn content_mut(&mut self, height: u64) -> Option<&mut BlockContent> {
        let known = self.known.as_mut().and_then(|known| known.content_mut(height));
        known
            .or_else(|| self.held.content_mut(height))
            .or_else(|| self.candidates.content_mut(height))
    }

    fn repeated(&mut self, offer: OfferedBlock<T>, agrees: bool) -> Step<T> {
        if agrees {
            self.conflicts_in_a_row = 0;
            return Step::Duplicate { item: offer.item };
        }
        self.conflicts_in_a_row = self.conflicts_in_a_row.saturating_add(1);
        let in_a_row = self.conflicts_in_a_row;
        Step::Conflict { height: offer.height, item: offer.item, in_a_row }
    }

    fn verdict(&self, height: u64) -> Verdict {
        let Some(known) = &self.known else { return Verdict::Take };
        let first = known.first();
        match () {
            () if height >= first && self.reach.allows(self.highest(known), height) => {
                Verdict::Take
            }
            () if height >= first => Verdict::Doubt,
            () if self.vouchers < VOUCHERS && !self.reach.allows(height, first) => Verdict::Doubt,
            () => Verdict::Old,
        }
    }

    /// The highest height taken: published or held. The jump is measured from here, because the
    /// tip depends on timing.
    fn highest(&self, known: &KnownHeights) -> u64 {
        self.held.highest().unwrap_or(known.next().saturating_sub(1))
    }

    fn take(&mut self, waiting: WaitingBlock<T>, now: Instant, steps: &mut Vec<Step<T>>) {
        let height = waiting.offer.height;
        let continues = self.known.as_ref().is_none_or(|known| height > self.highest(known));
        let refuted = if continues { self.candidates.take() } else { Vec::new() };
        self.accept(waiting, steps);
        self.release(now, steps);
        self.refuse(refuted, steps);
    }

    /// Keeps a block of doubtful height until a run confirms it or a block that continues the chain
    /// refutes it. The newest are kept, within `hold_bytes` whatever is held: blocks held give way,
    /// so that timing does not decide what is believed.
    fn doubt(&mut self, waiting: WaitingBlock<T>, now: Instant, steps: &mut Vec<Step<T>>) {
        self.candidates.push(waiting);
        let refused = match self.candidates.run_start(&self.reach) {
            Some(run) => self.believe(run, steps),
            None => self.candidates.pop_excess(self.hold_bytes),
        };
        self.release(now, steps);
        self.refuse(refused, steps);
    }

    /// Takes the candidates from `run` on, each within reach of the one before, and those below,
    /// as if these had come last; returns the others.
    fn believe(&mut self, run: u64, steps: &mut Vec<Step<T>>) -> Vec<WaitingBlock<T>> {
        let known = self.known.as_ref().expect("bug: a height is doubted against known ones");
        let mut first = known.first();
        if run < first {
            if known.tip().is_some() {
                steps.push(Step::StartOver);
            }
            first = run;
            self.known = Some(KnownHeights::beginning_at(first));
        }
        let top = self.candidates.top_of(run, &self.reach);
        let (believed, refused): (Vec<_>, Vec<_>) = self
            .candidates
            .take()
            .into_iter()
            .partition(|waiting| (first..=top).contains(&waiting.offer.height));
        for waiting in believed {
            self.accept(waiting, steps);
        }
        refused
    }

    fn refuse(&self, refused: Vec<WaitingBlock<T>>, steps: &mut Vec<Step<T>>) {
        let first = self.first_height().unwrap_or(0);
        steps.extend(refused.into_iter().map(|WaitingBlock { offer, .. }| match offer.height {
            height if height < first => Step::Old { item: offer.item },
            height => Step::Implausible { height, item: offer.item },
        }));
    }

    /// Makes a new height known: it fills a gap at once or is held, for [`Sequencer::release`].
    fn accept(&mut self, waiting: WaitingBlock<T>, steps: &mut Vec<Step<T>>) {
        let height = waiting.offer.height;
        self.vouchers = VOUCHERS.min(self.vouchers + 1);
        self.conflicts_in_a_row = 0;
        let known = self.known.get_or_insert_with(|| KnownHeights::beginning_at(height));
        if height < known.next() {
            known.fill(height, waiting.offer.content);
            steps.push(Step::Fill { height, item: waiting.offer.item });
        } else {
            self.held.insert(waiting);
        }
    }

    /// Publishes from the lowest held height on: what follows the tip, what need not wait any
    /// longer and what lies below that, and what there is no room for.
    fn release(&mut self, now: Instant, steps: &mut Vec<Step<T>>) {
        let Some(known) = &mut self.known else { return };
        let waits = !self.warming && self.reach.heights() == Heights::Dense;
        let due = match (waits, self.hold) {
            (false, _) => self.held.highest(),
            (true, Hold::For(hold)) => self.held.highest_due(hold, now),
            (true, Hold::Forever) => None,
        };
        let room = self.hold_bytes.saturating_sub(self.candidates.bytes());
        while let Some(lowest) = self.held.lowest() {
            let follows = lowest == known.next();
            let is_due = due.is_some_and(|due| lowest <= due);
            if !follows && !is_due && self.held.bytes() <= room {
                break;
            }
            if !follows && self.reach.heights() == Heights::Dense {
                let (from_height, to_height) = known.give_up_to(lowest);
                let cause = match () {
                    () if self.warming => GapCause::WarmUp,
                    () if is_due => GapCause::HoldOver,
                    () => GapCause::HoldBytes,
                };
                steps.push(Step::Gap { from_height, to_height, cause });
            }
            let offer = self.held.pop_lowest().expect("bug: a lowest height is held").offer;
            known.publish(offer.height, offer.content);
            steps.push(Step::Publish { height: offer.height, item: offer.item });
        }
    }

    fn end_probation(&mut self) {
        let Some(seen) = self.probation.take() else { return };
        self.vouchers = VOUCHERS.min(seen.distinct());
        self.known =
            seen.tip(&self.reach).map(|tip| KnownHeights::beginning_at(tip.saturating_add(1)));
    }

    fn hold_time(&self) -> Option<Duration> {
        match self.hold {
            Hold::For(hold) => Some(hold),
            Hold::Forever => None,
        }
    }
}
