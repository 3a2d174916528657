//! What of one block goes to one client: which bytes, in which order, and where its messages end.
//!
//! Made when it is needed and gone with the write: it borrows the block's shared bytes, and copies
//! none of them. Nothing is kept per client.

use std::io::IoSlice;

use super::form::{Form, Part, Shape, Stream};
use crate::frame::{self, EncodedBlock, Encoding};
use crate::history::{CachedBlock, ENTRIES_MAX};

/// Slices in one vectored write; Linux takes 1,024 at most.
const SLICES_MAX: usize = ENTRIES_MAX;

/// Up to [`SLICES_MAX`] slices of one vectored write.
pub type Slices<'a> = arrayvec::ArrayVec<IoSlice<'a>, SLICES_MAX>;

/// What of a block is wanted, beside what the form says.
#[derive(Debug, Clone, Copy)]
pub struct Cut {
    pub part: Part,
    /// Data messages that may still go to this client.
    pub messages_max: Option<u64>,
}

/// Whole messages back to back: data, then the mark of the block's end, if there is one.
pub struct Plan<'e, 'p> {
    data: Data<'e, 'p>,
    end: &'e [u8],
    /// Nothing goes to this client after it.
    pub is_last: bool,
    /// Data of the block is left out at its end.
    is_cut: bool,
}

/// What the first messages of a plan have told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    Nothing,
    /// All that is wanted up to this event.
    To(u32),
    All,
}

enum Data<'e, 'p> {
    /// Messages `from..to` of a run.
    Run { run: Run<'e>, from: usize, to: usize },
    /// These messages of a run.
    Picked { run: Run<'e>, picked: &'p [u32] },
    /// One message: a head of this client's own, the payloads of these events, an end.
    Batch { block: &'e EncodedBlock, head_len: usize, picked: &'p [u32], tail: &'static [u8] },
}

/// Messages back to back, and where each ends.
#[derive(Clone, Copy)]
struct Run<'e> {
    bytes: &'e [u8],
    ends: &'e [u32],
    /// Messages that each of these counts for.
    weight: usize,
}

impl<'e, 'p> Plan<'e, 'p> {
    /// What the client of this form gets of the block, which has what [`Form::required_encodings`] says.
    ///
    /// `picked` and `head` are room for what is this client's own.
    pub fn of(
        form: &Form,
        cached: &'e CachedBlock,
        cut: Cut,
        picked: &'p mut Vec<u32>,
        head: &mut Vec<u8>,
    ) -> Self {
        let data = Data::of(form, cached, cut.part, picked, head);
        let end = match form.block_end() {
            Some(encoding) => Run::of(cached, Some(encoding), form.stream).bytes,
            None => &[],
        };
        let left = cut.messages_max.map_or(usize::MAX, |max| max.try_into().unwrap_or(usize::MAX));
        if data.messages() < left {
            return Self { data, end, is_last: false, is_cut: false };
        }
        let is_cut = data.messages() > left;
        Self { data: data.truncated(left), end: &[], is_last: true, is_cut }
    }

    /// All bytes.
    pub fn len(&self) -> usize {
        self.data.start_of(self.data.messages()) + self.end.len()
    }

    /// All messages, the end mark included.
    pub fn messages(&self) -> usize {
        self.data.messages() + usize::from(!self.end.is_empty())
    }

    /// Messages that count against a limit.
    pub fn data_messages(&self) -> usize {
        self.data.messages()
    }

    /// Messages as the metrics count them: a piece that tells many events is as many.
    pub fn counted(&self, from: usize, to: usize) -> usize {
        let data = self.data.messages();
        let data_here = to.min(data) - from.min(data);
        data_here * self.data.weight() + (to - from - data_here)
    }

    /// Where the message at `index` begins; the end of all for the one after the last.
    pub fn start_of(&self, index: usize) -> usize {
        match index <= self.data.messages() {
            true => self.data.start_of(index),
            false => self.len(),
        }
    }

    /// How many messages end at or before `offset`.
    pub fn ended_at(&self, offset: usize) -> usize {
        match offset {
            offset if offset >= self.len() => self.messages(),
            // Before a block is written, so for every client and block: nothing to look for.
            0 => 0,
            offset => self.data.ended_at(offset),
        }
    }

    /// What the first `messages` tell.
    pub fn told(&self, messages: usize) -> Told {
        let data = self.data.messages();
        match messages.min(data).checked_sub(1) {
            _ if messages >= data && !self.is_cut => Told::All,
            None => Told::Nothing,
            Some(last) => Told::To(self.data.event_of(last)),
        }
    }

