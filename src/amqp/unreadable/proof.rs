//! The proof that a run of entries cannot be handed over by the broker. Pure: looks are told to it.
//!
//! A broker that crashes, is overloaded or is cut off can answer 541 too, so one answer proves nothing.
//! A run is proven when each of its offsets, attached to alone, answered 541, the first offset behind
//! it answered with a delivery, and both held a second time. Whoever looks asks the next broker the
//! second time, if there is one, since RabbitMQ's nodes need not agree. Whoever looks begins the proof
//! again after anything else came between: a lost connection, a timeout, another error.

use std::ops::RangeInclusive;

/// What attaching to one offset alone showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProofLook {
    /// A delivery: the first at this offset or behind it.
    Read(u64),
    /// 541 before any delivery.
    Unreadable,
    /// Nothing in time: the stream's end, or no proof of anything.
    Silent,
}

/// A proof under way.
#[derive(Debug, Clone)]
pub struct Proof {
    from: u64,
    /// What is to be looked at next.
    next: u64,
    /// The run and the delivery behind it, once found; then all of it is looked at again.
    found: Option<Cleared>,
}

/// What is known after a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Conclusion {
    /// Look at the next offset.
    Open,
    /// Two looks differ: nothing is proven.
    Contradiction,
    Proven(Cleared),
}

/// Where reading can go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cleared {
    /// What cannot be read; none when the first look was answered with a delivery.
    pub run: Option<RangeInclusive<u64>>,
    /// The offset of the first delivery behind it.
    pub readable: u64,
}

impl Proof {
    /// Of a run that begins at this offset.
    pub fn of(from: u64) -> Self {
        Self { from, next: from, found: None }
    }

    /// Where the run begins.
    pub fn from(&self) -> u64 {
        self.from
    }

    /// The offset to look at.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The offsets to look at, one after the other, for as long as each answers 541: so many at most.
    pub fn ahead(&self, count: usize) -> impl Iterator<Item = u64> + use<> {
        let end = match &self.found {
            None => u64::MAX,
            Some(found) => found.run.as_ref().map_or(self.from, |run| run.end() + 1),
        };
        (self.next..=end).take(count)
    }

    /// Whether the run has been found and is looked at again.
    pub fn is_second_pass(&self) -> bool {
        self.found.is_some()
    }

    /// Takes what a look at [`Self::next`] showed.
    pub fn take(&mut self, look: ProofLook) -> Conclusion {
        let Some(found) = &self.found else { return self.take_first(look) };
        let end = found.run.as_ref().map_or(self.from, |run| *run.end());
        match look {
            ProofLook::Unreadable if self.next <= end => {
                self.next += 1;
                Conclusion::Open
            }
            ProofLook::Read(offset) if self.next > end && offset == found.readable => {
                Conclusion::Proven(found.clone())
            }
            ProofLook::Unreadable | ProofLook::Read(_) | ProofLook::Silent => {
                Conclusion::Contradiction
            }
        }
    }

