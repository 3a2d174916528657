//! The events of a block: what one message says, as payload text.
//!
//! Byte for byte what BigchainDB 2.2.2 (and Planetmint) sends, which is what Python's `json.dumps`
//! writes: a space after `:` and `,`, keys in this order, everything but printable ASCII escaped.
//! Knows of no WebSocket; frames are [`crate::frame`]'s.

use crate::block::{Block, is_plain};
use crate::config::Dialect;

const HEX: [u8; 16] = *b"0123456789abcdef";

/// Appends the event of the transaction at `index`, [`crate::block::event_len`] bytes.
pub fn write_event(out: &mut Vec<u8>, block: &Block, dialect: Dialect, index: usize) {
    out.extend_from_slice(br#"{"height": "#);
    write_integer(out, block.height);
    let assets = block.fields.asset_ids(index);
    match dialect {
        Dialect::Bigchaindb => {
            out.extend_from_slice(br#", "asset_id": "#);
            assets.for_each(|id| write_string(out, id));
        }
        Dialect::Planetmint => {
            out.extend_from_slice(br#", "asset_ids": "#);
            write_list(out, assets);
        }
    }
    out.extend_from_slice(br#", "transaction_id": "#);
    write_string(out, block.fields.transaction_id(index));
    out.push(b'}');
}

/// Appends what `valid_blocks` says of a block.
pub fn write_summary(out: &mut Vec<u8>, block: &Block) {
    out.extend_from_slice(br#"{"height": "#);
    write_integer(out, block.height);
    out.extend_from_slice(br#", "hash": "#);
    write_hash(out, block.hash.as_deref());
    out.extend_from_slice(br#", "transaction_ids": "#);
    write_list(out, (0..block.fields.len()).map(|index| block.fields.transaction_id(index)));
    out.push(b'}');
}

/// Appends a block's hash, or null without one.
pub fn write_hash(out: &mut Vec<u8>, hash: Option<&str>) {
    match hash {
        Some(hash) => write_string(out, hash),
        None => out.extend_from_slice(b"null"),
    }
}

fn write_list<'a>(out: &mut Vec<u8>, texts: impl Iterator<Item = &'a str>) {
    out.push(b'[');
    for (index, text) in texts.enumerate() {
        if index > 0 {
            out.extend_from_slice(b", ");
        }
        write_string(out, text);
    }
    out.push(b']');
}

fn write_integer(out: &mut Vec<u8>, integer: u64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    let mut rest = integer;
    loop {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    if text.bytes().fold(true, |plain, byte| plain & is_plain(byte)) {
        out.extend_from_slice(text.as_bytes());
    } else {
        text.chars().for_each(|c| write_escaped(out, c));
    }
    out.push(b'"');
}

fn write_escaped(out: &mut Vec<u8>, c: char) {
    let short = match c {
        '"' => b'"',
        '\\' => b'\\',
        '\n' => b'n',
        '\r' => b'r',
        '\t' => b't',
        '\x08' => b'b',
        '\x0c' => b'f',
        ' '..'\x7f' => return out.push(c as u8),
        _ => {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let digit = |shift: u32| HEX[usize::from(*unit >> shift & 0xf)];
                out.extend_from_slice(&[b'\\', b'u', digit(12), digit(8), digit(4), digit(0)]);
            }
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}
