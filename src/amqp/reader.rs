//! Reading the RabbitMQ stream at places, over a connection of its own that is made when somebody
//! first reads: where it begins and ends, a few messages from a place, all from a place on.
//!
//! While the stream is suspected of entries that the broker cannot hand over, each reading has a
//! connection of its own ([`apart`]).
//!
//! Nothing is settled here that anybody waits for: acks are only credit. What the messages say, and
//! which place is the right one, is decided elsewhere.

mod apart;
mod channels;
mod link;
mod shared;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

use super::consumer::{self, ConsumerStart};
use super::keeper::Keeper;
use super::precedence::Precedence;
use super::source::{SourceError, SourceLink};
use super::topology::Topology;
use super::unreadable::UnreadableEntries;
use super::unreadable::lanes::Lanes;
use super::unreadable::prover::Prover;
use crate::config;
use crate::metrics::Metrics;
use apart::Apart;
pub use link::{Bounds, Message, ReadError};
use link::{Link, MESSAGE_WITHIN};
use shared::Shared;

/// Messages that one look yields at most: a chunk of a quiet stream, and enough that the copies of
/// several producers do not hide the highest of them.
const PEEKED_MAX: usize = 32;
/// Bytes after which a look has seen enough.
const PEEKED_BYTES_MAX: usize = 1 << 20;
/// Questions for proofs that wait. Far above the readings that there are at a time.
const QUESTIONS_MAX: usize = 64;

/// Reads the stream; all who read share one connection, unless they read apart.
#[derive(Clone)]
pub struct Reader {
    link: Arc<Link>,
}

/// Makes the readers' connection, and another when that is lost, and proves what cannot be read.
pub struct Dialer {
    link: Arc<Link>,
    prover: Prover,
}

/// Messages from a place on, until this is dropped.
pub struct Messages(Way);

enum Way {
    Shared(Box<Shared>),
    Apart(Apart),
}

impl Reader {
    /// A reader that waits for no feed, and what connects it.
    ///
    /// # Errors
    /// The configuration must be mended, as [`super::Source::run`] says too.
    pub fn new(config: Arc<config::Amqp>) -> Result<(Self, Dialer), SourceError> {
        let metrics = Arc::new(Metrics::new());
        let unreadable = UnreadableEntries::new(Arc::clone(&metrics), Arc::default());
        Self::after(config, Arc::new(Precedence::none()), (Arc::new(unreadable), metrics))
    }

    /// A reader that connects when the source of this link has, and what connects it.
    ///
    /// # Errors
    /// As those of [`Self::new`].
    pub fn beside(
        config: Arc<config::Amqp>,
        link: &SourceLink,
    ) -> Result<(Self, Dialer), SourceError> {
        let told = (Arc::clone(&link.unreadable), Arc::clone(&link.metrics));
        Self::after(config, Arc::clone(&link.precedence), told)
    }

    fn after(
        config: Arc<config::Amqp>,
        precedence: Arc<Precedence>,
        (unreadable, metrics): (Arc<UnreadableEntries>, Arc<Metrics>),
    ) -> Result<(Self, Dialer), SourceError> {
        let queue = Topology::new(Arc::clone(&config))?.queue().clone();
        let (questions, asked) = mpsc::channel(QUESTIONS_MAX);
        let prover = Prover {
            lanes: Lanes::new(&config, &precedence, queue.clone(), Arc::clone(&unreadable))?,
            precedence: Arc::clone(&precedence),
            questions: asked,
        };
        let keeper = Keeper::beside(Arc::clone(&config), Arc::clone(&precedence))?;
        let link = Arc::new(Link {
            keeper: keeper.counting(Arc::clone(&metrics)),
            config,
            queue,
            precedence,
            unreadable,
            metrics,
            channels: Arc::default(),
            questions,
            wanted: Notify::new(),
            is_unfit: AtomicBool::new(false),
        });
        Ok((Self { link: Arc::clone(&link) }, Dialer { link, prover }))
    }

    /// Where the stream begins and ends; none when it is empty. Waits for a broker as long as it
    /// takes; then 20 to 50 ms, and for an empty stream a second.
    pub async fn bounds(&self) -> Result<Option<Bounds>, ReadError> {
        if self.link.unreadable.is_suspect() {
            return apart::bounds(&self.link).await;
        }
        let connection = self.link.connection().await;
        let look = async {
            let counted = self.link.count(&connection).await?;
            let within = consumer::first_within(counted);
            let Some(first) =
                self.link.offset_at(&connection, ConsumerStart::First, within).await?
            else {
                return Ok(None);
            };
            let last =
                self.link.offset_at(&connection, ConsumerStart::LastChunk, MESSAGE_WITHIN).await?;
            Ok(Some(Bounds { first, last: last.unwrap_or(first) }))
        };
        look.await.map_err(|error| self.link.failed(&connection, error))
    }

    /// The messages from `offset` on: at most [`PEEKED_MAX`], or about a mebibyte; none when there
    /// is none within a few seconds. Takes 14 to 24 ms, and 150 ms more at the stream's end.
    pub async fn peek(&self, offset: u64) -> Result<Vec<Message>, ReadError> {
        let mut messages = self.read_from(offset).await?;
        let (mut seen, mut bytes, mut within) = (Vec::new(), 0, MESSAGE_WITHIN);
        while seen.len() < PEEKED_MAX && bytes < PEEKED_BYTES_MAX {
            let Ok(message) = timeout(within, messages.next()).await else { break };
            let message = message?;
            bytes += message.body.len();
            seen.push(message);
            within = consumer::QUIET;
        }
        Ok(seen)
    }

    /// All messages from `offset` on, or from the first behind it. An offset below the stream's
    /// first begins at that.
    pub async fn read_from(&self, offset: u64) -> Result<Messages, ReadError> {
        if self.link.unreadable.is_suspect() {
            return Ok(Messages(Way::Apart(Apart::from(&self.link, offset)?)));
        }
        Ok(Messages(Way::Shared(Box::new(Shared::from(&self.link, offset).await?))))
    }

    /// Gives the connection up, from which nothing comes any more though it lives: all that is read over it
    /// ends, and the next broker comes first.
    pub fn give_up(&self) {
        if self.link.keeper.take().is_some() {
            self.link.is_unfit.store(true, Ordering::Relaxed);
        }
    }

    /// Says goodbye to the broker, for at most two seconds.
    pub async fn close(&self) {
        self.link.keeper.close().await;
    }
}

impl Dialer {
    /// Connects whenever somebody wants to read and there is no open connection; waits longer from
    /// one failure to the next; lets go when the feed seeks a broker in vain. Never ends by itself.
    pub async fn run(self) {
        let Self { link, prover } = self;
        tokio::select! {
            never = prover.run() => match never {},
            () = link.keep_connected() => {}
        }
    }
}

impl Messages {
    /// The next message. Before it waits for one, everything handed over is acked, since the broker
    /// may be waiting for that. Nothing is waited for once there is one.
    ///
    /// # Errors
    /// No further message comes.
    ///
    /// # Cancel safety
    /// No message is lost when dropped.
    pub async fn next(&mut self) -> Result<Message, ReadError> {
        match &mut self.0 {
            Way::Shared(shared) => shared.next().await,
            Way::Apart(apart) => apart.next().await,
        }
    }
}
