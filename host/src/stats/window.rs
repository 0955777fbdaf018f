//! A stretch of the history, added up: what `/stats` shows of an hour, a day, a week or a month.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::figures::{Figures, INPUT, OUTPUT};
use super::histogram::Histogram;
use super::level::{Level, RESOLUTIONS};
use super::series::{OTHER, Series, SeriesId};
use super::store::Store;

/// Models whose tokens are drawn over time.
const MODELS_DRAWN: usize = 8;

/// How far back, and in which steps it is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub name: &'static str,
    seconds: u64,
    /// Index of the resolution that it is read from.
    level: usize,
    pub step_s: u64,
    /// The same for the stretch before, which is further back.
    level_before: usize,
}

impl Span {
    const ALL: [Self; 4] = [
        Self { name: "1h", seconds: 3600, level: 0, step_s: 60, level_before: 0 },
        Self { name: "24h", seconds: 86_400, level: 0, step_s: 600, level_before: 1 },
        Self { name: "7d", seconds: 7 * 86_400, level: 1, step_s: 3600, level_before: 1 },
        Self { name: "30d", seconds: 30 * 86_400, level: 1, step_s: 4 * 3600, level_before: 2 },
    ];

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|span| span.name == name)
    }

    pub fn names() -> [&'static str; 4] {
        Self::ALL.map(|span| span.name)
    }
}

impl Default for Span {
    fn default() -> Self {
        Self::ALL[0]
    }
}

/// Which exchanges are looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    pub key: Option<String>,
    pub channel: Option<String>,
}

impl Filter {
    fn takes(&self, series: &Series) -> bool {
        self.key.as_deref().is_none_or(|key| key == &*series.key)
            && self.channel.as_deref().is_none_or(|channel| channel == &*series.channel)
    }
}

/// Figures, and how many of the exchanges succeeded.
#[derive(Debug, Default, Clone)]
pub struct Group {
    pub figures: Figures,
    pub succeeded: u64,
}

impl Group {
    pub fn add(&mut self, series: &Series, figures: &Figures) {
        self.figures.merge(figures, |name| name);
        if series.succeeded() {
            self.succeeded += figures.exchanges;
        }
    }
}

/// One step of the drawing.
#[derive(Debug, Default)]
pub struct Step {
    pub requests: BTreeMap<&'static str, u64>,
    pub duration: Histogram,
    pub first_byte: Histogram,
    /// Input and output together.
    pub tokens: HashMap<Arc<str>, f64>,
    pub sockets_max: u64,
}

#[derive(Debug)]
pub struct Window {
    pub from: u64,
    pub to: u64,
    pub step_s: u64,
    pub totals: Group,
    /// The same length of time before.
    pub previous: Group,
    pub keys: BTreeMap<Arc<str>, Group>,
    pub channels: BTreeMap<Arc<str>, Group>,
    pub models: BTreeMap<Arc<str>, Group>,
    pub endpoints: BTreeMap<Arc<str>, Group>,
    pub transports: BTreeMap<&'static str, Group>,
    pub status_classes: BTreeMap<&'static str, Group>,
    pub outcomes: BTreeMap<&'static str, Group>,
    /// From `from` on, one for each `step_s`.
    pub steps: Vec<Step>,
    /// Those with most tokens, and `other` where there are more.
    pub models_drawn: Vec<Arc<str>>,
}

