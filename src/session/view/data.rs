//! The data messages of a block, as one client gets them: slices of bytes that others share, in order.

use std::io::IoSlice;

use super::selection::Selected;
use crate::frame::{self, EncodedBlock, Encoding};
use crate::history::{ENTRIES_MAX, TakenBlock};
use crate::protocol::Stream;
use crate::session::subscription::{Part, Shape, Subscription};

/// Slices in one vectored write; Linux takes 1,024 at most.
const SLICES_MAX: usize = ENTRIES_MAX;

/// Up to [`SLICES_MAX`] slices of one vectored write.
pub type Slices<'a> = arrayvec::ArrayVec<IoSlice<'a>, SLICES_MAX>;

pub(super) enum Data<'a> {
    /// Messages `from..to` of a run.
    Run { run: Run<'a>, from: usize, to: usize },
    /// These messages of a run.
    Picked { run: Run<'a>, picked: &'a [u32] },
    /// One message: a head of this client's own, the payloads of these events, an end.
    Batch { block: &'a EncodedBlock, head: &'a [u8], picked: &'a [u32], tail: &'static [u8] },
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
        part: Part,
        selected: Selected<'a>,
    ) -> Self {
        let (block, stream) = (&cached.block, subscription.stream);
        let shape = subscription.shape(part);
        let (run, from) = match shape {
            Shape::Whole(encoding) => {
                let run = Run::of(cached, encoding, stream);
                let weight = match encoding {
                    Some(Encoding::GzipBlock) => block.events_len(),
                    _ => 1,
                };
                (Run { weight, ..run }, 0)
            }
            Shape::Single(encoding) => {
                (Run::of(cached, encoding, stream), part.first_event as usize)
            }
            Shape::Own => (Run::of(cached, None, stream), part.first_event as usize),
        };
        let Selected { picked, head } = selected;
        if subscription.filter.is_none() && shape != Shape::Own {
            let to = run.ends.len();
            return Self::Run { run, from: from.min(to), to };
        }
        match shape == Shape::Own && !picked.is_empty() {
            true => Self::Batch { block, head, picked, tail: frame::batch_tail(subscription.wire) },
            false => Self::Picked { run, picked },
        }
    }

    pub fn truncated(self, messages_max: usize) -> Self {
        match self {
            Self::Run { run, from, to } => {
                Self::Run { run, from, to: to.min(from.saturating_add(messages_max)) }
            }
            Self::Picked { run, picked } => {
                Self::Picked { run, picked: &picked[..picked.len().min(messages_max)] }
            }
            whole @ Self::Batch { .. } => whole,
        }
    }

    pub fn messages(&self) -> usize {
        match self {
            Self::Run { from, to, .. } => to - from,
            Self::Picked { picked, .. } => picked.len(),
            Self::Batch { .. } => 1,
        }
    }

    pub fn weight(&self) -> usize {
        match self {
            Self::Run { run, .. } | Self::Picked { run, .. } => run.weight,
            Self::Batch { .. } => 1,
        }
    }

    pub fn start_of(&self, index: usize) -> usize {
        match self {
            Self::Run { run, from, .. } => run.start_of(from + index) - run.start_of(*from),
            Self::Picked { run, picked } => {
                picked[..index].iter().map(|event| run.len_of(*event as usize)).sum()
            }
            Self::Batch { .. } if index == 0 => 0,
            Self::Batch { block, head, picked, tail } => {
                let payloads = picked.iter().map(|event| block.payload(*event as usize).len());
                let separators = frame::SEPARATOR.len() * picked.len().saturating_sub(1);
                head.len() + payloads.sum::<usize>() + separators + tail.len()
            }
        }
    }

    pub fn ended_at(&self, offset: usize) -> usize {
        match self {
            Self::Run { run, from, to } => {
                let offset = offset + run.start_of(*from);
                run.ends[*from..*to].partition_point(|end| *end as usize <= offset)
            }
            Self::Picked { run, picked } => {
                let mut end = 0;
                let ended = picked.iter().take_while(|event| {
                    end += run.len_of(**event as usize);
                    end <= offset
                });
                ended.count()
            }
            Self::Batch { .. } => usize::from(offset >= self.start_of(1)),
        }
    }

    /// The event that the message at `index` tells; never asked of one that tells several.
    pub fn event_of(&self, index: usize) -> u32 {
        match self {
            Self::Run { from, .. } => (from + index) as u32,
            Self::Picked { picked, .. } => picked[index],
            Self::Batch { picked, .. } => picked[picked.len() - 1],
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
            Self::Picked { run, picked } => picked.chunk_by(|a, b| a + 1 == *b).all(|chunk| {
                let (first, last) = (chunk[0] as usize, chunk[chunk.len() - 1] as usize);
                each(&run.bytes[run.start_of(first)..run.start_of(last + 1)])
            }),
            Self::Batch { block, head, picked, tail } => {
                each(head)
                    && picked.iter().enumerate().all(|(place, event)| {
                        (place == 0 || each(frame::SEPARATOR))
                            && each(block.payload(*event as usize))
                    })
                    && each(tail)
            }
        };
        if goes_on {
            each(end);
        }
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
