//! Which exchanges are counted together, and the bound on how many such series there are.
//!
//! A series is one combination of proxy key, channel, model, endpoint, transport, status class and outcome. Models and
//! paths come from clients: only an exchange that succeeded makes a new one known, so that a client which asks for what
//! does not exist fills nothing up. What is beyond a bound is counted under [`OTHER`], and how much that is, is said.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::figures::Outcome;

pub const OTHER: &str = "other";

/// Series that are told apart.
pub const SERIES_MAX: usize = 2000;
/// Models, endpoints, proxy keys and channels that are told apart.
const NAMES_MAX: usize = 400;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    Http,
    Websocket,
}

impl Transport {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Websocket => "websocket",
        }
    }

    pub fn parse(text: &str) -> Self {
        if text == "websocket" { Self::Websocket } else { Self::Http }
    }
}

/// The first digit of a status; none where there was no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StatusClass(u8);

impl StatusClass {
    const NAMES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

    pub fn of(status: Option<u16>) -> Self {
        Self(status.map(|status| status / 100).filter(|class| (1..=5).contains(class)).unwrap_or(0) as u8)
    }

    pub fn as_str(self) -> &'static str {
        Self::NAMES[usize::from(self.0)]
    }

    pub fn parse(text: &str) -> Self {
        Self(Self::NAMES.iter().position(|name| *name == text).unwrap_or(0) as u8)
    }

    pub fn is_error(self) -> bool {
        self.0 == 0 || self.0 > 3
    }
}

/// What is not known (a refused request has no model) is an empty text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Series {
    pub key: Arc<str>,
    pub channel: Arc<str>,
    pub model: Arc<str>,
    pub endpoint: Arc<str>,
    pub transport: Transport,
    pub status_class: StatusClass,
    pub outcome: Outcome,
}

impl Series {
    pub fn succeeded(&self) -> bool {
        self.outcome == Outcome::Complete && !self.status_class.is_error()
    }

    fn make_known(&self, names: &mut Names) {
        for (name, known) in [&self.key, &self.channel, &self.model, &self.endpoint].into_iter().zip(names) {
            known.insert(name.clone());
        }
    }
}

/// A series as a number, which is never another's.
pub type SeriesId = u32;

/// Of proxy keys, channels, models and endpoints.
type Names = [HashSet<Arc<str>>; 4];

/// The series that are known.
#[derive(Debug, Default)]
pub struct Dictionary {
    by_id: HashMap<SeriesId, Series>,
    ids: HashMap<Series, SeriesId>,
    /// Names in use, by kind.
    names: Names,
    next: SeriesId,
}

impl Dictionary {
    pub fn get(&self, id: SeriesId) -> Option<&Series> {
        self.by_id.get(&id)
    }

    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = (SeriesId, &Series)> {
        self.by_id.iter().map(|(id, series)| (*id, series))
    }

    /// The series' number, and whether something of it had to be folded.
    pub fn id(&mut self, mut series: Series) -> (SeriesId, bool) {
        if let Some(id) = self.ids.get(&series) {
            return (*id, false);
        }
        let may_be_new = [true, true, series.succeeded(), series.succeeded()];
        let mut is_folded = false;
        let names = [&mut series.key, &mut series.channel, &mut series.model, &mut series.endpoint];
        for ((name, known), may_be_new) in names.into_iter().zip(&mut self.names).zip(may_be_new) {
            if let Some(known) = known.get(name) {
                *name = known.clone();
            } else if (may_be_new && known.len() < NAMES_MAX) || name.is_empty() {
                known.insert(name.clone());
            } else {
                *name = OTHER.into();
                is_folded = true;
            }
        }
        // A last few are left for what everything else is folded into.
        if !self.ids.contains_key(&series) && self.by_id.len() >= SERIES_MAX {
            series = Self::folded(&series);
            is_folded = true;
        }
        if let Some(id) = self.ids.get(&series) {
            return (*id, is_folded);
        }
        let id = self.next;
        self.insert(id, series);
        (id, is_folded)
    }

    /// What all series of a transport, class and outcome are counted as where there is no room for one more.
    pub fn other_than(&mut self, id: SeriesId) -> SeriesId {
        let Some(series) = self.by_id.get(&id) else { return id };
        let folded = Self::folded(series);
        if let Some(id) = self.ids.get(&folded) {
            return *id;
        }
        let id = self.next;
        self.insert(id, folded);
        id
    }

    fn folded(series: &Series) -> Series {
        let other = || Arc::from(OTHER);
        let Series { transport, status_class, outcome, .. } = *series;
        Series { key: other(), channel: other(), model: other(), endpoint: other(), transport, status_class, outcome }
    }

    /// One that is known from before.
    pub fn insert(&mut self, id: SeriesId, series: Series) {
        series.make_known(&mut self.names);
        self.ids.insert(series.clone(), id);
        self.by_id.insert(id, series);
        self.next = self.next.max(id + 1);
    }

    /// Forgets all others.
    pub fn retain(&mut self, used: &HashSet<SeriesId>) {
        self.by_id.retain(|id, _| used.contains(id));
        self.ids.retain(|_, id| used.contains(id));
        self.names = Names::default();
        for series in self.by_id.values() {
            series.make_known(&mut self.names);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(model: &str, outcome: Outcome, status: u16) -> Series {
        Series {
            key: "k".into(),
            channel: "c".into(),
            model: model.into(),
            endpoint: "POST /x".into(),
            transport: Transport::Http,
            status_class: StatusClass::of(Some(status)),
            outcome,
        }
    }

    #[test]
    fn a_model_becomes_known_by_an_exchange_that_succeeded() {
        let mut dictionary = Dictionary::default();
        let (id, is_folded) = dictionary.id(series("nonsense", Outcome::Complete, 404));
        assert_eq!((&*dictionary.get(id).unwrap().model, is_folded), (OTHER, true));
        dictionary.id(series("real", Outcome::Complete, 200));
        let (id, is_folded) = dictionary.id(series("real", Outcome::Complete, 404));
        assert_eq!((&*dictionary.get(id).unwrap().model, is_folded), ("real", false));
    }

    #[test]
    fn there_are_never_more_series_than_the_bound_but_for_the_other_ones() {
        let mut dictionary = Dictionary::default();
        for key in 0..30 {
            for model in 0..300 {
                let series =
                    Series { key: key.to_string().into(), ..series(&model.to_string(), Outcome::Complete, 200) };
                dictionary.id(series);
            }
        }
        assert!(dictionary.len() <= SERIES_MAX + 60, "{}", dictionary.len());
        let (id, is_folded) = dictionary.id(Series { key: "late".into(), ..series("7", Outcome::Complete, 200) });
        assert_eq!((&*dictionary.get(id).unwrap().key, is_folded), (OTHER, true));
    }

    #[test]
    fn what_is_used_no_longer_makes_room_and_its_number_stays_its_own() {
        let mut dictionary = Dictionary::default();
        let (first, _) = dictionary.id(series("a", Outcome::Complete, 200));
        let (second, _) = dictionary.id(series("b", Outcome::Complete, 200));
        dictionary.retain(&HashSet::from([second]));
        assert!(dictionary.get(first).is_none());
        let (third, _) = dictionary.id(series("a", Outcome::Complete, 200));
        assert!(third > second);
        assert_eq!(dictionary.id(series("b", Outcome::Complete, 200)).0, second);
    }
}
