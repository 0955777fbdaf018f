//! The least busy channel first, by what the gateway knows of each.
//!
//! The operator's wishes come before the figures: available channels first, then higher `priority`; among those of one
//! priority the least [`load`] decides. How it is made up is in the README, and in that file alone.

mod load;
mod settings;

use std::cell::Cell;
use std::cmp::Reverse;

use aiproxy_plugin_sdk::{Caller, Candidate, Profile, Refusal, Request, Router, router_plugin};

use load::loads;
use settings::Settings;

router_plugin!(LeastBusy);

/// The router, with its weights.
#[derive(Debug)]
pub struct LeastBusy {
    settings: Settings,
    /// Requests so far. Each instance counts for itself, which is as good for looking around now and then.
    requests: Cell<u32>,
}

impl Router for LeastBusy {
    type Settings = Settings;

    fn configure(settings: Settings) -> Result<(Self, Profile), String> {
        // The order depends on no request, and changes from one moment to the next.
        Ok((Self { settings, requests: Cell::new(0) }, Profile::default()))
    }

    fn route(&self, _request: Request, _caller: Caller, candidates: Vec<Candidate>) -> Result<Vec<String>, Refusal> {
        let loads = loads(&candidates, &self.settings);
        let mut ranked: Vec<_> = candidates.into_iter().zip(loads).collect();
        // Stable: what is equal stays in the order in which the proxy key lists it.
        ranked.sort_by(|(left, left_load), (right, right_load)| {
            let wish = |candidate: &Candidate| (Reverse(candidate.available), Reverse(candidate.priority));
            wish(left).cmp(&wish(right)).then(left_load.total_cmp(right_load))
        });
        self.look_around(&mut ranked);
        Ok(ranked.into_iter().map(|(candidate, _)| candidate.channel).collect())
    }
}

impl LeastBusy {
    /// Now and then, puts another of the best priority first, in turn; those without a weight only where none of them
    /// has one, since they are a last resort otherwise.
    ///
    /// Latency and errors are known from requests: a channel that had a bad moment and is chosen no more would be thought
    /// bad for ever.
    fn look_around(&self, ranked: &mut [(Candidate, load::Load)]) {
        let request = self.requests.get().wrapping_add(1);
        self.requests.set(request);
        let every = self.settings.look_around_every;
        let Some((best, best_load)) = ranked.first() else { return };
        if every == 0 || !request.is_multiple_of(every) || !best.available {
            return;
        }
        let is_peer = |(peer, load): &&(Candidate, load::Load)| {
            peer.available && peer.priority == best.priority && load.is_last_resort() == best_load.is_last_resort()
        };
        let peers = ranked.iter().take_while(is_peer).count();
        // By name rather than by rank, so that each gets its turn however they are ranked.
        let mut order: Vec<usize> = (0..peers).collect();
        order.sort_by(|&left, &right| ranked[left].0.channel.cmp(&ranked[right].0.channel));
        let turn = order[(request / every) as usize % peers];
        ranked[..=turn].rotate_right(1);
    }
}

#[cfg(test)]
mod tests;
