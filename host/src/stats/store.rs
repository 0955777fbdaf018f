//! The aggregates in memory: three resolutions of history, and all there ever was. The statistics thread owns them.

use std::collections::{BTreeMap, HashMap, HashSet};

use std::time::{Duration, Instant};

use super::counters::SocketTotals;
use super::figures::{Figures, Names};
use super::level::{Change, Level, RESOLUTIONS};
use super::series::{Dictionary, Series, SeriesId};
use super::tally::Taken;

/// Often enough for series that went out of use to make room.
const FORGET_INTERVAL: Duration = Duration::from_hours(1);

/// Names of numbers that live on.
const SINCE: &str = "since";
const FOLDED: &str = "folded_requests";

#[derive(Debug)]
pub struct Store {
    pub dictionary: Dictionary,
    pub names: Names,
    /// In the order of [`RESOLUTIONS`].
    pub levels: [Level; 3],
    /// Since the first start.
    pub all: HashMap<SeriesId, Figures>,
    changed: HashSet<SeriesId>,
    /// Since this start, for counters that may begin anew.
    pub process: HashMap<SeriesId, Figures>,
    /// Exchanges whose series could not be told apart when they were counted.
    pub folded: u64,
    /// Exchanges whose series was folded when their minute, hour or day was over; by resolution, since this start.
    pub folded_later: [u64; 3],
    /// Unix time of the first start.
    pub since: u64,
    /// Single numbers that live on, by name: their values at this start.
    pub base: BTreeMap<String, u64>,
    forgotten_at: Instant,
}

/// What is to be written.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Changes {
    /// By resolution.
    pub buckets: [Vec<Change>; 3],
    pub all: Vec<(SeriesId, Figures)>,
    /// Every series that is named above.
    pub series: Vec<(SeriesId, Series)>,
}

impl Store {
    pub fn new(now: u64) -> Self {
        Self {
            dictionary: Dictionary::default(),
            names: Names::default(),
            levels: RESOLUTIONS.map(Level::new),
            all: HashMap::new(),
            changed: HashSet::new(),
            process: HashMap::new(),
            folded: 0,
            folded_later: [0; 3],
            since: now,
            base: BTreeMap::new(),
            forgotten_at: Instant::now(),
        }
    }

    /// Adds what a worker counted.
    pub fn add(&mut self, taken: &Taken) {
        let names: Vec<_> = taken.names.iter().map(|name| self.names.id(name)).collect();
        for (minute, series, figures) in taken.figures() {
            let (id, is_folded) = self.dictionary.id(series);
            if is_folded {
                self.folded += figures.exchanges;
            }
            let mut own = Figures::default();
            own.merge(figures, |name| names[usize::from(name)]);
            for level in &mut self.levels {
                level.add(minute, id, &own);
            }
            self.all.entry(id).or_default().merge(&own, |name| name);
            self.process.entry(id).or_default().merge(&own, |name| name);
            self.changed.insert(id);
        }
    }

    /// Adds all that another store holds.
    pub fn absorb(&mut self, other: &Self) {
        let names: Vec<_> = other.names.iter().map(|name| self.names.id(name)).collect();
        let ids: HashMap<SeriesId, SeriesId> =
            other.dictionary.iter().map(|(id, series)| (id, self.dictionary.id(series.clone()).0)).collect();
        let translated = |figures: &Figures| {
            let mut own = Figures::default();
            own.merge(figures, |name| names[usize::from(name)]);
            own
        };
        for (level, others) in self.levels.iter_mut().zip(&other.levels) {
            others.each(0, u64::MAX, |start, bucket| {
                level.sockets(start, bucket.sockets_max);
                for (id, figures) in &bucket.cells {
                    if let Some(id) = ids.get(id) {
                        level.add(start, *id, &translated(figures));
                    }
                }
            });
        }
        for (own, others) in [(&mut self.all, &other.all), (&mut self.process, &other.process)] {
            for (id, figures) in others {
                if let Some(id) = ids.get(id) {
                    own.entry(*id).or_default().merge(&translated(figures), |name| name);
                    self.changed.insert(*id);
                }
            }
        }
        self.go_on();
        self.since = self.since.min(other.since);
        self.folded += other.folded;
    }

