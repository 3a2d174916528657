//! What becomes of a client while something else is waited for: the chain, the broker, its turn.

use std::future::poll_fn;

use tokio::io::AsyncWrite;

use super::*;
use crate::frame::Framing;
use crate::history::{Entries, RequiredEncodings};
use crate::metrics::ResumeOutcome;
use crate::session::source;
use crate::tickets::{CalledTicket, Claim, TicketQueue};

/// A history of the heights `from..=to`, one event each.
fn chain(heights: std::ops::RangeInclusive<u64>) -> Arc<History> {
    let history = History::new(usize::MAX);
    heights.for_each(|height| history.append(block(height, 1)));
    Arc::new(history)
}

/// A client of heights 10 to 20 that begins further back.
fn deep(query: &str, pipe_bytes: usize) -> (Bench, TicketQueue) {
    let (tickets, requests) = Tickets::new();
    let wanted = wanted(query, Way::WebSocket);
    (Bench::with(chain(10..=20), tickets, pipe_bytes, wanted), requests)
}

/// Lets every task do what it can.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_a_height_of_a_chain_that_is_gone_is_not_looked_at_all_the_time() {
    let bench = Bench::of(chain(3..=9), 1 << 20, wanted("", Way::WebSocket));
    let (_client, server) = duplex(1 << 20);
    let wanted = wanted("from_height=12", Way::WebSocket);
    let mut session = Session::new(server, Arc::clone(&bench.context), wanted);
    bench.context.history.start_over();
    tokio::time::advance(Duration::from_secs(11)).await;
    assert!(session.look_at_clock(Instant::now()).is_none());
    assert!(session.liveness.due_at() > Instant::now(), "else its task never sleeps");
}

