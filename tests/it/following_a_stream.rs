//! The client library against a server that plays the contract, faults and cuts included.

use blockcast::client::{
    Builder, Error, FilterName, FilterParameter, Position, Start, StreamMessage, Subscriber,
};

use crate::support::scripted::{Scripted, block, event, position};

fn builder(server: &Scripted) -> Builder {
    Builder::new(&server.url()).expect("a URL")
}

fn stream(server: &Scripted) -> Subscriber {
    builder(server).build().expect("a stream")
}

fn operation() -> FilterParameter {
    FilterParameter::new(FilterName::Operation, "CREATE").expect("a value")
}

async fn next(stream: &mut Subscriber) -> StreamMessage {
    stream.next().await.expect("no error").expect("a message")
}

/// The next message that is an event: its transaction.
async fn next_event(stream: &mut Subscriber) -> String {
    loop {
        if let StreamMessage::Event(event) = next(stream).await {
            return event.transaction_id;
        }
    }
}

/// The end of a stream: nothing, or an error. What comes before is passed over.
async fn end(mut stream: Subscriber) -> Result<(), Error> {
    while stream.next().await?.is_some() {}
    assert!(stream.next().await.expect("an end is an end").is_none());
    Ok(())
}

fn cursor(stream: &Subscriber) -> String {
    stream.position().map_or_else(|| "none".into(), |cursor| cursor.to_string())
}

#[tokio::test]
async fn a_cut_in_mid_block_is_gone_on_from_without_repeat_or_loss() {
    let server = Scripted::new().await;
    let mut stream = builder(&server).start(Start::Oldest).until_height(7).build().expect("built");
    let serving = async {
        let mut first = server.serve().await;
        assert_eq!(first.query, "from_height=oldest&until_height=7&control=true");
        first.say(&[&position(4), &event(5, "a"), &block(5, 1), &event(6, "b")]).await;
        first.cut();
        let mut second = server.serve().await;
        assert_eq!(second.query, "after=6.0&until_height=7&control=true");
        second.say(&[&position("6, \"index\": 0"), &event(6, "c"), &block(6, 2)]).await;
        second.close(1001, "after=6 draining").await;
        let mut third = server.serve().await;
        assert_eq!(third.query, "after=6&until_height=7&control=true");
        third.say(&[&position(6), &event(7, "d"), &block(7, 1)]).await;
        third.close(1000, "after=7").await;
    };
    let reading = async {
        let mut read = Vec::new();
        while let Some(message) = stream.next().await.expect("no error") {
            match message {
                StreamMessage::Event(event) => read.push((event.transaction_id, cursor(&stream))),
                StreamMessage::Disconnected { why, .. } => read.push((why, cursor(&stream))),
                _ => {}
            }
        }
        read
    };
    let (read, ()) = tokio::join!(reading, serving);
    let read: Vec<_> = read.iter().map(|(what, at)| (what.as_str(), at.as_str())).collect();
    assert_eq!((read[0], read[1]), (("a", "5.0"), ("b", "6.0")));
    assert_eq!(read[2].1, "6.0", "{read:?}");
    assert_eq!(read[3], ("c", "6.1"));
    assert_eq!(read[4], ("closed by the server: 1001 \"after=6 draining\"", "6"));
    assert_eq!(read[5..], [("d", "7.0")]);
    assert_eq!(cursor(&stream), "7");
}

#[tokio::test]
async fn a_filters_cut_is_gone_on_from_by_transaction_and_the_limit_counts_down() {
    let server = Scripted::new().await;
    let id = "0a".repeat(32);
    let filter = operation();
    let mut stream = builder(&server).filter(filter).limit(3).build().expect("a stream");
    let serving = async {
        let mut first = server.serve().await;
        assert_eq!(first.query, "operation=CREATE&limit=3&control=true");
        first.say(&[&position(4), &event(5, &id)]).await;
        first.cut();
        let mut second = server.serve().await;
        assert_eq!(second.query, format!("after=5.{id}&operation=CREATE&limit=2&control=true"));
        second.say(&[&position("5, \"index\": 3"), &event(5, "x"), &event(5, "y")]).await;
        second.close(1000, "after=5.9").await;
    };
    let reading = async {
        let ids = [
            next_event(&mut stream).await,
            next_event(&mut stream).await,
            next_event(&mut stream).await,
        ];
        assert_eq!(ids, [id.as_str(), "x", "y"]);
        assert_eq!(stream.next().await.expect("an end"), None);
    };
    tokio::join!(reading, serving);
}

#[tokio::test]
async fn quiet_blocks_and_heartbeats_move_the_cursor() {
    let server = Scripted::new().await;
    let filter = operation();
    let mut stream = builder(&server).filter(filter).build().expect("a stream");
    assert!(!stream.resumes() && stream.position().is_none());
    let serving = async {
        let mut served = server.serve().await;
        let gap = r#"{"type": "gap", "from_height": 6, "to_height": 7}"#;
        let filled = r#"{"type": "filled", "height": 6}"#;
        let heartbeat = r#"{"type": "heartbeat", "height": 9}"#;
        served.say(&[&position(4), &block(5, 100), gap, filled, heartbeat]).await;
        served
    };
    let reading = async {
        assert_eq!(next(&mut stream).await, StreamMessage::Connected);
        let told = next(&mut stream).await;
        assert_eq!(told, StreamMessage::Position { first_height: Some(1), tip_height: Some(9) });
        assert!(stream.resumes());
        for (message, at) in [
            (StreamMessage::BlockEnd { height: 5, events: 100 }, "5"),
            (StreamMessage::Gap { from_height: 6, to_height: 7 }, "7"),
            (StreamMessage::Filled { height: 6 }, "7"),
            (StreamMessage::Heartbeat { height: Some(9) }, "9"),
        ] {
            assert_eq!(next(&mut stream).await, message);
            assert_eq!(cursor(&stream), at);
        }
    };
    let ((), mut served) = tokio::join!(reading, serving);
    tokio::join!(stream.close(), served.gone());
}

