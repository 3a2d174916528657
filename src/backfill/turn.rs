//! One reading: find the place, read, decode, put in order, encode, append where its session reads,
//! never further ahead of it than a mebibyte.

use std::convert::Infallible;
use std::hash::{DefaultHasher, Hasher};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant as Tick};

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

use super::context::{BackfillContext, HOLD_MESSAGES, TICK};
use super::pace::{Cost, ReadPace};
use super::scan::{PassageHeights, Scan};
use super::search;
use super::stop::Stop;
use super::stream::{ReadableStream, StreamMessages};
use crate::amqp::{Bounds, Message, ReadError};
use crate::backoff::Backoff;
use crate::block::{self, Block};
use crate::encoder;
use crate::frame::{self, EncodedBlock};
use crate::sequence::{OfferedBlock, SequenceStart, Sequencer, Step};
use crate::tickets::{CalledTicket, TicketState};

/// What the session has not read yet may take, or one block if that is larger: a socket's buffer
/// several times over, so that a client that reads does not wait for us.
const UNREAD_BYTES_MAX: usize = 1 << 20;
/// A session that reads nothing for so long gives its turn up when it is waited for; else after
/// [`TURN_MAX`], since what waits for it takes memory.
const PROGRESS_WITHIN: Duration = Duration::from_secs(1);
/// How long a turn may last while others wait.
const TURN_MAX: Duration = Duration::from_secs(10);
/// Three times what the source takes at most to find that a stream was made anew.
const ANEW_WAIT: Duration = Duration::from_secs(15);
/// How long nothing may come of what is known to be there. Far above what a large body takes.
const SILENT_AFTER: Duration = Duration::from_secs(60);
/// A stream whose last message was read and that yields nothing for so long is at its end; also how
/// late it is noticed that others wait.
const QUIET: Duration = Duration::from_secs(1);

pub struct TicketTurn<'a, S> {
    context: &'a BackfillContext<S>,
    ticket: CalledTicket,
    /// How many others wait for a turn.
    waiting: watch::Receiver<usize>,
    /// The lowest height that has not been appended, neither as a block nor in a gap.
    next_height: u64,
    /// The last message read: its offset and its body's hash.
    last: Option<(u64, u64)>,
    /// When reading began, put off by what was spent on looking for missing heights.
    began: Option<Instant>,
    pace: ReadPace,
    /// The sequencer's clock: messages, not time.
    clock: Tick,
    steps: Vec<Step<Block>>,
}

/// Reading from one place.
struct Passage {
    sequencer: Sequencer<Block>,
    bounds: Bounds,
    place: u64,
    /// The last message read.
    offset: Option<u64>,
    /// What the sequence began with: `next_height` at that time.
    from_height: u64,
    /// At `place` is a message with that height.
    is_led: bool,
    /// What is known of the stream, once something was missing.
    known: Option<PassageHeights>,
    /// At the stream's end it was looked for what has not come.
    is_end_checked: bool,
}

impl<S: ReadableStream> BackfillContext<S> {
    /// One reading, until its turn ends or its session has gone.
    pub async fn turn(
        self: Arc<Self>,
        ticket: CalledTicket,
        waiting: tokio::sync::watch::Receiver<usize>,
    ) {
        let dropped = ticket.dropped();
        // What the session needs beside plain frames is made as for everyone.
        let encoding = encoder::run(Arc::clone(ticket.history()), dropped.clone());
        let mut turn = TicketTurn::new(&self, ticket, waiting);
        let state = tokio::select! {
            () = encoding => return,
            state = turn.run() => state,
        };
        turn.end(state);
    }
}

impl<'a, S: ReadableStream> TicketTurn<'a, S> {
    pub fn new(
        context: &'a BackfillContext<S>,
        ticket: CalledTicket,
        waiting: watch::Receiver<usize>,
    ) -> Self {
        Self {
            context,
            next_height: ticket.from_height(),
            last: None,
            ticket,
            waiting,
            began: None,
            pace: ReadPace::new(Instant::now()),
            clock: Tick::now(),
            steps: Vec::new(),
        }
    }

