#![doc = include_str!("protocol/README.md")]

pub mod control;
mod query;
mod stream;

pub use query::{ACCESS_TOKEN, Query, QueryError, Start, filter_text};
pub use stream::Stream;
