//! Connections to providers: one request goes up, and its reply comes down as it arrives.
//!
//! Every worker has an [`Upstream`] of its own, directly on hyper's connection types: no lock and no work-stealing
//! between a request and its connection. An exchange is cancelled by dropping it, before the head or in the middle of
//! the reply. A request is sent a second time only where the upstream cannot have processed the first: hyper hands it
//! back unsent, HTTP/2 says that it was not processed, or it is a safe method without consequences. Which channel, which
//! headers and which key are decided above; failover to another upstream too.

mod body;
mod connect;
mod pool;
mod proxy;
#[cfg(test)]
mod tests;
mod timer;
mod tls;
mod upgrade;

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Method, Request, Response, Uri, Version};
use http_body::Body;
use tokio::task::AbortHandle;
use tokio::time::Instant;

pub use self::body::{ReplyBody, RequestBody, Uploaded};
pub use self::pool::Limits;
pub use self::tls::Tls;
pub use self::upgrade::{Tunnel, Upgrade};

use self::body::{Open, Progress, chain};
use self::pool::{Lease, Pool, Sent, Slot};
use self::timer::{Timer, Timers};
use crate::config::{Endpoint, Timeouts};
use crate::error::{Failure, Kind};

/// A request is sent at most so often, whatever happens to its connections.
const SENDS_MAX: usize = 4;

/// One worker's connections to providers.
pub struct Upstream {
    tls: Arc<Tls>,
    pool: Rc<Pool>,
    timers: Rc<Timers>,
    sweeper: AbortHandle,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.sweeper.abort();
    }
}

impl Upstream {
    /// To be called on the worker's local runtime, where it spawns the task that closes idle connections.
    pub fn new(tls: Arc<Tls>, limits: Limits) -> Rc<Self> {
        let pool = Rc::new(Pool::new(limits));
        let swept = Rc::clone(&pool);
        let sweeper = tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(swept.sweep_interval()).await;
                swept.sweep();
            }
        });
        Rc::new(Self { tls, pool, timers: Rc::default(), sweeper: sweeper.abort_handle() })
    }

    /// Connections that stand and carry no exchange at the moment.
    pub fn idle_connections(&self) -> usize {
        self.pool.idle_connections()
    }

    /// Sends one request to the endpoint and waits for the reply's head.
    ///
    /// The request's URI is the path and query to ask for, the endpoint's base path included. `Host` and the framing
    /// headers are set here; other hop-by-hop headers are the caller's to remove. The failure's kind tells whose it
    /// is: `BodyBroken` is the client's, the rest the upstream's.
    pub async fn send(
        self: &Rc<Self>,
        endpoint: &Arc<Endpoint>,
        timeouts: &Timeouts,
        mut request: Request<RequestBody>,
    ) -> Result<Response<ReplyBody>, Failure> {
        let slot = self.pool.slot(endpoint)?;
        let progress = request.body_mut().watch();
        for name in [CONTENT_LENGTH, TRANSFER_ENCODING] {
            // Absent as a rule, and hashing a name costs more than looking over those that are there.
            if request.headers().keys().any(|present| *present == name) {
                request.headers_mut().remove(name);
            }
        }

        let mut now = Instant::now();
        let mut pooled = slot.take(now);
        for sends_left in (0..SENDS_MAX).rev() {
            let mut lease = if let Some(lease) = pooled.take() {
                lease
            } else {
                // In a box: a request usually finds a connection, and its future is moved about.
                let lease = Box::pin(self.connect(&slot, endpoint, timeouts.connect)).await?;
                now = Instant::now();
                lease
            };
            if lease.is_http2() {
                address_http2(&mut request, &slot);
            } else {
                address_http1(&mut request, &slot);
            }
            let copy = copy_for_repeat(&request, &lease);
            let mut timer = self.timers.take(now + timeouts.first_byte);
            let sent = head(lease.send(request), timeouts.first_byte, &mut timer, progress.as_deref()).await?;
            let mut error = match sent {
                Ok(reply) => {
                    // Without a body the reply ends here; then the connection counts as idle since it was taken.
                    let open = Open { lease, timer, idle: timeouts.idle, moved: now, progress };
                    return Ok(reply.map(|frames| ReplyBody::new(frames, open)));
                }
                Err(error) => error,
            };
            if let Some(failure) = progress.as_ref().and_then(|progress| progress.broken()) {
                return Err(failure.because(chain(error.error())));
            }
            let again = match error.take_message() {
                Some(unsent) => lease.is_reused.then_some(unsent),
                None => copy.filter(|_| is_repeatable(error.error(), &lease)),
            };
            request = match again {
                Some(again) if sends_left > 0 => again,
                _ => return Err(broken(error.error())),
            };
            lease.retire();
        }
        unreachable!("the last send returns")
    }

    async fn connect(&self, slot: &Rc<Slot>, endpoint: &Endpoint, limit: Duration) -> Result<Lease, Failure> {
        let connected = tokio::time::timeout(limit, slot.connect(endpoint, &self.tls)).await;
        connected.unwrap_or_else(|_| Err(connect_timeout(endpoint, limit)))
    }
}

