//! Tests of the whole program and of its edges against real peers. One binary, so that one broker
//! serves all of them.

#![allow(
    clippy::disallowed_methods,
    reason = "a test's tasks end with its runtime, and it may block"
)]

mod support;

// The broker's side.
mod amqp_attach;
mod amqp_dead_letter;
mod amqp_permissions;
mod amqp_publish;
mod amqp_queue;
mod amqp_reattach;
mod amqp_source;
mod amqp_unreadable;
mod replay;

// The whole.
mod access;
mod bad_input;
mod balanced;
mod bodies;
mod commands;
mod compressed;
mod deep_history;
mod event_stream;
mod faults;
mod following;
mod http;
mod limits;
mod listening;
mod memory;
mod nodes;
mod odd_properties;
mod proxied;
mod proxy_header;
mod resume;
mod rfc6455;
mod sessions;
mod soak;
mod streaming;
mod tls;
mod unreadable;
