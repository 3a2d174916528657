//! Reading on a connection of its own, while the stream is suspected of entries that the broker cannot
//! hand over: what they end is nobody else's. A prefetch of 1 has everything before them come.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::poll_once;
use lapin::Acker;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use super::link::{Bounds, Link, MESSAGE_WITHIN, Message, ReadError};
use crate::amqp::consumer::{self, Consumer, ConsumerEnd, ConsumerStart, Consuming, ProbeError};
use crate::amqp::keeper::Keeper;
use crate::amqp::request::settle_up_to;
use crate::amqp::unreadable::look::{first_unreadable, look};
use crate::amqp::unreadable::proof::ProofLook;
use crate::amqp::unreadable::prover::{ProverAnswer, Question};

/// Until it is asked again what lies behind an unreadable entry at the stream's end.
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// Messages from a place on, over what cannot be read.
pub struct Apart {
    link: Arc<Link>,
    /// Of each consumer, one after the other.
    keeper: Arc<Keeper>,
    next_offset: u64,
    /// The offset that was told to be readable, until it has been read.
    told: Option<u64>,
    state: ApartState,
}

enum ApartState {
    Opening(ApartOpening),
    Open(Box<Open>),
    /// For the proof of what lies at the next offset.
    Waiting(oneshot::Receiver<ProverAnswer>),
    Resting {
        until: Instant,
    },
}

/// Kept from one call to the next, since a caller may wait for less time than a broker takes.
type ApartOpening = Pin<Box<dyn Future<Output = Result<Open, ProbeError>> + Send>>;

struct Open {
    keeper: Arc<Keeper>,
    consumer: Consumer,
    /// The last message not acked.
    unacked: Option<Acker>,
}

impl Apart {
    pub fn from(link: &Arc<Link>, offset: u64) -> Result<Self, ReadError> {
        let next_offset = link.unreadable.behind(offset).unwrap_or(offset);
        let keeper = Arc::new(link.keeper_apart()?);
        let state = ApartState::Opening(open(link, &keeper, next_offset));
        Ok(Self { link: Arc::clone(link), keeper, next_offset, told: None, state })
    }

    /// As [`super::Messages::next`].
    pub async fn next(&mut self) -> Result<Message, ReadError> {
        loop {
            match &mut self.state {
                ApartState::Opening(opening) => match opening.await {
                    Ok(open) => self.state = ApartState::Open(Box::new(open)),
                    Err(error) => self.meet(&error)?,
                },
                ApartState::Open(open) => match open.next(&self.link).await {
                    Ok(message) => {
                        self.told = None;
                        self.next_offset = message.offset + 1;
                        return Ok(message);
                    }
                    Err(error) => self.meet(&error)?,
                },
                ApartState::Waiting(answer) => match answer.await {
                    Ok(ProverAnswer::Readable(offset)) => {
                        self.told = Some(offset);
                        self.next_offset = offset;
                        self.open();
                    }
                    Ok(ProverAnswer::Silent) => {
                        self.state = ApartState::Resting { until: Instant::now() + AGAIN_AFTER };
                    }
                    Ok(ProverAnswer::Failed(reason)) => {
                        return Err(self.failed(ReadError::Lost(reason)));
                    }
                    Err(_) => return Err(self.failed(ReadError::Lost("reading back ends".into()))),
                },
                ApartState::Resting { until } => {
                    sleep_until(*until).await;
                    self.ask()?;
                }
            }
        }
    }

    fn open(&mut self) {
        self.state = ApartState::Opening(open(&self.link, &self.keeper, self.next_offset));
    }

    /// What one broker cannot hand over, the next may, so that comes next, whatever the proof says.
    fn meet(&mut self, error: &ProbeError) -> Result<(), ReadError> {
        if !error.is_unreadable() {
            return Err(self.failed(ReadError::of(error)));
        }
        self.link.unreadable.set_met();
        self.keeper.move_on();
        if self.told.is_some() {
            // What was just seen is not there now.
            return Err(self.failed(ReadError::of(error)));
        }
        self.ask()
    }

    fn ask(&mut self) -> Result<(), ReadError> {
        let (answer, answered) = oneshot::channel();
        let question = Question { from: self.next_offset, answer };
        if self.link.questions.try_send(question).is_err() {
            return Err(self.failed(ReadError::Lost("too many wait for proofs".into())));
        }
        self.state = ApartState::Waiting(answered);
        Ok(())
    }

    /// Begins again where it was, should anybody ask for more.
    fn failed(&mut self, error: ReadError) -> ReadError {
        self.told = None;
        self.open();
        error
    }
}

impl Open {
    async fn next(&mut self, link: &Link) -> Result<Message, ProbeError> {
        let next = match poll_once(self.consumer.next()).await {
            Some(next) => next,
            None => {
                if let Some(acker) = self.unacked.take() {
                    settle_up_to(&acker).await;
                }
                tokio::select! {
                    next = self.consumer.next() => next,
                    () = link.precedence.feed_searching() => {
                        self.keeper.close().await;
                        return Err(ConsumerEnd::Cancelled.into());
                    }
                }
            }
        };
        let message = next?;
        let acker = message.acker.clone();
        let message = Message::of(message).ok_or(ProbeError::NotAStream)?;
        self.unacked = Some(acker);
        Ok(message)
    }
}

/// Where the stream begins and ends, as far as it can be read.
pub async fn bounds(link: &Arc<Link>) -> Result<Option<Bounds>, ReadError> {
    let keeper = link.keeper_apart()?;
    let looks = async {
        let connection = keeper.connection().await?;
        let within = consumer::first_within(consumer::count(&connection, &link.queue).await?);
        let first = match look(&keeper, &link.queue, ConsumerStart::First, within).await? {
            ProofLook::Read(first) => Ok(first),
            ProofLook::Silent => return Ok(None),
            ProofLook::Unreadable => Err(first_unreadable(&keeper, &link.queue).await?),
        };
        let last = look(&keeper, &link.queue, ConsumerStart::LastChunk, MESSAGE_WITHIN).await?;
        Ok(Some((first, last)))
    };
    let looked = looks.await.map_err(|error: ProbeError| ReadError::of(&error));
    keeper.close().await;
    let Some((first, last)) = looked? else { return Ok(None) };
    if first.is_err() || last == ProofLook::Unreadable {
        link.unreadable.set_met();
    }
    let first = match first {
        Ok(first) => first,
        Err(unreadable) => Apart::from(link, unreadable)?.next().await?.offset,
    };
    let last = match last {
        ProofLook::Read(last) => last,
        ProofLook::Silent => first,
        ProofLook::Unreadable => link.unreadable.last_taken().unwrap_or(first),
    };
    Ok(Some(Bounds { first, last: last.max(first) }))
}

/// A consumer at this offset, over another connection than the last one.
fn open(link: &Arc<Link>, keeper: &Arc<Keeper>, offset: u64) -> ApartOpening {
    let (link, keeper) = (Arc::clone(link), Arc::clone(keeper));
    Box::pin(async move {
        drop(keeper.take());
        let connection = keeper.connection().await?;
        let start = Some(ConsumerStart::Offset(offset));
        let consuming = Consuming { queue: &link.queue, prefetch: 1, start };
        let consumer = Consumer::open(&connection, consuming).await?;
        Ok(Open { keeper, consumer, unacked: None })
    })
}
