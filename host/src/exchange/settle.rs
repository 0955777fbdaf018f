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
    /// The gateway ended a WebSocket.
    GatewayClosed,
}

/// Who ended a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Party {
    Client,
    Upstream,
    Gateway,
}

/// How a WebSocket ended.
#[derive(Debug)]
pub struct Closing {
    pub by: Party,
    /// As it was said first; 1005 where none was given, 1006 where nothing was said (RFC 6455, section 7.4.1).
    pub code: u16,
    /// The gateway's reason: on whose account, and what.
    pub why: Option<(&'static str, &'static str)>,
    /// One side said goodbye.
    pub is_orderly: bool,
}

/// A WebSocket's part of the record.
struct Socket {
    /// Its place among the open ones.
    _open: Option<Counted>,
    opened_us: u64,
    messages_in: u64,
    messages_out: u64,
    bytes_in: u64,
    closing: Option<Closing>,
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
    /// Once it is open.
    socket: Option<Box<Socket>>,
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
            socket: None,
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

    pub fn channel_id(&self) -> &str {
        self.channel.as_ref().map_or("", |channel| channel.channel.id.as_str())
    }

    /// The client asks for a WebSocket.
    pub fn websocket(&mut self) {
        self.is_websocket = true;
        self.worker.counters.websocket_asked.add(1);
    }

    /// The WebSocket is open.
    pub fn opened(&mut self) {
        self.worker.counters.websocket_accepted.add(1);
        self.socket = Some(Box::new(Socket {
            _open: Counted::new(&self.worker.shared, |shared| &shared.sockets, usize::MAX),
            opened_us: micros(self.started.elapsed()),
            messages_in: 0,
            messages_out: 0,
            bytes_in: 0,
            closing: None,
        }));
    }

    /// A WebSocket is open, and not over.
    pub fn is_open(&self) -> bool {
        self.socket.as_ref().is_some_and(|socket| socket.closing.is_none())
    }

    /// A message of the client's has passed.
    pub fn message_in(&mut self, bytes: usize) {
        let counters = &self.worker.counters;
        counters.messages_in.add(1);
        counters.message_bytes_in.add(bytes as u64);
        if let Some(socket) = &mut self.socket {
            socket.messages_in += 1;
            socket.bytes_in += bytes as u64;
        }
    }

    /// A message of the upstream's has passed.
    pub fn message_out(&mut self, bytes: usize) {
        let counters = &self.worker.counters;
        counters.messages_out.add(1);
        counters.message_bytes_out.add(bytes as u64);
        self.bytes_out += bytes as u64;
        if let Some(socket) = &mut self.socket {
            socket.messages_out += 1;
        }
    }

    /// The WebSocket is over.
    pub fn closed(&mut self, closing: Closing) {
        self.outcome = match closing.by {
            _ if closing.is_orderly => Outcome::Complete,
            Party::Client => Outcome::ClientGone,
            Party::Upstream => Outcome::UpstreamBroken,
            Party::Gateway => Outcome::GatewayClosed,
        };
        self.worker.counters.closed(closing.code);
        if let Some(socket) = &mut self.socket {
            socket.closing = Some(closing);
        }
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
            counters.websocket_ended.add(1);
        }
        // What a socket answers is its handshake; how long it then lives says nothing of that.
        match &self.socket {
            Some(socket) => {
                counters.duration_us.add(socket.opened_us);
                counters.socket_duration_us.add(duration_us - socket.opened_us.min(duration_us));
            }
            None => counters.duration_us.add(duration_us),
        }
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
            transport: self.is_websocket.then_some("websocket"),
            socket: self.socket.as_deref().map(SocketLine::new),
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
    transport: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    socket: Option<SocketLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Totals<'a>>,
    /// The reply's usage could not be read to its end.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    usage_is_partial: bool,
}

/// Of a WebSocket that was open. A reason that came from a peer is not repeated: it may say anything.
#[derive(Serialize)]
struct SocketLine {
    opened_us: u64,
    messages_in: u64,
    messages_out: u64,
    bytes_in: u64,
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
        let Socket { opened_us, messages_in, messages_out, bytes_in, closing, .. } = socket;
        let why = closing.as_ref().and_then(|closing| closing.why);
        Self {
            opened_us: *opened_us,
            messages_in: *messages_in,
            messages_out: *messages_out,
            bytes_in: *bytes_in,
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
