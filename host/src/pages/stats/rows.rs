//! The window of `/stats`: figures as rows, and lines to draw.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

use crate::config::ProxyKey;
use crate::exchange::worker::Shared;
use crate::stats::{Figures, Filter, Group, Histogram, Names, Signals, Span, Step, Window};

/// What happened in a stretch of time.
#[derive(Serialize, JsonSchema)]
pub struct WindowShown {
    /// `1h`, `24h`, `7d` or `30d`.
    name: &'static str,
    from: u64,
    to: u64,
    step_seconds: u64,
    /// Only of this proxy key.
    key: Option<String>,
    /// Only of this channel.
    channel: Option<String>,
    totals: Row,
    /// Of the same length of time before.
    previous: Row,
    keys: Vec<KeyRow>,
    channels: Vec<ChannelRow>,
    models: Vec<ModelRow>,
    endpoints: Vec<EndpointRow>,
    transports: Vec<TransportRow>,
    status_classes: Vec<StatusClassRow>,
    outcomes: Vec<OutcomeRow>,
    series: Lines,
}

#[derive(Serialize, JsonSchema)]
struct KeyRow {
    /// The proxy key's public name, or `other`.
    id: String,
    description: Option<String>,
    /// False too where it is configured no more.
    active: bool,
    #[serde(flatten)]
    row: Row,
}

#[derive(Serialize, JsonSchema)]
struct ChannelRow {
    id: String,
    name: Option<String>,
    /// `active`, `disabled`, `unavailable`; null where it is configured no more.
    status: Option<&'static str>,
    signals: Option<SignalsShown>,
    #[serde(flatten)]
    row: Row,
}

/// How a channel is doing just now: averages over some ten seconds.
#[derive(Serialize, JsonSchema)]
struct SignalsShown {
    in_flight: usize,
    /// To the head of a reply; null before the first.
    latency_seconds: Option<f64>,
    /// From 0 to 1.
    error_rate: f64,
}

#[derive(Serialize, JsonSchema)]
struct ModelRow {
    model: String,
    #[serde(flatten)]
    row: Row,
}

#[derive(Serialize, JsonSchema)]
struct EndpointRow {
    /// Method and path, ids and models folded to `{id}` and `{model}`.
    endpoint: String,
    #[serde(flatten)]
    row: Row,
}

#[derive(Serialize, JsonSchema)]
struct TransportRow {
    /// `http` or `websocket`.
    transport: &'static str,
    #[serde(flatten)]
    row: Row,
}

#[derive(Serialize, JsonSchema)]
struct StatusClassRow {
    /// `1xx` (WebSockets that were opened) to `5xx`; `none` where there was no reply.
    status_class: &'static str,
    #[serde(flatten)]
    row: Row,
}

#[derive(Serialize, JsonSchema)]
struct OutcomeRow {
    /// `complete`, `failed`, `client_gone`, `upstream_broken` or `gateway_closed`.
    outcome: &'static str,
    #[serde(flatten)]
    row: Row,
}

/// Figures of some exchanges.
#[derive(Serialize, JsonSchema)]
struct Row {
    requests: u64,
    succeeded: u64,
    failed: u64,
    /// Per cent; null where there was none.
    success_rate: Option<f64>,
    /// Of bodies and messages, from clients.
    bytes_in: u64,
    bytes_out: u64,
    attempts: u64,
    /// From a request's head to its reply's last byte, or to a WebSocket's being open.
    latency_seconds: Option<Seconds>,
    /// From a request's head to the head of the upstream's reply.
    first_byte_seconds: Option<Seconds>,
    /// The gateway's own part: from the head to the sending upstream, without waiting for the client's body.
    gateway_seconds: Option<Seconds>,
    plugin_seconds_avg: Option<f64>,
    usage: UsageShown,
}

/// What exchanges used, by how well that is known. A part that is missing is in no sum.
#[derive(Serialize, JsonSchema)]
struct UsageShown {
    /// Read to the end.
    measured: UsedShown,
    /// The exchange ended early, or something could not be read: it may have been more.
    partial: UsedShown,
    /// The provider said nothing.
    missing: MissingShown,
}

