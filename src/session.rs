//! What one client is sent, over any transport: a cursor on the history, a socket, and a clock.
//!
//! Nothing here knows of HTTP, nor who may come in, nor where blocks come from.

mod close;
#[cfg(fuzzing)]
pub mod fuzzed;
mod inbound;
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
pub use sessions::{Listed, Seen, Sessions};
pub use subscription::Form;
pub use transport::Transport;
pub use turn::{CLOSE_TIMEOUT, Head, Session, StreamHead, Surroundings, Wanted};
pub use writer::Bounds;
