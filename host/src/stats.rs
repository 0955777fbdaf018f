//! Counters: written by one worker each, read by whoever asks.
//!
//! Every worker has its own set, so that counting is a load and a store on a cache line that no other worker writes;
//! a reader adds the sets up, and sees no part (the successful ones, say) larger than its whole: a worker counts the
//! whole first, a reader reads it last. A [`Registry`] outlives generations: a channel that comes back finds its counters.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Close codes of applications (3000 to 4999) that are counted by themselves, about.
const CLOSE_CODES_MAX: usize = 64;
/// Stands for all others.
const OTHER_CODES: u16 = 0;

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
    pub websocket_ended: Counter,
    /// WebSockets asked for, counted when they are.
    pub websocket_asked: Counter,
    /// WebSockets that were opened, counted when they are.
    pub websocket_accepted: Counter,
    /// From the client, of all WebSockets; their payload.
    pub messages_in: Counter,
    pub message_bytes_in: Counter,
    /// To the client.
    pub messages_out: Counter,
    pub message_bytes_out: Counter,
    /// Sum of the exchanges' durations, those of WebSockets up to the end of their handshake.
    pub duration_us: Counter,
    /// Sum of the times that WebSockets, which have ended, were open.
    pub socket_duration_us: Counter,
    /// Unix time of the last exchange's end.
    pub last_end_s: Counter,
    channels: Mutex<HashMap<String, Arc<ChannelCounters>>>,
    /// WebSockets that have ended, by close code.
    closes: Mutex<BTreeMap<u16, u64>>,
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

    /// A WebSocket has ended with this close code. Clients choose among thousands; of those, the first few are told apart.
    pub fn closed(&self, code: u16) {
        let mut closes = self.closes.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = code < 3000 || closes.contains_key(&code) || closes.len() < CLOSE_CODES_MAX;
        *closes.entry(if is_known { code } else { OTHER_CODES }).or_default() += 1;
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
    pub websocket_ended: u64,
    pub websocket_asked: u64,
    pub websocket_accepted: u64,
    pub messages_in: u64,
    pub message_bytes_in: u64,
    pub messages_out: u64,
    pub message_bytes_out: u64,
    pub duration_us: u64,
    pub socket_duration_us: u64,
    pub last_end_s: u64,
    pub closes: BTreeMap<u16, u64>,
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
            totals.websocket_ended += worker.websocket_ended.read();
            totals.websocket_accepted += worker.websocket_accepted.read();
            // The whole, of which the accepted ones are a part.
            totals.websocket_asked += worker.websocket_asked.read();
            totals.messages_in += worker.messages_in.read();
            totals.message_bytes_in += worker.message_bytes_in.read();
            totals.messages_out += worker.messages_out.read();
            totals.message_bytes_out += worker.message_bytes_out.read();
            totals.duration_us += worker.duration_us.read();
            totals.socket_duration_us += worker.socket_duration_us.read();
            for (code, count) in worker.closes.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                *totals.closes.entry(*code).or_default() += count;
            }
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
    fn close_codes_are_told_apart_up_to_a_bound() {
        let worker = WorkerCounters::default();
        (3000..4000).for_each(|code| worker.closed(code));
        worker.closed(1000);
        worker.closed(3000);
        let closes = worker.closes.lock().unwrap();
        assert_eq!((closes[&3000], closes[&1000], closes[&OTHER_CODES]), (2, 1, 1000 - 64));
        assert_eq!(closes.len(), 66);
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
                    worker.websocket_ended.add(1);
                    worker.websocket_asked.add(1);
                    worker.websocket_accepted.add(1);
                }
            });
            while !counting.is_finished() {
                let totals = registry.totals();
                assert!(totals.succeeded <= totals.exchanges, "{totals:?}");
                assert!(totals.websocket_ended <= totals.exchanges, "{totals:?}");
                assert!(totals.websocket_accepted <= totals.websocket_asked, "{totals:?}");
            }
        });
    }
}
