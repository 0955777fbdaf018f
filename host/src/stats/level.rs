//! One resolution of the history: a bucket for each minute, hour or day, for as long as it is kept.
//!
//! Most buckets are past and only read: they lie packed, at some 80 bytes a series. Those that still change lie open.
//! A bucket holds a bounded number of series when it is packed; the smallest are folded into the `other` ones.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::figures::Figures;
use super::series::{Dictionary, SeriesId};

/// The resolutions, from fine to coarse.
pub const RESOLUTIONS: [Resolution; 3] = [
    Resolution { name: "minute", step_s: 60, kept: 24 * 60 + 1, series_max: 128 },
    Resolution { name: "hour", step_s: 3600, kept: 31 * 24 + 1, series_max: 256 },
    Resolution { name: "day", step_s: 86_400, kept: 731, series_max: 512 },
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolution {
    pub name: &'static str,
    pub step_s: u64,
    /// Buckets, the current one included.
    pub kept: u64,
    /// Series in a bucket that is past.
    pub series_max: usize,
}

/// What a bucket holds.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Bucket {
    pub cells: HashMap<SeriesId, Figures>,
    /// The most WebSockets that were open at a time.
    pub sockets_max: u64,
}

#[derive(Debug, Default)]
struct Open {
    bucket: Bucket,
    /// Series that changed since they were last written.
    changed: HashSet<SeriesId>,
}

#[derive(Debug)]
struct Packed {
    cells: Box<[u8]>,
    sockets_max: u64,
}

/// What of a bucket is to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    pub start: u64,
    /// Whatever was written of it before goes.
    pub is_whole: bool,
    pub cells: Vec<(SeriesId, Figures)>,
    pub sockets_max: u64,
}

#[derive(Debug)]
pub struct Level {
    pub resolution: Resolution,
    open: BTreeMap<u64, Open>,
    packed: BTreeMap<u64, Packed>,
    /// Open buckets of which something changed.
    touched: BTreeSet<u64>,
    /// Buckets that are to be written anew as a whole.
    rewritten: BTreeSet<u64>,
}

impl Level {
    pub fn new(resolution: Resolution) -> Self {
        Self {
            resolution,
            open: BTreeMap::new(),
            packed: BTreeMap::new(),
            touched: BTreeSet::new(),
            rewritten: BTreeSet::new(),
        }
    }

    fn start_of(&self, second: u64) -> u64 {
        second - second % self.resolution.step_s
    }

    /// The beginning of the oldest bucket that is kept.
    fn oldest(&self, now: u64) -> u64 {
        self.start_of(now).saturating_sub((self.resolution.kept - 1) * self.resolution.step_s)
    }

    /// The open bucket of a time; one that was packed (a clock was set back) is opened again.
    fn opened(&mut self, second: u64) -> (u64, &mut Open) {
        let start = self.start_of(second);
        if let Some(packed) = self.packed.remove(&start) {
            self.open.insert(start, Open { bucket: packed.bucket(), changed: HashSet::new() });
        }
        self.touched.insert(start);
        (start, self.open.entry(start).or_default())
    }

    pub fn add(&mut self, second: u64, id: SeriesId, figures: &Figures) {
        let (_, open) = self.opened(second);
        open.bucket.cells.entry(id).or_default().merge(figures, |name| name);
        open.changed.insert(id);
    }

    pub fn sockets(&mut self, second: u64, count: u64) {
        let start = self.start_of(second);
        let open = self.open.get(&start).map(|open| open.bucket.sockets_max);
        let known = open.or_else(|| self.packed.get(&start).map(|packed| packed.sockets_max));
        // An idle gateway's buckets stay empty.
        if known.unwrap_or(0) < count {
            self.opened(second).1.bucket.sockets_max = count;
        }
    }

    /// Puts back what was kept from before.
    pub fn restore(&mut self, start: u64, bucket: &Bucket) {
        self.packed.insert(start, Packed::of(bucket));
    }

