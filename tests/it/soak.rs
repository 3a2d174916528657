//! Load and faults at random for as long as one likes: by default some seconds, `make soak` half an
//! hour. Two replicas, one of which lives through all of it and must not grow; a broker behind links
//! that are harmed; clients that misbehave beside clients that must not notice.
//!
//! What happens is drawn from a seed, which is printed; when it happens also depends on the machine.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, block_in_place};

use crate::broker::Broker;
use crate::faults::proxy::{Harm, Proxy};
use crate::load::{Pace, Producer, all_have_the_chain, followers};
use crate::ports;
use crate::process::Process;
use crate::replica::config;

/// In `make test`.
const SECONDS: u64 = 20;
const CLIENTS: usize = 40;
const PACE: Pace = Pace { blocks: 2, every: Duration::from_millis(100) };
/// Blocks that pass until a fault is mended, at most; a stalled link is not yet half-open then.
const FAULT_BLOCKS_MAX: u64 = 60;
/// A broker comes back after some ten seconds: every so many faults.
const BROKER_EVERY: u64 = 15;
/// Above what a run's first third took, whatever the length: four deep readings of 3 MiB, which may come
/// late, and as much that the allocator keeps of them.
const GROWTH_BYTES_MAX: f64 = 24e6;
/// From here on a run is long: then its typical third is compared too, which the highest reading hides.
const LONG_SECONDS: u64 = 600;
/// Above what a long run's second third took in the median; the first still fills the history and the
/// allocator's arenas.
const DRIFT_BYTES_MAX: f64 = 6e6;
/// The same for descriptors: connections that come and go.
const GROWTH_DESCRIPTORS_MAX: f64 = 60.0;

/// Everything that runs.
struct World {
    broker: Broker,
    /// From each replica to the broker.
    links: [Proxy; 2],
    /// Lives through all of it.
    steady: Process,
    other: Option<Process>,
    other_config: blockcast::config::Config,
    producer: Producer,
    random: fastrand::Rng,
    happened: BTreeMap<&'static str, usize>,
}

/// What the steady replica takes.
#[derive(Debug, Clone, Copy)]
struct Usage {
    resident_bytes: f64,
    descriptors: f64,
}

impl World {
    async fn start(random: fastrand::Rng) -> Self {
        let broker = Broker::start_own();
        let mut config = config(&broker);
        // Full within a minute, so that growth is not the history's.
        config.history.max_bytes = ByteSize::mib(1);
        config.blocks.max_bytes = ByteSize::kib(256);
        config.server.drain = Duration::from_secs(1);
        config.server.drain_delay = Duration::ZERO;
        let target = SocketAddr::from(([127, 0, 0, 1], broker.port()));
        let links = [Proxy::to(target).await, Proxy::to(target).await];
        let through = |link: &Proxy, port: u16| {
            let mut config = config.clone();
            let uri = format!("amqp://guest:guest@{}/%2f", link.address);
            config.amqp.uris = vec![blockcast::config::AmqpUri::new(uri)];
            config.server.listen = SocketAddr::from(([127, 0, 0, 1], port));
            config
        };
        let [first_port, second_port] = ports::free();
        let producer = Producer::start(&config, PACE);
        let steady = Process::start_ready(&through(&links[0], first_port)).await;
        let other_config = through(&links[1], second_port);
        let other = Some(Process::start_ready(&other_config).await);
        let happened = BTreeMap::new();
        Self { broker, links, steady, other, other_config, producer, random, happened }
    }

    fn addresses(&self) -> [SocketAddr; 2] {
        [self.steady.address, self.other_config.server.listen]
    }

    /// Does some harm, lets some blocks pass, and mends it.
    async fn suffer(&mut self, number: u64) {
        let blocks = self.random.u64(1..FAULT_BLOCKS_MAX);
        let link = self.random.usize(..2);
        let what = match number % BROKER_EVERY {
            0 => "broker killed",
            _ => *self.random.choice(&FAULTS).expect("one"),
        };
        *self.happened.entry(what).or_default() += 1;
        match what {
            "broker killed" => {
                block_in_place(|| self.broker.kill());
                block_in_place(|| self.broker.restart());
            }
            "link cut" => self.links[link].cut(),
            "link stalled" => {
                self.links[link].harm(Harm::Stalled);
                self.producer.confirms(blocks).await;
                self.links[link].harm(Harm::Whole);
            }
            "link corrupted" => {
                self.links[link].harm(Harm::Misframed);
                self.producer.confirms(blocks).await;
                self.links[link].harm(Harm::Whole);
                self.links[link].cut();
            }
            "replica killed" => {
                self.other.take().expect("it runs").kill().await;
                self.producer.confirms(blocks).await;
                self.other = Some(Process::start_ready(&self.other_config).await);
            }
            "replica drained" => {
                self.other.take().expect("it runs").stop().await;
                self.other = Some(Process::start_ready(&self.other_config).await);
            }
            "replica stopped" => {
                self.steady.signal("STOP").await;
                self.producer.confirms(blocks).await;
                self.steady.signal("CONT").await;
            }
            other => unreachable!("{other}"),
        }
        let confirmed = self.producer.confirms(self.random.u64(1..FAULT_BLOCKS_MAX)).await;
        self.steady.reaches(confirmed).await;
    }

    async fn usage(&self) -> Usage {
        Usage {
            resident_bytes: self.steady.metric("process_resident_memory_bytes").await,
            descriptors: self.steady.metric("process_open_fds").await,
        }
    }
}

const FAULTS: [&str; 6] = [
    "link cut",
    "link stalled",
    "link corrupted",
    "replica killed",
    "replica drained",
    "replica stopped",
];

