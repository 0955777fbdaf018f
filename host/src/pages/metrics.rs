//! `/metrics`: OpenMetrics text for Prometheus. Everything counts since this process began, as scrapers expect.
//!
//! Labels are bounded: they are names out of the configuration, and those that the statistics tell apart.

mod exposition;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use prometheus_client::registry::Unit;

use crate::error::{Failure, Kind};
use crate::exchange::worker::Shared;
use crate::generation::State;
use crate::pages::process::Process;
use crate::stats::{Answerable, Figures, Group, Histogram, Persistence, Series, Store, Used, unix_time_s};

use exposition::{Exposition, Labels, labels};

pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// As text; the failure is for the client.
pub async fn text(shared: &Arc<Shared>) -> Result<String, Failure> {
    let asked = shared.asker.ask({
        let shared = shared.clone();
        move |from| {
            let mut exposition = Exposition::default();
            let channels = grouped(from.store, |series| labels([("channel", known(&series.channel))]));
            exchanges(&mut exposition, from.store, &channels);
            usage(&mut exposition, from.store, &channels);
            now(&mut exposition, &shared);
            plugins(&mut exposition, &shared);
            generations(&mut exposition, &shared);
            statistics(&mut exposition, from);
            process(&mut exposition, &shared);
            exposition.text()
        }
    });
    asked.await.ok_or_else(|| Failure::new(Kind::StatisticsUnavailable, "the statistics cannot be put together"))
}

/// The label's value where nothing is known.
fn known(name: &str) -> &str {
    if name.is_empty() { "none" } else { name }
}

type Groups = BTreeMap<Labels, Group>;

/// Adds up what has equal labels.
fn grouped(store: &Store, labels_of: impl Fn(&Series) -> Labels) -> Groups {
    let mut groups = Groups::new();
    for (id, figures) in &store.process {
        if let Some(series) = store.dictionary.get(*id) {
            groups.entry(labels_of(series)).or_default().add(series, figures);
        }
    }
    groups
}

fn exchanges(exposition: &mut Exposition, store: &Store, channels: &Groups) {
    let requests =
        |groups: Groups| groups.into_iter().map(|(labels, group)| (labels, group.figures.exchanges as f64)).collect();
    let by_channel = grouped(store, |series| {
        labels([
            ("channel", known(&series.channel)),
            ("transport", series.transport.as_str()),
            ("status_class", series.status_class.as_str()),
            ("outcome", series.outcome.as_str()),
        ])
    });
    exposition.counter("requests", "Exchanges that have ended", None, requests(by_channel));
    let by_key =
        grouped(store, |series| labels([("proxy_key", known(&series.key)), ("outcome", series.outcome.as_str())]));
    exposition.counter("proxy_key_requests", "Exchanges by the proxy key's id", None, requests(by_key));
    let by_model =
        grouped(store, |series| labels([("model", known(&series.model)), ("outcome", series.outcome.as_str())]));
    exposition.counter("model_requests", "Exchanges by model", None, requests(by_model));
    let by_endpoint = grouped(store, |series| labels([("endpoint", known(&series.endpoint))]));
    exposition.counter("endpoint_requests", "Exchanges by method and path", None, requests(by_endpoint));

    let each = |value: fn(&Figures) -> u64| {
        channels.iter().map(|(labels, group)| (labels.clone(), value(&group.figures) as f64)).collect()
    };
    exposition.counter("upstream_attempts", "Tries to get a reply", None, each(|figures| figures.attempts));
    let bytes = Some(Unit::Bytes);
    exposition.counter("request_body", "From clients, bodies and messages", bytes.clone(), each(|it| it.bytes_in));
    exposition.counter("response_body", "To clients, bodies and messages", bytes, each(|it| it.bytes_out));
    let each = |value: fn(&Figures) -> &Histogram| {
        channels.iter().map(|(labels, group)| (labels.clone(), value(&group.figures).clone())).collect()
    };
    let what = "From a request's head to its reply's last byte, or to a WebSocket's being open";
    exposition.histogram("request_duration", what, 9..=28, each(|figures| &figures.duration));
    let what = "From a request's head to the head of the upstream's reply";
    exposition.histogram("first_byte", what, 9..=28, each(|figures| &figures.first_byte));
    let what = "The gateway's own part: from the head to the sending upstream, without waiting for the client's body";
    exposition.histogram("gateway_duration", what, 3..=20, each(|figures| &figures.gateway));
}

