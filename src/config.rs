//! Everything an operator can set: names, units, bounds and defaults.
//!
//! The layers are read by [`Config::load`]: the defaults here, a TOML file, the environment, flags.
//! A key that is not named here is refused. Connects to nothing.

mod auth;
mod bounds;
mod broker_uri;
mod brokers;
mod environment;
mod error;
mod keys;
mod listen;
mod load;
mod names;
mod network;
mod origin;
mod value;
mod warning;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

pub use auth::{Auth, Jwt, JwtAlgorithm};
pub use broker_uri::{AmqpUri, BrokerUri, Mechanism, UriDoubt, UriError};
pub use error::ConfigError;
pub use keys::{Layers, Rank};
pub use listen::Listen;
pub use network::Network;
pub use origin::{AllowedOrigin, Origin};
pub use value::{Argument, Hold};
pub use warning::Warning;

/// `queue` mode: how long a block may wait, for the height below it or to be believed, and so stay
/// unacked. RabbitMQ closes the channel of a delivery that is not acked for `consumer_timeout`, 30 minutes
/// by default, and looks once a minute. A third of that leaves room for what else may hold it up.
pub const QUEUE_UNACKED_MAX: Duration = Duration::from_mins(10);

/// Of the configuration file and of a file of URIs. More is not read: no such file is meant.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The whole configuration, checked.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub amqp: Amqp,
    pub blocks: Blocks,
    pub history: HistoryConfig,
    pub server: ServerConfig,
    pub admin: Admin,
    pub log: Log,
}

/// Where block-commit messages come from.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Amqp {
    /// Brokers, tried in turn, every address of each.
    pub uris: Vec<AmqpUri>,
    /// A file with a URI per line, instead of `uris`, which then hold what was in it.
    #[serde(with = "value::optional")]
    pub uris_file: Option<PathBuf>,
    pub exchange: String,
    pub exchange_type: ExchangeType,
    pub binding_keys: Vec<String>,
    /// Whether exchanges and queues are declared and bound; otherwise they must exist.
    pub declare: bool,
    /// Deliveries the broker may have under way to us, 1 to 65,535.
    pub prefetch: u16,
    #[serde(with = "value::duration")]
    pub heartbeat: Duration,
    /// How long without a broker until the replica says that it is not ready.
    #[serde(with = "value::duration")]
    pub unready_after: Duration,
    /// How long without a message until it is looked up whether there is one.
    #[serde(with = "value::duration")]
    pub quiet_after: Duration,
    pub tls: AmqpTls,
    pub queue: Queue,
    pub dead_letter: DeadLetterConfig,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ExchangeType {
    Topic,
    Direct,
    Fanout,
    Headers,
}

