//! What a worker asked a plugin: how often, how that ended, how long it took.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use super::histogram::Histogram;
use crate::error::{Failure, Kind};

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CallOutcome {
    Ok,
    Trap,
    Deadline,
    Memory,
    Waited,
    InvalidAnswer,
    /// It was not asked, after it broke its deadline.
    BackOff,
    /// There was no instance for it.
    Busy,
}

impl CallOutcome {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Trap => "trap",
            Self::Deadline => "deadline",
            Self::Memory => "memory",
            Self::Waited => "waited",
            Self::InvalidAnswer => "invalid_answer",
            Self::BackOff => "back_off",
            Self::Busy => "busy",
        }
    }

    pub fn of(failure: &Failure) -> Self {
        match failure.kind {
            Kind::PluginTrapped => Self::Trap,
            Kind::PluginDeadline => Self::Deadline,
            Kind::PluginMemory => Self::Memory,
            Kind::PluginWaited => Self::Waited,
            Kind::PluginBackOff => Self::BackOff,
            Kind::PluginBusy => Self::Busy,
            _ => Self::InvalidAnswer,
        }
    }
}

/// Calls of one plugin, added up.
#[derive(Debug, Default, Clone)]
pub struct PluginCalls {
    pub by_outcome: BTreeMap<CallOutcome, u64>,
    /// Of those that reached the plugin.
    pub duration: Histogram,
    /// What the last failed call said.
    pub last_failure: Option<String>,
}

impl PluginCalls {
    pub fn merge(&mut self, other: &Self) {
        for (outcome, count) in &other.by_outcome {
            *self.by_outcome.entry(*outcome).or_default() += count;
        }
        self.duration.merge(&other.duration);
        if other.last_failure.is_some() {
            self.last_failure.clone_from(&other.last_failure);
        }
    }
}

/// One worker's, behind a lock that is free but for the moment of a reading.
#[derive(Debug, Default)]
pub struct Calls(Mutex<PluginCalls>);

impl Calls {
    pub fn note(&self, took: Duration, failure: Option<&Failure>) {
        let outcome = failure.map_or(CallOutcome::Ok, CallOutcome::of);
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *calls.by_outcome.entry(outcome).or_default() += 1;
        if !matches!(outcome, CallOutcome::BackOff | CallOutcome::Busy) {
            calls.duration.record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        }
        if let Some(failure) = failure.filter(|_| !matches!(outcome, CallOutcome::BackOff)) {
            calls.last_failure = Some(failure.to_string());
        }
    }

    pub fn read(&self) -> PluginCalls {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
