//! Everything that can be made of a block beside its plain frames: batches, the marks of a block's
//! end, Server-Sent Events, and all of these compressed. Each is made once per block and shared.
//!
//! What is compressed is made of pieces: each is DEFLATE (RFC 1951) that refers to nothing before its
//! own start and ends at a byte (a sync flush), so that no piece depends on what its client had before.
//! A gzip stream is a header and any sequence of them. A compressed WebSocket message (RFC 7692,
//! `server_no_context_takeover`) is one of them, without the four bytes that end every piece; the next
//! to it may be a plain one, so what would not get shorter stays as it is.

use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress, Status};

use super::encoded::EncodedBlock;
use super::header::{FIN_TEXT, FIN_TEXT_DEFLATED, header_len, write_header};
use crate::event::write_hash;
use crate::protocol::{ControlMessage, Position};

/// Between the payloads of a batch.
pub const SEPARATOR: &[u8] = b", ";
/// RFC 1952 section 2.3: DEFLATE, no name, no time, an unknown system.
pub const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
/// RFC 1951 section 3.2.4: the length of a stored block has 16 bits.
const STORED_BYTES_MAX: usize = 0xffff;
/// RFC 7692 section 7.2.1: what a sync flush ends with, and a message leaves out.
const FLUSH_END: [u8; 4] = [0, 0, 0xff, 0xff];
/// A shorter text stays plain: of an empty block's 40 to 55 bytes, DEFLATE takes off 2.
const DEFLATED_BYTES_MIN: usize = 64;
/// Above the names of an event's lines and an id of two numbers, or a block's end.
const SSE_BYTES_MAX: usize = 96;
/// Above what a piece adds to a short text that does not get shorter: two blocks' heads, and its end.
const PIECE_BYTES_MAX: usize = 32;
/// Of a long text, above a stored block's head for each of the compressor's buffers.
const PIECE_GROWTH: usize = 512;
/// How much longer than copying compressing takes, about; twice that in single events.
const COMPRESSION_WORK: u64 = 20;

/// A run of whole messages back to back, and where each ends.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MessageRun {
    pub bytes: Bytes,
    pub ends: Box<[u32]>,
}

/// What a block can be made into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// A WebSocket text frame of all events.
    Batch,
    /// A WebSocket text frame that says that the block has ended, with its number of events.
    BlockEnd,
    SseEvents,
    SseSummary,
    SseBatch,
    SseBlockEnd,
    /// One piece per event.
    GzipEvents,
    /// One piece for all events: much smaller, but not to be taken apart.
    GzipBlock,
    GzipSummary,
    GzipBatch,
    GzipBlockEnd,
    /// One WebSocket text frame per event, each compressed by itself or plain.
    DeflateEvents,
    DeflateSummary,
    DeflateBatch,
}

/// What messages are put into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    WebSocket,
    EventStream,
}

impl Encoding {
    pub const ALL: [Self; 14] = [
        Self::Batch,
        Self::BlockEnd,
        Self::SseEvents,
        Self::SseSummary,
        Self::SseBatch,
        Self::SseBlockEnd,
        Self::GzipEvents,
        Self::GzipBlock,
        Self::GzipSummary,
        Self::GzipBatch,
        Self::GzipBlockEnd,
        Self::DeflateEvents,
        Self::DeflateSummary,
        Self::DeflateBatch,
    ];

    pub fn index(self) -> usize {
        self as usize
    }

    /// Whether a block has nothing of it: there is nothing to make then, and nothing to keep.
    pub fn is_nothing_of(self, block: &EncodedBlock) -> bool {
        let is_of_events = matches!(
            self,
            Self::SseEvents | Self::GzipEvents | Self::GzipBlock | Self::DeflateEvents
        );
        is_of_events && block.events_len() == 0
    }

    /// At least the heap bytes of what is made of a block, as [`MessageRun::bytes_kept`] counts them.
    pub fn bytes_max(self, block: &EncodedBlock) -> usize {
        let (count, events, summary) =
            (block.events_len(), block.events.len(), block.summary.len());
        // The hash is in the summary too.
        let batch = events + SEPARATOR.len() * count + summary;
        let text = match self {
            Self::BlockEnd | Self::SseBlockEnd | Self::GzipBlockEnd => 0,
            Self::SseSummary | Self::GzipSummary | Self::DeflateSummary => summary,
            Self::Batch | Self::SseBatch | Self::GzipBatch | Self::DeflateBatch => batch,
            Self::SseEvents | Self::GzipBlock => events + SSE_BYTES_MAX * count,
            Self::GzipEvents => events + (SSE_BYTES_MAX + PIECE_BYTES_MAX) * count,
            Self::DeflateEvents => events,
        };
        // What does not get shorter gets a little longer.
        let text = text + text / PIECE_GROWTH + 2 * SSE_BYTES_MAX + PIECE_BYTES_MAX;
        text + size_of::<u32>() * count.max(1)
    }

