//! One replica between a broker and its clients, without either: what happens is drawn, a step at a
//! time.

mod ending;
mod messages;
mod visits;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytesize::ByteSize;
use fastrand::Rng;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::{Instant, advance};
use tokio_util::sync::CancellationToken;

use super::chain::Chain;
use super::client::Client;
use super::pipe::Stamp;
use super::tally::Tally;
use crate::amqp::{DeadLetters, Input, Source};
use crate::archive::Archive;
use crate::config::{self, Config, Hold};
use crate::history::{Cursor, History};
use crate::metrics::Metrics;
use crate::notices::Notices;
use crate::pipeline::{Parts, Pipeline};
use crate::readiness::Readiness;
use crate::server::simulated::Surroundings;
use crate::shutdown::Drain;
use messages::{Queued, Sent};

const CLIENTS_MAX: usize = 12;
/// For ever, as far as a world lasts.
const FOR_EVER: Duration = Duration::from_secs(1_000_000);

pub struct World {
    random: Rng,
    step: Arc<AtomicU64>,
    history: Arc<History>,
    around: Arc<Surroundings>,
    inputs: mpsc::Sender<Input>,
    pipeline: JoinHandle<()>,
    encoder: JoinHandle<()>,
    shutdown: CancellationToken,
    _source: Source,
    /// How long a block waits for those below it.
    hold: Duration,
    /// Whether a block may wait though the time has passed.
    waits_for_ever: bool,
    chains: Vec<Chain>,
    /// The one that the history is of, and a cursor that is too.
    current: usize,
    of_current: Cursor,
    /// What the broker has and the replica has not asked for yet.
    queue: VecDeque<Queued>,
    /// What the pipeline has not taken yet.
    sent: Option<(Sent, Instant)>,
    is_warming: bool,
    next_height: u64,
    /// Heights that nobody has published, though higher ones were.
    missing: Vec<u64>,
    clients: Vec<Client>,
    pub tally: Tally,
}

impl World {
    pub fn new(mut random: Rng) -> Self {
        let hold = match random.u8(0..8) {
            0 => Hold::For(Duration::ZERO),
            1 => Hold::Forever,
            _ => Hold::For(Duration::from_millis(random.u64(1..3_000))),
        };
        let mut config = Config::default();
        config.amqp.dead_letter.exchange = None;
        config.blocks.hold = hold;
        // Little: then memory decides what waits, at any time.
        let is_short = random.u8(0..5) == 0;
        if is_short {
            config.blocks.hold_bytes = ByteSize::b(random.u64(1_000..20_000));
        }
        let waits_for_ever = hold == Hold::Forever;
        let hold = match hold {
            _ if is_short => Duration::ZERO,
            Hold::For(hold) => hold,
            Hold::Forever => FOR_EVER,
        };
        let history = Arc::new(History::new(match random.bool() {
            true => random.usize(1..40_000),
            false => random.usize(100_000..1_000_000),
        }));
        let metrics = Arc::new(Metrics::new());
        let around = Arc::new(Surroundings {
            limits: config::Server::default(),
            history: Arc::clone(&history),
            archive: Arc::new(Archive::none()),
            metrics: Arc::clone(&metrics),
            drain: Arc::new(Drain::default()),
        });
        let amqp = Arc::new(config.amqp);
        let readiness = Arc::new(Readiness::new(FOR_EVER));
        let (source, link) =
            Source::new(Arc::clone(&amqp), Arc::clone(&metrics), Arc::clone(&readiness));
        let pipeline = Pipeline::new(Parts {
            blocks: config.blocks,
            queue_mode: amqp.queue.mode,
            queue_name: "simulated".to_owned(),
            encoded_bytes_max: 1 << 30,
            link,
            dead_letters: Arc::new(DeadLetters::new(amqp)),
            history: Arc::clone(&history),
            metrics,
            readiness,
            notices: Arc::new(Notices::default()),
        });
        let shutdown = CancellationToken::new();
        let (inputs, taken) = mpsc::channel(1);
        let pipeline = tokio::spawn(pipeline.run(taken, shutdown.clone()));
        let encoder = tokio::spawn(encode(Arc::clone(&history), random.fork()));
        let of_current = history.live_cursor();
        let mut world = Self {
            random,
            step: Arc::new(AtomicU64::new(1)),
            history,
            around,
            inputs,
            pipeline,
            encoder,
            shutdown,
            _source: source,
            hold,
            waits_for_ever,
            chains: Vec::new(),
            current: 0,
            of_current,
            queue: VecDeque::new(),
            sent: None,
            is_warming: true,
            next_height: 0,
            missing: Vec::new(),
            clients: Vec::new(),
            tally: Tally::default(),
        };
        world.begin_chain();
        world
    }

    /// One thing happens, and what follows from it begins to.
    pub async fn step(&mut self) {
        self.tally.steps += 1;
        match self.random.u16(0..1_000) {
            0..120 => self.publish(),
            120..400 => self.deliver(),
            400..750 => self.read().await,
            750..830 => self.pass_time().await,
            830..870 => self.come(),
            870..885 => self.leave(),
            885..910 => self.stall(),
            910..950 => self.speak(),
            950..980 => self.fill(),
            980..999 => self.disturb(),
            _ => self.reset_chain(),
        }
        let turns = [0, 1, 1, 2, 3, 8][self.random.usize(0..6)];
        for _ in 0..turns {
            yield_now().await;
        }
        self.look();
    }

    /// Lets everyone catch up, and looks whether anything is lost.
    pub async fn end(mut self) -> Tally {
        self.settle().await;
        self.check_history();
        self.check_clients();
        self.clients.clear();
        self.encoder.abort();
        self.shutdown.cancel();
        (&mut self.pipeline).await.expect("the pipeline did not panic");
        self.tally
    }

    async fn pass_time(&mut self) {
        let time = match self.random.u8(0..100) {
            0..60 => Duration::from_millis(self.random.u64(0..50)),
            60..90 => Duration::from_millis(self.random.u64(50..2_000)),
            90..99 => Duration::from_secs(self.random.u64(2..10)),
            _ => Duration::from_secs(self.random.u64(10..40)),
        };
        advance(time).await;
    }

    /// Takes note of what the replica has done.
    fn look(&mut self) {
        assert!(!self.pipeline.is_finished(), "the pipeline has ended");
        assert!(!self.encoder.is_finished(), "the encoder has ended");
        if self.inputs.capacity() == self.inputs.max_capacity()
            && let Some((Sent::Block { chain, height, hold }, at)) = self.sent.take()
        {
            let sent = Stamp { step: self.step.load(Ordering::Relaxed), at };
            self.chains[chain].take(height, sent, hold);
        }
        if !self.history.is_of(self.of_current) {
            self.current += 1;
            self.chains[self.current].began = Some(self.step.load(Ordering::Relaxed));
            self.of_current = self.history.live_cursor();
        }
        self.step.fetch_add(1, Ordering::Relaxed);
    }

    fn now(&self) -> Stamp {
        Stamp { step: self.step.load(Ordering::Relaxed), at: Instant::now() }
    }
}

/// What [`crate::encoder`] does, here and now: another thread would come at another time with every
/// run.
async fn encode(history: Arc<History>, mut random: Rng) {
    loop {
        let orders = history.next_orders().await;
        for _ in 0..random.u8(0..3) {
            yield_now().await;
        }
        orders.iter().for_each(crate::history::Order::make);
        history.count(orders);
    }
}
