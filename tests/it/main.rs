//! Tests of the whole program and of its edges against real peers. One binary, so that one broker
//! serves all of them.
//!
//! Each file is named after the behaviour that it shows. They stand in the order of the data's path.

#![allow(
    clippy::disallowed_methods,
    reason = "a test's tasks end with its runtime, and it may block"
)]

// Brokers, replicas, clients, nodes and what else the tests share. No tests.
mod support;

// ---- From the broker into a replica.

// Connections: TLS, tunnels, and what a URI can get wrong.
mod reaching_a_broker;

// A user who lacks a permission.
mod missing_permissions;

// A RabbitMQ stream: where it begins, when it has caught up, how far it goes.
mod reading_the_stream;

// A connection, a stream or a broker that goes away.
mod reattaching;

// Entries that the broker cannot hand over, and the source.
mod unreadable_entries;

// `queue` mode.
mod queue_of_one_replica;

// Blocks read back from the stream.
mod backfill;

// Dead letters, and brokers that have no place for them.
mod dead_lettering;

// Publishing, with confirms.
mod confirmed_publishing;

// ---- What a message may be.

// Properties and routing keys that the client library cannot read.
mod odd_properties;

// Bodies that are packed, marked or not quite JSON.
mod odd_bodies;

// Messages that are not a block.
mod bad_input;

// ---- From the broker to the client.

// Order, completeness, replicas, restarts.
mod streaming;

// Entries that the broker cannot hand over, and clients, balancers and operators.
mod replicas_over_unreadable_entries;

// Positions that have left a replica's memory.
mod deep_reads;

// Clients that come and go, whatever they asked for.
mod resuming;

// permessage-deflate.
mod compression;

// Server-Sent Events.
mod server_sent_events;

// ---- Who comes in.

// Addresses of both families.
mod listening;

// TLS, and certificates that change.
mod tls;

// The PROXY protocol.
mod proxy_protocol;

// What a proxy says in headers.
mod forwarded_headers;

// Requests that are too many, too long or too slow.
mod limits;

// Origins, tokens and keys.
mod access;

// The API root, refusals, health, metrics.
mod plain_requests;

// Connections that are sessions: limits, closes, drain.
mod sessions;

// What a client may send, by Autobahn's case numbers.
mod rfc6455;

// ---- The other end of the wire, and the program as people run it.

// The client library, against a server that plays the contract.
mod following_a_stream;

// The commands.
mod commands;

// `publish --node`, against real nodes or what they once answered.
mod following_nodes;

// ---- All of it, in numbers and under faults.

// Replicas behind HAProxy, killed in turn.
mod balanced_replicas;

// A replica's memory, at its bounds.
mod bounded_memory;

// Brokers, links, producers, clients and replicas that fail.
mod faults;

// Load and random faults, for as long as one likes.
mod soak;
