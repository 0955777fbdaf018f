//! Counts an exchange once and logs it once, whatever happened to it.
//!
//! A [`Settle`] is made before anything can fail and travels with the exchange, into the reply's body at last; its drop
//! does the counting. So a client that vanishes, a worker that drops the connection, and a reply that ends well all
//! come here, exactly once.

mod line;
mod served;
mod socket;

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderValue, Method, StatusCode, Uri};

use crate::config::ProxyKey;
use crate::error::{Failure, Kind, Origin};
use crate::exchange::decide::Contender;
use crate::exchange::trace::TraceId;
use crate::exchange::view::{WorkerChannel, WorkerPlugin};
use crate::exchange::worker::{Counted, RequestId, Worker};
use crate::generation::Arm;
use crate::meter::Usage;
use crate::stats::{Ended, Failed, Level, Outcome, Transport, Usages, unix_time_s};
use crate::upstream::Uploaded;

use line::Line;
use served::Served;
use socket::Socket;

pub use socket::{Closing, Party};

/// What all preflights are counted as: their paths are any stranger's words.
const PREFLIGHT: &str = "/preflight";

/// Where a channel compares two versions of its plugin: what is counted for the one that decided.
struct Compared {
    arm: Arc<Arm>,
    is_waiting: bool,
}

impl Compared {
    fn new(arm: Arc<Arm>) -> Self {
        arm.begin();
        Self { arm, is_waiting: true }
    }

    fn replied(&mut self) {
        if std::mem::take(&mut self.is_waiting) {
            self.arm.has_waited();
        }
    }
}

impl Drop for Compared {
    fn drop(&mut self) {
        self.replied();
    }
}

/// One exchange's record, from its head to its end.
pub struct Settle {
    worker: Rc<Worker>,
    pub request_id: RequestId,
    /// Of the trace that the client says the request is part of.
    pub trace_id: Option<TraceId>,
    started: Instant,
    method: Method,
    uri: Uri,
    /// The client's address.
    client: HeaderValue,
    is_websocket: bool,
    is_preflight: bool,
    /// Once it is open.
    socket: Option<Box<Socket>>,
    key: Option<Arc<ProxyKey>>,
    channel: Option<Served>,
    /// Where the channel compares two versions of its plugin: what is counted for the one that decided.
    arm: Option<Compared>,
    model: Option<String>,
    status: Option<StatusCode>,
    first_byte: Option<Instant>,
    /// Tries to get a reply from an upstream.
    attempts: u32,
    /// Until the first of them, without the waiting for the client's body.
    gateway: Option<Duration>,
    /// How long the client's body was waited for.
    waited: Duration,
    /// How long plugins took to decide.
    pub plugin: Duration,
    /// How much of the client's body has gone up.
    sent: Uploaded,
    bytes_out: u64,
    outcome: Outcome,
    failure: Option<Failure>,
    /// The plan asks for usage.
    is_metered: bool,
    usage: Option<Usage>,
    /// The exchange's place among those in flight.
    place: Option<Counted>,
}

