//! The statistics thread: gathers what the workers counted, answers who asks, and has it written.
//!
//! It alone holds the aggregates, so nothing about them is locked. It runs at a lower priority than the workers, and asks
//! the recorder to write no sooner than [`WRITE_PAUSE`] after it has written; a question is answered from memory,
//! whatever the disk does.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use super::clock::Clock;
use super::database::Batch;
use super::events::{Event, Level};
use super::recorder::{Recorder, RecorderThread, Written};
use super::store::Store;
use super::tally::LoggedRequest;
use super::{Registry, unix_time_s};

/// How often what the workers counted is gathered.
const GATHER_INTERVAL: Duration = Duration::from_secs(1);
/// After a write, before the next: with a gathering between the two there is one about every two seconds.
const WRITE_PAUSE: Duration = Duration::from_millis(1500);
/// After a write that failed.
const RETRY_INTERVAL: Duration = Duration::from_secs(10);
/// What a kill may cost, in seconds: a gathering, a write's turn, and a second for the write.
pub const LOSS_SECONDS_MAX: u64 = 4;
/// Lines of the request log that wait for a disk.
const REQUESTS_WAITING_MAX: usize = 50_000;
const CUT_INTERVAL: Duration = Duration::from_hours(1);
/// Events that wait for a disk.
const EVENTS_WAITING_MAX: usize = 1000;
/// Questions that wait for an answer.
const QUESTIONS_MAX: usize = 64;
/// How long the process's end waits for a disk.
const END_WAIT: Duration = Duration::from_secs(10);
/// Above the workers': on a busy machine they come first.
const NICENESS: i32 = 5;

/// How the file is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Persistence {
    /// There is none.
    Off,
    Ok,
    Failing(String),
}

/// What a question is answered from.
pub struct Answerable<'a> {
    pub store: &'a Store,
    pub persistence: &'a Persistence,
    /// Unix time of the last write.
    pub last_write: Option<u64>,
    pub now: u64,
    /// Lines of the request log that were lost, since there was no room or no disk.
    pub requests_lost: u64,
}

