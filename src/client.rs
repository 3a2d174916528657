//! A client of the streams: follows one over cuts and restarts, yields every event once and in
//! order, and always knows the position to go on from.
#![doc = include_str!("client/README.md")]
#![deny(missing_docs, reason = "programs of others are built on this")]

mod address;
mod builder;
mod connection;
mod ending;
mod error;
mod message;
mod request;
mod state;
mod subscriber;
mod tracker;
mod trust;

pub use crate::protocol::{
    FilterError, FilterName, FilterParameter, Position, PositionError, Start,
};
pub use builder::Builder;
pub use error::{BuildError, Error, StateError};
pub use message::{Batch, BlockSummary, Event, StreamMessage};
pub use subscriber::Subscriber;
#[cfg(feature = "server")]
pub(crate) use trust::Trust;
