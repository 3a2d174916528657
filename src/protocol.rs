#![doc = include_str!("protocol/README.md")]

pub mod control;

mod close;
mod filter;
mod number;
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
pub use path::{ROOT_PATH, STATUS_PATH, plain};
pub use position::{Position, PositionError, Within};
pub use query::{
    ACCESS_TOKEN, AFTER, BATCH, BATCH_BLOCK, CONTROL, FROM_HEIGHT, LIMIT, Query, QueryError,
    QueryPair, UNTIL_HEIGHT, YES, messages, unknown_parameter,
};
pub use refusal::RefusalBody;
pub use root::ApiRoot;
pub use start::{Start, StartError};
pub use stream::Stream;
