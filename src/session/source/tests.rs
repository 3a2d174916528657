use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::frame::testing::block;
use crate::history::Entry;
use crate::tickets::{CalledTicket, TicketQueue};

/// So many blocks are more than the history holds, and half of them less.
const KEPT: u64 = 16;

struct Bench {
    history: Arc<History>,
    source: BlockSource,
    requests: TicketQueue,
    turn: Option<CalledTicket>,
}

impl Bench {
    /// A client that begins with the first block of a history.
    fn new() -> Self {
        let history = Arc::new(History::new(KEPT as usize * block(100, 5).bytes()));
        let (tickets, requests) = Tickets::new();
        let claim = Claim::of(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let (from, required) = ((Arc::new(tickets), claim), RequiredEncodings::NONE);
        let source = BlockSource::new(Arc::clone(&history), from, required, None);
        Self { history, source, requests, turn: None }
    }

    fn append(&self, heights: std::ops::RangeInclusive<u64>) {
        heights.for_each(|height| self.history.append(block(height, 5)));
    }

    fn offer(&mut self, entries: &mut Entries) -> Offer {
        let offer = self.source.offer(true, |_| RequiredEncodings::NONE, usize::MAX, entries);
        offer.expect("there is more for it")
    }

    /// Falls off, and is given a turn.
    fn falls(&mut self) {
        assert_eq!(self.offer(&mut Entries::new()), Offer::FellOff);
        assert_eq!(self.offer(&mut Entries::new()), Offer::Suspended);
        self.source.resume();
        let turn = self.requests.take().expect("it asked");
        assert_eq!(turn.from_height(), self.source.cursor().next_height());
        turn.set_state(TicketState::Reading);
        self.turn = Some(turn);
    }

    /// Takes all that it is offered, block by block, until its blocks are those of the history. Returns the
    /// height at which they are.
    fn comes_back(&mut self) -> u64 {
        loop {
            let next_height = self.source.cursor().next_height();
            let turn = self.turn.as_ref().expect("a turn");
            turn.history().append(block(next_height, 5));
            let mut entries = Entries::new();
            assert!(matches!(self.offer(&mut entries), Offer::Entries(_)));
            if self.source.is_shared() {
                return next_height;
            }
            let Some(Entry::Block(taken)) = entries.first() else { panic!("a block") };
            assert_eq!(taken.block.height, next_height);
            self.source.move_to(next_height + 1);
        }
    }
}

#[test]
fn who_falls_off_comes_back_as_soon_as_it_can_and_the_second_time_near_the_tip() {
    let mut bench = Bench::new();
    bench.append(100..=299);
    let first_height = bench.history.summary().first_height.expect("a block");
    assert!(first_height < 300 - KEPT / 2, "far more than an eighth: {first_height}");
    bench.source.move_to(200);
    bench.falls();
    assert_eq!(bench.comes_back(), first_height);
    bench.append(300..=399);
    bench.falls();
    let back_at = bench.comes_back();
    assert!((400 - KEPT / 8..=400).contains(&back_at), "{back_at}");
    // At the tip all is forgotten.
    bench.source.move_to(399);
    assert!(matches!(bench.offer(&mut Entries::new()), Offer::Entries(_)));
    bench.append(400..=499);
    bench.falls();
    let first_height = bench.history.summary().first_height.expect("a block");
    assert_eq!(bench.comes_back(), first_height);
}
