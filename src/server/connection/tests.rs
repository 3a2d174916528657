//! Connections over an in-memory pipe, under paused time, on the only place that there is.

use std::net::SocketAddr;
use std::task::Context;

use tokio::io::{DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::super::admission::Admission;
use super::super::places::{Place, Places};
use super::super::{Server, ServerParts};
use super::*;
use crate::config::{Admin, ServerConfig};
use crate::history::History;
use crate::metrics::Metrics;
use crate::operator_status::OperatorStatus;
use crate::protocol::Stream;
use crate::readiness::Readiness;
use crate::session::SessionStatus;
use crate::shutdown::Drain;
use crate::tickets::Tickets;

const LIVE: &[u8] = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n";
const CLOSE: &str = "\r\nconnection: close\r\n";
/// How long a newcomer waits.
const WITHIN: Duration = Duration::from_millis(200);
/// What balancers keep a connection for, those that do for long.
const BALANCER: Duration = Duration::from_secs(600);
const PIPE_BYTES: usize = 4_096;

struct Bench {
    context: Arc<ServerContext>,
    places: Arc<Places>,
    client: DuplexStream,
    serving: JoinHandle<()>,
}

fn context() -> Arc<ServerContext> {
    let mut limits = ServerConfig::default();
    limits.listen = SocketAddr::from(([127, 0, 0, 1], 0)).into();
    let parts = ServerParts {
        history: Arc::new(History::new(1 << 20)),
        tickets: Arc::new(Tickets::none()),
        metrics: Arc::new(Metrics::new()),
        readiness: Arc::new(Readiness::new(Duration::from_secs(60))),
        operator_status: Arc::new(OperatorStatus::default()),
        drain: Arc::new(Drain::default()),
        tls: None,
        reload: Arc::default(),
    };
    Server::bind(&limits, &Admin::default(), parts).expect("bound").context
}

fn peer(place: Place) -> Peer {
    let address = SocketAddr::from(([192, 0, 2, 1], 1));
    let slot = Arc::new(Admission::new(1, 0)).admit(None).expect("a place");
    let (is_proxied, is_admin, is_tls) = (false, false, false);
    let (slot, place) = (Arc::new(slot), Arc::new(place));
    Peer { address, local: None, is_proxied, is_admin, is_tls, slot, place }
}

impl Bench {
    /// A connection among so many places.
    async fn start(places_max: usize) -> Self {
        let context = context();
        let places = Arc::new(Places::new(places_max));
        let place = places.take(WITHIN).await.expect("a free one");
        let (client, stream) = duplex(PIPE_BYTES);
        let serving = tokio::spawn(serve(stream, peer(place), Arc::clone(&context)));
        Self { context, places, client, serving }
    }

    async fn say(&mut self, bytes: &[u8]) {
        self.client.write_all(bytes).await.expect("taken");
    }

    /// An answer with a body of one line.
    async fn answer(&mut self) -> String {
        let mut answer = Vec::new();
        while !answer.ends_with(b"}\n") {
            answer.push(self.client.read_u8().await.expect("an answer"));
        }
        String::from_utf8(answer).expect("ASCII")
    }

    async fn live(&mut self) -> String {
        self.say(LIVE).await;
        self.answer().await
    }

    /// All that still comes, until the connection ends.
    async fn rest(&mut self) -> String {
        let mut rest = String::new();
        self.client.read_to_string(&mut rest).await.expect("an end");
        rest
    }

    fn refused_as_slow(&self) -> u64 {
        self.context.session.metrics.handshakes_refused.get(HandshakeRefusal::TooSlow)
    }

    fn put_out(&self) -> u64 {
        self.context.session.metrics.connections_put_out.get()
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_outlasts_balancers_and_ends_between_requests() {
    let mut bench = Bench::start(2).await;
    for _ in 0..3 {
        let answer = bench.live().await;
        assert!(answer.starts_with("HTTP/1.1 200") && !answer.contains(CLOSE), "{answer}");
        sleep(BALANCER).await;
    }
    assert_eq!(bench.rest().await, "", "a clean end");
    bench.serving.await.expect("ended");
    let handshake_timeout = bench.context.session.limits.handshake_timeout;
    let mut bench = Bench::start(2).await;
    let began = Instant::now();
    assert_eq!(bench.rest().await, "", "one that never asks ends sooner");
    assert_eq!(began.elapsed().as_secs(), handshake_timeout.as_secs());
    assert_eq!(bench.refused_as_slow(), 0, "nothing was asked");
}

#[tokio::test(start_paused = true)]
async fn a_head_that_has_begun_is_cut_in_time_wherever_it_begins() {
    for (first, drops, is_told) in [
        // At once; behind a long silence; behind the head before in one piece.
        (&b""[..], &b"GET /health"[..], true),
        (LIVE, b"G", false),
        (b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\nGET /he", b"", false),
    ] {
        let mut bench = Bench::start(2).await;
        let handshake_timeout = bench.context.session.limits.handshake_timeout;
        if !first.is_empty() {
            bench.say(first).await;
            bench.answer().await;
        }
        if first == LIVE {
            sleep(BALANCER).await;
        }
        let began = Instant::now();
        // More of it is no more time for it.
        for byte in drops {
            bench.say(&[*byte]).await;
            sleep(handshake_timeout / 20).await;
        }
        let told = bench.rest().await;
        assert_eq!(told.starts_with("HTTP/1.1 408"), is_told, "{told}");
        assert_eq!(began.elapsed().as_secs(), handshake_timeout.as_secs(), "{first:?}");
        assert_eq!(bench.refused_as_slow(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn answers_without_a_reader_end_in_a_minute() {
    let mut bench = Bench::start(2).await;
    let began = Instant::now();
    // Far more answers than the pipe takes.
    bench.say(&LIVE.repeat(60)).await;
    (&mut bench.serving).await.expect("ended");
    assert!((60..=66).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_puts_out_who_is_idle_and_an_answer_on_a_wanted_place_is_the_last() {
    // All places but its own are free: it may stay.
    let mut bench = Bench::start(2).await;
    assert!(!bench.live().await.contains(CLOSE));
    let _other = bench.places.take(WITHIN).await.expect("a free one");
    let newcomer = bench.places.take(WITHIN).await.expect("the idle one's");
    assert_eq!(bench.rest().await, "", "a clean end");
    assert_eq!(bench.put_out(), 1);
    drop(newcomer);

    let mut bench = Bench::start(1).await;
    assert!(bench.live().await.contains(CLOSE), "it is told");
    assert_eq!(bench.rest().await, "");
    assert!(bench.places.take(WITHIN).await.is_some());
    assert_eq!(bench.put_out(), 0);

    let mut bench = Bench::start(2).await;
    assert!(!bench.live().await.contains(CLOSE));
    bench.context.readiness.set_draining();
    assert!(bench.live().await.contains(CLOSE), "the replica goes");
}

#[tokio::test(start_paused = true)]
async fn who_is_in_a_request_is_left_in_peace_and_not_for_ever() {
    let began_head = async |bench: &mut Bench| bench.say(b"GET /health").await;
    // Far more answers than the pipe takes.
    let unread = async |bench: &mut Bench| bench.say(&LIVE.repeat(60)).await;
    let mut bench = Bench::start(1).await;
    began_head(&mut bench).await;
    assert!(bench.places.take(WITHIN).await.is_none(), "it has only begun");
    bench.say(b"/live HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(bench.answer().await.starts_with("HTTP/1.1 200"));

    let mut bench = Bench::start(1).await;
    began_head(&mut bench).await;
    sleep(HEAD_PEACE).await;
    assert!(bench.places.take(WITHIN).await.is_some(), "it waits for its client");
    assert_eq!((bench.rest().await.as_str(), bench.put_out()), ("", 1));

    // Beside a free place, so that no answer is the last.
    let mut bench = Bench::start(2).await;
    unread(&mut bench).await;
    sleep(HEAD_PEACE).await;
    let _other = bench.places.take(WITHIN).await.expect("a free one");
    sleep(HEAD_PEACE).await;
    assert!(bench.places.take(WITHIN).await.is_none(), "answers are under way");
    sleep(5 * HEAD_PEACE).await;
    assert!(bench.places.take(WITHIN).await.is_some(), "nobody reads them");
    assert_eq!(bench.put_out(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_came_before_the_newcomer_was_heard_is_answered() {
    let mut bench = Bench::start(2).await;
    assert!(!bench.live().await.contains(CLOSE));
    let _other = bench.places.take(WITHIN).await.expect("a free one");
    // Both before the connection has its turn.
    bench.say(LIVE).await;
    let taking = bench.places.take(WITHIN);
    let (answer, newcomer) = {
        let mut client = tokio::io::BufReader::new(&mut bench.client);
        let mut answer = String::new();
        let reading = client.read_to_string(&mut answer);
        let (read, newcomer) = tokio::join!(reading, taking);
        read.expect("an end");
        (answer, newcomer)
    };
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(CLOSE), "{answer}");
    assert!(newcomer.is_some(), "it is let in behind the answer");
    assert_eq!(bench.put_out(), 0);
}

#[tokio::test(start_paused = true)]
async fn readers_of_the_sessions_that_stop_keep_a_bounded_part_of_the_list() {
    const READERS: usize = 60;
    const SESSIONS: usize = 4_000;
    let context = context();
    let seen = || {
        let address = [192, 0, 2, 1].into();
        Arc::new(SessionStatus::new(address, Stream::Blocks, "asset_id=x"))
    };
    let _listed: Vec<_> = (0..SESSIONS).map(|_| context.sessions.list(&seen())).collect();
    let places = Arc::new(Places::new(READERS + 1));
    let mut asked = Vec::new();
    for _ in 0..READERS {
        let place = places.take(WITHIN).await.expect("a free one");
        let peer = Peer { is_admin: true, ..peer(place) };
        let (mut client, stream) = duplex(PIPE_BYTES);
        client.write_all(b"GET /sessions HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("taken");
        asked.push((client, Box::pin(serve(stream, peer, Arc::clone(&context)))));
    }
    let mut whole = String::new();
    let kept = allocation_counter::measure(|| {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        for (_, serving) in &mut asked {
            // Until it waits for its reader.
            assert!(serving.as_mut().poll(&mut cx).is_pending());
        }
    });
    let (mut client, serving) = asked.pop().expect("one of them");
    tokio::spawn(serving);
    while !whole.ends_with("]\n\r\n0\r\n\r\n") {
        whole.push(client.read_u8().await.expect("all of it").into());
    }
    let each = kept.bytes_max as usize / READERS;
    assert!(each < whole.len() / 4, "{each} bytes are kept of {}", whole.len());
}
