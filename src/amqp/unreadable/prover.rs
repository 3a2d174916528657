//! Proofs for those who read the stream at places: one after the other, over a keeper of their own, so
//! that no connection is lost which others use, and going on when who asked has stopped waiting.

use std::convert::Infallible;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

use super::lanes::Lanes;
use super::look::SHOWN_WITHIN;
use super::proof::{Conclusion, Proof, ProofLook};
use crate::amqp::consumer::ProbeError;
use crate::amqp::precedence::Precedence;
use crate::backoff::Backoff;

/// A proof that was begun again so often is given up: who asked asks again.
const ATTEMPTS_MAX: u32 = 5;

/// What proves, on request.
pub struct Prover {
    pub lanes: Lanes,
    pub precedence: Arc<Precedence>,
    /// Senders: those who read at places, each with one question at a time. Of more than fit, the last
    /// to come are refused.
    pub questions: mpsc::Receiver<Question>,
}

/// Whether the entries from this offset on can be read.
pub struct Question {
    pub from: u64,
    pub answer: oneshot::Sender<ProverAnswer>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProverAnswer {
    /// From this offset on, at least one: nothing else is between.
    Readable(u64),
    /// There is nothing behind them that can be.
    Silent,
    /// Nothing is proven.
    Failed(String),
}

impl Prover {
    /// Answers for as long as this is not dropped.
    pub async fn run(mut self) -> Infallible {
        while let Some(Question { from, answer }) = self.questions.recv().await {
            if !answer.is_closed() {
                let answered = self.prove(from).await;
                self.lanes.close().await;
                let _stopped_waiting = answer.send(answered);
            }
        }
        std::future::pending().await
    }

    async fn prove(&mut self, from: u64) -> ProverAnswer {
        let (mut reason, mut backoff) = (String::new(), Backoff::default());
        let precedence = Arc::clone(&self.precedence);
        for _ in 0..ATTEMPTS_MAX {
            let error = tokio::select! {
                proven = self.attempt(from) => match proven {
                    Ok(Some(answer)) => return answer,
                    Ok(None) => "two looks at one offset differ".to_owned(),
                    Err(error) => error.to_string(),
                },
                () = precedence.feed_searching() => "the feed comes first".to_owned(),
            };
            reason = error;
            self.lanes.close().await;
            sleep(backoff.next(fastrand::f64())).await;
        }
        ProverAnswer::Failed(reason)
    }

    /// None when nothing is proven.
    async fn attempt(&mut self, from: u64) -> Result<Option<ProverAnswer>, ProbeError> {
        let mut proof = Proof::of(from);
        loop {
            match self.lanes.advance(&mut proof, SHOWN_WITHIN).await? {
                (Conclusion::Open, ProofLook::Silent) => return Ok(Some(ProverAnswer::Silent)),
                (Conclusion::Open, _) => {}
                (Conclusion::Contradiction, _) => return Ok(None),
                (Conclusion::Proven(cleared), _) => {
                    return Ok(Some(ProverAnswer::Readable(cleared.readable)));
                }
            }
        }
    }
}
