//! Counts an exchange once and logs it once, whatever happened to it.
//!
//! A [`Settle`] is made before anything can fail and travels with the exchange, into the reply's body at last; its drop
//! does the counting. So a client that vanishes, a worker that drops the connection, and a reply that ends well all
//! come here, exactly once.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::{HeaderValue, Method, StatusCode, Uri};
use serde::Serialize;

use crate::config::ProxyKey;
use crate::error::Failure;
use crate::exchange::worker::{Counted, RequestId, Worker, WorkerChannel};
use crate::meter::Usage;
use crate::stats::unix_time_s;

/// How an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    /// The reply was relayed to its end.
    Complete,
    /// The gateway answered with an error of its own.
    Failed,
    /// The client went away first.
    ClientGone,
    /// The reply broke off.
    UpstreamBroken,
}

/// One exchange's record, from its head to its end.
pub struct Settle {
    worker: Rc<Worker>,
    pub request_id: RequestId,
    started: Instant,
    method: Method,
    uri: Uri,
    /// The client's address.
    client: HeaderValue,
    is_websocket: bool,
    key: Option<Arc<ProxyKey>>,
    channel: Option<Rc<WorkerChannel>>,
    model: Option<String>,
    status: Option<StatusCode>,
    first_byte: Option<Instant>,
    bytes_out: u64,
    outcome: Outcome,
    failure: Option<Failure>,
    usage: Option<Usage>,
    /// The exchange's place among those in flight.
    place: Option<Counted>,
}

impl Settle {
    pub fn begin(worker: Rc<Worker>, method: Method, uri: Uri, client: HeaderValue) -> Self {
        Self {
            request_id: worker.next_request_id(),
            worker,
            started: Instant::now(),
            method,
            uri,
            client,
            is_websocket: false,
            key: None,
            channel: None,
            model: None,
            status: None,
            first_byte: None,
            bytes_out: 0,
            outcome: Outcome::ClientGone,
            failure: None,
            usage: None,
            place: None,
        }
    }

    pub fn place(&mut self, place: Counted) {
        self.place = Some(place);
    }

    pub fn key(&mut self, key: Arc<ProxyKey>) {
        self.key = Some(key);
    }

    /// The channel that serves, or that was the last to be asked.
    pub fn channel(&mut self, channel: Rc<WorkerChannel>) {
        self.channel = Some(channel);
    }

    pub fn model(&mut self, model: Option<String>) {
        self.model = model;
    }

    /// The client asks for a WebSocket.
    pub fn websocket(&mut self) {
        self.is_websocket = true;
    }

    /// The upstream's reply has begun.
    pub fn replied(&mut self, status: StatusCode) {
        self.status = Some(status);
        self.first_byte = Some(Instant::now());
    }

    /// The gateway answers itself, because of `failure`.
    pub fn failed(&mut self, failure: Failure) {
        self.status = Some(failure.status());
        self.outcome = Outcome::Failed;
        self.failure = Some(failure);
    }

    pub fn relayed(&mut self, bytes: usize) {
        self.bytes_out += bytes as u64;
    }

    pub fn complete(&mut self) {
        self.outcome = Outcome::Complete;
    }

    /// The reply broke off after its head had gone to the client.
    pub fn broke(&mut self, failure: Failure) {
        self.outcome = Outcome::UpstreamBroken;
        self.failure = Some(failure);
    }

    pub fn usage(&mut self, usage: Usage) {
        self.usage = Some(usage);
    }

    fn count(&self, duration_us: u64, ended: SystemTime) {
        let counters = &self.worker.counters;
        // The whole first: a reader must not see more parts than that.
        counters.exchanges.add(1);
        if self.is_websocket {
            counters.websocket_asked.add(1);
        }
        counters.duration_us.add(duration_us);
        counters.last_end_s.set(unix_time_s(ended));
        let below_400 = self.status.is_some_and(|status| status.as_u16() < 400);
        if self.outcome == Outcome::Complete && below_400 {
            counters.succeeded.add(1);
        }
        if let Some(channel) = &self.channel {
            channel.counters.exchanges.add(1);
        }
    }

    fn log(&self, duration_us: u64, ended: SystemTime) {
        if let Some(failure) = &self.failure
            && failure.cause.is_some()
        {
            tracing::warn!(request_id = &*self.request_id, code = failure.code(), "{failure}");
        }
        let Some(access_log) = &self.worker.access_log else { return };
        let plugin = self.channel.as_ref().and_then(|channel| channel.plugin.as_ref().ok());
        let line = Line {
            time: humantime::format_rfc3339_millis(ended),
            request_id: &self.request_id,
            client_address: self.client.to_str().unwrap_or_default(),
            method: self.method.as_str(),
            path: self.uri.path(),
            key_id: self.key.as_ref().map(|key| key.id.as_str()),
            channel: self.channel.as_ref().map(|channel| channel.channel.id.as_str()),
            plugin: plugin.map(|plugin| plugin.deployed.version.name.as_str()),
            plugin_version: plugin.map(|plugin| plugin.deployed.version.short_hash()),
            model: self.model.as_deref(),
            status: self.status.map(|status| status.as_u16()),
            outcome: self.outcome,
            error_code: self.failure.as_ref().map(Failure::code),
            error_origin: self.failure.as_ref().map(|failure| failure.kind.facts().origin.as_str()),
            duration_us,
            first_byte_us: self.first_byte.map(|at| micros(at - self.started)),
            bytes_out: self.bytes_out,
            usage: self.usage.as_ref().filter(|usage| !usage.totals.is_empty()).map(Totals),
            usage_is_partial: self.usage.as_ref().is_some_and(|usage| usage.is_partial),
        };
        access_log.append(|lines| {
            let start = lines.len();
            if serde_json::to_writer(&mut *lines, &line).is_err() {
                lines.truncate(start);
                return;
            }
            lines.push(b'\n');
        });
    }
}

impl Drop for Settle {
    fn drop(&mut self) {
        let duration_us = micros(self.started.elapsed());
        let ended = SystemTime::now();
        self.count(duration_us, ended);
        self.log(duration_us, ended);
    }
}

fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// One line of the access log. Never a query (it may carry credentials), a header or a key.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(serialize_with = "display")]
    time: humantime::Rfc3339Timestamp,
    request_id: &'a str,
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
    bytes_out: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Totals<'a>>,
    /// The reply's usage could not be read to its end.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    usage_is_partial: bool,
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
