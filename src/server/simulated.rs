//! Sessions as a handshake opens them, over any transport: for the simulation, which has no HTTP.

use std::sync::Arc;

use super::form::Form;
pub use super::form::Stream;
use super::outbound::Bounds;
use super::query::Query;
pub use super::session::Surroundings;
use super::session::{Head, Session, Wanted};
pub use super::transport::Transport;
use crate::frame::Wire;
use crate::metrics::Disconnect;

/// What a client's request says.
#[derive(Debug, Clone)]
pub struct Asked<'a> {
    pub stream: Stream,
    pub query: &'a str,
    /// permessage-deflate is agreed on.
    pub is_compressed: bool,
}

/// Opens a WebSocket's session, which is placed in the history now; the future serves it.
pub fn open<T: Transport + 'static>(
    transport: T,
    around: Arc<Surroundings>,
    asked: Asked<'_>,
) -> impl Future<Output = Disconnect> + Send + 'static {
    let query = Query::parse(asked.query, asked.stream, &[]).expect("a query");
    let form = Form {
        stream: asked.stream,
        wire: Wire::WebSocket,
        is_compressed: asked.is_compressed,
        is_batch: query.batch,
        has_control: query.control,
        filter: (!query.filter.is_empty()).then(|| Box::new(query.filter)),
    };
    let bounds = Bounds { until_height: query.until_height, messages_max: query.limit };
    let head = Head::Now(Vec::new());
    let wanted = Wanted { form, bounds, start: query.start, fallback: None, pass: None, head };
    let mut session = Session::new(transport, around, wanted);
    async move { session.run().await }
}