    /// Packs what is past, and drops what is too old. Gives how many exchanges were folded.
    pub fn settle(&mut self, now: u64, dictionary: &mut Dictionary) -> u64 {
        let (current, oldest) = (self.start_of(now), self.oldest(now));
        let mut folded = 0;
        // Not the one just past: what ended in its last moment may still be on its way.
        let past: Vec<u64> = self.open.keys().copied().filter(|start| start + 60 < current).collect();
        for start in past {
            let Some(Open { mut bucket, .. }) = self.open.remove(&start) else { continue };
            if bucket.cells.len() > self.resolution.series_max {
                folded += fold(&mut bucket, self.resolution.series_max, dictionary);
                self.rewritten.insert(start);
            } else if self.touched.contains(&start) {
                self.rewritten.insert(start);
            }
            self.touched.remove(&start);
            self.packed.insert(start, Packed::of(&bucket));
        }
        self.packed = self.packed.split_off(&oldest);
        self.rewritten = self.rewritten.split_off(&oldest);
        folded
    }

    /// The buckets that overlap a time, and when each begins.
    pub fn each(&self, from: u64, to: u64, mut visit: impl FnMut(u64, &Bucket)) {
        let from = self.start_of(from);
        for (start, packed) in self.packed.range(from..to) {
            visit(*start, &packed.bucket());
        }
        for (start, open) in self.open.range(from..to) {
            visit(*start, &open.bucket);
        }
    }

    pub fn used(&self, used: &mut HashSet<SeriesId>) {
        self.each(0, u64::MAX, |_, bucket| used.extend(bucket.cells.keys()));
    }

    /// What has changed since the last time; it counts as written until [`Self::unwritten`] says otherwise.
    pub fn changes(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        for start in std::mem::take(&mut self.rewritten) {
            let bucket = match (self.packed.get(&start), self.open.get_mut(&start)) {
                (Some(packed), _) => packed.bucket(),
                (None, Some(open)) => {
                    open.changed.clear();
                    open.bucket.clone()
                }
                (None, None) => continue,
            };
            self.touched.remove(&start);
            let sockets_max = bucket.sockets_max;
            changes.push(Change { start, is_whole: true, cells: bucket.cells.into_iter().collect(), sockets_max });
        }
        for start in std::mem::take(&mut self.touched) {
            let Some(open) = self.open.get_mut(&start) else { continue };
            let cells = open.changed.drain().filter_map(|id| Some((id, open.bucket.cells.get(&id)?.clone()))).collect();
            changes.push(Change { start, is_whole: false, cells, sockets_max: open.bucket.sockets_max });
        }
        changes
    }

    pub fn unwritten(&mut self, start: u64) {
        self.rewritten.insert(start);
    }

    /// Everything is to be written anew.
    pub fn all_unwritten(&mut self) {
        self.rewritten.extend(self.packed.keys().chain(self.open.keys()));
    }
}

impl Packed {
    fn of(bucket: &Bucket) -> Self {
        let mut cells: Vec<_> = bucket.cells.iter().collect();
        cells.sort_unstable_by_key(|(id, _)| **id);
        let cells = postcard::to_allocvec(&cells).expect("figures are plain data").into();
        Self { cells, sockets_max: bucket.sockets_max }
    }

    fn bucket(&self) -> Bucket {
        let cells: Vec<(SeriesId, Figures)> = postcard::from_bytes(&self.cells).expect("they were packed here");
        Bucket { cells: cells.into_iter().collect(), sockets_max: self.sockets_max }
    }
}

