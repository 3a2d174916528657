//! Sessions that wait for forms of blocks.

use futures_util::FutureExt;

use super::*;
use crate::frame::{Encoding, encode_as};
use crate::history::{Form, RequiredEncodings};

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
    let jobs = Vec::from_iter(std::iter::from_fn(|| history.next_encode_job().now_or_never()));
    assert_eq!(jobs.len(), Encoding::ALL.len(), "each form once");
    assert!(bench.client.read_u8().now_or_never().is_none(), "nothing is made yet");
    let its = jobs.iter().find(|job| job.form() == Form::Encoding(Encoding::DeflateEvents));
    let its = its.expect("queued");
    its.make();
    history.finish(its);
    let expected = encode_as(&block(1, 3), Encoding::DeflateEvents).bytes;
    let mut read = vec![0; expected.len()];
    bench.client.read_exact(&mut read).await.expect("its form");
    assert_eq!(read, expected);
}