#[derive(Serialize, JsonSchema)]
struct UsedShown {
    requests: u64,
    /// `input`, `output`, `cached-input`, `reasoning` are tokens; `characters`, `seconds`, `images`; `x-…` a plugin's own.
    amounts: BTreeMap<String, f64>,
}

#[derive(Serialize, JsonSchema)]
struct MissingShown {
    requests: u64,
}

/// A distribution of durations, to within 3 per cent.
#[derive(Serialize, JsonSchema)]
pub struct Seconds {
    avg: f64,
    p50: f64,
    p90: f64,
    p99: f64,
}

/// One value for each step.
#[derive(Serialize, JsonSchema)]
struct Lines {
    /// When each step begins.
    time: Vec<u64>,
    /// By outcome; those that occurred.
    requests: BTreeMap<&'static str, Vec<u64>>,
    latency_seconds: Percentiles,
    first_byte_seconds: Percentiles,
    /// Input and output together, by model: those with most, and `other`.
    tokens: BTreeMap<String, Vec<f64>>,
    /// The most at a time.
    websockets_open: Vec<u64>,
}

#[derive(Serialize, JsonSchema)]
struct Percentiles {
    p50: Vec<Option<f64>>,
    p90: Vec<Option<f64>>,
    p99: Vec<Option<f64>>,
}

impl WindowShown {
    pub fn new(window: &Window, span: Span, filter: &Filter, names: &Names, shared: &Shared) -> Self {
        let generation = shared.current.load();
        let keys: HashMap<_, &Arc<ProxyKey>> =
            generation.config.keys.by_digest.values().map(|key| (key.id.as_str(), key)).collect();
        let channels = generation.channels.keys().map(String::as_str);
        let row = |group: &Group| Row::new(group, names);
        Self {
            name: span.name,
            from: window.from,
            to: window.to,
            step_seconds: window.step_s,
            key: filter.key.clone(),
            channel: filter.channel.clone(),
            totals: row(&window.totals),
            previous: row(&window.previous),
            keys: largest(&with_idle(&window.keys, keys.keys().copied(), filter.key.as_deref()), |id, group| {
                let key = keys.get(id);
                let description = key.and_then(|key| key.description.clone());
                let active = key.is_some_and(|key| key.active);
                KeyRow { id: id.to_owned(), description, active, row: row(group) }
            }),
            channels: largest(&with_idle(&window.channels, channels, filter.channel.as_deref()), |id, group| {
                let state = generation.channels.get(id);
                ChannelRow {
                    id: id.to_owned(),
                    name: state.map(|state| state.channel.name.clone()),
                    status: state.map(crate::generation::ChannelState::status),
                    signals: state.map(|_| SignalsShown::new(&shared.stats.signals(id))),
                    row: row(group),
                }
            }),
            models: largest(&window.models, |model, group| ModelRow { model: model.to_owned(), row: row(group) }),
            endpoints: largest(&window.endpoints, |endpoint, group| EndpointRow {
                endpoint: endpoint.to_owned(),
                row: row(group),
            }),
            transports: each(&window.transports, |transport, group| TransportRow { transport, row: row(group) }),
            status_classes: each(&window.status_classes, |status_class, group| StatusClassRow {
                status_class,
                row: row(group),
            }),
            outcomes: each(&window.outcomes, |outcome, group| OutcomeRow { outcome, row: row(group) }),
            series: Lines::new(window),
        }
    }
}

/// With those that are configured and were not used.
fn with_idle<'a>(
    groups: &BTreeMap<Arc<str>, Group>,
    configured: impl Iterator<Item = &'a str>,
    only: Option<&str>,
) -> BTreeMap<Arc<str>, Group> {
    let mut all = groups.clone();
    for name in configured.filter(|name| only.is_none_or(|only| only == *name)) {
        all.entry(name.into()).or_default();
    }
    all
}

