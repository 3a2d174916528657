//! `tail`: what it prints, and how it ends or does not.

use crate::broker::Broker;
use crate::chain::{body, event, publish};
use crate::replica::{Replica, config};

use super::program::{Program, Running, unanswered};

/// Starts it and waits until it is connected: what is published from now on is printed.
async fn tailing(url: &str) -> Running {
    let mut tail = Program::new(["tail", url]).start();
    tail.says("connected to ").await;
    tail
}

#[tokio::test]
async fn every_message_is_a_line_until_sigterm() {
    let config = config(Broker::shared());
    let replica = Replica::start_ready(&config).await;
    let mut tail = tailing(&replica.url("valid_transactions")).await;
    publish(&config, (1..=3).map(|height| body(height, "tailed"))).await;
    for height in 1..=3 {
        assert_eq!(tail.line().await, event(height, "tailed"));
    }
    tail.signal("TERM").await;
    let ended = tail.ended().await.with_code(0);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("", ""));
    replica.stop().await.expect("stopped");
}

#[tokio::test]
async fn a_replaced_replica_is_told_and_connected_to_again() {
    let mut config = config(Broker::shared());
    let (_reserved, address) = unanswered();
    config.server.listen = address;
    let first = Replica::start_ready(&config).await;
    let mut tail = tailing(&first.url("valid_transactions")).await;
    publish(&config, [body(1, "first")]).await;
    assert_eq!(tail.line().await, event(1, "first"));

    first.stop().await.expect("stopped");
    let close = tail.says("closed by the server").await;
    assert!(close.contains(": 1001 \"after=1 draining\""), "{close}");
    let second = Replica::start_ready(&config).await;
    tail.says("connected to ").await;
    publish(&config, [body(2, "second")]).await;
    assert_eq!(tail.line().await, event(2, "second"));

    tail.signal("INT").await;
    tail.ended().await.with_code(0);
    second.stop().await.expect("stopped");
}

#[tokio::test]
async fn a_request_that_can_never_succeed_fails_with_the_servers_words() {
    let config = config(Broker::shared());
    let replica = Replica::start_ready(&config).await;
    for (path, told) in
        [("valid_transactions?nonsense=1", ["400", "nonsense"]), ("nothing", ["404", "refused"])]
    {
        let ended = Program::new(["tail", &replica.url(path)]).run().await.with_code(1);
        assert_eq!(ended.stdout, "");
        ended.telling(&told);
    }
    replica.stop().await.expect("stopped");
}

#[tokio::test]
async fn a_closed_stdout_ends_it_quietly() {
    let config = config(Broker::shared());
    let replica = Replica::start_ready(&config).await;
    let mut tail = tailing(&replica.url("valid_transactions")).await;
    tail.close_stdout();
    publish(&config, [body(1, "unread")]).await;
    assert_eq!(tail.ended().await.with_code(0).stderr, "");
    replica.stop().await.expect("stopped");
}

#[tokio::test]
async fn it_can_be_ended_while_nobody_answers() {
    let (_reserved, address) = unanswered();
    let url = format!("ws://node:s3cret@{address}/api/v1/streams/valid_blocks");
    let mut tail = Program::new(["tail", &url]).start();
    let said = tail.says("cannot connect").await;
    assert!(said.contains("; again in "), "{said}");
    tail.signal("TERM").await;
    let ended = tail.ended().await.with_code(0);
    assert!(!format!("{said}{ended:?}").contains("s3cret"), "{said}{ended:?}");
}
