//! The broker's stoppage of all who publish, in a memory or disk alarm: told to a person, waited out.

use std::future::Future;
use std::pin::pin;

use super::progress::Voice;
use crate::amqp::Publisher;

/// Whether the broker takes messages, as a person was told last.
pub struct Stoppage {
    voice: Voice,
    is_stopped: bool,
}

impl Stoppage {
    pub fn new(voice: Voice) -> Self {
        Self { voice, is_stopped: false }
    }

    /// Waits for `answer`, and says when the broker stops and when it begins again to take messages.
    ///
    /// # Cancel safety
    /// As that of `answer`.
    pub async fn told<T>(&mut self, publisher: &Publisher, answer: impl Future<Output = T>) -> T {
        let mut answer = pin!(answer);
        loop {
            tokio::select! {
                biased;
                answer = &mut answer => {
                    // The answer may come with the word that the broker goes on.
                    if self.is_stopped && !publisher.is_stopped() {
                        self.turn();
                    }
                    return answer;
                }
                () = publisher.stopped(!self.is_stopped) => self.turn(),
            }
        }
    }

    fn turn(&mut self) {
        self.is_stopped = !self.is_stopped;
        self.voice.say(match self.is_stopped {
            true => {
                "the broker takes no messages from anybody (a memory or disk alarm; `rabbitmq-diagnostics alarms` says which); waiting until it does"
            }
            false => "the broker takes messages again",
        });
    }
}
