//! How blocks become writes: few calls of the socket, no memory of one's own, and whole messages
//! wherever a write stops.

use std::collections::HashSet;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::task::Waker;

use tokio::io::AsyncWrite;

use super::*;

/// A socket that takes whatever comes unless it is full, and never says anything.
#[derive(Clone, Default)]
struct Counting(Arc<Counts>);

#[derive(Default)]
struct Counts {
    is_full: AtomicBool,
    writes: AtomicUsize,
    bytes: AtomicUsize,
}

impl Counting {
    fn took(&self, bytes: usize) -> Poll<io::Result<usize>> {
        self.0.writes.fetch_add(1, Relaxed);
        if self.0.is_full.load(Relaxed) {
            return Poll::Pending;
        }
        self.0.bytes.fetch_add(bytes, Relaxed);
        Poll::Ready(Ok(bytes))
    }
}

impl AsyncRead for Counting {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Counting {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.took(bytes.len())
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.took(slices.iter().map(|slice| slice.len()).sum())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Transport for Counting {
    fn reset_on_drop(&self) {}

    fn poll_writable(&self, _: &mut Context<'_>) -> Poll<()> {
        if self.0.is_full.load(Relaxed) { Poll::Pending } else { Poll::Ready(()) }
    }
}

/// Sessions of clients that take all there is.
struct Crowd {
    context: Arc<SessionContext>,
    counts: Vec<Arc<Counts>>,
}

impl Crowd {
    fn of(sessions: usize) -> Self {
        let context = surroundings(Arc::new(History::new(usize::MAX)), Tickets::none());
        let counts = (0..sessions).map(|_| {
            let socket = Counting::default();
            let counts = Arc::clone(&socket.0);
            let session = Session::new(socket, Arc::clone(&context), wanted("", Way::WebSocket));
            tokio::spawn(session);
            counts
        });
        Self { counts: counts.collect(), context }
    }

