//! Sets of meters, compiled once, and what they add up to.
//!
//! A value that is no number, negative or not finite is as good as absent. Ids come from strangers: their count and
//! length are bounded, and what is beyond is left out and flagged.

use std::collections::HashMap;
use std::sync::Arc;

use crate::json::{Kind, Pointer, PointerError, Query, Scanner};

/// The most ids that one meter tells apart in a reply.
const GROUPS_MAX: usize = 1024;
/// The longest id, and the longest spelling of a number, in bytes.
const CAPTURE_BYTES_MAX: usize = 256;

/// What a profile says of a quantity; pointers as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeterSpec {
    pub name: String,
    /// Per event, the first alternative with a pointer present counts; its values are added.
    pub alternatives: Vec<Vec<String>>,
    pub fold: Fold,
    /// Pointer to an id: fold within an id, then add the ids up.
    pub group: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fold {
    /// Cumulative values: the last counts.
    Last,
    /// Increments: they are added.
    Sum,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("meter `{meter}`, pointer `{pointer}`: {error}")]
pub struct MeterError {
    pub meter: String,
    pub pointer: String,
    pub error: PointerError,
}

/// A set of meters, ready for any number of replies.
#[derive(Debug)]
pub struct CompiledMeters {
    query: Arc<Query>,
    meters: Vec<Compiled>,
}

/// Pointers are numbers in the query.
#[derive(Debug)]
struct Compiled {
    name: Arc<str>,
    alternatives: Vec<Vec<usize>>,
    fold: Fold,
    group: Option<usize>,
}

impl CompiledMeters {
    pub fn compile(specs: &[MeterSpec]) -> Result<Self, MeterError> {
        let mut pointers = Vec::new();
        let mut meters = Vec::with_capacity(specs.len());
        for spec in specs {
            let mut number = |text: &String| {
                pointers.push(Pointer::parse(text).map_err(|error| MeterError {
                    meter: spec.name.clone(),
                    pointer: text.clone(),
                    error,
                })?);
                Ok(pointers.len() - 1)
            };
            let alternatives = spec.alternatives.iter().map(|texts| texts.iter().map(&mut number).collect());
            meters.push(Compiled {
                name: spec.name.as_str().into(),
                alternatives: alternatives.collect::<Result<_, _>>()?,
                fold: spec.fold,
                group: spec.group.as_ref().map(&mut number).transpose()?,
            });
        }
        Ok(Self { query: Arc::new(Query::new(&pointers, CAPTURE_BYTES_MAX)), meters })
    }

    pub(super) fn query(&self) -> &Arc<Query> {
        &self.query
    }
}

/// What a reply's meters came to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Usage {
    /// By name, in the set's order; only what occurred.
    pub totals: Vec<(Arc<str>, f64)>,
    /// Something could not be read or was beyond a bound, so that the totals may be too low.
    pub is_partial: bool,
}

/// A reply's meters on their way.
#[derive(Debug)]
pub(super) struct Totals {
    /// One for each meter.
    totals: Vec<Total>,
    /// Something was left out.
    pub is_partial: bool,
}

#[derive(Debug, Default)]
struct Total {
    /// Of the events without an id.
    value: Option<f64>,
    by_id: HashMap<Box<str>, f64>,
}

impl Totals {
    pub fn new(set: &CompiledMeters) -> Self {
        Self { totals: set.meters.iter().map(|_| Total::default()).collect(), is_partial: false }
    }

    /// Takes in the event that has just been read.
    pub fn count(&mut self, set: &CompiledMeters, scanner: &Scanner) {
        for (meter, total) in set.meters.iter().zip(&mut self.totals) {
            let Some(value) = meter.value(scanner) else { continue };
            // Without an id an event is in the group of those without one.
            match meter.group.and_then(|group| scanner.found(group)).filter(|id| id.kind != Kind::Null) {
                None => total.value = Some(meter.fold.fold(total.value, value)),
                Some(id) => match id.text() {
                    Some(id) if total.by_id.contains_key(&*id) => {
                        let known = total.by_id.get_mut(&*id).expect("it has just been looked up");
                        *known = meter.fold.fold(Some(*known), value);
                    }
                    Some(id) if total.by_id.len() < GROUPS_MAX => {
                        total.by_id.insert(id.into(), value);
                    }
                    _ => self.is_partial = true,
                },
            }
        }
    }

    pub fn into_usage(self, set: &CompiledMeters) -> Usage {
        let mut totals: Vec<(Arc<str>, f64)> = Vec::new();
        for (meter, total) in set.meters.iter().zip(&self.totals) {
            let Some(value) = total.value.into_iter().chain(total.by_id.values().copied()).reduce(add) else {
                continue;
            };
            // Meters of one name are one quantity, found in several ways.
            match totals.iter_mut().find(|(name, _)| *name == meter.name) {
                Some((_, sum)) => *sum = add(*sum, value),
                None => totals.push((Arc::clone(&meter.name), value)),
            }
        }
        Usage { totals, is_partial: self.is_partial }
    }
}

impl Compiled {
    fn value(&self, scanner: &Scanner) -> Option<f64> {
        let sum = |pointers: &Vec<usize>| pointers.iter().filter_map(|pointer| quantity(scanner, *pointer)).reduce(add);
        self.alternatives.iter().find_map(sum)
    }
}

impl Fold {
    fn fold(self, before: Option<f64>, value: f64) -> f64 {
        match (self, before) {
            (Self::Sum, Some(before)) => add(before, value),
            _ => value,
        }
    }
}

fn quantity(scanner: &Scanner, pointer: usize) -> Option<f64> {
    let found = scanner.found(pointer).filter(|found| found.kind == Kind::Number)?;
    let value: f64 = found.text()?.parse().ok()?;
    (value.is_finite() && value >= 0.0).then_some(value)
}

/// Stays finite.
fn add(a: f64, b: f64) -> f64 {
    (a + b).min(f64::MAX)
}
