//! Sessions that wait for forms of blocks.

use futures_util::FutureExt;

use super::waits::Unread;
use super::*;
use crate::frame::{Encoding, encode_as};
use crate::history::{EncodingCounts, Encodings, Form, RequiredEncodings};

fn deflated(query: &str) -> SessionRequest {
    let mut wanted = wanted(query, Way::WebSocket);
    wanted.subscription.is_compressed = true;
    wanted
}

async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_gets_its_form_while_the_others_of_the_block_are_still_to_be_made() {
    for query in ["", "from_height=1"] {
        let history = Arc::new(History::new(usize::MAX));
        let others: Vec<_> = Encoding::ALL
            .into_iter()
            .map(|encoding| history.watch(RequiredEncodings::of(encoding)))
            .collect();
        if query.is_empty() {
            let mut bench = Bench::of(Arc::clone(&history), 1 << 20, deflated(query));
            history.append(block(1, 3));
            check_served(&history, &mut bench).await;
        } else {
            history.append(block(1, 3));
            let mut bench = Bench::of(Arc::clone(&history), 1 << 20, deflated(query));
            check_served(&history, &mut bench).await;
        }
        assert_eq!(others.len(), Encoding::ALL.len());
    }
}

/// Makes one of all forms that are queued, and reads it.
async fn check_served(history: &History, bench: &mut Bench) {
    settle().await;
    let jobs = Vec::from_iter(std::iter::from_fn(|| history.encodings().next_job().now_or_never()));
    assert_eq!(jobs.len(), Encoding::ALL.len(), "each form once");
    assert!(bench.client.read_u8().now_or_never().is_none(), "nothing is made yet");
    let (its, others): (Vec<_>, Vec<_>) =
        jobs.into_iter().partition(|job| job.form() == Form::Encoding(Encoding::DeflateEvents));
    for mut job in its {
        job.make();
        job.finish();
    }
    let expected = encode_as(&block(1, 3), Encoding::DeflateEvents).bytes;
    let mut read = vec![0; expected.len()];
    bench.client.read_exact(&mut read).await.expect("its form");
    assert_eq!(read, expected);
    assert_eq!(others.len() + 1, Encoding::ALL.len(), "still to be made");
}

const BLOCKS: u64 = 60;
const EVENTS: u64 = 3;

/// A full history of [`BLOCKS`] blocks, whose encodings take `bytes_max` together.
fn full_history(bytes_max: usize, counts: &EncodingCounts) -> Arc<History> {
    let of_blocks = History::new(usize::MAX);
    (1..=BLOCKS).for_each(|height| of_blocks.append(block(height, EVENTS)));
    let encodings = Encodings::new(bytes_max, counts.clone());
    let history = Arc::new(History::with(of_blocks.summary().bytes, encodings));
    (1..=BLOCKS).for_each(|height| history.append(block(height, EVENTS)));
    assert_eq!(history.first_height(), Some(1));
    history
}

fn with_encoder(history: Arc<History>) -> Arc<History> {
    tokio::spawn(crate::encoder::run(Arc::clone(&history), CancellationToken::new()));
    history
}