impl Window {
    pub fn of(store: &Store, span: Span, filter: &Filter, now: u64) -> Self {
        let step_s = span.step_s;
        // The current step, which is not over, is the last one.
        let to = now - now % step_s + step_s;
        let from = to.saturating_sub(span.seconds);
        let mut window = Self::empty(from, now, step_s);
        window.steps.resize_with((span.seconds / step_s) as usize, Step::default);

        let mut by_series: HashMap<SeriesId, Figures> = HashMap::new();
        store.levels[span.level].each(from, to, |start, bucket| {
            let Some(step) = start.checked_sub(from).map(|since| (since / step_s) as usize) else { return };
            let Some(step) = window.steps.get_mut(step) else { return };
            step.sockets_max = step.sockets_max.max(bucket.sockets_max);
            for (id, figures) in &bucket.cells {
                let Some(series) = store.dictionary.get(*id).filter(|series| filter.takes(series)) else { continue };
                *step.requests.entry(series.outcome.as_str()).or_default() += figures.exchanges;
                step.duration.merge(&figures.duration);
                step.first_byte.merge(&figures.first_byte);
                let tokens = tokens(figures);
                if tokens > 0.0 {
                    *step.tokens.entry(series.model.clone()).or_default() += tokens;
                }
                by_series.entry(*id).or_default().merge(figures, |name| name);
            }
        });
        for (id, figures) in &by_series {
            if let Some(series) = store.dictionary.get(*id) {
                window.add(series, figures);
            }
        }
        let before = &store.levels[span.level_before];
        // In whole buckets, of which none reaches into this window.
        let end = from - from % before.resolution.step_s;
        window.previous = previous(store, before, filter, end.saturating_sub(span.seconds), end);
        window.draw_models();
        window
    }

    fn empty(from: u64, to: u64, step_s: u64) -> Self {
        Self {
            from,
            to,
            step_s,
            totals: Group::default(),
            previous: Group::default(),
            keys: BTreeMap::new(),
            channels: BTreeMap::new(),
            models: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            transports: BTreeMap::new(),
            status_classes: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            steps: Vec::new(),
            models_drawn: Vec::new(),
        }
    }

    /// All there ever was.
    pub fn of_all(figures: &HashMap<SeriesId, Figures>, store: &Store) -> Self {
        let mut window = Self::empty(store.since, store.since, RESOLUTIONS[0].step_s);
        for (id, figures) in figures {
            if let Some(series) = store.dictionary.get(*id) {
                window.add(series, figures);
            }
        }
        window
    }

    fn add(&mut self, series: &Series, figures: &Figures) {
        self.totals.add(series, figures);
        self.transports.entry(series.transport.as_str()).or_default().add(series, figures);
        self.status_classes.entry(series.status_class.as_str()).or_default().add(series, figures);
        self.outcomes.entry(series.outcome.as_str()).or_default().add(series, figures);
        let tables = [
            (&mut self.keys, &series.key),
            (&mut self.channels, &series.channel),
            (&mut self.models, &series.model),
            (&mut self.endpoints, &series.endpoint),
        ];
        for (table, name) in tables.into_iter().filter(|(_, name)| !name.is_empty()) {
            table.entry(name.clone()).or_default().add(series, figures);
        }
    }

    /// Leaves the models with most tokens, the others' being added up.
    fn draw_models(&mut self) {
        let mut sums: HashMap<Arc<str>, f64> = HashMap::new();
        for (model, tokens) in self.steps.iter().flat_map(|step| &step.tokens) {
            *sums.entry(model.clone()).or_default() += tokens;
        }
        let mut models: Vec<_> = sums.into_iter().filter(|(model, _)| **model != *OTHER).collect();
        models.sort_by(|(left_name, left), (right_name, right)| right.total_cmp(left).then(left_name.cmp(right_name)));
        models.truncate(MODELS_DRAWN);
        self.models_drawn = models.into_iter().map(|(model, _)| model).collect();
        let mut has_others = false;
        for step in &mut self.steps {
            let mut others = 0.0;
            step.tokens.retain(|model, tokens| {
                let is_drawn = self.models_drawn.contains(model);
                if !is_drawn {
                    others += *tokens;
                }
                is_drawn
            });
            if others > 0.0 {
                has_others = true;
                step.tokens.insert(OTHER.into(), others);
            }
        }
        if has_others {
            self.models_drawn.push(OTHER.into());
        }
    }
}

