//! Message bodies in, blocks out: the only code that parses untrusted JSON.
//!
//! Pure: no AMQP, no HTTP, no clock. Nothing is verified (the node did that) and no tree of the JSON
//! is built: what a transaction's event and the filters need goes straight into one arena, and the
//! rest is skipped. Skipping is iterative, so no depth of nesting costs stack.
//!
//! Strict where an event is made of it (`height`, `hash`, `transactions`, a transaction's `id`),
//! lenient everywhere else. In a place that is looked at (`operation`, `asset`, `assets`, `inputs`,
//! `outputs` and what of them is read) any shape passes, but strings must be text and numbers must
//! fit a double: a lone surrogate or `1e999` there is [`DecodeErrorKind::NotJson`], as it is for any
//! parser that makes values of what it reads. Under keys that are not looked at even those pass.

mod content;
mod encoded;
mod envelope;
mod error;
mod fields;
mod height;
mod key;
mod lenient;
mod renumber;
mod transaction;

use crate::config::{Blocks, Dialect};
use crate::metrics::DecodeErrorKind;

pub use content::Content;
pub(crate) use encoded::is_plain;
pub use encoded::{EncodedLen, event_len};
pub use error::DecodeError;
pub use fields::{Field, Fields};
pub use height::HEIGHT_MAX;
pub use renumber::{height_of, with_height};

use envelope::{Envelope, Marked};

/// The largest body whatever the rules say: places in it are kept in 29 bits. RabbitMQ takes less.
const BODY_BYTES_MAX: usize = (1 << 29) - 1;
/// The most that a block's frames may take whatever the rules say: offsets have 32 bits, also in what is
/// made of the frames, and an event stream of them can be nearly twice as long.
const ENCODED_BYTES_MAX: u64 = (1 << 31) - 1;

/// What a body must keep to.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    pub dialect: Dialect,
    /// `blocks.max_bytes`; never more than 512 MiB less one byte.
    pub body_bytes_max: usize,
    /// Bound of a block's frames on both streams. A body of this many bytes can make far more of
    /// them: escapes take six bytes for one, and an id is repeated for every asset without one.
    /// Never more than 2 GiB less one byte.
    pub encoded_bytes_max: u64,
}

/// What a body says.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    Block(Block),
    /// BigchainDB's event for a block that did not pass its vote. Its data was not looked at.
    MarkedInvalid,
}

/// A committed block, as far as events and filters need it.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// At most [`HEIGHT_MAX`].
    pub height: u64,
    pub hash: Option<Box<str>>,
    pub fields: Fields,
}

/// Reads one message body.
///
/// Of the two shapes the plain one wins: with `height` or `transactions` at the top, `type` and
/// `data` are keys like any other.
///
/// # Errors
/// The body is bad input whatever comes later: it goes to the dead letters as it is. Never a part of
/// a block.
pub fn decode(body: &[u8], rules: &Rules) -> Result<Message, DecodeError> {
    let body_bytes_max = rules.body_bytes_max.min(BODY_BYTES_MAX);
    if body.len() > body_bytes_max {
        let what = format!("the body has {} bytes, more than {body_bytes_max}", body.len());
        return Err(DecodeError::new(DecodeErrorKind::TooLarge, what));
    }
    let body = text_of(body)?;
    let mut fields = fields::Builder::default();
    let outer = Envelope::read(body, 0, Some((&mut fields, rules.dialect)))?;
    let parts = match outer.marked()? {
        Marked::Plain => outer,
        Marked::Valid { data, at } => Envelope::read(data, at, Some((&mut fields, rules.dialect)))?,
        Marked::Invalid => return Ok(Message::MarkedInvalid),
    };
    parts.require_transactions()?;
    let block = Block { height: parts.height()?, hash: parts.hash()?, fields: fields.build() };
    let encoded_bytes_max = rules.encoded_bytes_max.min(ENCODED_BYTES_MAX);
    let encoded_bytes = EncodedLen::of(&block, rules.dialect).total();
    if encoded_bytes > encoded_bytes_max {
        let what = format!(
            "the block's frames would have {encoded_bytes} bytes, more than {encoded_bytes_max}"
        );
        return Err(DecodeError::new(DecodeErrorKind::TooLarge, what));
    }
    Ok(Message::Block(block))
}

impl Rules {
    /// The configured ones. `encoded_bytes_max`: what a history could hold.
    pub fn of(blocks: &Blocks, encoded_bytes_max: u64) -> Self {
        let body_bytes_max = usize::try_from(blocks.max_bytes.as_u64()).unwrap_or(usize::MAX);
        Self { dialect: blocks.dialect, body_bytes_max, encoded_bytes_max }
    }
}

impl Block {
    /// Enough to tell a duplicate from a conflict.
    pub fn content(&self) -> Content {
        let ids = (0..self.fields.len()).map(|index| self.fields.transaction_id(index));
        Content::from_ids(ids, self.hash.as_deref())
    }

    /// The memory it takes, itself included.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.hash.as_ref().map_or(0, |hash| hash.len()) + self.fields.bytes()
    }
}

fn text_of(body: &[u8]) -> Result<&str, DecodeError> {
    std::str::from_utf8(body).map_err(|error| {
        let what = format!("not UTF-8 at byte {}", error.valid_up_to());
        DecodeError::new(DecodeErrorKind::NotUtf8, what)
    })
}

#[cfg(test)]
mod tests;
