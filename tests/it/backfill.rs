//! Reading back from a RabbitMQ stream what a replica's memory has not, as a session would.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use blockcast::amqp::Reader;
use blockcast::backfill::{Backfill, BackfillParts};
use blockcast::config::{AmqpUri, Config};
use blockcast::history::{Entries, Entry};
use blockcast::metrics::Metrics;
use blockcast::tickets::{Claim, Ticket, TicketState, Tickets};
use bytesize::ByteSize;
use tokio::task::{JoinHandle, block_in_place};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::support::broker::Broker;
use crate::support::chain::{body, event, publish};
use crate::support::eventually::eventually;
use crate::support::replica::{Replica, config};

/// For whatever a test waits for; far above what it takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// The backfill of a replica, alone.
struct Running {
    tickets: Arc<Tickets>,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

/// A cursor on a ticket's history, as a session is one.
struct Cursor {
    ticket: Ticket,
    next_height: u64,
    /// Blocks, and gaps as ranges.
    read: Vec<(u64, u64)>,
}

impl Running {
    fn start(config: &Config) -> Self {
        let log = tracing_subscriber::fmt().with_env_filter("blockcast=debug").with_test_writer();
        let _set_already = log.try_init();
        let (tickets, queue) = Tickets::new();
        let (tickets, metrics) = (Arc::new(tickets), Arc::new(Metrics::new()));
        let parts = BackfillParts {
            blocks: config.blocks.clone(),
            encoded_bytes_max: config.history.block_bytes_max(),
            turns_max: config.history.deep_reads,
            tickets: Arc::clone(&tickets),
            queue,
            metrics: Arc::clone(&metrics),
        };
        let (reader, dialer) = Reader::new(Arc::new(config.amqp.clone())).expect("configured");
        let shutdown = CancellationToken::new();
        let ends = shutdown.clone();
        let task = tokio::spawn(async move {
            tokio::select! {
                () = Backfill::new(parts, reader).run(ends) => {}
                () = dialer.run() => {}
            }
        });
        Self { tickets, metrics, shutdown, task }
    }

    fn read(&self, from_height: u64) -> Cursor {
        let ticket = self.tickets.issue(from_height, claim()).expect("a stream");
        Cursor { ticket, next_height: from_height, read: Vec::new() }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        timeout(PATIENCE, self.task).await.expect("it ends in time").expect("no panic");
    }
}

impl Cursor {
    /// Reads until `height` has come, or tells the state in which nothing more comes.
    async fn until(&mut self, height: u64) -> Result<(), TicketState> {
        let reading = async {
            while self.next_height <= height {
                self.turn().await?;
            }
            Ok(())
        };
        timeout(PATIENCE, reading).await.expect("read in time")
    }

    async fn turn(&mut self) -> Result<(), TicketState> {
        let mut moved = self.ticket.history.watch(blockcast::history::RequiredEncodings::NONE);
        let mut entries = Entries::new();
        let cursor = self.ticket.history.live_cursor().at(self.next_height);
        let read = self.ticket.history.entries_from(cursor, 1 << 18, &mut entries);
        match (read, self.ticket.state()) {
            (Ok(_), _) if !entries.is_empty() => {
                for entry in &entries {
                    if let Entry::Block(cached) = entry {
                        let payload = String::from_utf8_lossy(cached.block.payload(0));
                        assert_eq!(payload, event(cached.block.height, "a"));
                    }
                    let from = entry.first_height().max(self.next_height);
                    self.read.push((from, entry.last_height()));
                    self.next_height = entry.last_height() + 1;
                }
                self.ticket.progress(self.next_height);
            }
            (_, TicketState::Waiting | TicketState::Reading) => moved.moved().await,
            (_, state) => return Err(state),
        }
        Ok(())
    }

