//! What a client's filter lets through: the indices of a block's matching events. Pure.
//!
//! Values of one parameter are alternatives, different parameters must all match. A block's strings
//! are looked at once, for its [`Index`]; a filter keeps the hashes of its own, so looking it up costs
//! what it matches and next to nothing where it matches nothing. Knows of no session.

mod index;

#[cfg(test)]
mod tests;

use crate::block::Fields;
use crate::protocol::{FilterName, FilterParameter};
pub use index::Index;
use index::{hash, tagged};

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

    /// Puts the indices of the matching events into `picked`, which is emptied first, rising, each
    /// once. Allocates nothing where nothing matches.
    pub fn matches(&self, index: &Index, picked: &mut Vec<u32>) {
        picked.clear();
        let mut parameters = self.parameters();
        let Some(first) = parameters.next() else {
            return picked.extend(0..index.events());
        };
        for term in first {
            picked.extend_from_slice(index.events_with(term.hash));
        }
        if first.len() > 1 {
            picked.sort_unstable();
            picked.dedup();
        }
        for terms in parameters {
            picked.retain(|event| {
                let has = |term: &Term| index.events_with(term.hash).binary_search(event).is_ok();
                terms.iter().any(has)
            });
        }
    }

    /// What [`Filter::matches`] finds, said plainly: whether the event of the transaction at `event`
    /// is let through.
    pub fn accepts(&self, fields: &Fields, event: usize) -> bool {
        self.parameters().all(|terms| {
            let found = fields.of(event).map(tagged);
            let is_wanted = |(name, value): (FilterName, &str)| {
                let matches =
                    |term: &Term| term.wanted.name() == name && term.wanted.value() == value;
                terms.iter().any(matches)
            };
            found.into_iter().any(is_wanted)
        })
    }

    /// The terms of each parameter that there are any of.
    fn parameters(&self) -> impl Iterator<Item = &[Term]> {
        self.terms.chunk_by(|a, b| a.wanted.name() == b.wanted.name())
    }
}
