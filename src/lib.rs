//! Blockcast carries committed blocks from RabbitMQ to WebSocket clients.

pub mod bridge;
pub mod pipeline;

pub mod amqp;
pub mod server;

pub mod history;

pub mod frame;

pub mod event;

pub mod sequence;

pub mod block;

pub mod cli;

pub mod config;
pub mod metrics;
pub mod notices;
pub mod readiness;
pub mod shutdown;
pub mod telemetry;
