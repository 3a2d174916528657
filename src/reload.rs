//! The wish that files be read again, from the one who hears of it to all who read files. What is
//! read, and what becomes of a bad one, is theirs.

use tokio::sync::watch;

/// Where a wish is told. Told twice before anyone looks, it is one.
#[derive(Debug)]
pub struct Reload(watch::Sender<()>);

/// Where one reader of files hears of it.
#[derive(Debug)]
pub struct Requests(watch::Receiver<()>);

impl Reload {
    /// Asks all that read files now to read them again. Never waits.
    pub fn ask(&self) {
        self.0.send_replace(());
    }

    /// What is asked for from now on.
    pub fn subscribe(&self) -> Requests {
        Requests(self.0.subscribe())
    }
}

impl Default for Reload {
    fn default() -> Self {
        Self(watch::Sender::new(()))
    }
}

impl Requests {
    /// Returns when it was asked for since the last return; never when nobody can ask any more.
    ///
    /// # Cancel safety
    /// Nothing is lost: what was asked for stays to be told by the next call.
    pub async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn every_subscriber_hears_of_it_once_however_often_it_was_asked_for() {
        let reload = Reload::default();
        reload.ask();
        let (mut first, mut second) = (reload.subscribe(), reload.subscribe());
        assert!(first.next().now_or_never().is_none(), "asked for before it subscribed");
        reload.ask();
        reload.ask();
        for requests in [&mut first, &mut second] {
            assert!(requests.next().now_or_never().is_some());
            assert!(requests.next().now_or_never().is_none());
        }
        drop(reload);
        assert!(first.next().now_or_never().is_none(), "nobody asked");
    }
}
