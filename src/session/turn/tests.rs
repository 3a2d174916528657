mod forms;
mod half_closed;
mod resumes;
mod waits;
mod writes;

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::filter::Filter;
use crate::frame::EncodedBlock;
use crate::frame::testing::block;
use crate::protocol::Query;
use crate::session::writer::PONGS_MAX;

impl Transport for DuplexStream {
    fn reset_on_drop(&self) {}

    fn poll_writable(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    WebSocket,
    EventStream,
}

fn wanted(query: &str, way: Way) -> SessionRequest {
    let query = Query::parse(query, Stream::Transactions, &[]).expect("a query");
    let is_websocket = way == Way::WebSocket;
    SessionRequest {
        subscription: Subscription {
            stream: Stream::Transactions,
            wire: if is_websocket { Framing::WebSocket } else { Framing::EventStream },
            is_compressed: false,
            is_batch: query.batch,
            has_control: query.control,
            filter: Filter::of(query.filters),
        },
        until_height: query.until_height,
        messages_max: query.limit,
        start: query.start,
        fallback: None,
        pass: None,
        network: Ipv4Addr::LOCALHOST.into(),
        head: match is_websocket {
            true => Head::Now(Vec::new()),
            false => {
                let (bytes, common_lines) = (b"200\n".to_vec(), b"common: line\n".to_vec());
                Head::WhenBegun(Box::new(StreamHead { bytes, common_lines, refuse }))
            }
        },
    }
}

/// A refusal in a form of its own.
fn refuse(cause: &Cause, position: &Start, common_lines: &[u8]) -> Vec<u8> {
    let head = format!("{}\n", cause.code());
    [head.as_bytes(), common_lines, cause.reason(position).as_bytes()].concat()
}

fn surroundings(history: Arc<History>, tickets: Tickets) -> Arc<SessionContext> {
    Arc::new(SessionContext {
        limits: config::ServerConfig::default(),
        history,
        tickets: Arc::new(tickets),
        metrics: Arc::new(Metrics::new()),
        drain: Arc::new(Drain::default()),
    })
}

/// A session over an in-memory pipe that holds `pipe_bytes`, under paused time.
struct Bench {
    context: Arc<SessionContext>,
    session: JoinHandle<Disconnect>,
    client: DuplexStream,
}

impl Bench {
    fn new(history_bytes_max: usize, pipe_bytes: usize) -> Self {
        Self::of(Arc::new(History::new(history_bytes_max)), pipe_bytes, wanted("", Way::WebSocket))
    }

    /// A session of a client that asked for `query`, on a history that has the encoder it needs.
    fn asked(history: History, way: Way, query: &str) -> Self {
        let history = Arc::new(history);
        tokio::spawn(crate::encoder::run(Arc::clone(&history), CancellationToken::new()));
        Self::of(history, 1 << 20, wanted(query, way))
    }

    fn of(history: Arc<History>, pipe_bytes: usize, wanted: SessionRequest) -> Self {
        Self::with(history, Tickets::none(), pipe_bytes, wanted)
    }

    fn with(
        history: Arc<History>,
        tickets: Tickets,
        pipe_bytes: usize,
        wanted: SessionRequest,
    ) -> Self {
        let context = surroundings(history, tickets);
        let (client, server) = duplex(pipe_bytes);
        let session = Session::new(server, Arc::clone(&context), wanted);
        let session = tokio::spawn(session);
        Self { context, session, client }
    }

    /// The next whole frame: its first byte and payload.
    async fn frame(&mut self) -> (u8, Vec<u8>) {
        frame_of(&mut self.client).await
    }

    /// The close frame that must be next, then the end of the stream.
    async fn close(mut self) -> (u16, String, Disconnect) {
        let (first, payload) = self.frame().await;
        assert_eq!(first, 0x88, "{}", String::from_utf8_lossy(&payload));
        let code = payload.get(..2).map_or(1005, |code| u16::from_be_bytes([code[0], code[1]]));
        let reason =
            String::from_utf8(payload.get(2..).unwrap_or_default().to_vec()).expect("text");
        self.client.shutdown().await.expect("shut");
        assert_eq!(self.client.read(&mut [0]).await.expect("the end"), 0);
        (code, reason, self.session.await.expect("the session ended"))
    }