type Question = Box<dyn FnOnce(&Answerable<'_>) + Send>;

enum Message {
    Ask(Question),
    Written(Written, Box<Batch>),
    Stop,
}

/// The thread; dropping it gathers and writes a last time.
pub struct Statistics {
    asker: Asker,
    thread: Option<JoinHandle<()>>,
}

/// Asks the thread.
#[derive(Clone)]
pub struct Asker {
    sender: Sender<Message>,
    waiting: Arc<AtomicUsize>,
}

/// A question's place among those that wait.
struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    fn new(count: &Arc<AtomicUsize>) -> Option<Self> {
        let waiting = Self(count.clone());
        (count.fetch_add(1, Ordering::Relaxed) < QUESTIONS_MAX).then_some(waiting)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Asker {
    /// `None` when the thread has ended, or too many are asking.
    pub async fn ask<T: Send + 'static>(
        &self,
        answer: impl FnOnce(&Answerable<'_>) -> T + Send + 'static,
    ) -> Option<T> {
        let (promise, told) = tokio::sync::oneshot::channel();
        let waiting = Waiting::new(&self.waiting)?;
        let question = Box::new(move |from: &Answerable<'_>| {
            // Whoever asked may have left.
            if !promise.is_closed() {
                let _ = promise.send(answer(from));
            }
            drop(waiting);
        });
        self.sender.send(Message::Ask(question)).ok()?;
        told.await.ok()
    }

    /// One that nobody answers.
    pub fn nobody() -> Self {
        Self { sender: channel().0, waiting: Arc::default() }
    }
}

impl Statistics {
    /// Reads the file, where there is one to be kept, and starts. What is wrong with it is said, and stops nothing.
    pub fn start(registry: Arc<Registry>, file: Option<PathBuf>) -> anyhow::Result<Self> {
        let now = unix_time_s(SystemTime::now());
        let mut store = Store::new(now);
        let (sender, messages) = channel();
        let mut persistence = if file.is_some() { Persistence::Ok } else { Persistence::Off };
        let mut recorder = None;
        if let Some(path) = file {
            let mut new = Recorder::new(path);
            match new.load(&mut store) {
                Ok(events) => registry.events.restore(events),
                Err(reason) => {
                    tracing::error!("{reason}");
                    registry.events.add(Level::Error, "statistics", "statistics", &reason, 1);
                    persistence = Persistence::Failing(reason);
                    // In part is not at all: the next write would make it the truth.
                    store = Store::new(now);
                }
            }
            let told = sender.clone();
            recorder = Some(RecorderThread::start(new, move |written, batch| {
                let _ = told.send(Message::Written(written, Box::new(batch)));
            })?);
        }
        store.go_on();
        let keeper = Keeper {
            registry,
            store,
            recorder,
            persistence,
            last_write: None,
            is_writing: false,
            next_write: Instant::now(),
            cut_at: None,
            clock: Clock::new(now),
            is_afresh: false,
            written_counters: BTreeMap::new(),
            waiting_requests: Vec::new(),
            waiting_events: Vec::new(),
            requests_lost: 0,
        };
        let thread = std::thread::Builder::new().name("statistics".into()).spawn(move || keeper.run(&messages))?;
        Ok(Self { asker: Asker { sender, waiting: Arc::default() }, thread: Some(thread) })
    }

    pub fn asker(&self) -> Asker {
        self.asker.clone()
    }
}

impl Drop for Statistics {
    fn drop(&mut self) {
        let _ = self.asker.sender.send(Message::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Keeper {
    registry: Arc<Registry>,
    store: Store,
    recorder: Option<RecorderThread>,
    persistence: Persistence,
    last_write: Option<u64>,
    is_writing: bool,
    next_write: Instant,
    cut_at: Option<Instant>,
    clock: Clock,
    /// The file is new: everything is to be written until that has succeeded.
    is_afresh: bool,
    written_counters: BTreeMap<String, u64>,
    waiting_requests: Vec<LoggedRequest>,
    waiting_events: Vec<Event>,
    requests_lost: u64,
}

impl Keeper {
    fn run(mut self, messages: &Receiver<Message>) {
        // On Linux a thread has a niceness of its own (setpriority(2)).
        let _ = rustix::process::setpriority_process(None, NICENESS);
        let mut next_gathering = Instant::now() + GATHER_INTERVAL;
        loop {
            // Questions that come all the time must not put it off.
            if Instant::now() >= next_gathering {
                next_gathering = Instant::now() + GATHER_INTERVAL;
                self.gather();
                self.write();
            }
            match messages.recv_timeout(next_gathering.saturating_duration_since(Instant::now())) {
                Ok(Message::Ask(question)) => self.answer(question),
                Ok(Message::Written(written, batch)) => self.written(written, *batch),
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        self.finish(messages);
    }

    fn answer(&mut self, question: Question) {
        self.gather();
        let from = Answerable {
            store: &self.store,
            persistence: &self.persistence,
            last_write: self.last_write,
            now: unix_time_s(SystemTime::now()),
            requests_lost: self.requests_lost,
        };
        // A question that cannot be answered must not be the last one.
        if catch_unwind(AssertUnwindSafe(|| question(&from))).is_err() {
            tracing::error!("statistics could not be put together: a fault of this program");
        }
    }

    fn gather(&mut self) {
        let now = self.clock.now(unix_time_s(SystemTime::now()));
        let registry = self.registry.clone();
        for worker in registry.workers() {
            let taken = worker.tally.take();
            self.store.add(&taken);
            for incident in &taken.incidents {
                let message = format!("{}: {}", incident.code, incident.message);
                registry.events.add(incident.level, "exchange", &incident.channel, &message, incident.count);
            }
            self.requests_lost += taken.requests_dropped;
            self.keep_requests(taken.requests);
        }
        self.store.sockets(now, self.registry.open_sockets.load(Ordering::Relaxed) as u64);
        self.store.settle(now);
    }

    fn keep_requests(&mut self, requests: Vec<LoggedRequest>) {
        let room = REQUESTS_WAITING_MAX.saturating_sub(self.waiting_requests.len());
        self.requests_lost += requests.len().saturating_sub(room) as u64;
        self.waiting_requests.extend(requests.into_iter().take(room));
    }

    /// Orders a write, if it is time and none is under way.
    fn write(&mut self) {
        if self.is_writing || Instant::now() < self.next_write {
            return;
        }
        self.order();
    }

    fn order(&mut self) {
        let Some(recorder) = &self.recorder else { return };
        self.waiting_events.append(&mut self.registry.events.take_unwritten());
        let too_many = self.waiting_events.len().saturating_sub(EVENTS_WAITING_MAX);
        self.waiting_events.drain(..too_many);
        let now = self.clock.now(unix_time_s(SystemTime::now()));
        let is_cut = self.cut_at.is_none_or(|at| at.elapsed() >= CUT_INTERVAL);
        let changes = self.store.changes();
        let counters = self.store.counters(self.registry.totals());
        let has_news = !changes.is_empty() || !self.waiting_events.is_empty() || counters != self.written_counters;
        if !has_news && self.last_write.is_some() && !is_cut {
            return;
        }
        let days = u64::from(self.registry.request_log_days.load(Ordering::Relaxed));
        if is_cut {
            self.cut_at = Some(Instant::now());
        }
        self.written_counters.clone_from(&counters);
        recorder.write(Batch {
            is_all: self.is_afresh,
            changes,
            names: self.store.names.clone(),
            counters,
            requests: std::mem::take(&mut self.waiting_requests),
            events: std::mem::take(&mut self.waiting_events),
            requests_before_ms: is_cut.then(|| now.saturating_sub(days * 86_400) * 1000),
            now: is_cut.then_some(now),
        });
        self.is_writing = true;
    }

    fn written(&mut self, written: Written, batch: Batch) {
        self.is_writing = false;
        self.next_write = Instant::now() + WRITE_PAUSE;
        if matches!(written, Written::Done) {
            if let Persistence::Failing(_) = self.persistence {
                tracing::info!("statistics are written again");
                self.registry.events.add(Level::Info, "statistics", "statistics", "they are written again", 1);
            }
            self.is_afresh = false;
            self.persistence = Persistence::Ok;
            self.last_write = Some(unix_time_s(SystemTime::now()));
            return;
        }
        self.store.unwritten(&batch.changes);
        let newer = std::mem::take(&mut self.waiting_requests);
        self.keep_requests(batch.requests);
        self.keep_requests(newer);
        self.waiting_events.splice(0..0, batch.events);
        self.cut_at = None;
        self.written_counters.clear();
        match written {
            Written::Done => {}
            Written::Afresh(why) => {
                if let Some(why) = why {
                    tracing::error!("{why}; what is in memory is written into it");
                    self.registry.events.add(Level::Error, "statistics", "statistics", &why, 1);
                }
                self.store.all_unwritten();
                self.is_afresh = true;
                self.order();
            }
            Written::Found(mut found, events) => {
                self.registry.events.restore(events);
                found.absorb(&self.store);
                self.store = *found;
                self.order();
            }
            Written::Failed(reason) => {
                let text =
                    format!("statistics cannot be written: {reason}; they go on in memory, and it is tried again");
                if self.persistence != Persistence::Failing(reason.clone()) {
                    tracing::error!("{text}");
                    self.registry.events.add(Level::Error, "statistics", "statistics", &text, 1);
                }
                self.persistence = Persistence::Failing(reason);
                self.next_write = Instant::now() + RETRY_INTERVAL;
            }
        }
    }

    /// Writes a last time; a new file takes two rounds.
    fn finish(mut self, messages: &Receiver<Message>) {
        self.gather();
        if !self.is_writing {
            self.order();
        }
        let deadline = Instant::now() + END_WAIT;
        let mut rounds = 0;
        while self.is_writing && rounds < 4 {
            match messages.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Message::Written(written, batch)) => {
                    rounds += 1;
                    let is_failed = matches!(written, Written::Failed(_));
                    self.written(written, *batch);
                    // What was counted while the one before was written.
                    if !is_failed && !self.is_writing && rounds < 3 {
                        self.order();
                    }
                }
                Ok(Message::Ask(_) | Message::Stop) => {}
                Err(_) => {
                    tracing::warn!("the disk does not take the last statistics; they are lost");
                    if let Some(recorder) = self.recorder.take() {
                        recorder.abandon();
                    }
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn questions_are_bounded_and_those_whose_asker_left_are_not_answered() {
        let (sender, questions) = channel();
        let asker = Asker { sender, waiting: Arc::default() };
        let answered = Arc::new(AtomicUsize::new(0));
        let ask = || {
            let (asker, answered) = (asker.clone(), answered.clone());
            Box::pin(async move { asker.ask(move |_| answered.fetch_add(1, Ordering::Relaxed)).await })
        };
        let mut waiting: Vec<_> = (0..QUESTIONS_MAX).map(|_| ask()).collect();
        assert!(waiting.iter_mut().all(|question| question.now_or_never().is_none()), "all wait");
        assert_eq!(ask().now_or_never(), Some(None), "one more is turned away at once");
        waiting.truncate(1);
        let store = Store::new(0);
        let from =
            Answerable { store: &store, persistence: &Persistence::Off, last_write: None, now: 0, requests_lost: 0 };
        for message in questions.try_iter() {
            if let Message::Ask(question) = message {
                question(&from);
            }
        }
        assert_eq!((answered.load(Ordering::Relaxed), asker.waiting.load(Ordering::Relaxed)), (1, 0));
        assert!(ask().now_or_never().is_none(), "there is room again");
    }
}
