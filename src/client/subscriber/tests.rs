use super::super::message::Said;
use super::*;
use crate::client::Builder;
use crate::protocol::ControlMessage;
use crate::protocol::control::Beginning;

const URL: &str = "ws://host/api/v1/streams/valid_transactions";

fn placed(builder: Builder) -> Subscriber {
    let mut stream = builder.build().expect("a stream");
    let told =
        Beginning { height: Some(4), index: None, first_height: Some(1), tip_height: Some(4) };
    stream.tracker.connected();
    stream.tracker.take(Said::Control(ControlMessage::Position(told))).expect("taken");
    stream
}

fn ahead() -> ConnectionEnd {
    ConnectionEnd::Ahead { why: String::new(), tip_height: Some(2) }
}

#[test]
fn a_server_that_stays_behind_is_given_up_after_some_tries() {
    let mut stream = placed(Builder::new(URL).expect("a URL"));
    for _ in 1..AHEAD_MAX {
        let message = stream.ended(ahead()).expect("tried again");
        assert!(matches!(message, Some(StreamMessage::Disconnected { .. })));
    }
    stream.take(r#"{"type": "block", "height": 5, "events": 0}"#).expect("it has caught up");
    for _ in 1..AHEAD_MAX {
        assert!(stream.ended(ahead()).is_ok());
    }
    assert!(matches!(stream.ended(ahead()), Err(Error::Ahead { tip_height: Some(2) })));
}

#[test]
fn a_position_alone_is_no_reason_to_ask_faster_or_to_hope() {
    let mut stream = placed(Builder::new(URL).expect("a URL"));
    let mut waits = Vec::new();
    let error = loop {
        match stream.ended(ahead()) {
            Ok(Some(StreamMessage::Disconnected { again_in, .. })) => waits.push(again_in),
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
        stream.tracker.connected();
        let position = r#"{"type": "position", "height": 4, "first_height": 1, "tip_height": 2}"#;
        stream.take(position).expect("taken");
    };
    assert!(matches!(error, Error::Ahead { .. }));
    // 2 s, less half of it at most by chance.
    assert!(waits.last().is_some_and(|wait| *wait >= Duration::from_secs(1)), "{waits:?}");
}

#[test]
fn a_close_with_1000_ends_what_has_an_end_and_nothing_else() {
    let done = || ConnectionEnd::Done { why: "closed by the server: 1000".into() };
    let builder = || Builder::new(URL).expect("a URL");
    let mut endless = placed(builder());
    assert!(matches!(endless.ended(done()), Ok(Some(StreamMessage::Disconnected { .. }))));
    for builder in [builder().limit(9), builder().until_height(9)] {
        assert!(matches!(placed(builder).ended(done()), Ok(None)));
    }
}

#[test]
fn a_wait_is_never_shorter_than_the_server_wants() {
    let mut stream = placed(Builder::new(URL).expect("a URL"));
    let not_before = Duration::from_secs(60);
    let ending = ConnectionEnd::Again { why: "full".into(), not_before };
    match stream.ended(ending).expect("tried again") {
        Some(StreamMessage::Disconnected { again_in, .. }) => assert!(again_in >= not_before),
        other => panic!("{other:?}"),
    }
}
