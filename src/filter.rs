//! What a client's filter lets through: the indices of a block's matching events. Pure.
//!
//! Values of one parameter are alternatives, different parameters must all match. A block's strings
//! are looked at once, for its [`Index`]; a filter keeps the hashes of its own, so looking it up costs
//! what it matches and next to nothing where it matches nothing. Knows of no session.

mod index;

#[cfg(test)]
mod tests;

use crate::block::Fields;
use crate::secret;
pub use index::Index;
use index::{hash, tagged};

/// Values of one filter in all: each costs a look-up in every block.
const VALUES_MAX: usize = 100;
/// An Ed25519 key of 32 bytes in base58; fewer characters would have to begin with zero bytes.
const KEY_CHARS: std::ops::RangeInclusive<usize> = 43..=44;
/// A SHA3-256 in hexadecimal digits.
const ID_DIGITS: usize = 64;
/// Far above any operation there is, so that new ones pass.
const OPERATION_CHARS_MAX: usize = 64;

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Parameter {
    /// Any owner of any output.
    PublicKey,
    /// Any owner that an input spends from.
    OwnerBefore,
    /// The asset's id; of a CREATE its own.
    AssetId,
    TransactionId,
    Operation,
}

/// What a client wants to see; empty, everything.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Filter {
    /// By parameter; values of one follow each other.
    terms: Vec<Term>,
}

#[derive(Debug, Clone, PartialEq)]
struct Term {
    parameter: Parameter,
    value: Box<str>,
    hash: u64,
}

/// A value that no transaction could have, or one too many.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    #[error("`{}`: {value:?} is not {wanted}", parameter.name())]
    Value { parameter: Parameter, value: String, wanted: &'static str },
    #[error("more than {VALUES_MAX} values to filter by; ask for the rest on another connection")]
    TooMany,
}

impl Parameter {
    /// As the URL has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::PublicKey => "public_key",
            Self::OwnerBefore => "owner_before",
            Self::AssetId => "asset_id",
            Self::TransactionId => "transaction_id",
            Self::Operation => "operation",
        }
    }

    /// The value as transactions have it, or what it should look like.
    fn parse(self, value: &str) -> Result<String, &'static str> {
        let is_base58 = |byte: u8| byte.is_ascii_alphanumeric() && !b"0OIl".contains(&byte);
        let is_name = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        let all = |is_one: &dyn Fn(u8) -> bool| value.bytes().all(is_one);
        match self {
            Self::PublicKey | Self::OwnerBefore => {
                let is_key = KEY_CHARS.contains(&value.len()) && all(&is_base58);
                is_key.then(|| value.to_owned()).ok_or("a public key, 43 or 44 base58 characters")
            }
            Self::AssetId | Self::TransactionId => {
                let is_id = value.len() == ID_DIGITS && all(&|byte| byte.is_ascii_hexdigit());
                is_id.then(|| value.to_ascii_lowercase()).ok_or("an id, 64 hexadecimal digits")
            }
            Self::Operation => {
                let is_operation =
                    (1..=OPERATION_CHARS_MAX).contains(&value.len()) && all(&is_name);
                is_operation.then(|| value.to_owned()).ok_or("an operation, such as TRANSFER")
            }
        }
    }
}

impl Filter {
    /// Adds an alternative for this parameter.
    ///
    /// # Errors
    /// No transaction could have this value, or there are [`VALUES_MAX`] already.
    pub fn add(&mut self, parameter: Parameter, value: &str) -> Result<(), FilterError> {
        let value = parameter.parse(value).map_err(|wanted| {
            let value = secret::excerpt(value);
            FilterError::Value { parameter, value, wanted }
        })?;
        if self.terms.len() == VALUES_MAX {
            return Err(FilterError::TooMany);
        }
        let hash = hash(parameter, &value);
        let place = self.terms.partition_point(|term| term.parameter <= parameter);
        self.terms.insert(place, Term { parameter, value: value.into(), hash });
        Ok(())
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
            let is_wanted = |(parameter, value): (Parameter, &str)| {
                let matches = |term: &Term| term.parameter == parameter && *term.value == *value;
                terms.iter().any(matches)
            };
            found.into_iter().any(is_wanted)
        })
    }

    /// The terms of each parameter that there are any of.
    fn parameters(&self) -> impl Iterator<Item = &[Term]> {
        self.terms.chunk_by(|a, b| a.parameter == b.parameter)
    }
}