    /// Until everybody has so many bytes in all.
    async fn have(&self, bytes: usize) {
        while self.counts.iter().any(|counts| counts.bytes.load(Relaxed) < bytes) {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn all_the_blocks_a_client_is_behind_go_out_in_one_write() {
    let crowd = Crowd::of(3);
    let blocks = (1..=20).map(|height| block(height, 5)).collect::<Vec<_>>();
    let bytes = blocks.iter().map(|block| block.events.len()).sum();
    for block in blocks {
        crowd.context.history.append(block);
    }
    crowd.have(bytes).await;
    for counts in &crowd.counts {
        assert_eq!(counts.bytes.load(Relaxed), bytes);
        assert_eq!(counts.writes.load(Relaxed), 1);
    }
}

#[test]
fn a_block_takes_no_memory_per_session() {
    const SESSIONS: usize = 200;
    const BLOCKS: u64 = 10;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let crowd = runtime.block_on(async { Crowd::of(SESSIONS) });
    // What is made once, by the first block.
    let first = block(1, 5);
    let mut bytes = first.events.len();
    crowd.context.history.append(first);
    runtime.block_on(crowd.have(bytes));
    let blocks = (2..2 + BLOCKS).map(|height| block(height, 5)).collect::<Vec<_>>();
    let allocations = allocation_counter::measure(|| {
        for block in blocks {
            bytes += block.events.len();
            crowd.context.history.append(block);
            runtime.block_on(crowd.have(bytes));
        }
    });
    let count = allocations.count_total;
    assert!(count < SESSIONS as u64 / 2, "{count} for {BLOCKS} blocks to {SESSIONS} sessions");
    assert!(count > 0, "a block is something: allocations are counted");
}

/// What a client of each form is to get from a socket that takes a byte at a time, with as many pings
/// as go through: what one has from a wide socket, and pongs between whole messages.
#[tokio::test(start_paused = true)]
async fn a_socket_that_takes_a_byte_at_a_time_gets_every_form_in_whole_messages() {
    let picked = [0, 2].map(|number| format!("transaction_id={number:064x}")).join("&");
    let mut seen_heads = HashSet::new();
    for query in [
        "from_height=1&control=true".to_owned(),
        "from_height=1&batch=block".to_owned(),
        "from_height=1&batch=block&control=true".to_owned(),
        format!("from_height=1&{picked}&control=true"),
        format!("from_height=1&{picked}&batch=block"),
        format!("from_height=1&{picked}&batch=block&control=true"),
        "after=1.1&batch=block".to_owned(),
        "from_height=1&limit=6".to_owned(),
    ] {
        for is_compressed in [false, true] {
            let wanted = || {
                let mut wanted = wanted(&query, Way::WebSocket);
                wanted.subscription.is_compressed = is_compressed;
                wanted
            };
            let mut wide = Bench::of(filled(), 1 << 20, wanted());
            let mut expected = Vec::new();
            let within = Duration::from_secs(1);
            while let Ok(frame) = tokio::time::timeout(within, wide.frame()).await {
                let is_close = frame.0 == 0x88;
                expected.push(frame);
                if is_close {
                    break;
                }
            }
            assert!(expected.len() > 1, "{query}: {expected:?}");
            seen_heads.extend(expected.iter().map(|frame| frame.0));
            let Bench { client, session, .. } = Bench::of(filled(), 1, wanted());
            let (mut reader, mut writer) = tokio::io::split(client);
            let pings = tokio::spawn(async move {
                for number in 0_u32.. {
                    let ping = [&[0x89, 0x84, 0, 0, 0, 0], &number.to_be_bytes()[..]].concat();
                    if writer.write_all(&ping).await.is_err() {
                        break;
                    }
                }
            });
            let (mut seen, mut pongs) = (Vec::new(), Vec::new());
            while seen.len() < expected.len() {
                match frame_of(&mut reader).await {
                    (0x8a, payload) => pongs.push(payload),
                    frame => seen.push(frame),
                }
            }
            assert_eq!(seen, expected, "{query}");
            assert!(pongs.is_sorted() && !pongs.is_empty(), "{query}: {pongs:?}");
            pings.abort();
            session.abort();
        }
    }
    let heads = HashSet::from([0x81, 0xc1, 0x88]);
    assert_eq!(seen_heads, heads, "plain, compressed, and a close: all were there");
}

/// A history of some blocks with the encoder that forms need.
fn filled() -> Arc<History> {
    let history = Arc::new(History::new(usize::MAX));
    tokio::spawn(crate::encoder::run(Arc::clone(&history), CancellationToken::new()));
    for block in [block(1, 4), block(2, 0), block(3, 3), block(4, 1)] {
        history.append(block);
    }
    history
}

/// Other than looking for events, that is all that a block costs for who reads nothing.
#[tokio::test]
async fn nothing_is_offered_to_a_socket_that_is_full_until_it_takes_bytes() {
    let history = Arc::new(History::new(usize::MAX));
    let context = surroundings(Arc::clone(&history), Tickets::none());
    let socket = Counting::default();
    socket.0.is_full.store(true, Relaxed);
    let mut session = Session::new(socket.clone(), context, wanted("", Way::WebSocket));
    let mut cx = Context::from_waker(Waker::noop());
    let mut expected = 0;
    for height in 1..=100 {
        let block = block(height, 3);
        expected += block.events.len();
        history.append(block);
        assert!(Pin::new(&mut session).poll(&mut cx).is_pending());
    }
    assert_eq!(socket.0.writes.load(Relaxed), 1, "the one that found it full");
    socket.0.is_full.store(false, Relaxed);
    while socket.0.bytes.load(Relaxed) < expected {
        assert!(Pin::new(&mut session).poll(&mut cx).is_pending());
    }
    assert_eq!(socket.0.bytes.load(Relaxed), expected);
}

#[tokio::test]
async fn nothing_is_asked_of_the_broker_for_who_reads_nothing() {
    let history = Arc::new(History::new(2 * block(1, 5).bytes()));
    let (tickets, mut requests) = Tickets::new();
    let context = surroundings(Arc::clone(&history), tickets);
    let socket = Counting::default();
    socket.0.is_full.store(true, Relaxed);
    let mut session =
        Session::new(socket.clone(), Arc::clone(&context), wanted("", Way::WebSocket));
    let mut cx = Context::from_waker(Waker::noop());
    for height in 1..=20 {
        history.append(block(height, 5));
        assert!(Pin::new(&mut session).poll(&mut cx).is_pending());
    }
    assert!(history.summary().first_height > Some(1), "its block is gone");
    assert!(requests.take().is_none() && context.metrics.falls.get() == 0);
    socket.0.is_full.store(false, Relaxed);
    assert!(Pin::new(&mut session).poll(&mut cx).is_pending());
    assert!(requests.take().is_some() && context.metrics.falls.get() == 1);
}
