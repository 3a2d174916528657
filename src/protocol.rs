#![doc = include_str!("protocol/README.md")]
#![deny(missing_docs, reason = "the client hands these words on to programs of others")]

pub mod control;

mod close;
mod filter;
mod number;
mod parameter;
mod path;
mod position;
mod query;
mod refusal;
mod root;
mod start;
mod stream;

pub use close::{Cause, CloseReason, TOO_BIG};
pub use control::ControlMessage;
pub use filter::{FilterError, FilterName, FilterParameter};
pub use number::{HEIGHT_MAX, height};
pub use parameter::{
    ACCESS_TOKEN, AFTER, BATCH, BATCH_BLOCK, CONTROL, FROM_HEIGHT, LIMIT, QueryError, UNTIL_HEIGHT,
    YES, unknown_parameter,
};
pub use path::{ROOT_PATH, STATUS_PATH, plain};
pub use position::{Position, PositionError, Within};
pub use query::{Query, QueryPair, messages};
pub use refusal::RefusalBody;
pub use root::ApiRoot;
pub use start::{Start, StartError};
pub use stream::Stream;
