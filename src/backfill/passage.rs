//! A passage: the messages from one place on, decoded, put in order and handed to the output.
//!
//! A height is called missing only when it lies nowhere else in the stream.

use std::ops::RangeInclusive;
use std::time::Instant as Tick;

use tokio::time::Instant;
use tracing::debug;

use super::context::{HOLD_MESSAGES, TICK};
use super::known::{Ends, Mark};
use super::output::TicketOutput;
use super::pace::{Cost, ReadPace};
use super::scan::{PassageHeights, Scan};
use super::stop::Stop;
use super::stream::ReadableStream;
use crate::amqp::{Bounds, Message, ReadError};
use crate::block::{self, Block, Decoded};
use crate::sequence::{OfferedBlock, SequenceStart, Sequencer, Step};

/// Where a passage begins.
#[derive(Debug, Clone, Copy)]
pub struct PassageStart {
    pub bounds: Bounds,
    /// The offset to read from.
    pub place: u64,
    /// Set when a message with the next height lies at `place`.
    pub is_led: bool,
    /// When it began.
    pub mark: Mark,
}

/// One passage, with what its turn lends it.
pub struct Passage<'a, 'b, S> {
    output: &'a mut TicketOutput<'b, S>,
    pace: &'a mut ReadPace,
    sequencer: Sequencer<Block>,
    steps: Vec<Step<Block>>,
    /// The sequencer's clock: messages, not time.
    clock: Tick,
    start: PassageStart,
    /// What the sequence began with: the output's next height at that time.
    from_height: u64,
    /// The last message read.
    offset: Option<u64>,
    /// What is known of the stream, once something was missing.
    known: Option<PassageHeights>,
    /// Set when nothing came at first, and it was looked why.
    is_place_checked: bool,
    /// Set when the passage has looked at the stream's end for what has not come.
    is_end_checked: bool,
}

impl<'a, 'b, S: ReadableStream> Passage<'a, 'b, S> {
    pub fn begin(
        start: PassageStart,
        output: &'a mut TicketOutput<'b, S>,
        pace: &'a mut ReadPace,
    ) -> Self {
        let from_height = output.next_height();
        let rules = output.context.sequence_rules.clone();
        let mut sequencer = Sequencer::new(rules, SequenceStart::At(from_height));
        let (clock, mut steps) = (Tick::now(), Vec::new());
        sequencer.end_warm_up(clock, &mut steps);
        Self {
            output,
            pace,
            sequencer,
            steps,
            clock,
            start,
            from_height,
            offset: None,
            known: None,
            is_place_checked: false,
            is_end_checked: false,
        }
    }

    /// Whether everything has been read that the stream held when it was last asked.
    fn is_at_end(&self) -> bool {
        self.offset >= Some(self.start.bounds.last)
    }

    /// Ends the turn when it has lasted long enough and others wait.
    pub fn check_time(&self) -> Result<(), Stop> {
        self.output.check_time()
    }

    /// Checks the first message: the stream may have been trimmed past the place since it was asked where
    /// it begins. The place is then searched again.
    pub async fn check_place(&mut self, message: &Message) -> Result<(), ReadError> {
        if self.offset.is_some() || message.offset <= self.start.place {
            return Ok(());
        }
        self.renew_bounds(self.start.mark).await?;
        match self.start.bounds.first <= self.start.place {
            true => Ok(()),
            false => Err(ReadError::Lost("the stream was trimmed to behind the place".into())),
        }
    }

    /// Checks, when nothing comes, whether the client has long had what came before and whether more can
    /// come.
    pub async fn check_quiet(&mut self) -> Result<(), Stop> {
        self.output.check_client()?;
        if self.offset.is_none() && !std::mem::replace(&mut self.is_place_checked, true) {
            // A stream made anew may end before the place: then nothing would ever come.
            self.renew_bounds(self.start.mark).await?;
            if self.start.bounds.last < self.start.place {
                let reason = "the stream ends before the place".into();
                return Err(ReadError::Lost(reason).into());
            }
        }
        match self.is_at_end() {
            true => self.wait_at_end().await,
            false => Ok(()),
        }
    }

    /// Checks, when nothing has come for long, whether it is because there is nothing: else the broker is
    /// given up.
    pub async fn check_end(&mut self) -> Result<(), ReadError> {
        let context = self.output.context;
        if self.is_at_end() {
            self.renew_bounds(context.known.mark()).await?;
        }
        match self.is_at_end() {
            true => Ok(()),
            false => {
                context.stream.give_up();
                Err(ReadError::Lost("the broker fell silent".into()))
            }
        }
    }

    /// Learns where the stream begins and ends, as it was asked after `mark`.
    async fn renew_bounds(&mut self, mark: Mark) -> Result<(), ReadError> {
        let known = self.output.context.known.since(mark).await;
        let Some(Ends { bounds, .. }) = known.ends else {
            return Err(ReadError::Lost("the stream is empty, or gone".into()));
        };
        self.start.bounds = bounds;
        Ok(())
    }

