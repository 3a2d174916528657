//! The places of the connections that are no sessions, of one listener. When all are taken, a newcomer is
//! given the place of the one that has waited longest for its client.
//!
//! Only the connection itself ends itself: it is asked to, and does not when its client has begun to speak.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};

/// A listener's places, so many at most.
#[derive(Debug)]
pub struct Places {
    table: Mutex<Table>,
    /// One for each place: its connection is told to look whether it is asked to go.
    told: Box<[Notify]>,
    /// For the newcomer: a place is free, or another may be asked for.
    changed: Notify,
}

#[derive(Debug)]
struct Table {
    standings: Box<[Standing]>,
    /// The places that nobody has.
    free: Vec<usize>,
    newcomer: Newcomer,
}

/// What a place's connection is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Free, or taken for good.
    Stays,
    /// Waits for its client, and may be asked to go from then on.
    MayGo(Instant),
    /// Is asked to go.
    Asked,
}

/// Who waits for a place. The listener accepts one after the other, so there is one at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Newcomer {
    None,
    Waits,
    /// Waits for a connection that it has asked.
    HasAsked,
}

/// A connection's place, free again when it is dropped. At first it is taken for good.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    index: usize,
}

impl Places {
    pub fn new(places_max: usize) -> Self {
        let table = Table {
            standings: vec![Standing::Stays; places_max].into(),
            free: (0..places_max).rev().collect(),
            newcomer: Newcomer::None,
        };
        let told = (0..places_max).map(|_| Notify::new()).collect();
        Self { table: Mutex::new(table), told, changed: Notify::new() }
    }

    /// A place for a newcomer; none when no connection goes within that time. For one caller at a time.
    ///
    /// # Cancel safety
    /// Whoever was asked to go still goes.
    pub async fn take(self: &Arc<Self>, within: Duration) -> Option<Place> {
        if let Some(place) = self.free_one() {
            return Some(place);
        }
        self.lock().newcomer = Newcomer::Waits;
        let waited = timeout(within, self.next_free()).await;
        self.lock().newcomer = Newcomer::None;
        waited.ok()
    }

    async fn next_free(self: &Arc<Self>) -> Place {
        loop {
            // A change after the look is not missed: the notification is kept.
            let next = self.ask_the_longest_waiting(Instant::now());
            if let Some(place) = self.free_one() {
                return place;
            }
            let next_may_go = async {
                match next {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.changed.notified() => {}
                () = next_may_go => {}
            }
        }
    }

    fn free_one(self: &Arc<Self>) -> Option<Place> {
        let index = self.lock().free.pop()?;
        Some(Place { places: Arc::clone(self), index })
    }

    /// Asks one, unless one is asked already. Otherwise returns when the next may be, if that is known.
    fn ask_the_longest_waiting(&self, now: Instant) -> Option<Instant> {
        let mut table = self.lock();
        if table.newcomer == Newcomer::HasAsked {
            return None;
        }
        let waiting = table.standings.iter().enumerate().filter_map(|(index, standing)| {
            let Standing::MayGo(from) = standing else { return None };
            Some((*from, index))
        });
        let (from, index) = waiting.min()?;
        if from > now {
            return Some(from);
        }
        table.standings[index] = Standing::Asked;
        table.newcomer = Newcomer::HasAsked;
        self.told[index].notify_one();
        None
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("bug: nothing panics while it holds this lock")
    }
}

impl Place {
    /// The connection waits for its client from now on, and may be asked to go from `from` on.
    pub fn may_go_from(&self, from: Instant) {
        self.stand(Standing::MayGo(from));
    }

    /// The connection is not asked to go any more.
    pub fn stays(&self) {
        self.stand(Standing::Stays);
    }

    /// Returns when the connection is asked to go. One that is not any more, since it has begun to wait
    /// anew, is not told.
    ///
    /// # Cancel safety
    /// A question is not lost as long as it stands.
    pub async fn asked(&self) {
        while self.places.lock().standings[self.index] != Standing::Asked {
            self.places.told[self.index].notified().await;
        }
    }

    /// Whether all places are taken: who has been answered had better go.
    pub fn is_wanted(&self) -> bool {
        self.places.lock().free.is_empty()
    }

    fn stand(&self, standing: Standing) {
        let mut table = self.places.lock();
        let before = std::mem::replace(&mut table.standings[self.index], standing);
        if before == Standing::Asked && table.newcomer == Newcomer::HasAsked {
            table.newcomer = Newcomer::Waits;
        }
        if table.newcomer == Newcomer::Waits {
            self.places.changed.notify_one();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.places.lock();
        table.standings[self.index] = Standing::Stays;
        table.free.push(self.index);
        self.places.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHIN: Duration = Duration::from_millis(200);

    /// Places that are all taken.
    async fn full(count: usize) -> (Arc<Places>, Vec<Place>) {
        let places = Arc::new(Places::new(count));
        let mut taken = Vec::new();
        for _ in 0..count {
            taken.push(places.take(WITHIN).await.expect("a free one"));
        }
        (places, taken)
    }

    /// A connection that goes when it is asked to.
    fn going(place: Place) -> tokio::task::JoinHandle<()> {
        tokio::spawn(async move { place.asked().await })
    }

    #[tokio::test(start_paused = true)]
    async fn a_newcomer_has_the_place_of_the_one_that_has_waited_longest() {
        let (places, mut taken) = full(3).await;
        assert!(taken.iter().all(Place::is_wanted));
        assert!(places.take(WITHIN).await.is_none(), "all are in a request");
        let now = Instant::now();
        for (place, since) in taken.iter().zip([2, 3, 1]) {
            place.may_go_from(now - Duration::from_secs(since));
        }
        let others = (taken.remove(2), taken.remove(0));
        let oldest = going(taken.remove(0));
        let newcomer = places.take(WITHIN).await.expect("the oldest's");
        oldest.await.expect("it was asked");
        let next = going(others.1);
        let second = places.take(WITHIN).await.expect("the next's");
        next.await.expect("it was asked");
        drop((newcomer, second));
        assert!(!others.0.is_wanted());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_has_begun_to_speak_is_not_put_out_and_another_is_asked() {
        let (places, mut taken) = full(2).await;
        let now = Instant::now();
        taken[0].may_go_from(now - Duration::from_secs(2));
        taken[1].may_go_from(now - Duration::from_secs(1));
        let goes = going(taken.remove(1));
        let speaks = taken.remove(0);
        let spoken = tokio::spawn(async move {
            speaks.asked().await;
            // What it had not read yet: it waits anew, and has waited less than the other.
            speaks.may_go_from(now + Duration::from_secs(5));
            tokio::time::timeout(Duration::from_secs(1), speaks.asked())
                .await
                .expect_err("no more");
            speaks
        });
        let _newcomer = places.take(WITHIN).await.expect("the other's");
        goes.await.expect("it was asked");
        let speaks = spoken.await.expect("it stayed");
        // Asked once and deaf: the next newcomer asks anew.
        speaks.may_go_from(Instant::now());
        assert!(places.take(WITHIN).await.is_none(), "it does not go");
        let late = going(speaks);
        let _second = places.take(WITHIN).await.expect("its place");
        late.await.expect("it was asked");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_waits_but_a_moment_is_asked_when_its_time_has_come() {
        let (places, mut taken) = full(1).await;
        let place = taken.remove(0);
        place.may_go_from(Instant::now() + WITHIN / 2);
        let goes = going(place);
        let _newcomer = places.take(WITHIN).await.expect("its place");
        goes.await.expect("it was asked");
    }
}
