//! What one worker has counted since it was last asked.
//!
//! The worker adds under a lock that nobody else holds for longer than it takes to swap a pointer, so that counting an
//! exchange is one look into a small table; the statistics thread takes the whole table away every second, and whenever
//! somebody wants to see it. Exchanges are counted in the minute in which they ended.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use http::Method;

use super::endpoint;
use super::events::Level;
use super::figures::{Figures, Names, Outcome};
use super::series::{OTHER, Series, StatusClass, Transport};
use crate::meter::Usage;

/// Series that a worker tells apart until it is asked; beyond, models and endpoints are folded.
const SERIES_MAX: usize = 4096;
/// Longer names of models are cut.
const MODEL_BYTES_MAX: usize = 96;
/// Kinds of failures that are told apart until the worker is asked.
const INCIDENTS_MAX: usize = 64;
/// Lines of the request log that wait to be taken.
const REQUESTS_MAX: usize = 20_000;

type Table<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// What is known of an exchange's usage.
#[derive(Debug, Clone, Copy)]
pub enum Usages<'a> {
    /// There is nothing to be known: no meter was asked for, or the exchange failed before it cost anything.
    None,
    Measured(&'a Usage),
    /// It ended early, or something could not be read: it may have been more.
    Partial(Option<&'a Usage>),
    /// The reply ended well and said nothing.
    Missing,
}

impl Usages<'_> {
    pub fn label(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Measured(_) => Some("measured"),
            Self::Partial(_) => Some("partial"),
            Self::Missing => Some("missing"),
        }
    }
}

/// Why an exchange failed.
#[derive(Debug, Clone, Copy)]
pub struct Failed<'a> {
    pub code: &'a str,
    /// For people; without what only this one exchange says.
    pub message: &'a str,
    pub level: Level,
}

/// An exchange that has ended.
#[derive(Debug)]
pub struct Ended<'a> {
    pub at: SystemTime,
    pub request_id: &'a str,
    /// Id of the proxy key; empty where none was found.
    pub key: &'a str,
    pub channel: &'a str,
    pub model: &'a str,
    pub method: &'a Method,
    pub path: &'a str,
    pub transport: Transport,
    pub status: Option<u16>,
    pub outcome: Outcome,
    pub failure: Option<Failed<'a>>,
    pub attempts: u32,
    pub duration_us: u64,
    pub first_byte_us: Option<u64>,
    pub gateway_us: Option<u64>,
    pub plugin_us: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub usage: Usages<'a>,
}

/// A line of the request log.
#[derive(Debug, Clone, PartialEq)]
pub struct LoggedRequest {
    pub time_ms: u64,
    pub request_id: String,
    pub key: String,
    pub channel: String,
    pub model: String,
    pub endpoint: String,
    pub transport: Transport,
    pub status: Option<u16>,
    pub outcome: Outcome,
    pub error_code: Option<String>,
    pub attempts: u32,
    pub duration_us: u64,
    pub first_byte_us: Option<u64>,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Its label and amounts.
    pub usage: Option<(&'static str, Vec<(String, f64)>)>,
}

/// Failures of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incident {
    pub channel: String,
    pub code: String,
    pub message: String,
    pub level: Level,
    pub count: u64,
}

/// What was counted.
#[derive(Debug, Default)]
pub struct Taken {
    /// By the minute's beginning, Unix time in seconds; then by what [`key_of`] wrote.
    minutes: Vec<(u64, Table<Box<str>, Figures>)>,
    pub names: Names,
    pub incidents: Vec<Incident>,
    pub requests: Vec<LoggedRequest>,
    /// Lines for which there was no room.
    pub requests_dropped: u64,
}

#[derive(Debug, Default)]
struct State {
    taken: Taken,
    /// Reused for every exchange.
    key: String,
    logs_requests: bool,
}

#[derive(Debug, Default)]
pub struct Tally(Mutex<State>);

impl Tally {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether each exchange is kept as a line of its own too.
    pub fn log_requests(&self, is_on: bool) {
        self.lock().logs_requests = is_on;
    }