    /// Reads until the turn ends; the state is still to be told. Goes on over lost brokers.
    ///
    /// # Cancel safety
    /// Dropped, reading ends, and what was appended stays.
    pub async fn run(&mut self) -> TicketState {
        let mut backoff = Backoff::default();
        let mut place = None;
        loop {
            let from_height = self.next_height;
            let stop = match self.read(place.take()).await {
                Err(stop) => stop,
                Ok(never) => match never {},
            };
            let reason = match stop {
                Stop::End(state) => return state,
                Stop::Led { offset } => {
                    let height = self.next_height;
                    debug!(height, offset, "found elsewhere than where it was looked for");
                    place = Some(offset);
                    continue;
                }
                Stop::Broken(ReadError::Lost(reason)) => reason,
                Stop::Broken(error @ (ReadError::Missing(_) | ReadError::NotAStream)) => {
                    debug!(%error, "nothing can be read back");
                    self.context.tickets.set_first_height(None);
                    return TicketState::NotAvailable { first_height: None };
                }
            };
            debug!(reason, next_height = self.next_height, "lost the broker in a deep read");
            self.ticket.set_state(TicketState::Waiting);
            if self.next_height > from_height {
                backoff.reset();
            }
            sleep(backoff.next(fastrand::f64())).await;
        }
    }

    /// Tells how the turn ended.
    pub fn end(self, state: TicketState) {
        self.ticket.set_state(state);
        if state == TicketState::GivenUp {
            // After the state: a reader that finds it empty looks there for why.
            self.ticket.history().start_over();
        }
    }

    /// From `place` on, or where the next height is found.
    async fn read(&mut self, place: Option<u64>) -> Result<Infallible, Stop> {
        let stream = &self.context.stream;
        let Some(bounds) = stream.bounds().await? else {
            self.context.tickets.set_first_height(None);
            return Err(Stop::End(TicketState::NotAvailable { first_height: None }));
        };
        self.prove_same_stream().await?;
        let first_height = self.context.first_height(bounds).await?;
        if first_height.is_some_and(|first| first > self.next_height) {
            return Err(Stop::End(TicketState::NotAvailable { first_height }));
        }
        let is_led = place.is_some();
        let place = match place {
            Some(place) => place,
            None => self.find(bounds).await?,
        };
        let mut messages = stream.read_from(place).await?;
        self.ticket.set_state(TicketState::Reading);
        self.began.get_or_insert_with(Instant::now);
        let mut passage = Passage { is_led, ..self.passage(bounds, place) };
        let mut heard_at = Instant::now();
        loop {
            self.look_at_others()?;
            match timeout(QUIET, messages.next()).await {
                Ok(message) => {
                    self.take(message?, &mut passage).await?;
                    heard_at = Instant::now();
                }
                Err(_) if passage.offset >= Some(bounds.last) => self.wait(&mut passage).await?,
                Err(_) if heard_at.elapsed() >= SILENT_AFTER => {
                    stream.give_up();
                    return Err(ReadError::Lost("the broker fell silent".into()).into());
                }
                Err(_) => {}
            }
        }
    }

    /// After a lost broker, the last message must be where it was: in a stream made anew there may be
    /// another chain. That is the source's to find out, which tells this reading's client; it is
    /// given the time to.
    async fn prove_same_stream(&mut self) -> Result<(), Stop> {
        let Some((offset, hash)) = self.last else { return Ok(()) };
        let seen = self.context.stream.peek(offset).await?;
        let is_same =
            seen.first().is_some_and(|it| it.offset == offset && hash_of(&it.body) == hash);
        if is_same {
            return Ok(());
        }
        debug!(offset, "the stream was made anew in a deep read");
        sleep(ANEW_WAIT).await;
        Err(Stop::End(TicketState::GivenUp))
    }

    async fn find(&self, bounds: Bounds) -> Result<u64, ReadError> {
        let began = Instant::now();
        let mut looks = 0;
        let place = search::place(self.next_height, (bounds.first, bounds.last), |offset| {
            looks += 1;
            async move { Ok(self.context.heights(offset).await?.into_iter().max()) }
        });
        let place = place.await?;
        let height = self.next_height;
        debug!(height, place, looks, taken = ?began.elapsed(), "found where to read back from");
        Ok(place)
    }

