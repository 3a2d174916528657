//! Sessions as a handshake opens them, over any transport: for the simulation, which has no HTTP.

use std::sync::Arc;

use super::handshake::refuse_start;
use crate::filter::Filter;
use crate::frame::GZIP_HEADER;
pub use crate::frame::Wire;
use crate::metrics::Disconnect;
pub use crate::protocol::Stream;
use crate::protocol::{Query, Start};
use crate::session::{Bounds, Form, Head, Session, StreamHead, Wanted};
pub use crate::session::{Surroundings, Transport};

/// What a client's request says.
#[derive(Debug, Clone)]
pub struct Asked<'a> {
    pub stream: Stream,
    pub query: &'a str,
    pub wire: Wire,
    /// permessage-deflate is agreed on, or gzip accepted.
    pub is_compressed: bool,
    /// Wins over the query's start.
    pub last_event_id: Option<&'a str>,
}

/// Opens a session, which is placed in the history now; the future serves it.
pub fn open<T: Transport + 'static>(
    transport: T,
    around: Arc<Surroundings>,
    asked: Asked<'_>,
) -> impl Future<Output = Disconnect> + Send + 'static {
    let query = Query::parse(asked.query, asked.stream, &[]).expect("a query");
    let last = asked.last_event_id.map(|id| Start::of_last_event_id(id, asked.stream));
    let start = last.map_or(query.start, |last| last.expect("an id of ours"));
    let is_own = query.batch && (!query.filters.is_empty() || start.is_inside_block());
    let form = Form {
        stream: asked.stream,
        wire: asked.wire,
        is_compressed: asked.is_compressed && (asked.wire == Wire::WebSocket || !is_own),
        is_batch: query.batch,
        has_control: query.control,
        filter: Filter::of(query.filters),
    };
    let bounds = Bounds { until_height: query.until_height, messages_max: query.limit };
    let head = match asked.wire {
        Wire::WebSocket => Head::Now(Vec::new()),
        Wire::EventStream => {
            let (bytes, common_lines) = (event_stream_head(&form), Vec::new());
            Head::WhenBegun(Box::new(StreamHead { bytes, common_lines, refuse: refuse_start }))
        }
    };
    let wanted = Wanted { form, bounds, start, fallback: None, pass: None, head };
    Session::new(transport, around, wanted)
}

/// Without what only a browser or a proxy looks at.
fn event_stream_head(form: &Form) -> Vec<u8> {
    let encoding = if form.is_compressed { "Content-Encoding: gzip\r\n" } else { "" };
    let mut head = format!("HTTP/1.1 200 OK\r\n{encoding}\r\n").into_bytes();
    head.extend(form.is_compressed.then_some(GZIP_HEADER).into_iter().flatten());
    head.extend(form.own_text(b"retry: 1000\n\n"));
    head
}