    fn take_first(&mut self, look: ProofLook) -> Conclusion {
        match look {
            ProofLook::Read(readable) if self.next == self.from => {
                Conclusion::Proven(Cleared { run: None, readable })
            }
            ProofLook::Read(readable) => {
                let run = Some(self.from..=self.next - 1);
                self.found = Some(Cleared { run, readable });
                self.next = self.from;
                Conclusion::Open
            }
            ProofLook::Unreadable => {
                self.next += 1;
                Conclusion::Open
            }
            ProofLook::Silent => Conclusion::Open,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ProofLook::{Read, Silent, Unreadable};
    use super::*;

    fn conclude(looks: &[ProofLook]) -> Conclusion {
        let mut proof = Proof::of(41);
        let (last, before) = looks.split_last().expect("looks");
        for look in before {
            assert_eq!(proof.take(*look), Conclusion::Open, "{look:?} of {looks:?}");
        }
        proof.take(*last)
    }

    fn proven(run: Option<RangeInclusive<u64>>, readable: u64) -> Conclusion {
        Conclusion::Proven(Cleared { run, readable })
    }

    #[test]
    fn a_run_is_proven_by_two_passes() {
        let (no, yes) = (Unreadable, Read(42));
        assert_eq!(conclude(&[no, yes, no, yes]), proven(Some(41..=41), 42));
        assert_eq!(conclude(&[no, Silent, Silent, yes, no, yes]), proven(Some(41..=41), 42));
        assert_eq!(conclude(&[no, no, Read(43), no, no, Read(43)]), proven(Some(41..=42), 43));
        // Offsets have holes, which are no entries.
        assert_eq!(conclude(&[no, Read(50), no, Read(50)]), proven(Some(41..=41), 50));
        assert_eq!(conclude(&[Read(41)]), proven(None, 41));
    }

    #[test]
    fn what_lies_behind_a_run_that_was_found_is_not_looked_at_again() {
        let mut proof = Proof::of(41);
        assert_eq!(Vec::from_iter(proof.ahead(3)), [41, 42, 43]);
        for look in [Unreadable, Unreadable, Read(43)] {
            proof.take(look);
        }
        assert_eq!(Vec::from_iter(proof.ahead(8)), [41, 42, 43]);
        proof.take(Unreadable);
        assert_eq!(Vec::from_iter(proof.ahead(1)), [42]);
    }

    #[test]
    fn looks_that_differ_prove_nothing() {
        let (no, yes) = (Unreadable, Read(42));
        for looks in [
            &[no, yes, Read(41)][..],
            &[no, yes, Silent],
            &[no, yes, no, no],
            &[no, yes, no, Silent],
            &[no, yes, no, Read(43)],
            &[no, no, Read(43), no, Read(42)],
        ] {
            assert_eq!(conclude(looks), Conclusion::Contradiction, "{looks:?}");
        }
    }

    /// A stream some of whose entries answer 541, behind a broker that errs: it answers 541 for good
    /// entries, hangs and cuts. Its errors come one at a time or in long rows.
    #[test]
    fn whatever_a_broker_does_only_what_answered_541_twice_is_passed_over() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let mut passed_over = 0;
        for _ in 0..20_000 {
            let bad: Vec<bool> = (0..6).map(|_| random.bool()).chain([false]).collect();
            let erring = random.f64() * 0.5;
            // What was answered since the proof began, by offset.
            let mut answered = vec![0_u32; bad.len()];
            let mut proof = Proof::of(0);
            for _ in 0..100 {
                let at = proof.next() as usize;
                let entry = bad.get(at).copied();
                let look = match (random.f64() < erring, random.u8(..3), entry) {
                    (true, 0, _) => None,
                    (true, 1, _) | (_, _, None) => Some(Silent),
                    (true, ..) | (false, _, Some(true)) => Some(Unreadable),
                    (false, _, Some(false)) => Some(Read(at as u64)),
                };
                // As whoever looks does: an error begins the proof again, and so does a contradiction.
                let Some(look) = look else {
                    (proof, answered) = (Proof::of(0), vec![0; bad.len()]);
                    continue;
                };
                if look == Unreadable
                    && let Some(count) = answered.get_mut(at)
                {
                    *count += 1;
                }
                match proof.take(look) {
                    Conclusion::Open => {}
                    Conclusion::Contradiction => {
                        (proof, answered) = (Proof::of(0), vec![0; bad.len()]);
                    }
                    Conclusion::Proven(Cleared { run, readable }) => {
                        assert!(!bad[readable as usize]);
                        for offset in run.into_iter().flatten() {
                            assert!(answered[offset as usize] >= 2, "{offset} of {bad:?}");
                            assert!(offset < readable);
                            passed_over += 1;
                        }
                        break;
                    }
                }
            }
        }
        assert!(passed_over > 1_000, "something was proven: {passed_over}");
    }
}
