//! The words of the wire, for whoever speaks them: a stream's parameters and control messages.
//!
//! Nothing here knows of a socket.

pub mod control;
mod query;
mod stream;

pub use query::{ACCESS_TOKEN, Query, QueryError, Start, filter_text};
pub use stream::Stream;
