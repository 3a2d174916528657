//! What a client makes of a message: data is held byte for byte against the model, and a control
//! message has to be true.

use super::Client;
use crate::server::testing::Stream;
use crate::simulation::chain::Chain;
use crate::simulation::pipe::Stamp;
use crate::simulation::tally::{Seen, Tally};

impl Client {
    pub(super) fn hear(&mut self, text: &[u8], stamp: Stamp, chains: &[Chain], tally: &mut Tally) {
        let text = std::str::from_utf8(text).expect("text");
        tally.note(Seen::Messages);
        let kind = text.strip_prefix("{\"type\": \"").and_then(|rest| rest.split('"').next());
        match kind {
            Some(kind) => self.hear_control(kind, text, stamp, chains, tally),
            None => self.hear_data(text, stamp, chains, tally),
        }
        self.connection.iter_mut().for_each(|connection| connection.has_fallback = false);
        // The others may have waited, since when they were true, for room.
        if let (None | Some("block"), Some(connection)) = (kind, &mut self.connection) {
            connection.seen = stamp;
        }
    }

    fn hear_data(&mut self, text: &str, stamp: Stamp, chains: &[Chain], tally: &mut Tally) {
        let height = number(text, "height").expect("a height");
        let of_chain = chain_of(text);
        if let Some(number) = of_chain {
            let at = chains.iter().position(|chain| chain.number == number).expect("a chain");
            let mine = *self.chain.get_or_insert(at);
            assert_eq!(mine, at, "an event of another chain, untold: {text}");
        }
        let bounds = &mut self.connection.as_mut().expect("bug: it has read").bounds;
        assert!(bounds.allow(height), "more than was asked for: {text}");
        bounds.messages_left = bounds.messages_left.map(|left| left - 1);
        let Some(chain) = self.chain_at(stamp, chains) else {
            self.next = None;
            return;
        };
        let inside = self.next.filter(|next| next.0 == height).map_or(0, |next| next.1);
        let (place, next, expected) = if self.taste.stream == Stream::Blocks {
            ((height, 0), (height + 1, 0), chain.summary(height))
        } else if self.taste.is_batch {
            let indices: Vec<u64> = self.matching(chain, height, inside).collect();
            assert!(!self.taste.is_filtered || !indices.is_empty(), "an empty batch: {text}");
            // With control messages the block goes on up to its end.
            let next = match self.taste.has_control {
                true => (height, chain.events(height).max(1)),
                false => (height + 1, 0),
            };
            ((height, inside), next, chain.batch(height, &indices))
        } else {
            let index = index_of(text);
            ((height, index), (height, index + 1), chain.event(height, index))
        };
        assert_eq!(text, expected);
        self.pass(place, stamp, chain, tally);
        self.next = Some(next);
    }

    fn hear_control(
        &mut self,
        kind: &str,
        text: &str,
        stamp: Stamp,
        chains: &[Chain],
        tally: &mut Tally,
    ) {
        if kind == "gap" && self.falls_back(text, tally) {
            return;
        }
        assert!(self.taste.has_control, "control messages are asked for: {text}");
        let bounds = self.bounds();
        let last = number(text, if kind == "gap" { "to_height" } else { "height" });
        let is_of_chain = matches!(kind, "block" | "gap");
        let is_asked_for = !is_of_chain || last.is_some_and(|last| bounds.allow(last));
        assert!(is_asked_for, "more than was asked for: {text}");
        let known = self.chain;
        let Some(chain) = self.chain_at(stamp, chains) else {
            self.next = None;
            return;
        };
        if kind != "block" {
            // On its way while another chain took the place: it is no proof of the newest.
            self.chain = known;
        }
        let control = Control { text, chain, known, stamp, chains };
        match kind {
            "position" => self.hear_position(&control, tally),
            "block" => self.hear_block(&control, tally),
            "gap" => self.hear_gap(&control, tally),
            "filled" => self.hear_filled(&control, tally),
            "heartbeat" => self.hear_heartbeat(&control, tally),
            _ => panic!("what is {text}?"),
        }
    }

    /// Whether this gap, the first message of all, says that the start was not to be had, and where the
    /// connection begins instead.
    fn falls_back(&mut self, text: &str, tally: &mut Tally) -> bool {
        let (from, to) = (number(text, "from_height"), number(text, "to_height"));
        let connection = self.connection.as_mut().expect("bug: it has read");
        if !connection.has_fallback || from.is_none() || from != self.next.map(|next| next.0) {
            return false;
        }
        self.next = to.map(|to| (to + 1, 0));
        tally.note(Seen::Fallbacks);
        true
    }

