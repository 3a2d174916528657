//! Messages whose body is a good block, and whose properties or routing key the client library cannot
//! read: each streams, with what is behind it, and no connection is lost over it.

use std::path::Path;
use std::time::Duration;

use blockcast::config::{AmqpUri, Config, QueueMode};
use bytesize::ByteSize;
use serde::Deserialize;
use tokio::task::block_in_place;
use tokio::time::timeout;

use crate::support::broker::Broker;
use crate::support::chain::{body, event, publish};
use crate::support::client::Client;
use crate::support::eventually::eventually;
use crate::support::left_out;
use crate::support::letters::Letters;
use crate::support::raw_producer::{Odd, RawProducer, long, short};
use crate::support::replica::{Replica, config};
use crate::support::stream_writer::{Entry, Writer};
use crate::support::unreadable;

const IN_A_ROW: u64 = 1_000;
/// What is published streams within this time, 30 times what it takes on two cores of one's own.
const STREAMS_WITHIN: Duration = Duration::from_secs(10);
const RECONNECTS: &str = "blockcast_amqp_reconnects_total";
const MENDED: &str = "blockcast_amqp_mended_frames_total";

/// Properties by their place in the protocol's list.
const REPLY_TO: u16 = 6;
const CLUSTER_ID: u16 = 13;

/// A case of `tests/data/odd-properties.json`.
#[derive(Deserialize)]
struct Case {
    property: String,
    /// In hexadecimal digits.
    bytes: String,
}

/// The cases, and their relatives: what lies deeper, and what was never meant to be read.
fn odd() -> Vec<Odd> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/odd-properties.json");
    let text = std::fs::read_to_string(path).expect("the cases are there");
    let cases: Vec<Case> = serde_json::from_str(&text).expect("cases");
    assert_eq!(cases.len(), 7);
    let mut odd: Vec<Odd> = cases.iter().map(Case::odd).collect();
    // Not the content encoding: one that nobody knows is dead-lettered by its name.
    for place in [REPLY_TO, CLUSTER_ID] {
        odd.push(Odd::property(place, b"\xff\x80"));
    }
    let value = [b"S", &long(b"\xe9")[..]].concat();
    let named = [short(b"\xe9"), value.clone()].concat();
    odd.push(Odd::headers(&[&short(b"inner")[..], b"F", &long(&named)].concat()));
    let inner = [b"F", &long(&named)[..]].concat();
    odd.push(Odd::headers(&[&short(b"list")[..], b"A", &long(&inner)].concat()));
    let mut nested = value;
    for _ in 0..1_000 {
        nested = [b"A", &long(&nested)[..]].concat();
    }
    odd.push(Odd::headers(&[short(b"deep"), nested].concat()));
    odd
}

impl Case {
    fn odd(&self) -> Odd {
        let hex = data_encoding::HEXLOWER;
        let bytes = hex.decode(self.bytes.as_bytes()).expect("hexadecimal digits");
        match self.property.as_str() {
            "content_type" => Odd::property(0, &bytes),
            "correlation_id" => Odd::property(5, &bytes),
            "message_id" => Odd::property(8, &bytes),
            "type" => Odd::property(10, &bytes),
            "app_id" => Odd::property(12, &bytes),
            "header name" => Odd::headers(&[&short(&bytes)[..], b"V"].concat()),
            "routing key" => Odd::routing_key(&bytes),
            other => panic!("{other} is new"),
        }
    }
}

/// Publishes a block for each, from height 1 on, a good one behind each. Returns the last height.
///
/// RabbitMQ 4.3 makes an address of `reply_to` for a stream, fails at one that is not UTF-8 and ends
/// the producer's connection. Producers of other protocols bring one in there.
async fn publish_odd(config: &Config, odd: &[Odd], test: &str) -> u64 {
    let mut producer = RawProducer::connect(Broker::shared()).await;
    let good = Odd::routing_key(b"block.valid");
    let in_a_stream = config.amqp.queue.mode == QueueMode::Stream;
    let mut height = 0;
    for message in odd.iter().flat_map(|odd| [odd, &good]) {
        producer.publish(&config.amqp.exchange, message, &body(height + 1, "x")).await;
        match producer.try_confirmed().await {
            Ok(()) => height += 1,
            Err(end) => {
                assert!(in_a_stream && message.flags == 0x8000 >> REPLY_TO, "{message:?}: {end}");
                let case = format!("{test}, its reply_to");
                left_out::say(&format!(
                    "{case}: this broker takes no such one for a stream over AMQP 0-9-1"
                ));
                producer = RawProducer::connect(Broker::shared()).await;
            }
        }
    }
    height
}

