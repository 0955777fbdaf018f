//! A pause for a plugin that keeps failing, shared by all workers.
//!
//! Without it a looping plugin would hold every worker for a deadline per request, and one that traps each time would have
//! a new instance built for each. A breach of the deadline begins a pause at once, other faults when several come in a row
//! without an answer between them. It closes by itself: the next request tries again. A fault that comes within as long
//! again as the last pause lasted doubles it, up to a bound; a later one begins anew. Times are taken from outside, as
//! durations since some fixed moment.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// So many faults without an answer between them are a crash loop.
const FAULTS_IN_A_ROW_MAX: u32 = 5;

#[derive(Default)]
pub struct BackOff {
    /// Closed while zero; else milliseconds until which the plugin is not asked.
    until: AtomicU64,
    faults_in_a_row: AtomicU32,
    last: Mutex<Pause>,
}

/// The last pause.
#[derive(Default, Clone, Copy)]
struct Pause {
    until: Duration,
    length: Duration,
    /// What began it, for the client.
    reason: &'static str,
}

/// What a fault says of the next calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// Each such call holds a worker for as long as it may.
    Heavy,
    Light,
}

impl BackOff {
    /// A call was broken off. Gives the pause that begins with it, if one does.
    pub fn fault(
        &self,
        now: Duration,
        weight: Weight,
        reason: &'static str,
        (first, longest): (Duration, Duration),
    ) -> Option<Duration> {
        let in_a_row = self.faults_in_a_row.fetch_add(1, Relaxed).saturating_add(1);
        if weight == Weight::Light && in_a_row < FAULTS_IN_A_ROW_MAX {
            return None;
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if now < last.until {
            // Another worker's call, begun before the pause.
            return None;
        }
        let is_again = !last.length.is_zero() && now <= last.until.saturating_add(last.length);
        let length = if is_again { last.length.saturating_mul(2) } else { first }.min(longest.max(first));
        *last = Pause { until: now.saturating_add(length), length, reason };
        self.until.store(millis(last.until).max(1), Relaxed);
        Some(length)
    }

    /// A call was answered.
    pub fn answered(&self) {
        // Looked at first: this is on every call's way, and a store would take the line from the other workers.
        if self.faults_in_a_row.load(Relaxed) > 0 {
            self.faults_in_a_row.store(0, Relaxed);
        }
    }

    /// How long the pause still lasts, and why. `now` is asked only if one was ever begun: this is on every request's way.
    pub fn remaining(&self, now: impl FnOnce() -> Duration) -> Option<(Duration, &'static str)> {
        let until = self.until.load(Relaxed);
        if until == 0 {
            return None;
        }
        let left = until.saturating_sub(millis(now()));
        if left == 0 {
            // Fails only if another pause has begun meanwhile, which then stands.
            let _ = self.until.compare_exchange(until, 0, Relaxed, Relaxed);
            return None;
        }
        let reason = self.last.lock().unwrap_or_else(PoisonError::into_inner).reason;
        Some((Duration::from_millis(left), reason))
    }
}

#[cfg(test)]
impl BackOff {
    /// As if the pause that lasts had just ended.
    pub fn expire(&self, now: Duration) {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).until = now;
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTHS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(350));

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    fn loops(back_off: &BackOff, now: u64) -> Option<Duration> {
        back_off.fault(ms(now), Weight::Heavy, "it loops", LENGTHS)
    }

    #[test]
    fn it_begins_with_a_breach_of_the_deadline_and_closes_by_itself() {
        let back_off = BackOff::default();
        assert_eq!(back_off.remaining(|| unreachable!("none was begun")), None);
        assert_eq!(loops(&back_off, 1000), Some(ms(100)));
        assert_eq!(loops(&back_off, 1001), None, "a call that had begun before");
        assert_eq!(back_off.remaining(|| ms(1020)), Some((ms(80), "it loops")));
        assert_eq!(back_off.remaining(|| ms(1100)), None);
        assert_eq!(back_off.remaining(|| unreachable!("it has closed")), None);
    }

    #[test]
    fn it_doubles_while_the_plugin_goes_on_failing_and_begins_anew_after_a_quiet_time() {
        let back_off = BackOff::default();
        let pauses: Vec<_> =
            [1000, 1100, 1400, 2000, 2700].map(|now| loops(&back_off, now)).into_iter().flatten().collect();
        assert_eq!(pauses, [ms(100), ms(200), ms(350), ms(350), ms(350)]);
        assert_eq!(loops(&back_off, 2700 + 350 + 351), Some(ms(100)));
    }

    #[test]
    fn other_faults_count_only_in_a_row() {
        let back_off = BackOff::default();
        let traps =
            |count: u32| (0..count).filter_map(|_| back_off.fault(ms(7), Weight::Light, "it trapped", LENGTHS)).count();
        assert_eq!(traps(4), 0);
        back_off.answered();
        assert_eq!(traps(4), 0);
        assert_eq!(traps(1), 1);
    }
}