/// PEM files for `amqps` URIs.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct AmqpTls {
    /// Certificates to trust instead of the system's.
    #[serde(with = "value::optional")]
    pub ca: Option<PathBuf>,
    /// Our own certificate chain, with `key`.
    #[serde(with = "value::optional")]
    pub certificate: Option<PathBuf>,
    #[serde(with = "value::optional")]
    pub key: Option<PathBuf>,
    /// The name that brokers' certificates must have, instead of the URI's host.
    #[serde(with = "value::optional")]
    pub server_name: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Queue {
    pub mode: QueueMode,
    /// None for the mode's own name; see [`Queue::resolved_name`].
    #[serde(with = "value::optional")]
    pub name: Option<String>,
    /// RabbitMQ's `x-max-age`: a number and one of Y, M, D, h, m, s.
    pub max_age: String,
    /// The oldest messages go above this size, of a stream by whole segments.
    #[serde(with = "value::size")]
    pub max_length_bytes: ByteSize,
    /// Retention works by whole segments of this size.
    #[serde(with = "value::size")]
    pub segment_bytes: ByteSize,
    /// `queue` mode: how long the queue outlives its last consumer.
    #[serde(with = "value::duration")]
    pub expires: Duration,
    /// `queue` mode: whether the queue stays when its replica ends in good order. What is published until
    /// the replica returns under the same name is then not missed.
    pub keep: bool,
    /// Messages read back from the tail before clients are taken.
    pub warm_up: u64,
    /// Further arguments of the declaration; they win over those made from the keys above.
    pub arguments: BTreeMap<String, Argument>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum QueueMode {
    /// One RabbitMQ stream, read by every replica independently.
    Stream,
    /// One durable classic queue per replica.
    Queue,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeadLetterConfig {
    /// The exchange, and the name of the queue bound to it; none turns dead letters off.
    #[serde(with = "value::optional")]
    pub exchange: Option<String>,
}

/// What a block is, and in what order blocks may come.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Blocks {
    pub dialect: Dialect,
    pub heights: Heights,
    /// How long a height waits for a missing one before it.
    pub hold: Hold,
    /// Blocks that wait are dropped into the stream, with a gap, above this many bytes.
    #[serde(with = "value::size")]
    pub hold_bytes: ByteSize,
    /// A height further above the tip than this is not believed at once.
    pub jump_max: u64,
    /// The largest message body.
    #[serde(with = "value::size")]
    pub max_bytes: ByteSize,
}

/// Whose event shape is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// One `asset_id` per event.
    Bigchaindb,
    /// A list, `asset_ids`, per event.
    Planetmint,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Heights {
    /// Every height has a block; one that does not come is a gap.
    Dense,
    /// The producer leaves out empty blocks: nothing is held, there are no gaps.
    Sparse,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct HistoryConfig {
    /// All that the blocks in memory may take.
    #[serde(with = "value::size")]
    pub max_bytes: ByteSize,
    /// All that encodings of them may take which only some clients want.
    #[serde(with = "value::size")]
    pub encodings_max_bytes: ByteSize,
    /// Clients served from the RabbitMQ stream at a time, for what has left the memory; others wait. None: what
    /// has left is not to be had.
    pub deep_reads: usize,
}

/// The HTTP and WebSocket side.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    pub listen: Listen,
    /// `ws` or `wss`; with host and port, what the API root says instead of the request's own.
    #[serde(with = "value::optional")]
    pub advertised_scheme: Option<String>,
    #[serde(with = "value::optional")]
    pub advertised_host: Option<String>,
    #[serde(with = "value::optional")]
    pub advertised_port: Option<u16>,
    /// Sessions at once.
    pub max_connections: usize,
    /// Connections at once from one IPv4 address or one IPv6 /64; 0 for no limit.
    pub max_connections_per_address: usize,
    /// Requests for a stream from one IPv4 address or one IPv6 /64, five seconds' worth at once; 0 for
    /// no limit.
    pub handshakes_per_second: u32,
    /// For a TLS handshake, and again for a request's head.
    #[serde(with = "value::duration")]
    pub handshake_timeout: Duration,
    pub tls: ServerTls,
    #[serde(with = "value::duration")]
    pub ping_interval: Duration,
    #[serde(with = "value::duration")]
    pub pong_timeout: Duration,
    /// Silence after which clients with control messages, and those of Server-Sent Events, are told
    /// how far they are.
    #[serde(with = "value::duration")]
    pub heartbeat_interval: Duration,
    #[serde(with = "value::duration")]
    pub write_stall_timeout: Duration,
    /// The largest request's head: its first line and its headers.
    #[serde(with = "value::size")]
    pub head_max_bytes: ByteSize,
    /// The largest message a client may send (it is skipped).
    #[serde(with = "value::size")]
    pub max_message_bytes: ByteSize,
    /// The kernel's send buffer per connection (`SO_SNDBUF`).
    #[serde(with = "value::size")]
    pub send_buffer_bytes: ByteSize,
    /// Web pages that may open a stream; none, or `*`, for all.
    pub allowed_origins: Vec<AllowedOrigin>,
    pub auth: Auth,
    /// Proxies whose word of their clients is believed: `X-Forwarded-*`, `Forwarded`, the PROXY protocol.
    pub trusted_proxies: Vec<Network>,
    /// Query parameters to pass over in silence.
    pub ignored_parameters: Vec<String>,
    /// After SIGTERM: how long new clients are still taken.
    #[serde(with = "value::duration")]
    pub drain_delay: Duration,
    /// After that: over how long the sessions are closed.
    #[serde(with = "value::duration")]
    pub drain: Duration,
}

/// PEM files for TLS on `server.listen`; both, or neither for plain connections. They are read again
/// when they change.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerTls {
    /// The server's certificate, then those that lead to its authority.
    #[serde(with = "value::optional")]
    pub certificate: Option<PathBuf>,
    #[serde(with = "value::optional")]
    pub key: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// A second listener, to which `/metrics` moves.
    #[serde(with = "value::optional")]
    pub listen: Option<Listen>,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    pub format: LogFormat,
    /// A level or `tracing` directives, such as `info,blockcast=debug`.
    pub level: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    Auto,
    Text,
    Json,
}