fn usage(exposition: &mut Exposition, store: &Store, channels: &Groups) {
    let groups =
        grouped(store, |series| labels([("channel", known(&series.channel)), ("model", known(&series.model))]));
    let (mut tokens, mut others) = (Vec::new(), Vec::new());
    for (labels, Group { figures, .. }) in &groups {
        for (state, used) in [("measured", &figures.measured), ("partial", &figures.partial)] {
            for (id, amount) in &used.amounts {
                let name = store.names.name(*id);
                let list = if DIRECTIONS.contains(&name) { &mut tokens } else { &mut others };
                let what = if DIRECTIONS.contains(&name) { "direction" } else { "unit" };
                list.push((labels.with([(what, name), ("state", state)]), *amount));
            }
        }
    }
    let what = "Tokens that providers reported; `cached-input` is a part of `input`, `reasoning` one of `output`";
    exposition.counter("tokens", what, None, tokens);
    exposition.counter("billed_units", "Characters, seconds, images and other amounts", None, others);
    let keys = grouped(store, |series| labels([("proxy_key", known(&series.key))]));
    let mut tokens = Vec::new();
    for (labels, Group { figures, .. }) in &keys {
        let mut all = Used::default();
        for (id, amount) in figures.measured.amounts.iter().chain(&figures.partial.amounts) {
            all.add(*id, *amount);
        }
        let of = |(id, amount): &(u8, f64)| Some((labels.with([("direction", store.names.name(*id))]), *amount));
        tokens.extend(all.amounts.iter().filter(|(id, _)| DIRECTIONS.contains(&store.names.name(*id))).filter_map(of));
    }
    exposition.counter("proxy_key_tokens", "Tokens by the proxy key's id, measured and partial", None, tokens);
    let states = channels.iter().flat_map(|(labels, Group { figures, .. })| {
        let counts = [
            ("measured", figures.measured.exchanges),
            ("partial", figures.partial.exchanges),
            ("missing", figures.missing),
        ];
        counts.map(|(state, count)| (labels.with([("state", state)]), count as f64))
    });
    exposition.counter("usage_requests", "Exchanges by how well their usage is known", None, states.collect());
}

/// Amounts that are tokens.
const DIRECTIONS: [&str; 4] = ["input", "output", "cached-input", "reasoning"];

/// What is so at this moment.
fn now(exposition: &mut Exposition, shared: &Shared) {
    let count = |count: usize| vec![(Labels::default(), count as f64)];
    let load = Ordering::Relaxed;
    exposition.gauge("requests_in_flight", "Exchanges that have not ended", None, count(shared.in_flight.load(load)));
    exposition.gauge("client_connections", "Open ones", None, count(shared.connections.load(load)));
    exposition.gauge("websockets_open", "Open ones", None, count(shared.stats.open_sockets.load(load)));
    let totals = shared.stats.totals();
    let both = |received: u64, sent: u64| {
        vec![(labels([("direction", "received")]), received as f64), (labels([("direction", "sent")]), sent as f64)]
    };
    let messages = both(totals.messages_in, totals.messages_out);
    exposition.counter("websocket_messages", "Messages, received from clients and sent to them", None, messages);
    let bytes = both(totals.bytes_in, totals.bytes_out);
    exposition.counter("websocket_message", "Their payload", Some(Unit::Bytes), bytes);
    let (mut in_flight, mut latency, mut errors, mut up) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (id, state) in &shared.current.load().channels {
        let (labels, signals) = (labels([("channel", id)]), shared.stats.signals(id));
        in_flight.push((labels.clone(), signals.in_flight() as f64));
        errors.push((labels.clone(), signals.error_rate()));
        latency.extend(signals.latency_seconds().map(|seconds| (labels.clone(), seconds)));
        up.push((labels, f64::from(u8::from(state.status() == "active"))));
    }
    exposition.gauge("channel_in_flight", "Exchanges of the channel that have not ended", None, in_flight);
    let what = "To the head of a reply, averaged over some ten seconds";
    exposition.gauge("channel_latency", what, Some(Unit::Seconds), latency);
    exposition.gauge("channel_errors", "Share that failed, over some ten seconds", Some(Unit::Ratios), errors);
    exposition.gauge("channel_up", "1 where the channel can serve", None, up);
}

