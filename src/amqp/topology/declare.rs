//! Single declarations, each on a channel of its own.

use lapin::options::{
    ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, ExchangeKind};

use crate::amqp::connection::Connection;
use crate::amqp::request::{BrokerError, Request, request};

pub struct Binding<'a> {
    pub queue: &'a ShortString,
    pub exchange: &'a ShortString,
    pub key: &'a ShortString,
}

pub async fn declare_exchange(
    connection: &Connection,
    exchange: &ShortString,
    kind: ExchangeKind,
) -> Result<(), BrokerError> {
    let channel = connection.channel().await?;
    let options = ExchangeDeclareOptions {
        passive: false,
        durable: true,
        auto_delete: false,
        internal: false,
        nowait: false,
    };
    let asked = || Request {
        doing: format!("declaring exchange {:?}", exchange.as_str()),
        needs: "`configure` for the exchange",
    };
    let answer = channel.exchange_declare(exchange.clone(), kind, options, FieldTable::default());
    request(asked, answer).await?;
    close(channel).await
}

pub async fn declare_queue(
    connection: &Connection,
    queue: &ShortString,
    arguments: FieldTable,
) -> Result<(), BrokerError> {
    let channel = connection.channel().await?;
    let options = QueueDeclareOptions {
        passive: false,
        durable: true,
        exclusive: false,
        auto_delete: false,
        nowait: false,
    };
    let asked = || Request {
        doing: format!("declaring queue {:?}", queue.as_str()),
        needs: "`configure` for the queue",
    };
    request(asked, channel.queue_declare(queue.clone(), options, arguments)).await?;
    close(channel).await
}

pub async fn bind(connection: &Connection, binding: Binding<'_>) -> Result<(), BrokerError> {
    let Binding { queue, exchange, key } = binding;
    let channel = connection.channel().await?;
    let asked = || Request {
        doing: format!("binding queue {:?} to exchange {:?}", queue.as_str(), exchange.as_str()),
        needs: "`write` for the queue and `read` for the exchange",
    };
    let answer = channel.queue_bind(
        queue.clone(),
        exchange.clone(),
        key.clone(),
        QueueBindOptions { nowait: false },
        FieldTable::default(),
    );
    request(asked, answer).await?;
    close(channel).await
}

pub async fn delete_queue(connection: &Connection, queue: &ShortString) -> Result<(), BrokerError> {
    let channel = connection.channel().await?;
    let options = QueueDeleteOptions { if_unused: false, if_empty: false, nowait: false };
    let asked = || Request {
        doing: format!("deleting queue {:?}", queue.as_str()),
        needs: "`configure` for the queue",
    };
    request(asked, channel.queue_delete(queue.clone(), options)).await?;
    close(channel).await
}

async fn close(channel: Channel) -> Result<(), BrokerError> {
    request(|| "closing a channel".into(), channel.close(200, "declared".into())).await
}
