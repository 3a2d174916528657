//! Precedence of the feed over all that has a connection beside it.
//!
//! A broker may allow a user one connection only, or few. So the dead letters and the reader of the
//! stream connect after the feed has, and let go when the feed finds no broker. It also says whether
//! the dead letters' exchange and queue have been looked after, which the feed does for them.

use tokio::sync::watch;

/// What the feed has come to, seen by those beside it.
pub struct Precedence {
    /// Sender: the feed. Receivers: those beside it. Whether the feed has a connection, or had one and
    /// has not yet sought another in vain.
    is_feed_connected: watch::Sender<bool>,
    /// Sender: the feed. Receivers: the dead letters. Once true it stays so.
    are_letters_set_up: watch::Sender<bool>,
}

impl Precedence {
    /// Of a feed that has not connected yet.
    pub fn new() -> Self {
        Self {
            is_feed_connected: watch::Sender::new(false),
            are_letters_set_up: watch::Sender::new(false),
        }
    }

    /// Of no feed: whoever asks comes first.
    pub fn none() -> Self {
        Self {
            is_feed_connected: watch::Sender::new(true),
            are_letters_set_up: watch::Sender::new(true),
        }
    }

    pub fn set_feed_connected(&self, is_connected: bool) {
        self.is_feed_connected.send_replace(is_connected);
    }

    /// Says that setting up the dead letters has been tried, well or ill.
    pub fn set_letters_set_up(&self) {
        self.are_letters_set_up.send_replace(true);
    }

    /// Waits until the feed has its connection.
    ///
    /// # Cancel safety
    /// Waiting changes nothing.
    pub async fn feed_connected(&self) {
        wait(&self.is_feed_connected, true).await;
    }

    /// Waits until the feed seeks a connection in vain.
    ///
    /// # Cancel safety
    /// Waiting changes nothing.
    pub async fn feed_searching(&self) {
        wait(&self.is_feed_connected, false).await;
    }

    /// Waits until setting up the dead letters has been tried.
    ///
    /// # Cancel safety
    /// Waiting changes nothing.
    pub async fn letters_set_up(&self) {
        wait(&self.are_letters_set_up, true).await;
    }
}

async fn wait(state: &watch::Sender<bool>, wanted: bool) {
    let mut state = state.subscribe();
    let seen = state.wait_for(|state| *state == wanted).await;
    seen.expect("bug: the sender is borrowed while this waits");
}
