//! How busy each of several channels is.

use std::cmp::Ordering;

use aiproxy_plugin_sdk::Candidate;

use crate::settings::Settings;

/// A channel's load, in requests under way; among equals, the unknown channel before the known.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    requests: f64,
    is_known: bool,
}

impl Load {
    pub fn total_cmp(&self, other: &Self) -> Ordering {
        self.requests.total_cmp(&other.requests).then(self.is_known.cmp(&other.is_known))
    }

    /// Without a weight beside others that have one, where weights count.
    pub fn is_last_resort(&self) -> bool {
        self.requests.is_infinite()
    }
}

/// The load of each candidate, in their order.
pub fn loads(candidates: &[Candidate], settings: &Settings) -> Vec<Load> {
    let weight_max = candidates.iter().map(|candidate| candidate.weight).max().unwrap_or_default();
    let [in_flight, latency, errors] =
        ["in-flight", "latency-ms", "error-rate"].map(|name| Signal { name, unknown: lowest(candidates, name) });
    let load = |candidate: &Candidate| {
        // With this request, so that weights tell already among idle channels. None has a weight: all are alike. Some
        // have: the others' load is infinite, which puts them last.
        let requests = in_flight.of(candidate) + 1.0;
        let requests =
            if weight_max == 0 { requests } else { requests * f64::from(weight_max) / f64::from(candidate.weight) };
        let terms = [
            (settings.in_flight.0, requests),
            (settings.latency.0, latency.of(candidate) / 1000.0),
            (settings.errors.0, errors.of(candidate)),
        ];
        // What weighs nothing is left out rather than multiplied: nothing times infinity is no number.
        let requests = terms.iter().filter(|(weight, _)| *weight > 0.0).map(|(weight, value)| weight * value).sum();
        Load { requests, is_known: latency.is_known(candidate) }
    };
    candidates.iter().map(load).collect()
}

/// A signal, and what a channel counts for of which it is unknown.
struct Signal {
    name: &'static str,
    unknown: f64,
}

impl Signal {
    fn of(&self, candidate: &Candidate) -> f64 {
        known(candidate, self.name).unwrap_or(self.unknown)
    }

    fn is_known(&self, candidate: &Candidate) -> bool {
        known(candidate, self.name).is_some()
    }
}

/// A signal that is no sensible number is unknown.
fn known(candidate: &Candidate, name: &str) -> Option<f64> {
    candidate.signal(name).filter(|value| value.is_finite() && *value >= 0.0)
}

/// The best that is known of any: a new channel is thought as good, until it is known. Worse, and it would never be
/// chosen; better, and a slow one would be flooded.
fn lowest(candidates: &[Candidate], name: &str) -> f64 {
    candidates.iter().filter(|it| it.available).filter_map(|it| known(it, name)).min_by(f64::total_cmp).unwrap_or(0.0)
}
