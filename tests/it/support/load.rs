//! The load that replicas are harmed under: blocks published until the broker has confirmed them,
//! and clients that follow the stream wherever they find it.

use std::time::Duration;

use blockcast::amqp::{PublishError, Publisher};
use blockcast::client::{Builder, Start, StreamMessage};
use blockcast::config::Config;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::chain::id;

/// A client is awaited this long: far above what a broker's restart takes.
const PATIENCE: Duration = Duration::from_secs(240);
/// Blocks have one transaction to so many, so that a loss, a repeat and a new start may fall inside one.
const TRANSACTIONS_MAX: u64 = 5;

/// A block of this load: what tells its transactions apart is their place.
pub fn body(height: u64, tag: &str) -> Vec<u8> {
    let transactions = transactions(height, tag).map(|(_, id)| json!({ "id": id }));
    json!({ "height": height, "transactions": Vec::from_iter(transactions) })
        .to_string()
        .into_bytes()
}

/// Its transactions with their height, in order.
pub fn transactions(height: u64, tag: &str) -> impl Iterator<Item = (u64, String)> {
    let tag = id(height, tag);
    (1..=height % TRANSACTIONS_MAX + 1).map(move |place| (height, format!("{tag}-{place}")))
}

/// Messages of valid_transactions must be those of the load's chain from the first of some block on.
pub fn assert_slice(messages: &[String]) {
    let events = messages.iter().map(|message| {
        let event: serde_json::Value = serde_json::from_str(message).expect("JSON");
        let id = event["transaction_id"].as_str().expect("an id").to_owned();
        (event["height"].as_u64().expect("a height"), id)
    });
    let events = Vec::from_iter(events);
    let first_height = events.first().expect("messages").0;
    let chain = (first_height..).flat_map(|height| transactions(height, "x"));
    assert_eq!(events, Vec::from_iter(chain.take(events.len())), "a slice of the chain");
}

/// One that publishes blocks from height 1 on, each until it is confirmed, over as many connections
/// as it takes.
pub struct Producer {
    stop: CancellationToken,
    confirmed: watch::Receiver<u64>,
    task: JoinHandle<()>,
}

/// How a producer publishes.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Sent before the first confirm is awaited.
    pub blocks: u64,
    /// Between such bursts, at least.
    pub every: Duration,
}

/// What a client got.
#[derive(Debug, Default)]
pub struct Followed {
    pub received: Vec<(u64, String)>,
    pub gaps: Vec<(u64, u64)>,
    /// The last height it had at each connection it made.
    pub connected_at: Vec<u64>,
    /// How many of them were made in the middle of a block.
    pub connected_in_mid_block: usize,
}

impl Producer {
    pub fn start(config: &Config, pace: Pace) -> Self {
        let stop = CancellationToken::new();
        let (told, confirmed) = watch::channel(0);
        let producing = produce(config.clone(), pace, stop.clone(), told);
        Self { stop, confirmed, task: tokio::spawn(producing) }
    }

    /// Waits until `count` blocks more are confirmed than now; returns the height of the last.
    pub async fn confirms(&mut self, count: u64) -> u64 {
        let target = *self.confirmed.borrow() + count;
        let confirmed = self.confirmed.wait_for(|confirmed| *confirmed >= target);
        let confirmed = tokio::time::timeout(PATIENCE, confirmed).await;
        *confirmed.expect("confirmed in time").expect("it goes on")
    }

    /// The height that is confirmed, now.
    pub fn confirmed(&self) -> u64 {
        *self.confirmed.borrow()
    }

    /// Dies where it is, perhaps in the middle of a burst. Returns the last height it saw confirmed.
    pub fn die(self) -> u64 {
        self.task.abort();
        self.confirmed()
    }

    /// Publishes the block that ends the clients too; returns its height.
    pub async fn end(self) -> u64 {
        self.stop.cancel();
        self.task.await.expect("all is published");
        *self.confirmed.borrow()
    }
}

async fn produce(
    config: Config,
    pace: Pace,
    stop: CancellationToken,
    confirmed: watch::Sender<u64>,
) {
    let mut due = tokio::time::interval(pace.every);
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        let Ok(publisher) = Publisher::connect(&config.amqp).await else { continue };
        let is_ended = loop {
            due.tick().await;
            let is_last = stop.is_cancelled();
            let first = *confirmed.borrow() + 1;
            let bodies: Vec<_> = match is_last {
                true => vec![body(first, "end")],
                false => (first..first + pace.blocks).map(|height| body(height, "x")).collect(),
            };
            match burst(&publisher, bodies, &confirmed).await {
                Ok(()) if is_last => break true,
                Ok(()) => {}
                Err(_) => break false,
            }
        };
        publisher.close().await;
        if is_ended {
            return;
        }
    }
}

async fn burst(
    publisher: &Publisher,
    bodies: Vec<Vec<u8>>,
    confirmed: &watch::Sender<u64>,
) -> Result<(), PublishError> {
    let mut confirms = Vec::new();
    for body in bodies {
        confirms.push(publisher.publish(body).await?);
    }
    for confirm in confirms {
        confirm.wait().await?;
        confirmed.send_modify(|height| *height += 1);
    }
    Ok(())
}

/// Follows the stream from its first block until the one that ends it.
pub async fn follow(url: String) -> Followed {
    follow_as(Builder::new(&url).expect("a URL")).await
}

/// The same, with what else is asked for.
pub async fn follow_as(asked: Builder) -> Followed {
    let mut followed = Followed::default();
    let mut stream = asked.start(Start::Height(1)).build().expect("built");
    loop {
        match stream.next().await.expect("nothing that waiting does not mend") {
            Some(StreamMessage::Event(event)) => {
                let event = (event.height, event.transaction_id);
                let is_last = transactions(event.0, "end").last().as_ref() == Some(&event);
                followed.received.push(event);
                if is_last {
                    stream.close().await;
                    return followed;
                }
            }
            Some(StreamMessage::Connected) => {
                let last = followed.received.last();
                followed.connected_at.push(last.map_or(0, |(height, _)| *height));
                let is_in_block = |event: &(u64, String)| {
                    transactions(event.0, "x").last().as_ref() != Some(event)
                };
                followed.connected_in_mid_block += usize::from(last.is_some_and(is_in_block));
            }
            Some(StreamMessage::Gap { from_height, to_height }) => {
                followed.gaps.push((from_height, to_height));
            }
            Some(_) => {}
            None => panic!("nobody ended the stream"),
        }
    }
}

/// Clients at each of these, one after the other.
pub fn followers(urls: &[String], count: usize) -> Vec<JoinHandle<Followed>> {
    urls.iter().cycle().take(count).map(|url| tokio::spawn(follow(url.clone()))).collect()
}

/// Waits for these clients, each of which must have had every block up to `last` once, in order.
pub async fn all_have_the_chain(clients: Vec<JoinHandle<Followed>>, last: u64) -> Vec<Followed> {
    let tag = |height| if height == last { "end" } else { "x" };
    let expected = (1..=last).flat_map(|height| transactions(height, tag(height)));
    let expected = Vec::from_iter(expected);
    let mut all = Vec::new();
    for client in clients {
        let followed = tokio::time::timeout(PATIENCE, client).await;
        let followed = followed.expect("it gets to the end").expect("it did not fail");
        assert_eq!(followed.gaps, [], "nothing is missing");
        assert_eq!(followed.received, expected, "every transaction once, in order");
        all.push(followed);
    }
    all
}
