//! What is counted of WebSockets while they are open: by one worker each, read by whoever asks.
//!
//! Every worker has its own set, so that counting is a load and a store on a cache line that no other worker writes; a
//! reader adds the sets up, and sees no part (the accepted ones, say) larger than its whole: a worker counts the whole
//! first, a reader reads it last.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::calls::Calls;
use super::tally::Tally;

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
    pub tally: Tally,
    pub sockets: SocketCounters,
    /// Unix time of the last exchange's end.
    pub last_end_s: Counter,
    plugins: Mutex<HashMap<String, Arc<Calls>>>,
}

#[derive(Debug, Default)]
pub struct SocketCounters {
    /// Asked for, counted when they are.
    pub asked: Counter,
    /// Opened, counted when they are.
    pub accepted: Counter,
    /// From the client; their payload.
    pub messages_in: Counter,
    pub bytes_in: Counter,
    /// To the client.
    pub messages_out: Counter,
    pub bytes_out: Counter,
    /// Sum of the times that those which have ended were open.
    pub duration_us: Counter,
    /// Those that have ended, by close code.
    closes: Mutex<BTreeMap<u16, u64>>,
}

impl WorkerCounters {
    /// What it asked a plugin; looked up once per generation.
    pub fn plugin(&self, name: &str) -> Arc<Calls> {
        let mut plugins = self.plugins.lock().unwrap_or_else(PoisonError::into_inner);
        plugins.entry(name.to_owned()).or_default().clone()
    }
}

impl SocketCounters {
    /// A WebSocket has ended with this close code. Clients choose among thousands; of those, the first few are told apart.
    pub fn closed(&self, code: u16) {
        let mut closes = self.closes.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = code < 3000 || closes.contains_key(&code) || closes.len() < CLOSE_CODES_MAX;
        *closes.entry(if is_known { code } else { OTHER_CODES }).or_default() += 1;
    }
}

/// The sums at one moment.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct SocketTotals {
    pub asked: u64,
    pub accepted: u64,
    pub messages_in: u64,
    pub bytes_in: u64,
    pub messages_out: u64,
    pub bytes_out: u64,
    pub duration_us: u64,
    pub last_end_s: u64,
    pub closes: BTreeMap<u16, u64>,
}

impl SocketTotals {
    pub fn add(&mut self, worker: &WorkerCounters) {
        let sockets = &worker.sockets;
        self.accepted += sockets.accepted.read();
        // The whole, of which the accepted ones are a part.
        self.asked += sockets.asked.read();
        self.messages_in += sockets.messages_in.read();
        self.bytes_in += sockets.bytes_in.read();
        self.messages_out += sockets.messages_out.read();
        self.bytes_out += sockets.bytes_out.read();
        self.duration_us += sockets.duration_us.read();
        for (code, count) in sockets.closes.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            *self.closes.entry(*code).or_default() += count;
        }
        self.last_end_s = self.last_end_s.max(worker.last_end_s.read());
    }

    /// Together with what was written by [`Self::named`] before.
    #[must_use]
    pub fn with(mut self, base: &BTreeMap<String, u64>) -> Self {
        for (name, value) in self.fields() {
            *value += base.get(name).copied().unwrap_or(0);
        }
        let last_end_s = base.get(LAST_END).copied().unwrap_or(0);
        self.last_end_s = self.last_end_s.max(last_end_s);
        for (name, count) in base.range(CLOSE.to_owned()..) {
            let Some(code) = name.strip_prefix(CLOSE).and_then(|code| code.parse().ok()) else { break };
            *self.closes.entry(code).or_default() += count;
        }
        self
    }

    pub fn named(mut self) -> BTreeMap<String, u64> {
        let mut named: BTreeMap<_, _> =
            self.fields().into_iter().map(|(name, value)| (name.to_owned(), *value)).collect();
        named.insert(LAST_END.to_owned(), self.last_end_s);
        named.extend(self.closes.iter().map(|(code, count)| (format!("{CLOSE}{code}"), *count)));
        named
    }

    fn fields(&mut self) -> [(&'static str, &mut u64); 7] {
        [
            ("websocket_requests", &mut self.asked),
            ("websocket_connections", &mut self.accepted),
            ("websocket_messages_in", &mut self.messages_in),
            ("websocket_bytes_in", &mut self.bytes_in),
            ("websocket_messages_out", &mut self.messages_out),
            ("websocket_bytes_out", &mut self.bytes_out),
            ("websocket_duration_us", &mut self.duration_us),
        ]
    }
}

const LAST_END: &str = "last_request_time";
const CLOSE: &str = "websocket_close_";

#[cfg(test)]
mod tests {
    use super::super::Registry;
    use super::*;

    #[test]
    fn close_codes_are_told_apart_up_to_a_bound() {
        let sockets = SocketCounters::default();
        (3000..4000).for_each(|code| sockets.closed(code));
        sockets.closed(1000);
        sockets.closed(3000);
        let closes = sockets.closes.lock().unwrap();
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
                    worker.sockets.asked.add(1);
                    worker.sockets.accepted.add(1);
                }
            });
            while !counting.is_finished() {
                let totals = registry.totals();
                assert!(totals.accepted <= totals.asked, "{totals:?}");
            }
        });
    }

    #[test]
    fn totals_live_on_by_name() {
        let registry = Registry::new(2);
        for index in 0..2 {
            let worker = registry.worker(index);
            worker.sockets.asked.add(3);
            worker.sockets.messages_out.add(1 << 40);
            worker.sockets.closed(1000 + index as u16);
            worker.last_end_s.set(5 + index as u64);
        }
        let totals = registry.totals();
        assert_eq!((totals.asked, totals.last_end_s, totals.closes[&1001]), (6, 6, 1));
        let again = SocketTotals::default().with(&totals.clone().named());
        assert_eq!(again, totals);
        assert_eq!(again.with(&totals.named()).asked, 12);
    }
}