/// What they ask for: streams, query parameters and headers, and so all that a block is made into.
const ASKED: [(&str, &str); 7] = [
    ("valid_transactions?from_height=oldest", UPGRADE),
    ("valid_transactions?from_height=oldest&control=true&batch=block", UPGRADE),
    ("valid_transactions?from_height=oldest", DEFLATE),
    ("valid_transactions?operation=CREATE", UPGRADE),
    ("valid_blocks?from_height=oldest", UPGRADE),
    ("valid_transactions?from_height=oldest", "Accept: text/event-stream"),
    // Below the history of a megabyte: from the RabbitMQ stream.
    ("valid_transactions?from_height=1", UPGRADE),
];
const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==";
const DEFLATE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
                       Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover";

/// Clients as nobody wants them, one after the other, until it is aborted.
async fn misbehave(addresses: [SocketAddr; 2], seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut kept = std::collections::VecDeque::new();
    loop {
        let address = *random.choice(&addresses).expect("two");
        let Ok(mut client) = TcpStream::connect(address).await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (stream, headers) = random.choice(&ASKED).expect("some");
        let whole =
            format!("GET /api/v1/streams/{stream} HTTP/1.1\r\nHost: x\r\n{headers}\r\n\r\n");
        let request = match random.u8(..8) {
            0 => &whole[..random.usize(..whole.len())],
            1 => "\x16\x03\x01 this is no HTTP\r\n\r\n",
            _ => &whole,
        };
        let _ = client.write_all(request.as_bytes()).await;
        let mut some = vec![0; random.usize(16..4_096)];
        let _ = tokio::time::timeout(Duration::from_millis(100), client.read(&mut some)).await;
        assert!(request != whole || !some.starts_with(b"HTTP/1.1 400"), "refused: {whole}");
        match random.u8(..4) {
            // Rubbish in the place of a frame.
            0 => drop(client.write_all(&[0xff; 64]).await),
            // Gone with a reset: there is something unread.
            1 => drop(client),
            // Never reads again.
            _ => kept.push_back(client),
        }
        if kept.len() > 20 {
            kept.pop_front();
        }
    }
}

/// In megabytes.
fn median_resident(usages: &[Usage]) -> f64 {
    let mut all: Vec<_> = usages.iter().map(|usage| usage.resident_bytes / 1e6).collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_clients_get_the_chain_and_a_replica_does_not_grow() {
    let number = |name: &str, default: u64| match std::env::var(name) {
        Ok(value) => value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")),
        Err(_) => default,
    };
    let seconds = number("BLOCKCAST_SOAK_SECONDS", SECONDS);
    let seed = number("BLOCKCAST_SOAK_SEED", fastrand::u64(..));
    println!("BLOCKCAST_SOAK_SEED={seed}, {seconds} seconds");
    let mut world = World::start(fastrand::Rng::with_seed(seed)).await;
    let urls = world
        .addresses()
        .map(|address| format!("ws://{address}/api/v1/streams/valid_transactions"));
    let clients = followers(&urls, CLIENTS);
    let rude: Vec<JoinHandle<()>> =
        (0..4).map(|place| tokio::spawn(misbehave(world.addresses(), seed ^ place))).collect();
    let began = Instant::now();
    let until = began + Duration::from_secs(seconds);
    let mut usages = Vec::new();
    let mut faults = 0;
    while Instant::now() < until {
        faults += 1;
        world.suffer(faults).await;
        usages.push(world.usage().await);
        if faults % 20 == 0 {
            println!(
                "{} s: {faults} faults, {} blocks, {:.1} MB",
                began.elapsed().as_secs(),
                world.producer.confirmed(),
                usages[usages.len() - 1].resident_bytes / 1e6
            );
        }
    }
    for rude in rude {
        rude.abort();
        assert!(
            rude.await.expect_err("it has no end").is_cancelled(),
            "it is as rude as it should be"
        );
    }
    let World { steady, other, producer, happened, .. } = world;
    let last = producer.end().await;
    let followed = all_have_the_chain(clients, last).await;
    let connections: usize = followed.iter().map(|client| client.connected_at.len()).sum();
    let highest =
        |usages: &[Usage], of: fn(&Usage) -> f64| usages.iter().map(of).fold(0.0, f64::max);
    let (early, late) = usages.split_at(usages.len().div_ceil(3));
    let resident = [early, late].map(|usages| highest(usages, |usage| usage.resident_bytes));
    let descriptors = [early, late].map(|usages| highest(usages, |usage| usage.descriptors));
    println!(
        "{} s, seed {seed}: {last} blocks to {CLIENTS} clients over {connections} connections; \
         {happened:?}; resident at most {:.1} MB in the first third, {:.1} MB after; descriptors {} and {}",
        began.elapsed().as_secs(),
        resident[0] / 1e6,
        resident[1] / 1e6,
        descriptors[0],
        descriptors[1],
    );
    assert!(resident[1] <= resident[0] + GROWTH_BYTES_MAX, "memory grows: {resident:?}");
    let medians: Vec<_> = usages.chunks(usages.len().div_ceil(3)).map(median_resident).collect();
    println!("resident in the median of each third: {medians:.1?} MB");
    if seconds >= LONG_SECONDS {
        assert!(medians[2] * 1e6 <= medians[1] * 1e6 + DRIFT_BYTES_MAX, "memory drifts");
    }
    assert!(
        descriptors[1] <= descriptors[0] + GROWTH_DESCRIPTORS_MAX,
        "descriptors grow: {descriptors:?}"
    );
    assert_eq!(steady.metric("blockcast_missing_blocks_total").await, 0.0);
    for replica in [Some(steady), other].into_iter().flatten() {
        replica.stop().await;
    }
}
