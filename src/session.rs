//! What one client is sent, over any transport: a cursor on the history, a socket, and a clock.
//!
//! Nothing here knows of HTTP, nor who may come in, nor where blocks come from.

mod close;
mod cursor;
mod fills;
mod form_requests;
#[cfg(fuzzing)]
pub mod fuzzed;
mod inbound;
mod liveness;
mod pass;
mod sessions;
mod source;
mod start;
mod subscription;
mod transport;
mod turn;
mod view;
mod writer;

pub use pass::{Over, Pass};
pub use sessions::{PAGE_SESSIONS, SessionListing, SessionStatus, Sessions};
pub use subscription::Subscription;
pub use transport::Transport;
pub use turn::{CLOSE_TIMEOUT, Head, Session, SessionContext, SessionRequest, StreamHead};