    /// Takes the next message, and appends what it completes.
    pub async fn take(&mut self, message: Message) -> Result<(), Stop> {
        let Message { offset, body, packing } = message;
        self.offset = Some(offset);
        self.clock += TICK;
        // Most of what lies before the place, and everything bad, is passed over for less.
        let first = self.sequencer.first_height().unwrap_or(0);
        let rules = &self.output.context.decode_rules;
        let body = block::unpack(&body, &packing, rules.body_bytes_max).unwrap_or_default();
        let is_wanted = block::height_of(&body).is_some_and(|height| height >= first);
        let cost = if is_wanted { Cost::Block } else { Cost::Passed };
        self.pace.keep(cost, body.len()).await;
        if is_wanted {
            match block::decode(&body, rules) {
                Ok(Decoded::Block(block)) => {
                    let offer = OfferedBlock {
                        height: block.height,
                        content: block.content(),
                        bytes: block.bytes() as u64,
                        item: block,
                    };
                    self.sequencer.offer(offer, self.clock, &mut self.steps);
                }
                Ok(Decoded::MarkedInvalid) => {}
                Err(error) => debug!(offset, %error, "passed over a bad message"),
            }
        }
        // What follows may wait for a client.
        drop(body);
        if self.sequencer.deadline().is_some_and(|deadline| deadline <= self.clock) {
            self.sequencer.expire(self.clock, &mut self.steps);
        }
        self.apply_steps().await
    }

    /// Waits at the stream's end. Held blocks do not wait there for messages that do not come.
    async fn wait_at_end(&mut self) -> Result<(), Stop> {
        if self.sequencer.deadline().is_some() {
            self.clock += TICK * HOLD_MESSAGES;
            self.sequencer.expire(self.clock, &mut self.steps);
            return self.apply_steps().await;
        }
        let next_height = self.output.next_height();
        let is_owed = next_height == self.from_height || self.sequencer.held_bytes() > 0;
        if is_owed && !std::mem::replace(&mut self.is_end_checked, true) {
            let found = self.look_elsewhere(next_height..=next_height, false).await?;
            if let Some((_, offset)) = found {
                return Err(Stop::Led { offset });
            }
        }
        Ok(())
    }

    async fn apply_steps(&mut self) -> Result<(), Stop> {
        let mut steps = std::mem::take(&mut self.steps);
        for step in steps.drain(..) {
            match step {
                Step::Publish { item, .. } => self.output.publish(item).await?,
                Step::Fill { item, .. } => self.output.fill(item).await?,
                Step::Gap { from_height, to_height, .. } => {
                    self.append_gap(from_height, to_height).await?;
                }
                // All of it was told when it was live.
                Step::Conflict { height, .. } | Step::Implausible { height, .. } => {
                    debug!(height, "passed over a block that was not taken");
                }
                Step::Duplicate { .. } | Step::Old { .. } | Step::StartOver => {}
            }
        }
        self.steps = steps;
        self.sequencer.forget_below(self.output.session_height());
        Ok(())
    }

    /// Appends a gap, as far as it is one.
    async fn append_gap(&mut self, from_height: u64, to_height: u64) -> Result<(), Stop> {
        let found = self.look_elsewhere(from_height..=to_height, true).await?;
        let next_height = found.map_or(to_height.saturating_add(1), |(height, _)| height);
        if next_height > from_height {
            self.output.append_gap(from_height, next_height - 1);
        }
        match found {
            Some((_, offset)) => Err(Stop::Led { offset }),
            None => Ok(()),
        }
    }

    /// Looks for the lowest of these heights that lies elsewhere in the stream, before they are called
    /// missing. Returns the height and the offset of its message.
    ///
    /// It may lie before the place, because a search's looks fell on heights published again. If
    /// `ahead`, it may also lie behind more than is waited for, published again itself.
    async fn look_elsewhere(
        &mut self,
        mut heights: RangeInclusive<u64>,
        ahead: bool,
    ) -> Result<Option<(u64, u64)>, ReadError> {
        let PassageStart { place, is_led, mark, .. } = self.start;
        if is_led && *heights.start() == self.from_height {
            // It was no block that led here.
            heights = heights.start().saturating_add(1)..=*heights.end();
        }
        if heights.is_empty() || !ahead && place <= self.start.bounds.first {
            return Ok(None);
        }
        // What is missing may lie behind the end that was known to others.
        self.renew_bounds(mark).await?;
        let Bounds { first, last } = self.start.bounds;
        let began = Instant::now();
        let mut scan = Scan { context: self.output.context, pace: &mut *self.pace };
        let looking = async {
            let mut known = match self.known.take() {
                Some(known) => known,
                None => scan.known(first..=if ahead { last } else { place }, place).await?,
            };
            let passed = place..=self.offset.unwrap_or(place);
            let found = scan.lowest_of(heights, &mut known, first, passed).await;
            self.known = Some(known).filter(|_| ahead);
            found
        };
        let found = looking.await;
        self.output.give_time(began.elapsed());
        found
    }
}