fn plugins(exposition: &mut Exposition, shared: &Shared) {
    let (mut calls, mut durations, mut up) = (Vec::new(), Vec::new(), Vec::new());
    for plugin in &shared.status.load().plugins {
        let labels = labels([("plugin", &plugin.name)]);
        let found = shared.stats.plugin_calls(&plugin.name);
        calls.extend(
            found
                .by_outcome
                .iter()
                .map(|(outcome, count)| (labels.with([("outcome", outcome.as_str())]), *count as f64)),
        );
        durations.push((labels.clone(), found.duration));
        up.push((labels, f64::from(u8::from(plugin.state == State::Active))));
    }
    exposition.counter("plugin_calls", "Calls of `decide` by outcome", None, calls);
    exposition.histogram("plugin_call_duration", "Calls of `decide`", 0..=17, durations);
    exposition.gauge("plugin_up", "1 where the newest version serves", None, up);
    let fallbacks = shared.stats.router_fallbacks.load(Ordering::Relaxed) as f64;
    let what = "Exchanges for which the router failed, so that the built-in order held";
    exposition.counter("router_fallbacks", what, None, vec![(Labels::default(), fallbacks)]);
    trials(exposition, shared);
}

/// New versions that serve a share of a channel's exchanges, and the versions beside them.
fn trials(exposition: &mut Exposition, shared: &Shared) {
    let mut rows = Vec::new();
    for (id, state) in &shared.current.load().channels {
        let Some(trial) = &state.trial else { continue };
        for (version, counts) in [("old", trial.old.read()), ("new", trial.new.read())] {
            let of_channel = labels([("channel", id), ("version", version)]);
            let failed = counts.plugin_failures + counts.refusals + counts.upstream_errors;
            for (outcome, count) in [
                ("plugin_failure", counts.plugin_failures),
                ("refusal", counts.refusals),
                ("upstream_error", counts.upstream_errors),
                ("ok", counts.exchanges.saturating_sub(failed)),
            ] {
                rows.push((of_channel.with([("outcome", outcome)]), count as f64));
            }
        }
    }
    exposition.gauge("trial_exchanges", "Of a trial that is under way, since it began", None, rows);
}

fn generations(exposition: &mut Exposition, shared: &Shared) {
    let one = |value: f64| vec![(Labels::default(), value)];
    let number = shared.current.load().number as f64;
    exposition.gauge("generation", "Number of the configuration and plugins that serve", None, one(number));
    let alive = shared.generations_alive() as f64;
    exposition.gauge(
        "generations_alive",
        "Those that an exchange still runs on, and the current one",
        None,
        one(alive),
    );
    let (accepted, refused) = shared.stats.reloads.read();
    let results = [("accepted", accepted), ("refused", refused)];
    let results = results.map(|(result, count)| (labels([("result", result)]), count as f64)).into();
    exposition.counter("reloads", "Changed files and plugins, by whether they serve", None, results);
    let status = shared.status.load();
    let up = status
        .files
        .iter()
        .map(|file| (labels([("file", &file.name)]), f64::from(u8::from(file.state != State::Refused))));
    exposition.gauge("file_up", "1 where what is in the file serves", None, up.collect());
}

fn statistics(exposition: &mut Exposition, from: &Answerable<'_>) {
    let one = |value: f64| vec![(Labels::default(), value)];
    let is_up = f64::from(u8::from(!matches!(from.persistence, Persistence::Failing(_))));
    exposition.gauge("statistics_up", "0 where the statistics cannot be written", None, one(is_up));
    exposition.gauge("statistics_series", "Series told apart", None, one(from.store.dictionary.len() as f64));
    let what = "Exchanges counted under `other`, at least in part, since the first start";
    exposition.counter("statistics_folded_requests", what, None, one(from.store.folded as f64));
}

fn process(exposition: &mut Exposition, shared: &Shared) {
    exposition.info("build", "This program", labels([("version", env!("CARGO_PKG_VERSION"))]));
    let found = Process::read();
    let one = |value: Option<f64>| value.map(|value| (Labels::default(), value)).into_iter().collect();
    let whole = |value: Option<u64>| one(value.map(|value| value as f64));
    let started = unix_time_s(SystemTime::now()).saturating_sub(shared.stats.uptime().as_secs());
    // The names are every Prometheus client library's.
    exposition.process_counter("cpu", "User and system time", Some(Unit::Seconds), one(found.cpu_seconds));
    exposition.process_gauge("resident_memory", "Resident", Some(Unit::Bytes), whole(found.memory_bytes));
    exposition.process_gauge("open_fds", "Open file descriptors", None, whole(found.open_files));
    exposition.process_gauge("threads", "Threads", None, whole(found.threads));
    exposition.process_gauge("start_time", "Unix time of the start", Some(Unit::Seconds), one(Some(started as f64)));
}
