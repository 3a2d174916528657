//! A client that takes a tenth of what the chain brings, for two hours.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use fastrand::Rng;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::pipe::{Pipe, pipe};
use crate::backfill::testing::Tape;
use crate::backfill::{Backfill, BackfillParts};
use crate::config::{self, Blocks};
use crate::frame::testing::encoded;
use crate::history::History;
use crate::metrics::Metrics;
use crate::server::testing::{Asking, Framing, SessionContext, Stream, open};
use crate::shutdown::Drain;
use crate::tickets::Tickets;

const BLOCK_EVERY: Duration = Duration::from_millis(200);
const READS_EVERY: Duration = Duration::from_secs(2);
const LASTS: Duration = Duration::from_secs(2 * 3_600);
/// What the pipe between holds: less than a block.
const IN_FLIGHT_BYTES: usize = 500;

fn body(height: u64) -> String {
    let ids = (0..3).map(|number| format!("{{\"id\": \"{height:060x}{number:04}\"}}"));
    let ids = ids.collect::<Vec<_>>().join(",");
    format!("{{\"height\": {height}, \"transactions\": [{ids}]}}")
}

#[tokio::test(start_paused = true)]
async fn a_client_ten_times_slower_than_the_chain_is_never_cut_and_misses_nothing() {
    let (tape, metrics) = (Tape::default(), Arc::new(Metrics::new()));
    let history = Arc::new(History::new(20 * encoded(&body(1)).bytes()));
    let (tickets, queue) = Tickets::new();
    let tickets = Arc::new(tickets);
    let parts = BackfillParts {
        blocks: Blocks::default(),
        encoded_bytes_max: 1 << 30,
        turns_max: 1,
        tickets: Arc::clone(&tickets),
        queue,
        metrics: Arc::clone(&metrics),
    };
    let shutdown = CancellationToken::new();
    let backfill = tokio::spawn(Backfill::new(parts, tape.clone()).run(shutdown.clone()));
    let context = Arc::new(SessionContext {
        limits: config::ServerConfig::default(),
        history: Arc::clone(&history),
        tickets,
        metrics: Arc::clone(&metrics),
        drain: Arc::new(Drain::default()),
    });
    let publishing = tokio::spawn({
        let history = Arc::clone(&history);
        async move {
            for height in 1.. {
                tape.push(height, body(height).into_bytes());
                history.append(encoded(&body(height)));
                sleep(BLOCK_EVERY).await;
            }
        }
    });
    sleep(BLOCK_EVERY).await;
    let step = Arc::new(AtomicU64::new(0));
    let (client, end) = pipe(Rng::with_seed(1), step, IN_FLIGHT_BYTES);
    let asking = Asking {
        stream: Stream::Transactions,
        query: "from_height=1",
        wire: Framing::WebSocket,
        is_compressed: false,
        last_event_id: None,
    };
    let session = tokio::spawn(open(end, context, asking));
    while !next_bytes(&client, 1).await.ends_with(b"{") {
        // The head of the answer, and the first frame's.
    }
    let begun = encoded(&body(1)).events;
    let begun = begun.iter().position(|byte| *byte == b'{').expect("JSON") + 1;
    let (began_at, mut height, mut received) = (Instant::now(), 1, begun);
    while began_at.elapsed() < LASTS {
        let expected = encoded(&body(height)).events;
        while received < expected.len() {
            let bytes = next_bytes(&client, expected.len() - received).await;
            match bytes[..] {
                // A ping stands between two frames, and is answered.
                [0x89, 0] => client.write(&[0x8a, 0x80, 0, 0, 0, 0]),
                _ => {
                    assert_eq!(bytes, expected[received..received + bytes.len()], "{height}");
                    received += bytes.len();
                }
            }
        }
        (received, height) = (0, height + 1);
        sleep(READS_EVERY).await;
    }
    assert!(!session.is_finished());
    let tip = history.summary().tip.expect("a block");
    assert!(tip > 9 * height, "the chain went on: {tip}, and the client is at {height}");
    assert!(metrics.falls.get() >= 1);
    publishing.abort();
    drop(client);
    shutdown.cancel();
    backfill.await.expect("it ended by itself");
}

/// What comes next, `bytes_max` of it at most.
async fn next_bytes(client: &Pipe, bytes_max: usize) -> Vec<u8> {
    loop {
        if let Some((bytes, _)) = client.read(bytes_max) {
            return bytes;
        }
        sleep(Duration::from_millis(1)).await;
    }
}