/// A row for each group, the largest first.
fn largest<R>(groups: &BTreeMap<Arc<str>, Group>, row: impl Fn(&str, &Group) -> R) -> Vec<R> {
    let mut groups: Vec<_> = groups.iter().collect();
    groups.sort_by_key(|(_, group)| std::cmp::Reverse(group.figures.exchanges));
    groups.into_iter().map(|(name, group)| row(name, group)).collect()
}

fn each<R>(groups: &BTreeMap<&'static str, Group>, row: impl Fn(&'static str, &Group) -> R) -> Vec<R> {
    groups.iter().map(|(name, group)| row(name, group)).collect()
}

impl SignalsShown {
    fn new(signals: &Signals) -> Self {
        Self {
            in_flight: signals.in_flight(),
            latency_seconds: signals.latency_seconds(),
            error_rate: (signals.error_rate() * 1e4).round() / 1e4,
        }
    }
}

impl Row {
    fn new(group: &Group, names: &Names) -> Self {
        let Group { figures, succeeded } = group;
        let Figures { exchanges, attempts, bytes_in, bytes_out, plugin_us, .. } = *figures;
        let used = |used: &crate::stats::Used| UsedShown {
            requests: used.exchanges,
            amounts: used.amounts.iter().map(|(id, amount)| (names.name(*id).to_owned(), *amount)).collect(),
        };
        Self {
            requests: exchanges,
            succeeded: *succeeded,
            failed: exchanges.saturating_sub(*succeeded),
            success_rate: percent(*succeeded, exchanges),
            bytes_in,
            bytes_out,
            attempts,
            latency_seconds: Seconds::of(&figures.duration),
            first_byte_seconds: Seconds::of(&figures.first_byte),
            gateway_seconds: Seconds::of(&figures.gateway),
            plugin_seconds_avg: (exchanges > 0).then(|| plugin_us as f64 / exchanges as f64 / 1e6),
            usage: UsageShown {
                measured: used(&figures.measured),
                partial: used(&figures.partial),
                missing: MissingShown { requests: figures.missing },
            },
        }
    }
}

impl Seconds {
    pub fn of(histogram: &Histogram) -> Option<Self> {
        Some(Self {
            avg: histogram.average()?,
            p50: histogram.quantile(0.5)?,
            p90: histogram.quantile(0.9)?,
            p99: histogram.quantile(0.99)?,
        })
    }
}

impl Lines {
    fn new(window: &Window) -> Self {
        let steps = &window.steps;
        let mut requests: BTreeMap<&'static str, Vec<u64>> = BTreeMap::new();
        let mut tokens: BTreeMap<String, Vec<f64>> =
            window.models_drawn.iter().map(|model| (model.to_string(), vec![0.0; steps.len()])).collect();
        for (at, step) in steps.iter().enumerate() {
            for (outcome, count) in &step.requests {
                requests.entry(outcome).or_insert_with(|| vec![0; steps.len()])[at] = *count;
            }
            for (model, amount) in &step.tokens {
                if let Some(line) = tokens.get_mut(&**model) {
                    line[at] = *amount;
                }
            }
        }
        Self {
            time: (0..steps.len() as u64).map(|at| window.from + at * window.step_s).collect(),
            requests,
            latency_seconds: Percentiles::new(steps, |step| &step.duration),
            first_byte_seconds: Percentiles::new(steps, |step| &step.first_byte),
            tokens,
            websockets_open: steps.iter().map(|step| step.sockets_max).collect(),
        }
    }
}

impl Percentiles {
    fn new(steps: &[Step], histogram: fn(&Step) -> &Histogram) -> Self {
        let line = |share: f64| steps.iter().map(|step| histogram(step).quantile(share)).collect();
        Self { p50: line(0.5), p90: line(0.9), p99: line(0.99) }
    }
}

/// To two decimals, and never more than 100; `None` of nothing.
pub fn percent(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| (part.min(whole) as f64 / whole as f64 * 10_000.0).round() / 100.0)
}
