//! What `tests/fuzz` throws bytes at: the reader of a client's frames.

pub use super::inbound::{Fault, Heard, Inbound};
