//! What tests do at the broker beside the program under test, and the source as tests run it.

use std::sync::Arc;
use std::time::Duration;

use blockcast::amqp::{Delivery, Input, Signs, Source, SourceError, SourceLink};
use blockcast::config;
use blockcast::metrics::Metrics;
use blockcast::readiness::Readiness;
use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions,
    QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Connection, ConnectionProperties, ExchangeKind};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::broker::{Broker, unique};

/// For whatever a test waits for; far above what it takes.
const PATIENCE: Duration = Duration::from_secs(40);

/// A connection with a channel in confirm mode.
pub struct Client {
    connection: Connection,
    pub channel: lapin::Channel,
}

/// A source that runs, and what it says.
pub struct Running {
    pub inputs: mpsc::Receiver<Input>,
    pub link: SourceLink,
    pub metrics: Arc<Metrics>,
    pub readiness: Arc<Readiness>,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), SourceError>>,
}

/// The defaults, at this broker, with names of their own.
pub fn config(broker: &Broker) -> config::Amqp {
    let mut config = config::Amqp {
        uris: vec![config::AmqpUri::new(broker.uri())],
        exchange: unique("exchange"),
        ..config::Amqp::default()
    };
    config.queue.name = Some(unique("queue"));
    config.dead_letter.exchange = Some(unique("dead"));
    config
}

impl Client {
    pub async fn connect(uri: &str) -> Self {
        let connection = Connection::connect(uri, ConnectionProperties::default()).await;
        let connection = connection.expect("connected");
        let channel = connection.create_channel().await.expect("a channel");
        let options = ConfirmSelectOptions { nowait: false };
        channel.confirm_select(options).await.expect("confirm mode");
        Self { connection, channel }
    }

    /// Publishes each body and waits until all are confirmed.
    pub async fn publish(&self, exchange: &str, bodies: impl IntoIterator<Item = String>) {
        let properties = BasicProperties::default().with_content_type("text/x-block".into());
        let messages = bodies.into_iter().map(|body| (body.into_bytes(), properties.clone()));
        self.publish_with(exchange, messages).await;
    }

    /// The same with properties of their own.
    pub async fn publish_with(
        &self,
        exchange: &str,
        messages: impl IntoIterator<Item = (Vec<u8>, BasicProperties)>,
    ) {
        // A channel of its own: RabbitMQ 4.3.6 confirms what a channel publishes to a queue that it still
        // takes for the deleted one of that name, and loses it.
        let channel = self.connection.create_channel().await.expect("a channel");
        let options = ConfirmSelectOptions { nowait: false };
        channel.confirm_select(options).await.expect("confirm mode");
        let mut confirms = Vec::new();
        for (body, properties) in messages {
            let options = BasicPublishOptions { mandatory: true, immediate: false };
            let (exchange, key) = (exchange.into(), "block.valid".into());
            let confirm = channel.basic_publish(exchange, key, options, &body, properties).await;
            confirms.push(confirm.expect("sent"));
        }
        for confirm in confirms {
            let confirmation = confirm.await.expect("confirmed");
            assert!(confirmation.is_ack() && confirmation.take_message().is_none(), "routed");
        }
        channel.close(200, "published".into()).await.expect("closed");
    }

    /// Publishes each body and waits until all are confirmed, whether a queue has them or not.
    pub async fn publish_unrouted(&self, exchange: &str, bodies: impl IntoIterator<Item = String>) {
        for body in bodies {
            let options = BasicPublishOptions { mandatory: false, immediate: false };
            let key = "block.valid".into();
            let properties = BasicProperties::default();
            let sent = self.channel.basic_publish(
                exchange.into(),
                key,
                options,
                body.as_bytes(),
                properties,
            );
            assert!(sent.await.expect("sent").await.expect("confirmed").is_ack());
        }
    }

    /// How many messages a queue has; none if there is no such queue.
    pub async fn count(&self, queue: &str) -> Option<u32> {
        let channel = self.connection.create_channel().await.expect("a channel");
        let passive = QueueDeclareOptions { passive: true, ..Default::default() };
        let found = channel.queue_declare(queue.into(), passive, FieldTable::default()).await;
        Some(found.ok()?.message_count())
    }

    /// Whether there is such an exchange: the broker's 404 says that there is none.
    pub async fn has_exchange(&self, exchange: &str) -> bool {
        let channel = self.connection.create_channel().await.expect("a channel");
        let passive = ExchangeDeclareOptions { passive: true, ..Default::default() };
        let (kind, table) = (ExchangeKind::Topic, FieldTable::default());
        is_there(channel.exchange_declare(exchange.into(), kind, passive, table).await)
    }

    /// Whether there is such a queue.
    pub async fn has_queue(&self, queue: &str) -> bool {
        let channel = self.connection.create_channel().await.expect("a channel");
        let passive = QueueDeclareOptions { passive: true, ..Default::default() };
        is_there(channel.queue_declare(queue.into(), passive, FieldTable::default()).await)
    }

    pub async fn declare_exchange(&self, exchange: &str) {
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let table = FieldTable::default();
        let kind = ExchangeKind::Topic;
        let declared = self.channel.exchange_declare(exchange.into(), kind, options, table).await;
        declared.expect("declared");
    }