    /// The numbers of before this start that live on, once they are read.
    pub fn go_on(&mut self) {
        self.since = self.base.get(SINCE).copied().unwrap_or(self.since);
        self.folded = self.base.get(FOLDED).copied().unwrap_or(0);
    }

    /// What [`Self::folded_later`] holds, by the resolutions' names.
    pub fn folded_later(&self) -> BTreeMap<&'static str, u64> {
        RESOLUTIONS.iter().map(|resolution| resolution.name).zip(self.folded_later).collect()
    }

    /// The numbers that live on: `totals`, and its own.
    pub fn counters(&self, totals: SocketTotals) -> BTreeMap<String, u64> {
        let mut counters = totals.with(&self.base).named();
        counters.insert(SINCE.to_owned(), self.since);
        counters.insert(FOLDED.to_owned(), self.folded);
        counters
    }

    pub fn sockets(&mut self, now: u64, count: u64) {
        for level in &mut self.levels {
            level.sockets(now, count);
        }
    }

    /// Packs what is past, drops what is too old, forgets series that are nowhere any more.
    pub fn settle(&mut self, now: u64) {
        for (level, folded) in self.levels.iter_mut().zip(&mut self.folded_later) {
            *folded += level.settle(now, &mut self.dictionary);
        }
        if self.forgotten_at.elapsed() >= FORGET_INTERVAL {
            self.forgotten_at = Instant::now();
            self.forget();
        }
    }

    /// The totals since the first start keep what the history has forgotten, under the `other` series.
    fn forget(&mut self) {
        let mut used: HashSet<SeriesId> = HashSet::new();
        for level in &self.levels {
            level.used(&mut used);
        }
        // What scrapers have seen must not shrink.
        used.extend(self.process.keys());
        let unused: Vec<_> = self.all.keys().copied().filter(|id| !used.contains(id)).collect();
        for id in unused {
            let other = self.dictionary.other_than(id);
            if other == id {
                continue;
            }
            let Some(gone) = self.all.remove(&id) else { continue };
            self.all.entry(other).or_default().merge(&gone, |name| name);
            // What is gone is written too, as nothing.
            self.changed.extend([id, other]);
        }
        used.extend(self.all.keys().chain(&self.changed));
        self.dictionary.retain(&used);
    }

    pub fn changes(&mut self) -> Changes {
        let mut buckets = [const { Vec::new() }; 3];
        for (level, changes) in self.levels.iter_mut().zip(&mut buckets) {
            *changes = level.changes();
        }
        let all: Vec<_> = self.changed.drain().map(|id| (id, self.all.get(&id).cloned().unwrap_or_default())).collect();
        let cells = buckets.iter().flatten().flat_map(|change| &change.cells);
        let ids: HashSet<_> = cells.chain(&all).map(|(id, _)| *id).collect();
        let series = ids.into_iter().filter_map(|id| Some((id, self.dictionary.get(id)?.clone()))).collect();
        Changes { buckets, all, series }
    }

    /// Those could not be written.
    pub fn unwritten(&mut self, changes: &Changes) {
        for (level, changes) in self.levels.iter_mut().zip(&changes.buckets) {
            for change in changes {
                level.unwritten(change.start);
            }
        }
        self.changed.extend(changes.all.iter().map(|(id, _)| *id));
    }

    /// Everything is to be written anew, into an empty file.
    pub fn all_unwritten(&mut self) {
        self.levels.iter_mut().for_each(Level::all_unwritten);
        self.changed.extend(self.all.keys());
    }
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        self.all.is_empty() && self.buckets.iter().all(Vec::is_empty)
    }
}