/// What comes of all blocks in one encoding.
fn all_in(encoding: Encoding) -> Vec<u8> {
    (1..=BLOCKS).flat_map(|it| encode_as(&block(it, EVENTS), encoding).bytes.to_vec()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_client_that_resumes_from_the_first_height_reads_all_and_pushes_out_nothing() {
    for bytes_max in [1, 2_000, 10_000, 300_000] {
        let counts = EncodingCounts::default();
        let history = with_encoder(full_history(bytes_max, &counts));
        let before = history.summary();
        let query = format!("from_height=1&until_height={BLOCKS}");
        let mut bench = Bench::of(Arc::clone(&history), 100, deflated(&query));
        let expected = all_in(Encoding::DeflateEvents);
        let mut read = vec![0; expected.len()];
        bench.client.read_exact(&mut read).await.expect("all blocks");
        assert_eq!(read, expected, "with {bytes_max}");
        assert_eq!(history.summary(), before, "with {bytes_max}");
        let (again, taken) = (counts.made_again.get(), expected.len() as u64);
        assert!(again <= 4 * taken, "{again} made again for {taken} with {bytes_max}");
    }
}

/// Every way to be sent something else than plain frames.
fn mixed_forms() -> Vec<SessionRequest> {
    let filter = format!("transaction_id={:064x}", 1);
    let mut all = Vec::new();
    for query in ["", "batch=block", "control=true", "limit=100000", &filter] {
        for way in [Way::WebSocket, Way::EventStream] {
            for is_compressed in [false, true] {
                let bounds = format!("from_height=1&until_height={BLOCKS}");
                let mut wanted = wanted(&format!("{bounds}&{query}"), way);
                wanted.subscription.is_compressed = is_compressed;
                all.push(wanted);
            }
        }
    }
    all
}

#[tokio::test(start_paused = true)]
async fn clients_of_mixed_forms_walk_through_all_while_plain_ones_at_the_old_end_lose_nothing() {
    const CLIENTS: usize = 200;
    for bytes_max in [1, 20_000, 1 << 20] {
        let counts = EncodingCounts::default();
        let history = with_encoder(full_history(bytes_max, &counts));
        let before = history.summary();
        let plain = || wanted(&format!("from_height=1&until_height={BLOCKS}"), Way::WebSocket);
        // These have begun with the first block, and read nothing for now.
        let mut still =
            Vec::from_iter((0..10).map(|_| Bench::of(Arc::clone(&history), 64, plain())));
        settle().await;
        let clients = std::iter::repeat_with(mixed_forms).flatten().take(CLIENTS);
        let readers: Vec<_> = clients
            .map(|wanted| {
                let Bench { mut client, session, .. } =
                    Bench::of(Arc::clone(&history), 1 << 16, wanted);
                tokio::spawn(async move {
                    let mut ended = [0; 4_096];
                    // The close, or the end, is the last that comes.
                    while client.read(&mut ended).await.expect("read") > 0 {
                        if session.is_finished() {
                            break;
                        }
                    }
                    session.await.expect("no panic")
                })
            })
            .collect();
        for reader in readers {
            assert_eq!(reader.await.expect("no panic"), Disconnect::Done, "with {bytes_max}");
        }
        assert_eq!(history.summary(), before, "with {bytes_max}");
        assert!(counts.made.get() > 0);
        let expected: Vec<u8> =
            (1..=BLOCKS).flat_map(|height| block(height, EVENTS).events.to_vec()).collect();
        for bench in &mut still {
            let mut read = vec![0; expected.len()];
            bench.client.read_exact(&mut read).await.expect("all blocks");
            assert_eq!(read, expected);
        }
    }
}

/// Makes what there is room for one by one, and returns how many that were.
fn make_all(history: &History) -> usize {
    let jobs = std::iter::from_fn(|| history.encodings().next_job().now_or_never());
    let making = jobs.map(|mut job| {
        job.make();
        job.finish();
    });
    making.count()
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_has_no_form_made_and_keeps_none() {
    let encoding = Encoding::DeflateEvents;
    for (left, asked) in [(0, 0), (10, 1)] {
        let history = full_history(1, &EncodingCounts::default());
        let context = surroundings(Arc::clone(&history), Tickets::none());
        let transport = Unread { left, turn: None };
        let blocked = Session::new(transport, context, deflated("from_height=1"));
        let blocked = tokio::spawn(blocked);
        settle().await;
        assert_eq!(make_all(&history), asked, "the first block's, for who takes bytes");
        settle().await;
        // There is room for one form: it has to go for who reads.
        let mut bench =
            Bench::of(Arc::clone(&history), 1 << 16, deflated("from_height=2&until_height=2"));
        settle().await;
        assert_eq!(make_all(&history), 1);
        let expected = encode_as(&block(2, EVENTS), encoding).bytes;
        let mut read = vec![0; expected.len()];
        bench.client.read_exact(&mut read).await.expect("its form");
        assert_eq!(read, expected);
        for _ in 0..10 {
            history.wake_readers();
            settle().await;
            assert_eq!(make_all(&history), 0, "nothing is made for who takes nothing");
        }
        assert!(!blocked.is_finished());
    }
}
