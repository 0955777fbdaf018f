//! What is counted of exchanges, and can be added up: the same figures for a minute, a key, or all there ever were.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::histogram::Histogram;

/// Names of amounts that are told apart beside the standard ones; plugins make them up.
const OWN_NAMES_MAX: usize = 32;
/// Stands for all others.
const OTHER: &str = "x-other";

/// How an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The reply was relayed to its end.
    Complete,
    /// The gateway answered with an error of its own.
    Failed,
    /// The client went away first.
    ClientGone,
    /// The reply broke off.
    UpstreamBroken,
    /// The gateway ended a WebSocket.
    GatewayClosed,
}

impl Outcome {
    pub const ALL: [Self; 5] =
        [Self::Complete, Self::Failed, Self::ClientGone, Self::UpstreamBroken, Self::GatewayClosed];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Failed => "failed",
            Self::ClientGone => "client_gone",
            Self::UpstreamBroken => "upstream_broken",
            Self::GatewayClosed => "gateway_closed",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == text)
    }
}

/// The figures of some exchanges.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    pub exchanges: u64,
    pub attempts: u64,
    /// Of bodies and messages, from clients.
    pub bytes_in: u64,
    /// To clients.
    pub bytes_out: u64,
    /// Sum of the times that plugins took to decide.
    pub plugin_us: u64,
    /// From the head to the reply's last byte, or to a WebSocket's being open.
    pub duration: Histogram,
    /// From the head to the head of the upstream's reply.
    pub first_byte: Histogram,
    /// From the head to the sending upstream, without waiting for the client's body.
    pub gateway: Histogram,
    /// Exchanges whose usage was read to its end, and what it came to.
    pub measured: Used,
    /// … that ended before it could be.
    pub partial: Used,
    /// … whose reply said nothing of it.
    pub missing: u64,
}

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub struct Used {
    pub exchanges: u64,
    pub amounts: Vec<(NameId, f64)>,
}

/// See [`Names`].
pub type NameId = u8;

impl Figures {
    pub fn merge(&mut self, other: &Self, name: impl Fn(NameId) -> NameId + Copy) {
        self.exchanges += other.exchanges;
        self.attempts += other.attempts;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.plugin_us += other.plugin_us;
        self.duration.merge(&other.duration);
        self.first_byte.merge(&other.first_byte);
        self.gateway.merge(&other.gateway);
        self.measured.merge(&other.measured, name);
        self.partial.merge(&other.partial, name);
        self.missing += other.missing;
    }
}

impl Used {
    pub fn add(&mut self, name: NameId, amount: f64) {
        match self.amounts.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum = (*sum + amount).min(f64::MAX),
            None => self.amounts.push((name, amount)),
        }
    }

    fn merge(&mut self, other: &Self, name: impl Fn(NameId) -> NameId) {
        self.exchanges += other.exchanges;
        for (id, amount) in &other.amounts {
            self.add(name(*id), *amount);
        }
    }

    pub fn amount(&self, name: NameId) -> f64 {
        self.amounts.iter().find(|(known, _)| *known == name).map_or(0.0, |(_, amount)| *amount)
    }
}

/// The names of amounts as small numbers.
#[derive(Debug, Clone)]
pub struct Names(Vec<Arc<str>>);

/// The standard ones, whose numbers are the same everywhere.
pub const STANDARD: [&str; 7] = ["input", "output", "cached-input", "reasoning", "characters", "seconds", "images"];
pub const INPUT: NameId = 0;
pub const OUTPUT: NameId = 1;

impl Default for Names {
    fn default() -> Self {
        Self(STANDARD.into_iter().chain([OTHER]).map(Arc::from).collect())
    }
}

impl Names {
    pub fn id(&mut self, name: &str) -> NameId {
        let known = self.0.iter().position(|known| **known == *name);
        known.unwrap_or_else(|| {
            if self.0.len() > STANDARD.len() + OWN_NAMES_MAX {
                return STANDARD.len();
            }
            self.0.push(name.into());
            self.0.len() - 1
        }) as NameId
    }

    pub fn name(&self, id: NameId) -> &str {
        self.0.get(usize::from(id)).map_or(OTHER, |name| name)
    }

    /// Each with its number.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|name| &**name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_the_rest_is_one() {
        let mut names = Names::default();
        assert_eq!((names.id("input"), names.id("output")), (INPUT, OUTPUT));
        let own: Vec<_> = (0..100).map(|number| names.id(&format!("x-{number}"))).collect();
        assert_eq!(names.name(own[0]), "x-0");
        assert_eq!(names.name(own[99]), OTHER);
        assert_eq!(names.id("x-0"), own[0]);
        assert_eq!(names.iter().count(), STANDARD.len() + 1 + OWN_NAMES_MAX);
    }

    #[test]
    fn every_outcome_is_found_by_its_name() {
        for outcome in Outcome::ALL {
            assert_eq!(Outcome::parse(outcome.as_str()), Some(outcome));
            assert_eq!(serde_json::to_value(outcome).unwrap(), outcome.as_str());
        }
    }
}