#[tokio::test(start_paused = true)]
async fn who_is_closed_before_the_start_is_found_is_told_what_it_asked_for() {
    let id = "ab".repeat(32);
    for (query, place) in [
        ("from_height=30".to_owned(), "after=29".to_owned()),
        ("after=30.4".to_owned(), "after=30.4".to_owned()),
        ("from_height=0&limit=1".to_owned(), "from_height=0".to_owned()),
        ("after=5".to_owned(), "after=5".to_owned()),
        (format!("after=5.{id}"), format!("after=5.{id}")),
    ] {
        let (bench, _requests) = deep(&query, 1 << 20);
        settle().await;
        bench.context.drain.begin(Duration::ZERO);
        bench.context.history.wake_readers();
        let (code, reason, _) = bench.close().await;
        assert_eq!((code, reason), (1001, format!("{place} draining")), "{query}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_that_is_not_to_be_had_is_counted_once() {
    let bench = Bench::of(chain(3..=9), 1 << 20, wanted("from_height=2", Way::WebSocket));
    let context = Arc::clone(&bench.context);
    assert_eq!(bench.close().await.0, 4009);
    assert_eq!(context.metrics.resumes.get(ResumeOutcome::NotAvailable), 1);
}

#[tokio::test(start_paused = true)]
async fn new_blocks_are_no_life_of_a_client_that_reads_nothing() {
    let (bench, mut requests) = deep("from_height=1", 10);
    let mut request = requests.take().expect("a reading");
    request.set_state(crate::tickets::TicketState::Reading);
    request.history().append(block(1, 1));
    let brief = Duration::from_millis(100);
    while tokio::time::timeout(brief, request.progressed()).await.is_ok() {}
    bench.context.history.append(block(21, 1));
    assert!(tokio::time::timeout(brief, request.progressed()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_waits_for_its_turn_in_the_middle_of_a_message_owes_no_pong() {
    let (mut bench, mut requests) = deep("from_height=1", 10);
    let request = requests.take().expect("a reading");
    request.history().append(block(1, 1));
    request.set_state(crate::tickets::TicketState::Reading);
    settle().await;
    request.set_state(crate::tickets::TicketState::GivenUp);
    request.history().start_over();
    let expected = block(1, 1).events;
    let mut seen = vec![0; expected.len()];
    bench.client.read_exact(&mut seen[..10]).await.expect("what was written");
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert!(!bench.session.is_finished());
    let request = requests.take().expect("it asked again");
    request.history().append(block(1, 1));
    request.set_state(crate::tickets::TicketState::Reading);
    bench.client.read_exact(&mut seen[10..]).await.expect("the rest");
    assert_eq!(seen, expected);
}

/// A socket that takes so many bytes and no more: nobody reads at its other end. As it fills up, the
/// turn with the broker ends.
pub(super) struct Unread {
    pub left: usize,
    pub turn: Option<CalledTicket>,
}

impl Unread {
    fn takes(&mut self, bytes: usize) -> Poll<std::io::Result<usize>> {
        let taken = bytes.min(self.left);
        self.left -= taken;
        if self.left == 0
            && let Some(turn) = self.turn.take()
        {
            turn.set_state(crate::tickets::TicketState::GivenUp);
            turn.history().start_over();
        }
        if taken == 0 { Poll::Pending } else { Poll::Ready(Ok(taken)) }
    }
}

impl AsyncRead for Unread {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Unread {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.takes(bytes.len())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Transport for Unread {
    fn reset_on_drop(&self) {}

    fn poll_writable(&self, _: &mut Context<'_>) -> Poll<()> {
        if self.left == 0 { Poll::Pending } else { Poll::Ready(()) }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_is_cut_though_its_turn_ended_in_the_middle_of_a_message() {
    let (tickets, mut requests) = Tickets::new();
    let context = SessionContext {
        limits: config::ServerConfig::default(),
        history: chain(10..=20),
        tickets: Arc::new(tickets),
        metrics: Arc::new(Metrics::new()),
        drain: Arc::new(Drain::default()),
    };
    let wanted = wanted("from_height=1", Way::WebSocket);
    let transport = Unread { left: 10, turn: None };
    let mut session = Session::new(transport, Arc::new(context), wanted);
    let turn = requests.take().expect("a reading");
    turn.history().append(block(1, 1));
    turn.set_state(crate::tickets::TicketState::Reading);
    session.transport.turn = Some(turn);
    let began = Instant::now();
    let ended = tokio::time::timeout(Duration::from_secs(1_000), &mut session).await;
    assert_eq!(ended, Ok(Disconnect::Stalled));
    assert_eq!(began.elapsed().as_secs(), 30, "server.write_stall_timeout");
}

#[tokio::test(start_paused = true)]
async fn who_wants_the_oldest_gets_what_is_the_oldest_when_its_turn_comes() {
    for query in ["from_height=oldest&control=true", "from_height=-1000&control=true"] {
        let (mut bench, mut requests) = deep(query, 1 << 20);
        bench.context.tickets.set_first_height(Some(1));
        settle().await;
        let request = requests.take().expect("a reading");
        assert_eq!(request.from_height(), 1, "{query}");
        // The broker has trimmed its stream since it was asked where that begins.
        request.set_state(crate::tickets::TicketState::NotAvailable { first_height: Some(5) });
        settle().await;
        drop(request);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let request = requests.take().expect("it asks again");
        assert_eq!(request.from_height(), 5, "{query}");
        let read_back = Arc::clone(request.history());
        tokio::spawn(crate::encoder::run(read_back, CancellationToken::new()));
        request.history().append(block(5, 1));
        request.set_state(crate::tickets::TicketState::Reading);
        let position = String::from_utf8(bench.frame().await.1).expect("text");
        let expected = r#"{"type": "position", "height": 4, "first_height": 5, "tip_height": 20}"#;
        assert_eq!(position, expected, "{query}");
        assert_eq!(bench.frame().await.1, block(5, 1).payload(0), "{query}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_read_back_is_neither_late_nor_near() {
    let (mut bench, mut requests) = deep("from_height=1", 1 << 20);
    let request = requests.take().expect("a reading");
    request.history().append(block(1, 1));
    request.set_state(crate::tickets::TicketState::Reading);
    bench.frame().await;
    settle().await;
    let text = bench.context.metrics.to_text();
    for metric in ["append_to_write_seconds", "session_lag_blocks"] {
        assert!(text.contains(&format!("blockcast_{metric}_count 0\n")), "{metric}\n{text}");
    }
}

#[test]
fn a_gap_filled_while_it_is_told_is_told_as_filled() {
    let history = chain(1..=1);
    history.append_gap(2, 3);
    history.append(block(4, 1));
    history.append_gap(5, 6);
    history.append(block(7, 1));
    let tickets = (Arc::new(Tickets::none()), Claim::of(Ipv4Addr::LOCALHOST.into()));
    let mut source = BlockSource::new(Arc::clone(&history), tickets, RequiredEncodings::NONE, None);
    source.move_to(4);
    let mut entries = Entries::new();
    let mut offer = |source: &mut BlockSource| {
        let offered = source.offer(true, |_| RequiredEncodings::NONE, 1 << 20, &mut entries);
        let offered = offered.expect("all is there");
        let source::Offer::Entries(lag) = offered else { panic!("{offered:?}") };
        lag
    };
    assert!(history.fill(block(2, 1)));
    // With the gap of 5 and 6, which the client is told of from these entries.
    let lag = offer(&mut source);
    assert!(history.fill(block(5, 1)));
    source.note_fills(lag);
    assert_eq!(source.take_fills(), Ok(vec![2]));
    source.move_to(8);
    let lag = offer(&mut source);
    source.note_fills(lag);
    assert_eq!(source.take_fills(), Ok(vec![5]));
}

#[tokio::test(start_paused = true)]
async fn a_browser_that_has_all_comes_back_behind_it() {
    let mut bench = Bench::asked(
        Arc::try_unwrap(chain(3..=9)).expect("the only one"),
        Way::EventStream,
        "from_height=4&until_height=4",
    );
    let mut text = String::new();
    bench.client.read_to_string(&mut text).await.expect("text");
    let last = text.lines().filter_map(|line| line.strip_prefix("id: ")).next_back();
    assert_eq!(last, Some("4"), "with 4.0 it would ask for the rest of block 4 for ever\n{text}");
}

#[tokio::test(start_paused = true)]
async fn an_idle_session_keeps_no_room_for_a_large_block() {
    let history = chain(3..=3);
    history.append(block(4, 2_000));
    let bench = Bench::of(history, 1 << 20, wanted("", Way::WebSocket));
    let (client, server) = duplex(16 << 20);
    let wanted = wanted("after=4.0&batch=block", Way::WebSocket);
    assert_eq!(wanted.subscription.wire, Framing::WebSocket);
    let mut session = Session::new(server, Arc::clone(&bench.context), wanted);
    // Each poll writes as much as tokio lets a task do in one turn.
    for _ in 0..1_000 {
        let _ = poll_fn(|cx| Poll::Ready(session.turn(cx))).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(session.position().to_query().as_deref(), Some("after=4"));
    let bytes = session.selection.as_ref().expect("it filters").bytes();
    assert!(bytes <= 4_096, "{bytes} bytes");
    drop(client);
}

/// A client that reads nothing while its history of two blocks or so moves on.
async fn fallen(query: &str, pipe_bytes: usize) -> (Bench, TicketQueue) {
    let (tickets, requests) = Tickets::new();
    let history = Arc::new(History::new(2 * block(1, 5).bytes()));
    let bench =
        Bench::with(Arc::clone(&history), tickets, pipe_bytes, wanted(query, Way::WebSocket));
    for height in 1..=20 {
        history.append(block(height, 5));
        settle().await;
    }
    assert!(history.summary().first_height > Some(1), "the client's block is gone");
    (bench, requests)
}

/// Gives it `blocks` in a turn with the broker.
fn read_back(requests: &mut TicketQueue, heights: std::ops::RangeInclusive<u64>) -> CalledTicket {
    let request = requests.take().expect("it asked");
    heights.for_each(|height| request.history().append(block(height, 5)));
    request.set_state(crate::tickets::TicketState::Reading);
    request
}

#[tokio::test(start_paused = true)]
async fn a_client_that_falls_off_goes_on_from_the_broker_wherever_it_was_and_comes_back() {
    let events = block(1, 5).events.len();
    for pipe_bytes in [1, 10, events / 5, events / 2, events] {
        let (mut bench, mut requests) = fallen("", pipe_bytes).await;
        let metrics = Arc::clone(&bench.context.metrics);
        let expected: Vec<u8> = (1..=20).flat_map(|height| block(height, 5).events).collect();
        let mut seen = vec![0; expected.len()];
        let (first, rest) = seen.split_at_mut(pipe_bytes);
        bench.client.read_exact(first).await.expect("what was written");
        settle().await;
        let _turn = read_back(&mut requests, 1..=20);
        bench.client.read_exact(rest).await.expect("all of it");
        assert_eq!(seen, expected, "{pipe_bytes} bytes in flight");
        // Live again.
        let live = block(21, 5);
        let mut next = vec![0; live.events.len()];
        bench.context.history.append(live);
        bench.client.read_exact(&mut next).await.expect("the next one");
        assert_eq!(next, block(21, 5).events);
        assert_eq!(metrics.falls.get(), 1);
        assert!(!bench.session.is_finished());
    }
}

#[tokio::test(start_paused = true)]
async fn what_retention_took_from_one_that_fell_off_is_told_as_not_available() {
    let (mut bench, mut requests) = fallen("", block(1, 5).events.len()).await;
    let mut first = vec![0; block(1, 5).events.len()];
    bench.client.read_exact(&mut first).await.expect("what was written");
    settle().await;
    let request = requests.take().expect("it asked");
    request.set_state(crate::tickets::TicketState::NotAvailable { first_height: Some(7) });
    request.history().start_over();
    let (code, reason, disconnect) = bench.close().await;
    assert_eq!((code, &*reason, disconnect), (4009, "from_height=7", Disconnect::NotAvailable));
}

#[tokio::test(start_paused = true)]
async fn one_that_fell_off_inside_a_block_is_cut_when_another_comes_back() {
    let (mut bench, mut requests) = fallen("", 10).await;
    let mut seen = vec![0; 10];
    bench.client.read_exact(&mut seen).await.expect("what was written");
    settle().await;
    let request = requests.take().expect("it asked");
    request.history().append(block(1, 6));
    request.set_state(crate::tickets::TicketState::Reading);
    let mut rest = Vec::new();
    bench.client.read_to_end(&mut rest).await.expect("the end");
    assert!(rest.is_empty(), "nothing of the other block: {rest:?}");
    assert_eq!(bench.session.await.expect("ended"), Disconnect::Changed);
}

#[tokio::test(start_paused = true)]
async fn one_that_fell_off_and_waits_for_its_turn_is_kept_alive() {
    let first = block(1, 5).events;
    let (mut bench, mut requests) = fallen("", first.len()).await;
    let mut seen = vec![0; first.len()];
    bench.client.read_exact(&mut seen).await.expect("what was written");
    settle().await;
    let _waits = requests.take().expect("it asked");
    let (began_at, mut pings) = (Instant::now(), 0);
    while began_at.elapsed() < Duration::from_secs(100) {
        let (first, payload) = bench.frame().await;
        assert_eq!(first, 0x89, "a ping, and nothing else");
        pings += 1;
        bench.send(0x8a, &payload).await;
    }
    assert!(pings >= 3, "{pings}");
    assert!(!bench.session.is_finished());
}