    pub fn count(&self, ended: &Ended<'_>) {
        let mut state = self.lock();
        let State { taken, key, logs_requests } = &mut *state;
        let second = super::unix_time_s(ended.at);
        let minute = second - second % 60;
        let at = taken.minutes.iter().rposition(|(known, _)| *known == minute).unwrap_or_else(|| {
            taken.minutes.push((minute, Table::default()));
            taken.minutes.len() - 1
        });
        let table = &mut taken.minutes[at].1;
        write_key(ended, false, key);
        if let Some(figures) = table.get_mut(key.as_str()) {
            ended.add_to(figures, &mut taken.names);
        } else {
            if table.len() >= SERIES_MAX {
                write_key(ended, true, key);
            }
            ended.add_to(table.entry(key.as_str().into()).or_default(), &mut taken.names);
        }
        if let Some(failed) = &ended.failure {
            taken.note(ended.channel, failed);
        }
        if *logs_requests {
            if taken.requests.len() < REQUESTS_MAX {
                taken.requests.push(ended.logged(key));
            } else {
                taken.requests_dropped += 1;
            }
        }
    }

    /// Everything since the last time.
    pub fn take(&self) -> Taken {
        let mut state = self.lock();
        let names = state.taken.names.clone();
        std::mem::replace(&mut state.taken, Taken { names, ..Taken::default() })
    }
}

impl Taken {
    fn note(&mut self, channel: &str, failed: &Failed<'_>) {
        let Failed { code, message, level } = *failed;
        let known = self.incidents.iter_mut().find(|known| known.code == code && known.channel == channel);
        if let Some(known) = known {
            known.count += 1;
        } else if self.incidents.len() < INCIDENTS_MAX {
            let (channel, code, message) = (channel.to_owned(), code.to_owned(), message.to_owned());
            self.incidents.push(Incident { channel, code, message, level, count: 1 });
        }
    }

    /// Minute, series and figures, whose amounts are named by [`Self::names`].
    pub fn figures(&self) -> impl Iterator<Item = (u64, Series, &Figures)> {
        self.minutes.iter().flat_map(|(minute, table)| {
            table.iter().filter_map(|(key, figures)| Some((*minute, read_key(key)?, figures)))
        })
    }
}

/// Parts that no text contains, since texts come without control characters.
const SEPARATOR: char = '\n';

fn write_key(ended: &Ended<'_>, folds: bool, key: &mut String) {
    key.clear();
    key.push_str(ended.key);
    key.push(SEPARATOR);
    key.push_str(ended.channel);
    key.push(SEPARATOR);
    if folds {
        key.extend([OTHER, "\n", OTHER]);
    } else {
        push_model(ended.model, key);
        key.push(SEPARATOR);
        endpoint::write(ended.method, ended.path, ended.model, key);
    }
    key.push(SEPARATOR);
    key.push_str(ended.transport.as_str());
    key.push(SEPARATOR);
    key.push_str(StatusClass::of(ended.status).as_str());
    key.push(SEPARATOR);
    key.push_str(ended.outcome.as_str());
}

/// A client's or plugin's word: cut to a bound, and without what could disturb a table or a terminal.
fn push_model(model: &str, key: &mut String) {
    let cut = model.floor_char_boundary(MODEL_BYTES_MAX);
    if model[..cut].bytes().all(|byte| byte.is_ascii_graphic()) {
        key.push_str(&model[..cut]);
    } else {
        key.extend(model[..cut].chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }));
    }
    if cut < model.len() {
        key.push('…');
    }
}

fn read_key(key: &str) -> Option<Series> {
    let mut parts = key.split(SEPARATOR);
    let mut name = || parts.next().map(Arc::from);
    let (key, channel, model, endpoint) = (name()?, name()?, name()?, name()?);
    let transport = Transport::parse(parts.next()?);
    let status_class = StatusClass::parse(parts.next()?);
    let outcome = Outcome::parse(parts.next()?)?;
    Some(Series { key, channel, model, endpoint, transport, status_class, outcome })
}

