//! `/stats`: the fields of the OpenResty service that this gateway replaces, then what it did not have.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::exchange::worker::Shared;
use crate::generation::{FileStatus, PluginStatus};
use crate::stats::unix_time_s;

#[derive(Serialize)]
#[expect(clippy::struct_field_names, reason = "the fields' names are the replaced service's")]
struct Stats<'a> {
    service: &'static str,
    version: &'static str,
    uptime_seconds: u64,
    total_requests: u64,
    successful_requests: u64,
    failed_requests: u64,
    /// Per cent of the exchanges that have ended.
    success_rate: f64,
    protocol_stats: ProtocolStats,
    websockets: WebSockets,
    channel_stats: Map<String, Value>,
    /// Seconds, from a request's head to its reply's last byte, or to a WebSocket's being open.
    avg_response_time: f64,
    /// Unix time in seconds; null before the first exchange.
    last_request_time: Option<u64>,
    api_keys_count: usize,
    /// Unix time in seconds.
    timestamp: u64,
    generation: u64,
    in_flight: usize,
    connections: usize,
    plugins: &'a [PluginStatus],
    files: &'a [FileStatus],
}

#[derive(Serialize)]
struct ProtocolStats {
    http_requests: u64,
    /// Handshakes asked for.
    websocket_requests: u64,
    /// Handshakes accepted.
    websocket_connections: u64,
    /// Per cent of the handshakes asked for.
    websocket_connection_rate: f64,
}

/// Messages and their payload, `in` from clients and `out` to them.
#[derive(Serialize)]
struct WebSockets {
    open: usize,
    messages_in: u64,
    messages_out: u64,
    bytes_in: u64,
    bytes_out: u64,
    /// How long those that have ended were open, on average; seconds.
    avg_duration: f64,
    /// Those that have ended, by close code (RFC 6455, section 7.4; 1005: none was given, 1006: nothing was said).
    closes: BTreeMap<u16, u64>,
}

pub fn json(shared: &Shared) -> String {
    let totals = shared.stats.totals();
    let generation = shared.current.load();
    let loaded = shared.status.load();
    let channel_stats = generation
        .channels
        .iter()
        .map(|(id, state)| {
            let requests = totals.exchanges_by_channel.get(id).copied().unwrap_or_default();
            (id.clone(), json!({"name": state.channel.name, "requests": requests, "status": state.status()}))
        })
        .collect();
    let stats = Stats {
        service: "aiproxy-host",
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: shared.stats.uptime().as_secs(),
        total_requests: totals.exchanges,
        successful_requests: totals.succeeded,
        failed_requests: totals.exchanges.saturating_sub(totals.succeeded),
        success_rate: percent(totals.succeeded, totals.exchanges),
        protocol_stats: ProtocolStats {
            http_requests: totals.exchanges.saturating_sub(totals.websocket_ended),
            websocket_requests: totals.websocket_asked,
            websocket_connections: totals.websocket_accepted,
            websocket_connection_rate: percent(totals.websocket_accepted, totals.websocket_asked),
        },
        websockets: WebSockets {
            open: shared.sockets.load(Ordering::Relaxed),
            messages_in: totals.messages_in,
            messages_out: totals.messages_out,
            bytes_in: totals.message_bytes_in,
            bytes_out: totals.message_bytes_out,
            avg_duration: average_s(totals.socket_duration_us, totals.closes.values().sum()),
            closes: totals.closes,
        },
        channel_stats,
        avg_response_time: average_s(totals.duration_us, totals.exchanges),
        last_request_time: (totals.last_end_s > 0).then_some(totals.last_end_s),
        api_keys_count: generation.config.keys.by_digest.len(),
        timestamp: unix_time_s(SystemTime::now()),
        generation: generation.number,
        in_flight: shared.in_flight.load(Ordering::Relaxed),
        connections: shared.connections.load(Ordering::Relaxed),
        plugins: &loaded.plugins,
        files: &loaded.files,
    };
    serde_json::to_string(&stats).expect("statistics are plain data")
}

fn average_s(sum_us: u64, count: u64) -> f64 {
    if count == 0 { 0.0 } else { sum_us as f64 / count as f64 / 1e6 }
}

/// 0 of 0 is 0, to two decimals, and never more than 100.
fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (part.min(whole) as f64 / whole as f64 * 10_000.0).round() / 100.0 }
}
