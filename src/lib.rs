//! Blockcast carries committed blocks from RabbitMQ to WebSocket clients.

pub mod amqp;
pub mod block;
pub mod event;
pub mod frame;
pub mod sequence;

pub mod cli;

pub mod config;
pub mod metrics;
pub mod readiness;
pub mod telemetry;
