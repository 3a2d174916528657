//! Where a client is in its chain, and what may lie between that and where it is next: nothing that it
//! is owed.

use super::{Bounds, Client, Place, index_of_id};
use crate::protocol::{Position, Start, Within};
use crate::server::testing::Stream;
use crate::simulation::chain::Chain;
use crate::simulation::pipe::Stamp;
use crate::simulation::tally::{Seen, Tally};

impl Client {
    /// The chain that this client follows; one that waited for its start learns it with what comes
    /// first. None: that tells of none, where one chain took another's place since it was opened.
    pub fn chain_at<'a>(&mut self, stamp: Stamp, chains: &'a [Chain]) -> Option<&'a Chain> {
        if self.chain.is_none() {
            let began = |chain: &Chain| chain.began.is_some_and(|began| began <= stamp.step);
            let newest = chains.iter().rposition(began).unwrap_or(0);
            // It may have waited for room, and be of the chain before.
            let opened = self.connection.as_ref().map_or(stamp, |connection| connection.seen).step;
            if chains[newest].began.is_some_and(|began| began > opened || began == stamp.step) {
                return None;
            }
            self.chain = Some(newest);
        }
        self.chain.map(|at| &chains[at])
    }

    /// Goes on at a place that the server named.
    pub fn go_to(&mut self, place: Place, stamp: Stamp, chain: &Chain, tally: &mut Tally) {
        // The mark of a block's end is not told again: it has nothing else to say.
        if let (Some(next), Some(last), 0) = (self.next, place.0.checked_sub(1), place.1)
            && next.0 <= last
        {
            let inside = if next.0 == last { next.1 } else { 0 };
            if !self.owes(chain, last, inside) {
                self.pass((last, inside), stamp, chain, tally);
                self.next = Some(place);
                return;
            }
        }
        self.pass(place, stamp, chain, tally);
        self.next = Some(place);
    }

    /// Nothing of the chain up to `place` may be owed: what was not sent had to be missing.
    pub fn pass(&self, place: Place, stamp: Stamp, chain: &Chain, tally: &mut Tally) {
        let Some(next) = self.next else { return };
        assert!(place >= next, "{place:?} again, next was {next:?}");
        let seen = self.seen();
        let (mut height, mut inside) = next;
        while height < place.0 {
            // A block that was begun is there; what control messages do not name did not come.
            let is_told = self.taste.has_control || self.owes(chain, height, inside);
            if is_told {
                let is_old = chain.base.is_none_or(|base| height < base);
                let may_pass = is_old || inside == 0 && !self.taste.has_control;
                let is_missing = chain.may_be_missing(height, seen.step, stamp.at);
                assert!(
                    may_pass && is_missing,
                    "{height} is skipped from {next:?} to {place:?} (seen {seen:?}, now {stamp:?}): {self:?} of {chain:?}"
                );
                if !is_old {
                    tally.note(Seen::PassedMissing);
                }
            }
            (height, inside) = (height + 1, 0);
        }
        if self.taste.stream == Stream::Transactions {
            let skipped = self.matching(chain, height, inside).find(|index| *index < place.1);
            assert_eq!(skipped, None, "an event is skipped in {height}, next was {next:?}");
        }
    }

    /// Whether a message of this block is still to come for this client, if the block is there.
    pub fn owes(&self, chain: &Chain, height: u64, inside: u64) -> bool {
        let whole = self.taste.stream == Stream::Blocks
            || self.taste.is_batch && !self.taste.is_filtered && inside == 0;
        whole || self.matching(chain, height, inside).next().is_some()
    }

    pub(super) fn matching<'a>(
        &self,
        chain: &'a Chain,
        height: u64,
        inside: u64,
    ) -> impl Iterator<Item = u64> + 'a {
        let is_filtered = self.taste.is_filtered;
        let all = inside..chain.events(height);
        all.filter(move |index| !is_filtered || chain.is_create(height, *index))
    }

    /// Where the newest event's id has it go on; that has to be where it is.
    pub fn place_of_id(&self, chain: &Chain) -> Option<Place> {
        let (place, next) = (place_after_id(self.last_event_id.as_ref()?), self.next?);
        let is_end = place == (next.0 + 1, 0) && !self.owes(chain, next.0, next.1);
        assert!(place == next || is_end, "the newest id leads to {place:?}: {self:?}");
        Some(place)
    }

    /// Where this connection has enough.
    pub fn bounds(&self) -> Bounds {
        self.connection.as_ref().expect("bug: it is connected").bounds
    }

    pub(super) fn seen(&self) -> Stamp {
        self.connection.as_ref().expect("bug: it has read").seen
    }
}

/// The place behind the event with this id, or behind all that it names.
pub fn place_after_id(id: &str) -> Place {
    place_after(&id.parse().expect("a position"))
}

pub fn place_after(position: &Position) -> Place {
    match position.within() {
        None => (position.height() + 1, 0),
        Some(Within::Index(index)) => (position.height(), index + 1),
        // The transaction that the client had named itself.
        Some(Within::Transaction(id)) => (position.height(), index_of_id(id) + 1),
    }
}

/// The place that a server names in its close.
pub fn place_at(start: &Start) -> Place {
    match start {
        Start::Oldest => (0, 0),
        Start::Height(height) => (*height, 0),
        Start::After(position) => place_after(position),
        Start::Live | Start::Latest | Start::BeforeTip(_) => panic!("no place: {start:?}"),
    }
}