    async fn state(&self, wanted: TicketState) {
        let mut moved = self.ticket.history.watch(blockcast::history::RequiredEncodings::NONE);
        let waiting = async {
            while self.ticket.state() != wanted {
                moved.moved().await;
            }
        };
        timeout(PATIENCE, waiting).await.expect("it gets there");
    }
}

fn claim() -> Claim {
    Claim::of(Ipv4Addr::LOCALHOST.into())
}

/// A stream of small segments and its name.
fn small_segments(broker: &Broker) -> Config {
    let mut config = config(broker);
    config.amqp.queue.segment_bytes = ByteSize::kb(100);
    config
}

fn bodies(heights: impl IntoIterator<Item = u64>) -> impl Iterator<Item = Vec<u8>> {
    heights.into_iter().map(|height| body(height, "a"))
}

fn blocks(heights: std::ops::Range<u64>) -> Vec<(u64, u64)> {
    heights.map(|height| (height, height)).collect()
}

#[tokio::test]
async fn readings_from_any_height_get_every_block_once_in_order() {
    const BLOCKS: u64 = 5_000;
    let config = small_segments(Broker::shared());
    publish(&config, bodies(0..BLOCKS)).await;
    let running = Running::start(&config);
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for from_height in [0, 1, BLOCKS - 1, random.u64(..BLOCKS), random.u64(..BLOCKS)] {
        let began = Instant::now();
        let mut cursor = running.read(from_height);
        cursor.until(from_height).await.expect("read");
        let first = began.elapsed();
        cursor.until(BLOCKS - 1).await.expect("read");
        println!("from {from_height}: first after {first:?}, all after {:?}", began.elapsed());
        assert_eq!(cursor.read, blocks(from_height..BLOCKS), "from {from_height}");
    }
    assert_eq!(running.tickets.first_height(), Some(0));
    // More than run at a time, at once.
    let many = (0..6).map(|_| running.read(random.u64(..BLOCKS)));
    let many = many.map(|mut cursor| {
        tokio::spawn(async move {
            let from_height = cursor.next_height;
            cursor.until(BLOCKS - 1).await.expect("read");
            assert_eq!(cursor.read, blocks(from_height..BLOCKS), "from {from_height}");
        })
    });
    for cursor in many.collect::<Vec<_>>() {
        cursor.await.expect("read");
    }
    running.stop().await;
}

#[tokio::test]
async fn copies_of_two_producers_are_read_as_one_chain() {
    let config = small_segments(Broker::shared());
    let copies = (0..3_000u64).flat_map(|height| [Some(height), height.checked_sub(40)]);
    publish(&config, bodies(copies.flatten())).await;
    let running = Running::start(&config);
    for from_height in [0, 39, 1_234, 2_959] {
        let mut cursor = running.read(from_height);
        cursor.until(2_999).await.expect("read");
        assert_eq!(cursor.read, blocks(from_height..3_000), "from {from_height}");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_gap_is_told_and_its_late_block_comes_in_its_place() {
    let config = small_segments(Broker::shared());
    // Height 500 never comes; 900 comes after 50 others; what follows 1,000 is the stream's end.
    let chain = (0..500).chain(501..900).chain(901..951).chain([900]).chain(951..1_000);
    publish(&config, bodies(chain.chain([1_001]))).await;
    let running = Running::start(&config);
    let mut cursor = running.read(450);
    cursor.until(1_001).await.expect("read");
    let mut expected = blocks(450..1_002);
    assert_eq!(expected[50], (500, 500));
    expected[551] = (1_001, 1_001);
    assert_eq!(cursor.read, expected, "a gap is a range of one");
    assert_eq!(running.metrics.deep_read_blocks.get(), 550, "all but 500 and 1,000");
    running.stop().await;
}

#[tokio::test]
async fn what_retention_took_is_not_available_and_the_first_height_is_told() {
    let mut config = config(Broker::shared());
    config.amqp.queue.segment_bytes = ByteSize::kb(20);
    config.amqp.queue.max_length_bytes = ByteSize::kb(100);
    publish(&config, bodies(0..3_000)).await;
    let running = Running::start(&config);
    let asked = async || match running.read(0).until(0).await {
        Ok(()) => 0,
        Err(TicketState::NotAvailable { first_height: Some(first_height) }) => first_height,
        Err(state) => panic!("{state:?}"),
    };
    eventually("the broker trimmed the stream", async || asked().await > 1_000).await;
    let first_height = asked().await;
    assert_eq!(running.tickets.first_height(), Some(first_height));
    let mut cursor = running.read(first_height);
    cursor.until(2_999).await.expect("read");
    assert_eq!(cursor.read, blocks(first_height..3_000));
    let gone = running.read(first_height - 1).until(first_height).await;
    assert_eq!(gone, Err(TicketState::NotAvailable { first_height: Some(first_height) }));
    running.stop().await;
}

#[tokio::test]
async fn a_missing_or_an_empty_stream_has_nothing() {
    let config = config(Broker::shared());
    let nothing = TicketState::NotAvailable { first_height: None };
    let running = Running::start(&config);
    assert_eq!(running.read(0).until(0).await, Err(nothing), "missing");
    publish(&config, []).await;
    assert_eq!(running.read(0).until(0).await, Err(nothing), "empty");
    publish(&config, bodies(7..9)).await;
    eventually("the first height is known", async || running.tickets.first_height() == Some(7))
        .await;
    running.stop().await;
}

#[tokio::test]
async fn a_reader_that_reads_nothing_gives_its_turn_to_the_next() {
    let mut config = small_segments(Broker::shared());
    config.history.deep_reads = 1;
    publish(&config, bodies(0..6_000)).await;
    let running = Running::start(&config);
    let mut idle = running.read(0);
    idle.state(TicketState::Reading).await;
    let mut next = running.read(10);
    next.until(5_999).await.expect("its turn came");
    assert_eq!(idle.until(5_999).await, Err(TicketState::GivenUp));
    drop(next);
    let mut again = running.read(idle.next_height);
    again.until(5_999).await.expect("read");
    assert_eq!([idle.read, again.read].concat(), blocks(0..6_000));
    running.stop().await;
}

#[tokio::test]
async fn a_broker_killed_in_mid_read_is_waited_for() {
    let broker = Broker::start_own();
    let config = small_segments(&broker);
    publish(&config, bodies(0..5_000)).await;
    let running = Running::start(&config);
    let mut cursor = running.read(100);
    cursor.until(1_000).await.expect("read");
    broker.kill();
    // What was read already still comes; then it waits.
    cursor.state(TicketState::Waiting).await;
    broker.restart();
    cursor.until(4_999).await.expect("read");
    assert_eq!(cursor.read, blocks(100..5_000));
    running.stop().await;
}

#[tokio::test]
async fn no_broker_at_all_is_waited_for_and_ended_promptly() {
    let mut config = config(Broker::shared());
    config.amqp.uris = vec![AmqpUri::new("amqp://127.0.0.1:1")];
    let running = Running::start(&config);
    let waiting = running.read(0);
    eventually("it has its turn", async || running.metrics.deep_reads.get() == 1).await;
    assert_eq!(waiting.ticket.state(), TicketState::Waiting);
    drop(waiting);
    eventually("its turn is over", async || running.metrics.deep_reads.get() == 0).await;
    running.stop().await;
}

#[tokio::test]
async fn a_replica_says_what_the_broker_still_has() {
    let config = config(Broker::shared());
    publish(&config, bodies(5..20)).await;
    let replica = Replica::start_ready(&config).await;
    eventually("it is looked up", async || replica.status().await["broker_first_height"] == 5)
        .await;
    assert_eq!(replica.metric("blockcast_deep_reads").await, 0.0);
    replica.stop().await.expect("drained");
    let mut off = config.clone();
    off.history.deep_reads = 0;
    let replica = Replica::start_ready(&off).await;
    assert!(replica.status().await["broker_first_height"].is_null());
    replica.stop().await.expect("drained");
    let mut queue = config.clone();
    queue.amqp.queue.mode = blockcast::config::QueueMode::Queue;
    queue.amqp.queue.name = Some(crate::support::broker::unique("queue"));
    let replica = Replica::start_ready(&queue).await;
    assert!(replica.status().await["broker_first_height"].is_null());
    replica.stop().await.expect("drained");
}

/// Whoever reads gives up waiting now and then, for example to look whether others want its turn.
#[tokio::test]
async fn a_reader_that_gives_up_waiting_at_any_time_still_gets_every_message() {
    const MESSAGES: u64 = 500;
    let config = config(Broker::shared());
    publish(&config, (1..=MESSAGES).map(|height| body(height, "x"))).await;
    let (reader, dialer) = Reader::new(Arc::new(config.amqp)).expect("a configuration");
    let dialing = tokio::spawn(dialer.run());
    let mut messages = reader.read_from(0).await.expect("the stream");
    let mut offsets = Vec::new();
    eventually("the last message", async || {
        // Polled once each time, wherever it is.
        while let Ok(message) = timeout(Duration::ZERO, messages.next()).await {
            offsets.push(message.expect("the broker is there").offset);
        }
        offsets.last() == Some(&(MESSAGES - 1))
    })
    .await;
    assert_eq!(offsets, Vec::from_iter(0..MESSAGES));
    drop(messages);
    reader.close().await;
    dialing.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_goes_at_whatever_moment_leaves_no_channel_behind() {
    const GOES: u64 = 400;
    const CHANNELS_MAX: u64 = 20;
    let broker = Broker::shared();
    let config = small_segments(broker);
    publish(&config, bodies(0..500)).await;
    let running = Running::start(&config);
    let mut cursor = running.read(0);
    cursor.until(499).await.expect("read");
    drop(cursor);
    for number in 0..GOES {
        let ticket = running.tickets.issue(number % 500, claim()).expect("a stream");
        // From before its turn begins to after its first blocks.
        tokio::time::sleep(Duration::from_micros(100 * number)).await;
        drop(ticket);
    }
    // Other tests' connections are among them: none has more than some readings' at a time.
    eventually("no connection has channels left over", async || {
        let channels = block_in_place(|| broker.rabbitmqctl(&["list_connections", "channels"]));
        let most = channels.lines().filter_map(|line| line.trim().parse::<u64>().ok()).max();
        println!("{most:?} channels at most");
        most.is_some_and(|most| most <= CHANNELS_MAX)
    })
    .await;
    running.stop().await;
}