    fn passage(&mut self, bounds: Bounds, place: u64) -> Passage {
        let start = SequenceStart::At(self.next_height);
        let mut sequencer = Sequencer::new(self.context.sequence_rules.clone(), start);
        self.steps.clear();
        sequencer.end_warm_up(self.clock, &mut self.steps);
        Passage {
            sequencer,
            bounds,
            place,
            offset: None,
            from_height: self.next_height,
            is_led: false,
            is_end_checked: false,
            known: None,
        }
    }

    async fn take(&mut self, message: Message, passage: &mut Passage) -> Result<(), Stop> {
        let Message { offset, body, packing } = message;
        if passage.offset.is_none() && offset > passage.place {
            self.look_for_trimming(passage.place).await?;
        }
        passage.offset = Some(offset);
        self.last = Some((offset, hash_of(&body)));
        self.clock += TICK;
        // Most of what lies before the place, and everything bad, is passed over for less.
        let first = passage.sequencer.first_height().unwrap_or(0);
        let rules = &self.context.decode_rules;
        let body = block::unpack(&body, &packing, rules.body_bytes_max).unwrap_or_default();
        let is_wanted = block::height_of(&body).is_some_and(|height| height >= first);
        let cost = if is_wanted { Cost::Block } else { Cost::Passed };
        self.pace.keep(cost, body.len()).await;
        if is_wanted {
            match block::decode(&body, rules) {
                Ok(block::Decoded::Block(block)) => {
                    let offer = OfferedBlock {
                        height: block.height,
                        content: block.content(),
                        bytes: block.bytes() as u64,
                        item: block,
                    };
                    passage.sequencer.offer(offer, self.clock, &mut self.steps);
                }
                Ok(block::Decoded::MarkedInvalid) => {}
                Err(error) => debug!(offset, %error, "passed over a bad message"),
            }
        }
        // What follows may wait for a client.
        drop(body);
        if passage.sequencer.deadline().is_some_and(|deadline| deadline <= self.clock) {
            passage.sequencer.expire(self.clock, &mut self.steps);
        }
        self.apply_steps(passage).await
    }

    /// At the stream's end: what is held need not wait for messages that do not come.
    async fn wait(&mut self, passage: &mut Passage) -> Result<(), Stop> {
        if passage.sequencer.deadline().is_some() {
            self.clock += TICK * HOLD_MESSAGES;
            passage.sequencer.expire(self.clock, &mut self.steps);
            return self.apply_steps(passage).await;
        }
        let is_owed = self.next_height == passage.from_height || passage.sequencer.held_bytes() > 0;
        if is_owed && !std::mem::replace(&mut passage.is_end_checked, true) {
            let next_height = self.next_height;
            let found = self.look_elsewhere(next_height..=next_height, false, passage).await?;
            if let Some((_, offset)) = found {
                return Err(Stop::Led { offset });
            }
        }
        Ok(())
    }

    async fn apply_steps(&mut self, passage: &mut Passage) -> Result<(), Stop> {
        let mut steps = std::mem::take(&mut self.steps);
        for step in steps.drain(..) {
            match step {
                Step::Publish { height, item } => {
                    self.append(item, false).await?;
                    self.next_height = height.saturating_add(1);
                }
                Step::Fill { item, .. } => self.append(item, true).await?,
                Step::Gap { from_height, to_height, .. } => {
                    self.tell_gap(from_height, to_height, passage).await?;
                }
                // All of it was told when it was live.
                Step::Conflict { height, .. } | Step::Implausible { height, .. } => {
                    debug!(height, "passed over a block that was not taken");
                }
                Step::Duplicate { .. } | Step::Old { .. } | Step::StartOver => {}
            }
        }
        self.steps = steps;
        passage.sequencer.forget_below(self.ticket.next_height());
        Ok(())
    }

