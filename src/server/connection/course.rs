//! What a connection is at between its beginning and its end, and for how long it may be: it waits for a
//! request, reads one, answers it, waits again.
//!
//! Whatever waits for its client gives up its place when a newcomer needs one: between two requests at
//! once, in the middle of a request or an answer only when that has taken long.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, sleep_until};

use super::super::places::Place;

/// A connection without a request. Balancers keep one for 60 s, Google's for 600 s, and whoever ends it
/// first may do so under a request.
const IDLE_TIME: Duration = Duration::from_secs(650);
/// An answer, however slowly it is read.
const ANSWER_TIME: Duration = Duration::from_secs(60);
/// What may be done in peace though all places are taken: a TLS handshake or the head of a request over
/// slow lines, and the reading of an answer.
pub const HEAD_PEACE: Duration = Duration::from_secs(2);
const ANSWER_PEACE: Duration = Duration::from_secs(10);
/// A request's head ends with an empty line.
const EMPTY_LINES: [&[u8]; 2] = [b"\n\r\n", b"\n\n"];

/// One connection's course.
pub struct Course {
    place: Arc<Place>,
    handshake_timeout: Duration,
    state: Mutex<State>,
}

struct State {
    phase: Phase,
    since: Instant,
    /// The last bytes that were read, the newest last.
    last_read: [u8; 3],
    has_answered: bool,
}

/// What a connection is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Nothing has come yet.
    Unasked,
    /// A request's head has begun.
    Head,
    Answer {
        /// All of the answer was handed over to be sent.
        is_given: bool,
    },
    /// Answered, and nothing more has come.
    Idle,
}

/// Why a connection is over before its client says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// This phase has taken its time.
    Late(Phase),
    /// A newcomer needs its place.
    PutOut(Phase),
}

/// An answer's body, which tells the course when all of it was taken.
pub struct Given<B> {
    body: B,
    course: Arc<Course>,
}

impl Course {
    pub fn new(place: Arc<Place>, handshake_timeout: Duration) -> Self {
        let (phase, since) = (Phase::Unasked, Instant::now());
        let state = State { phase, since, last_read: [0; 3], has_answered: false };
        let course = Self { place, handshake_timeout, state: Mutex::new(state) };
        course.enter(&mut course.lock(), phase);
        course
    }

    /// Bytes of the client's.
    pub fn read(&self, bytes: &[u8]) {
        let mut state = self.lock();
        for byte in &bytes[bytes.len().saturating_sub(state.last_read.len())..] {
            state.last_read.rotate_left(1);
            state.last_read[2] = *byte;
        }
        if matches!(state.phase, Phase::Unasked | Phase::Idle) && !bytes.is_empty() {
            self.enter(&mut state, Phase::Head);
        }
    }

    /// A request's head is whole. Behind an answer that is not sent yet that is no new beginning.
    pub fn begin_answer(&self) {
        let mut state = self.lock();
        match &mut state.phase {
            Phase::Answer { is_given } => *is_given = false,
            _ => self.enter(&mut state, Phase::Answer { is_given: false }),
        }
    }

    /// The body of the answer, or of what stands for it.
    pub fn give<B>(self: &Arc<Self>, body: B) -> Given<B> {
        self.lock().has_answered = true;
        Given { body, course: Arc::clone(self) }
    }

    /// All that was handed over is sent.
    pub fn flushed(&self) {
        let mut state = self.lock();
        if state.phase != (Phase::Answer { is_given: true }) {
            return;
        }
        // The next request may have begun behind the last.
        let is_whole = EMPTY_LINES.iter().any(|line| state.last_read.ends_with(line));
        self.enter(&mut state, if is_whole { Phase::Idle } else { Phase::Head });
    }

    /// Whether a request was answered.
    pub fn has_answered(&self) -> bool {
        self.lock().has_answered
    }

    /// Returns when the connection is to end, as long as it stays in this phase. Asked behind its reads:
    /// what has come counts.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn over(&self) -> Over {
        loop {
            let (phase, until) = self.phase_and_end();
            if until <= Instant::now() {
                return Over::Late(phase);
            }
            tokio::select! {
                biased;
                () = self.place.asked() => return Over::PutOut(self.phase()),
                () = sleep_until(until) => {}
            }
        }
    }

    pub fn phase(&self) -> Phase {
        self.lock().phase
    }

    fn phase_and_end(&self) -> (Phase, Instant) {
        let state = self.lock();
        let time = match state.phase {
            Phase::Unasked | Phase::Head => self.handshake_timeout,
            Phase::Answer { .. } => ANSWER_TIME,
            Phase::Idle => IDLE_TIME,
        };
        (state.phase, state.since + time)
    }

    fn enter(&self, state: &mut State, phase: Phase) {
        let now = Instant::now();
        (state.phase, state.since) = (phase, now);
        self.place.may_go_from(match phase {
            Phase::Unasked | Phase::Head => now + HEAD_PEACE,
            Phase::Answer { .. } => now + ANSWER_PEACE,
            Phase::Idle => now,
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("bug: nothing panics while it holds this lock")
    }
}

impl<B> Drop for Given<B> {
    fn drop(&mut self) {
        let mut state = self.course.lock();
        if let Phase::Answer { is_given } = &mut state.phase {
            *is_given = true;
        }
    }
}

impl<B: Body + Unpin> Body for Given<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
