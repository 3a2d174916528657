//! What `tests/fuzz` throws bytes at: the reader of a balancer's header.

pub use super::proxy::header::{HEADER_BYTES_MAX, HeaderFound, find, is_begun};