    async fn append(&mut self, block: Block, fills: bool) -> Result<(), Stop> {
        let encoded = frame::encode(block, self.context.blocks.dialect);
        self.wait_for_room(&encoded).await?;
        let history = self.ticket.history();
        match fills {
            true => drop(history.fill(encoded)),
            false => history.append(encoded),
        }
        self.context.metrics.deep_read_blocks.inc();
        // A large block takes milliseconds: others have their turn after each.
        tokio::task::yield_now().await;
        Ok(())
    }

    /// Until what is unread leaves room for a block.
    async fn wait_for_room(&mut self, block: &EncodedBlock) -> Result<(), Stop> {
        let mut read_at = Instant::now();
        loop {
            let unread = self.ticket.history().let_go_below(self.ticket.next_height());
            if unread == 0 || unread + block.bytes() <= UNREAD_BYTES_MAX {
                return Ok(());
            }
            self.look_at_others()?;
            match timeout(PROGRESS_WITHIN, self.ticket.progressed()).await {
                Ok(()) => read_at = Instant::now(),
                Err(_) if *self.waiting.borrow() > 0 || read_at.elapsed() >= TURN_MAX => {
                    return Err(Stop::End(TicketState::GivenUp));
                }
                Err(_) => {}
            }
        }
    }

    /// Ends the turn when it has lasted long enough and others wait.
    fn look_at_others(&self) -> Result<(), Stop> {
        let is_over = self.began.is_some_and(|began| began.elapsed() >= TURN_MAX);
        match is_over && *self.waiting.borrow() > 0 {
            true => Err(Stop::End(TicketState::GivenUp)),
            false => Ok(()),
        }
    }

    /// Before heights are called missing: where the lowest of them lies that is in the stream all the same.
    /// Before the place, because a search's looks fell on heights published again; or, if `ahead`, behind
    /// more than is waited for, published again itself.
    async fn look_elsewhere(
        &mut self,
        mut heights: RangeInclusive<u64>,
        ahead: bool,
        passage: &mut Passage,
    ) -> Result<Option<(u64, u64)>, ReadError> {
        if passage.is_led && *heights.start() == passage.from_height {
            // It was no block that led here.
            heights = heights.start().saturating_add(1)..=*heights.end();
        }
        let Passage { place, bounds: Bounds { first, last }, .. } = *passage;
        if heights.is_empty() || !ahead && place <= first {
            return Ok(None);
        }
        let began = Instant::now();
        let mut scan = Scan { context: self.context, pace: &mut self.pace };
        let looking = async {
            let mut known = match passage.known.take() {
                Some(known) => known,
                None => scan.known(first..=if ahead { last } else { place }, place).await?,
            };
            let passed = place..=passage.offset.unwrap_or(place);
            let found = scan.lowest_of(heights, &mut known, first, passed).await;
            passage.known = Some(known).filter(|_| ahead);
            found
        };
        let found = looking.await;
        if let Some(turn_began) = &mut self.began {
            *turn_began += began.elapsed();
        }
        found
    }

    /// Tells a gap, as far as it is one.
    async fn tell_gap(
        &mut self,
        from_height: u64,
        to_height: u64,
        passage: &mut Passage,
    ) -> Result<(), Stop> {
        let found = self.look_elsewhere(from_height..=to_height, true, passage).await?;
        let next_height = found.map_or(to_height.saturating_add(1), |(height, _)| height);
        if next_height > from_height {
            self.ticket.history().append_gap(from_height, next_height - 1);
            self.next_height = next_height;
        }
        match found {
            Some((_, offset)) => Err(Stop::Led { offset }),
            None => Ok(()),
        }
    }

    /// A stream that was trimmed past the place while it was looked for is searched again.
    async fn look_for_trimming(&self, place: u64) -> Result<(), ReadError> {
        match self.context.stream.bounds().await? {
            Some(bounds) if bounds.first <= place => Ok(()),
            _ => Err(ReadError::Lost("the stream was trimmed to behind the place".into())),
        }
    }
}

/// Of chance, not of an adversary: whoever makes a stream anew may write into it what he likes.
fn hash_of(body: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(body);
    hasher.finish()
}