impl HistoryConfig {
    /// What one block may keep: half, so that the newest is never all there is. Every replica of a chain
    /// must come to the same, or one streams a block that another takes for bad input.
    pub fn block_bytes_max(&self) -> u64 {
        self.max_bytes.as_u64() / 2
    }
}

impl Queue {
    /// The queue's name on the broker: `{hostname}` is replaced by this machine's name.
    pub fn resolved_name(&self) -> String {
        let name = match (&self.name, self.mode) {
            (Some(name), _) => name,
            (None, QueueMode::Stream) => "blockcast.blocks",
            (None, QueueMode::Queue) => "blockcast.{hostname}",
        };
        let hostname = hostname::get().map(|name| name.to_string_lossy().into_owned());
        name.replace("{hostname}", hostname.as_deref().unwrap_or("localhost"))
    }
}

impl Default for Amqp {
    fn default() -> Self {
        Self {
            uris: vec![AmqpUri::local()],
            uris_file: None,
            exchange: "bigchaindb".into(),
            exchange_type: ExchangeType::Topic,
            binding_keys: vec!["block.#".into()],
            declare: true,
            prefetch: 32,
            heartbeat: Duration::from_secs(10),
            unready_after: Duration::from_secs(60),
            quiet_after: Duration::from_secs(60),
            tls: AmqpTls::default(),
            queue: Queue::default(),
            dead_letter: DeadLetterConfig::default(),
        }
    }
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            mode: QueueMode::Stream,
            name: None,
            max_age: "7D".into(),
            max_length_bytes: ByteSize::gib(2),
            segment_bytes: ByteSize::mb(20),
            expires: Duration::from_secs(24 * 60 * 60),
            keep: false,
            warm_up: 10_000,
            arguments: BTreeMap::new(),
        }
    }
}

impl Default for DeadLetterConfig {
    fn default() -> Self {
        Self { exchange: Some("blockcast.dead".into()) }
    }
}

impl Default for Blocks {
    fn default() -> Self {
        Self {
            dialect: Dialect::Bigchaindb,
            heights: Heights::Dense,
            hold: Hold::For(Duration::from_secs(1)),
            hold_bytes: ByteSize::mib(64),
            jump_max: 1_000,
            max_bytes: ByteSize::mib(16),
        }
    }
}

impl Default for HistoryConfig {
    fn default() -> Self {
        Self {
            max_bytes: ByteSize::mib(256),
            encodings_max_bytes: ByteSize::mib(64),
            deep_reads: 4,
        }
    }
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: Listen::everywhere(9985),
            advertised_scheme: None,
            advertised_host: None,
            advertised_port: None,
            max_connections: 10_000,
            max_connections_per_address: 0,
            handshakes_per_second: 0,
            handshake_timeout: Duration::from_secs(5),
            tls: ServerTls::default(),
            ping_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(10),
            heartbeat_interval: Duration::from_secs(15),
            write_stall_timeout: Duration::from_secs(30),
            head_max_bytes: ByteSize::kib(64),
            max_message_bytes: ByteSize::kib(64),
            send_buffer_bytes: ByteSize::kib(256),
            allowed_origins: Vec::new(),
            auth: Auth::default(),
            trusted_proxies: Vec::new(),
            ignored_parameters: Vec::new(),
            drain_delay: Duration::from_secs(5),
            drain: Duration::from_secs(20),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Auto, level: "info".into() }
    }
}
