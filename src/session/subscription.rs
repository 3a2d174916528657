//! A client's subscription: what it wants to be sent, and in what shape. It is decided at the handshake and
//! never changes. Nothing here knows where the client is in the history.

use crate::filter::Filter;
use crate::frame::{self, Encoding, Framing};
use crate::history::RequiredEncodings;
use crate::protocol::control::{ControlMessage, Notice};
use crate::protocol::{Cause, Start, Stream};

const EVENTS: Made = Made {
    websocket: None,
    deflate: Some(Encoding::DeflateEvents),
    sse: Encoding::SseEvents,
    gzip: Encoding::GzipEvents,
};
/// Events that are never taken apart.
const WHOLE_EVENTS: Made = Made { gzip: Encoding::GzipBlock, ..EVENTS };
const SUMMARY: Made = Made {
    websocket: None,
    deflate: Some(Encoding::DeflateSummary),
    sse: Encoding::SseSummary,
    gzip: Encoding::GzipSummary,
};
const BATCH: Made = Made {
    websocket: Some(Encoding::Batch),
    deflate: Some(Encoding::DeflateBatch),
    sse: Encoding::SseBatch,
    gzip: Encoding::GzipBatch,
};
const BLOCK_END: Made = Made {
    websocket: Some(Encoding::BlockEnd),
    // So short a text does not get shorter.
    deflate: Some(Encoding::BlockEnd),
    sse: Encoding::SseBlockEnd,
    gzip: Encoding::GzipBlockEnd,
};

/// What a client is sent, and in what shape.
#[derive(Debug, Clone)]
pub struct Subscription {
    pub stream: Stream,
    pub wire: Framing,
    /// What is compressed is shared, so messages that are put together for one client go out plain:
    /// a WebSocket may mix them (permessage-deflate), an event stream (gzip) has none.
    pub is_compressed: bool,
    /// One message per block instead of one per event.
    pub is_batch: bool,
    /// Whether control messages go between the others.
    pub has_control: bool,
    /// None: everything.
    pub filter: Option<Box<Filter>>,
}

/// How much of a block is wanted, beside what the subscription says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Part {
    /// Events before this one are not.
    pub first_event: u32,
    /// It may be cut behind any message.
    pub is_limited: bool,
}

/// What a block's data is taken from; an encoding of none is the plain frames, which are always there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// All messages of a run.
    Whole(Option<Encoding>),
    /// Some messages of a run of single events.
    Single(Option<Encoding>),
    /// A batch put together for this client from the payloads of the plain frames.
    Own,
}

/// What one thing is made into for each wire; none: it is the plain frames' own.
struct Made {
    websocket: Option<Encoding>,
    deflate: Option<Encoding>,
    sse: Encoding,
    gzip: Encoding,
}

impl Subscription {
    /// The plain stream over a WebSocket, as BigchainDB sends it.
    pub fn plain(stream: Stream) -> Self {
        Self {
            stream,
            wire: Framing::WebSocket,
            is_compressed: false,
            is_batch: false,
            has_control: false,
            filter: None,
        }
    }

    /// Whether something of a block may be picked out, or put together, for this client alone.
    pub fn has_selection(&self) -> bool {
        self.filter.is_some() || self.is_batch
    }

    /// What a part of a block is taken from.
    pub fn shape(&self, part: Part) -> Shape {
        if self.stream == Stream::Blocks {
            return Shape::Whole(self.encoding(&SUMMARY));
        }
        let is_whole = self.filter.is_none() && part.first_event == 0;
        match (is_whole, self.is_batch) {
            (true, true) => Shape::Whole(self.encoding(&BATCH)),
            (true, false) if !part.is_limited => Shape::Whole(self.encoding(&WHOLE_EVENTS)),
            (_, false) => Shape::Single(self.encoding(&EVENTS)),
            (false, true) => Shape::Own,
        }
    }

    /// What stands behind each block when there are control messages.
    pub fn block_end(&self) -> Option<Encoding> {
        self.encoding(&BLOCK_END).filter(|_| self.has_control)
    }

    /// What a block must have been made into before a part of it can be sent.
    pub fn required_encodings(&self, part: Part) -> RequiredEncodings {
        let data = match self.shape(part) {
            Shape::Whole(encoding) | Shape::Single(encoding) => encoding,
            Shape::Own => None,
        };
        let encodings = [data, self.block_end()].into_iter().flatten().map(RequiredEncodings::of);
        let index =
            if self.filter.is_some() { RequiredEncodings::INDEX } else { RequiredEncodings::NONE };
        encodings.fold(index, RequiredEncodings::with)
    }

    fn encoding(&self, made: &Made) -> Option<Encoding> {
        match (self.wire, self.is_compressed) {
            (Framing::WebSocket, false) => made.websocket,
            (Framing::WebSocket, true) => made.deflate,
            (Framing::EventStream, false) => Some(made.sse),
            (Framing::EventStream, true) => Some(made.gzip),
        }
    }

    /// Bytes of a message of this client's own.
    pub fn own_message(&self, notice: &Notice) -> Vec<u8> {
        match self.wire {
            Framing::WebSocket => frame::text_frame(&notice.message.to_json()),
            Framing::EventStream => self.own_text(&frame::sse_message(
                notice.id.as_deref(),
                Some(notice.message.kind()),
                Some(&notice.message.to_json()),
            )),
        }
    }

    /// The last that this client gets: why, and where it goes on.
    pub fn ending(&self, cause: &Cause, position: &Start) -> Vec<u8> {
        match self.wire {
            Framing::WebSocket => cause.frame(position),
            Framing::EventStream => {
                let id = match (cause, position) {
                    // Empty, it makes a browser forget the place, which means nothing on this chain.
                    (Cause::AnotherChain, _) => Some(String::new()),
                    (cause, Start::After(position)) if cause.tells_position() => {
                        Some(position.to_string())
                    }
                    _ => None,
                };
                let (code, reason) = (cause.code(), cause.reason(position));
                self.own_message(&Notice { message: ControlMessage::Close { code, reason }, id })
            }
        }
    }

    /// Server-Sent Events: moves the client's cursor, or without an id only shows life, and fires
    /// no event.
    pub fn silent_heartbeat(&self, id: Option<&str>) -> Vec<u8> {
        match id {
            Some(id) => self.own_text(&frame::sse_message(Some(id), None, None)),
            None => self.own_text(b":\n\n"),
        }
    }

    /// Text of an event stream as it goes out.
    pub fn own_text(&self, text: &[u8]) -> Vec<u8> {
        match self.is_compressed {
            true => frame::gzip_stored(text),
            false => text.to_vec(),
        }
    }
}
