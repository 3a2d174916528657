//! What `tests/fuzz` throws bytes at: the reader of a balancer's header.

pub use super::proxy::header::{Found, HEADER_BYTES_MAX, find, is_begun};
