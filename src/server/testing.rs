//! Sessions as a handshake opens them, over any transport: for the simulation, which has no HTTP.

use std::sync::Arc;

use super::handshake::refuse_start;
use crate::frame::GZIP_HEADER;
pub use crate::frame::Wire;
use crate::metrics::Disconnect;
pub use crate::protocol::Stream;
use crate::protocol::{Query, Start};
use crate::session::{Head, Session, StreamHead, Subscription, Wanted};
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
    let begins_inside = matches!(start, Start::AfterEvent { .. } | Start::AfterTransaction { .. });
    let is_own = query.batch && (!query.filter.is_empty() || begins_inside);
    let subscription = Subscription {
        stream: asked.stream,
        wire: asked.wire,
        is_compressed: asked.is_compressed && (asked.wire == Wire::WebSocket || !is_own),
        is_batch: query.batch,
        has_control: query.control,
        filter: (!query.filter.is_empty()).then(|| Box::new(query.filter)),
    };
    let (until_height, messages_max) = (query.until_height, query.limit);
    let head = match asked.wire {
        Wire::WebSocket => Head::Now(Vec::new()),
        Wire::EventStream => {
            let (bytes, common_lines) = (event_stream_head(&subscription), Vec::new());
            Head::WhenBegun(Box::new(StreamHead { bytes, common_lines, refuse: refuse_start }))
        }
    };
    let wanted = Wanted {
        subscription,
        until_height,
        messages_max,
        start,
        fallback: None,
        pass: None,
        head,
    };
    Session::new(transport, around, wanted)
}

/// Without what only a browser or a proxy looks at.
fn event_stream_head(subscription: &Subscription) -> Vec<u8> {
    let encoding = if subscription.is_compressed { "Content-Encoding: gzip\r\n" } else { "" };
    let mut head = format!("HTTP/1.1 200 OK\r\n{encoding}\r\n").into_bytes();
    head.extend(subscription.is_compressed.then_some(GZIP_HEADER).into_iter().flatten());
    head.extend(subscription.own_text(b"retry: 1000\n\n"));
    head
}
