//! What `tests/fuzz` throws bytes at: the reader of the broker's frames, which is nobody else's.

pub use super::mend::Mender;
