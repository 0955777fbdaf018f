//! `/stats`: the fields of the OpenResty service that this gateway replaces, then what it did not have.
//!
//! The shape is these types: docs/stats.schema.json is made from them. Put together on the statistics thread, so that no
//! worker does it.

mod rows;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::Uri;
use percent_encoding::percent_decode_str;
use schemars::JsonSchema;
use serde::Serialize;

use crate::error::{Failure, Kind};
use crate::exchange::identify;
use crate::exchange::worker::Shared;
use crate::generation::{Counts, FileStatus, PluginStatus};
use crate::pages::process::Process;
use crate::stats::{
    Answerable, Event, Filter, LOSS_SECONDS_MAX, Persistence, PluginCalls, SERIES_MAX, SocketTotals, Span, Window,
};

use rows::{Seconds, WindowShown, percent};

/// Statistics of the gateway. Times are Unix seconds, durations seconds, sizes bytes, rates per cent.
#[derive(Serialize, JsonSchema)]
#[expect(clippy::struct_field_names, reason = "the fields' names are the replaced service's")]
pub struct Stats {
    service: &'static str,
    version: &'static str,
    /// Of this process; everything else up to `websockets` counts since the first start (`statistics.since`).
    uptime_seconds: u64,
    /// Exchanges that have ended.
    total_requests: u64,
    /// Of them, those whose reply was below 400 and was relayed to its end.
    successful_requests: u64,
    failed_requests: u64,
    /// Per cent of the exchanges that have ended.
    success_rate: f64,
    protocol_stats: ProtocolStats,
    /// By channel id.
    channel_stats: BTreeMap<String, ChannelStats>,
    /// From a request's head to its reply's last byte, or to a WebSocket's being open.
    avg_response_time: f64,
    /// Null before the first exchange.
    last_request_time: Option<u64>,
    /// Proxy keys that are configured.
    api_keys_count: usize,
    timestamp: u64,
    websockets: WebSockets,
    /// Which set of configuration and plugins serves; counts from 1 in each process.
    generation: u64,
    /// Exchanges that have begun and not ended.
    in_flight: usize,
    /// Client connections.
    connections: usize,
    plugins: Vec<PluginShown>,
    router: Option<RouterShown>,
    files: Vec<FileStatus>,
    window: WindowShown,
    statistics: StatisticsShown,
    process: Process,
    /// Newest first, at most 100.
    events: Vec<Event>,
}

#[derive(Serialize, JsonSchema)]
struct ProtocolStats {
    http_requests: u64,
    /// Handshakes asked for.
    websocket_requests: u64,
    /// Handshakes accepted.
    websocket_connections: u64,
    /// Per cent of the handshakes asked for.
    websocket_connection_rate: f64,
}

#[derive(Serialize, JsonSchema)]
struct ChannelStats {
    name: String,
    requests: u64,
    /// `active`, `disabled` or `unavailable`.
    status: &'static str,
    /// While a new version of its plugin serves a share of its exchanges.
    #[serde(skip_serializing_if = "Option::is_none")]
    trial: Option<TrialShown>,
}

/// Two versions of a plugin side by side, counted since the trial began.
#[derive(Serialize, JsonSchema)]
struct TrialShown {
    /// SHA-256 of the new one.
    version: String,
    /// Of the exchanges that the new one serves.
    percent: u32,
    old: Counts,
    new: Counts,
}

/// What chooses among the channels of a proxy key that has several.
#[derive(Serialize, JsonSchema)]
struct RouterShown {
    plugin: String,
    version: String,
    /// Exchanges of this process for which it failed, so that the built-in order held.
    fallbacks: u64,
}

/// Messages and their payload, `in` from clients and `out` to them.
#[derive(Serialize, JsonSchema)]
struct WebSockets {
    open: usize,
    messages_in: u64,
    messages_out: u64,
    bytes_in: u64,
    bytes_out: u64,
    /// How long those that have ended were open, on average.
    avg_duration: f64,
    /// Those that have ended, by close code (RFC 6455, section 7.4; 1005: none was given, 1006: nothing was said).
    closes: BTreeMap<u16, u64>,
}

