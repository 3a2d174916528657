//! A check whether a RabbitMQ stream that was made anew still holds the known chain.
//!
//! An operator may delete the stream, or the stream may lose its tail. The source then reads the new
//! one from its first message. Either its blocks continue the known chain, or another chain is
//! published there and the replica must start over.
//!
//! A pure state machine: no delivery, no clock, no log.

/// The check, for one start of the source.
///
/// It is idle until a stream is made anew, and then open until one of these decides:
///
/// - a block that is new and in order, or a duplicate: the stream holds the known chain;
/// - a conflict: another chain;
/// - blocks below the known heights and nothing else until the stream's end, or such a block behind
///   it: another chain.
#[derive(Debug, Default)]
pub struct ChainCheck {
    stream: StreamNumber,
    /// None while the check is idle.
    evidence: Option<Evidence>,
}

/// Which stream a block was read from: how many times a stream was made anew before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamNumber(u64);

/// What the blocks of a stream made anew have shown so far.
#[derive(Debug, Clone, Copy, Default)]
struct Evidence {
    /// A block was below the known heights. It may be older than the history, or of another chain.
    saw_lower: bool,
    /// Everything that the stream held when it was found has been read.
    is_read: bool,
}

/// What becomes of a block that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// It is put in order.
    InOrder,
    /// It is settled as old.
    Old,
    /// It is settled as old, and the replica starts over.
    OfAnotherChain(AnotherChain),
}

/// Why a stream made anew holds another chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnotherChain {
    /// A known height has another block.
    OtherBlocks,
    /// Every height up to the stream's end is below the known ones.
    OnlyLower,
    /// Behind what the stream held when it was found, a height is below the known ones.
    GoesOnLower,
}

impl ChainCheck {
    /// Opens the check: the source reads another stream from here on.
    pub fn stream_made_anew(&mut self) {
        self.stream.0 += 1;
        self.evidence = Some(Evidence::default());
    }

    /// The stream that blocks are read from now.
    pub fn stream(&self) -> StreamNumber {
        self.stream
    }

    /// Takes note of a block before it is put in order. `first_height` is the lowest known height.
    pub fn block_came(&mut self, height: u64, first_height: Option<u64>) -> Arrival {
        let Some(evidence) = &mut self.evidence else { return Arrival::InOrder };
        if first_height.is_none_or(|first_height| height >= first_height) {
            return Arrival::InOrder;
        }
        evidence.saw_lower = true;
        match evidence.is_read {
            true => Arrival::OfAnotherChain(AnotherChain::GoesOnLower),
            false => Arrival::Old,
        }
    }

    /// Takes note of a block that is new and in order, or a duplicate. A block from an earlier stream
    /// decides nothing about the stream made anew.
    pub fn block_confirmed(&mut self, stream: StreamNumber) {
        if stream == self.stream {
            self.evidence = None;
        }
    }

    /// Takes note of another block at a known height.
    pub fn block_conflicted(&self) -> Option<AnotherChain> {
        self.evidence.map(|_| AnotherChain::OtherBlocks)
    }

    /// Takes note that everything has been read that the stream held when it was found.
    pub fn stream_read(&mut self) -> Option<AnotherChain> {
        let evidence = self.evidence.as_mut()?;
        evidence.is_read = true;
        evidence.saw_lower.then_some(AnotherChain::OnlyLower)
    }
}

impl AnotherChain {
    /// The reason, for the log.
    pub fn reason(self) -> &'static str {
        match self {
            Self::OtherBlocks => "the stream made anew holds other blocks at known heights",
            Self::OnlyLower => "the stream made anew holds only lower heights",
            Self::GoesOnLower => "the stream made anew goes on below what is known",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lowest known height in these tests.
    const FIRST: u64 = 10;

    #[derive(Clone, Copy)]
    enum Event {
        MadeAnew,
        Came(u64, Arrival),
        CameFirstOfAll(u64),
        /// From the stream of this number.
        Confirmed(u64),
        Conflicted(Option<AnotherChain>),
        Read(Option<AnotherChain>),
    }
    use AnotherChain::*;
    use Arrival::*;
    use Event::*;

    #[track_caller]
    fn check(name: &str, events: &[Event]) {
        let mut check = ChainCheck::default();
        for (at, event) in events.iter().enumerate() {
            match event {
                MadeAnew => check.stream_made_anew(),
                Came(height, expected) => {
                    assert_eq!(check.block_came(*height, Some(FIRST)), *expected, "{name}, {at}");
                }
                CameFirstOfAll(height) => {
                    assert_eq!(check.block_came(*height, None), InOrder, "{name}, {at}");
                }
                Confirmed(stream) => check.block_confirmed(StreamNumber(*stream)),
                Conflicted(expected) => {
                    assert_eq!(check.block_conflicted(), *expected, "{name}, {at}");
                }
                Read(expected) => assert_eq!(check.stream_read(), *expected, "{name}, {at}"),
            }
        }
    }

    #[test]
    fn a_stream_that_was_not_made_anew_is_never_judged() {
        check("at the start", &[Came(3, InOrder), Conflicted(None), Read(None), Came(3, InOrder)]);
    }

    #[test]
    fn a_new_block_or_a_duplicate_proves_the_known_chain() {
        let proven = [Conflicted(None), Came(3, InOrder), Read(None), Came(3, InOrder)];
        check("at once", &[&[MadeAnew, Came(10, InOrder), Confirmed(1)][..], &proven].concat());
        check(
            "behind older blocks",
            &[&[MadeAnew, Came(3, Old), Came(10, InOrder), Confirmed(1)][..], &proven].concat(),
        );
        check(
            "behind its end",
            &[&[MadeAnew, Read(None), Came(11, InOrder), Confirmed(1)][..], &proven].concat(),
        );
        check(
            "made anew again",
            &[
                &[MadeAnew, Came(3, Old), MadeAnew, Read(None), Came(10, InOrder), Confirmed(2)][..],
                &proven,
            ]
            .concat(),
        );
    }

    #[test]
    fn a_block_from_an_earlier_stream_proves_nothing() {
        check("the first", &[MadeAnew, Confirmed(0), Conflicted(Some(OtherBlocks))]);
        check("the second", &[MadeAnew, MadeAnew, Confirmed(1), Conflicted(Some(OtherBlocks))]);
    }

    #[test]
    fn another_chain_is_told_by_a_conflict_and_by_lower_heights_alone() {
        check("a conflict", &[MadeAnew, Came(12, InOrder), Conflicted(Some(OtherBlocks))]);
        check("only lower", &[MadeAnew, Came(8, Old), Came(9, Old), Read(Some(OnlyLower))]);
        check(
            "lower behind its end",
            &[MadeAnew, Read(None), Came(9, OfAnotherChain(GoesOnLower))],
        );
        check("lower in an earlier stream", &[MadeAnew, Came(9, Old), MadeAnew, Read(None)]);
        check("nothing known yet", &[MadeAnew, CameFirstOfAll(9), Read(None)]);
    }

    #[test]
    fn blocks_carry_the_number_of_their_stream() {
        let mut check = ChainCheck::default();
        let before = check.stream();
        check.stream_made_anew();
        check.block_confirmed(before);
        assert_eq!(check.block_conflicted(), Some(OtherBlocks));
        check.block_confirmed(check.stream());
        assert_eq!(check.block_conflicted(), None);
    }
}