#[tokio::test]
async fn a_refusal_that_may_pass_is_waited_out_as_long_as_it_says() {
    let server = Scripted::new().await;
    let mut stream = stream(&server);
    let serving = async {
        let body = r#"{"status": 503, "message": "not now: warming"}"#;
        server.refuse("503 Service Unavailable", "Retry-After: 1\r\n", body).await;
        let mut served = server.serve().await;
        served.say(&[&position(4), &event(5, "a")]).await;
        served
    };
    let reading = async {
        let StreamMessage::Disconnected { why, again_in } = next(&mut stream).await else {
            panic!("not refused")
        };
        assert_eq!(why, "refused with 503 Service Unavailable: not now: warming");
        assert!(again_in.as_secs() >= 1, "{again_in:?}");
        assert_eq!(next_event(&mut stream).await, "a");
    };
    tokio::join!(reading, serving);
}

#[tokio::test]
async fn what_waiting_does_not_mend_ends_the_stream() {
    type IsIt = fn(&Error) -> bool;
    let closes: [(u16, &str, IsIt); 6] = [
        (4000, "bad", |error| matches!(error, Error::Refused { status: 4000, .. })),
        (4001, "who?", |error| matches!(error, Error::Refused { status: 4001, .. })),
        (4009, "from_height=3", |error| matches!(error, Error::Gone { first_height: Some(3) })),
        (4009, "tip=2", |error| matches!(error, Error::Ahead { tip_height: Some(2) })),
        (4010, "from_height=oldest another chain", |error| matches!(error, Error::AnotherChain)),
        (1009, "", |error| matches!(error, Error::Protocol(_))),
    ];
    for (code, reason, is_it) in closes {
        let server = Scripted::new().await;
        let after = Start::After(Position::after_block(8));
        let stream = builder(&server).start(after).build().expect("a stream");
        let serving = async { server.serve().await.close(code, reason).await };
        let (ended, ()) = tokio::join!(end(stream), serving);
        let error = ended.expect_err(reason);
        assert!(is_it(&error), "{code} {reason}: {error:?}");
    }
    let server = Scripted::new().await;
    let message = r#"{"status": 400, "message": "unknown parameter `control`"}"#;
    let refusing = server.refuse("400 Bad Request", "", message);
    let (ended, request) = tokio::join!(end(stream(&server)), refusing);
    assert!(matches!(ended, Err(Error::Outdated { .. })), "{ended:?}");
    assert!(request.contains("?control=true "), "{request}");
}

#[tokio::test]
async fn a_replica_that_lags_is_asked_again() {
    let server = Scripted::new().await;
    let mut stream = stream(&server);
    let serving = async {
        let mut first = server.serve().await;
        first.say(&[&position(8), &block(9, 0)]).await;
        first.cut();
        let lagging = server.serve().await;
        assert_eq!(lagging.query, "after=9&control=true");
        lagging.close(4009, "tip=3").await;
        let mut third = server.serve().await;
        third.say(&[&position(9), &event(10, "a")]).await;
        third
    };
    let (id, _) = tokio::join!(next_event(&mut stream), serving);
    assert_eq!(id, "a");
}

#[tokio::test]
async fn a_node_is_followed_live_and_says_that_it_cannot_resume() {
    let server = Scripted::new().await;
    let mut stream = stream(&server);
    let serving = async {
        let mut first = server.serve().await;
        first.say(&[&event(5, "a")]).await;
        first.cut();
        let mut second = server.serve().await;
        assert_eq!(second.query, "control=true");
        second.say(&[&event(9, "b")]).await;
        second
    };
    let reading = async {
        assert_eq!(next_event(&mut stream).await, "a");
        assert_eq!(next_event(&mut stream).await, "b");
        assert!(!stream.resumes() && stream.position().is_none());
    };
    tokio::join!(reading, serving);

    let server = Scripted::new().await;
    let filtered = builder(&server).filter(operation()).build().expect("built");
    let serving = async {
        let mut served = server.serve().await;
        served.say(&[&event(5, "a")]).await;
        served
    };
    let (ended, _) = tokio::join!(end(filtered), serving);
    assert!(matches!(ended, Err(Error::NotUnderstood)), "{ended:?}");
}

#[tokio::test]
async fn a_stream_may_be_asked_in_any_number_of_pieces() {
    let server = Scripted::new().await;
    let mut stream = stream(&server);
    let serving = async {
        let mut served = server.serve().await;
        served.say(&[&position(4), &event(5, "a"), &event(5, "b"), &block(5, 2)]).await;
        served.close(1001, "after=5 draining").await;
        let mut served = server.serve().await;
        served.say(&[&position(5), &event(6, "c")]).await;
        served
    };
    let reading = async {
        let mut ids = Vec::new();
        while ids.len() < 3 {
            // Given up as soon as it is not ready, over and over.
            tokio::select! {
                biased;
                message = stream.next() => {
                    if let Some(StreamMessage::Event(event)) = message.expect("no error") {
                        ids.push(event.transaction_id);
                    }
                }
                () = tokio::task::yield_now() => {}
            }
        }
        ids
    };
    let (ids, _) = tokio::join!(reading, serving);
    assert_eq!(ids, ["a", "b", "c"]);
}
