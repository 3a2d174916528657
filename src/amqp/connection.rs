//! One connection to a broker: every configured URI in turn, every address of each, names resolved
//! anew at each attempt. What is done over a connection, and when to make another, is not here.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lapin::ConnectionProperties;
use lapin::tcp::AsyncTcpStream;
use lapin::uri::{
    AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo, SASLMechanism,
};
use socket2::{SockRef, Socket};
use tokio::time::timeout;

use super::request::reply;
use super::wire::{self, Tally, Wire};
use super::{port, tls};
use crate::config::{self, BrokerUri, Mechanism, UriError};
use crate::metrics::Metrics;

/// For one address: TCP, TLS and AMQP's own handshake, each and all.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// Frames of connections that are many or carry little. The library keeps room for 64 frames of the
/// agreed size, so that a connection takes 1 MiB instead of 8 with RabbitMQ's default of 128 KiB.
const SMALL_FRAME_BYTES: u32 = 16 << 10;
/// For the broker's answer to our goodbye.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// Makes connections.
pub struct Connector {
    config: Arc<config::Amqp>,
    uris: Vec<AMQPUri>,
    /// None: what is mended is not counted.
    metrics: Option<Arc<Metrics>>,
}

/// An open connection. Dropped, its socket is shut down.
pub struct Connection {
    inner: lapin::Connection,
    address: SocketAddr,
    received_bytes: Arc<AtomicU64>,
    _socket: ShutOnDrop,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The number of the URI in `amqp.uris`, from 1: it is not printed, since it holds a password.
    #[error("amqp.uris: number {number}: {source}")]
    Uri { number: usize, source: UriError },
    #[error(transparent)]
    Tls(#[from] tls::BrokerTlsError),
    #[error("no broker is reachable; the last tried: {0}")]
    Unreachable(String),
}

/// A second descriptor of a connection's socket. The library's thread ends when its socket does;
/// without this, one that waits for a broker that accepted and fell silent would wait for ever.
struct ShutOnDrop(Arc<Mutex<SocketSlot>>);

enum SocketSlot {
    Connecting,
    Open(Socket),
    /// Nobody waits any longer: a socket that opens now is closed again.
    Abandoned,
}

impl Connector {
    /// # Errors
    /// A URI is malformed: the configuration must be mended.
    pub fn new(config: Arc<config::Amqp>) -> Result<Self, ConnectError> {
        let uris = config.uris.iter().enumerate().map(|(index, uri)| {
            uri.parse()
                .map(|uri| library_uri(uri, config.heartbeat))
                .map_err(|source| ConnectError::Uri { number: index + 1, source })
        });
        let uris = uris.collect::<Result<Vec<_>, _>>()?;
        Ok(Self { config, uris, metrics: None })
    }

    /// Counts what the connections mend.
    pub fn counting(self, metrics: Arc<Metrics>) -> Self {
        Self { metrics: Some(metrics), ..self }
    }

    /// Asks for small frames, for connections that are many or carry little.
    pub fn with_small_frames(mut self) -> Self {
        for uri in &mut self.uris {
            let asked = uri.query.frame_max.filter(|bytes| *bytes > 0);
            uri.query.frame_max =
                Some(asked.map_or(SMALL_FRAME_BYTES, |bytes| bytes.min(SMALL_FRAME_BYTES)));
        }
        self
    }

    /// Tries every address until one answers, and says which one did. Takes at most five seconds for
    /// each name and address. `first` is the index of the address to begin with, among those of all
    /// URIs, taken modulo their number.
    ///
    /// # Errors
    /// None of them did: the last one's reason. Try again later.
    ///
    /// # Cancel safety
    /// Dropped, the attempt under way is ended and nothing is left open.
    pub async fn connect(&self, first: usize) -> Result<(Connection, usize), ConnectError> {
        let mut failure = "no address".to_owned();
        let mut places = Vec::new();
        for uri in &self.uris {
            let host = uri.authority.host.as_str();
            match timeout(CONNECT_DEADLINE, tokio::net::lookup_host((host, uri.authority.port)))
                .await
            {
                Ok(Ok(addresses)) => places.extend(addresses.map(|address| (uri, address))),
                Ok(Err(error)) => failure = format!("{host}: {error}"),
                Err(_) => failure = format!("{host}: the name is not resolved within 5 s"),
            }
        }
        for step in 0..places.len() {
            let turn = (first % places.len() + step) % places.len();
            let (uri, address) = places[turn];
            match self.connect_to(uri.clone(), address).await {
                Ok(connection) => return Ok((connection, turn)),
                Err(reason) => failure = format!("{address}: {reason}"),
            }
        }
        Err(ConnectError::Unreachable(failure))
    }

