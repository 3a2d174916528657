//! What a client may send, case by case: RFC 6455 and RFC 7692 with Autobahn's case numbers as the
//! list, raw bytes in over a real socket, exact bytes out. No broker: a server on an empty history, so
//! that nothing else is sent.
//!
//! Autobahn's server tests want an echo. This server has none: messages are read, checked and skipped.
//! So of every case the sending half is here, and what comes back is nothing, a pong or a close. Left
//! out is what would then be left of nothing:
//!
//! - that an echo has the message's content and fragments (1, 5, 6, 9, 10, 12, 13: the echo's half);
//! - 8 and 11, which Autobahn itself does not have;
//! - how long an echo takes (9, 12): the messages are sent, the time is not asked;
//! - 9.3 to 9.6 with fragments or chops that differ only in what they cost: one size below our bound of
//!   64 KiB and each of Autobahn's above it;
//! - 12's thousand messages per case: ten.
//!
//! Where Autobahn's sizes are above `server.max_message_bytes`, the close is 1009.

mod case;
mod closing;
mod compression;
mod framing;
mod served;
mod sizes;
mod utf8;

use case::Case;
use served::Served;

async fn check(cases: impl IntoIterator<Item = Case>) {
    let served = Served::start().await;
    let mut numbers = std::collections::BTreeSet::new();
    for case in cases {
        assert!(numbers.insert(case.number.clone()), "{} stands twice", case.number);
        served.check(case).await;
    }
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn framing_is_read_as_the_rfc_has_it() {
    check(framing::cases()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn text_is_utf_8_or_the_end() {
    check(utf8::cases()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closes_are_answered_or_refused() {
    check(closing::cases()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_may_be_as_large_as_the_bound() {
    check(sizes::cases()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_messages_are_taken_where_that_was_agreed_on() {
    check(compression::cases()).await;
}
