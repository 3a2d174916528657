//! Starts, ends, filters, control messages and Server-Sent Events, under paused time.

use super::*;
use crate::frame::Encoding;
use crate::frame::testing::block;
use crate::history::RequiredEncodings;

/// A history of the heights `from..=to`, two events each, the gap in it left out.
fn history_with_gap(heights: std::ops::RangeInclusive<u64>, gap: (u64, u64)) -> History {
    let history = History::new(usize::MAX);
    for height in heights {
        match height {
            height if height == gap.0 => history.append_gap(gap.0, gap.1),
            height if (gap.0..=gap.1).contains(&height) => {}
            height => history.append(block(height, 2)),
        }
    }
    history
}

impl Bench {
    /// The JSON of the next text message.
    async fn json(&mut self) -> serde_json::Value {
        let (first, payload) = self.frame().await;
        assert_eq!(first, 0x81, "{}", String::from_utf8_lossy(&payload));
        serde_json::from_slice(&payload).expect("JSON")
    }

    /// The texts of the next `count` messages in short: `H.I` for an event, else what it says.
    async fn texts(&mut self, count: usize) -> Vec<String> {
        let mut texts = Vec::new();
        for _ in 0..count {
            let json = self.json().await;
            texts.push(match json["type"].as_str() {
                None if json["events"].is_array() => {
                    let events = json["events"].as_array().expect("a list");
                    format!("batch {} of {}", json["height"], events.len())
                }
                None => {
                    let id = json["transaction_id"].as_str().expect("an id");
                    let index = u64::from_str_radix(id, 16).expect("an index");
                    format!("{}.{index}", json["height"])
                }
                Some(kind) => {
                    let rest = ["height", "from_height", "to_height", "first_height", "tip_height"];
                    let numbers = rest.iter().filter_map(|key| json.get(key));
                    numbers.fold(kind.to_owned(), |text, number| format!("{text} {number}"))
                }
            });
        }
        texts
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_in_the_middle_ends_where_the_client_has_enough() {
    for (query, expected, close) in [
        ("from_height=4&until_height=4", &["4.0", "4.1"][..], (1000, "after=4 done")),
        ("after=3.0&limit=2", &["3.1", "4.0"], (1000, "after=4.0 done")),
        ("after=3.0&limit=3", &["3.1", "4.0", "4.1"], (1000, "after=4 done")),
        ("after=3.9&until_height=4", &["4.0", "4.1"], (1000, "after=4 done")),
        ("from_height=-1&until_height=9", &["8.0", "8.1", "9.0", "9.1"], (1000, "after=9 done")),
        ("from_height=latest&limit=1", &["9.0"], (1000, "after=9.0 done")),
        ("from_height=oldest&limit=1", &["3.0"], (1000, "after=3.0 done")),
        ("from_height=5&until_height=7", &["7.0", "7.1"], (1000, "after=7 done")),
        ("after=9&until_height=9", &[], (1000, "after=9 done")),
        ("from_height=90&until_height=50", &[], (1000, "after=89 done")),
        ("from_height=2", &[], (4009, "from_height=3")),
        (
            "after=3.0&batch=block&limit=2",
            &["batch 3 of 1", "batch 4 of 2"],
            (1000, "after=4 done"),
        ),
    ] {
        let mut bench = Bench::asked(history_with_gap(3..=9, (5, 6)), Way::WebSocket, query);
        assert_eq!(bench.texts(expected.len()).await, expected, "{query}");
        let (code, reason, _) = bench.close().await;
        assert_eq!((code, reason.as_str()), close, "{query}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_behind_a_transaction_is_found_in_its_block_or_refused() {
    let id = |event: u64| format!("{event:064x}");
    let query = format!("after=4.{}&limit=2", id(0));
    let mut bench = Bench::asked(history_with_gap(3..=9, (5, 6)), Way::WebSocket, &query);
    assert_eq!(bench.texts(2).await, ["4.1", "7.0"]);
    assert_eq!(bench.close().await.1, "after=7.0 done");
    let query = format!("after=4.{}", id(7));
    let bench = Bench::asked(history_with_gap(3..=9, (5, 6)), Way::WebSocket, &query);
    let (code, reason, _) = bench.close().await;
    assert_eq!((code, reason.as_str()), (4000, "`after`: block 4 has no such transaction"));
    let query = format!("after=5.{}&limit=1", id(7));
    let mut bench = Bench::asked(history_with_gap(3..=9, (5, 6)), Way::WebSocket, &query);
    assert_eq!(bench.texts(1).await, ["7.0"], "a block that never came has nothing left");
}

#[tokio::test(start_paused = true)]
async fn control_messages_stand_where_they_belong() {
    let query = "from_height=4&control=true";
    let mut bench = Bench::asked(history_with_gap(3..=8, (5, 6)), Way::WebSocket, query);
    let expected = [
        "position 3 3 8",
        "4.0",
        "4.1",
        "block 4",
        "gap 5 6",
        "7.0",
        "7.1",
        "block 7",
        "8.0",
        "8.1",
        "block 8",
    ];
    assert_eq!(bench.texts(expected.len()).await, expected);
    let silent_since = Instant::now();
    bench.context.history.fill(block(6, 1));
    assert_eq!(bench.texts(1).await, ["filled 6"]);
    assert_eq!(bench.texts(1).await, ["heartbeat 8"]);
    assert_eq!(silent_since.elapsed().as_secs(), 15, "server.heartbeat_interval");
    bench.context.history.append(block(9, 0));
    assert_eq!(bench.texts(1).await, ["block 9"], "an empty block ends too");
}

#[tokio::test(start_paused = true)]
async fn a_filter_lets_through_what_matches_and_its_client_hears_how_far_it_is() {
    let query = format!("transaction_id={:064x}&from_height=oldest&control=true", 1);
    let history = history_with_gap(3..=4, (0, 0));
    history.append(block(5, 1));
    let mut bench = Bench::asked(history, Way::WebSocket, &query);
    let expected = ["position 2 3 5", "3.1", "block 3", "4.1", "block 4", "block 5"];
    assert_eq!(bench.texts(expected.len()).await, expected);
    let query = format!("transaction_id={:064x}&batch=block&limit=2", 1);
    let mut bench = Bench::asked(history_with_gap(3..=4, (0, 0)), Way::WebSocket, &query);
    for size in [1, 2, 5] {
        let height = bench.context.history.summary().tip.expect("a tip") + 1;
        bench.context.history.append(block(height, size));
    }
    assert_eq!(bench.texts(2).await, ["batch 6 of 1", "batch 7 of 1"]);
    assert_eq!(bench.close().await.1, "after=7 done");
}

#[tokio::test(start_paused = true)]
async fn the_next_height_is_waited_for_and_one_further_up_for_a_while() {
    let mut bench = Bench::asked(history_with_gap(3..=9, (5, 6)), Way::WebSocket, "from_height=10");
    tokio::time::sleep(Duration::from_secs(24)).await;
    bench.context.history.append(block(10, 1));
    assert_eq!(bench.texts(1).await, ["10.0"]);

    let query = "from_height=12&control=true";
    let mut bench = Bench::asked(history_with_gap(3..=9, (5, 6)), Way::WebSocket, query);
    tokio::time::sleep(Duration::from_secs(9)).await;
    bench.context.history.append(block(10, 1));
    bench.context.history.append(block(11, 1));
    assert_eq!(bench.texts(1).await, ["position 11 3 11"]);
    bench.context.history.append(block(12, 1));
    assert_eq!(bench.texts(1).await, ["12.0"]);

    let began = Instant::now();
    let bench = Bench::asked(history_with_gap(3..=9, (5, 6)), Way::WebSocket, "from_height=11");
    let (code, reason, disconnect) = bench.close().await;
    assert_eq!((code, reason.as_str(), disconnect), (4009, "tip=9", Disconnect::NotAvailable));
    assert_eq!(began.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn events_stream_with_ids_and_end_with_their_reason() {
    let history = history_with_gap(3..=4, (0, 0));
    let mut bench = Bench::asked(history, Way::EventStream, "after=3.0&limit=2&control=true");
    let mut text = String::new();
    bench.client.read_to_string(&mut text).await.expect("text");
    let event = |height: u64, event: u64| {
        format!(
            "id: {height}.{event}\ndata: {}\n\n",
            String::from_utf8_lossy(block(height, 2).payload(event as usize))
        )
    };
    let expected = [
        "200\n".to_owned(),
        "id: 3.0\nevent: position\ndata: {\"type\": \"position\", \"height\": 3, \"index\": 0, \
         \"first_height\": 3, \"tip_height\": 4}\n\n"
            .to_owned(),
        event(3, 1),
        "id: 3\nevent: block\ndata: {\"type\": \"block\", \"height\": 3, \"events\": 2}\n\n"
            .to_owned(),
        event(4, 0),
        "id: 4.0\nevent: close\n\
         data: {\"type\": \"close\", \"code\": 1000, \"reason\": \"after=4.0 done\"}\n\n"
            .to_owned(),
    ];
    assert_eq!(text, expected.concat());
    drop(bench.client);
    assert_eq!(bench.session.await.expect("ended"), Disconnect::Done);
}

#[tokio::test(start_paused = true)]
async fn an_event_streams_start_that_is_gone_is_refused_unless_the_url_says_where_else() {
    let mut bench =
        Bench::asked(history_with_gap(3..=4, (0, 0)), Way::EventStream, "from_height=1");
    let mut text = String::new();
    bench.client.read_to_string(&mut text).await.expect("text");
    assert_eq!(text, "4009\ncommon: line\nfrom_height=3");

    let wanted = SessionRequest {
        start: Start::After(crate::protocol::Position::after_event(1, 5)),
        fallback: Some(Start::Oldest),
        ..wanted("from_height=oldest", Way::EventStream)
    };
    let history = Arc::new(history_with_gap(3..=4, (0, 0)));
    tokio::spawn(crate::encoder::run(Arc::clone(&history), CancellationToken::new()));
    let mut bench = Bench::of(history, 1 << 20, wanted);
    let expected = "200\nid: 2\nevent: gap\n\
        data: {\"type\": \"gap\", \"from_height\": 1, \"to_height\": 2}\n\nid: 3.0\n";
    let mut seen = vec![0; expected.len()];
    bench.client.read_exact(&mut seen).await.expect("text");
    assert_eq!(String::from_utf8_lossy(&seen), expected);
}

#[tokio::test(start_paused = true)]
async fn a_silent_event_stream_moves_its_clients_cursor_and_is_not_pinged() {
    let mut bench = Bench::asked(history_with_gap(3..=4, (0, 0)), Way::EventStream, "");
    let expected = b"200\nid: 4\n\nid: 4\n\nid: 4\n\n";
    let mut seen = vec![0; expected.len()];
    bench.client.read_exact(&mut seen).await.expect("text");
    assert_eq!(String::from_utf8_lossy(&seen), String::from_utf8_lossy(expected));
    assert!(!bench.session.is_finished());
}

#[tokio::test(start_paused = true)]
async fn an_event_stream_whose_start_is_far_off_is_kept_alive() {
    let mut bench = Bench::asked(History::new(usize::MAX), Way::EventStream, "from_height=7");
    let began = Instant::now();
    let expected = b"200\n:\n\n:\n\n";
    let mut seen = vec![0; expected.len()];
    bench.client.read_exact(&mut seen).await.expect("text");
    assert_eq!(String::from_utf8_lossy(&seen), String::from_utf8_lossy(expected));
    assert_eq!(began.elapsed().as_secs(), 30, "twice server.heartbeat_interval");
    bench.context.history.append(block(7, 1));
    let expected = "id: 7.0\n";
    let mut seen = vec![0; expected.len()];
    bench.client.read_exact(&mut seen).await.expect("text");
    assert_eq!(String::from_utf8_lossy(&seen), expected);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_the_block_it_begins_in_is_told_of_life_and_not_sent_back() {
    let history = || history_with_gap(3..=4, (0, 0));
    let rest = "id: 5.1\ndata: ";
    for (query, expected) in [
        ("after=5.0", format!("200\nid: 5.0\n\nid: 5.0\n\n{rest}")),
        (
            "after=5.0&control=true",
            "200\nid: 5.0\nevent: position\n\
             data: {\"type\": \"position\", \"height\": 5, \"index\": 0, \
             \"first_height\": 3, \"tip_height\": 4}\n\n\
             id: 5.0\nevent: heartbeat\ndata: {\"type\": \"heartbeat\", \"height\": 4}\n\n"
                .to_owned(),
        ),
    ] {
        let mut bench = Bench::asked(history(), Way::EventStream, query);
        let began = Instant::now();
        tokio::time::sleep(Duration::from_secs(31)).await;
        bench.context.history.append(block(5, 2));
        let mut seen = vec![0; expected.len()];
        bench.client.read_exact(&mut seen).await.expect("text");
        assert_eq!(String::from_utf8_lossy(&seen), expected, "{query}");
        assert_eq!(began.elapsed().as_secs(), 31, "twice server.heartbeat_interval, {query}");
    }
    let mut bench = Bench::asked(history(), Way::WebSocket, "after=5.0&control=true");
    assert_eq!(bench.texts(2).await, ["position 5 3 4", "heartbeat 4"]);
    bench.context.history.append(block(5, 2));
    assert_eq!(bench.texts(2).await, ["5.1", "block 5"]);
}

#[tokio::test(start_paused = true)]
async fn another_chain_makes_a_browser_forget_its_place() {
    let mut bench = Bench::asked(history_with_gap(3..=4, (0, 0)), Way::EventStream, "");
    tokio::time::sleep(Duration::from_secs(16)).await;
    bench.context.history.start_over();
    let mut text = String::new();
    bench.client.read_to_string(&mut text).await.expect("text");
    let end = "id: \nevent: close\ndata: {\"type\": \"close\", \"code\": 4010, \
        \"reason\": \"from_height=oldest another chain\"}\n\n";
    assert!(text.ends_with(end), "{text}");
}

#[tokio::test(start_paused = true)]
async fn an_end_is_not_reached_while_the_start_is_looked_for() {
    let history = Arc::new(history_with_gap(3..=9, (0, 0)));
    tokio::spawn(crate::encoder::run(Arc::clone(&history), CancellationToken::new()));
    let (tickets, _queue) = Tickets::new();
    let wanted = wanted("from_height=oldest&until_height=3&control=true", Way::WebSocket);
    let mut bench = Bench::with(history, tickets, 1 << 20, wanted);
    tokio::time::sleep(Duration::from_secs(1)).await;
    bench.context.tickets.set_first_height(Some(3));
    assert_eq!(bench.texts(4).await, ["position 2 3 9", "3.0", "3.1", "block 3"]);
    let (code, reason, _) = bench.close().await;
    assert_eq!((code, reason.as_str()), (1000, "after=3 done"));
}

const FILLED: u64 = 2_000;

/// A client that has read all of a history with a gap but for the end of its last block; and a history
/// that makes no encodings any more, so that nothing is done beside.
fn before_a_gap(runtime: &tokio::runtime::Runtime) -> Bench {
    runtime.block_on(async {
        let history = Arc::new(history_with_gap(1..=FILLED + 2, (2, FILLED + 1)));
        let encoder = crate::encoder::run(Arc::clone(&history), CancellationToken::new());
        let encoder = tokio::spawn(encoder);
        let query = "from_height=1&control=true";
        let mut bench = Bench::of(history, 64, wanted(query, Way::WebSocket));
        while bench.texts(1).await != [format!("{}.1", FILLED + 2)] {}
        encoder.abort();
        bench
    })
}

#[test]
fn a_client_that_reads_nothing_has_few_fills_queued_and_is_told_of_all_once_it_reads() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build().expect("a runtime");
    // What is kept while the gap is filled, in the history and for its client.
    let kept = |bench: &Bench| {
        let kept = allocation_counter::measure(|| {
            for height in 2..FILLED + 2 {
                bench.context.history.fill(block(height, 1));
                runtime.block_on(tokio::task::yield_now());
            }
        });
        kept.bytes_current
    };
    let gone = before_a_gap(&runtime);
    let _watch = gone.context.history.watch(RequiredEncodings::of(Encoding::BlockEnd));
    gone.session.abort();
    let without_client = kept(&gone);

    let mut bench = before_a_gap(&runtime);
    let with_client = kept(&bench);
    let queued = with_client - without_client;
    assert!(queued < 8 << 10, "{queued} bytes for {FILLED} heights");

    let mut expected = vec![format!("block {}", FILLED + 2)];
    expected.extend((2..FILLED + 2).map(|height| format!("filled {height}")));
    let mut told = Vec::new();
    while told.last() != expected.last() {
        told.extend(runtime.block_on(bench.texts(1)));
    }
    told.retain(|text| !text.starts_with("heartbeat"));
    assert_eq!(told, expected);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_a_trickle_has_one_heartbeat_queued() {
    let history = Arc::new(history_with_gap(1..=1, (2, 2)));
    tokio::spawn(crate::encoder::run(Arc::clone(&history), CancellationToken::new()));
    let mut bench = Bench::of(history, 1, wanted("from_height=1&control=true", Way::WebSocket));
    while bench.texts(1).await != ["block 1"] {}
    // A byte every ten seconds, for ten minutes: it lives, and never has room.
    let mut read = Vec::new();
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_secs(10)).await;
        read.push(bench.client.read_u8().await.expect("a byte"));
    }
    bench.context.history.append(block(2, 0));
    let mut frames = 0;
    loop {
        read.push(bench.client.read_u8().await.expect("a byte"));
        frames += usize::from(read.ends_with(b"{\"type\": \"heartbeat\""));
        if read.ends_with(b"{\"type\": \"block\"") {
            break;
        }
    }
    assert!(frames <= 2, "{frames} heartbeats: {}", String::from_utf8_lossy(&read));
}
