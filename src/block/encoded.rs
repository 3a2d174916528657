//! How many bytes a block takes when it is encoded, so that a block that would be blown up is refused
//! before anything is written, and the rest is written into exactly as much memory. Writes nothing.

use crate::config::Dialect;

use super::committed::Block;

/// Bytes of the payloads but for heights, ids and hash.
const EVENT: u64 = r#"{"height": , "asset_id": , "transaction_id": }"#.len() as u64;
const EVENT_OF_LIST: u64 = r#"{"height": , "asset_ids": , "transaction_id": }"#.len() as u64;
const SUMMARY: u64 = r#"{"height": , "hash": , "transaction_ids": }"#.len() as u64;
const NULL: u64 = "null".len() as u64;
const SEPARATOR: u64 = ", ".len() as u64;
const BRACKETS: u64 = "[]".len() as u64;
const QUOTES: u64 = "\"\"".len() as u64;

/// Where a frame ends, as an encoded block keeps it.
const END: u64 = size_of::<u32>() as u64;

/// One encoded block, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncodedLen {
    /// All frames of events.
    pub events: u64,
    /// The summary's payload.
    pub summary_payload: u64,
    /// What is kept beside the frames.
    beside: u64,
}

impl EncodedLen {
    pub fn of(block: &Block, dialect: Dialect) -> Self {
        let (mut events, mut ids) = (0, 0);
        for index in 0..block.fields.len() {
            events += frame_len(event_len(block, dialect, index));
            ids += quoted_len(block.fields.transaction_id(index)) + SEPARATOR;
        }
        let list = BRACKETS + ids.saturating_sub(SEPARATOR);
        let hash = block.hash.as_deref().map_or(NULL, quoted_len);
        let summary_payload = SUMMARY + digits(block.height) + hash + list;
        let beside = block.fields.len() as u64 * END + block.fields.bytes() as u64;
        Self { events, summary_payload, beside }
    }

    /// The frames on both streams.
    pub fn frames(self) -> u64 {
        self.events + frame_len(self.summary_payload)
    }

    /// Everything that grows with the block: its frames, where they end, and what filters look at.
    pub fn kept(self) -> u64 {
        self.frames() + self.beside
    }
}

/// The payload of the event of the transaction at `index`.
pub fn event_len(block: &Block, dialect: Dialect, index: usize) -> u64 {
    let id = block.fields.transaction_id(index);
    let id_len = quoted_len(id);
    // An asset without an id goes by the transaction's, of which there may be a great many.
    let asset_len = |asset: &str| match std::ptr::eq(asset, id) {
        true => id_len,
        false => quoted_len(asset),
    };
    let assets = block.fields.asset_ids(index).map(asset_len);
    let ends = digits(block.height) + id_len;
    match dialect {
        Dialect::Bigchaindb => EVENT + ends + assets.sum::<u64>(),
        Dialect::Planetmint => {
            let ids: u64 = assets.map(|len| len + SEPARATOR).sum();
            EVENT_OF_LIST + ends + BRACKETS + ids.saturating_sub(SEPARATOR)
        }
    }
}

/// The length of an unmasked WebSocket frame of this payload (RFC 6455 section 5.2).
fn frame_len(payload_len: u64) -> u64 {
    let header_len = match payload_len {
        0..=125 => 2,
        126..=0xffff => 4,
        _ => 10,
    };
    header_len + payload_len
}

/// The length of a text between the quotes of a JSON string, as Python's `json.dumps` writes it.
fn escaped_len(text: &str) -> u64 {
    if text.bytes().fold(true, |plain, byte| plain & is_plain(byte)) {
        return text.len() as u64;
    }
    text.chars().map(escaped_char_len).sum()
}

/// Whether a byte stands for itself in a JSON string.
pub(crate) fn is_plain(byte: u8) -> bool {
    (b' '..0x7f).contains(&byte) & (byte != b'"') & (byte != b'\\')
}

fn escaped_char_len(c: char) -> u64 {
    match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\x08' | '\x0c' => 2,
        ' '..'\x7f' => 1,
        _ => 6 * c.len_utf16() as u64,
    }
}

fn quoted_len(text: &str) -> u64 {
    QUOTES + escaped_len(text)
}

fn digits(height: u64) -> u64 {
    u64::from(height.checked_ilog10().unwrap_or(0)) + 1
}