    fn hear_position(&mut self, control: &Control<'_>, tally: &mut Tally) {
        let Control { text, chain, stamp, .. } = *control;
        let next = match (number(text, "height"), number(text, "index")) {
            (Some(height), Some(index)) => (height, index + 1),
            (Some(height), None) => (height + 1, 0),
            (None, _) => (0, 0),
        };
        self.go_to(next, stamp, chain, tally);
    }

    fn hear_block(&mut self, control: &Control<'_>, tally: &mut Tally) {
        let Control { text, chain, stamp, .. } = *control;
        let height = control.height();
        let events = number(text, "events").expect("a number");
        assert_eq!(events, chain.events(height), "{text}");
        match self.taste.stream {
            Stream::Transactions => {
                self.pass((height, events.max(1)), stamp, chain, tally);
            }
            Stream::Blocks => {
                let is_next = self.next.is_none_or(|next| next == (height + 1, 0));
                assert!(is_next, "{text}, next is {:?}", self.next);
            }
        }
        self.next = Some((height + 1, 0));
    }

    fn hear_gap(&mut self, control: &Control<'_>, tally: &mut Tally) {
        let Control { text, chain, known, stamp, chains } = *control;
        let from = number(text, "from_height").expect("a height");
        let to = number(text, "to_height").expect("a height");
        let seen = self.seen();
        let is_fair =
            |chain: &&Chain| (from..=to).all(|it| chain.may_be_missing(it, seen.step, stamp.at));
        let of = match known {
            Some(_) => Some(chain).filter(is_fair),
            None => chains.iter().rfind(is_fair),
        };
        assert!(from <= to && of.is_some(), "no such gap: {text}, {}", chain.around(from));
        self.pass((from, 0), stamp, of.unwrap_or(chain), tally);
        self.next = Some((to + 1, 0));
        self.connection.iter_mut().for_each(|it| it.gaps.push((from, to)));
        tally.note(Seen::Gaps);
    }

    fn hear_filled(&mut self, control: &Control<'_>, tally: &mut Tally) {
        let Control { text, chain, known, chains, .. } = *control;
        let height = control.height();
        assert!(self.next.is_none_or(|next| height < next.0), "yet to come: {text}");
        let of_another = known.is_none() && chains.iter().any(|chain| chain.has(height));
        assert!(
            chain.has(height) || of_another,
            "nothing filled that: {text}, {}",
            chain.around(height)
        );
        let filled = &mut self.connection.as_mut().expect("bug: it has read").filled;
        assert!(!filled.contains(&height), "told twice: {text}");
        filled.push(height);
        tally.note(Seen::Fills);
    }

    fn hear_heartbeat(&mut self, control: &Control<'_>, tally: &mut Tally) {
        let Control { text, chain, stamp, .. } = *control;
        let next = (control.height() + 1, 0);
        if self.next == Some((0, 0)) {
            // From before the chain's first block: what lies below that is nobody's.
            self.pass(next, stamp, chain, tally);
            self.next = Some(next);
        }
        // A start inside a block may still be waited for.
        let is_next = self.next.is_none_or(|it| it.0 == next.0);
        assert!(is_next, "{text}, next is {:?}", self.next);
    }
}

/// A control message that was heard, and the chains that it may be of.
struct Control<'a> {
    text: &'a str,
    /// The chain that it is of, as far as the client can know.
    chain: &'a Chain,
    /// The place among `chains` of the chain that the client knew before.
    known: Option<usize>,
    stamp: Stamp,
    chains: &'a [Chain],
}

impl Control<'_> {
    fn height(&self) -> u64 {
        number(self.text, "height").expect("a height")
    }
}

fn number(text: &str, key: &str) -> Option<u64> {
    let (_, rest) = text.split_once(&format!("\"{key}\": "))?;
    let end = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// The number of the chain that the first id is of.
fn chain_of(text: &str) -> Option<u64> {
    let ids = text.split('"').find(|part| part.len() == 64)?;
    Some(u64::from_str_radix(&ids[..8], 16).expect("an id of ours"))
}

fn index_of(text: &str) -> u64 {
    index_of_id(text.strip_suffix("\"}").expect("an event"))
}

/// The index that an id ends with.
pub fn index_of_id(id: &str) -> u64 {
    u64::from_str_radix(&id[id.len() - 16..], 16).expect("an id of ours")
}