/// Leaves the largest series, and adds up the others.
fn fold(bucket: &mut Bucket, series_max: usize, dictionary: &mut Dictionary) -> u64 {
    let mut ids: Vec<_> = bucket.cells.iter().map(|(id, figures)| (figures.exchanges, *id)).collect();
    ids.sort_unstable();
    let mut folded = 0;
    for (exchanges, id) in ids.iter().take(ids.len().saturating_sub(series_max)) {
        let Some(figures) = bucket.cells.remove(id) else { continue };
        let other = dictionary.other_than(*id);
        folded += if other == *id { 0 } else { *exchanges };
        bucket.cells.entry(other).or_default().merge(&figures, |name| name);
    }
    folded
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::stats::figures::Outcome;
    use crate::stats::series::{OTHER, Series, StatusClass, Transport};

    const NOW: u64 = 1_800_000_000;

    fn figures(exchanges: u64) -> Figures {
        Figures { exchanges, ..Figures::default() }
    }

    fn known(dictionary: &mut Dictionary, model: usize) -> SeriesId {
        let series = Series {
            key: "k".into(),
            channel: "c".into(),
            model: Arc::from(model.to_string()),
            endpoint: "POST /x".into(),
            transport: Transport::Http,
            status_class: StatusClass::of(Some(200)),
            outcome: Outcome::Complete,
        };
        dictionary.id(series).0
    }

    fn total(level: &Level) -> u64 {
        let mut sum = 0;
        level.each(0, u64::MAX, |_, bucket| sum += bucket.cells.values().map(|figures| figures.exchanges).sum::<u64>());
        sum
    }

    #[test]
    fn a_bucket_that_is_past_is_packed_and_still_there_and_too_old_ones_go() {
        let mut level = Level::new(RESOLUTIONS[0]);
        let mut dictionary = Dictionary::default();
        let id = known(&mut dictionary, 0);
        level.add(NOW, id, &figures(2));
        level.sockets(NOW, 5);
        level.settle(NOW + 300, &mut dictionary);
        assert!(level.open.is_empty() && !level.packed.is_empty());
        level.each(NOW, NOW + 60, |start, bucket| {
            assert_eq!((start, bucket.sockets_max, &bucket.cells[&id]), (NOW, 5, &figures(2)));
        });
        // A restart, and fewer sockets than before.
        level.sockets(NOW + 1, 2);
        level.each(NOW, NOW + 60, |_, bucket| assert_eq!(bucket.sockets_max, 5));
        // A clock that was set back.
        level.add(NOW, id, &figures(1));
        level.settle(NOW + 300, &mut dictionary);
        assert_eq!(total(&level), 3);
        level.settle(NOW + 86_400, &mut dictionary);
        assert_eq!(total(&level), 3);
        level.settle(NOW + 86_460, &mut dictionary);
        assert_eq!(total(&level), 0);
    }

    #[test]
    fn a_past_bucket_keeps_its_largest_series_and_loses_no_exchange() {
        let mut level = Level::new(Resolution { series_max: 3, ..RESOLUTIONS[0] });
        let mut dictionary = Dictionary::default();
        for model in 0..10 {
            let id = known(&mut dictionary, model);
            level.add(NOW, id, &figures(model as u64 + 1));
        }
        assert_eq!(level.settle(NOW + 300, &mut dictionary), (1..=7).sum::<u64>());
        assert_eq!(total(&level), (1..=10).sum::<u64>());
        level.each(0, u64::MAX, |_, bucket| {
            let other = bucket.cells.keys().filter(|id| &*dictionary.get(**id).unwrap().model == OTHER).count();
            assert_eq!((bucket.cells.len(), other), (4, 1));
        });
    }

    #[test]
    fn changes_are_told_once_and_again_where_they_were_not_written() {
        let mut level = Level::new(RESOLUTIONS[0]);
        let mut dictionary = Dictionary::default();
        let (a, b) = (known(&mut dictionary, 1), known(&mut dictionary, 2));
        level.add(NOW, a, &figures(1));
        level.add(NOW, b, &figures(1));
        let changes = level.changes();
        assert_eq!((changes.len(), changes[0].cells.len(), changes[0].is_whole), (1, 2, false));
        level.add(NOW, a, &figures(1));
        assert_eq!(level.changes()[0].cells, [(a, figures(2))]);
        assert_eq!(level.changes(), []);
        level.unwritten(NOW);
        let changes = level.changes();
        assert_eq!((changes[0].cells.len(), changes[0].is_whole), (2, true));
        // Packed before it was written.
        level.add(NOW, b, &figures(1));
        level.settle(NOW + 300, &mut dictionary);
        let changes = level.changes();
        assert_eq!((changes[0].cells.len(), changes[0].is_whole), (2, true));
    }
}
