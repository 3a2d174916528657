//! The dead-letter queue as an operator reads it.

use lapin::BasicProperties;
use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};

use super::amqp_client::Client;
use super::broker::Broker;
use super::eventually::eventually;

pub struct Letters {
    client: Client,
    queue: String,
}

pub struct Letter {
    pub body: Vec<u8>,
    pub properties: BasicProperties,
}

impl Letters {
    pub async fn of(broker: &Broker, queue: Option<&str>) -> Self {
        Self::at(&broker.uri(), queue).await
    }

    pub async fn at(uri: &str, queue: Option<&str>) -> Self {
        let queue = queue.expect("dead letters are on").to_owned();
        Self { client: Client::connect(uri).await, queue }
    }

    /// The oldest letter, waited for and taken away.
    pub async fn take(&self) -> Letter {
        eventually("a dead letter", async || self.count().await > 0).await;
        let delivery = self.client.get(&self.queue).await.expect("a letter");
        Letter { body: delivery.data, properties: delivery.properties }
    }

    pub async fn count(&self) -> u32 {
        let passive = QueueDeclareOptions { passive: true, ..Default::default() };
        let queue = self.queue.as_str().into();
        let declared =
            self.client.channel.queue_declare(queue, passive, FieldTable::default()).await;
        declared.expect("the queue is there").message_count()
    }
}

impl Letter {
    /// The body and all headers, as text to be searched.
    pub fn everything(&self) -> String {
        format!("{} {:?}", String::from_utf8_lossy(&self.body), self.properties)
    }

    pub fn header(&self, name: &str) -> Option<String> {
        match self.properties.headers().as_ref()?.inner().get(name)? {
            AMQPValue::LongString(text) => Some(text.to_string()),
            other => panic!("{name} is {other:?}"),
        }
    }
}