    async fn connect_to(&self, uri: AMQPUri, address: SocketAddr) -> Result<Connection, String> {
        let server_name =
            self.config.tls.server_name.as_ref().unwrap_or(&uri.authority.host).clone();
        let scheme = uri.scheme.clone();
        let tls = match uri.scheme {
            AMQPScheme::AMQP => None,
            AMQPScheme::AMQPS => {
                Some(tls::connector(&self.config.tls).map_err(|error| error.to_string())?)
            }
        };
        let slot = Arc::new(Mutex::new(SocketSlot::Connecting));
        let socket = ShutOnDrop(Arc::clone(&slot));
        let frame_bytes_max = uri.query.frame_max;
        let received_bytes = Arc::default();
        let tally = Tally {
            address,
            metrics: self.metrics.clone(),
            received_bytes: Arc::clone(&received_bytes),
        };
        let tokio = lapin::runtime::default_runtime().map_err(|error| error.to_string())?;
        let connecting = lapin::Connection::connector(
            uri,
            wire::runtime(),
            async move |_, _| {
                let opening = async {
                    let stream = AsyncTcpStream::connect(&tokio, address).await?;
                    if let AsyncTcpStream::Plain(tcp) = &stream {
                        ShutOnDrop::keep(&slot, SockRef::from(tcp.get_ref()).try_clone()?)?;
                    }
                    match &tls {
                        Some(tls) => stream.into_rustls(tls, &server_name).await,
                        None => Ok(stream),
                    }
                };
                let opened = timeout(CONNECT_DEADLINE, opening).await;
                let stream = opened.map_err(std::io::Error::from)??;
                // TLS, if any, is inside: it is the plain bytes that are mended.
                Ok(AsyncTcpStream::Plain(Wire::new(stream, frame_bytes_max, tally.clone())))
            },
            properties(),
        );
        match timeout(CONNECT_DEADLINE, connecting).await {
            Ok(Ok(inner)) => Ok(Connection { inner, address, received_bytes, _socket: socket }),
            Ok(Err(error)) => Err(match tls::key_to_mend(&error) {
                Some(key) => format!("{} (see {key})", reply(&error)),
                None if port::may_be_another(&error) => {
                    with_hint(reply(&error), &scheme, address).await
                }
                None => reply(&error),
            }),
            Err(_) => Err(with_hint("no answer within 5 s".to_owned(), &scheme, address).await),
        }
    }
}

impl Connection {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How much came from the broker so far: before TLS, heartbeats and all.
    pub fn received_bytes(&self) -> u64 {
        self.received_bytes.load(Ordering::Relaxed)
    }

    pub async fn channel(&self) -> Result<lapin::Channel, super::request::BrokerError> {
        super::request::request(|| "opening a channel".into(), self.inner.create_channel()).await
    }

    /// Whether the broker has said that it takes no messages, since it is short of memory or disk.
    pub fn is_blocked(&self) -> bool {
        self.inner.status().blocked()
    }

    pub fn is_open(&self) -> bool {
        self.inner.status().connected()
    }

