//! Statistics: who used what, how fast and how reliably, what it cost in tokens; from an exchange's end to the disk.
//!
//! `tally` (what a worker counted, a table of its own) → `keeper` (the statistics thread, which gathers the tallies every
//! second) → `store` (all aggregates in memory: `level` by minute, hour and day, each a set of `series` with `figures`) →
//! `recorder` and `database` (a thread of its own that writes them to SQLite). Whoever asks gets a `window` of the store.
//! Beside that way run `counters` (WebSockets, while they are open), `signals` (how each channel is doing just now),
//! `calls` (plugins) and `events`. A [`Registry`] outlives generations: a channel that comes back finds its counters.

mod calls;
mod clock;
mod counters;
mod database;
mod endpoint;
mod events;
mod figures;
mod histogram;
mod keeper;
mod level;
mod recorder;
mod series;
mod signals;
mod store;
mod tally;
mod window;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub use calls::{CallOutcome, Calls as PluginCallCounters, PluginCalls};
pub use counters::{SocketCounters, SocketTotals, WorkerCounters};
pub use events::{Event, Events, Level};
pub use figures::{Figures, INPUT, Names, OUTPUT, Outcome, Used};
pub use histogram::Histogram;
pub use keeper::{Answerable, Asker, LOSS_SECONDS_MAX, Persistence, Statistics};
pub use series::{OTHER, SERIES_MAX, Series, Transport};
pub use signals::Signals;
pub use store::Store;
pub use tally::{Ended, Failed, Usages};
pub use window::{Filter, Group, Span, Step, Window};

/// What all workers count, and what is shown of it.
#[derive(Debug)]
pub struct Registry {
    started: Instant,
    workers: Vec<Arc<WorkerCounters>>,
    signals: Mutex<HashMap<String, Arc<Signals>>>,
    pub events: Events,
    pub reloads: Reloads,
    /// Exchanges for which the router failed, so that the built-in order held.
    pub router_fallbacks: AtomicU64,
    /// WebSockets that are open, over all workers.
    pub open_sockets: AtomicUsize,
    /// For how many days each exchange is kept as a line of its own; 0: not at all.
    pub request_log_days: AtomicU32,
}

impl Registry {
    pub fn new(workers: usize) -> Self {
        Self {
            started: Instant::now(),
            workers: (0..workers).map(|_| Arc::default()).collect(),
            signals: Mutex::default(),
            events: Events::default(),
            reloads: Reloads::default(),
            router_fallbacks: AtomicU64::new(0),
            open_sockets: AtomicUsize::new(0),
            request_log_days: AtomicU32::new(0),
        }
    }

    pub fn worker(&self, index: usize) -> Arc<WorkerCounters> {
        self.workers[index].clone()
    }

    pub fn workers(&self) -> &[Arc<WorkerCounters>] {
        &self.workers
    }

    /// A channel's signals, which all workers share; looked up once per generation.
    pub fn signals(&self, channel: &str) -> Arc<Signals> {
        let mut signals = self.signals.lock().unwrap_or_else(PoisonError::into_inner);
        signals.entry(channel.to_owned()).or_default().clone()
    }

    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// For how many days each exchange is kept as a line of its own from now on.
    pub fn log_requests(&self, days: u32) {
        self.request_log_days.store(days, Ordering::Relaxed);
        self.workers.iter().for_each(|worker| worker.tally.log_requests(days > 0));
    }

    /// Of WebSockets, since this start.
    pub fn totals(&self) -> SocketTotals {
        let mut totals = SocketTotals::default();
        self.workers.iter().for_each(|worker| totals.add(worker));
        totals
    }

    /// What the plugin of a name was asked, by all workers.
    pub fn plugin_calls(&self, name: &str) -> PluginCalls {
        let mut calls = PluginCalls::default();
        self.workers.iter().for_each(|worker| calls.merge(&worker.plugin(name).read()));
        calls
    }
}

/// How often a file or plugin that changed was taken, and how often not.
#[derive(Debug, Default)]
pub struct Reloads {
    accepted: AtomicU64,
    refused: AtomicU64,
}

impl Reloads {
    pub fn accepted(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    pub fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Accepted and refused.
    pub fn read(&self) -> (u64, u64) {
        (self.accepted.load(Ordering::Relaxed), self.refused.load(Ordering::Relaxed))
    }
}

/// Seconds since the epoch.
pub fn unix_time_s(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