fn previous(store: &Store, level: &Level, filter: &Filter, from: u64, to: u64) -> Group {
    let mut by_series: HashMap<SeriesId, Figures> = HashMap::new();
    level.each(from, to, |_, bucket| {
        for (id, figures) in &bucket.cells {
            by_series.entry(*id).or_default().merge(figures, |name| name);
        }
    });
    let mut group = Group::default();
    for (id, figures) in &by_series {
        if let Some(series) = store.dictionary.get(*id).filter(|series| filter.takes(series)) {
            group.add(series, figures);
        }
    }
    group
}

pub fn tokens(figures: &Figures) -> f64 {
    [&figures.measured, &figures.partial].into_iter().map(|used| used.amount(INPUT) + used.amount(OUTPUT)).sum()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::meter::Usage;
    use crate::stats::Usages;
    use crate::stats::tally::tests::ended;
    use crate::stats::tally::{Ended, Tally};

    const NOW: u64 = 1_800_000_059;

    fn store(ended: &[Ended<'_>]) -> Store {
        let tally = Tally::default();
        for ended in ended {
            tally.count(ended);
        }
        let mut store = Store::new(NOW);
        store.add(&tally.take());
        store
    }

    fn ago(seconds: u64, model: &str) -> Ended<'_> {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW - seconds);
        Ended { at, ..ended(model, "/v1/x") }
    }

    #[test]
    fn a_window_holds_what_ended_in_it_and_the_stretch_before_beside_it() {
        let store = store(&[ago(0, "m"), ago(3000, "m"), ago(4000, "m"), ago(5000, "m"), ago(90_000, "m")]);
        let of = |name| {
            let window = Window::of(&store, Span::parse(name).unwrap(), &Filter::default(), NOW);
            (window.totals.figures.exchanges, window.previous.figures.exchanges, window.steps.len())
        };
        assert_eq!((of("1h"), of("24h"), of("7d"), of("30d")), ((2, 2, 60), (4, 1, 144), (5, 0, 168), (5, 0, 180)));
        let window = Window::of(&store, Span::default(), &Filter::default(), NOW);
        assert_eq!(window.steps[59].requests["complete"], 1);
        assert_eq!(window.models["m"].succeeded, 2);
    }

    #[test]
    fn a_filter_takes_what_is_of_a_key_and_channel() {
        let store =
            store(&[ago(0, "m"), Ended { key: "other-key", ..ago(0, "m") }, Ended { channel: "d", ..ago(0, "n") }]);
        let of = |key: Option<&str>, channel: Option<&str>| {
            let filter = Filter { key: key.map(str::to_owned), channel: channel.map(str::to_owned) };
            Window::of(&store, Span::default(), &filter, NOW).totals.figures.exchanges
        };
        assert_eq!((of(None, None), of(Some("k"), None), of(Some("k"), Some("d")), of(Some("x"), None)), (3, 2, 1, 0));
    }

    #[test]
    fn models_with_most_tokens_are_drawn_and_the_others_as_one() {
        let names: Vec<String> = (0..12).map(|number| format!("m{number:02}")).collect();
        let usages: Vec<_> = (0..12)
            .map(|number| Usage { totals: vec![("output".into(), f64::from(number + 1))], is_partial: false })
            .collect();
        let ended: Vec<_> = names
            .iter()
            .zip(&usages)
            .map(|(name, usage)| Ended { usage: Usages::Measured(usage), ..ago(0, name) })
            .collect();
        let window = Window::of(&store(&ended), Span::default(), &Filter::default(), NOW);
        assert_eq!((window.models_drawn.len(), &*window.models_drawn[0], &*window.models_drawn[8]), (9, "m11", OTHER));
        let sum: f64 = window.steps[59].tokens.values().sum();
        assert!((sum - 78.0).abs() < 1e-9, "{sum}");
        assert!((window.steps[59].tokens[OTHER] - 10.0).abs() < 1e-9);
    }
}
