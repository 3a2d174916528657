//! Sessions as a handshake opens them, over any transport: for the simulation, which has no HTTP.

use std::sync::Arc;

use super::form::Form;
pub use super::form::Stream;
use super::outbound::Bounds;
use super::query::{Query, Start};
pub use super::session::Surroundings;
use super::session::{Head, Session, StreamHead, Wanted};
pub use super::transport::Transport;
pub use crate::frame::Framing;
use crate::frame::GZIP_HEADER;
use crate::metrics::Disconnect;

/// What a client's request says.
#[derive(Debug, Clone)]
pub struct Asked<'a> {
    pub stream: Stream,
    pub query: &'a str,
    pub wire: Framing,
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
    let begins_inside = matches!(start, Start::AfterEvent { .. } | Start::AfterTransaction { .. });
    let is_own = query.batch && (!query.filter.is_empty() || begins_inside);
    let form = Form {
        stream: asked.stream,
        wire: asked.wire,
        is_compressed: asked.is_compressed && (asked.wire == Framing::WebSocket || !is_own),
        is_batch: query.batch,
        has_control: query.control,
        filter: (!query.filter.is_empty()).then(|| Box::new(query.filter)),
    };
    let bounds = Bounds { until_height: query.until_height, messages_max: query.limit };
    let head = match asked.wire {
        Framing::WebSocket => Head::Now(Vec::new()),
        Framing::EventStream => {
            let (bytes, readers) = (event_stream_head(&form), Vec::new());
            Head::WhenBegun(Box::new(StreamHead { bytes, readers }))
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
