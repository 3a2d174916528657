//! Where a client begins: what its request asks for, found in the history or in the broker, or not
//! there yet, or gone. Pure but for looking at both.

use crate::history::{Cursor, History, Placed};
use crate::tickets::Tickets;

use crate::protocol::{Start, Within};

/// What of the first block the client has already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seek {
    /// So many events.
    Events(u32),
    /// All up to this transaction; where that is shows when the block is there.
    Transaction(Box<str>),
}

/// What became of looking for a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    Here(Cursor, Seek),
    /// Older than the history, and perhaps still in the broker.
    Deep {
        height: u64,
        seek: Seek,
    },
    /// Where the RabbitMQ stream begins is not known yet, but will be in a moment.
    Unknown,
    /// Further up than what comes next; without a tip nothing can be said yet.
    Ahead {
        tip: Option<u64>,
    },
    /// Older than all there is.
    Gone {
        first_height: Option<u64>,
    },
}

/// Looks for `start`.
pub fn find(start: &Start, history: &History, tickets: &Tickets) -> Found {
    let at = |height, seek| place(height, seek, history, tickets);
    let tip = || history.summary().tip;
    match start {
        // Memory's beginning would be taken for the stream's.
        Start::Oldest | Start::BeforeTip(_) if !tickets.is_looked_up() => Found::Unknown,
        Start::Live => Found::Here(history.live_cursor(), Seek::Events(0)),
        Start::Height(height) => at(*height, Seek::Events(0)),
        Start::After(position) => match position.within() {
            None => at(position.height().saturating_add(1), Seek::Events(0)),
            Some(Within::Index(index)) => {
                let events = u32::try_from(index.saturating_add(1)).unwrap_or(u32::MAX);
                at(position.height(), Seek::Events(events))
            }
            Some(Within::Transaction(id)) => at(position.height(), Seek::Transaction(id.clone())),
        },
        // Before the first block, what comes from now on is both the oldest and the newest.
        Start::Oldest => match oldest(history, tickets) {
            Some(height) => at(height, Seek::Events(0)),
            None => Found::Here(history.live_cursor(), Seek::Events(0)),
        },
        Start::Latest => match tip() {
            Some(tip) => at(tip, Seek::Events(0)),
            None => Found::Here(history.live_cursor(), Seek::Events(0)),
        },
        Start::BeforeTip(blocks) => match tip() {
            Some(tip) => {
                // As far back as there is something: the chain may be shorter than that.
                let oldest = oldest(history, tickets).unwrap_or(0);
                at(tip.saturating_sub(*blocks).max(oldest), Seek::Events(0))
            }
            None => Found::Ahead { tip: None },
        },
    }
}

/// The oldest height that can be had, from memory or from the broker.
pub fn oldest(history: &History, tickets: &Tickets) -> Option<u64> {
    let here = history.first_height()?;
    Some(tickets.first_height().map_or(here, |first| first.min(here)))
}

fn place(height: u64, seek: Seek, history: &History, tickets: &Tickets) -> Found {
    match history.place(height) {
        Placed::At(cursor) => Found::Here(cursor, seek),
        Placed::Ahead { tip } => Found::Ahead { tip: Some(tip) },
        Placed::Unknown => Found::Ahead { tip: None },
        Placed::Below { first_height } => match tickets.first_height() {
            Some(first) if first > height => {
                Found::Gone { first_height: Some(first.min(first_height)) }
            }
            None if !tickets.can_read() => Found::Gone { first_height: Some(first_height) },
            _ => Found::Deep { height, seek },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::testing::block;
    use crate::protocol::Position;

    fn check(history: &History, tickets: &Tickets, start: Start, expected: Found) {
        assert_eq!(find(&start, history, tickets), expected, "{start:?}");
    }

    #[test]
    fn starts_are_found_in_memory_behind_it_and_before_it() {
        let history = History::new(usize::MAX);
        (10..=20).for_each(|height| history.append(block(height, 2)));
        let (tickets, _queue) = Tickets::new();
        tickets.set_first_height(Some(3));
        let here = |height| Found::Here(history.live_cursor().at(height), Seek::Events(0));
        let deep = |height| Found::Deep { height, seek: Seek::Events(0) };
        for (start, expected) in [
            (Start::Live, here(21)),
            (Start::Height(15), here(15)),
            (Start::Height(21), here(21)),
            (Start::Height(22), Found::Ahead { tip: Some(20) }),
            (Start::Height(9), deep(9)),
            (Start::Height(3), deep(3)),
            (Start::Height(2), Found::Gone { first_height: Some(3) }),
            (Start::Oldest, deep(3)),
            (Start::Latest, here(20)),
            (Start::BeforeTip(0), here(20)),
            (Start::BeforeTip(10), here(10)),
            (Start::BeforeTip(11), deep(9)),
            (Start::BeforeTip(1_000), deep(3)),
        ] {
            check(&history, &tickets, start, expected);
        }
        let seek = Seek::Events(2);
        let start = Start::After(Position::after_event(12, 1));
        check(&history, &tickets, start, Found::Here(history.live_cursor().at(12), seek));
        let start = Start::After(Position::after_event(20, u64::MAX));
        let seek = Seek::Events(u32::MAX);
        check(&history, &tickets, start, Found::Here(history.live_cursor().at(20), seek));
    }

    #[test]
    fn the_oldest_is_not_guessed_before_it_was_looked_up() {
        let history = History::new(usize::MAX);
        (10..=20).for_each(|height| history.append(block(height, 2)));
        let (tickets, _queue) = Tickets::new();
        check(&history, &tickets, Start::Oldest, Found::Unknown);
        check(&history, &tickets, Start::BeforeTip(3), Found::Unknown);
        tickets.set_first_height(None);
        let here = |height| Found::Here(history.live_cursor().at(height), Seek::Events(0));
        check(&history, &tickets, Start::Oldest, here(10));
    }

    #[test]
    fn without_tickets_what_is_below_memory_is_gone() {
        let history = History::new(usize::MAX);
        (10..=20).for_each(|height| history.append(block(height, 2)));
        let tickets = Tickets::none();
        let here = |height| Found::Here(history.live_cursor().at(height), Seek::Events(0));
        check(&history, &tickets, Start::Height(9), Found::Gone { first_height: Some(10) });
        check(&history, &tickets, Start::Oldest, here(10));
        check(&history, &tickets, Start::BeforeTip(1_000), here(10));
    }

    #[test]
    fn before_the_first_block_only_the_ends_are_known() {
        let history = History::new(usize::MAX);
        let tickets = Tickets::none();
        let live = Found::Here(history.live_cursor(), Seek::Events(0));
        check(&history, &tickets, Start::Oldest, live.clone());
        check(&history, &tickets, Start::Latest, live);
        check(&history, &tickets, Start::Height(1), Found::Ahead { tip: None });
        check(&history, &tickets, Start::BeforeTip(3), Found::Ahead { tip: None });
    }
}