impl Ended<'_> {
    fn add_to(&self, figures: &mut Figures, names: &mut Names) {
        figures.exchanges += 1;
        figures.attempts += u64::from(self.attempts);
        figures.bytes_in += self.bytes_in;
        figures.bytes_out += self.bytes_out;
        figures.plugin_us += self.plugin_us;
        figures.duration.record(self.duration_us);
        if let Some(micros) = self.first_byte_us {
            figures.first_byte.record(micros);
        }
        if let Some(micros) = self.gateway_us {
            figures.gateway.record(micros);
        }
        let (used, usage) = match self.usage {
            Usages::None => return,
            Usages::Missing => {
                figures.missing += 1;
                return;
            }
            Usages::Measured(usage) => (&mut figures.measured, Some(usage)),
            Usages::Partial(usage) => (&mut figures.partial, usage),
        };
        used.exchanges += 1;
        for (name, amount) in usage.iter().flat_map(|usage| &usage.totals) {
            used.add(names.id(name), *amount);
        }
    }

    fn logged(&self, key: &str) -> LoggedRequest {
        let mut parts = key.split(SEPARATOR).map(str::to_owned);
        let mut part = || parts.next().unwrap_or_default();
        let (key, channel, model, endpoint) = (part(), part(), part(), part());
        let usage = match self.usage {
            Usages::Measured(usage) | Usages::Partial(Some(usage)) => Some(usage),
            _ => None,
        };
        let amounts = || usage.iter().flat_map(|usage| &usage.totals).map(|(name, amount)| (name.to_string(), *amount));
        LoggedRequest {
            time_ms: self.at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64),
            request_id: self.request_id.to_owned(),
            key,
            channel,
            model,
            endpoint,
            transport: self.transport,
            status: self.status,
            outcome: self.outcome,
            error_code: self.failure.map(|failed| failed.code.to_owned()),
            attempts: self.attempts,
            duration_us: self.duration_us,
            first_byte_us: self.first_byte_us,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            usage: self.usage.label().map(|label| (label, amounts().collect())),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;

    pub fn ended<'a>(model: &'a str, path: &'a str) -> Ended<'a> {
        Ended {
            at: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_059),
            request_id: "r",
            key: "k",
            channel: "c",
            model,
            method: &Method::POST,
            path,
            transport: Transport::Http,
            status: Some(200),
            outcome: Outcome::Complete,
            failure: None,
            attempts: 1,
            duration_us: 1000,
            first_byte_us: Some(500),
            gateway_us: Some(20),
            plugin_us: 3,
            bytes_in: 10,
            bytes_out: 100,
            usage: Usages::None,
        }
    }

    #[test]
    fn exchanges_of_a_minute_and_series_are_added_up_and_taken_once() {
        let tally = Tally::default();
        let usage = Usage { totals: vec![("input".into(), 7.0)], is_partial: false };
        tally.count(&Ended { usage: Usages::Measured(&usage), ..ended("m", "/v1/x") });
        tally.count(&Ended { usage: Usages::Partial(Some(&usage)), ..ended("m", "/v1/x") });
        let later = SystemTime::UNIX_EPOCH + Duration::from_mins(30_000_001);
        tally.count(&Ended { at: later, usage: Usages::Missing, ..ended("m", "/v1/x") });
        let taken = tally.take();
        let mut found: Vec<_> = taken.figures().collect();
        found.sort_by_key(|(minute, ..)| *minute);
        let [(first, series, figures), (second, _, more)] = &found[..] else { panic!("{found:?}") };
        assert_eq!((*first, *second), (1_800_000_000, 1_800_000_060));
        assert_eq!((&*series.model, &*series.endpoint), ("m", "POST /v1/x"));
        assert_eq!((figures.exchanges, figures.bytes_out, figures.duration.count()), (2, 200, 2));
        assert_eq!((figures.measured.amount(0), figures.partial.amount(0), more.missing), (7.0, 7.0, 1));
        assert_eq!(tally.take().figures().count(), 0);
    }

    #[test]
    fn a_table_that_is_full_folds_models_and_endpoints() {
        let tally = Tally::default();
        for number in 0..SERIES_MAX + 100 {
            tally.count(&ended(&number.to_string(), "/v1/x"));
        }
        let taken = tally.take();
        assert_eq!(taken.figures().count(), SERIES_MAX + 1);
        let (_, series, figures) = taken.figures().find(|(_, series, _)| &*series.model == OTHER).unwrap();
        assert_eq!((figures.exchanges, &*series.endpoint), (100, OTHER));
    }

    #[test]
    fn a_models_name_cannot_disturb_the_table() {
        let tally = Tally::default();
        tally.count(&ended("a\nb\u{1b}[31m", "/v1/x"));
        tally.count(&ended(&"é".repeat(100), "/v1/x"));
        let taken = tally.take();
        let mut models: Vec<_> = taken.figures().map(|(_, series, _)| series.model.to_string()).collect();
        models.sort();
        assert_eq!(models, ["a\u{fffd}b\u{fffd}[31m".to_owned(), format!("{}…", "é".repeat(48))]);
    }
}
