//! A pause for a plugin that breached its deadline, shared by all workers.
//!
//! Without it a looping plugin would hold every worker for a deadline per request. It closes by itself when its time
//! is over: the next request tries again. Times are taken from outside, as durations since some fixed moment.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Closed while zero; else milliseconds until which the plugin is not asked.
#[derive(Default)]
pub struct BackOff(AtomicU64);

impl BackOff {
    /// From `now` on for `pause`; never shortens a pause that is already on.
    pub fn open(&self, now: Duration, pause: Duration) {
        self.0.fetch_max(millis(now.saturating_add(pause)).max(1), Relaxed);
    }

    /// How long the pause still lasts. `now` is asked only if one was ever opened: this is on every request's way.
    pub fn remaining(&self, now: impl FnOnce() -> Duration) -> Option<Duration> {
        let until = self.0.load(Relaxed);
        if until == 0 {
            return None;
        }
        let left = until.saturating_sub(millis(now()));
        if left == 0 {
            // Fails only if another pause was opened meanwhile, which then stands.
            let _ = self.0.compare_exchange(until, 0, Relaxed, Relaxed);
            return None;
        }
        Some(Duration::from_millis(left))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_for_its_time_and_closes_by_itself() {
        let ms = Duration::from_millis;
        let back_off = BackOff::default();
        assert_eq!(back_off.remaining(|| unreachable!("nothing was opened")), None);
        back_off.open(ms(100), ms(50));
        back_off.open(ms(100), ms(10));
        assert_eq!(back_off.remaining(|| ms(120)), Some(ms(30)));
        assert_eq!(back_off.remaining(|| ms(150)), None);
        assert_eq!(back_off.remaining(|| unreachable!("it has closed")), None);
        back_off.open(ms(200), ms(1));
        assert!(back_off.remaining(|| ms(200)).is_some());
    }
}
