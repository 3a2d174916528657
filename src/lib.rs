//! Blockcast carries committed blocks from RabbitMQ to WebSocket clients, as BigchainDB's event
//! stream.
//!
//! One idea carries it: a **history and cursors**. A block is decoded once and encoded once into the
//! bytes that go out; a client is a height in a bounded run of such blocks, and nothing is ever queued
//! for one. The rooms, along the data's path:
//!
//! ```text
//!  RabbitMQ -> amqp -> block -> sequence -> frame -> history -> session (x N, let in by server)
//!                ^                                     |
//!                '------- ack or dead-letter: pipeline, and nowhere else
//! ```
//!
//! Blocks may have left the history but still be in the RabbitMQ stream. A session asks for them with
//! a ticket (`tickets`), and `backfill` reads them through the same rooms into the ticket's small history.
//!
//! What always holds (`tests/tidy/sources.rs` keeps what can be read off the source):
//!
//! 1. `lapin` appears only under `amqp`; `hyper` and `tungstenite` only under `server` (and in
//!    `client`, and where `publish` asks a node); `rustls` only where a connection begins.
//! 2. Untrusted JSON is parsed only in `block` (and a server's words in `protocol` and `client`, a node's
//!    where `publish` asks it); events are encoded only in `frame`, once per block, never per client.
//! 3. Appending to the history never waits for a client. (One that `backfill` fills has a single reader,
//!    and is filled as fast as that reads.)
//! 4. A delivery is settled exactly once, in `pipeline`: from a RabbitMQ stream, where an ack is only
//!    credit, when the sequencer has taken it; from a queue, when its block is in the history.
//! 5. Every queue, buffer and loop has a bound; what happens at the bound is named and counted.
//! 6. No task outlives `Bridge::run`.
//! 7. No metric label is derived from input.
//!
//! # Words
//!
//! One idea has one word everywhere: type, file, configuration key, metric and log field.
//!
//! - **block**: What the chain commits at one height: transactions in an order, and perhaps a hash.
//! - **transaction**: One entry of a block, of which only the `id` is required.
//! - **event**: What one message of the stream `valid_transactions` says: that one transaction is committed.
//! - **height**: The number of a block on its chain.
//! - **index**: The place of an event among all events of its block, from 0, filtered or not.
//! - **tip**: The newest height.
//! - **delivery**: One message that the broker hands to a replica.
//! - **duplicate**: A delivery with a block that is known, which nodes of one network publish side by side.
//! - **conflict**: A delivery with other content for a height that is known.
//! - **gap**: Heights that were waited for and did not come.
//! - **dead letter**: A bad message, put aside at the broker with its body unchanged and the reason.
//! - **frame**: One encoded WebSocket message.
//! - **encoding**: One form of a block's bytes: plain frames, deflate, batch, event stream, gzip.
//! - **history**: A replica's bounded memory of encoded blocks (never "log", which is what tracing writes).
//! - **cursor**: The place in the history that one client has come to.
//! - **position**: A place in the chain that a URL can name: `H`, `H.I` or `H.T`.
//! - **stream**: What clients follow at one path of the WebSocket API; the queue type is always a "RabbitMQ stream".
//! - **subscription**: What one client asked for: stream, filter, encoding, control messages.
//! - **session**: One client's connection to a stream.
//! - **backfill**: Blocks read back from the RabbitMQ stream because memory no longer has them.
//! - **replica**: One running Blockcast, among others on the same RabbitMQ stream.
//! - **drain**: The end of a replica in good order: it turns unready, then closes its sessions over a while.
//!
//! Imports run downwards in the list below, and the edges never import each other.
//!
//! The feature `client` alone builds `client` and what that needs: `protocol` and a few leaves. The
//! feature `server`, the default, builds everything.
//!
//! Programs of others build on `client`, and may run a replica by `bridge`: both deny missing documentation. The
//! other modules are public for this package's own tests and benchmarks, and may change at any time. What a
//! configuration means is documented where operators read it, in `deploy/blockcast.toml`.

#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "a test's tasks end with its runtime, and it may block"
    )
)]

// The commands, the composition root, the one loop, and the readings of what has left memory.
#[cfg(feature = "server")]
pub mod cli;

#[cfg(feature = "server")]
pub mod bridge;

#[cfg(feature = "server")]
#[cfg(test)]
mod simulation;

#[cfg(feature = "server")]
pub mod backfill;
#[cfg(feature = "server")]
pub mod pipeline;

// The edges: the broker's side, the clients', and a client.
#[cfg(feature = "server")]
pub mod amqp;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "server")]
pub mod server;

// Between the edges and the history: what one client is sent.
#[cfg(feature = "server")]
pub mod session;

// Between them: what sessions ask of the broker's stream, and what then comes.
#[cfg(feature = "server")]
pub mod tickets;

// Encodings that only some clients require: made once, by a task of their own.
#[cfg(feature = "server")]
pub mod encoder;

// The domain, against the data's path: each knows only those below it.
#[cfg(feature = "server")]
pub mod history;

#[cfg(feature = "server")]
pub mod filter;

#[cfg(feature = "server")]
pub mod frame;

#[cfg(feature = "server")]
pub mod event;

#[cfg(feature = "server")]
pub mod sequence;

#[cfg(feature = "server")]
pub mod block;

// The words of the wire, for server, session and client alike: it knows none of them.
pub mod protocol;

// Leaves.
#[cfg(feature = "client")]
pub mod backoff;
#[cfg(feature = "client")]
pub mod byte_order_mark;
#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "client")]
pub mod file_name;
#[cfg(feature = "server")]
pub mod metrics;
#[cfg(feature = "server")]
pub mod operator_status;
#[cfg(feature = "server")]
pub mod packing;
#[cfg(feature = "client")]
pub mod pem;
#[cfg(feature = "server")]
pub mod readiness;
#[cfg(feature = "client")]
pub mod record;
#[cfg(feature = "server")]
pub mod reload;
pub mod secret;
#[cfg(feature = "server")]
pub mod shutdown;
#[cfg(feature = "client")]
pub mod small_file;
#[cfg(feature = "server")]
pub mod telemetry;
#[cfg(feature = "server")]
pub mod watched;
#[cfg(feature = "client")]
pub mod web_address;
