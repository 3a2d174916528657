//! Refusals of a declaration, told apart by what an operator does about each.

use crate::amqp::request::BrokerError;

/// Reason for which something that is needed is not there.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// Nothing but the operator can heal it.
    #[error(
        "amqp.queue.name: {queue:?} is a queue of another type than amqp.queue.mode needs; delete it, or configure another name or mode ({reply})"
    )]
    QueueType { queue: String, reply: String },
    /// A broker before 3.9, one that is not RabbitMQ, or one whose feature flag is off.
    #[error(
        "the broker has no streams; set amqp.queue.mode = \"queue\", which needs none, or let the broker have them: `rabbitmqctl enable_feature_flag stream_queue` ({reply})"
    )]
    NoStreams { reply: String },
    #[error("{0}; or set amqp.declare = false, which uses what is there and declares nothing")]
    Forbidden(BrokerError),
    #[error("{0}; the node that holds the queue is down; it is tried again until that is back")]
    NodeDown(BrokerError),
    /// It exists with other arguments, and serves as it is.
    #[error("{0}")]
    Differs(BrokerError),
    #[error("{0}")]
    Refused(BrokerError),
}

impl TopologyError {
    /// Reads the broker's reply to a declaration or a binding.
    pub fn of(error: BrokerError, queue: &str) -> Self {
        let reply = error.reply();
        match Refusal::of(error.code(), &reply) {
            Refusal::QueueType => Self::QueueType { queue: queue.into(), reply },
            Refusal::NoStreams => Self::NoStreams { reply },
            Refusal::Forbidden => Self::Forbidden(error),
            Refusal::NodeDown => Self::NodeDown(error),
            Refusal::Differs => Self::Differs(error),
            Refusal::Other => Self::Refused(error),
        }
    }
}

/// Whether the broker cannot reach the node on which a queue lives. It says 404, as for a queue that
/// is not there.
pub fn is_node_down(error: &BrokerError) -> bool {
    Refusal::of(error.code(), &error.reply()) == Refusal::NodeDown
}

#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    QueueType,
    NoStreams,
    Forbidden,
    NodeDown,
    Differs,
    Other,
}

impl Refusal {
    fn of(code: Option<u16>, reply: &str) -> Self {
        let says = |words: &str| reply.contains(words);
        match code {
            Some(406) if says("inequivalent") && says("'x-queue-type'") => Self::QueueType,
            Some(406) if says("inequivalent") => Self::Differs,
            Some(406) if says("invalid arg 'x-queue-type'") => Self::NoStreams,
            Some(541) if says("feature flag is disabled") => Self::NoStreams,
            Some(403) => Self::Forbidden,
            Some(404) if says("is down") || says("inaccessible") => Self::NodeDown,
            // A 4.x broker never answers for a classic queue whose node is down.
            None if says("timed out") => Self::NodeDown,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use lapin::protocol::{AMQPError, AMQPSoftError};

    use super::*;

    fn error(source: impl Into<lapin::Error>) -> BrokerError {
        BrokerError { doing: "declaring".into(), needs: "any", source: Box::new(source.into()) }
    }

    /// It does not help there: nothing can be consumed from a queue whose node is down.
    #[test]
    fn a_node_that_is_down_brings_no_advice_to_declare_nothing() {
        let reply = "NOT_FOUND - home node 'n@localhost' of durable queue 'q' in vhost '/' is down or inaccessible";
        let not_found = AMQPError::new(AMQPSoftError::NOTFOUND.into(), reply.into());
        let says_so = error(lapin::ErrorKind::ProtocolError(not_found));
        let never_answers = error(std::io::Error::from(std::io::ErrorKind::TimedOut));
        for error in [says_so, never_answers] {
            let refused = TopologyError::of(error, "q");
            assert!(matches!(refused, TopologyError::NodeDown(_)), "{refused:?}");
            let told = refused.to_string();
            assert!(told.contains("node that holds the queue is down"), "{told}");
            assert!(!told.contains("amqp.declare"), "{told}");
        }
        let reply = "ACCESS_REFUSED - access to queue 'q' in vhost '/' refused for user 'u'";
        let refused = AMQPError::new(AMQPSoftError::ACCESSREFUSED.into(), reply.into());
        let refused = TopologyError::of(error(lapin::ErrorKind::ProtocolError(refused)), "q");
        assert!(refused.to_string().contains("amqp.declare = false"), "there it does: {refused}");
    }

    #[test]
    fn replies_of_real_brokers_are_told_apart() {
        let check = |code: u16, reply: &str, refusal: Refusal| {
            assert_eq!(Refusal::of(Some(code), reply), refusal, "{reply}");
        };
        // RabbitMQ 3.10.8 and 4.3.6 say the same, but for the permission, which only 4.x names.
        check(
            406,
            "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'q' in vhost '/': received 'stream' but current is 'classic'",
            Refusal::QueueType,
        );
        check(
            406,
            "PRECONDITION_FAILED - inequivalent arg 'x-max-age' for queue 'q' in vhost '/': received the value '7D' of type 'longstr' but current is none",
            Refusal::Differs,
        );
        check(
            406,
            "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'e' in vhost '/': received 'fanout' but current is 'topic'",
            Refusal::Differs,
        );
        check(
            406,
            "PRECONDITION_FAILED - invalid arg 'x-max-age' for queue 'q' in vhost '/': invalid_max_age",
            Refusal::Other,
        );
        check(
            406,
            "PRECONDITION_FAILED - invalid arg 'x-queue-type' for queue 'q' in vhost '/': \"unsupported queue type 'stream'\"",
            Refusal::NoStreams,
        );
        check(
            541,
            "INTERNAL_ERROR - Cannot declare a queue 'queue 'q' in vhost '/'' of type 'rabbit_stream_queue' on node 'n@localhost': the corresponding feature flag is disabled",
            Refusal::NoStreams,
        );
        check(541, "INTERNAL_ERROR", Refusal::Other);
        check(
            403,
            "ACCESS_REFUSED - configure access to queue 'q' in vhost '/' refused for user 'u'",
            Refusal::Forbidden,
        );
        check(
            404,
            "NOT_FOUND - home node 'n@localhost' of durable queue 'q' in vhost '/' is down or inaccessible",
            Refusal::NodeDown,
        );
        check(404, "NOT_FOUND - no exchange 'e' in vhost '/'", Refusal::Other);
        assert_eq!(Refusal::of(None, "timed out"), Refusal::NodeDown);
        assert_eq!(Refusal::of(None, "connection reset by peer"), Refusal::Other);
    }
}
