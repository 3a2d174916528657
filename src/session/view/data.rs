//! The data messages of a block, as one client gets them: slices of bytes that others share, in order.

use std::io::IoSlice;

use super::selection::{Place, Selected};
use crate::frame::{self, EncodedBlock, Encoding, SEPARATOR};
use crate::history::TakenBlock;
use crate::protocol::Stream;
use crate::session::subscription::{Shape, Subscription};

/// Slices in one vectored write; Linux takes 1,024 at most. A batch that is put together has two an event.
const SLICES_MAX: usize = 256;

/// Up to [`SLICES_MAX`] slices of one vectored write.
pub type Slices<'a> = arrayvec::ArrayVec<IoSlice<'a>, SLICES_MAX>;

pub(super) enum Data<'a> {
    /// Messages `from..to` of a run.
    Run { run: Run<'a>, from: usize, to: usize },
    /// These messages of a run, which have `len` bytes.
    Picked { run: Run<'a>, picked: &'a [u32], len: usize },
    /// A part of one message, from its byte `start` on: the payloads of these events, each with what parts
    /// it from what is before it, and an end, which is empty when more events follow.
    Batch(BatchPart<'a>),
}

#[derive(Clone, Copy)]
pub(super) struct BatchPart<'a> {
    block: &'a EncodedBlock,
    start: usize,
    /// The first event that may be among these.
    next_event: u32,
    /// Before the first of these payloads.
    pub head: &'a [u8],
    picked: &'a [u32],
    tail: &'static [u8],
    pub len: usize,
}

/// Messages back to back, and where each ends.
#[derive(Clone, Copy)]
pub(super) struct Run<'a> {
    bytes: &'a [u8],
    ends: &'a [u32],
    /// Messages that each of these counts for.
    weight: usize,
}

impl<'a> Data<'a> {
    /// What the subscription gets of a part of the block, which has what [`Subscription::required_encodings`] says.
    pub fn of(
        subscription: &Subscription,
        cached: &'a TakenBlock,
        place: Place<'_>,
        selected: Selected<'a>,
    ) -> Self {
        let (block, stream) = (&cached.block, subscription.stream);
        let shape = subscription.shape(place.part);
        let run = match shape {
            Shape::Whole(encoding) => {
                let run = Run::of(cached, encoding, stream);
                let weight = match encoding {
                    Some(Encoding::GzipBlock) => block.events_len(),
                    _ => 1,
                };
                Run { weight, ..run }
            }
            Shape::Single(encoding) => Run::of(cached, encoding, stream),
            Shape::Own => Run::of(cached, None, stream),
        };
        let Selected { picked, head, is_open } = selected;
        if subscription.filter.is_none() && shape != Shape::Own {
            let to = run.ends.len();
            return Self::Run { run, from: (place.next_event as usize).min(to), to };
        }
        if head.is_empty() {
            return Self::picked(run, picked);
        }
        let batch = place.progress.and_then(|progress| progress.batch_of(block));
        let (start, next_event) =
            batch.map_or((0, place.next_event), |batch| (batch.start, batch.next_event));
        let tail: &[u8] = if is_open { &[] } else { frame::batch_tail(subscription.wire) };
        let mut part = BatchPart { block, start, next_event, head, picked, tail, len: 0 };
        part.len = part.segments().map(|(_, segment)| segment).sum::<usize>() + tail.len();
        Self::Batch(part)
    }

    fn picked(run: Run<'a>, picked: &'a [u32]) -> Self {
        let len = picked.iter().map(|event| run.len_of(*event as usize)).sum();
        Self::Picked { run, picked, len }
    }

    pub fn truncated(self, messages_max: usize) -> Self {
        match self {
            Self::Run { run, from, to } => {
                Self::Run { run, from, to: to.min(from.saturating_add(messages_max)) }
            }
            Self::Picked { run, picked, .. } => {
                Self::picked(run, &picked[..picked.len().min(messages_max)])
            }
            whole @ Self::Batch(_) => whole,
        }
    }

    /// Those that end here.
    pub fn messages(&self) -> usize {
        match self {
            Self::Run { from, to, .. } => to - from,
            Self::Picked { picked, .. } => picked.len(),
            Self::Batch(part) => usize::from(!part.tail.is_empty()),
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Self::Run { run, from, to } => run.start_of(*to) - run.start_of(*from),
            Self::Picked { len, .. } => *len,
            Self::Batch(part) => part.len,
        }
    }

    pub fn weight(&self) -> usize {
        match self {
            Self::Run { run, .. } | Self::Picked { run, .. } => run.weight,
            Self::Batch(_) => 1,
        }
    }

