//! The end of a replica under many clients, with another to go to.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::support::broker::Broker;
use crate::support::client::Client;
use crate::support::eventually::eventually;
use crate::support::load::{Pace, Producer, all_have_the_chain, followers};
use crate::support::process::Process;
use crate::support::proxy::Proxy;
use crate::support::replica::config;

const CLIENTS: usize = 1_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_clients_of_a_drained_replica_go_to_the_other_one_by_one_and_lose_nothing() {
    let mut config = config(Broker::shared());
    config.server.drain_delay = Duration::from_secs(2);
    config.server.drain = Duration::from_secs(10);
    let first = Process::start_ready(&config).await;
    let second = Process::start_ready(&config).await;
    // As a balancer does that asks for readiness.
    let balancer = Proxy::to(first.address).await;
    let url = format!("ws://{}/api/v1/streams/valid_transactions", balancer.address);
    let mut producer =
        Producer::start(&config, Pace { blocks: 1, every: Duration::from_millis(100) });
    let clients = followers(&[url], CLIENTS);
    eventually("all are on the first", async || {
        first.metric("blockcast_sessions").await == CLIENTS as f64
    })
    .await;
    first.signal("TERM").await;
    eventually("unready first", async || first.get("/health/ready").await.status == 503).await;
    assert_eq!(first.metric("blockcast_sessions").await, CLIENTS as f64, "before any is closed");
    balancer.lead_to(second.address);
    // However slowly this machine asks, one burst would show in one or two answers.
    let mut seen = BTreeSet::new();
    while seen.first().is_none_or(|least| *least > CLIENTS / 10) {
        seen.insert(first.metric("blockcast_sessions").await as usize);
    }
    println!("{} numbers of sessions while it drained", seen.len());
    assert!(seen.len() >= 5, "not all at once: {seen:?}");
    eventually("all are on the second", async || {
        second.metric("blockcast_sessions").await == CLIENTS as f64
    })
    .await;
    assert_eq!(first.ended().await.code(), Some(0), "drained");
    producer.confirms(5).await;

    for client in all_have_the_chain(clients, producer.end().await).await {
        assert_eq!(client.connected_at.len(), 2, "on each once");
    }
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_the_drain_at_once() {
    let mut config = config(Broker::shared());
    config.server.drain_delay = Duration::from_secs(3_600);
    config.server.drain = Duration::from_secs(3_600);
    let replica = Process::start_ready(&config).await;
    let mut client = Client::connect(&replica.url("valid_transactions")).await;
    replica.signal("TERM").await;
    eventually("it drains", async || replica.get("/health/ready").await.status == 503).await;
    replica.signal("TERM").await;
    assert_eq!(replica.ended().await.code(), Some(1), "cut short");
    assert!(client.message().await.is_err(), "cut");
}
