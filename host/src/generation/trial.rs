//! A new version of a plugin beside the one that serves, on a share of a channel's exchanges, and what comes of it.
//!
//! Both versions are counted over the same time. The new one is withdrawn when a share of its exchanges is *significantly*
//! greater that ended by the plugin's failure, by its refusal (a decline is one too: nobody else may serve), or in an error
//! of the upstream; each by a one-sided test of two proportions. At the end of the window p < 0.01 is enough, with at least
//! [`EXCHANGES_MIN`] exchanges on each side; with fewer, the window goes on. Before the end only what leaves no doubt counts
//! (p < 0.0001): whoever looks often enough finds something by chance.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::Serialize;

use crate::config::Canary;
use crate::plugin::Deployed;

/// On each side, before anything is concluded.
pub const EXCHANGES_MIN: u64 = 50;
/// Quantiles of the normal distribution: one-sided p of 0.01 and 0.0001.
const Z_END: f64 = 2.326_348;
const Z_BEFORE: f64 = 3.719_016;

/// A new version on one channel.
pub struct Trial {
    pub deployed: Arc<Deployed>,
    /// Of the exchanges.
    pub percent: u32,
    window: Duration,
    began: Instant,
    /// What is counted of the version that serves, meanwhile.
    pub old: Arc<Arm>,
    pub new: Arc<Arm>,
}

/// What became of one version's exchanges; shared by all workers.
#[derive(Debug, Default)]
pub struct Arm {
    exchanges: AtomicU64,
    plugin_failures: AtomicU64,
    refusals: AtomicU64,
    upstream_errors: AtomicU64,
}

/// The same at one moment.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Counts {
    pub exchanges: u64,
    /// Traps, deadlines, invalid answers and the like.
    pub plugin_failures: u64,
    /// Refused or declined.
    pub refusals: u64,
    /// No reply, a broken one, or one with a status of 400 and more.
    pub upstream_errors: u64,
}

/// What follows from the counts.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    GoesOn,
    Promote,
    /// Why.
    Withdraw(String),
}

impl Arm {
    pub fn plugin_failed(&self) {
        self.count(&self.plugin_failures, true);
    }

    pub fn refused(&self) {
        self.count(&self.refusals, true);
    }

    /// A plan was carried out, or given up by the client.
    pub fn sent(&self, is_upstream_error: bool) {
        self.count(&self.upstream_errors, is_upstream_error);
    }

    fn count(&self, of_them: &AtomicU64, is_one: bool) {
        self.exchanges.fetch_add(1, Relaxed);
        of_them.fetch_add(u64::from(is_one), Relaxed);
    }

    pub fn read(&self) -> Counts {
        let read = |cell: &AtomicU64| cell.load(Relaxed);
        Counts {
            exchanges: read(&self.exchanges),
            plugin_failures: read(&self.plugin_failures),
            refusals: read(&self.refusals),
            upstream_errors: read(&self.upstream_errors),
        }
    }
}

impl Trial {
    pub fn new(deployed: Arc<Deployed>, canary: Canary) -> Self {
        let Canary { percent, window } = canary;
        let (old, new) = Default::default();
        Self { deployed, percent, window, began: Instant::now(), old, new }
    }

    pub fn verdict(&self) -> Verdict {
        verdict(self.old.read(), self.new.read(), self.began.elapsed() >= self.window)
    }
}

fn verdict(old: Counts, new: Counts, is_over: bool) -> Verdict {
    if old.exchanges.min(new.exchanges) < EXCHANGES_MIN {
        return Verdict::GoesOn;
    }
    let z_max = if is_over { Z_END } else { Z_BEFORE };
    for (what, bad_old, bad_new) in [
        ("plugin failures", old.plugin_failures, new.plugin_failures),
        ("refusals", old.refusals, new.refusals),
        ("upstream errors", old.upstream_errors, new.upstream_errors),
    ] {
        if z((bad_new, new.exchanges), (bad_old, old.exchanges)) > z_max {
            let (all_new, all_old) = (new.exchanges, old.exchanges);
            return Verdict::Withdraw(format!(
                "{what}: {bad_new} of {all_new} exchanges, against {bad_old} of {all_old} with the version before"
            ));
        }
    }
    if is_over { Verdict::Promote } else { Verdict::GoesOn }
}

