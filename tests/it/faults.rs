//! The whole program under faults, as processes with a real broker: every block that was confirmed
//! reaches every client that is connected or resumes, once and in order; or its loss is told in
//! metric, log and control message.

pub mod alarms;
mod broker_lost;
mod clients;
mod clock;
mod cut_clients;
mod dead_letters;
mod drain;
mod few_connections;
mod link;
mod process_harmed;
mod producers;
mod silent;
mod stream_lost;
mod trickle;
mod unreadable;
