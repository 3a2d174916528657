//! The reasons why reading from one place ends.

use crate::amqp::ReadError;
use crate::tickets::TicketState;

/// Why a passage ended.
pub enum Stop {
    End(TicketState),
    Broken(ReadError),
    /// What is missing here lies elsewhere, at this offset.
    Led {
        offset: u64,
    },
}

impl From<ReadError> for Stop {
    fn from(error: ReadError) -> Self {
        Self::Broken(error)
    }
}
