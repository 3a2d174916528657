//! Reasons for which an attachment to the queue fails or ends, and those for which consuming ends too.

use std::fmt;

use crate::amqp::connection::ConnectError;
use crate::amqp::consumer::ConsumerEnd;
use crate::amqp::request::BrokerError;
use crate::amqp::topology::{NameError, TopologyError};

/// Why consuming cannot go on. Nothing but the operator heals these.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error(transparent)]
    Configuration(#[from] ConnectError),
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(transparent)]
    QueueType(#[from] TopologyError),
    #[error(
        "amqp.queue.name: {queue:?} is shared by all who consume it (a quorum queue, perhaps), so that each replica would get a part of the blocks; use a classic queue for each replica, or amqp.queue.mode = \"stream\""
    )]
    Shared { queue: String },
}

/// Why an attachment did not come about, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Interruption {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("{0}")]
    Topology(TopologyError),
    #[error("queue {queue:?} does not exist; declare it, or set amqp.declare = true ({reply})")]
    Missing { queue: String, reply: String },
    #[error(
        "queue {queue:?} is in use by another consumer, perhaps by our own lost connection until its heartbeat ends ({reply})"
    )]
    InUse { queue: String, reply: String },
    #[error(transparent)]
    Refused(BrokerError),
    #[error(transparent)]
    ConsumerEnd(#[from] ConsumerEnd),
    #[error(
        "the broker cannot hand over an entry of the stream (541), or says so of one that it can"
    )]
    Contradiction,
    #[error("{0}")]
    Silent(Silence),
    #[error("the pipeline asked for a new start")]
    StartOver,
    #[error("the pipeline has ended")]
    Abandoned,
    #[error(transparent)]
    Fatal(SourceError),
}

/// What shows that a consumer is silent.
#[derive(Debug)]
pub struct Silence {
    pub taken: Option<u64>,
    pub finding: Finding,
}

/// What a look at the queue found.
#[derive(Debug)]
pub enum Finding {
    /// The stream goes on behind what was taken, up to this offset at least.
    GoesOn {
        end: u64,
    },
    /// The broker does not give back the last message that came, or any of the messages that it counts.
    NotGivenBack,
    /// So many messages wait in the queue.
    Waiting {
        messages: u32,
    },
    /// Nobody can read the queue here any more, in the broker's words.
    Refused {
        reply: String,
    },
    NoAnswer,
}

impl Interruption {
    /// Whether the broker said 541.
    pub fn is_unreadable(&self) -> bool {
        match self {
            Self::ConsumerEnd(ended) => ended.is_unreadable(),
            Self::Refused(error) => error.is_unreadable(),
            _ => false,
        }
    }

    /// What shows that the consumer is silent, if that is why.
    pub fn silence(&self) -> Option<&Silence> {
        match self {
            Self::Silent(silence) => Some(silence),
            _ => None,
        }
    }
}

impl Silence {
    /// Offset of the last message that came, if there is one.
    pub fn taken(&self) -> Option<u64> {
        self.taken
    }

    /// Offset that the stream goes on to, if that is known.
    pub fn end(&self) -> Option<u64> {
        match self.finding {
            Finding::GoesOn { end } => Some(end),
            _ => None,
        }
    }
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.taken {
            Some(offset) => write!(f, "nothing comes behind offset {offset}")?,
            None => write!(f, "nothing comes")?,
        }
        match &self.finding {
            Finding::GoesOn { end } => write!(f, ", and the stream goes on to offset {end}"),
            Finding::NotGivenBack => write!(f, ", and what the stream has is not given back"),
            Finding::Waiting { messages } => write!(f, ", and {messages} messages wait"),
            Finding::Refused { reply } => {
                write!(f, ", and nobody can read the queue at this broker: {reply}")
            }
            Finding::NoAnswer => write!(f, ", and the broker does not answer"),
        }
    }
}