    /// Sends a client frame with an all-zero mask.
    async fn send(&mut self, first: u8, payload: &[u8]) {
        let head = [first, 0x80 | payload.len() as u8, 0, 0, 0, 0];
        self.client.write_all(&[&head, payload].concat()).await.expect("written");
    }
}

async fn frame_of(reader: &mut (impl AsyncRead + Unpin)) -> (u8, Vec<u8>) {
    let mut head = [0; 2];
    reader.read_exact(&mut head).await.expect("a frame");
    let length = match head[1] {
        126 => usize::from(reader.read_u16().await.expect("a length")),
        length => usize::from(length),
    };
    let mut payload = vec![0; length];
    reader.read_exact(&mut payload).await.expect("a payload");
    (head[0], payload)
}

#[tokio::test(start_paused = true)]
async fn blocks_arrive_as_they_are_appended() {
    let mut bench = Bench::new(usize::MAX, 1 << 20);
    for height in 1..=3 {
        let block = block(height, 2);
        let payloads = [block.payload(0).to_vec(), block.payload(1).to_vec()];
        bench.context.history.append(block);
        for payload in payloads {
            assert_eq!(bench.frame().await, (0x81, payload));
        }
    }
    assert_eq!(bench.context.metrics.sent_messages.get(), 6);
}

#[tokio::test(start_paused = true)]
async fn pings_are_answered_and_messages_ignored() {
    let mut bench = Bench::new(usize::MAX, 1 << 20);
    bench.send(0x81, b"hello").await;
    bench.send(0x89, b"are you there").await;
    assert_eq!(bench.frame().await, (0x8a, b"are you there".to_vec()));
}

#[tokio::test(start_paused = true)]
async fn every_ping_is_answered_in_order_with_its_own_payload() {
    let mut bench = Bench::new(usize::MAX, 1 << 20);
    let payloads =
        Vec::from_iter((0..PONGS_MAX as u8).map(|number| vec![number; 125 - usize::from(number)]));
    for _ in 0..3 {
        for payload in &payloads {
            bench.send(0x89, payload).await;
        }
        for payload in &payloads {
            assert_eq!(bench.frame().await, (0x8a, payload.clone()));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn pings_without_end_into_a_blocked_client_are_owed_a_bounded_number_of_pongs() {
    const PINGS: u32 = 100_000;
    let Bench { context, session, client } = Bench::new(usize::MAX, 10);
    let expected = block(1, 1).payload(0).to_vec();
    context.history.append(block(1, 1));
    tokio::task::yield_now().await;
    let (mut reader, mut writer) = tokio::io::split(client);
    let ping = |number: u32| [&[0x89, 0x84, 0, 0, 0, 0], &number.to_be_bytes()[..]].concat();
    for number in 0..PINGS {
        writer.write_all(&ping(number)).await.expect("taken");
    }
    assert_eq!(frame_of(&mut reader).await, (0x81, expected));
    let last = (PINGS - 1).to_be_bytes().to_vec();
    let mut pongs = vec![frame_of(&mut reader).await];
    while pongs.last() != Some(&(0x8a, last.clone())) {
        pongs.push(frame_of(&mut reader).await);
        assert!(pongs.len() <= 2 * PONGS_MAX, "{pongs:?}");
    }
    assert!(pongs.is_sorted_by(|one, next| one.1 < next.1), "in order: {pongs:?}");
    writer.write_all(&ping(PINGS)).await.expect("taken");
    let next = frame_of(&mut reader).await;
    assert_eq!(next, (0x8a, PINGS.to_be_bytes().to_vec()), "nothing else was owed");
    assert!(!session.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_pinged_and_closed_but_any_sign_of_life_counts() {
    let mut bench = Bench::new(usize::MAX, 1 << 20);
    let began = Instant::now();
    assert_eq!(bench.frame().await, (0x89, vec![]));
    assert_eq!(began.elapsed().as_secs(), 25, "server.ping_interval");
    bench.send(0x81, b"not a pong, but alive").await;
    assert_eq!(bench.frame().await, (0x89, vec![]));
    assert_eq!(began.elapsed().as_secs(), 50);
    bench.context.history.append(block(7, 0));
    let (code, reason, disconnect) = bench.close().await;
    assert_eq!((code, reason.as_str(), disconnect), (1001, "after=7 no pong", Disconnect::NoPong));
    assert_eq!(began.elapsed().as_secs(), 60, "server.pong_timeout");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_came_while_the_process_stood_still_counts() {
    let mut bench = Bench::new(usize::MAX, 1 << 20);
    assert_eq!(bench.frame().await, (0x89, vec![]));
    bench.send(0x8a, b"").await;
    // Nobody has run since.
    tokio::time::advance(Duration::from_secs(1_000)).await;
    assert_eq!(bench.frame().await, (0x89, vec![]), "asked again, not closed");
}

#[tokio::test(start_paused = true)]
async fn a_clients_close_is_answered_with_its_code() {
    let mut bench = Bench::new(usize::MAX, 1 << 20);
    bench.send(0x88, &3000_u16.to_be_bytes()).await;
    assert_eq!(bench.close().await, (3000, String::new(), Disconnect::Client));
}

#[tokio::test(start_paused = true)]
async fn a_client_whose_own_limit_a_message_passes_is_told_apart_from_others() {
    let mut bench = Bench::new(usize::MAX, 1 << 20);
    bench.send(0x88, &1009_u16.to_be_bytes()).await;
    assert_eq!(bench.close().await, (1009, String::new(), Disconnect::ClientLimit));
}

#[tokio::test(start_paused = true)]
async fn a_close_by_a_client_that_does_not_read_is_heard_at_once() {
    let mut bench = Bench::new(usize::MAX, 10);
    bench.context.history.append(block(1, 1));
    tokio::task::yield_now().await;
    let began = Instant::now();
    bench.send(0x88, &3000_u16.to_be_bytes()).await;
    // The answer waits behind a frame that is not read: sooner than a stalled write's end.
    assert_eq!(bench.session.await.expect("ended"), Disconnect::Client);
    assert_eq!(began.elapsed(), CLOSE_TIMEOUT);
    let mut seen = Vec::new();
    bench.client.read_to_end(&mut seen).await.expect("the end");
    assert_eq!(seen, block(1, 1).events[..10], "nothing was written meanwhile");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_without_a_word_ends_its_session() {
    let bench = Bench::new(usize::MAX, 1 << 20);
    drop(bench.client);
    assert_eq!(bench.session.await.expect("ended"), Disconnect::Client);
}

#[tokio::test(start_paused = true)]
async fn faults_are_closed_with_their_codes() {
    for (first, payload, code, disconnect) in [
        (0xc1, b"x".as_slice(), 1002, Disconnect::Protocol),
        (0x81, b"\xff".as_slice(), 1007, Disconnect::Protocol),
    ] {
        let mut bench = Bench::new(usize::MAX, 1 << 20);
        bench.send(first, payload).await;
        let (found, reason, ended) = bench.close().await;
        assert_eq!((found, ended), (code, disconnect), "{reason}");
        assert!(reason.starts_with("from_height=oldest "), "{reason}");
    }
    let mut bench = Bench::new(usize::MAX, 1 << 20);
    bench
        .client
        .write_all(&[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0])
        .await
        .expect("written");
    let (code, _, disconnect) = bench.close().await;
    assert_eq!((code, disconnect), (1009, Disconnect::TooBig), "65,537 bytes are one too many");
}

#[tokio::test(start_paused = true)]
async fn a_client_whose_next_block_has_left_is_closed_as_too_slow() {
    // The pipe holds the first block's one frame to the byte, so the cursor stands at a frame's end.
    let first = block(1, 1);
    let mut bench = Bench::new(1, first.events.len());
    let payload = first.payload(0).to_vec();
    bench.context.history.append(first);
    while bench.context.metrics.sent_messages.get() < 1 {
        tokio::task::yield_now().await;
    }
    bench.context.history.append(block(2, 1));
    bench.context.history.append(block(3, 1));
    assert_eq!(bench.frame().await, (0x81, payload));
    let (code, reason, disconnect) = bench.close().await;
    assert_eq!((code, reason.as_str(), disconnect), (4008, "after=1 too slow", Disconnect::Slow));
}

#[tokio::test(start_paused = true)]
async fn a_client_cut_in_mid_frame_sees_the_end_and_no_half_truth() {
    let mut bench = Bench::new(1, 10);
    bench.context.history.append(block(1, 1));
    tokio::task::yield_now().await;
    bench.context.history.append(block(2, 1));
    let mut seen = Vec::new();
    bench.client.read_to_end(&mut seen).await.expect("the end");
    assert_eq!(seen, block(1, 1).events[..10], "a part of the frame, then nothing");
    assert_eq!(bench.session.await.expect("ended"), Disconnect::Slow);
}

#[tokio::test(start_paused = true)]
async fn a_write_without_progress_is_cut_after_its_timeout() {
    let bench = Bench::new(usize::MAX, 10);
    let began = Instant::now();
    bench.context.history.append(block(1, 1));
    assert_eq!(bench.session.await.expect("ended"), Disconnect::Stalled);
    assert_eq!(began.elapsed().as_secs(), 30, "server.write_stall_timeout");
}

#[tokio::test(start_paused = true)]
async fn what_a_client_read_while_the_process_stood_still_counts() {
    let mut bench = Bench::new(usize::MAX, 16);
    bench.context.history.append(block(1, 1));
    let expected = block(1, 1).events;
    let mut seen = vec![0; expected.len()];
    bench.client.read_exact(&mut seen[..1]).await.expect("the first byte");
    tokio::time::sleep(Duration::from_secs(1)).await;
    // Nobody runs in between.
    bench.client.read_exact(&mut seen[1..17]).await.expect("what was written");
    tokio::time::advance(Duration::from_secs(1_000)).await;
    bench.client.read_exact(&mut seen[17..]).await.expect("the rest");
    assert_eq!(seen, expected);
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_that_makes_progress_is_not_cut() {
    let mut bench = Bench::new(usize::MAX, 10);
    bench.context.history.append(block(1, 1));
    let expected = block(1, 1).events;
    for byte in &expected[..expected.len() - 10] {
        tokio::time::sleep(Duration::from_secs(7)).await;
        assert_eq!(bench.client.read_u8().await.expect("a byte"), *byte);
    }
    assert!(!bench.session.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_takes_a_byte_at_a_time_gets_whole_frames_and_pongs_between_them() {
    let (first, third) = (format!("{:064x}", 0), format!("{:064x}", 2));
    let picked = format!("transaction_id={first}&transaction_id={third}");
    let even: fn(usize) -> bool = |event| event % 2 == 0;
    for (query, is_wanted) in [("", (|_| true) as fn(usize) -> bool), (&picked, even)] {
        let history = Arc::new(History::new(usize::MAX));
        tokio::spawn(crate::encoder::run(Arc::clone(&history), CancellationToken::new()));
        // A pipe of one byte in either direction.
        let Bench { context, session, client } =
            Bench::of(history, 1, wanted(query, Way::WebSocket));
        let blocks = [block(1, 4), block(2, 0), block(3, 3), block(4, 1)];
        let payloads = |block: &EncodedBlock| -> Vec<Vec<u8>> {
            let events = (0..block.events_len()).filter(|event| is_wanted(*event));
            events.map(|event| block.payload(event).to_vec()).collect()
        };
        let expected = blocks.iter().flat_map(payloads).collect::<Vec<_>>();
        for block in blocks {
            context.history.append(block);
        }
        let (mut reader, mut writer) = tokio::io::split(client);
        // As many pings as go through, each with its number.
        let pings = tokio::spawn(async move {
            for number in 0_u32.. {
                let ping = [&[0x89, 0x84, 0, 0, 0, 0], &number.to_be_bytes()[..]].concat();
                writer.write_all(&ping).await.expect("taken");
            }
        });
        let (mut seen, mut pongs) = (Vec::new(), Vec::new());
        while seen.len() < expected.len() {
            match frame_of(&mut reader).await {
                (0x81, payload) => seen.push(payload),
                (0x8a, payload) => pongs.push(payload),
                other => panic!("{query}: {other:?}"),
            }
        }
        assert_eq!(seen, expected, "{query}");
        assert!(pongs.is_sorted() && pongs.len() > expected.len() / 2, "{query}: {pongs:?}");
        assert!(!session.is_finished(), "{query}");
        pings.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_closes_within_its_time_and_tells_the_place() {
    let mut bench = Bench::new(usize::MAX, 1 << 20);
    bench.context.history.append(block(5, 1));
    bench.frame().await;
    let began = Instant::now();
    bench.context.drain.begin(Duration::from_secs(20));
    bench.context.history.wake_readers();
    let (code, reason, disconnect) = bench.close().await;
    assert_eq!(
        (code, reason.as_str(), disconnect),
        (1001, "after=5 draining", Disconnect::Drained)
    );
    assert!(began.elapsed() <= Duration::from_secs(20));
}

#[tokio::test(start_paused = true)]
async fn a_blocked_client_is_still_drained() {
    let bench = Bench::new(usize::MAX, 10);
    bench.context.history.append(block(1, 1));
    tokio::task::yield_now().await;
    bench.context.drain.begin(Duration::from_secs(1));
    bench.context.history.wake_readers();
    let began = Instant::now();
    assert_eq!(bench.session.await.expect("ended"), Disconnect::Drained);
    assert!(began.elapsed() <= Duration::from_secs(1) + CLOSE_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn another_chain_is_told() {
    let mut bench = Bench::new(usize::MAX, 1 << 20);
    bench.context.history.append(block(5, 1));
    bench.frame().await;
    bench.context.history.start_over();
    let (code, reason, disconnect) = bench.close().await;
    assert_eq!((code, reason.as_str()), (4010, "from_height=oldest another chain"));
    assert_eq!(disconnect, Disconnect::Reset);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_answer_a_close_is_left_after_a_while() {
    let mut bench = Bench::new(usize::MAX, 1 << 20);
    bench.send(0xc1, b"").await;
    let began = Instant::now();
    assert_eq!(bench.session.await.expect("ended"), Disconnect::Protocol);
    assert_eq!(began.elapsed().as_secs(), CLOSE_TIMEOUT.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_stops_sending_still_gets_its_blocks_and_its_close() {
    let bench = Bench::new(usize::MAX, 1 << 20);
    let (mut reader, mut writer) = tokio::io::split(bench.client);
    let flood = tokio::spawn(async move {
        // One binary message of nothing after the other, until the session is gone.
        let frames = [0x82, 0x80, 0, 0, 0, 0].repeat(10_000);
        while writer.write_all(&frames).await.is_ok() {}
    });
    let block = block(3, 1);
    let expected = block.events.clone();
    bench.context.history.append(block);
    let mut seen = vec![0; expected.len()];
    reader.read_exact(&mut seen).await.expect("the block");
    assert_eq!(seen, expected);
    bench.context.drain.begin(Duration::ZERO);
    bench.context.history.wake_readers();
    let mut close = [0; 4];
    reader.read_exact(&mut close).await.expect("the close");
    assert_eq!((close[0], u16::from_be_bytes([close[2], close[3]])), (0x88, 1001));
    // Paused time stands still while anything runs: the flood must end for the clock to go on.
    flood.abort();
    assert_eq!(bench.session.await.expect("ended"), Disconnect::Drained);
}

#[tokio::test(start_paused = true)]
async fn a_close_followed_at_once_by_the_end_is_still_answered() {
    let mut bench = Bench::new(usize::MAX, 1 << 20);
    bench.send(0x88, &3000_u16.to_be_bytes()).await;
    bench.client.shutdown().await.expect("shut");
    assert_eq!(bench.frame().await, (0x88, 3000_u16.to_be_bytes().to_vec()));
    assert_eq!(bench.session.await.expect("ended"), Disconnect::Client);
}

#[tokio::test(start_paused = true)]
async fn thousands_of_empty_blocks_are_passed_on_the_way_to_one_with_events() {
    let mut bench = Bench::new(usize::MAX, 1 << 20);
    for height in 1..=5_000 {
        bench.context.history.append(block(height, 0));
    }
    let last = block(5_001, 1);
    let payload = last.payload(0).to_vec();
    bench.context.history.append(last);
    assert_eq!(bench.frame().await, (0x81, payload));
}
