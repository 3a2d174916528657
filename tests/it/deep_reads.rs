//! Positions that have left a replica's memory and are still in the RabbitMQ stream.

use std::time::Duration;

use blockcast::config::QueueMode;
use bytesize::ByteSize;
use tokio_tungstenite::tungstenite::Message;

use crate::support::broker::Broker;
use crate::support::chain::{body, event, height_of, publish};
use crate::support::client::Client;
use crate::support::eventually::eventually;
use crate::support::process::Process;
use crate::support::replica::{Replica, config, metric_in};

const BLOCKS: u64 = 50_000;
/// Blocks that a history of this test holds, about.
const KEPT: u64 = 1_000;
const RESUMERS: usize = 20;
const LIVE: usize = 500;
/// Live blocks in each half of the run, one every so often.
const LIVE_BLOCKS: u64 = 60;
const EVERY: Duration = Duration::from_millis(50);

#[tokio::test(flavor = "multi_thread")]
async fn what_has_left_the_memory_is_read_back_in_every_form() {
    let mut config = config(Broker::shared());
    config.history.max_bytes = ByteSize::kib(64);
    config.blocks.max_bytes = ByteSize::kib(32);
    let replica = Replica::start_ready(&config).await;
    publish(&config, (1..=3_000).map(|height| body(height, "x"))).await;
    eventually("the tip is there", async || replica.status().await["tip_height"] == 3_000).await;
    eventually("it is known where the stream begins", async || {
        replica.status().await["broker_first_height"] == 1
    })
    .await;
    let first_kept = replica.status().await["first_height"].as_u64().expect("a height");
    assert!(first_kept > 2_000, "the memory is short: {first_kept}");

    let url = replica.url("valid_transactions");
    let mut plain = Client::connect(&format!("{url}?from_height=oldest")).await;
    let expected: Vec<_> = (1..=3_000).map(|height| event(height, "x")).collect();
    assert_eq!(plain.texts(3_000).await, expected);
    publish(&config, [body(3_001, "x")]).await;
    assert_eq!(plain.text().await, event(3_001, "x"), "it has moved over to the live end");

    let query = "from_height=500&until_height=502&batch=block&control=true";
    let mut batches = Client::connect(&format!("{url}?{query}")).await;
    assert_eq!(
        batches.text().await,
        "{\"type\": \"position\", \"height\": 499, \"first_height\": 1, \"tip_height\": 3001}"
    );
    for height in 500..=502 {
        let batch = format!(
            "{{\"height\": {height}, \"hash\": null, \"events\": [{}]}}",
            event(height, "x")
        );
        assert_eq!(batches.text().await, batch);
        let end = format!("{{\"type\": \"block\", \"height\": {height}, \"events\": 1}}");
        assert_eq!(batches.text().await, end);
    }
    assert_eq!(batches.closed().await.reason.as_str(), "after=502 done");
    let mut blocks =
        Client::connect(&format!("{}?after=99&limit=2", replica.url("valid_blocks"))).await;
    for height in 100..=101 {
        assert_eq!(height_of(&blocks.text().await), height);
    }
    let head = "GET /api/v1/streams/valid_transactions?from_height=7&until_height=7&operation=CREATE \
        HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n";
    let answer = crate::support::replica::request(replica.address, head).await;
    assert_eq!(answer.status, 200);
    assert!(answer.body.ends_with("\"after=7 done\"}\n\n"), "{}", answer.body);
    assert!(!answer.body.contains("id: 7.0"), "its operation is none: {}", answer.body);
    let mut early = Client::connect(&format!("{url}?from_height=0")).await;
    let frame = early.closed().await;
    assert_eq!((u16::from(frame.code), frame.reason.as_str()), (4009, "from_height=1"));
    assert!(replica.metric("blockcast_resumes_total{outcome=\"deep\"}").await >= 4.0);
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wants_another_form_comes_back_to_memory_and_pushes_nothing_out_of_it() {
    const BLOCKS: u64 = 1_500;
    let mut config = config(Broker::shared());
    config.history.max_bytes = ByteSize::kib(256);
    config.history.encodings_max_bytes = ByteSize::kib(16);
    config.blocks.max_bytes = ByteSize::kib(32);
    let replica = Replica::start_ready(&config).await;
    publish(&config, (1..=BLOCKS).map(|height| body(height, "x"))).await;
    eventually("the tip is there", async || replica.status().await["tip_height"] == BLOCKS).await;
    eventually("it is known where the stream begins", async || {
        replica.status().await["broker_first_height"] == 1
    })
    .await;
    let first_kept = replica.status().await["first_height"].as_u64().expect("a height");
    assert!((2..BLOCKS - 100).contains(&first_kept), "some is in memory: {first_kept}");

    let query = "from_height=1&batch=block&control=true";
    let mut client =
        Client::connect(&format!("{}?{query}", replica.url("valid_transactions"))).await;
    client.text().await;
    for height in 1..=BLOCKS {
        let events = event(height, "x");
        let batch = format!("{{\"height\": {height}, \"hash\": null, \"events\": [{events}]}}");
        assert_eq!(text_but_heartbeats(&mut client).await, batch);
        let end = format!("{{\"type\": \"block\", \"height\": {height}, \"events\": 1}}");
        assert_eq!(text_but_heartbeats(&mut client).await, end);
    }
    assert_eq!(replica.status().await["first_height"], first_kept);
    let kept = replica.metric("blockcast_encodings_bytes").await;
    assert!(kept > 0.0 && kept <= config.history.encodings_max_bytes.as_u64() as f64, "{kept}");
    assert!(replica.metric("blockcast_encodings_let_go_bytes_total").await > 0.0);
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_stream_what_has_left_the_memory_is_gone() {
    let mut config = config(Broker::shared());
    config.amqp.queue.mode = QueueMode::Queue;
    config.history.max_bytes = ByteSize::kib(64);
    config.blocks.max_bytes = ByteSize::kib(32);
    let replica = Replica::start_ready(&config).await;
    publish(&config, (1..=1_000).map(|height| body(height, "x"))).await;
    eventually("the tip is there", async || replica.status().await["tip_height"] == 1_000).await;
    let first_kept = replica.status().await["first_height"].as_u64().expect("a height");
    let url = replica.url("valid_transactions");
    let mut early = Client::connect(&format!("{url}?from_height={}", first_kept - 1)).await;
    let frame = early.closed().await;
    let expected = format!("from_height={first_kept}");
    assert_eq!((u16::from(frame.code), frame.reason.as_str()), (4009, &*expected));
    let mut oldest = Client::connect(&format!("{url}?from_height=oldest")).await;
    assert_eq!(oldest.text().await, event(first_kept, "x"));
    replica.stop().await.expect("drained");
}

/// The next text. While an encoding is waited for, heartbeats may come.
async fn text_but_heartbeats(client: &mut Client) -> String {
    loop {
        let text = client.text().await;
        if !text.starts_with("{\"type\": \"heartbeat\"") {
            return text;
        }
    }
}

/// Reads one block after the other, from `height` to `last`.
async fn read_all(url: String, height: u64, last: u64) {
    let mut client =
        Client::connect(&format!("{url}?from_height={height}&until_height={last}")).await;
    let mut next = height;
    loop {
        match client.message().await {
            Ok(Message::Text(text)) => {
                assert_eq!(text.as_str(), event(next, "x"));
                next += 1;
            }
            Ok(Message::Close(Some(frame))) => {
                assert_eq!(u16::from(frame.code), 1000, "{} at {next}", frame.reason);
                return assert_eq!(next, last + 1, "everything");
            }
            other => panic!("{other:?} at {next}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_may_read_back_at_once_wait_for_their_turn_and_are_counted() {
    /// Read back at 5,000 blocks per second at most: for so long do the first ones have their turns.
    const BLOCKS: u64 = 20_000;
    const TURNS: usize = 2;
    const CLIENTS: usize = 6;
    let mut config = config(Broker::shared());
    config.history.deep_reads = TURNS;
    config.history.max_bytes = ByteSize::kib(64);
    config.blocks.max_bytes = ByteSize::kib(32);
    let replica = Replica::start_ready(&config).await;
    let waiting = "blockcast_deep_reads_waiting";
    assert_eq!(replica.metric(waiting).await, 0.0);
    publish(&config, (1..=BLOCKS).map(|height| body(height, "x"))).await;
    eventually("the tip is there", async || replica.status().await["tip_height"] == BLOCKS).await;
    let url = replica.url("valid_transactions");
    let clients: Vec<_> =
        (1..).take(CLIENTS).map(|from| tokio::spawn(read_all(url.clone(), from, BLOCKS))).collect();
    eventually("all others wait", async || {
        let metrics = replica.get("/metrics").await.body;
        assert!(metric_in(&metrics, "blockcast_deep_reads") <= TURNS as f64);
        metric_in(&metrics, waiting) == (CLIENTS - TURNS) as f64
    })
    .await;
    for client in clients {
        client.await.expect("everything came when its turn did");
    }
    for name in [waiting, "blockcast_deep_reads"] {
        eventually("nobody is left", async || replica.metric(name).await == 0.0).await;
    }
    assert!(replica.metric("blockcast_deep_read_blocks_total").await >= 5e4, "read back, all");
    replica.stop().await.expect("drained");
}

/// Publishes live blocks at their pace from `first` on.
async fn live(config: &blockcast::config::Config, first: u64) {
    let publisher = blockcast::amqp::Publisher::connect(&config.amqp).await.expect("connected");
    let mut due = tokio::time::interval(EVERY);
    for height in first..first + LIVE_BLOCKS {
        due.tick().await;
        publisher.publish(body(height, "x")).await.expect("sent").wait().await.expect("confirmed");
    }
    publisher.close().await;
}

/// The buckets of the time from a block in the history to a session's socket.
async fn written_within(process: &Process) -> Vec<(f64, f64)> {
    let text = process.metrics().await;
    let name = "blockcast_append_to_write_seconds_bucket{le=\"";
    let bounds = text.lines().filter_map(|line| line.strip_prefix(name)?.split_once('"'));
    let bounds = bounds.map(|(bound, _)| bound.to_owned());
    bounds
        .map(|bound| {
            let count = metric_in(&text, &format!("{name}{bound}\"}}"));
            (bound.parse().unwrap_or(f64::INFINITY), count)
        })
        .collect()
}

/// The 99th percentile between two looks: the bucket's bound.
fn p99(before: &[(f64, f64)], after: &[(f64, f64)]) -> f64 {
    let counts: Vec<_> =
        before.iter().zip(after).map(|(before, after)| (after.0, after.1 - before.1)).collect();
    let all = counts.last().expect("a bucket").1;
    counts.iter().find(|(_, count)| *count >= 0.99 * all).expect("the last holds all").0
}

#[tokio::test(flavor = "multi_thread")]
async fn many_that_resume_far_back_get_everything_while_live_clients_go_on() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut config = config(Broker::shared());
    config.history.max_bytes = ByteSize::b(KEPT * 900);
    config.blocks.max_bytes = ByteSize::kib(32);
    publish(&config, []).await;
    let process = Process::start_ready(&config).await;
    publish(&config, (1..=BLOCKS).map(|height| body(height, "x"))).await;
    process.reaches(BLOCKS).await;
    assert!(process.metric("blockcast_history_blocks").await < 2.0 * KEPT as f64);

    let url = process.url("valid_transactions");
    let mut live_clients = Vec::new();
    for _ in 0..LIVE {
        let mut client = Client::connect(&url).await;
        live_clients.push(tokio::spawn(async move {
            for height in BLOCKS + 1..=BLOCKS + 2 * LIVE_BLOCKS {
                assert_eq!(client.text().await, event(height, "x"));
            }
        }));
    }
    let before = written_within(&process).await;
    live(&config, BLOCKS + 1).await;
    let between = written_within(&process).await;
    let last = BLOCKS + LIVE_BLOCKS;
    let resumers: Vec<_> = (0..RESUMERS)
        .map(|_| tokio::spawn(read_all(url.clone(), random.u64(1..BLOCKS - 2 * KEPT), last)))
        .collect();
    live(&config, last + 1).await;
    let after = written_within(&process).await;
    for resumer in resumers {
        resumer.await.expect("everything was there");
    }
    for client in live_clients {
        client.await.expect("everything came");
    }
    println!(
        "99% of live blocks were written within {} s without, {} s beside {RESUMERS} deep reads",
        p99(&before, &between),
        p99(&between, &after)
    );
    assert!(process.metric("blockcast_resumes_total{outcome=\"deep\"}").await == RESUMERS as f64);
    assert_eq!(process.metric("blockcast_disconnects_total{reason=\"slow\"}").await, 0.0);
    process.stop().await;
}
