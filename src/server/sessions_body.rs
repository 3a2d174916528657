//! The body that lists the sessions: written as it is read, so that a reader who stops reading costs one
//! page of them and not the whole list.

use std::convert::Infallible;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame};

use crate::session::Sessions;

/// A JSON list, with an end of line behind it.
pub struct SessionsBody {
    sessions: Arc<Sessions>,
    /// Of those that are still to be written: who comes later is not listed.
    ids: Range<u64>,
    tip: Option<u64>,
    state: BodyState,
}

/// What is written already.
#[derive(Clone, Copy, PartialEq, Eq)]
enum BodyState {
    Nothing,
    Sessions { is_any: bool },
    All,
}

impl SessionsBody {
    /// A list of the sessions that there are now; `tip` is what they are behind.
    pub fn new(sessions: Arc<Sessions>, tip: Option<u64>) -> Self {
        let ids = 0..sessions.next_id();
        Self { sessions, ids, tip, state: BodyState::Nothing }
    }

    /// What comes next of the text; none when all of it is written.
    fn next(&mut self) -> Option<String> {
        let mut text = String::new();
        let mut is_any = match self.state {
            BodyState::Nothing => {
                text.push('[');
                false
            }
            BodyState::Sessions { is_any } => is_any,
            BodyState::All => return None,
        };
        let (page, behind) = self.sessions.page(self.ids.clone(), self.tip);
        for session in page {
            if std::mem::replace(&mut is_any, true) {
                text.push(',');
            }
            text.push_str(&session.to_string());
        }
        self.ids.start = behind;
        self.state = match self.ids.is_empty() {
            true => {
                text.push_str("]\n");
                BodyState::All
            }
            false => BodyState::Sessions { is_any },
        };
        Some(text)
    }
}

impl Body for SessionsBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.next().map(|text| Ok(Frame::data(text.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.state == BodyState::All
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::protocol::Stream;
    use crate::session::{PAGE_SESSIONS, SessionListing, SessionStatus};

    /// A list of so many.
    fn listed(count: usize) -> (Arc<Sessions>, Vec<SessionListing>) {
        let sessions = Arc::new(Sessions::default());
        let address = "192.0.2.1".parse().expect("an address");
        let seen = || Arc::new(SessionStatus::new(address, Stream::Blocks, "asset_id=x"));
        let listings = (0..count).map(|_| sessions.list(&seen())).collect();
        (sessions, listings)
    }

    /// The most that is kept at a time for readers that stop after their first page, as a connection's
    /// buffer takes it in.
    fn kept_for_stopped_readers(readers: usize, sessions: &Arc<Sessions>) -> u64 {
        let kept = allocation_counter::measure(|| {
            let mut stopped = Vec::new();
            for _ in 0..readers {
                let mut body = SessionsBody::new(Arc::clone(sessions), Some(7));
                stopped.push((body.next().expect("a page"), body));
            }
        });
        kept.bytes_max
    }

    #[test]
    fn readers_that_stop_cost_a_page_each_however_long_the_list_is() {
        const READERS: usize = 60;
        let (few, _few) = listed(2 * PAGE_SESSIONS);
        let (many, _many) = listed(40 * PAGE_SESSIONS);
        // The lists are twenty times each other, and what is kept of them is the same.
        let (of_few, of_many) =
            (kept_for_stopped_readers(READERS, &few), kept_for_stopped_readers(READERS, &many));
        assert!(
            of_many < 2 * of_few,
            "{of_many} bytes are kept of the long list, {of_few} of the short"
        );
        let mut all = SessionsBody::new(Arc::clone(&many), Some(7));
        let whole: usize = std::iter::from_fn(|| all.next()).map(|page| page.len()).sum();
        assert!((of_many as usize) < READERS * whole / 10, "{of_many} bytes, {whole} in one list");
    }

    #[test]
    fn the_list_is_written_page_by_page() {
        for count in [0, 1, PAGE_SESSIONS, 5 * PAGE_SESSIONS + 1] {
            let sessions = Arc::new(Sessions::default());
            let address = "192.0.2.1".parse().expect("an address");
            let list = |height: usize| {
                let seen = Arc::new(SessionStatus::new(address, Stream::Blocks, "asset_id=x"));
                seen.set_next_height(height as u64);
                sessions.list(&seen)
            };
            let _listed: Vec<_> = (0..count).map(list).collect();
            let mut body = SessionsBody::new(Arc::clone(&sessions), Some(7));
            let late = list(count);
            let (mut text, mut pieces) = (String::new(), 0);
            while let Some(piece) = body.next() {
                text += &piece;
                pieces += 1;
            }
            drop(late);
            assert_eq!(pieces, count.div_ceil(PAGE_SESSIONS).max(1), "{count}");
            let found: Vec<Value> = serde_json::from_str(&text).expect("JSON");
            let heights: Vec<u64> =
                found.iter().map(|one| one["next_height"].as_u64().expect("a height")).collect();
            assert_eq!(heights, Vec::from_iter(0..count as u64));
            assert!(text.ends_with("]\n") && body.is_end_stream());
        }
    }
}
