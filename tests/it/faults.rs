//! The whole program under faults, as processes with a real broker: every block that was confirmed
//! reaches every client that is connected or resumes, once and in order; or its loss is told in
//! metric, log and control message.

mod alarms;
mod broker_lost;
mod clock_set_back;
mod cut_clients;
mod dead_letters;
mod drained_replica;
mod few_channels;
mod few_connections;
mod harmed_links;
mod harmed_process;
mod hasty_clients;
mod mean_clients;
mod producers;
mod silent_consumers;
mod stream_lost;
mod trickling_clients;
mod unreadable_entries;
