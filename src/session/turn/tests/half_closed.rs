//! Clients of event streams that say nothing more, and those that are gone, under paused time.

use super::*;
use crate::frame::testing::block;
use crate::tickets::TicketState;

/// What a client reads until `end` has come.
async fn up_to(client: &mut DuplexStream, end: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(end) {
        text.push(client.read_u8().await.expect("more").into());
    }
    text
}

async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn an_event_stream_goes_on_behind_the_end_of_what_its_client_sends() {
    let mut bench = Bench::asked(History::new(usize::MAX), Way::EventStream, "control=true");
    up_to(&mut bench.client, "\n\n").await;
    bench.client.shutdown().await.expect("shut");
    let began = Instant::now();
    assert_eq!(up_to(&mut bench.client, "\n\n").await, ":\n\n", "a comment");
    assert_eq!(began.elapsed(), Duration::ZERO, "at once");
    for height in 1..=2 {
        bench.context.history.append(block(height, 1));
        let told =
            up_to(&mut bench.client, &format!("\"height\": {height}, \"events\": 1}}\n\n")).await;
        assert!(told.contains("event: block"), "{told}");
        // In doubt, and then not any more.
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    let Bench { context, session, mut client } = bench;
    context.drain.begin(Duration::ZERO);
    context.history.wake_readers();
    let told = up_to(&mut client, "draining\"}\n\n").await;
    assert!(told.contains("event: close"), "{told}");
    assert_eq!(session.await.expect("ended by our close"), Disconnect::Drained);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_gone_is_found_by_the_comment() {
    let bench = Bench::asked(History::new(usize::MAX), Way::EventStream, "");
    settle().await;
    let Bench { session, client, .. } = bench;
    let began = Instant::now();
    drop(client);
    assert_eq!(session.await.expect("ended"), Disconnect::Client);
    assert!(began.elapsed() <= Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn no_turn_with_the_broker_is_kept_in_doubt_and_all_is_had_behind_it() {
    // Before its turn, and in the middle of it; at the beginning of its stream, and in a block.
    for is_read in [false, true] {
        let history = Arc::new(History::new(usize::MAX));
        (10..=20).for_each(|height| history.append(block(height, 1)));
        tokio::spawn(crate::encoder::run(Arc::clone(&history), CancellationToken::new()));
        let (tickets, mut requests) = Tickets::new();
        tickets.set_first_height(Some(1));
        let wanted = wanted("from_height=8", Way::EventStream);
        let mut bench = Bench::with(history, tickets, 1 << 20, wanted);
        settle().await;
        let read = |request: &crate::tickets::CalledTicket, height| {
            let read_back = Arc::clone(request.history());
            tokio::spawn(crate::encoder::run(Arc::clone(&read_back), CancellationToken::new()));
            read_back.append(block(height, 1));
            request.set_state(TicketState::Reading);
        };
        let mut next = 8;
        let first = is_read.then(|| requests.take().expect("it asks"));
        if let Some(request) = &first {
            read(request, 8);
            up_to(&mut bench.client, "id: 8.0\n").await;
            up_to(&mut bench.client, "\n\n").await;
            next = 9;
        }
        bench.client.shutdown().await.expect("shut");
        settle().await;
        up_to(&mut bench.client, ":\n\n").await;
        assert_eq!(requests.waiting(), 0, "it has let go");
        assert!(first.is_none_or(|first| first.dropped().is_cancelled()), "its turn, too");
        tokio::time::sleep(Duration::from_millis(900)).await;
        assert_eq!(requests.waiting(), 0, "in doubt");
        tokio::time::sleep(Duration::from_millis(200)).await;
        let request = requests.take().expect("it asks again");
        assert_eq!(request.from_height(), next);
        (next..=9).for_each(|height| read(&request, height));
        for height in next..=20 {
            up_to(&mut bench.client, &format!("id: {height}.0\n")).await;
        }
        assert!(!bench.session.is_finished());
    }
}
