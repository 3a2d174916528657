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
//! parser that makes values of what it reads. Under keys that are not looked at even those pass, and
//! so do Python's `NaN`, `Infinity` and `-Infinity`, which are no JSON at all.

mod bare;
mod committed;
mod content;
mod encoded;
mod envelope;
mod error;
mod fields;
mod height;
mod key;
mod lenient;
mod near;
mod renumber;
mod text;
mod transaction;

use std::borrow::Cow;

use crate::config::{Blocks, Dialect};
use crate::metrics::DecodeErrorKind;
use crate::packing::Packing;

pub use committed::Block;
pub use content::BlockContent;
pub(crate) use encoded::is_plain;
pub use encoded::{EncodedLen, event_len};
pub use error::DecodeError;
pub use fields::{Fields, TransactionField};
pub use near::{Near, SMALLEST};
pub use renumber::{height_of, with_height};

use envelope::{Envelope, Marked};
use text::text_of;

/// The largest body whatever the rules say: places in it are kept in 29 bits. RabbitMQ takes less.
const BODY_BYTES_MAX: usize = (1 << 29) - 1;
/// The most that a block's frames may take whatever the rules say: offsets have 32 bits, also in what is
/// made of the frames, and an event stream of them can be nearly twice as long.
const FRAMES_BYTES_MAX: u64 = (1 << 31) - 1;

/// What a body must keep to.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodeRules {
    pub dialect: Dialect,
    /// `blocks.max_bytes`; never more than 512 MiB less one byte.
    pub body_bytes_max: usize,
    /// Bound of what an encoded block keeps: its frames on both streams, where they end, and what filters
    /// look at. It can be far more than its body: escapes take six bytes for one, an id is repeated for
    /// every asset without one, and short ids have long frames. Of frames alone never more than 2 GiB less
    /// one byte.
    pub encoded_bytes_max: u64,
}

/// What a body says.
#[derive(Debug, Clone, PartialEq)]
pub enum Decoded {
    Block(Block),
    /// BigchainDB's event for a block that did not pass its vote. Its data was not looked at.
    MarkedInvalid,
}

/// A body as [`decode`] and [`height_of`] want it, unpacked as its message's properties say.
///
/// # Errors
/// The body is bad input: it is larger than `body_bytes_max`, packed or unpacked, or cannot be unpacked.
pub fn unpack<'a>(
    body: &'a [u8],
    packing: &Packing,
    body_bytes_max: usize,
) -> Result<Cow<'a, [u8]>, DecodeError> {
    let body_bytes_max = body_bytes_max.min(BODY_BYTES_MAX);
    check_len(body, body_bytes_max)?;
    Ok(packing.unpack(body, body_bytes_max)?)
}

/// [`height_of`] a body that may be packed; none as well when it cannot be unpacked.
pub fn packed_height_of(body: &[u8], packing: &Packing, body_bytes_max: usize) -> Option<u64> {
    height_of(&unpack(body, packing, body_bytes_max).ok()?)
}

/// Reads one message's body, which is not packed. One byte order mark at its beginning is skipped.
///
/// Of the two shapes the plain one wins: with `height` or `transactions` at the top, `type` and
/// `data` are keys like any other.
///
/// # Errors
/// The body is bad input whatever comes later: it goes to the dead letters as it is. Never a part of
/// a block.
pub fn decode(body: &[u8], rules: &DecodeRules) -> Result<Decoded, DecodeError> {
    check_len(body, rules.body_bytes_max.min(BODY_BYTES_MAX))?;
    let (text, at) = text_of(body)?;
    let read = bare::read(text, at, |text, _| read_block(text, rules.dialect))?;
    let Some(block) = read else { return Ok(Decoded::MarkedInvalid) };
    check_encoded_len(&block, rules)?;
    Ok(Decoded::Block(block))
}

impl DecodeRules {
    /// The configured ones. `encoded_bytes_max`: see [`HistoryConfig::block_bytes_max`].
    ///
    /// [`HistoryConfig::block_bytes_max`]: crate::config::HistoryConfig::block_bytes_max
    pub fn of(blocks: &Blocks, encoded_bytes_max: u64) -> Self {
        let body_bytes_max = usize::try_from(blocks.max_bytes.as_u64()).unwrap_or(usize::MAX);
        Self { dialect: blocks.dialect, body_bytes_max, encoded_bytes_max }
    }
}

/// The block in a text; none when it is marked invalid.
fn read_block(text: &str, dialect: Dialect) -> Result<Option<Block>, DecodeError> {
    let mut fields = fields::FieldsBuilder::default();
    let outer = Envelope::read(text, 0, Some((&mut fields, dialect)))?;
    let parts = match outer.marked()? {
        Marked::Plain => outer,
        Marked::Valid { data, at } => Envelope::read(data, at, Some((&mut fields, dialect)))?,
        Marked::Invalid => return Ok(None),
    };
    parts.require_transactions()?;
    Ok(Some(Block { height: parts.height()?, hash: parts.hash()?, fields: fields.build() }))
}

fn check_len(body: &[u8], bytes_max: usize) -> Result<(), DecodeError> {
    if body.len() <= bytes_max {
        return Ok(());
    }
    let what = format!("the body has {} bytes, more than {bytes_max}", body.len());
    Err(DecodeError::new(DecodeErrorKind::TooLarge, what))
}

fn check_encoded_len(block: &Block, rules: &DecodeRules) -> Result<(), DecodeError> {
    let len = EncodedLen::of(block, rules.dialect);
    if len.frames() > FRAMES_BYTES_MAX || len.kept() > rules.encoded_bytes_max {
        let (kept, kept_max) = (len.kept(), rules.encoded_bytes_max);
        let what = format!(
            "the block would keep {kept} bytes in memory, more than {kept_max}, half of history.max_bytes"
        );
        return Err(DecodeError::new(DecodeErrorKind::TooLarge, what));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
