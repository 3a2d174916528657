//! Blockcast carries committed blocks from RabbitMQ to WebSocket clients, as BigchainDB's event
//! stream.
//!
//! One idea carries it: a **history and cursors**. A block is decoded once and encoded once into the
//! bytes that go out; a client is a height in a bounded run of such blocks, and nothing is ever queued
//! for one. The rooms, along the data's path:
//!
//! ```text
//!  RabbitMQ -> amqp -> block -> sequence -> frame -> history -> server (session x N)
//!                ^                                     |
//!                '------- ack or dead-letter: pipeline, and nowhere else
//! ```
//!
//! What has left the history but is still in the RabbitMQ stream, `replay` reads back through the same
//! rooms into a small history for the one client that asked for it (`archive`).
//!
//! What always holds (`tests/it/tidy.rs` keeps what can be read off the source):
//!
//! 1. `lapin` appears only under `amqp`; `hyper` and `tungstenite` only under `server` (and in
//!    `client`, and where `publish` asks a node); `rustls` only where a connection begins.
//! 2. Untrusted JSON is parsed only in `block` (and a server's words in `protocol` and `client`, a node's
//!    where `publish` asks it); events are encoded only in `frame`, once per block, never per client.
//! 3. Appending to the history never waits for a client. (One that `replay` fills has a single reader,
//!    and is filled as fast as that reads.)
//! 4. A delivery is settled exactly once, in `pipeline`: from a RabbitMQ stream, where an ack is only
//!    credit, when the sequencer has taken it; from a queue, when its block is in the history.
//! 5. Every queue, buffer and loop has a bound; what happens at the bound is named and counted.
//! 6. No task outlives `Bridge::run`.
//! 7. No metric label is derived from input.
//!
//! Imports run downwards in the list below, and the edges never import each other.
//!
//! The feature `client` alone builds `client` and what that needs: `protocol` and a few leaves. The
//! feature `server`, the default, builds everything.

// The commands, the composition root, the one loop, and the same for what is read back.
#[cfg(feature = "server")]
pub mod cli;

#[cfg(feature = "server")]
pub mod bridge;

#[cfg(feature = "server")]
#[cfg(test)]
mod simulation;

#[cfg(feature = "server")]
pub mod pipeline;
#[cfg(feature = "server")]
pub mod replay;

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

// Between them: what sessions ask of the broker's stream.
#[cfg(feature = "server")]
pub mod archive;

// What only some clients need: made of blocks once, off everyone's way.
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
pub mod notices;
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
#[cfg(feature = "server")]
pub mod telemetry;
