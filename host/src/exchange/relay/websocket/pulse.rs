//! Silence: who is asked with a ping, who is taken for gone, and when a socket that nobody uses ends.
//!
//! No message costs a look at the clock: what came since the last look is noted by the peers, and one timer a socket
//! looks at the notes. So a limit is kept to within the time between two looks.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::config;

pub struct Pulse {
    timer: Pin<Box<Sleep>>,
    ping_interval: Duration,
    idle_timeout: Duration,
    /// When the sides are looked at next.
    round_at: Instant,
    /// When a message was last known to have passed.
    active_at: Instant,
    messages: u64,
}

/// What it is time for.
#[derive(Debug, PartialEq, Eq)]
pub enum Beat {
    /// To look whether both sides are still there.
    Round,
    /// No message has passed for too long.
    Idle,
}

impl Pulse {
    pub fn new(settings: &config::WebSocket) -> Self {
        let now = Instant::now();
        let (ping_interval, idle_timeout) = (settings.ping_interval, settings.idle_timeout);
        let first = now + ping_interval.min(idle_timeout);
        let timer = Box::pin(tokio::time::sleep_until(first));
        Self { timer, ping_interval, idle_timeout, round_at: now + ping_interval, active_at: now, messages: 0 }
    }

    /// `messages` is how many have passed so far.
    pub fn poll(&mut self, cx: &mut Context<'_>, messages: u64) -> Poll<Beat> {
        while self.timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if messages != self.messages {
                (self.messages, self.active_at) = (messages, now);
            }
            let idle_at = self.active_at + self.idle_timeout;
            if now >= idle_at {
                return Poll::Ready(Beat::Idle);
            }
            let is_round = now >= self.round_at;
            if is_round {
                self.round_at = now + self.ping_interval;
            }
            self.timer.as_mut().reset(self.round_at.min(idle_at));
            if is_round {
                return Poll::Ready(Beat::Round);
            }
        }
        Poll::Pending
    }
}

/// Whether one side is still there.
#[derive(Debug, Default)]
pub struct Vitals {
    was_asked: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Sign {
    Alive,
    /// Nothing has come for a round: it shall be asked.
    Silent,
    /// It was asked, and nothing has come since.
    Gone,
}

impl Vitals {
    /// At the end of a round, in which something came of this side or not.
    pub fn look(&mut self, is_alive: bool) -> Sign {
        if is_alive {
            self.was_asked = false;
            return Sign::Alive;
        }
        if std::mem::replace(&mut self.was_asked, true) { Sign::Gone } else { Sign::Silent }
    }
}
