//! The AMQP 0-9-1 edge: block-commit messages in from RabbitMQ, dead letters out to it.
//!
//! [`Source`] keeps a consumer attached for as long as the program runs, whatever becomes of the
//! broker, and says in order what it took ([`Input`]). [`DeadLetters`] publishes what the pipeline
//! found bad. [`Reader`] reads a RabbitMQ stream at any place, beside the source. [`Publisher`] is the
//! producer's side, for `blockcast publish`.
//!
//! Absent here: blocks and heights (a body is bytes), HTTP, and the decision to settle a delivery,
//! which is the pipeline's. The client library appears in this module only. Its own recovery is not
//! used: it replays or loses what came in between.

mod confirm;
mod connection;
mod consumer;
mod dead_letter;
mod delivery;
#[cfg(fuzzing)]
pub mod fuzzed;
mod keeper;
mod mend;
mod port;
mod precedence;
mod publisher;
mod reader;
mod request;
mod source;
mod tls;
mod topology;
mod unreadable;
mod window;
mod wire;

pub use connection::ConnectError;
pub use dead_letter::{DeadLetter, DeadLetterError, DeadLetters};
pub use delivery::{Delivery, Input};
pub use keeper::{Keeper, KeeperFailure};
pub use publisher::{Confirm, PublishError, Publisher};
pub use reader::{Bounds, Dialer, Message, Messages, ReadError, Reader};
pub use request::BrokerError;
pub use source::{Signs, Source, SourceError, SourceLink};
pub use tls::{BrokerTlsError, check as check_certificates};
