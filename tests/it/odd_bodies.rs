//! Bodies that real producers send beside plain JSON: Python's NaN, byte order marks, packed ones, and
//! sections of AMQP 1.0. Each streams live, in warm-up and when it is read back, or is told by name.

use std::io::Write;
use std::path::Path;

use blockcast::config::Config;
use bytesize::ByteSize;
use data_encoding::HEXLOWER;
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use lapin::BasicProperties;
use serde_json::Value;

use crate::support::amqp_client::Client as AmqpClient;
use crate::support::broker::Broker;
use crate::support::chain::{body, event, publish};
use crate::support::client::Client;
use crate::support::eventually::eventually;
use crate::support::letters::Letters;
use crate::support::replica::{Replica, config};

type Message = (Vec<u8>, BasicProperties);

fn data(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
    std::fs::read_to_string(path).expect("read")
}

fn plain(body: impl Into<Vec<u8>>) -> Message {
    (body.into(), BasicProperties::default())
}

fn encoded(body: Vec<u8>, name: &str) -> Message {
    (body, BasicProperties::default().with_content_encoding(name.into()))
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).expect("packed");
    encoder.finish().expect("packed")
}

/// With RFC 1950's head, and without.
fn deflate(body: &[u8]) -> [Vec<u8>; 2] {
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
    let mut raw = DeflateEncoder::new(Vec::new(), Compression::default());
    zlib.write_all(body).and_then(|()| raw.write_all(body)).expect("packed");
    [zlib.finish().expect("packed"), raw.finish().expect("packed")]
}

/// As RabbitMQ hands over an AMQP 1.0 message with this section.
fn section(body: Vec<u8>) -> Message {
    (body, BasicProperties::default().with_type("amqp-1.0".into()))
}

/// The recorded value of a map in the shortest encoding: RabbitMQ 4 changes longer ones into it.
fn map() -> Vec<u8> {
    const LONG: &[u8] = &[0x00, 0x53, 0x77, 0xd1, 0, 0, 0, 29, 0, 0, 0, 4];
    const SHORT: &[u8] = &[0x00, 0x53, 0x77, 0xc1, 26, 4];
    let recorded = data("amqp-1.0-bodies.ndjson");
    let mut recorded = recorded.lines().map(|line| serde_json::from_str(line).expect("a case"));
    let map: Value =
        recorded.find(|case: &Value| case["section"] == "value of a map").expect("one");
    let map = HEXLOWER.decode(map["body_hex"].as_str().expect("hexadecimal").as_bytes());
    let map = map.expect("hexadecimal");
    [SHORT, map.strip_prefix(LONG).expect("25 bytes of four")].concat()
}

fn small_memory() -> Config {
    let mut config = config(Broker::shared());
    config.history.max_bytes = ByteSize::kib(64);
    config.blocks.max_bytes = ByteSize::kib(32);
    config
}