/// A plugin, and its calls since this process began.
#[derive(Serialize, JsonSchema)]
struct PluginShown {
    #[serde(flatten)]
    status: PluginStatus,
    calls: u64,
    /// `ok`, `trap`, `deadline`, `memory`, `waited`, `invalid_answer`, `back_off`, `busy`; those that occurred.
    calls_by_outcome: BTreeMap<&'static str, u64>,
    call_seconds: Option<Seconds>,
    /// What the last call that failed said.
    last_failure: Option<String>,
}

/// How far the statistics can be relied on.
#[derive(Serialize, JsonSchema)]
struct StatisticsShown {
    /// Of the first start.
    since: u64,
    /// `ok`, `failing` (they go on in memory; why: `last_error`), or `off`.
    persistence: &'static str,
    last_error: Option<String>,
    last_write: Option<u64>,
    /// What a kill may cost.
    loss_seconds_max: u64,
    series: usize,
    series_max: usize,
    /// Requests that were counted under `other`, at least in part: beyond the bounds, or for a model or endpoint that never
    /// worked.
    folded_requests: u64,
    /// Requests of this process that went to `other` when their minute, hour or day was over, by resolution.
    folded_later: BTreeMap<&'static str, u64>,
    /// Lines of the request log that were lost.
    request_log_lost: u64,
}

/// What a query asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    span: Span,
    filter: Filter,
}

impl Query {
    /// Of `?window=`, `?key=` and `?channel=`; other parameters mean nothing.
    pub fn parse(uri: &Uri) -> Result<Self, Failure> {
        let mut query = Self::default();
        for (name, value) in identify::parameters(uri.query().unwrap_or_default()) {
            let value = value.replace('+', " ");
            let value = percent_decode_str(&value).decode_utf8_lossy().into_owned();
            match name {
                "window" => {
                    query.span = Span::parse(&value).ok_or_else(|| {
                        let names = Span::names().join(", ");
                        Failure::new(Kind::QueryInvalid, format!("`window` is one of {names}"))
                    })?;
                }
                "key" => query.filter.key = Some(value).filter(|value| !value.is_empty()),
                "channel" => query.filter.channel = Some(value).filter(|value| !value.is_empty()),
                _ => {}
            }
        }
        Ok(query)
    }
}

/// As JSON; the failure is for the client.
pub async fn json(shared: &Arc<Shared>, uri: &Uri) -> Result<String, Failure> {
    let query = Query::parse(uri)?;
    let asked = shared.asker.ask({
        let shared = shared.clone();
        move |from| serde_json::to_string(&Stats::new(&shared, from, &query)).expect("statistics are plain data")
    });
    asked.await.ok_or_else(|| Failure::new(Kind::StatisticsUnavailable, "the statistics cannot be put together"))
}

impl Stats {
    fn new(shared: &Shared, from: &Answerable<'_>, query: &Query) -> Self {
        let store = from.store;
        let all = Window::of_all(&store.all, store);
        let (total, succeeded) = (all.totals.figures.exchanges, all.totals.succeeded);
        let sockets = shared.stats.totals().with(&store.base);
        let websockets = all.transports.get("websocket").map_or(0, |group| group.figures.exchanges);
        let generation = shared.current.load();
        let loaded = shared.status.load();
        let channel_stats = generation.channels.iter().map(|(id, state)| {
            let requests = all.channels.get(&**id).map_or(0, |group| group.figures.exchanges);
            let (name, status) = (state.channel.name.clone(), state.status());
            let trial = state.trial.as_deref().map(|trial| TrialShown {
                version: trial.deployed.version.hash.clone(),
                percent: trial.percent,
                old: trial.old.read(),
                new: trial.new.read(),
            });
            (id.clone(), ChannelStats { name, requests, status, trial })
        });
        let window = Window::of(store, query.span, &query.filter, from.now);
        Self {
            service: "aiproxy-host",
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: shared.stats.uptime().as_secs(),
            total_requests: total,
            successful_requests: succeeded,
            failed_requests: total.saturating_sub(succeeded),
            success_rate: percent(succeeded, total).unwrap_or(0.0),
            protocol_stats: ProtocolStats {
                http_requests: total.saturating_sub(websockets),
                websocket_requests: sockets.asked,
                websocket_connections: sockets.accepted,
                websocket_connection_rate: percent(sockets.accepted, sockets.asked).unwrap_or(0.0),
            },
            channel_stats: channel_stats.collect(),
            avg_response_time: all.totals.figures.duration.average().unwrap_or(0.0),
            last_request_time: Some(sockets.last_end_s).filter(|time| *time > 0),
            api_keys_count: generation.config.keys.by_digest.len(),
            timestamp: from.now,
            websockets: WebSockets::new(shared, sockets),
            generation: generation.number,
            in_flight: shared.in_flight.load(Ordering::Relaxed),
            connections: shared.connections.load(Ordering::Relaxed),
            plugins: loaded.plugins.iter().map(|status| PluginShown::new(status, shared)).collect(),
            router: generation.router.as_ref().map(|router| RouterShown {
                plugin: router.version.name.clone(),
                version: router.version.hash.clone(),
                fallbacks: shared.stats.router_fallbacks.load(Ordering::Relaxed),
            }),
            files: loaded.files.clone(),
            window: WindowShown::new(&window, query.span, &query.filter, &store.names, shared),
            statistics: StatisticsShown::new(from),
            process: Process::read(),
            events: shared.stats.events.recent(),
        }
    }
}

