//! Lines on their way to stderr, written by a thread of their own: nobody who logs ever waits for
//! who reads. What does not fit any more is lost, and counted.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::thread::{self, ThreadId};
use std::time::Duration;

use prometheus::IntCounter;
use tracing::warn;
use tracing_subscriber::fmt::MakeWriter;

/// Waiting to be written: some thousand lines, far more than a reader that reads is ever behind.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// The way in: any thread puts lines, one at a time.
#[derive(Clone, Default)]
pub struct Lines(Arc<SharedLines>);

#[derive(Default)]
struct SharedLines {
    queue: Mutex<LineQueue>,
    changed: Condvar,
    /// The thread that writes, and says what is lost.
    writer: OnceLock<ThreadId>,
    counter: OnceLock<IntCounter>,
}

#[derive(Default)]
struct LineQueue {
    lines: VecDeque<Vec<u8>>,
    /// Of the lines that wait, without the one that is being written.
    bytes: usize,
    is_writing: bool,
    /// Since it was last told.
    lost: u64,
    /// Lines that are written before it is told again: one such line waits at a time.
    before_telling: usize,
}

impl Lines {
    /// Starts the thread that writes them to `to`; it ends with the process.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn write_to(&self, to: impl Write + Send + 'static) -> io::Result<()> {
        let shared = Arc::clone(&self.0);
        thread::Builder::new().name("log".into()).spawn(move || shared.write_all_to(to))?;
        Ok(())
    }

    /// Counts what is lost from now on in `counter`; the first one stays.
    pub fn count_lost(&self, counter: IntCounter) {
        let _first = self.0.counter.set(counter);
    }

    /// Waits until all is written, for at most `patience`: nobody may read any more.
    pub fn flush(&self, patience: Duration) {
        let queue = self.0.lock();
        let is_under_way = |queue: &mut LineQueue| queue.is_writing || !queue.lines.is_empty();
        let _unread = self.0.changed.wait_timeout_while(queue, patience, is_under_way);
    }
}

impl SharedLines {
    fn put(&self, line: &[u8]) {
        let mut queue = self.lock();
        // The writer's own says how many are lost, and must not be one of them.
        let is_writers = self.writer.get() == Some(&thread::current().id());
        if queue.bytes + line.len() > WAITING_BYTES_MAX && !is_writers {
            queue.lost += 1;
            self.counter.get().inspect(|counter| counter.inc());
            return;
        }
        queue.bytes += line.len();
        queue.lines.push_back(line.to_vec());
        drop(queue);
        self.changed.notify_all();
    }

    fn write_all_to(&self, mut to: impl Write) {
        let _first = self.writer.set(thread::current().id());
        loop {
            let line = self.next();
            // Closed, or its disk full: the line is lost and nothing else.
            let is_written = to.write_all(&line).is_ok();
            let lost = {
                let mut queue = self.lock();
                queue.is_writing = false;
                match is_written && queue.before_telling == 0 && queue.lost > 0 {
                    true => {
                        queue.before_telling = queue.lines.len() + 1;
                        std::mem::take(&mut queue.lost)
                    }
                    false => 0,
                }
            };
            self.changed.notify_all();
            if lost > 0 {
                warn!(lines = lost, "log lines lost: nobody read them in time");
            }
        }
    }

    /// The oldest line, waited for.
    fn next(&self) -> Vec<u8> {
        let queue = self.lock();
        let queue = self.changed.wait_while(queue, |queue| queue.lines.is_empty());
        let mut queue = queue.expect("bug: nothing panics while it holds this lock");
        let line = queue.lines.pop_front().expect("bug: it was waited for");
        queue.bytes -= line.len();
        queue.before_telling = queue.before_telling.saturating_sub(1);
        queue.is_writing = true;
        line
    }

    fn lock(&self) -> MutexGuard<'_, LineQueue> {
        self.queue.lock().expect("bug: nothing panics while it holds this lock")
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> LineWriter<'a> {
        LineWriter(&self.0)
    }
}

/// Takes one line in one write, as `tracing_subscriber` hands it over.
pub struct LineWriter<'a>(&'a SharedLines);

impl Write for LineWriter<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;

    /// Where a write waits until the test takes it.
    struct Slow(SyncSender<Vec<u8>>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn slow() -> (Lines, Receiver<Vec<u8>>) {
        let (to, read) = sync_channel(0);
        let lines = Lines::default();
        lines.write_to(Slow(to)).expect("a thread");
        (lines, read)
    }

    #[test]
    fn whoever_logs_does_not_wait_and_what_is_too_much_is_counted() {
        let (lines, read) = slow();
        let counter = IntCounter::new("lost", "lost").expect("a counter");
        lines.count_lost(counter.clone());
        let line = vec![b'x'; WAITING_BYTES_MAX / 4];
        for _ in 0..10 {
            lines.make_writer().write_all(&line).expect("taken");
        }
        // Four wait, and perhaps one more is being written.
        let lost = lines.0.lock().lost;
        assert!((5..=6).contains(&lost), "{lost}");
        assert_eq!(counter.get(), lost);
        for _ in lost..10 {
            assert_eq!(read.recv().expect("a line"), line);
        }
        lines.flush(Duration::from_secs(60));
        assert_eq!(lines.0.lock().bytes, 0);
    }

    #[test]
    fn a_flush_gives_up_on_a_reader_that_is_gone_for_a_while() {
        let (lines, read) = slow();
        lines.make_writer().write_all(b"one").expect("taken");
        lines.flush(Duration::from_millis(1));
        assert_eq!(read.recv().expect("it still comes"), b"one");
        drop(read);
        lines.make_writer().write_all(b"two").expect("taken");
        lines.flush(Duration::from_secs(60));
        assert!(!lines.0.lock().is_writing, "refused is done with");
    }
}