/// Messages of heights 1 and on, and the events that they are.
fn odd_messages() -> (Vec<Message>, Vec<String>) {
    let mut messages = vec![plain(body(1, "x"))];
    let mut events = vec![event(1, "x")];
    let marked = data("body-with-byte-order-mark.json");
    for line in data("bodies-that-pass.ndjson").lines().chain([&*marked]) {
        messages.push(plain(line));
        let height = messages.len();
        let id = format!("{height:064}");
        events.push(format!(
            r#"{{"height": {height}, "asset_id": "{id}", "transaction_id": "{id}"}}"#
        ));
    }
    let [zlib, raw] = [body(8, "x"), body(9, "x")].map(|body| deflate(&body));
    let value = [&[0x00, 0x53, 0x77, 0xa1, body(12, "x").len() as u8][..], &body(12, "x")].concat();
    messages.extend([
        encoded(gzip(&body(7, "x")), "gzip"),
        encoded(zlib[0].clone(), "deflate"),
        encoded(raw[1].clone(), "Deflate"),
        encoded(body(10, "x"), "identity"),
        encoded(body(11, "x"), "UTF-8"),
        section(value),
    ]);
    events.extend((7..=12).map(|height| event(height, "x")));
    (messages, events)
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_and_packed_bodies_stream_live_in_warm_up_and_when_read_back() {
    let config = small_memory();
    let live = Replica::start_ready(&config).await;
    let mut client = Client::connect(&live.url("valid_transactions")).await;
    let (messages, events) = odd_messages();
    let count = events.len();
    let producer = AmqpClient::connect(&Broker::shared().uri()).await;
    producer.publish_with(&config.amqp.exchange, messages).await;
    assert_eq!(client.texts(count).await, events);

    let late = Replica::start_ready(&config).await;
    let from_first =
        |replica: &Replica| format!("{}?from_height=1", replica.url("valid_transactions"));
    let mut client = Client::connect(&from_first(&late)).await;
    assert_eq!(client.texts(count).await, events, "from the warm-up");
    late.stop().await.expect("drained");

    let tip = 1_000;
    publish(&config, (count as u64 + 1..=tip).map(|height| body(height, "x"))).await;
    eventually("they have left the memory", async || {
        let status = live.status().await;
        status["tip_height"] == tip && status["first_height"].as_u64() > Some(count as u64)
    })
    .await;
    eventually("it is known where the stream begins", async || {
        live.status().await["broker_first_height"] == 1
    })
    .await;
    let mut client = Client::connect(&from_first(&live)).await;
    assert_eq!(client.texts(count).await, events, "read back");
    let deep = live.metric("blockcast_resumes_total{outcome=\"deep\"}").await;
    let invalid = live.metric("blockcast_deliveries_total{outcome=\"invalid\"}").await;
    assert_eq!((deep, invalid), (1.0, 0.0));
    live.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_unpacked_is_dead_lettered_packed_and_told_by_name() {
    let config = small_memory();
    let letters = Letters::of(Broker::shared(), config.amqp.dead_letter.exchange.as_deref()).await;
    let replica = Replica::start_ready(&config).await;
    let mut client = Client::connect(&replica.url("valid_transactions")).await;
    let producer = AmqpClient::connect(&Broker::shared().uri()).await;
    let good = gzip(&body(1, "x"));
    let mut trailed = good.clone();
    trailed.extend(b"garbage");
    let bomb = gzip(&vec![b' '; 20 << 20]);
    let cases = [
        (encoded(bomb, "gzip"), "too_large", "unpacks to more than 32768 bytes"),
        (encoded(good[..good.len() - 3].to_vec(), "gzip"), "corrupt_encoding", "cut off"),
        (encoded(trailed, "gzip"), "corrupt_encoding", "bytes behind its end"),
        (encoded(body(1, "x"), "gzip"), "corrupt_encoding", "damaged"),
        (encoded(good.clone(), "br"), "unknown_encoding", "\"br\""),
        (section(map()), "amqp_value", "type 0xc1"),
        (plain(good), "not_utf8", "begins like gzip"),
    ];
    for (due, (message, reason, detail)) in (1..).zip(cases) {
        let counted = format!("blockcast_dead_letters_total{{reason=\"{reason}\"}}");
        let found = format!("blockcast_decode_errors_total{{kind=\"{reason}\"}}");
        let before = (replica.metric(&counted).await, replica.metric(&found).await);
        producer.publish_with(&config.amqp.exchange, [message.clone()]).await;
        publish(&config, [body(due, "x")]).await;
        assert_eq!(client.text().await, event(due, "x"), "after {reason}");
        let letter = letters.take().await;
        assert!(letter.body == message.0, "{reason}: the body is untouched");
        assert_eq!(letter.header("x-blockcast-reason").as_deref(), Some(reason));
        let told = letter.header("x-blockcast-detail").expect("a detail");
        assert!(told.contains(detail), "{told}");
        let kept = (letter.properties.content_encoding(), letter.properties.kind());
        assert_eq!(kept, (message.1.content_encoding(), message.1.kind()));
        assert_eq!(replica.status().await["last_rejected"]["reason"], reason);
        let after = (replica.metric(&counted).await, replica.metric(&found).await);
        assert_eq!(after, (before.0 + 1.0, before.1 + 1.0), "{reason}");
    }
    replica.stop().await.expect("drained");
}
