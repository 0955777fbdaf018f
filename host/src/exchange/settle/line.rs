//! One line of the access log.

use std::time::SystemTime;

use serde::Serialize;

use super::{Party, Served, Settle, Socket, micros};
use crate::error::Failure;
use crate::meter::Usage;
use crate::stats::Outcome;

/// One line of the access log. Never a query (it may carry credentials), a header (but a trace's id) or a key.
#[derive(Serialize)]
pub struct Line<'a> {
    #[serde(serialize_with = "display")]
    time: humantime::Rfc3339Timestamp,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<&'a str>,
    client_address: &'a str,
    method: &'a str,
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plugin: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plugin_version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    status: Option<u16>,
    outcome: Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_origin: Option<&'a str>,
    duration_us: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_byte_us: Option<u64>,
    /// The gateway's own part of the time, before the first attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway_us: Option<u64>,
    plugin_us: u64,
    attempts: u32,
    bytes_in: u64,
    bytes_out: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    transport: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    socket: Option<SocketLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Totals<'a>>,
    /// `measured`, `partial` or `missing`, where there is something to be known.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage_state: Option<&'static str>,
    /// The reply's usage could not be read to its end.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    usage_is_partial: bool,
}

impl<'a> Line<'a> {
    pub fn new(settle: &'a Settle, duration_us: u64, ended: SystemTime) -> Self {
        let plugin = settle.channel.as_ref().and_then(Served::plugin);
        Self {
            time: humantime::format_rfc3339_millis(ended),
            request_id: &settle.request_id,
            trace_id: settle.trace_id.as_deref(),
            client_address: settle.client.to_str().unwrap_or_default(),
            method: settle.method.as_str(),
            path: settle.uri.path(),
            key_id: settle.key.as_ref().map(|key| key.id.as_str()),
            channel: settle.channel.as_ref().map(Served::id),
            plugin: plugin.map(|(name, _)| name),
            plugin_version: plugin.map(|(_, hash)| hash),
            model: settle.model.as_deref(),
            status: settle.status.map(|status| status.as_u16()),
            outcome: settle.outcome,
            error_code: settle.failure.as_ref().map(Failure::code),
            error_origin: settle.failure.as_ref().map(|failure| failure.kind.facts().origin.as_str()),
            duration_us,
            first_byte_us: settle.first_byte.map(|at| micros(at - settle.started)),
            gateway_us: settle.gateway.map(micros),
            plugin_us: micros(settle.plugin),
            attempts: settle.attempts,
            bytes_in: settle.bytes_in(),
            bytes_out: settle.bytes_out,
            transport: settle.is_websocket.then_some("websocket"),
            socket: settle.socket.as_deref().map(SocketLine::new),
            usage: settle.usage.as_ref().filter(|usage| !usage.totals.is_empty()).map(Totals),
            usage_state: settle.usages().label(),
            usage_is_partial: settle.usage.as_ref().is_some_and(|usage| usage.is_partial),
        }
    }
}

/// Of a WebSocket that was open. A reason that came from a peer is not repeated: it may say anything.
#[derive(Serialize)]
struct SocketLine {
    opened_us: u64,
    messages_in: u64,
    messages_out: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    closed_by: Option<Party>,
    #[serde(skip_serializing_if = "Option::is_none")]
    close_code: Option<u16>,
    /// Why the gateway closed it, and on whose account.
    #[serde(skip_serializing_if = "Option::is_none")]
    close_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    close_origin: Option<&'static str>,
}

impl SocketLine {
    fn new(socket: &Socket) -> Self {
        let Socket { opened_us, messages_in, messages_out, closing, .. } = socket;
        let why = closing.as_ref().and_then(|closing| closing.why);
        Self {
            opened_us: *opened_us,
            messages_in: *messages_in,
            messages_out: *messages_out,
            closed_by: closing.as_ref().map(|closing| closing.by),
            close_code: closing.as_ref().map(|closing| closing.code),
            close_reason: why.map(|(_, reason)| reason),
            close_origin: why.map(|(origin, _)| origin),
        }
    }
}

/// Totals by name; whole numbers as such.
struct Totals<'a>(&'a Usage);

impl Serialize for Totals<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.totals.iter().map(|(name, total)| {
            // A meter counts no negative values, and up to 2^53 every whole number is exact.
            #[expect(clippy::cast_sign_loss, reason = "not negative")]
            let whole = (total.fract() == 0.0 && *total < 9e15).then_some(*total as u64);
            (&**name, whole.map_or_else(|| serde_json::Value::from(*total), serde_json::Value::from))
        }))
    }
}

fn display<S: serde::Serializer>(value: &impl std::fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}
