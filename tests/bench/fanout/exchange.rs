//! A publisher to some exchange of a broker, for servers that are not this service.

use lapin::options::{BasicPublishOptions, ExchangeDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};

pub struct Exchange {
    _connection: Connection,
    channel: Channel,
    name: String,
}

impl Exchange {
    /// Declares it: a topic exchange, durable.
    pub async fn declare(uri: &str, name: &str) -> anyhow::Result<Self> {
        let connection = Connection::connect(uri, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let arguments = FieldTable::default();
        channel.exchange_declare(name.into(), ExchangeKind::Topic, options, arguments).await?;
        Ok(Self { _connection: connection, channel, name: name.to_owned() })
    }

    /// Not confirmed, and on no disk.
    pub async fn publish(&self, routing_key: &str, body: &[u8]) -> anyhow::Result<()> {
        let options = BasicPublishOptions::default();
        let properties = BasicProperties::default();
        let sent = self.channel.basic_publish(
            self.name.as_str().into(),
            routing_key.into(),
            options,
            body,
            properties,
        );
        let _unconfirmed = sent.await?;
        Ok(())
    }
}
