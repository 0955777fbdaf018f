//! What happened that people should see: starts, reloads, failures. The last few, newest last.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use schemars::JsonSchema;
use serde::Serialize;

const EVENTS_MAX: usize = 100;
/// The same event again within so many seconds is counted, not repeated.
pub const SAME_S: u64 = 300;
const MESSAGE_BYTES_MAX: usize = 1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Info,
    Warn,
    Error,
}

impl Level {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }

    pub fn parse(text: &str) -> Self {
        match text {
            "error" => Self::Error,
            "warn" => Self::Warn,
            _ => Self::Info,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Event {
    /// Unix time in seconds, of the last occurrence.
    pub time: u64,
    pub level: Level,
    /// `start`, `reload`, `plugin`, `exchange` or `statistics`.
    pub kind: Cow<'static, str>,
    /// The file, plugin or channel that it is about.
    pub subject: String,
    pub message: String,
    pub count: u64,
}

impl Event {
    /// Counts another one, if it is the same again.
    fn take(&mut self, again: &Self) -> bool {
        let is_same = self.kind == again.kind
            && self.subject == again.subject
            && self.message == again.message
            && again.time.saturating_sub(self.time) < SAME_S;
        if is_same {
            self.count += again.count;
            self.time = again.time;
        }
        is_same
    }
}

#[derive(Debug, Default)]
pub struct Events(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    recent: VecDeque<Event>,
    unwritten: Vec<Event>,
}

impl Events {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn add(&self, level: Level, kind: &'static str, subject: &str, message: &str, count: u64) {
        let time = super::unix_time_s(SystemTime::now());
        let message = message[..message.floor_char_boundary(MESSAGE_BYTES_MAX)].to_owned();
        let event = Event { time, level, kind: kind.into(), subject: subject.to_owned(), message, count };
        let State { recent, unwritten } = &mut *self.lock();
        let is_counted = recent.iter_mut().rev().any(|known| known.take(&event));
        if !is_counted {
            if recent.len() >= EVENTS_MAX {
                recent.pop_front();
            }
            recent.push_back(event.clone());
        }
        let is_counted = unwritten.iter_mut().rev().any(|known| known.take(&event));
        if !is_counted && unwritten.len() < EVENTS_MAX {
            unwritten.push(event);
        }
    }

    /// Those of before this start, oldest first.
    pub fn restore(&self, events: Vec<Event>) {
        let recent = &mut self.lock().recent;
        for event in events.into_iter().rev() {
            if recent.len() < EVENTS_MAX {
                recent.push_front(event);
            }
        }
    }

    /// Newest first.
    pub fn recent(&self) -> Vec<Event> {
        let mut events: Vec<_> = self.lock().recent.iter().cloned().collect();
        events.sort_by_key(|event| std::cmp::Reverse(event.time));
        events
    }

    pub fn take_unwritten(&self) -> Vec<Event> {
        std::mem::take(&mut self.lock().unwritten)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_bounded_and_the_same_one_is_counted() {
        let events = Events::default();
        for number in 0..150 {
            events.add(Level::Info, "reload", "api_keys.json", &number.to_string(), 1);
        }
        events.add(Level::Error, "exchange", "c", "upstream_unreachable", 3);
        events.add(Level::Error, "exchange", "c", "upstream_unreachable", 2);
        let recent = events.recent();
        assert_eq!(recent.len(), EVENTS_MAX);
        assert!(recent.iter().any(|event| event.kind == "exchange" && event.count == 5));
        assert_eq!(events.take_unwritten().len(), EVENTS_MAX);
        assert!(events.take_unwritten().is_empty());
    }
}
