//! Sessions as a handshake opens them, over any transport: for the simulation, which has no network.

use std::net::Ipv4Addr;
use std::sync::Arc;

use hyper::Request;
use hyper::header;

use super::cors::Readers;
use super::handshake::StreamRequest;
pub use crate::frame::Framing;
use crate::metrics::Disconnect;
pub use crate::protocol::Stream;
use crate::session::Session;
pub use crate::session::{SessionContext, Transport};

/// What a client's request says.
#[derive(Debug, Clone)]
pub struct Asking<'a> {
    pub stream: Stream,
    pub query: &'a str,
    pub wire: Framing,
    /// permessage-deflate is offered, or gzip accepted.
    pub is_compressed: bool,
    pub last_event_id: Option<&'a str>,
}

/// Opens a session, which is placed in the history now; the future serves it.
pub fn open<T: Transport + 'static>(
    transport: T,
    context: Arc<SessionContext>,
    asking: Asking<'_>,
) -> impl Future<Output = Disconnect> + Send + 'static {
    let stream = asking.stream;
    let head = asking.head();
    let request = StreamRequest::of(&head, stream, &[]);
    let accepted = request.transport.accept(Readers::Everyone).ok().expect("a transport");
    let asked = request.asked.expect("a query");
    let network = Ipv4Addr::LOCALHOST.into();
    Session::new(transport, context, asked.session(accepted, None, network))
}

impl Asking<'_> {
    /// As a real client sends it.
    fn head(&self) -> Request<()> {
        let mut head = Request::get(format!("/?{}", self.query));
        head = match self.wire {
            Framing::WebSocket => head
                .header(header::CONNECTION, "Upgrade")
                .header(header::UPGRADE, "websocket")
                .header(header::SEC_WEBSOCKET_VERSION, "13")
                .header(header::SEC_WEBSOCKET_KEY, "AAAAAAAAAAAAAAAAAAAAAA=="),
            Framing::EventStream => head.header(header::ACCEPT, "text/event-stream"),
        };
        if self.is_compressed {
            head = match self.wire {
                Framing::WebSocket => {
                    head.header(header::SEC_WEBSOCKET_EXTENSIONS, "permessage-deflate")
                }
                Framing::EventStream => head.header(header::ACCEPT_ENCODING, "gzip"),
            };
        }
        if let Some(id) = self.last_event_id {
            head = head.header("last-event-id", id);
        }
        head.body(()).expect("a request")
    }
}
