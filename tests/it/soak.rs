//! Load and faults at random for as long as one likes: by default some seconds, `make soak` half an
//! hour. Two replicas, one of which lives through all of it and must not grow, the other with TLS; a
//! broker behind links that are harmed; clients that misbehave beside clients that must not notice.
//!
//! What happens is drawn from a seed, which is printed; when it happens also depends on the machine.

mod rude;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use blockcast::client::Builder;
use bytesize::ByteSize;
use rustls::ALL_VERSIONS;
use tokio::task::{JoinHandle, block_in_place};

use crate::support::alarms::{ALARMS, publishers_are_blocked};
use crate::support::broker::Broker;
use crate::support::certificates::Authority;
use crate::support::eventually::eventually;
use crate::support::load::{Followed, Pace, Producer, all_have_the_chain, follow_as};
use crate::support::ports;
use crate::support::process::Process;
use crate::support::proxy::{Harm, Proxy};
use crate::support::replica::config;
use rude::{Entrance, misbehave};

/// In `make test`.
const SECONDS: u64 = 20;
const CLIENTS: usize = 40;
const PACE: Pace = Pace { blocks: 2, every: Duration::from_millis(100) };
/// Blocks that pass until a fault is mended, at most; a stalled link is not yet half-open then.
const FAULT_BLOCKS_MAX: u64 = 60;
/// A link is half-open after two of these, a second longer than such a stall.
const HEARTBEAT: Duration = Duration::from_secs(2);
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
    /// Of the other's certificate.
    authority: Authority,
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
        config.amqp.heartbeat = HEARTBEAT;
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
            config.server.listen = SocketAddr::from(([127, 0, 0, 1], port)).into();
            config
        };
        let [first_port, second_port] = ports::free();
        let producer = Producer::start(&config, PACE);
        let steady = Process::start_ready(&through(&links[0], first_port)).await;
        let authority = Authority::new();
        authority.install(&authority.issue(3000));
        let mut other_config = through(&links[1], second_port);
        other_config.server.tls = authority.tls();
        // Where it is asked how it is.
        other_config.admin.listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)).into());
        let other = Some(Process::start_ready(&other_config).await);
        let happened = BTreeMap::new();
        Self { broker, links, steady, other, other_config, authority, producer, random, happened }
    }

    fn entrances(&self) -> [Entrance; 2] {
        let tls = Some(self.authority.client(ALL_VERSIONS));
        [
            Entrance { address: self.steady.address, tls: None },
            Entrance { address: self.other_config.server.listen.addresses()[0], tls },
        ]
    }

    /// As many at each entrance.
    fn clients(&self) -> Vec<JoinHandle<Followed>> {
        let client = |entrance: &Entrance| {
            let scheme = if entrance.tls.is_some() { "wss" } else { "ws" };
            let url = format!("{scheme}://{}/api/v1/streams/valid_transactions", entrance.address);
            let asked = Builder::new(&url).expect("a URL").ca_file(self.authority.file("ca.pem"));
            tokio::spawn(follow_as(asked))
        };
        self.entrances().iter().cycle().take(CLIENTS).map(client).collect()
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
            "broker alarm" => self.raise_alarm(link).await,
            "link cut" => self.links[link].cut(),
            "link stalled" => {
                self.links[link].harm(Harm::Stalled);
                self.producer.confirms(blocks).await;
                self.links[link].harm(Harm::Whole);
            }
            "link half-open" => self.half_open(link).await,
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

    /// Nothing passes, not even an end, until the heartbeat has told the replica.
    async fn half_open(&self, link: usize) {
        self.connected_is(link, 1.0).await;
        self.links[link].harm(Harm::Swallowed);
        self.connected_is(link, 0.0).await;
        self.links[link].harm(Harm::Whole);
        self.links[link].cut();
    }

    /// The broker takes nothing more, and a replica has to attach again meanwhile.
    async fn raise_alarm(&mut self, link: usize) {
        let alarm = self.random.choice(&ALARMS).expect("two");
        alarm.raise(&self.broker).await;
        publishers_are_blocked(&self.broker).await;
        self.connected_is(link, 1.0).await;
        let reconnects = async || self.behind(link).metric("blockcast_amqp_reconnects_total").await;
        let before = reconnects().await;
        self.links[link].cut();
        eventually("it is not the same connection", async || reconnects().await > before).await;
        self.connected_is(link, 1.0).await;
        alarm.clear(&self.broker);
    }

    async fn connected_is(&self, link: usize, connected: f64) {
        eventually("the broker is lost or found", async || {
            self.behind(link).metric("blockcast_amqp_connected").await == connected
        })
        .await;
    }

    /// The replica whose link this is; not while it is killed.
    fn behind(&self, link: usize) -> &Process {
        match link {
            0 => &self.steady,
            _ => self.other.as_ref().expect("it runs"),
        }
    }

    async fn usage(&self) -> Usage {
        Usage {
            resident_bytes: self.steady.metric("process_resident_memory_bytes").await,
            descriptors: self.steady.metric("process_open_fds").await,
        }
    }
}

const FAULTS: [&str; 8] = [
    "broker alarm",
    "link cut",
    "link stalled",
    "link half-open",
    "link corrupted",
    "replica killed",
    "replica drained",
    "replica stopped",
];

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
    let clients = world.clients();
    let rude: Vec<JoinHandle<()>> =
        (0..4).map(|place| tokio::spawn(misbehave(world.entrances(), seed ^ place))).collect();
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
