//! What `tests/fuzz` throws bytes at: the server's readers of what clients send, which are nobody
//! else's.

pub use super::inbound::{Fault, Heard, Inbound};
pub use super::proxy::header::{Found, HEADER_BYTES_MAX, find, is_begun};
pub use super::query::{Query, QueryError, Start};
pub use super::stream::Stream;