    /// About what making it of a block takes: the work of copying so many bytes.
    pub fn work(self, block: &EncodedBlock) -> u64 {
        let (events, summary) = (block.events.len() as u64, block.summary.len() as u64);
        match self {
            Self::BlockEnd | Self::SseBlockEnd | Self::GzipBlockEnd => 0,
            Self::SseSummary => summary,
            Self::GzipSummary | Self::DeflateSummary => COMPRESSION_WORK * summary,
            Self::Batch | Self::SseEvents | Self::SseBatch => events,
            Self::GzipBlock | Self::GzipBatch | Self::DeflateBatch => COMPRESSION_WORK * events,
            Self::GzipEvents | Self::DeflateEvents => 2 * COMPRESSION_WORK * events,
        }
    }
}

impl MessageRun {
    /// Heap bytes.
    pub fn bytes_kept(&self) -> usize {
        self.bytes.len() + size_of_val(&*self.ends)
    }
}

/// Makes one encoding of a block. Takes as long as copying it does, or compressing it.
pub fn encode_as(block: &EncodedBlock, encoding: Encoding) -> MessageRun {
    match encoding {
        Encoding::Batch => whole(|out| write_batch(out, block, Framing::WebSocket)),
        Encoding::BlockEnd => whole(|out| {
            out.extend(text_frame(&block_end(block).to_json()));
        }),
        Encoding::SseEvents => each_event(block, write_sse_event),
        Encoding::SseSummary => whole(|out| {
            let id = after(block).to_string();
            let json = payload(&block.summary);
            write_sse(out, Some(&id), None, Some(json));
        }),
        Encoding::SseBatch => whole(|out| write_batch(out, block, Framing::EventStream)),
        Encoding::SseBlockEnd => whole(|out| {
            let (id, mark) = (after(block).to_string(), block_end(block));
            write_sse(out, Some(&id), Some(mark.kind()), Some(mark.to_json().as_bytes()));
        }),
        Encoding::GzipEvents => {
            let mut compress = Compress::new(Compression::new(LEVEL), false);
            let mut text = Vec::new();
            each_event(block, |out, block, index| {
                text.clear();
                write_sse_event(&mut text, block, index);
                write_piece(out, &mut compress, &text);
            })
        }
        Encoding::GzipBlock => compressed(&encode_as(block, Encoding::SseEvents)),
        Encoding::GzipSummary => compressed(&encode_as(block, Encoding::SseSummary)),
        Encoding::GzipBatch => compressed(&encode_as(block, Encoding::SseBatch)),
        Encoding::GzipBlockEnd => compressed(&encode_as(block, Encoding::SseBlockEnd)),
        Encoding::DeflateEvents => {
            let mut deflate = Deflate::new();
            each_event(block, |out, block, index| deflate.write(out, block.payload(index)))
        }
        Encoding::DeflateSummary => whole(|out| Deflate::new().write(out, payload(&block.summary))),
        Encoding::DeflateBatch => {
            let plain = encode_as(block, Encoding::Batch);
            whole(|out| Deflate::new().write(out, payload(&plain.bytes)))
        }
    }
}

/// A WebSocket text frame of one client's own.
pub fn text_frame(payload: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 10);
    write_header(&mut out, FIN_TEXT, payload.len() as u64);
    out.extend_from_slice(payload.as_bytes());
    out
}

/// A Server-Sent Event; without `data` it only moves the client's cursor. No part has a line's end.
pub fn sse_message(id: Option<&str>, event: Option<&str>, data: Option<&str>) -> Vec<u8> {
    let mut out = Vec::new();
    write_sse(&mut out, id, event, data.map(str::as_bytes));
    out
}

/// A piece of a compressed stream that costs no compression: stored blocks (RFC 1951 section 3.2.4).
pub fn gzip_stored(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 5);
    for part in text.chunks(STORED_BYTES_MAX) {
        let len = part.len() as u16;
        out.push(0);
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&(!len).to_le_bytes());
        out.extend_from_slice(part);
    }
    out
}

/// What stands before the payloads of a batch, which [`SEPARATOR`]s part and [`batch_tail`] ends; these and
/// the separators have `events_bytes`.
pub fn batch_head(block: &EncodedBlock, events_bytes: usize, wire: Framing) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    write_batch_head(&mut out, block, wire, events_bytes);
    out
}

pub fn batch_tail(wire: Framing) -> &'static [u8] {
    match wire {
        Framing::WebSocket => b"]}",
        Framing::EventStream => b"]}\n\n",
    }
}

/// The usual one: of the real chain it leaves 0.32 in whole blocks and 0.70 in single events.
const LEVEL: u32 = 6;

fn write_batch_head(out: &mut Vec<u8>, block: &EncodedBlock, wire: Framing, events_bytes: usize) {
    let mut json = Vec::with_capacity(64);
    json.extend_from_slice(format!("{{\"height\": {}, \"hash\": ", block.height).as_bytes());
    write_hash(&mut json, block.hash.as_deref());
    json.extend_from_slice(b", \"events\": [");
    match wire {
        Framing::WebSocket => {
            let tail = batch_tail(wire).len();
            write_header(out, FIN_TEXT, (json.len() + events_bytes + tail) as u64);
        }
        Framing::EventStream => {
            out.extend_from_slice(format!("id: {}\ndata: ", after(block)).as_bytes());
        }
    }
    out.append(&mut json);
}

