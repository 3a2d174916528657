//! One replica after another between a broker and its clients, without either: what happens is drawn, a
//! step at a time.

mod draining;
mod ending;
mod messages;
mod replica;
mod visits;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytesize::ByteSize;
use fastrand::Rng;
use tokio::task::yield_now;
use tokio::time::{Instant, advance};

use super::chain::Chain;
use super::client::Client;
use super::pipe::Stamp;
use super::tally::Tally;
use crate::config::{Blocks, Hold};
use crate::history::Cursor;
use messages::{Queued, Sent};
use replica::{Replica, Settings};

const CLIENTS_MAX: usize = 12;
/// For ever, as far as a world lasts.
const FOR_EVER: Duration = Duration::from_secs(1_000_000);

pub struct World {
    random: Rng,
    step: Arc<AtomicU64>,
    settings: Settings,
    replica: Replica,
    is_draining: bool,
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
    /// What the replica was handed over of this chain's stream: another reads it again.
    stream: Vec<Queued>,
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
        let mut blocks = Blocks { hold, ..Blocks::default() };
        // Little: then memory decides what waits, at any time.
        let is_short = random.u8(0..5) == 0;
        if is_short {
            blocks.hold_bytes = ByteSize::b(random.u64(1_000..20_000));
        }
        let waits_for_ever = hold == Hold::Forever;
        let hold = match hold {
            _ if is_short => Duration::ZERO,
            Hold::For(hold) => hold,
            Hold::Forever => FOR_EVER,
        };
        let settings = Settings {
            blocks,
            history_bytes_max: match random.bool() {
                true => random.usize(1..40_000),
                false => random.usize(100_000..1_000_000),
            },
            // Of one form, of some, of all.
            encodings_bytes_max: [1, random.usize(1_000..20_000), usize::MAX][random.usize(0..3)],
        };
        let replica = Replica::start(&settings, random.fork());
        let of_current = replica.history.live_cursor();
        let mut world = Self {
            random,
            step: Arc::new(AtomicU64::new(1)),
            settings,
            replica,
            is_draining: false,
            hold,
            waits_for_ever,
            chains: Vec::new(),
            current: 0,
            of_current,
            queue: VecDeque::new(),
            stream: Vec::new(),
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
            980..998 => self.disturb(),
            998 => self.drain(),
            _ => self.reset_chain(),
        }
        if self.is_draining && self.random.u8(..) < 2 {
            self.replace().await;
        }
        let turns = [0, 1, 1, 2, 3, 8][self.random.usize(0..6)];
        for _ in 0..turns {
            yield_now().await;
        }
        self.look();
    }

    /// Lets everyone come and catch up, and looks whether anything is lost.
    pub async fn end(mut self) -> Tally {
        if self.is_draining {
            self.replace().await;
        }
        self.come_all();
        self.settle().await;
        self.check_history();
        self.check_clients();
        self.clients.clear();
        self.replica.end().await;
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
        self.replica.check_runs();
        if self.replica.has_taken()
            && let Some((Sent::Block { chain, height, hold }, at)) = self.sent.take()
        {
            let sent = Stamp { step: self.step.load(Ordering::Relaxed), at };
            self.chains[chain].take(height, sent, hold);
        }
        if !self.replica.history.is_of(self.of_current) {
            self.current += 1;
            self.chains[self.current].began = Some(self.step.load(Ordering::Relaxed));
            self.of_current = self.replica.history.live_cursor();
        }
        self.step.fetch_add(1, Ordering::Relaxed);
    }

    fn now(&self) -> Stamp {
        Stamp { step: self.step.load(Ordering::Relaxed), at: Instant::now() }
    }
}
