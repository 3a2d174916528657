//! The walk over sorted lists of events, one of each value of a filter: the union of those of one parameter,
//! and what all parameters have in common, a window of events after the other.

use std::ops::Range;

use super::index::Index;

/// Events that are looked at together.
const WINDOW_EVENTS: u32 = if cfg!(test) { 70 } else { 2_048 };
const WINDOW_WORDS: usize = WINDOW_EVENTS.div_ceil(u64::BITS) as usize;

/// Where the walk is in each list.
#[derive(Debug, Default)]
pub struct Lists {
    lists: Vec<List>,
}

/// What is still ahead of the events with one value.
#[derive(Debug)]
struct List {
    /// Alternatives have the same one, and stand together.
    parameter: u32,
    ahead: Range<u32>,
}

/// A bit for each event of a window.
type Window = [u64; WINDOW_WORDS];

impl Lists {
    /// Finds the lists of the hashes of each parameter from `first` on. Returns false when a parameter has no
    /// event.
    pub(super) fn find(
        &mut self,
        index: &Index,
        parameters: impl Iterator<Item = impl Iterator<Item = u64>>,
        first: u32,
    ) -> bool {
        self.lists.clear();
        for (parameter, hashes) in (0..).zip(parameters) {
            let found = self.lists.len();
            for hash in hashes {
                let ahead = index.place_of(hash);
                if !ahead.is_empty() {
                    self.lists.push(List { parameter, ahead }.from(index, first));
                }
            }
            if self.lists.len() == found {
                return false;
            }
        }
        true
    }

    /// Adds what the lists that were found have in common, and leaves them behind it. Returns whether there
    /// is more than there is room for.
    pub(super) fn pick(&mut self, index: &Index, mut room: usize, picked: &mut Vec<u32>) -> bool {
        while let Some(start) = self.next_start(index) {
            let common = self.take_window(index, start);
            for (word, mut bits) in (0..).zip(common) {
                while bits != 0 {
                    let Some(left) = room.checked_sub(1) else { return true };
                    room = left;
                    picked.push(start + word * u64::BITS + bits.trailing_zeros());
                    bits &= bits - 1;
                }
            }
        }
        false
    }

    /// Heap bytes.
    pub fn bytes(&self) -> usize {
        self.lists.capacity() * size_of::<List>()
    }

    fn by_parameter(&mut self) -> impl Iterator<Item = &mut [List]> {
        self.lists.chunk_by_mut(|a, b| a.parameter == b.parameter)
    }

    /// The first event that may be in all parameters; none when one of them is at its end.
    fn next_start(&mut self, index: &Index) -> Option<u32> {
        let mut start = 0;
        for lists in self.by_parameter() {
            let ahead = lists.iter().filter_map(|list| list.events(index).first());
            start = start.max(*ahead.min()?);
        }
        Some(start)
    }

    /// Moves all lists behind the window that begins at `start`. Returns what of it is in all parameters.
    fn take_window(&mut self, index: &Index, start: u32) -> Window {
        let mut common = [u64::MAX; WINDOW_WORDS];
        for lists in self.by_parameter() {
            let mut any: Window = [0; WINDOW_WORDS];
            for list in lists {
                list.skip_to(index, start);
                let events = list.events(index).iter();
                let inside = events.take_while(|event| **event - start < WINDOW_EVENTS);
                let mut taken = 0;
                for event in inside {
                    let at = event - start;
                    any[(at / u64::BITS) as usize] |= 1 << (at % u64::BITS);
                    taken += 1;
                }
                list.ahead.start += taken;
            }
            for (common, any) in common.iter_mut().zip(any) {
                *common &= any;
            }
        }
        common
    }
}

impl List {
    fn from(mut self, index: &Index, first: u32) -> Self {
        self.skip_to(index, first);
        self
    }

    fn events<'a>(&self, index: &'a Index) -> &'a [u32] {
        index.events_at(self.ahead.clone())
    }

    fn skip_to(&mut self, index: &Index, first: u32) {
        let events = self.events(index);
        if events.first().is_some_and(|event| *event < first) {
            self.ahead.start += events.partition_point(|event| *event < first) as u32;
        }
    }
}
