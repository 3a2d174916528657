//! What lets a client have its stream, and for how long. Whoever let the client in sets it; its session
//! looks at it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::time::Instant;

/// The end of a session's right to its stream.
#[derive(Debug, Clone)]
pub struct Pass {
    /// When it ends by itself.
    pub until: Option<Instant>,
    /// Set when it is taken back.
    pub revoked: Option<Arc<AtomicBool>>,
}

/// Why a pass is none any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    Expired,
    Revoked,
}

impl Pass {
    /// Whether it lets nobody in any more.
    pub fn is_over(&self, now: Instant) -> Option<Over> {
        let is_revoked = |revoked: &Arc<AtomicBool>| revoked.load(Ordering::Acquire);
        if self.revoked.as_ref().is_some_and(is_revoked) {
            return Some(Over::Revoked);
        }
        self.until.is_some_and(|until| now >= until).then_some(Over::Expired)
    }
}