    /// A durable queue with these arguments, bound to the exchange for everything.
    pub async fn declare_queue(&self, queue: &str, exchange: &str, arguments: &[(&str, &str)]) {
        let mut table = FieldTable::default();
        for (name, value) in arguments {
            table.insert((*name).into(), AMQPValue::LongString((*value).into()));
        }
        let options = QueueDeclareOptions { durable: true, ..Default::default() };
        let declared = self.channel.queue_declare(queue.into(), options, table).await;
        declared.expect("declared");
        let options = QueueBindOptions { nowait: false };
        let table = FieldTable::default();
        let bound =
            self.channel.queue_bind(queue.into(), exchange.into(), "#".into(), options, table);
        bound.await.expect("bound");
    }

    pub async fn declare_stream(&self, config: &config::Amqp) {
        self.declare_exchange(&config.exchange).await;
        let queue = config.queue.resolved_name();
        self.declare_queue(&queue, &config.exchange, &[("x-queue-type", "stream")]).await;
    }

    pub async fn delete_queue(&self, queue: &str) {
        let deleted = self.channel.queue_delete(queue.into(), QueueDeleteOptions::default());
        deleted.await.expect("deleted");
    }

    /// Takes the next message of a queue that is no stream.
    pub async fn get(&self, queue: &str) -> Option<lapin::message::Delivery> {
        let options = BasicGetOptions { no_ack: true };
        let message = self.channel.basic_get(queue.into(), options).await.expect("answered");
        message.map(|message| message.delivery)
    }
}

impl Running {
    pub fn start(config: &config::Amqp) -> Self {
        // Shown with a test that fails.
        let log = tracing_subscriber::fmt().with_env_filter("blockcast=debug").with_test_writer();
        let _set_already = log.try_init();
        let metrics = Arc::new(Metrics::new());
        let readiness = Arc::new(Readiness::new(Duration::from_secs(60)));
        let signs = Signs {
            metrics: Arc::clone(&metrics),
            readiness: Arc::clone(&readiness),
            operator_status: Arc::default(),
        };
        let (source, link) = Source::new(Arc::new(config.clone()), signs);
        let (sender, inputs) = mpsc::channel(1);
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(source.run(sender, shutdown.clone()));
        Self { inputs, link, metrics, readiness, shutdown, task }
    }

    pub async fn next(&mut self) -> Input {
        let input = timeout(PATIENCE, self.inputs.recv()).await.expect("an input in time");
        match input {
            Some(input) => input,
            None => panic!("the source ended: {:?}", (&mut self.task).await),
        }
    }

    pub async fn begin(&mut self) -> bool {
        match self.next().await {
            Input::Begin { from_first } => from_first,
            other => panic!("{other:?} instead of Begin"),
        }
    }

    pub async fn caught_up(&mut self) {
        let input = self.next().await;
        assert!(matches!(input, Input::CaughtUp), "{input:?} instead of CaughtUp");
    }

    pub async fn delivery(&mut self) -> Delivery {
        match self.next().await {
            Input::Delivery(delivery) => delivery,
            other => panic!("{other:?} instead of a delivery"),
        }
    }

    pub async fn anew(&mut self) {
        let input = self.next().await;
        assert!(matches!(input, Input::Anew), "{input:?} instead of Anew");
    }

    /// The last delivery again.
    pub async fn echo(&mut self, offset: u64) {
        match self.next().await {
            Input::Echo(mut echo) => {
                assert_eq!(echo.offset, Some(offset));
                echo.settle().await;
            }
            other => panic!("{other:?} instead of an echo"),
        }
    }

    /// Takes and settles exactly these bodies, in this order.
    pub async fn takes(&mut self, bodies: impl IntoIterator<Item = String>) {
        for body in bodies {
            let mut delivery = self.delivery().await;
            assert_eq!(String::from_utf8_lossy(&delivery.body), body);
            delivery.settle().await;
        }
    }

    /// The same, with [`Input::CaughtUp`] once: before, among or behind them, as the tail was when
    /// it was looked up.
    pub async fn takes_and_catches_up(&mut self, bodies: impl IntoIterator<Item = String>) {
        let mut caught_up = 0;
        for body in bodies {
            let mut input = self.next().await;
            if matches!(input, Input::CaughtUp) {
                caught_up += 1;
                input = self.next().await;
            }
            let Input::Delivery(mut delivery) = input else {
                panic!("{input:?} instead of a delivery")
            };
            assert_eq!(String::from_utf8_lossy(&delivery.body), body);
            delivery.settle().await;
        }
        if caught_up == 0 {
            self.caught_up().await;
            caught_up += 1;
        }
        assert_eq!(caught_up, 1);
    }

    /// Tells it to end, and expects that it does so at once.
    pub async fn stop(self) {
        self.shutdown.cancel();
        let ended = timeout(Duration::from_secs(5), self.task).await.expect("it ends promptly");
        ended.expect("no panic").expect("no error");
    }

    /// Waits until it gives up by itself.
    pub async fn gives_up(mut self) -> SourceError {
        let ended = timeout(PATIENCE, async {
            while self.inputs.recv().await.is_some() {}
            self.task.await
        });
        ended.await.expect("it gives up").expect("no panic").expect_err("an error")
    }
}

/// What a look-up found.
fn is_there<T>(answer: lapin::Result<T>) -> bool {
    match answer {
        Ok(_) => true,
        Err(error) if error.to_string().contains("NOT_FOUND") => false,
        Err(error) => panic!("{error} instead of an answer"),
    }
}

/// Waits until it holds.
pub async fn eventually(holds: impl Fn() -> bool) {
    let polling = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, polling).await.expect("it holds in time");
}

pub fn bodies(heights: std::ops::Range<u64>) -> impl Iterator<Item = String> {
    heights.map(|height| format!("block {height}"))
}
