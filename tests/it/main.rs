//! Tests of the whole program and of its edges against real peers. One binary, so that one broker
//! serves all of them.

mod amqp_attach;
mod amqp_client;
mod amqp_dead_letter;
mod amqp_publish;
mod amqp_queue;
mod amqp_reattach;
mod amqp_source;
mod broker;