fn write_batch(out: &mut Vec<u8>, block: &EncodedBlock, wire: Framing) {
    let events = block.events_len();
    let payloads: usize = (0..events).map(|event| block.payload(event).len()).sum();
    let separators = SEPARATOR.len() * events.saturating_sub(1);
    write_batch_head(out, block, wire, payloads + separators);
    for event in 0..events {
        if event > 0 {
            out.extend_from_slice(SEPARATOR);
        }
        out.extend_from_slice(block.payload(event));
    }
    out.extend_from_slice(batch_tail(wire));
}

fn block_end(block: &EncodedBlock) -> ControlMessage {
    ControlMessage::Block { height: block.height, events: block.events_len() as u64 }
}

/// What the whole block's messages are named by in an event stream.
fn after(block: &EncodedBlock) -> Position {
    Position::after_block(block.height)
}

fn write_sse_event(out: &mut Vec<u8>, block: &EncodedBlock, index: usize) {
    let id = Position::after_event(block.height, index as u64).to_string();
    write_sse(out, Some(&id), None, Some(block.payload(index)));
}

fn write_sse(out: &mut Vec<u8>, id: Option<&str>, event: Option<&str>, data: Option<&[u8]>) {
    let fields = [("id: ", id.map(str::as_bytes)), ("event: ", event.map(str::as_bytes))];
    for (name, value) in fields.into_iter().chain([("data: ", data)]) {
        if let Some(value) = value {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(value);
            out.push(b'\n');
        }
    }
    out.push(b'\n');
}

/// The one message that `write` writes.
fn whole(write: impl FnOnce(&mut Vec<u8>)) -> MessageRun {
    let mut out = Vec::new();
    write(&mut out);
    let ends = [place(out.len())].into();
    run(out, ends)
}

fn each_event(
    block: &EncodedBlock,
    mut write: impl FnMut(&mut Vec<u8>, &EncodedBlock, usize),
) -> MessageRun {
    let mut out = Vec::with_capacity(block.events.len());
    let ends = (0..block.events_len()).map(|index| {
        write(&mut out, block, index);
        place(out.len())
    });
    let ends = ends.collect();
    run(out, ends)
}

/// What is kept is what is counted: room that was not used goes.
fn run(bytes: Vec<u8>, ends: Box<[u32]>) -> MessageRun {
    MessageRun { bytes: bytes.into_boxed_slice().into(), ends }
}

/// All of a run as one piece; nothing of nothing.
fn compressed(messages: &MessageRun) -> MessageRun {
    if messages.bytes.is_empty() {
        return MessageRun::default();
    }
    let mut compress = Compress::new(Compression::new(LEVEL), false);
    whole(|out| write_piece(out, &mut compress, &messages.bytes))
}

fn write_piece(out: &mut Vec<u8>, compress: &mut Compress, text: &[u8]) {
    compress.reset();
    let mut rest = text;
    loop {
        out.reserve(rest.len() / 2 + 64);
        let before = compress.total_in();
        let status = compress.compress_vec(rest, out, FlushCompress::Sync);
        let status = status.expect("bug: the compressor was not reset");
        rest = &rest[(compress.total_in() - before) as usize..];
        // Room left over means that the flush is complete.
        if rest.is_empty() && out.len() < out.capacity() {
            break;
        }
        debug_assert_ne!(status, Status::StreamEnd, "bug: a sync flush ends no stream");
    }
}

/// Writes WebSocket text frames, compressed where that makes them shorter.
struct Deflate {
    compress: Compress,
    piece: Vec<u8>,
}

impl Deflate {
    fn new() -> Self {
        Self { compress: Compress::new(Compression::new(LEVEL), false), piece: Vec::new() }
    }

    fn write(&mut self, out: &mut Vec<u8>, text: &[u8]) {
        let (first, payload) = match self.shorter(text) {
            Some(piece) => (FIN_TEXT_DEFLATED, piece),
            None => (FIN_TEXT, text),
        };
        write_header(out, first, payload.len() as u64);
        out.extend_from_slice(payload);
    }

    fn shorter(&mut self, text: &[u8]) -> Option<&[u8]> {
        if text.len() < DEFLATED_BYTES_MIN {
            return None;
        }
        self.piece.clear();
        write_piece(&mut self.piece, &mut self.compress, text);
        let piece = self.piece.strip_suffix(&FLUSH_END).expect("bug: a piece ends with a flush");
        Some(piece).filter(|piece| piece.len() < text.len())
    }
}

/// The payload of a frame.
fn payload(frame: &[u8]) -> &[u8] {
    &frame[header_len(frame)..]
}

fn place(at: usize) -> u32 {
    u32::try_from(at).expect("bug: a block's encoding above 4 GiB")
}

#[cfg(test)]
mod tests;