/// All of it arrives, from height 1 on, and no connection was lost.
async fn check_streams(replica: &Replica, client: &mut Client, last: u64) {
    for height in 1..=last {
        assert_eq!(client.text().await, event(height, "x"));
    }
    assert_eq!(replica.metric(RECONNECTS).await, 0.0);
    assert_eq!(replica.metric("blockcast_missing_blocks_total").await, 0.0);
}

async fn from_the_first(replica: &Replica) -> Client {
    Client::connect(&format!("{}?from_height=1", replica.url("valid_transactions"))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_properties_stream_on_running_and_fresh_replicas() {
    let config = config(Broker::shared());
    let running = Replica::start_ready(&config).await;
    let mut client = Client::connect(&running.url("valid_transactions")).await;
    let odd = odd();
    let test = "odd_properties_stream_on_running_and_fresh_replicas";
    let mut last = publish_odd(&config, &odd, test).await;
    check_streams(&running, &mut client, last).await;
    assert!(
        running.metric(MENDED).await >= odd.len() as f64 / 2.0,
        "what the broker kept as it was"
    );
    // The tail itself is odd: a fresh replica's probe meets it.
    let mut producer = RawProducer::connect(Broker::shared()).await;
    last += 1;
    let odd = Odd::property(8, b"\xff");
    producer.publish(&config.amqp.exchange, &odd, &body(last, "x")).await;
    producer.confirmed().await;
    let fresh = Replica::start_ready(&config).await;
    check_streams(&fresh, &mut from_the_first(&fresh).await, last).await;
    assert_eq!(client.text().await, event(last, "x"));
    for replica in [running, fresh] {
        replica.stop().await.expect("drained");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_in_a_row_stream_and_are_read_back() {
    let mut config = config(Broker::shared());
    config.history.max_bytes = ByteSize::kib(64);
    config.blocks.max_bytes = ByteSize::kib(32);
    let replica = Replica::start_ready(&config).await;
    let mut client = Client::connect(&replica.url("valid_transactions")).await;
    let mut producer = RawProducer::connect(Broker::shared()).await;
    let odd = Odd { routing_key: b"block.\xe9".to_vec(), ..Odd::property(8, b"\xff\xfe") };
    let since = std::time::Instant::now();
    for height in 1..=IN_A_ROW {
        producer.publish(&config.amqp.exchange, &odd, &body(height, "x")).await;
    }
    producer.confirmed().await;
    let streaming = check_streams(&replica, &mut client, IN_A_ROW);
    timeout(STREAMS_WITHIN, streaming).await.expect("in time");
    println!("{IN_A_ROW} in a row streamed within {:?}", since.elapsed());
    // The method and the header of each, and some more by those who look where the stream begins.
    assert!(replica.metric(MENDED).await >= 2.0 * IN_A_ROW as f64);
    let first = replica.status().await["first_height"].as_u64().expect("a height");
    assert!(first > 2, "memory is short: {first}");
    eventually("it is known where the stream begins", async || {
        replica.status().await["broker_first_height"] == 1
    })
    .await;
    check_streams(&replica, &mut from_the_first(&replica).await, IN_A_ROW).await;
    assert!(replica.metric("blockcast_resumes_total{outcome=\"deep\"}").await >= 1.0);
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_odd_reply_to_of_another_protocol_streams() {
    let (broker, port) = unreadable::broker();
    let config = config(broker);
    let replica = Replica::start_ready(&config).await;
    let mut client = Client::connect(&replica.url("valid_transactions")).await;
    let queue = config.amqp.queue.resolved_name();
    let odd = Entry::Answerable { reply_to: b"\xff\x80".to_vec(), body: body(1, "x") };
    block_in_place(|| Writer::connect(port, &queue).write([odd, Entry::Body(body(2, "x"))]));
    check_streams(&replica, &mut client, 2).await;
    assert!(replica.metric(MENDED).await >= 1.0, "the broker keeps it as it was");
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_properties_stream_in_queue_mode() {
    let mut config = config(Broker::shared());
    config.amqp.queue.mode = QueueMode::Queue;
    let replica = Replica::start_ready(&config).await;
    let mut client = Client::connect(&replica.url("valid_transactions")).await;
    let odd = odd();
    let last = publish_odd(&config, &odd, "odd_properties_stream_in_queue_mode").await;
    check_streams(&replica, &mut client, last).await;
    // A queue hands everything on as it came.
    assert_eq!(replica.metric(MENDED).await, odd.len() as f64);
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_properties_stream_inside_tls() {
    let broker = Broker::shared();
    let mut config = config(broker);
    config.amqp.uris = vec![AmqpUri::new(broker.tls_uri())];
    config.amqp.tls.ca = Some(broker.file("ca.pem"));
    config.amqp.tls.certificate = Some(broker.file("client.pem"));
    config.amqp.tls.key = Some(broker.file("client.key"));
    let replica = Replica::start_ready(&config).await;
    let mut client = Client::connect(&replica.url("valid_transactions")).await;
    let last = publish_odd(&config, &odd(), "odd_properties_stream_inside_tls").await;
    check_streams(&replica, &mut client, last).await;
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_body_with_odd_properties_becomes_a_letter() {
    let config = config(Broker::shared());
    let letters = Letters::of(Broker::shared(), config.amqp.dead_letter.exchange.as_deref()).await;
    let replica = Replica::start_ready(&config).await;
    let mut client = Client::connect(&replica.url("valid_transactions")).await;
    let mut producer = RawProducer::connect(Broker::shared()).await;
    let odd = Odd { routing_key: b"block.\xe9".to_vec(), ..Odd::property(0, b"\xff/\xfe") };
    producer.publish(&config.amqp.exchange, &odd, b"\xff bad").await;
    producer.confirmed().await;
    publish(&config, [body(1, "x")]).await;
    let letter = letters.take().await;
    assert_eq!(letter.body, b"\xff bad");
    assert_eq!(letter.header("x-blockcast-routing-key").as_deref(), Some("block.?"));
    assert_eq!(client.text().await, event(1, "x"));
    assert_eq!(replica.metric("blockcast_dead_letters_failed_total").await, 0.0);
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_fill_a_frame_stream_though_the_broker_adds_to_them() {
    /// Of a content header with this table's one text, beside that.
    const AROUND: usize = 8 + 14 + 4 + 2 + 1 + 4;
    let mut config = config(Broker::shared());
    let replica = Replica::start_ready(&config).await;
    let mut client = Client::connect(&replica.url("valid_transactions")).await;
    // As long as RabbitMQ lets a frame be.
    let full = vec![b'a'; (128 << 10) - AROUND];
    let odd = Odd::headers(&[&short(b"h")[..], b"S", &long(&full)].concat());
    let test = "headers_that_fill_a_frame_stream_though_the_broker_adds_to_them";
    let last = publish_odd(&config, &[odd.clone(), odd], test).await;
    check_streams(&replica, &mut client, last).await;
    // Some more by those who look where the stream begins and ends.
    assert!(replica.metric(MENDED).await >= 2.0);
    // A consumer that asked for shorter frames is sent long headers all the same.
    config.amqp.uris = vec![AmqpUri::new(format!("{}?frame_max=8192", Broker::shared().uri()))];
    let fresh = Replica::start_ready(&config).await;
    check_streams(&fresh, &mut from_the_first(&fresh).await, last).await;
    for replica in [replica, fresh] {
        replica.stop().await.expect("drained");
    }
}