    /// Adds slices of the bytes `from..to` as long as there is room. Returns whether all fitted.
    /// `head` is the one that [`Plan::of`] wrote.
    pub fn push<'a>(&self, from: usize, to: usize, head: &'a [u8], slices: &mut Slices<'a>) -> bool
    where
        'e: 'a,
    {
        let mut at = 0;
        let mut fits = true;
        self.each_piece(head, |piece| {
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

    /// Whether it has bytes that are this client's own, in `head`.
    pub fn has_head(&self) -> bool {
        matches!(self.data, Data::Batch { .. })
    }

    /// Calls `each` with the bytes in order until it returns false; neighbours come as one piece.
    fn each_piece<'a>(&self, head: &'a [u8], mut each: impl FnMut(&'a [u8]) -> bool)
    where
        'e: 'a,
    {
        let goes_on = match &self.data {
            Data::Run { run, from, to } => each(&run.bytes[run.start_of(*from)..run.start_of(*to)]),
            Data::Picked { run, picked } => picked.chunk_by(|a, b| a + 1 == *b).all(|chunk| {
                let (first, last) = (chunk[0] as usize, chunk[chunk.len() - 1] as usize);
                each(&run.bytes[run.start_of(first)..run.start_of(last + 1)])
            }),
            Data::Batch { block, picked, tail, .. } => {
                each(head)
                    && picked.iter().enumerate().all(|(place, event)| {
                        (place == 0 || each(frame::SEPARATOR))
                            && each(block.payload(*event as usize))
                    })
                    && each(tail)
            }
        };
        if goes_on {
            each(self.end);
        }
    }
}

impl<'e, 'p> Data<'e, 'p> {
    fn of(
        form: &Form,
        cached: &'e CachedBlock,
        part: Part,
        picked: &'p mut Vec<u32>,
        head: &mut Vec<u8>,
    ) -> Self {
        let (block, stream) = (&cached.block, form.stream);
        let shape = form.shape(part);
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
        let to = run.ends.len();
        let from = from.min(to);
        match (&form.filter, shape) {
            (None, Shape::Whole(_) | Shape::Single(_)) => return Self::Run { run, from, to },
            (None, Shape::Own) => {
                picked.clear();
                picked.extend(from as u32..to as u32);
            }
            (Some(filter), _) => {
                let index = cached.index().expect("bug: a filter's block has no index");
                filter.matches(index, picked);
                picked.retain(|event| *event as usize >= from);
            }
        }
        if shape != Shape::Own || picked.is_empty() {
            return Self::Picked { run, picked };
        }
        *head = frame::batch_head(block, picked, form.wire);
        let tail = frame::batch_tail(form.wire);
        Self::Batch { block, head_len: head.len(), picked, tail }
    }

    fn truncated(self, messages_max: usize) -> Self {
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

    fn messages(&self) -> usize {
        match self {
            Self::Run { from, to, .. } => to - from,
            Self::Picked { picked, .. } => picked.len(),
            Self::Batch { .. } => 1,
        }
    }

    fn weight(&self) -> usize {
        match self {
            Self::Run { run, .. } | Self::Picked { run, .. } => run.weight,
            Self::Batch { .. } => 1,
        }
    }

    fn start_of(&self, index: usize) -> usize {
        match self {
            Self::Run { run, from, .. } => run.start_of(from + index) - run.start_of(*from),
            Self::Picked { run, picked } => {
                picked[..index].iter().map(|event| run.len_of(*event as usize)).sum()
            }
            Self::Batch { .. } if index == 0 => 0,
            Self::Batch { block, head_len, picked, tail } => {
                let payloads = picked.iter().map(|event| block.payload(*event as usize).len());
                let separators = frame::SEPARATOR.len() * picked.len().saturating_sub(1);
                head_len + payloads.sum::<usize>() + separators + tail.len()
            }
        }
    }

    fn ended_at(&self, offset: usize) -> usize {
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
    fn event_of(&self, index: usize) -> u32 {
        match self {
            Self::Run { from, .. } => (from + index) as u32,
            Self::Picked { picked, .. } => picked[index],
            Self::Batch { picked, .. } => picked[picked.len() - 1],
        }
    }
}

impl<'e> Run<'e> {
    /// None: the plain frames of `stream`.
    fn of(cached: &'e CachedBlock, encoding: Option<Encoding>, stream: Stream) -> Self {
        let block = &cached.block;
        let (bytes, ends): (&[u8], &[u32]) = match (encoding, stream) {
            (Some(encoding), _) => {
                let made = cached.encoded(encoding).expect("bug: what a form needs was not made");
                (&made.bytes, &made.ends)
            }
            (None, Stream::Transactions) => (&block.events, &block.event_ends),
            (None, Stream::Blocks) => (&block.summary, std::slice::from_ref(&block.summary_end)),
        };
        Self { bytes, ends, weight: 1 }
    }

    fn start_of(&self, index: usize) -> usize {
        index.checked_sub(1).map_or(0, |before| self.ends[before] as usize)
    }

    fn len_of(&self, index: usize) -> usize {
        self.start_of(index + 1) - self.start_of(index)
    }
}
