use std::net::IpAddr;
use std::time::Duration;

use super::*;

/// A network by its number.
fn claim(network: u8) -> Claim {
    Claim::of(IpAddr::from([192, 0, 2, network]))
}

#[test]
fn without_a_stream_nothing_can_be_read_back() {
    assert!(Tickets::none().issue(0, claim(1)).is_none());
    assert_eq!(Tickets::none().first_height(), None);
}

#[test]
fn who_asked_first_is_served_first_and_who_left_is_not() {
    let (tickets, mut queue) = Tickets::new();
    assert!(queue.take().is_none());
    let held: Vec<Ticket> =
        (0..4).map(|height| tickets.issue(height, claim(1)).expect("a stream")).collect();
    assert_eq!(queue.waiting(), 4);
    let first = queue.take().expect("one waits");
    assert_eq!(first.from_height(), 0);
    let mut held = held.into_iter();
    let (zero, one) = (held.next().expect("0"), held.next().expect("1"));
    drop(one);
    assert_eq!(queue.waiting(), 2);
    let second = queue.take().expect("two wait");
    assert_eq!(second.from_height(), 2);
    assert!(!first.dropped().is_cancelled());
    drop(zero);
    assert!(first.dropped().is_cancelled(), "taken, it is told that nobody reads");
    drop(held);
    assert!(queue.take().is_none());
}

#[test]
fn a_turn_counts_for_its_network_until_it_is_over() {
    let (tickets, mut queue) = Tickets::new();
    let issue = |height, network| tickets.issue(height, claim(network)).expect("a stream");
    let _many: Vec<Ticket> = (0..3).map(|height| issue(height, 1)).collect();
    let one = queue.take().expect("of the only network");
    let _other = issue(10, 2);
    let other = queue.take().expect("of the network without a turn");
    assert_eq!(other.from_height(), 10);
    let _second = issue(11, 2);
    drop(other);
    assert_eq!(queue.take().expect("its turn is over").from_height(), 11);
    drop(one);
    assert_eq!(queue.take().expect("the first again").from_height(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_had_is_claimed_with_the_next_ticket() {
    let (tickets, mut queue) = Tickets::new();
    let ticket = tickets.issue(0, claim(1)).expect("a stream");
    let called = queue.take().expect("one waits");
    tokio::time::advance(Duration::from_secs(3)).await;
    assert_eq!(ticket.claim(), claim(1), "looking for the place is nothing that one has");
    called.set_state(TicketState::Reading);
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(ticket.claim().had, Duration::from_secs(2));
    called.set_state(TicketState::GivenUp);
    tokio::time::advance(Duration::from_secs(9)).await;
    assert_eq!(ticket.claim().had, Duration::from_secs(2), "its turn was over");
    let again = tickets.issue(5, ticket.claim()).expect("a stream");
    let _newcomer = tickets.issue(7, claim(1)).expect("a stream");
    assert_eq!(queue.take().expect("two wait").from_height(), 7, "it has had less");
    assert_eq!(queue.take().expect("one waits").from_height(), 5);
    assert_eq!(again.claim().had, Duration::from_secs(2));
}

#[tokio::test]
async fn both_sides_hear_of_each_other() {
    let (tickets, mut queue) = Tickets::new();
    let ticket = tickets.issue(7, claim(1)).expect("a stream");
    queue.changed().await;
    let mut called = queue.take().expect("one waits");
    let mut moved = ticket.history.watch(crate::history::RequiredEncodings::NONE);
    called.set_state(TicketState::Reading);
    moved.moved().await;
    assert_eq!(ticket.state(), TicketState::Reading);
    assert_eq!(called.next_height(), 7);
    ticket.progress(7);
    called.progressed().await;
    ticket.progress(9);
    called.progressed().await;
    assert_eq!(called.next_height(), 9);
}