    /// Where the message at `index` begins.
    pub fn start_of(&self, index: usize) -> usize {
        match self {
            Self::Run { run, from, .. } => run.start_of(from + index) - run.start_of(*from),
            Self::Picked { picked, len, .. } if index == picked.len() => *len,
            Self::Picked { run, picked, .. } => {
                picked[..index].iter().map(|event| run.len_of(*event as usize)).sum()
            }
            Self::Batch(_) if index == 0 => 0,
            Self::Batch(part) => part.len,
        }
    }

    /// How many messages end at or before `offset`.
    pub fn ended_at(&self, offset: usize) -> usize {
        match self {
            Self::Run { run, from, to } => {
                let offset = offset + run.start_of(*from);
                run.ends[*from..*to].partition_point(|end| *end as usize <= offset)
            }
            Self::Picked { run, picked, .. } => {
                let mut end = 0;
                let ended = picked.iter().take_while(|event| {
                    end += run.len_of(**event as usize);
                    end <= offset
                });
                ended.count()
            }
            Self::Batch(part) if offset >= part.len => self.messages(),
            Self::Batch(_) => 0,
        }
    }

    /// The event that the message at `index` tells; never asked of one that tells several.
    pub fn event_of(&self, index: usize) -> u32 {
        match self {
            Self::Run { from, .. } => (from + index) as u32,
            Self::Picked { picked, .. } => picked[index],
            Self::Batch(part) => part.picked.last().copied().unwrap_or_default(),
        }
    }

    /// Adds slices of the bytes `from..to` of the data and of `end` behind it, as long as there is room.
    /// Returns whether all fitted.
    pub fn push(&self, end: &'a [u8], from: usize, to: usize, slices: &mut Slices<'a>) -> bool {
        let mut at = 0;
        let mut fits = true;
        self.each_piece(end, |piece| {
            let (start, end) = (at, at + piece.len());
            at = end;
            let wanted = from.max(start)..to.min(end);
            if wanted.is_empty() {
                return start < to;
            }
            fits = slices
                .try_push(IoSlice::new(&piece[wanted.start - start..wanted.end - start]))
                .is_ok();
            fits
        });
        fits
    }

    /// Calls `each` with the bytes in order until it returns false; neighbours come as one piece.
    fn each_piece(&self, end: &'a [u8], mut each: impl FnMut(&'a [u8]) -> bool) {
        let goes_on = match self {
            Self::Run { run, from, to } => each(&run.bytes[run.start_of(*from)..run.start_of(*to)]),
            Self::Picked { run, picked, .. } => picked.chunk_by(|a, b| a + 1 == *b).all(|chunk| {
                let (first, last) = (chunk[0] as usize, chunk[chunk.len() - 1] as usize);
                each(&run.bytes[run.start_of(first)..run.start_of(last + 1)])
            }),
            Self::Batch(part) => {
                let pieces = part.before().zip(part.picked);
                pieces.into_iter().all(|(before, event)| {
                    each(before) && each(part.block.payload(*event as usize))
                }) && each(part.tail)
            }
        };
        if goes_on {
            each(end);
        }
    }
}

impl<'a> BatchPart<'a> {
    /// What stands before each payload.
    fn before(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        std::iter::once(self.head).chain(std::iter::repeat(SEPARATOR))
    }

    /// Each event, and the bytes of its payload and of what is before it.
    fn segments(&self) -> impl Iterator<Item = (u32, usize)> {
        self.before().zip(self.picked).map(|(before, event)| {
            (*event, before.len() + self.block.payload(*event as usize).len())
        })
    }

    /// Where the segment with the byte at `offset` begins in the whole message, and its event; or what comes
    /// behind all that are here.
    pub fn segment_at(&self, offset: usize) -> (usize, u32) {
        let (mut start, mut next_event) = (0, self.next_event);
        for (event, len) in self.segments() {
            if start + len > offset {
                return (self.start + start, event);
            }
            start += len;
            next_event = event + 1;
        }
        (self.start + start, next_event)
    }
}

impl<'a> Run<'a> {
    /// None: the plain frames of `stream`.
    pub fn of(cached: &'a TakenBlock, encoding: Option<Encoding>, stream: Stream) -> Self {
        let block = &cached.block;
        let (bytes, ends): (&[u8], &[u32]) = match (encoding, stream) {
            (Some(encoding), _) => {
                let made = cached.encoded(encoding).expect("bug: a required encoding was not made");
                (&made.bytes, &made.ends)
            }
            (None, Stream::Transactions) => (&block.events, &block.event_ends),
            (None, Stream::Blocks) => (&block.summary, std::slice::from_ref(&block.summary_end)),
        };
        Self { bytes, ends, weight: 1 }
    }

    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    fn start_of(&self, index: usize) -> usize {
        index.checked_sub(1).map_or(0, |before| self.ends[before] as usize)
    }

    fn len_of(&self, index: usize) -> usize {
        self.start_of(index + 1) - self.start_of(index)
    }
}
