//! Queries of URLs: understood whole or refused by name, and what was understood can be said again.

#![no_main]

use blockcast::protocol::{Query, Start, Stream};
use libfuzzer_sys::fuzz_target;

/// Names and values in a refusal are cut.
const REFUSAL_CHARS_MAX: usize = 512;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let ignored = ["utm_source".to_owned()];
    for stream in [Stream::Transactions, Stream::Blocks] {
        match Query::parse(&text, stream, &ignored) {
            Ok(query) => {
                said_again(&query, stream);
                in_any_order(&text, &query, stream, &ignored);
            }
            Err(error) => {
                let message = error.to_string();
                let chars = message.chars().count();
                assert!((1..=REFUSAL_CHARS_MAX).contains(&chars), "{chars}: {message}");
            }
        }
        if let Ok(start) = Start::of_last_event_id(&text, stream) {
            assert!(start.first_wanted().is_some(), "{text} is a place");
        }
    }
});

fn said_again(query: &Query, stream: Stream) {
    let again = Query::parse(&query.to_string(), stream, &[]).expect("what is said can be asked for");
    assert_eq!(again, *query);
    let told = query.start.as_position();
    assert_eq!(told.first_wanted(), query.start.first_wanted(), "{told:?}");
}

fn in_any_order(text: &str, query: &Query, stream: Stream, ignored: &[String]) {
    let mut parts: Vec<&str> = text.split('&').collect();
    parts.reverse();
    let reversed = Query::parse(&parts.join("&"), stream, ignored).expect("the order says nothing");
    assert_eq!((&reversed.start, reversed.limit), (&query.start, query.limit));
    assert_eq!((reversed.until_height, reversed.batch), (query.until_height, query.batch));
    assert_eq!(reversed.filters.len(), query.filters.len());
}
