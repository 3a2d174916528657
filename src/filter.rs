//! What a client's filter lets through: the indices of a block's matching events. Pure.
//!
//! Values of one parameter are alternatives, different parameters must all match. A block's strings
//! are looked at once, for its [`Index`]; a filter keeps the hashes of its own, so looking it up costs
//! what it matches and next to nothing where it matches nothing. Knows of no session.

mod index;
mod lists;

#[cfg(test)]
mod tests;

use crate::block::Fields;
use crate::protocol::{FilterName, FilterParameter};
pub use index::Index;
use index::{hash, tagged};
pub use lists::Lists;

/// What a client wants to see; empty, everything.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Filter {
    /// By parameter; values of one follow each other.
    terms: Vec<Term>,
}

#[derive(Debug, Clone, PartialEq)]
struct Term {
    wanted: FilterParameter,
    hash: u64,
}

impl FromIterator<FilterParameter> for Filter {
    fn from_iter<I: IntoIterator<Item = FilterParameter>>(parameters: I) -> Self {
        let term = |wanted: FilterParameter| {
            let hash = hash(wanted.name(), wanted.value());
            Term { wanted, hash }
        };
        let mut terms: Vec<Term> = parameters.into_iter().map(term).collect();
        terms.sort_by_key(|term| term.wanted.name());
        Self { terms }
    }
}

impl Filter {
    /// None: without a value everything is wanted.
    pub fn of(parameters: Vec<FilterParameter>) -> Option<Box<Self>> {
        (!parameters.is_empty()).then(|| Box::new(parameters.into_iter().collect()))
    }

    /// Whether it lets everything through.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Adds the indices of the matching events from `first` on to `picked`, rising, each once, as many as
    /// there is `room` for. Returns whether there are more.
    ///
    /// Takes as long as looking each value up once, and walking the events that have one of them, as far as
    /// it goes: no event is compared with a value. `lists` is room to work in, and keeps no more than 12
    /// bytes for each value.
    pub fn pick(
        &self,
        index: &Index,
        first: u32,
        room: usize,
        lists: &mut Lists,
        picked: &mut Vec<u32>,
    ) -> bool {
        match &self.terms[..] {
            [] => {
                let events = first..index.events();
                picked.extend(events.clone().take(room));
                events.len() > room
            }
            [term] => {
                let events = index.events_with(term.hash);
                let ahead = &events[events.partition_point(|event| *event < first)..];
                picked.extend_from_slice(&ahead[..ahead.len().min(room)]);
                ahead.len() > room
            }
            terms => {
                let hashes = parameters(terms).map(|terms| terms.iter().map(|term| term.hash));
                lists.find(index, hashes, first) && lists.pick(index, room, picked)
            }
        }
    }

    /// What [`Filter::pick`] finds, said plainly: whether the event of the transaction at `event`
    /// is let through.
    pub fn accepts(&self, fields: &Fields, event: usize) -> bool {
        parameters(&self.terms).all(|terms| {
            let found = fields.of(event).map(tagged);
            let is_wanted = |(name, value): (FilterName, &str)| {
                let matches =
                    |term: &Term| term.wanted.name() == name && term.wanted.value() == value;
                terms.iter().any(matches)
            };
            found.into_iter().any(is_wanted)
        })
    }
}

/// The terms of each parameter that there are any of.
fn parameters(terms: &[Term]) -> impl Iterator<Item = &[Term]> {
    terms.chunk_by(|a, b| a.wanted.name() == b.wanted.name())
}