impl WebSockets {
    fn new(shared: &Shared, totals: SocketTotals) -> Self {
        let ended: u64 = totals.closes.values().sum();
        Self {
            open: shared.stats.open_sockets.load(Ordering::Relaxed),
            messages_in: totals.messages_in,
            messages_out: totals.messages_out,
            bytes_in: totals.bytes_in,
            bytes_out: totals.bytes_out,
            avg_duration: if ended == 0 { 0.0 } else { totals.duration_us as f64 / ended as f64 / 1e6 },
            closes: totals.closes,
        }
    }
}

impl PluginShown {
    fn new(status: &PluginStatus, shared: &Shared) -> Self {
        let PluginCalls { by_outcome, duration, last_failure } = shared.stats.plugin_calls(&status.name);
        Self {
            status: status.clone(),
            calls: by_outcome.values().sum(),
            calls_by_outcome: by_outcome.iter().map(|(outcome, count)| (outcome.as_str(), *count)).collect(),
            call_seconds: Seconds::of(&duration),
            last_failure,
        }
    }
}

impl StatisticsShown {
    fn new(from: &Answerable<'_>) -> Self {
        let (persistence, last_error) = match from.persistence {
            Persistence::Off => ("off", None),
            Persistence::Ok => ("ok", None),
            Persistence::Failing(reason) => ("failing", Some(reason.clone())),
        };
        Self {
            since: from.store.since,
            persistence,
            last_error,
            last_write: from.last_write,
            loss_seconds_max: LOSS_SECONDS_MAX,
            series: from.store.dictionary.len(),
            series_max: SERIES_MAX,
            folded_requests: from.store.folded,
            folded_later: from.store.folded_later(),
            request_log_lost: from.requests_lost,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> serde_json::Value {
        let settings = schemars::generate::SchemaSettings::draft2020_12().for_serialize();
        let mut schema = settings.into_generator().into_root_schema_for::<Stats>();
        schema.insert("title".to_owned(), "aiproxy-host: GET /stats".into());
        schema.to_value()
    }

    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/stats.schema.json");

    /// `UPDATE=1 cargo test stats_schema` writes it anew.
    #[test]
    fn stats_schema_in_the_docs_is_that_of_the_types() {
        let made = format!("{:#}\n", schema());
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(FILE, &made).unwrap();
        }
        assert_eq!(std::fs::read_to_string(FILE).unwrap_or_default(), made);
    }

    #[test]
    fn a_query_names_a_window_a_key_and_a_channel() {
        let query = Query::parse(&"/stats?window=7d&key=a%20b&channel=&x=1".parse().unwrap()).unwrap();
        assert_eq!(query.span.name, "7d");
        assert_eq!(query.filter, Filter { key: Some("a b".to_owned()), channel: None });
        assert_eq!(Query::parse(&"/stats".parse().unwrap()).unwrap(), Query::default());
        let failure = Query::parse(&"/stats?window=2h".parse().unwrap()).unwrap_err();
        assert_eq!(failure.message, "`window` is one of 1h, 24h, 7d, 30d");
    }
}
