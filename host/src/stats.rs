//! Counters: written by one worker each, read by whoever asks.
//!
//! Every worker has its own set, so that counting is a load and a store on a cache line that no other worker writes;
//! a reader adds the sets up, and sees no part (the successful ones, say) larger than its whole: a worker counts the
//! whole first, a reader reads it last. A [`Registry`] outlives generations: a channel that comes back finds its counters.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A counter with one writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Only from the worker that owns it.
    pub fn add(&self, amount: u64) {
        self.set(self.0.load(Ordering::Relaxed).wrapping_add(amount));
    }

    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Release);
    }

    /// With all that its worker counted before.
    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// What one worker has counted.
#[derive(Debug, Default)]
pub struct WorkerCounters {
    /// Exchanges that have ended.
    pub exchanges: Counter,
    /// Of them, those whose reply was below 400 and was relayed to its end.
    pub succeeded: Counter,
    /// Of them, those that asked for a WebSocket.
    pub websocket_asked: Counter,
    /// Sum of the exchanges' durations.
    pub duration_us: Counter,
    /// Unix time of the last exchange's end.
    pub last_end_s: Counter,
    channels: Mutex<HashMap<String, Arc<ChannelCounters>>>,
}

/// One channel's share of a worker's counters.
#[derive(Debug, Default)]
pub struct ChannelCounters {
    pub exchanges: Counter,
}

impl WorkerCounters {
    /// Looked up once per generation, not per exchange.
    pub fn channel(&self, id: &str) -> Arc<ChannelCounters> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        channels.entry(id.to_owned()).or_default().clone()
    }
}

/// All workers' counters.
#[derive(Debug)]
pub struct Registry {
    started: Instant,
    workers: Vec<Arc<WorkerCounters>>,
}

/// The sums at one moment.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Totals {
    pub exchanges: u64,
    pub succeeded: u64,
    pub websocket_asked: u64,
    pub duration_us: u64,
    pub last_end_s: u64,
    pub exchanges_by_channel: HashMap<String, u64>,
}

impl Registry {
    pub fn new(workers: usize) -> Self {
        Self { started: Instant::now(), workers: (0..workers).map(|_| Arc::default()).collect() }
    }

    pub fn worker(&self, index: usize) -> Arc<WorkerCounters> {
        self.workers[index].clone()
    }

    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for worker in &self.workers {
            totals.succeeded += worker.succeeded.read();
            totals.websocket_asked += worker.websocket_asked.read();
            totals.duration_us += worker.duration_us.read();
            totals.last_end_s = totals.last_end_s.max(worker.last_end_s.read());
            let channels = worker.channels.lock().unwrap_or_else(PoisonError::into_inner);
            for (id, counters) in channels.iter() {
                *totals.exchanges_by_channel.entry(id.clone()).or_default() += counters.exchanges.read();
            }
            // The whole, of which the others are parts.
            totals.exchanges += worker.exchanges.read();
        }
        totals
    }
}

/// Seconds since the epoch.
pub fn unix_time_s(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_add_the_workers_up_and_a_channel_keeps_its_counters() {
        let registry = Registry::new(2);
        for index in 0..2 {
            let worker = registry.worker(index);
            worker.exchanges.add(3);
            worker.channel("a").exchanges.add(1);
            worker.channel("a").exchanges.add(1);
        }
        let totals = registry.totals();
        assert_eq!((totals.exchanges, totals.exchanges_by_channel["a"]), (6, 4));
    }

    #[test]
    fn a_part_is_never_more_than_its_whole_while_workers_count() {
        let registry = Registry::new(1);
        let worker = registry.worker(0);
        std::thread::scope(|scope| {
            let counting = scope.spawn(|| {
                for _ in 0..2_000_000 {
                    worker.exchanges.add(1);
                    worker.succeeded.add(1);
                    worker.websocket_asked.add(1);
                }
            });
            while !counting.is_finished() {
                let totals = registry.totals();
                assert!(totals.succeeded <= totals.exchanges, "{totals:?}");
                assert!(totals.websocket_asked <= totals.exchanges, "{totals:?}");
            }
        });
    }
}
