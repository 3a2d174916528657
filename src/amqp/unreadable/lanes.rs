//! Carries a proof forward: a look at a time, and several at a time in a long run, so that a thousand
//! entries do not take a thousand times a connection's making.
//!
//! RabbitMQ 4.0 lets nobody in for five seconds when some fifty of its processes crash within a second,
//! which ends the proof. The next one goes slower.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use lapin::types::ShortString;
use tokio::time::sleep;

use super::UnreadableEntries;
use super::look::look;
use super::proof::{Cleared, Conclusion, Proof, ProofLook};
use crate::amqp::connection::ConnectError;
use crate::amqp::consumer::{ConsumerStart, ProbeError};
use crate::amqp::keeper::Keeper;
use crate::amqp::precedence::Precedence;
use crate::config;

/// Connections at a time.
const WIDTH_MAX: usize = 8;
/// Between two looks after a first error, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(25), Duration::from_millis(200));

pub struct Lanes {
    keepers: Vec<Keeper>,
    queue: ShortString,
    unreadable: Arc<UnreadableEntries>,
    /// Looks at a time: doubled while all are answered with 541.
    width: usize,
    /// One after an error, until something is proven: a broker may allow few connections.
    width_max: usize,
    /// Between two looks; likewise.
    pause: Duration,
}

impl Lanes {
    /// # Errors
    /// As those of [`Keeper::new`].
    pub fn new(
        config: &Arc<config::Amqp>,
        precedence: &Arc<Precedence>,
        queue: ShortString,
        unreadable: Arc<UnreadableEntries>,
    ) -> Result<Self, ConnectError> {
        let keeper = || {
            Keeper::beside(Arc::clone(config), Arc::clone(precedence))
                .map(Keeper::with_small_frames)
        };
        let keepers = std::iter::repeat_with(keeper).take(WIDTH_MAX).collect::<Result<_, _>>()?;
        Ok(Self {
            keepers,
            queue,
            unreadable,
            width: 1,
            width_max: WIDTH_MAX,
            pause: Duration::ZERO,
        })
    }

    /// Looks at the next offsets of a proof and tells it what is there, in order, up to the first that
    /// does not answer 541; looks at nothing where it is known already what can be read. Returns what is
    /// known then, and the last look. What is proven is kept. The next broker is asked the second time.
    ///
    /// # Errors
    /// Nothing is proven: the proof begins again.
    ///
    /// # Cancel safety
    /// Dropped, nothing is told to the proof that was not seen; connections may stay open until the
    /// next look.
    pub async fn advance(
        &mut self,
        proof: &mut Proof,
        within: Duration,
    ) -> Result<(Conclusion, ProofLook), ProbeError> {
        if let Some(readable) = self.unreadable.behind(proof.from()) {
            let known = Cleared { run: None, readable };
            return Ok((Conclusion::Proven(known), ProofLook::Read(readable)));
        }
        sleep(self.pause).await;
        let (width, queue) = (self.width, &self.queue);
        self.width = 1;
        let looks = proof.ahead(width).zip(&self.keepers);
        let looks =
            looks.map(|(offset, on)| look(on, queue, ConsumerStart::Offset(offset), within));
        let mut looks: FuturesOrdered<_> = looks.collect();
        let mut last = (Conclusion::Open, ProofLook::Unreadable);
        let was_second_pass = proof.is_second_pass();
        while let Some(seen) = looks.next().await {
            let seen = seen.inspect_err(|_| {
                self.width_max = 1;
                self.pause = (2 * self.pause).clamp(PAUSES.0, PAUSES.1);
            })?;
            last = (proof.take(seen), seen);
            if seen != ProofLook::Unreadable || last.0 != Conclusion::Open {
                break;
            }
        }
        drop(looks);
        if proof.is_second_pass() && !was_second_pass {
            self.keepers.iter().for_each(Keeper::move_on);
        }
        match &last {
            (Conclusion::Open, ProofLook::Unreadable) => {
                self.width = (2 * width).min(self.width_max)
            }
            (Conclusion::Proven(Cleared { run, readable }), _) => {
                (self.width_max, self.pause) = (WIDTH_MAX, Duration::ZERO);
                if let Some(run) = run {
                    self.unreadable.learn(&self.queue, run, *readable);
                }
            }
            _ => {}
        }
        Ok(last)
    }

    /// Has the next looks begin with the broker that this keeper has or had.
    pub fn follow(&self, keeper: &Keeper) {
        self.keepers.iter().for_each(|lane| lane.follow(keeper));
    }

    /// Closes what is open.
    pub async fn close(&self) {
        for keeper in &self.keepers {
            keeper.close().await;
        }
    }
}
