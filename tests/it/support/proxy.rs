//! A TCP proxy on loopback whose link a test can harm, each direction by itself: stalled, swallowed,
//! slowed, corrupted, cut. It knows nothing of what it carries, but of a broker's deliveries.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use blockcast::config::{AmqpUri, Config};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::broker::Broker;
use super::deliveries::{Counts, Deliveries, Withheld};

/// Where nobody listens.
pub const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);
/// Read at once: so small that a slow link's pieces are many.
const PIECE_BYTES: usize = 4_096;
/// AMQP's connection.close with 541 and no text, as a frame.
const CLOSE_541: &[u8] = &[1, 0, 0, 0, 0, 0, 11, 0, 10, 0, 50, 0x02, 0x1d, 0, 0, 0, 0, 0, 0xce];

/// What becomes of the bytes of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    Whole,
    /// Nothing passes; all of it does when the link is whole again, as TCP would send it again.
    Stalled,
    /// Taken and thrown away, ends of connections too. What lost a byte is never whole again.
    Swallowed,
    Slow {
        bytes_per_second: u32,
    },
    /// Every byte is another, those that begin and end frames too: wherever in a frame that begins, it cannot
    /// be taken for a whole one.
    Misframed,
    /// One bit of each piece read is another, anywhere.
    Flipped,
    /// The first byte of this text is another wherever it stands whole in a piece: of what is carried,
    /// and not of what carries it.
    Struck(&'static str),
    /// Whatever has this text in it is answered for the broker: it cannot hand that over (541). On a
    /// link that carries nothing else meanwhile, so that a piece begins with a frame.
    Unreadable(&'static str),
    /// Nothing is delivered to those who consume now; all else passes. Of a proxy to a broker alone.
    Silent,
    /// The same, and nothing to those who come to consume either.
    Mute,
}

/// A proxy before the broker, and the configuration that goes through it.
pub async fn behind_proxy(broker: &Broker, config: &Config) -> (Proxy, Config) {
    let proxy = Proxy::to(SocketAddr::from(([127, 0, 0, 1], broker.port()))).await;
    let mut through = config.clone();
    let port = proxy.address.port();
    through.amqp.uris = vec![AmqpUri::new(format!("amqp://guest:guest@127.0.0.1:{port}/%2f"))];
    (proxy, through)
}

impl Harm {
    fn withheld(self) -> Withheld {
        match self {
            Self::Silent => Withheld::OfThoseWhoConsume,
            Self::Mute => Withheld::All,
            _ => Withheld::Nothing,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Link {
    target: SocketAddr,
    /// From who connects to who is connected to.
    there: Harm,
    back: Harm,
}

pub struct Proxy {
    pub address: SocketAddr,
    link: watch::Sender<Link>,
    /// Cancelled, it cuts the connections there are; then there is a new one.
    cut: Arc<Mutex<CancellationToken>>,
    harmed: Arc<AtomicU64>,
    deliveries: Arc<Counts>,
    accepting: JoinHandle<()>,
}

/// One direction of one connection.
struct Pump {
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    link: watch::Receiver<Link>,
    harm: fn(&Link) -> Harm,
    harmed: Arc<AtomicU64>,
    /// Of what comes from a broker.
    deliveries: Option<Deliveries>,
}

impl Proxy {
    pub async fn to(target: SocketAddr) -> Self {
        Self::start(target, None).await
    }

    /// One that tells deliveries apart, and can withhold them.
    pub async fn to_broker(port: u16) -> Self {
        let target = SocketAddr::from(([127, 0, 0, 1], port));
        Self::start(target, Some(Arc::default())).await
    }

    async fn start(target: SocketAddr, deliveries: Option<Arc<Counts>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let (link, seen) = watch::channel(Link { target, there: Harm::Whole, back: Harm::Whole });
        let cut = Arc::new(Mutex::new(CancellationToken::new()));
        let harmed = Arc::new(AtomicU64::new(0));
        let counting = Arc::clone(&harmed);
        let counted = deliveries.clone();
        let accepting = accept(listener, Arc::clone(&cut), move |near| {
            let deliveries = counted.clone().map(Deliveries::new);
            carry(near, seen.clone(), Arc::clone(&counting), deliveries)
        });
        let deliveries = deliveries.unwrap_or_default();
        Self { address, link, cut, harmed, deliveries, accepting: tokio::spawn(accepting) }
    }

    /// Does this to both directions of all connections, new ones too.
    pub fn harm(&self, harm: Harm) {
        self.harm_each(harm, harm);
    }

    pub fn harm_each(&self, there: Harm, back: Harm) {
        self.link.send_modify(|link| (link.there, link.back) = (there, back));
    }

    /// Leads new connections elsewhere.
    pub fn lead_to(&self, target: SocketAddr) {
        self.link.send_modify(|link| link.target = target);
    }

    /// Closes every connection there is, both ways.
    pub fn cut(&self) {
        let mut cut = self.cut.lock().expect("nothing panics while it holds this lock");
        std::mem::take(&mut *cut).cancel();
    }

    /// How often the broker let somebody consume so far, or said what is in a queue.
    pub fn looks(&self) -> u64 {
        self.deliveries.looks.load(Ordering::Relaxed)
    }

    /// Messages of a broker that were withheld so far.
    pub fn withheld(&self) -> u64 {
        self.deliveries.withheld.load(Ordering::Relaxed)
    }

    /// Pieces that were harmed so far, other than by time.
    pub fn harmed(&self) -> u64 {
        self.harmed.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn accept<F: Future<Output = ()> + Send + 'static>(
    listener: TcpListener,
    cut: Arc<Mutex<CancellationToken>>,
    carry: impl Fn(TcpStream) -> F,
) {
    while let Ok((near, _)) = listener.accept().await {
        let cut = cut.lock().expect("nothing panics while it holds this lock").clone();
        tokio::spawn(cut.run_until_cancelled_owned(carry(near)));
    }
}

async fn carry(
    near: TcpStream,
    link: watch::Receiver<Link>,
    harmed: Arc<AtomicU64>,
    deliveries: Option<Deliveries>,
) {
    let target = link.borrow().target;
    // Not reached: the one who asked sees its connection end.
    let Ok(far) = TcpStream::connect(target).await else { return };
    for stream in [&near, &far] {
        stream.set_nodelay(true).expect("set");
    }
    let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
    let pump = |from, to, harm, deliveries| {
        let (link, harmed) = (link.clone(), Arc::clone(&harmed));
        Pump { from, to, link, harm, harmed, deliveries }.run()
    };
    tokio::join!(
        pump(near_read, far_write, |link| link.there, None),
        pump(far_read, near_write, |link| link.back, deliveries)
    );
}

impl Pump {
    async fn run(mut self) {
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let harm = self.harm;
            if self.link.wait_for(|link| harm(link) != Harm::Stalled).await.is_err() {
                return;
            }
            let read = self.from.read(&mut piece).await;
            if self.link.wait_for(|link| harm(link) != Harm::Stalled).await.is_err() {
                return;
            }
            let harm = harm(&self.link.borrow());
            if harm == Harm::Swallowed {
                return self.swallow(&mut piece).await;
            }
            let Ok(count @ 1..) = read else { return };
            let mut frames;
            let mut piece = &mut piece[..count];
            if let Some(deliveries) = &mut self.deliveries {
                frames = deliveries.pass(piece, harm.withheld());
                piece = &mut frames;
            }
            if piece.is_empty() {
                continue;
            }
            match harm {
                Harm::Whole | Harm::Stalled | Harm::Swallowed | Harm::Silent | Harm::Mute => {}
                Harm::Slow { bytes_per_second } => {
                    let seconds = count as f64 / f64::from(bytes_per_second);
                    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
                }
                Harm::Unreadable(text) => {
                    if contains(piece, text.as_bytes()) {
                        let _gone = self.to.write_all(CLOSE_541).await;
                        return self.swallow(piece).await;
                    }
                }
                Harm::Misframed => piece.iter_mut().for_each(|byte| *byte ^= 0x55),
                Harm::Flipped => piece[fastrand::usize(..count)] ^= 1 << fastrand::u8(..8),
                Harm::Struck(text) => {
                    let strikes = strike(piece, text.as_bytes());
                    self.harmed.fetch_add(strikes, Ordering::Relaxed);
                }
            }
            if matches!(harm, Harm::Misframed | Harm::Flipped) {
                self.harmed.fetch_add(1, Ordering::Relaxed);
            }
            if self.to.write_all(piece).await.is_err() {
                return;
            }
        }
    }

    /// Takes all that comes and passes nothing on, not even that it ended.
    async fn swallow(&mut self, piece: &mut [u8]) {
        self.harmed.fetch_add(1, Ordering::Relaxed);
        while let Ok(1..) = self.from.read(piece).await {}
        std::future::pending().await
    }
}

fn contains(piece: &[u8], text: &[u8]) -> bool {
    piece.windows(text.len()).any(|part| part == text)
}

/// Returns how often `text` stood in `piece`.
fn strike(piece: &mut [u8], text: &[u8]) -> u64 {
    let mut strikes = 0;
    for at in 0..(piece.len() + 1).saturating_sub(text.len()) {
        if piece[at..].starts_with(text) {
            piece[at] ^= 0x55;
            strikes += 1;
        }
    }
    strikes
}
