//! Helpers of these tests: what they start, what they ask, and what they hold against it.

pub mod alarms;
pub mod amqp_client;
pub mod broker;
pub mod canaries;
pub mod certificates;
pub mod chain;
pub mod client;
pub mod deliveries;
pub mod event_client;
pub mod eventually;
pub mod left_out;
pub mod letters;
pub mod load;
pub mod node;
pub mod ports;
pub mod process;
pub mod program;
pub mod proxy;
pub mod publishing;
pub mod raw_producer;
pub mod replica;
pub mod scripted;
pub mod signed_tokens;
pub mod sockets;
pub mod stream_writer;
pub mod unreadable;