    /// Says goodbye, for at most two seconds; the socket is closed in any case.
    pub async fn close(&self) {
        let goodbye = self.inner.close(200, "closed by blockcast".into());
        let _closed_already = timeout(CLOSE_DEADLINE, goodbye).await;
    }
}

impl ShutOnDrop {
    fn keep(slot: &Mutex<SocketSlot>, socket: Socket) -> std::io::Result<()> {
        let mut slot = slot.lock().expect("bug: nothing panics while it holds this lock");
        match *slot {
            SocketSlot::Abandoned => Err(std::io::ErrorKind::TimedOut.into()),
            SocketSlot::Connecting | SocketSlot::Open(_) => {
                *slot = SocketSlot::Open(socket);
                Ok(())
            }
        }
    }
}

impl Drop for ShutOnDrop {
    fn drop(&mut self) {
        let mut slot = self.0.lock().expect("bug: nothing panics while it holds this lock");
        if let SocketSlot::Open(socket) = std::mem::replace(&mut *slot, SocketSlot::Abandoned) {
            let _closed_already = socket.shutdown(std::net::Shutdown::Both);
        }
    }
}

fn properties() -> ConnectionProperties {
    let host = hostname::get().unwrap_or_else(|_| "localhost".into());
    let name = format!("blockcast on {}", host.to_string_lossy());
    ConnectionProperties::default().with_connection_name(name.into())
}

/// The library's form; the URI's own heartbeat wins over `heartbeat`, in whole seconds.
fn library_uri(uri: BrokerUri, heartbeat: Duration) -> AMQPUri {
    let seconds = u16::try_from(heartbeat.as_secs().max(1)).unwrap_or(u16::MAX);
    let parameters = uri.parameters;
    AMQPUri {
        scheme: if uri.is_tls { AMQPScheme::AMQPS } else { AMQPScheme::AMQP },
        authority: AMQPAuthority {
            userinfo: AMQPUserInfo { username: uri.user, password: uri.password },
            host: uri.host,
            port: uri.port,
        },
        vhost: uri.vhost,
        query: AMQPQueryString {
            frame_max: parameters.frame_bytes_max,
            channel_max: parameters.channels_max,
            heartbeat: Some(parameters.heartbeat_seconds.unwrap_or(seconds)),
            connection_timeout: None,
            auth_mechanism: parameters.mechanism.map(|mechanism| match mechanism {
                Mechanism::Plain => SASLMechanism::Plain,
                Mechanism::Amqplain => SASLMechanism::AMQPlain,
                Mechanism::External => SASLMechanism::External,
                Mechanism::Anonymous => SASLMechanism::Anonymous,
                Mechanism::RabbitCrDemo => SASLMechanism::RabbitCrDemo,
            }),
        },
    }
}

/// Why there is no connection, with what the port speaks instead where that shows.
async fn with_hint(reason: String, scheme: &AMQPScheme, address: SocketAddr) -> String {
    match port::spoken(address).await {
        Some(spoken) => match spoken.hint(*scheme == AMQPScheme::AMQPS) {
            Some(hint) => format!("{reason}; {hint}"),
            None => reason,
        },
        None => reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uris_own_heartbeat_wins() {
        let heartbeat = |text: &str, configured: u64| {
            let uri = config::AmqpUri::new(text).parse().expect(text);
            library_uri(uri, Duration::from_millis(configured)).query.heartbeat
        };
        assert_eq!(heartbeat("amqp://broker", 10_000), Some(10));
        assert_eq!(heartbeat("amqp://broker", 10), Some(1));
        assert_eq!(heartbeat("amqp://broker?heartbeat=3", 10_000), Some(3));
    }

    #[test]
    fn small_frames_are_no_larger_than_those_of_the_uri() {
        let asked = |text: &str| {
            let uris = vec![config::AmqpUri::new(text)];
            let config = Arc::new(config::Amqp { uris, ..config::Amqp::default() });
            let connector = Connector::new(config).expect(text).with_small_frames();
            connector.uris[0].query.frame_max
        };
        assert_eq!(asked("amqp://broker"), Some(SMALL_FRAME_BYTES));
        assert_eq!(asked("amqp://broker?frame_max=0"), Some(SMALL_FRAME_BYTES));
        assert_eq!(asked("amqp://broker?frame_max=131072"), Some(SMALL_FRAME_BYTES));
        assert_eq!(asked("amqp://broker?frame_max=8192"), Some(8_192));
    }

    #[tokio::test]
    async fn a_mute_broker_is_given_up_and_its_socket_closed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let uri = format!("amqp://{}", listener.local_addr().expect("its address"));
        let config =
            config::Amqp { uris: vec![config::AmqpUri::new(uri)], ..config::Amqp::default() };
        let connector = Connector::new(Arc::new(config)).expect("a URI");
        let (attempt, accepted) = tokio::join!(connector.connect(0), listener.accept());
        let error = attempt.err().expect("refused").to_string();
        assert!(error.contains("no answer within 5 s"), "{error}");
        let mut socket = accepted.expect("accepted").0;
        let mut sent = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut socket, &mut sent).await.expect("closed");
        assert_eq!(&sent[..4], b"AMQP");
    }
}
