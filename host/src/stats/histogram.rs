//! Durations as a histogram: how many were about so long, to within 3 per cent.
//!
//! Log-linear, as HdrHistogram's: exact to 63 µs, then 32 steps for each power of two. Only steps that occurred take
//! room, since there is a histogram for each series and minute, and most hold a handful of values.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Steps of a power of two, as a power of two.
const STEP_BITS: u32 = 5;
const STEPS: u64 = 1 << STEP_BITS;
/// Longer ones count as this long: 12 days.
const MICROS_MAX: u64 = (1 << 40) - 1;

/// Microseconds.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram {
    sum: u64,
    /// Step and count, in the order of the steps.
    steps: Vec<(u16, u64)>,
}

fn step(micros: u64) -> u16 {
    let micros = micros.min(MICROS_MAX);
    if micros < 2 * STEPS {
        return micros as u16;
    }
    let shift = micros.ilog2() - STEP_BITS;
    ((u64::from(shift) << STEP_BITS) + (micros >> shift)) as u16
}

/// The shortest duration in a step.
fn lower(step: u16) -> u64 {
    let step = u64::from(step);
    if step < 2 * STEPS {
        return step;
    }
    let shift = (step >> STEP_BITS) - 1;
    (step - (shift << STEP_BITS)) << shift
}

impl Histogram {
    pub fn record(&mut self, micros: u64) {
        self.sum = self.sum.saturating_add(micros);
        self.add(step(micros), 1);
    }

    pub fn merge(&mut self, other: &Self) {
        self.sum = self.sum.saturating_add(other.sum);
        if self.steps.is_empty() {
            self.steps.clone_from(&other.steps);
            return;
        }
        for (step, count) in &other.steps {
            self.add(*step, *count);
        }
    }

    fn add(&mut self, step: u16, count: u64) {
        match self.steps.binary_search_by_key(&step, |(step, _)| *step) {
            Ok(at) => self.steps[at].1 += count,
            Err(at) => self.steps.insert(at, (step, count)),
        }
    }

    pub fn count(&self) -> u64 {
        self.steps.iter().map(|(_, count)| count).sum()
    }

    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.sum)
    }

    /// Seconds; `None` without a value.
    pub fn average(&self) -> Option<f64> {
        let count = self.count();
        (count > 0).then(|| self.sum as f64 / count as f64 / 1e6)
    }

    /// Seconds: the middle of the step in which the value lies that so many of all do not exceed.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let count = self.count();
        #[expect(clippy::cast_sign_loss, reason = "a share is not negative")]
        let rank = ((share * count as f64).ceil() as u64).clamp(1, count.max(1));
        let mut seen = 0;
        let (step, _) = self.steps.iter().find(|(_, count)| {
            seen += count;
            seen >= rank
        })?;
        let (from, to) = (lower(*step), lower(step + 1));
        Some((from as f64 + (to - 1 - from) as f64 / 2.0) / 1e6)
    }

    /// How many were below this, which must be where a step begins: a power of two does.
    pub fn below(&self, micros: u64) -> u64 {
        self.steps.iter().take_while(|(step, _)| lower(*step) < micros).map(|(_, count)| count).sum()
    }

    /// The sum in microseconds, then each step's shortest duration with its count.
    pub fn parts(&self) -> (u64, impl Iterator<Item = (u64, u64)>) {
        (self.sum, self.steps.iter().map(|(step, count)| (lower(*step), *count)))
    }

    pub fn from_parts(sum: u64, steps: impl Iterator<Item = (u64, u64)>) -> Self {
        let mut histogram = Self { sum, steps: Vec::new() };
        for (micros, count) in steps {
            histogram.add(step(micros), count);
        }
        histogram
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn steps_follow_each_other_without_a_gap_and_powers_of_two_begin_one() {
        for number in 0..1100 {
            assert_eq!(step(lower(number)), number);
            assert_eq!(step(lower(number + 1) - 1), number, "the last of step {number}");
        }
        for power in 0..40 {
            assert_eq!(lower(step(1 << power)), 1 << power);
        }
        assert_eq!(step(u64::MAX), step(MICROS_MAX));
    }

    proptest! {
        #[test]
        fn quantiles_are_as_good_as_exact_ones(mut values in prop::collection::vec(0_u64..10_000_000_000, 1..200), share in 0.0_f64..1.0) {
            let mut histogram = Histogram::default();
            for value in &values {
                histogram.record(*value);
            }
            values.sort_unstable();
            #[expect(clippy::cast_sign_loss)]
            let rank = ((share * values.len() as f64).ceil() as usize).clamp(1, values.len());
            let exact = values[rank - 1] as f64 / 1e6;
            let found = histogram.quantile(share).unwrap();
            prop_assert!((found - exact).abs() <= exact / 32.0 + 1e-6, "{} is not {}", found, exact);
            prop_assert_eq!(histogram.count(), values.len() as u64);
        }

        #[test]
        fn merging_is_recording_both(one in prop::collection::vec(any::<u64>(), 0..50), other in prop::collection::vec(0_u64..1000, 0..50)) {
            let of = |values: &[u64]| {
                let mut histogram = Histogram::default();
                for value in values {
                    histogram.record(*value);
                }
                histogram
            };
            let mut merged = of(&one);
            merged.merge(&of(&other));
            prop_assert_eq!(&merged, &of(&[one, other].concat()));
            let (sum, steps) = merged.parts();
            let steps: Vec<_> = steps.collect();
            prop_assert_eq!(Histogram::from_parts(sum, steps.into_iter()), merged);
        }
    }
}
