//! Channels by percentage, and the same channel for the same caller.
//!
//! A stable hash makes a point from 0 to 100 of a caller, each channel has a part of that line, and the channel on whose
//! part the point falls comes first. The others follow as fallbacks: available ones first, then by `priority`.

mod point;
mod settings;

use std::cmp::Reverse;

use aiproxy_plugin_sdk::{Caller, Candidate, Profile, Refusal, Request, Router, router_plugin};

use point::Sequence;
use settings::Settings;

router_plugin!(Spread);

/// The router, with each channel's part.
#[derive(Debug)]
pub struct Spread {
    settings: Settings,
    /// Where callers do not stick.
    sequence: Sequence,
}

impl Router for Spread {
    type Settings = Settings;

    fn configure(settings: Settings) -> Result<(Self, Profile), String> {
        // The order depends on the caller and on the moment, on nothing in the request.
        Ok((Self { settings, sequence: Sequence::default() }, Profile::default()))
    }

    fn route(&self, _request: Request, caller: Caller, mut candidates: Vec<Candidate>) -> Result<Vec<String>, Refusal> {
        let point =
            if self.settings.sticky { point::of(&self.settings.salt, &caller.id) } else { self.sequence.next() };
        let is_chosen = |candidate: &Candidate| match self.settings.percent.at(point) {
            Some(channel) => candidate.channel == channel,
            // The rest is for whom no part is said; the best of them, by the order below.
            None => !self.settings.percent.has(&candidate.channel),
        };
        // Stable: what is equal stays in the order in which the proxy key lists it.
        candidates.sort_by_key(|candidate| {
            let is_first = candidate.available && is_chosen(candidate);
            (Reverse(is_first), Reverse(candidate.available), Reverse(candidate.priority))
        });
        Ok(candidates.into_iter().map(|candidate| candidate.channel).collect())
    }
}

#[cfg(test)]
mod tests;
