//! What the bridge itself adds: from a block's publication until a WebSocket client has it, beside a
//! bare consumer of the same RabbitMQ stream, of the same blocks.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{Channel, Connection, ConnectionProperties, Consumer};
use tokio::net::TcpStream;

use super::blocks::Blocks;
use super::frames::Frames;
use super::load::Greeting;
use super::service::{STREAM, Service};

pub const INTERVAL: Duration = Duration::from_millis(50);
const BLOCKS: usize = 200;
/// Not counted: connections and caches get warm.
const WARM_UP: usize = 20;
/// The service's own.
const PREFETCH: u16 = 32;

/// Medians, from a block's publication.
pub struct Latency {
    pub bare: Duration,
    pub client: Duration,
    /// How much later the client had a block than the bare consumer; below none if it was earlier.
    pub more_ms: f64,
}

pub async fn measure(service: &Service) -> anyhow::Result<Latency> {
    let (_connection, channel, mut consumer) = consume(service).await?;
    let mut client = TcpStream::connect(service.address).await?;
    Greeting::to(STREAM).greet(&mut client).await?;
    let mut frames = Frames::default();
    let (mut bare, mut through, mut more_ms) = (Vec::new(), Vec::new(), Vec::new());
    let mut interval = tokio::time::interval(INTERVAL);
    for (number, body) in Blocks::of(1).take(WARM_UP + BLOCKS).enumerate() {
        interval.tick().await;
        let published_at = Instant::now();
        let delivered_at = RefCell::new(None);
        let publish = async {
            service.publish(body).await;
            anyhow::Ok(())
        };
        let deliver = async {
            let delivery = consumer.next().await.expect("it goes on")?;
            delivered_at.replace(Some(Instant::now()));
            channel.basic_ack(delivery.delivery_tag, BasicAckOptions::default()).await?;
            anyhow::Ok(())
        };
        let receive = async {
            frames.receive(&client, number + 1).await?;
            anyhow::Ok(Instant::now())
        };
        let ((), (), received_at) = tokio::try_join!(publish, deliver, receive)?;
        let delivered_at = delivered_at.take().expect("it was delivered");
        if number >= WARM_UP {
            bare.push(delivered_at - published_at);
            through.push(received_at - published_at);
            let since = |at: Instant| (at - published_at).as_secs_f64();
            more_ms.push((since(received_at) - since(delivered_at)) * 1e3);
        }
    }
    bare.sort();
    through.sort();
    more_ms.sort_by(f64::total_cmp);
    let middle = BLOCKS / 2;
    Ok(Latency { bare: bare[middle], client: through[middle], more_ms: more_ms[middle] })
}

/// From the next message on.
async fn consume(service: &Service) -> anyhow::Result<(Connection, Channel, Consumer)> {
    let connection =
        Connection::connect(service.broker_uri(), ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.basic_qos(PREFETCH, BasicQosOptions { global: false }).await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-stream-offset".into(), AMQPValue::LongString(LongString::from("next")));
    let options = BasicConsumeOptions::default();
    let queue = service.queue().into();
    let consumer = channel.basic_consume(queue, "bare".into(), options, arguments).await?;
    Ok((connection, channel, consumer))
}
