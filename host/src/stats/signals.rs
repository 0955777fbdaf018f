//! How a channel is doing just now, for whoever chooses among channels: shared by all workers, read without a lock.
//!
//! Averages over time, not over exchanges: each value counts for as long as it was the last one known, with a memory of
//! [`MEMORY`]. Two workers that update at once may lose one of the two values, which an average can bear.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// After so long a value counts for a third of what it did.
const MEMORY: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct Signals {
    started: Instant,
    in_flight: AtomicUsize,
    /// Bits of seconds; negative: none known.
    latency: AtomicU64,
    /// Bits of a share.
    errors: AtomicU64,
    /// Nanoseconds since `started`.
    updated: AtomicU64,
}

impl Default for Signals {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            in_flight: AtomicUsize::new(0),
            latency: AtomicU64::new((-1.0_f64).to_bits()),
            errors: AtomicU64::new(0),
            updated: AtomicU64::new(0),
        }
    }
}

impl Signals {
    pub fn begin(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    pub fn end(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// What an exchange was like: how long the head of its reply took, if one came, and whether the channel failed it.
    pub fn note(&self, first_byte: Option<Duration>, is_error: bool) {
        self.note_at(self.started.elapsed(), first_byte, is_error);
    }

    fn note_at(&self, now: Duration, first_byte: Option<Duration>, is_error: bool) {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let before = self.updated.swap(now, Ordering::Relaxed);
        let gap = Duration::from_nanos(now.saturating_sub(before));
        // The first value is all that is known.
        let weight = if before == 0 { 1.0 } else { 1.0 - (-gap.as_secs_f64() / MEMORY.as_secs_f64()).exp() };
        let mix = |cell: &AtomicU64, value: f64| {
            let old = f64::from_bits(cell.load(Ordering::Relaxed));
            let new = if old < 0.0 { value } else { old + weight * (value - old) };
            cell.store(new.to_bits(), Ordering::Relaxed);
        };
        if let Some(first_byte) = first_byte {
            mix(&self.latency, first_byte.as_secs_f64());
        }
        mix(&self.errors, f64::from(u8::from(is_error)));
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Seconds to the head of a reply; `None` before the first.
    pub fn latency_seconds(&self) -> Option<f64> {
        let seconds = f64::from_bits(self.latency.load(Ordering::Relaxed));
        (seconds >= 0.0).then_some(seconds)
    }

    /// From 0 to 1.
    pub fn error_rate(&self) -> f64 {
        f64::from_bits(self.errors.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_average_follows_what_is_recent() {
        let signals = Signals::default();
        assert_eq!((signals.latency_seconds(), signals.error_rate()), (None, 0.0));
        let second = Duration::from_secs(1);
        signals.note_at(second, Some(second), true);
        assert_eq!((signals.latency_seconds(), signals.error_rate()), (Some(1.0), 1.0));
        for tenth in 0..600_u32 {
            signals.note_at(second + second * tenth / 10, Some(second * 3), false);
        }
        assert!((signals.latency_seconds().unwrap() - 3.0).abs() < 0.01);
        assert!(signals.error_rate() < 0.01);
        // A crowd in one moment weighs little beside what lasted.
        for _ in 0..1000 {
            signals.note_at(second * 61, None, true);
        }
        assert!(signals.error_rate() < 0.2, "{}", signals.error_rate());
    }
}