impl Settle {
    pub fn begin(worker: Rc<Worker>, method: Method, uri: Uri, client: HeaderValue) -> Self {
        Self {
            request_id: worker.next_request_id(),
            trace_id: None,
            worker,
            started: Instant::now(),
            method,
            uri,
            client,
            is_websocket: false,
            is_preflight: false,
            socket: None,
            key: None,
            channel: None,
            arm: None,
            model: None,
            status: None,
            first_byte: None,
            attempts: 0,
            gateway: None,
            waited: Duration::ZERO,
            plugin: Duration::ZERO,
            sent: Uploaded::default(),
            bytes_out: 0,
            outcome: Outcome::ClientGone,
            failure: None,
            is_metered: false,
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

    /// The channel that serves, or that was the last to be asked; with the version of its plugin, once that is known.
    pub fn channel(&mut self, channel: Rc<WorkerChannel>, plugin: Option<Rc<WorkerPlugin>>) {
        self.channel = Some(Served::Whole(channel, plugin));
    }

    /// This version's plan is carried out; what comes of it counts for `arm`, where the channel compares two.
    pub fn planned_by(&mut self, contender: &Contender) {
        self.arm = contender.arm.clone().map(Compared::new);
    }

    /// Waits for the client's body, which is not the gateway's time.
    pub async fn waits<F: Future>(&mut self, body: F) -> F::Output {
        let began = Instant::now();
        let output = body.await;
        self.waited += began.elapsed();
        output
    }

    /// A try to get a reply begins.
    pub fn attempt(&mut self, sent: Uploaded, is_metered: bool) {
        if self.attempts == 0 {
            self.gateway = Some(self.started.elapsed().saturating_sub(self.waited));
            if let Some(channel) = &self.channel {
                channel.signals().begin();
            }
        }
        self.attempts += 1;
        self.sent = sent;
        self.is_metered = is_metered;
    }

    pub fn model(&mut self, model: Option<String>) {
        self.model = model;
    }

    pub fn channel_id(&self) -> &str {
        self.channel.as_ref().map_or("", Served::id)
    }

    /// The upstream's reply has begun.
    pub fn replied(&mut self, status: StatusCode) {
        self.status = Some(status);
        self.first_byte = Some(Instant::now());
        if let Some(arm) = &mut self.arm {
            arm.replied();
        }
    }

    /// A browser's question before its request is answered; that there is such a path shows nowhere.
    pub fn preflight(&mut self, status: StatusCode) {
        self.is_preflight = true;
        self.status = Some(status);
        self.outcome = Outcome::Complete;
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
        counters.last_end_s.set(unix_time_s(ended));
        let first_byte = self.first_byte.map(|at| at - self.started);
        match &self.arm {
            None => {}
            // The plan could not be carried out.
            Some(Compared { arm, .. }) if self.attempts == 0 && self.failure.is_some() => arm.plugin_failed(),
            Some(Compared { arm, .. }) => arm.sent(self.is_upstream_error()),
        }
        if let Some(channel) = self.channel.as_ref().filter(|_| self.attempts > 0) {
            channel.signals().end();
            // A socket was noted when it opened; of a client that left before any answer nothing is known.
            if self.socket.is_none() && (self.status.is_some() || self.failure.is_some()) {
                channel.signals().note(first_byte, self.is_channels_fault());
            }
        }
        // What a socket answers is its handshake; how long it then lives says nothing of that.
        let answered_us = match &self.socket {
            Some(socket) => {
                counters.sockets.duration_us.add(duration_us.saturating_sub(socket.opened_us));
                socket.opened_us.min(duration_us)
            }
            None => duration_us,
        };
        counters.tally.count(&Ended {
            at: ended,
            request_id: &self.request_id,
            key: self.key.as_ref().map_or("", |key| &key.id),
            channel: self.channel_id(),
            model: self.model.as_deref().unwrap_or_default(),
            method: &self.method,
            path: if self.is_preflight { PREFLIGHT } else { self.uri.path() },
            transport: if self.is_websocket { Transport::Websocket } else { Transport::Http },
            status: self.status.map(|status| status.as_u16()),
            outcome: self.outcome,
            failure: self.failure.as_ref().map(failed),
            attempts: self.attempts,
            duration_us: answered_us,
            first_byte_us: first_byte.map(micros),
            gateway_us: self.gateway.map(micros),
            plugin_us: micros(self.plugin),
            bytes_in: self.bytes_in(),
            bytes_out: self.bytes_out,
            usage: self.usages(),
        });
    }

    fn bytes_in(&self) -> u64 {
        self.socket.as_ref().map_or_else(|| self.sent.bytes(), |socket| socket.bytes_in)
    }

    /// What is known of the usage.
    fn usages(&self) -> Usages<'_> {
        let is_error = self.status.is_none_or(|status| status.as_u16() >= 400);
        let is_complete = self.outcome == Outcome::Complete;
        match self.usage.as_ref().filter(|usage| !usage.totals.is_empty()) {
            Some(usage) if is_complete && !usage.is_partial => Usages::Measured(usage),
            Some(usage) => Usages::Partial(Some(usage)),
            None if !self.is_metered => Usages::None,
            // The upstream may have worked on it, and what that cost nobody has said.
            None if self.first_byte.is_none() && self.may_have_cost() => Usages::Partial(None),
            // An error costs nothing where it does not say so, nor does a socket on which nothing was answered.
            None if is_error => Usages::None,
            None if self.socket.as_ref().is_some_and(|socket| socket.messages_out == 0) => Usages::None,
            None if is_complete => Usages::Missing,
            None => Usages::Partial(None),
        }
    }

    /// The request had gone up, or may have, when the exchange ended without a reply.
    fn may_have_cost(&self) -> bool {
        let kind = self.failure.as_ref().map(|failure| failure.kind);
        kind.is_none_or(|kind| matches!(kind, Kind::UpstreamFirstByteTimeout | Kind::UpstreamBroken))
    }

    /// What was sent came to nothing: no reply, a broken one, or one that says error. That may be the client's own fault, but
    /// then it is as frequent with one version of the plugin as with another.
    fn is_upstream_error(&self) -> bool {
        let is_upstreams = |failure: &Failure| failure.kind.facts().origin == Origin::Upstream;
        self.failure.as_ref().is_some_and(is_upstreams)
            // The client lost patience first.
            || (self.attempts > 0 && self.status.is_none())
            || self.status.is_some_and(|status| status.as_u16() >= 400)
            || self.outcome == Outcome::UpstreamBroken
    }

    /// The channel did not serve, and another may.
    fn is_channels_fault(&self) -> bool {
        let is_upstreams = |failure: &Failure| matches!(failure.kind.facts().origin, Origin::Upstream | Origin::Plugin);
        if let Some(failure) = &self.failure {
            return is_upstreams(failure);
        }
        let status = self.status.map_or(0, |status| status.as_u16());
        status >= 500 || status == 429 || self.outcome == Outcome::UpstreamBroken
    }

    fn log(&self, duration_us: u64, ended: SystemTime) {
        if let Some(failure) = &self.failure
            && failure.cause.is_some()
        {
            let trace_id = self.trace_id.as_deref();
            tracing::warn!(request_id = &*self.request_id, trace_id, code = failure.code(), "{failure}");
        }
        let Some(access_log) = &self.worker.access_log else { return };
        let line = Line::new(self, duration_us, ended);
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
        // First: who sees it counted shall not see it in flight.
        self.place = None;
        let duration_us = micros(self.started.elapsed());
        let ended = SystemTime::now();
        self.count(duration_us, ended);
        self.log(duration_us, ended);
    }
}

/// What statistics tell of a failure. A refusal's words are the plugin's, and may be about this one request.
fn failed(failure: &Failure) -> Failed<'_> {
    let is_clients = failure.kind.facts().origin == Origin::Client;
    Failed {
        code: failure.code(),
        message: if failure.refusal.is_some() { "a plugin refused a request" } else { &failure.message },
        level: if is_clients { Level::Warn } else { Level::Error },
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
