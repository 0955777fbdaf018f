//! The time by which history is thrown away: a wall clock that jumps far ahead is not believed at once.
//!
//! A wrong reading of a second would otherwise cost a month of history. The clock is compared with one that cannot be set;
//! what is far ahead of it has to hold for an hour, as after a machine has slept.

use std::time::{Duration, Instant};

/// As far ahead as a clock may jump, and as long as it then has to hold.
const PATIENCE: Duration = Duration::from_hours(1);

#[derive(Debug)]
pub struct Clock {
    /// The last time that was believed, Unix seconds, and when it was.
    believed: u64,
    at: Instant,
    doubted: Option<Instant>,
}

impl Clock {
    pub fn new(wall: u64) -> Self {
        Self { believed: wall, at: Instant::now(), doubted: None }
    }

    /// What to go by when the wall clock says this.
    pub fn now(&mut self, wall: u64) -> u64 {
        self.now_at(wall, Instant::now())
    }

    fn now_at(&mut self, wall: u64, now: Instant) -> u64 {
        let expected = self.believed + now.saturating_duration_since(self.at).as_secs();
        if wall > expected + PATIENCE.as_secs() {
            let doubted = *self.doubted.get_or_insert(now);
            if now.saturating_duration_since(doubted) < PATIENCE {
                return expected;
            }
        }
        (self.believed, self.at, self.doubted) = (wall, now, None);
        wall
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_ahead_has_to_hold_and_one_back_is_taken() {
        let start = Instant::now();
        let mut clock = Clock::new(1000);
        let mut at = |seconds: u64, wall: u64| clock.now_at(wall, start + Duration::from_secs(seconds));
        assert_eq!(at(10, 1010), 1010);
        assert_eq!(at(20, 1010 + 3000), 4010, "an hour more or less is an hour");
        assert_eq!(at(30, 9_000_000), 4020, "years are not");
        assert_eq!(at(40, 1040), 1040, "and were none");
        assert_eq!(at(50, 9_000_000), 1050);
        assert_eq!(at(50 + 3599, 9_000_000), 1040 + 3609);
        assert_eq!(at(50 + 3600, 9_000_000), 9_000_000, "they hold");
    }
}
