//! A new version of a plugin beside the one that serves, on a share of a channel's exchanges, and what comes of it.
//!
//! Both versions are counted over the same time. The new one is withdrawn when a share of its exchanges is *significantly*
//! greater that ended by the plugin's failure, by its refusal (a decline is one too: nobody else may serve), or in an error
//! of the upstream; each by a one-sided test of two proportions: the pooled z-test, or where it does not hold (fewer than
//! [`EXPECTED_MIN`] expected of a kind) Fisher's exact one. At the end of the window p < 0.01 is enough, with at least
//! [`EXCHANGES_MIN`] exchanges on each side; with fewer, the window goes on. Before the end only what leaves no doubt counts
//! (p < 0.0001): whoever looks often enough finds something by chance. Exchanges that still wait for a reply when the window
//! ends put a promotion off, where they would be too many if they failed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::Serialize;

use crate::config::Canary;
use crate::plugin::Deployed;

/// On each side, before anything is concluded.
pub const EXCHANGES_MIN: u64 = 50;
const EXPECTED_MIN: f64 = 5.0;

/// How sure one has to be: a one-sided p, and the quantile of the normal distribution that belongs to it.
#[derive(Clone, Copy)]
struct Level {
    p: f64,
    z: f64,
}

const AT_THE_END: Level = Level { p: 0.01, z: 2.326_348 };
const BEFORE: Level = Level { p: 0.0001, z: 3.719_016 };

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
    /// Sent, and without a reply so far.
    waiting: AtomicU64,
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

    /// A plan is being carried out.
    pub fn begin(&self) {
        self.waiting.fetch_add(1, Relaxed);
    }

    /// There is a reply, or there will be none.
    pub fn has_waited(&self) {
        self.waiting.fetch_sub(1, Relaxed);
    }

    /// A plan was carried out.
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
        let waiting = self.new.waiting.load(Relaxed);
        verdict(self.old.read(), self.new.read(), waiting, self.began.elapsed() >= self.window)
    }
}

fn verdict(old: Counts, new: Counts, waiting: u64, is_over: bool) -> Verdict {
    if old.exchanges.min(new.exchanges) < EXCHANGES_MIN {
        return Verdict::GoesOn;
    }
    let level = if is_over { AT_THE_END } else { BEFORE };
    for (what, bad_old, bad_new) in [
        ("plugin failures", old.plugin_failures, new.plugin_failures),
        ("refusals", old.refusals, new.refusals),
        ("upstream errors", old.upstream_errors, new.upstream_errors),
    ] {
        if is_greater((bad_new, new.exchanges), (bad_old, old.exchanges), level) {
            let (all_new, all_old) = (new.exchanges, old.exchanges);
            return Verdict::Withdraw(format!(
                "{what}: {bad_new} of {all_new} exchanges, against {bad_old} of {all_old} with the version before"
            ));
        }
    }
    let failing = (new.upstream_errors + waiting, new.exchanges + waiting);
    if is_over && !is_greater(failing, (old.upstream_errors, old.exchanges), level) {
        Verdict::Promote
    } else {
        Verdict::GoesOn
    }
}

/// Whether the first proportion is significantly greater than the second.
fn is_greater(new: (u64, u64), old: (u64, u64), level: Level) -> bool {
    let (bad, all) = ((new.0 + old.0) as f64, (new.1 + old.1) as f64);
    let expected = |of: f64| new.1.min(old.1) as f64 * of / all;
    if expected(bad).min(expected(all - bad)) < EXPECTED_MIN {
        return fishers_p(new, old) < level.p;
    }
    z(new, old) > level.z
}

/// The chance of so many bad ones or more among the new ones, if it is chance alone which side the bad ones are on.
fn fishers_p((bad_new, all_new): (u64, u64), (bad_old, all_old): (u64, u64)) -> f64 {
    let (bad, all) = (bad_new + bad_old, all_new + all_old);
    let ln_choose = |n: u64, k: u64| ln_factorial(n) - ln_factorial(k) - ln_factorial(n - k);
    let whole = ln_choose(all, all_new);
    // No more bad ones than there are, or than there are new ones; and no fewer good ones than fit.
    let most = bad.min(all_new);
    let least = bad_new.max((bad + all_new).saturating_sub(all));
    (least..=most).map(|k| (ln_choose(bad, k) + ln_choose(all - bad, all_new - k) - whole).exp()).sum()
}

/// By Stirling's series, whose error is below 1e-9 from 20 on.
fn ln_factorial(n: u64) -> f64 {
    if n < 20 {
        return (2..=n).map(|factor| (factor as f64).ln()).sum();
    }
    let n = n as f64;
    n * n.ln() - n + 0.5 * (std::f64::consts::TAU * n).ln() + 1.0 / (12.0 * n) - 1.0 / (360.0 * n.powi(3))
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
        let withdrawn = |old, new| matches!(verdict(old, new, 0, true), Verdict::Withdraw(_));
        assert!(withdrawn(counts(100, 5), counts(100, 15)), "p = 0.0092");
        assert!(!withdrawn(counts(100, 5), counts(100, 14)), "p = 0.0154");
        assert!(!withdrawn(counts(100, 15), counts(100, 5)), "better is not worse");
        assert_eq!(verdict(counts(100, 5), counts(100, 14), 0, true), Verdict::Promote);
        assert_eq!(verdict(counts(100, 5), counts(100, 14), 0, false), Verdict::GoesOn);
    }

    #[test]
    fn where_few_failures_are_expected_the_exact_test_decides() {
        // The hypergeometric distribution by hand: 50/500, and 50·49/(500·499).
        assert!((fishers_p((1, 50), (0, 450)) - 0.1).abs() < 1e-9);
        assert!((fishers_p((2, 50), (0, 450)) - 0.009_819_639).abs() < 1e-8);
        assert!((fishers_p((0, 50), (3, 450)) - 1.0).abs() < 1e-9);
        let judged = |new, old, is_over| verdict(counts(old, 0), counts(50, new), 0, is_over);
        assert_eq!(judged(1, 450, true), Verdict::Promote, "one failure is chance");
        assert_eq!(judged(2, 450, false), Verdict::GoesOn, "two are no certainty");
        assert!(matches!(judged(2, 450, true), Verdict::Withdraw(_)));
        assert!(matches!(judged(5, 450, false), Verdict::Withdraw(_)));
    }

    #[test]
    fn exchanges_without_a_reply_put_a_promotion_off() {
        assert_eq!(verdict(counts(500, 0), counts(50, 0), 40, true), Verdict::GoesOn);
        assert_eq!(verdict(counts(500, 0), counts(50, 0), 1, true), Verdict::Promote);
    }

    #[test]
    fn with_few_exchanges_the_window_goes_on() {
        assert_eq!(verdict(counts(1000, 0), counts(49, 49), 0, true), Verdict::GoesOn);
        assert_eq!(verdict(counts(49, 0), counts(1000, 0), 0, true), Verdict::GoesOn);
        assert_eq!(verdict(counts(50, 0), counts(50, 0), 0, true), Verdict::Promote);
    }

    #[test]
    fn before_the_end_only_what_leaves_no_doubt_counts() {
        assert_eq!(verdict(counts(100, 5), counts(100, 15), 0, false), Verdict::GoesOn);
        let Verdict::Withdraw(reason) = verdict(counts(450, 0), counts(50, 10), 0, false) else {
            panic!("it is clear")
        };
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
            assert!(matches!(verdict(counts(100, 0), new, 0, true), Verdict::Withdraw(_)));
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
