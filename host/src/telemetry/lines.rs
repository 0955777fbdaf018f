//! Lines on their way from those who write them to a sink, which may be slow.
//!
//! Nobody who logs waits: a line is appended to a buffer, whose lock nobody holds for longer than a swap, and one thread
//! for each log writes the buffers out. When the sink is slower than the traffic, or its reader has stopped, lines are
//! dropped and counted, and the count is logged, once a minute at most; memory stays bounded.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

/// Above this a worker's buffer takes no more lines until it has been written.
const BUFFER_BYTES_MAX: usize = 4 << 20;
/// How long lines may lie before they are written.
const FLUSH_INTERVAL: Duration = Duration::from_millis(50);
/// How often lost lines are reported.
const LOSS_INTERVAL: Duration = Duration::from_mins(1);
/// How long the process's end waits for the last lines: a pipe whose reader has stopped would hold it up for ever.
const END_WAIT: Duration = Duration::from_secs(2);

/// Where lines go at last.
pub trait Sink: Send {
    /// Takes whole lines.
    fn put(&mut self, lines: &[u8]) -> io::Result<()>;

    /// Looks at once whether they still go where they should.
    fn reopen(&mut self) {}
}

impl<W: Write + Send> Sink for W {
    fn put(&mut self, lines: &[u8]) -> io::Result<()> {
        self.write_all(lines)?;
        self.flush()
    }
}

/// A place for lines: each worker has one of the access log, all of them share the operational log's.
#[derive(Clone)]
pub struct LineBuffer {
    shared: Arc<Shared>,
    lines: Arc<Mutex<Vec<u8>>>,
}

struct Shared {
    dirty: AtomicBool,
    stopping: AtomicBool,
    reopening: AtomicBool,
    dropped: AtomicU64,
    buffers: Mutex<Vec<Arc<Mutex<Vec<u8>>>>>,
    writer: OnceLock<Thread>,
}

/// The writing thread; dropping it writes what is left and ends it, unless the sink takes nothing for [`END_WAIT`].
pub struct LineWriter {
    name: &'static str,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// Closed when the thread has written everything.
    ended: mpsc::Receiver<()>,
}

impl LineWriter {
    pub fn start(name: &'static str, mut sink: Box<dyn Sink>) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared {
            dirty: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            reopening: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
            buffers: Mutex::new(Vec::new()),
            writer: OnceLock::new(),
        });
        let (alive, ended) = mpsc::channel();
        let thread = std::thread::Builder::new().name(name.into()).spawn({
            let shared = shared.clone();
            move || {
                let _alive: mpsc::Sender<()> = alive;
                write_until_stopped(name, &shared, sink.as_mut());
            }
        })?;
        let _ = shared.writer.set(thread.thread().clone());
        Ok(Self { name, shared, thread: Some(thread), ended })
    }

    pub fn buffer(&self) -> LineBuffer {
        let lines = Arc::new(Mutex::new(Vec::new()));
        lock(&self.shared.buffers).push(lines.clone());
        LineBuffer { shared: self.shared.clone(), lines }
    }

    /// Has a file that was moved opened anew now; returns at once.
    pub fn reopen(&self) {
        self.shared.reopening.store(true, Ordering::Release);
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for LineWriter {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            if self.ended.recv_timeout(END_WAIT) == Err(mpsc::RecvTimeoutError::Timeout) {
                tracing::warn!("nobody takes the lines of the {}; its last ones are lost", self.name);
            } else {
                let _ = thread.join();
            }
        }
    }
}

impl LineBuffer {
    /// Counts a line that its author had to drop.
    pub fn lose_one(&self) {
        self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        self.wake();
    }

    /// Appends what `write` writes, which must end with a newline.
    pub fn append(&self, write: impl FnOnce(&mut Vec<u8>)) {
        {
            let mut lines = lock(&self.lines);
            if lines.len() > BUFFER_BYTES_MAX {
                self.shared.dropped.fetch_add(1, Ordering::Relaxed);
                return;
            }
            write(&mut lines);
        }
        self.wake();
    }

    fn wake(&self) {
        // The load first: an atomic swap for every line would bounce the cache line between the workers.
        if !self.shared.dirty.load(Ordering::Relaxed)
            && !self.shared.dirty.swap(true, Ordering::AcqRel)
            && let Some(writer) = self.shared.writer.get()
        {
            writer.unpark();
        }
    }
}

fn write_until_stopped(name: &'static str, shared: &Shared, sink: &mut dyn Sink) {
    let mut batch = Vec::new();
    let mut failing = false;
    let mut losses = Losses { name, unsaid: 0, said_at: None };
    loop {
        let stopping = shared.stopping.load(Ordering::Acquire);
        if shared.reopening.swap(false, Ordering::AcqRel) {
            sink.reopen();
        }
        shared.dirty.store(false, Ordering::Release);
        let buffers = lock(&shared.buffers).clone();
        for buffer in buffers {
            batch.clear();
            std::mem::swap(&mut *lock(&buffer), &mut batch);
            if !batch.is_empty() {
                match sink.put(&batch) {
                    Err(error) if !failing => {
                        failing = true;
                        tracing::error!(%error, "the {name} cannot be written; lines are lost until it can");
                    }
                    Ok(()) => failing = false,
                    Err(_) => {}
                }
            }
        }
        losses.note(shared.dropped.swap(0, Ordering::Relaxed), Instant::now(), stopping);
        if stopping {
            return;
        }
        if !shared.dirty.load(Ordering::Acquire) {
            if losses.unsaid > 0 { std::thread::park_timeout(LOSS_INTERVAL) } else { std::thread::park() }
        }
        // Gathers a batch; a stop cuts the wait short.
        std::thread::park_timeout(FLUSH_INTERVAL);
    }
}

/// Dropped lines, and when they were last told of.
struct Losses {
    name: &'static str,
    unsaid: u64,
    said_at: Option<Instant>,
}

impl Losses {
    /// True where it was said.
    fn note(&mut self, dropped: u64, now: Instant, is_last: bool) -> bool {
        self.unsaid += dropped;
        let is_due = self.said_at.is_none_or(|said_at| now.duration_since(said_at) >= LOSS_INTERVAL);
        if self.unsaid == 0 || !(is_due || is_last) {
            return false;
        }
        tracing::warn!(
            dropped = self.unsaid,
            "the {} takes lines more slowly than they come; some were dropped",
            self.name
        );
        (self.unsaid, self.said_at) = (0, Some(now));
        true
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_told_once_a_minute_and_at_the_end() {
        let mut losses = Losses { name: "log", unsaid: 0, said_at: None };
        let begin = Instant::now();
        assert!(!losses.note(0, begin, false));
        assert!(losses.note(1, begin, false), "the first at once");
        assert!(!losses.note(2, begin + LOSS_INTERVAL / 2, false));
        assert_eq!(losses.unsaid, 2);
        assert!(losses.note(0, begin + LOSS_INTERVAL, false));
        assert!(!losses.note(3, begin + LOSS_INTERVAL, false));
        assert!(losses.note(0, begin + LOSS_INTERVAL, true));
    }
}
