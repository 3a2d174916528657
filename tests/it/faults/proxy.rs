//! A TCP proxy on loopback whose link a test can harm, each direction by itself: stalled, swallowed,
//! slowed, corrupted, cut. It knows nothing of what it carries.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

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
    /// The first byte of each piece read is another: that of a frame, on a quiet link.
    Misframed,
    /// One bit of each piece read is another, anywhere.
    Flipped,
    /// The first byte of this text is another wherever it stands whole in a piece: of what is carried,
    /// and not of what carries it.
    Struck(&'static str),
    /// Whatever has this text in it is answered for the broker: it cannot hand that over (541). On a
    /// link that carries nothing else meanwhile, so that a piece begins with a frame.
    Unreadable(&'static str),
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
    accepting: JoinHandle<()>,
}

/// One direction of one connection.
struct Pump {
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    link: watch::Receiver<Link>,
    harm: fn(&Link) -> Harm,
    harmed: Arc<AtomicU64>,
}

impl Proxy {
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let (link, seen) = watch::channel(Link { target, there: Harm::Whole, back: Harm::Whole });
        let cut = Arc::new(Mutex::new(CancellationToken::new()));
        let harmed = Arc::new(AtomicU64::new(0));
        let accepting = accept(listener, seen, Arc::clone(&cut), Arc::clone(&harmed));
        Self { address, link, cut, harmed, accepting: tokio::spawn(accepting) }
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

async fn accept(
    listener: TcpListener,
    link: watch::Receiver<Link>,
    cut: Arc<Mutex<CancellationToken>>,
    harmed: Arc<AtomicU64>,
) {
    while let Ok((near, _)) = listener.accept().await {
        let cut = cut.lock().expect("nothing panics while it holds this lock").clone();
        let (link, harmed) = (link.clone(), Arc::clone(&harmed));
        tokio::spawn(cut.run_until_cancelled_owned(carry(near, link, harmed)));
    }
}

async fn carry(near: TcpStream, link: watch::Receiver<Link>, harmed: Arc<AtomicU64>) {
    let target = link.borrow().target;
    // Not reached: the one who asked sees its connection end.
    let Ok(far) = TcpStream::connect(target).await else { return };
    for stream in [&near, &far] {
        stream.set_nodelay(true).expect("set");
    }
    let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
    let pump = |from, to, harm| {
        let (link, harmed) = (link.clone(), Arc::clone(&harmed));
        Pump { from, to, link, harm, harmed }.run()
    };
    tokio::join!(
        pump(near_read, far_write, |link| link.there),
        pump(far_read, near_write, |link| link.back)
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
            let piece = &mut piece[..count];
            match harm {
                Harm::Whole | Harm::Stalled | Harm::Swallowed => {}
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
                Harm::Misframed => piece[0] ^= 0x55,
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
