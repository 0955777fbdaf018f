//! Logs: the operational log on stderr, and the access log, one JSON line an exchange.
//!
//! Neither makes an exchange wait: a worker appends a line to a buffer, whose lock nobody holds for longer than a swap,
//! and one thread for each log writes the buffers out. When the sink is slower than the traffic, or its reader has
//! stopped, lines are dropped and counted, and the count is logged; memory stays bounded.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use tracing::Level;
use tracing_subscriber::layer::{Layered, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use crate::config::{AccessLog, Log, LogFormat};

/// Above this a worker's buffer takes no more lines until it has been written.
const BUFFER_BYTES_MAX: usize = 4 << 20;
/// How long lines may lie before they are written.
const FLUSH_INTERVAL: Duration = Duration::from_millis(50);
/// How long the process's end waits for the last lines: a pipe whose reader has stopped would hold it up for ever.
const END_WAIT: Duration = Duration::from_secs(2);

static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();
static LOG: OnceLock<LineBuffer> = OnceLock::new();
static FORMAT: OnceLock<reload::Handle<Formatted, Filtering>> = OnceLock::new();

type Filtering = Layered<reload::Layer<EnvFilter, Registry>, Registry>;
type Formatted = Box<dyn Layer<Filtering> + Send + Sync>;

/// Starts the operational log on stderr, with `AIPROXY_LOG` (filter directives such as `info,plugin=debug`) or `level`.
/// Called once by the process, which keeps what it gives to its end; without it (in tests) nothing is logged.
pub fn init(level: Level) -> anyhow::Result<LineWriter> {
    let writer = LineWriter::start("log", Box::new(io::stderr()))?;
    let _ = LOG.set(writer.buffer());
    let (filter, filter_handle) = reload::Layer::new(filter(level));
    let (format, format_handle) = reload::Layer::new(formatted(LogFormat::Text));
    if tracing_subscriber::registry().with(filter).with(format).try_init().is_ok() {
        let _ = FILTER.set(filter_handle);
        let _ = FORMAT.set(format_handle);
    }
    Ok(writer)
}

/// One line of the operational log on its way to its buffer.
struct LogLine;

impl Write for LogLine {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(log) = LOG.get() {
            log.append(|lines| lines.extend_from_slice(bytes));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What gateway.json says of the log. The environment's directives win over its level.
pub fn apply(log: &Log) {
    if let (Some(filter_handle), Some(format_handle)) = (FILTER.get(), FORMAT.get()) {
        let _ = filter_handle.reload(filter(log.level));
        let _ = format_handle.reload(formatted(log.format));
    }
}

fn filter(level: Level) -> EnvFilter {
    let from_environment = std::env::var("AIPROXY_LOG").ok().filter(|directives| !directives.is_empty());
    let fallback = || EnvFilter::new(level.as_str());
    match from_environment.map(EnvFilter::try_new) {
        Some(Ok(filter)) => filter,
        Some(Err(error)) => {
            eprintln!("warning: AIPROXY_LOG is not valid ({error}); use e.g. `info` or `info,plugin=debug`");
            fallback()
        }
        None => fallback(),
    }
}

fn formatted(format: LogFormat) -> Formatted {
    let layer = tracing_subscriber::fmt::layer().with_writer(|| LogLine).with_ansi(io::stderr().is_terminal());
    match format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
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
    dropped: AtomicU64,
    buffers: Mutex<Vec<Arc<Mutex<Vec<u8>>>>>,
    writer: std::sync::OnceLock<std::thread::Thread>,
}

/// The writing thread; dropping it writes what is left and ends it, unless the sink takes nothing for [`END_WAIT`].
pub struct LineWriter {
    name: &'static str,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// Closed when the thread has written everything.
    ended: mpsc::Receiver<()>,
}

/// Starts the access log; `None` when it is off.
pub fn access_log(target: &AccessLog) -> anyhow::Result<Option<LineWriter>> {
    let sink: Box<dyn Write + Send> = match target {
        AccessLog::Off => return Ok(None),
        AccessLog::Stdout => Box::new(io::stdout()),
        AccessLog::File(path) => Box::new(open(path)?),
    };
    LineWriter::start("access log", sink).map(Some)
}

impl LineWriter {
    fn start(name: &'static str, mut sink: Box<dyn Write + Send>) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared {
            dirty: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
            buffers: Mutex::new(Vec::new()),
            writer: std::sync::OnceLock::new(),
        });
        let (alive, ended) = mpsc::channel();
        let thread = std::thread::Builder::new().name(name.into()).spawn({
            let shared = shared.clone();
            move || {
                let _alive: mpsc::Sender<()> = alive;
                write_until_stopped(&shared, sink.as_mut());
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
        // The load first: an atomic swap for every line would bounce the cache line between the workers.
        if !self.shared.dirty.load(Ordering::Relaxed)
            && !self.shared.dirty.swap(true, Ordering::AcqRel)
            && let Some(writer) = self.shared.writer.get()
        {
            writer.unpark();
        }
    }
}

fn write_until_stopped(shared: &Shared, sink: &mut dyn Write) {
    let mut batch = Vec::new();
    let mut failing = false;
    loop {
        let stopping = shared.stopping.load(Ordering::Acquire);
        shared.dirty.store(false, Ordering::Release);
        let buffers = lock(&shared.buffers).clone();
        for buffer in buffers {
            batch.clear();
            std::mem::swap(&mut *lock(&buffer), &mut batch);
            if !batch.is_empty() {
                let written = sink.write_all(&batch).and_then(|()| sink.flush());
                match written {
                    Err(error) if !failing => {
                        failing = true;
                        tracing::error!(%error, "a log cannot be written; lines are lost until it can");
                    }
                    Ok(()) => failing = false,
                    Err(_) => {}
                }
            }
        }
        let dropped = shared.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            tracing::warn!(dropped, "a log is slower than what is logged; lines were dropped");
        }
        if stopping {
            return;
        }
        if !shared.dirty.load(Ordering::Acquire) {
            std::thread::park();
        }
        // Gathers a batch; a stop cuts the wait short.
        std::thread::park_timeout(FLUSH_INTERVAL);
    }
}

fn open(path: &std::path::Path) -> anyhow::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("the access log {} cannot be opened for appending", path.display()))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_appended_is_in_the_file_once_the_writer_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let writer = access_log(&AccessLog::File(path.clone())).unwrap().unwrap();
        let (one, two) = (writer.buffer(), writer.buffer());
        let threads: Vec<_> = [one, two]
            .into_iter()
            .map(|buffer| {
                std::thread::spawn(move || {
                    for _ in 0..1_000 {
                        buffer.append(|lines| lines.extend_from_slice(b"{}\n"));
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        drop(writer);
        assert_eq!(std::fs::read_to_string(path).unwrap(), "{}\n".repeat(2_000));
    }
}