fn connect_timeout(endpoint: &Endpoint, limit: Duration) -> Failure {
    Failure::new(Kind::UpstreamConnectTimeout, "no connection to the upstream was made in time").because(format!(
        "{}:{} after {} s",
        endpoint.host,
        endpoint.port,
        limit.as_secs_f32()
    ))
}

/// Waits for the reply's head until `first_byte` after the request's last byte.
async fn head(
    sent: impl Future<Output = Sent>,
    first_byte: Duration,
    timer: &mut Timer,
    progress: Option<&Progress>,
) -> Result<Sent, Failure> {
    let mut sent = pin!(sent);
    poll_fn(|cx| {
        if let Poll::Ready(sent) = sent.as_mut().poll(cx) {
            return Poll::Ready(Ok(sent));
        }
        while timer.poll(cx).is_ready() {
            let deadline = progress.map(|progress| progress.moved() + first_byte);
            match deadline.filter(|deadline| *deadline > Instant::now()) {
                Some(later) => timer.set(later),
                None => return Poll::Ready(Err(silent(first_byte, progress))),
            }
        }
        Poll::Pending
    })
    .await
}

fn silent(first_byte: Duration, progress: Option<&Progress>) -> Failure {
    progress.and_then(Progress::stalled).unwrap_or_else(|| {
        Failure::new(Kind::UpstreamFirstByteTimeout, "the upstream did not answer in time")
            .because(format!("no reply within {} s of the request", first_byte.as_secs_f32()))
    })
}

fn broken(error: &hyper::Error) -> Failure {
    let message = if error.is_parse() {
        "the upstream's reply is malformed"
    } else {
        "the upstream broke the connection off before its reply"
    };
    Failure::new(Kind::UpstreamBroken, message).because(chain(error))
}

/// Origin form, `Host`, and the framing that hyper would leave out.
fn address_http1(request: &mut Request<RequestBody>, slot: &Slot) {
    *request.version_mut() = Version::HTTP_11;
    if request.uri().authority().is_some() {
        *request.uri_mut() = request.uri().path_and_query().cloned().map_or_else(Uri::default, Uri::from);
    }
    request.headers_mut().insert(HOST, slot.host.clone());
    let is_empty = request.body().is_end_stream();
    let has_length = request.body().size_hint().exact().is_some();
    if is_empty && matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH) {
        // Without it some servers answer 411.
        request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    } else if !is_empty && !has_length {
        // hyper sends no body with a GET or HEAD unless it is told to.
        request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// The parts of which hyper makes the pseudo-headers.
fn address_http2(request: &mut Request<RequestBody>, slot: &Slot) {
    *request.version_mut() = Version::HTTP_2;
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTPS);
    parts.authority = Some(slot.authority.clone());
    let path = request.uri().path_and_query().cloned();
    parts.path_and_query = Some(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    *request.uri_mut() = Uri::from_parts(parts).expect("scheme, authority and path are all given");
    for header in [HOST, CONTENT_LENGTH, TRANSFER_ENCODING] {
        request.headers_mut().remove(header);
    }
}

/// What to send again if [`is_repeatable`] says so; kept only where that may happen.
fn copy_for_repeat(request: &Request<RequestBody>, lease: &Lease) -> Option<Request<RequestBody>> {
    let may_repeat = lease.is_http2() || (lease.is_reused && request.method().is_safe());
    if !may_repeat {
        return None;
    }
    let body = request.body().copy()?;
    let mut copy = Request::new(body);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    *copy.extensions_mut() = request.extensions().clone();
    Some(copy)
}

/// Whether a request that was sent may be sent again.
///
/// Over HTTP/2 the upstream says that it has not processed it (RFC 9113 section 8.7). Over HTTP/1 a connection that
/// was used before and breaks without a reply was most probably closed as idle while the request was on its way; then
/// safe methods, the only ones that have a copy, are repeated (RFC 9110 section 9.2.2; `net/http` of Go does the same).
fn is_repeatable(error: &hyper::Error, lease: &Lease) -> bool {
    if !lease.is_http2() {
        return !error.is_parse();
    }
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<h2::Error>());
    source.is_some_and(|error| {
        let is_refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        error.is_remote() && (is_refused || error.is_go_away())
    })
}