/// How many standard errors the first proportion lies above the second, both pooled (0 where they cannot differ).
fn z((bad_new, all_new): (u64, u64), (bad_old, all_old): (u64, u64)) -> f64 {
    let (all_new, all_old) = (all_new as f64, all_old as f64);
    let pooled = (bad_new + bad_old) as f64 / (all_new + all_old);
    let error = (pooled * (1.0 - pooled) * (1.0 / all_new + 1.0 / all_old)).sqrt();
    if error > 0.0 { (bad_new as f64 / all_new - bad_old as f64 / all_old) / error } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(exchanges: u64, plugin_failures: u64) -> Counts {
        Counts { exchanges, plugin_failures, ..Counts::default() }
    }

    #[test]
    fn the_test_is_that_of_the_textbook() {
        // 15 of 100 against 5 of 100: pooled 0.1, standard error 0.042426.
        assert!((z((15, 100), (5, 100)) - 2.357_02).abs() < 1e-4);
        assert!((z((5, 100), (15, 100)) + 2.357_02).abs() < 1e-4);
        assert!(z((0, 100), (0, 500)).abs() < f64::EPSILON);
        assert!(z((100, 100), (500, 500)).abs() < f64::EPSILON);
    }

    #[test]
    fn a_version_that_is_significantly_worse_is_withdrawn_and_another_is_promoted_at_the_end() {
        let withdrawn = |old, new| matches!(verdict(old, new, true), Verdict::Withdraw(_));
        assert!(withdrawn(counts(100, 5), counts(100, 15)), "p = 0.0092");
        assert!(!withdrawn(counts(100, 5), counts(100, 14)), "p = 0.0154");
        assert!(!withdrawn(counts(100, 15), counts(100, 5)), "better is not worse");
        assert_eq!(verdict(counts(100, 5), counts(100, 14), true), Verdict::Promote);
        assert_eq!(verdict(counts(100, 5), counts(100, 14), false), Verdict::GoesOn);
    }

    #[test]
    fn with_few_exchanges_the_window_goes_on() {
        assert_eq!(verdict(counts(1000, 0), counts(49, 49), true), Verdict::GoesOn);
        assert_eq!(verdict(counts(49, 0), counts(1000, 0), true), Verdict::GoesOn);
        assert_eq!(verdict(counts(50, 0), counts(50, 0), true), Verdict::Promote);
    }

    #[test]
    fn before_the_end_only_what_leaves_no_doubt_counts() {
        assert_eq!(verdict(counts(100, 5), counts(100, 15), false), Verdict::GoesOn);
        let Verdict::Withdraw(reason) = verdict(counts(450, 0), counts(50, 10), false) else { panic!("it is clear") };
        assert_eq!(reason, "plugin failures: 10 of 50 exchanges, against 0 of 450 with the version before");
    }

    #[test]
    fn each_kind_counts_for_itself() {
        for spoil in [
            (|counts| counts.refusals = 30) as fn(&mut Counts),
            |counts| counts.upstream_errors = 30,
            |counts| counts.plugin_failures = 30,
        ] {
            let mut new = counts(100, 0);
            spoil(&mut new);
            assert!(matches!(verdict(counts(100, 0), new, true), Verdict::Withdraw(_)));
        }
    }

    #[test]
    fn an_arm_counts_every_exchange_once() {
        let arm = Arm::default();
        arm.sent(false);
        arm.sent(true);
        arm.refused();
        arm.plugin_failed();
        let expected = Counts { exchanges: 4, plugin_failures: 1, refusals: 1, upstream_errors: 1 };
        assert_eq!(arm.read(), expected);
    }
}
