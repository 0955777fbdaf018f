//! The connections of one worker, by endpoint: who may use one, and when it goes.
//!
//! An HTTP/1 connection is either idle in its [`Slot`] or held by exactly one [`Lease`]; a lease that is dropped
//! without being given back closes it. HTTP/2 connections stay in the slot and are shared up to the upstream's limit
//! of streams. Idle connections are bounded in number, go when the upstream closes them, and go after a while in a
//! coarse sweep: there is no timer per connection. No request is sent here, and nothing is shared between workers.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::Either;
use http::HeaderValue;
use http::uri::Authority;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::Instant;

use crate::config::Endpoint;
use crate::error::{Failure, Kind};
use crate::stream::Stream;
use crate::upstream::body::RequestBody;
use crate::upstream::connect::{self, Alpn, Connected, Probe, Protocol, Socket};
use crate::upstream::tls::Tls;

/// A reply's head may be this large.
pub(super) const HEAD_BYTES_MAX: usize = 256 * 1024;

/// Streams on one connection, and the window of each: the connection's window holds them all, so that replies nobody
/// reads at the moment never hold up their neighbours.
const STREAMS_MAX: usize = 100;
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = STREAM_WINDOW_BYTES * STREAMS_MAX as u32;

/// Until the upstream has said how many it allows: streams above that are refused, and not every request has a copy.
const STREAMS_AT_FIRST: usize = 10;

/// An HTTP/2 peer that vanished is noticed after the two together.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// A connection that was idle for longer is looked at before it is used; see [`Probe`].
const QUIET: Duration = Duration::from_millis(5);

/// What bounds a worker's idle connections.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For each endpoint.
    pub idle_connections_max: usize,
    pub idle_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { idle_connections_max: 256, idle_max: Duration::from_mins(1) }
    }
}

/// All slots of a worker.
pub(super) struct Pool {
    limits: Limits,
    /// A cache in front of `by_value`, by the endpoint's place in memory; the `Arc` keeps that place taken.
    by_place: RefCell<HashMap<*const Endpoint, Known>>,
    by_value: RefCell<HashMap<Arc<Endpoint>, Rc<Slot>>>,
}

type Known = (Arc<Endpoint>, Rc<Slot>);

impl Pool {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, by_place: RefCell::default(), by_value: RefCell::default() }
    }

    pub(super) fn slot(&self, endpoint: &Arc<Endpoint>) -> Result<Rc<Slot>, Failure> {
        if let Some((_, slot)) = self.by_place.borrow().get(&Arc::as_ptr(endpoint)) {
            return Ok(Rc::clone(slot));
        }
        let known = self.by_value.borrow().get(endpoint).cloned();
        let slot = if let Some(slot) = known {
            slot
        } else {
            let slot = Rc::new(Slot::new(endpoint, self.limits)?);
            self.by_value.borrow_mut().insert(Arc::clone(endpoint), Rc::clone(&slot));
            slot
        };
        self.by_place.borrow_mut().insert(Arc::as_ptr(endpoint), (Arc::clone(endpoint), Rc::clone(&slot)));
        Ok(slot)
    }

    /// Drops what was idle for too long, and forgets endpoints of which nothing is left.
    pub(super) fn sweep(&self) {
        self.by_place.borrow_mut().clear();
        let now = Instant::now();
        self.by_value.borrow_mut().retain(|_, slot| {
            slot.expire(now);
            Rc::strong_count(slot) > 1 || !slot.is_empty()
        });
    }

    /// How often to sweep: an idle connection may outlive its limit by as much.
    pub(super) fn sweep_interval(&self) -> Duration {
        (self.limits.idle_max / 6).max(Duration::from_millis(10))
    }

    pub(super) fn idle_connections(&self) -> usize {
        let count = |slot: &Rc<Slot>| {
            let shared = slot.shared.borrow();
            slot.idle.borrow().len() + shared.iter().filter(|connection| connection.streams.get() == 0).count()
        };
        self.by_value.borrow().values().map(count).sum()
    }
}

/// The connections to one endpoint.
pub(super) struct Slot {
    limits: Limits,
    pub(super) host: HeaderValue,
    pub(super) authority: Authority,
    /// What the last TLS handshake agreed on.
    protocol: Cell<Option<Protocol>>,
    /// Held while connecting, unless HTTP/1 is known to be spoken: the others wait, and share what comes of it.
    connecting: tokio::sync::Mutex<()>,
    /// The most recently used last, and taken first.
    idle: RefCell<Vec<Idle>>,
    shared: RefCell<Vec<Rc<Shared>>>,
}

struct Idle {
    connection: Http1,
    since: Instant,
}

struct Http1 {
    sender: http1::SendRequest<RequestBody>,
    probe: Probe,
}

type Http2Connection = http2::Connection<TokioIo<Stream<Socket>>, RequestBody, LocalExecutor>;

/// An HTTP/2 connection.
pub(super) struct Shared {
    sender: http2::SendRequest<RequestBody>,
    /// Polled by its own task; kept in reach because it alone knows the current limit of streams.
    driven: Rc<RefCell<Option<Http2Connection>>>,
    streams: Cell<usize>,
    idle_since: Cell<Instant>,
    /// The upstream said that it takes no further requests on it.
    is_retired: Cell<bool>,
}

impl Shared {
    fn has_room(&self) -> bool {
        let allowed = self.driven.borrow().as_ref().map_or(0, Http2Connection::current_max_send_streams);
        !self.sender.is_closed() && !self.is_retired.get() && self.streams.get() < allowed.min(STREAMS_MAX)
    }
}

impl Slot {
    fn new(endpoint: &Endpoint, limits: Limits) -> Result<Self, Failure> {
        let invalid = |error: &dyn std::fmt::Display| {
            Failure::new(Kind::UpstreamUnreachable, "the upstream's configured host is not valid")
                .because(format!("{:?}: {error}", endpoint.authority))
        };
        Ok(Self {
            limits,
            host: HeaderValue::from_str(&endpoint.authority).map_err(|error| invalid(&error))?,
            authority: Authority::try_from(endpoint.authority.as_str()).map_err(|error| invalid(&error))?,
            protocol: Cell::new((!endpoint.tls).then_some(Protocol::Http1)),
            connecting: tokio::sync::Mutex::new(()),
            idle: RefCell::default(),
            shared: RefCell::default(),
        })
    }

    /// A connection that stands and has room, if there is one.
    pub(super) fn take(self: &Rc<Self>, now: Instant) -> Option<Lease> {
        if let Some(shared) = self.take_shared() {
            return Some(shared);
        }
        loop {
            let Idle { connection, since } = self.idle.borrow_mut().pop()?;
            if connection.sender.is_ready() {
                if now.saturating_duration_since(since) > QUIET {
                    connection.probe.request();
                }
                return Some(Lease::exclusive(connection, self, true));
            }
        }
    }

    fn take_shared(&self) -> Option<Lease> {
        let shared = self.shared.borrow();
        shared.iter().find(|connection| connection.has_room()).map(|connection| Lease::shared(connection, true))
    }

    /// A fresh connection; over HTTP/2, one that another request has opened meanwhile will do. No limit in time.
    pub(super) async fn connect(self: &Rc<Self>, endpoint: &Endpoint, tls: &Tls) -> Result<Lease, Failure> {
        if self.protocol.get() == Some(Protocol::Http1) {
            return self.open(endpoint, tls).await;
        }
        let turn = self.connecting.lock().await;
        if let Some(lease) = self.take_shared() {
            return Ok(lease);
        }
        if self.protocol.get() == Some(Protocol::Http1) {
            drop(turn);
        }
        self.open(endpoint, tls).await
    }

    async fn open(self: &Rc<Self>, endpoint: &Endpoint, tls: &Tls) -> Result<Lease, Failure> {
        let Connected { stream, protocol, probe } = connect::connect(endpoint, tls, Alpn::Any).await?;
        self.protocol.set(Some(protocol));
        let io = TokioIo::new(stream);
        let failed = |error: hyper::Error| {
            Failure::new(Kind::UpstreamUnreachable, "the upstream could not be reached").because(error)
        };
        let slot = Rc::downgrade(self);
        match protocol {
            Protocol::Http1 => {
                // hyper's own limit of 100 headers stays: its arrays are on the stack, any other number's are not.
                let handshake = http1::Builder::new().max_buf_size(HEAD_BYTES_MAX).handshake(io);
                let (sender, connection) = handshake.await.map_err(failed)?;
                tokio::task::spawn_local(async move {
                    // An error has been told to the request it concerns.
                    let _ = connection.with_upgrades().await;
                    forget_closed(&slot);
                });
                Ok(Lease::exclusive(Http1 { sender, probe }, self, false))
            }
            Protocol::Http2 => {
                let (sender, connection) = http2_builder().handshake(io).await.map_err(failed)?;
                let driven = Rc::new(RefCell::new(Some(connection)));
                let connection = Rc::new(Shared {
                    sender,
                    driven: Rc::clone(&driven),
                    streams: Cell::new(0),
                    idle_since: Cell::new(Instant::now()),
                    is_retired: Cell::new(false),
                });
                tokio::task::spawn_local(async move {
                    let end = poll_fn(|cx| match driven.borrow_mut().as_mut() {
                        Some(connection) => Pin::new(connection).poll(cx),
                        None => Poll::Ready(Ok(())),
                    });
                    let _ = end.await;
                    let ended = driven.borrow_mut().take();
                    drop(ended);
                    forget_closed(&slot);
                });
                let lease = Lease::shared(&connection, false);
                self.shared.borrow_mut().push(connection);
                Ok(lease)
            }
        }
    }

    fn expire(&self, now: Instant) {
        let is_fresh = |since: Instant| now.saturating_duration_since(since) < self.limits.idle_max;
        self.idle.borrow_mut().retain(|idle| is_fresh(idle.since));
        self.shared.borrow_mut().retain(|shared| shared.streams.get() > 0 || is_fresh(shared.idle_since.get()));
    }

    fn is_empty(&self) -> bool {
        self.idle.borrow().is_empty() && self.shared.borrow().is_empty()
    }

    fn put(&self, connection: Http1, since: Instant) {
        let mut idle = self.idle.borrow_mut();
        // Not ready: the upstream closes it, or still reads a request that it has already answered.
        if connection.sender.is_ready() && idle.len() < self.limits.idle_connections_max {
            idle.push(Idle { connection, since });
        }
    }
}

/// Takes ended connections out of the pool.
fn forget_closed(slot: &Weak<Slot>) {
    if let Some(slot) = slot.upgrade() {
        slot.idle.borrow_mut().retain(|idle| !idle.connection.sender.is_closed());
        slot.shared.borrow_mut().retain(|shared| !shared.sender.is_closed());
    }
}

fn http2_builder() -> http2::Builder<LocalExecutor> {
    let mut builder = http2::Builder::new(LocalExecutor);
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_max_send_streams(STREAMS_AT_FIRST)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(HEAD_BYTES_MAX as u32);
    builder
}

/// The right to send one request on a connection.
pub(super) struct Lease {
    held: Held,
    /// It has served before, so it may have been closed since.
    pub(super) is_reused: bool,
}

enum Held {
    /// Dropped, the connection closes.
    Exclusive {
        connection: Http1,
        slot: Rc<Slot>,
    },
    Shared(OpenStream),
    /// Of no pool: it serves once.
    Single(http1::SendRequest<RequestBody>),
}

/// One of the streams of a shared connection.
struct OpenStream(Rc<Shared>);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get() - 1);
        if self.0.streams.get() == 0 {
            self.0.idle_since.set(Instant::now());
        }
    }
}

/// What comes of a request: the reply's head, or the request itself where nothing of it was sent.
pub(super) type Sent = Result<http::Response<hyper::body::Incoming>, TrySendError<http::Request<RequestBody>>>;

impl Lease {
    fn exclusive(connection: Http1, slot: &Rc<Slot>, is_reused: bool) -> Self {
        Self { held: Held::Exclusive { connection, slot: Rc::clone(slot) }, is_reused }
    }

    fn shared(connection: &Rc<Shared>, is_reused: bool) -> Self {
        connection.streams.set(connection.streams.get() + 1);
        Self { held: Held::Shared(OpenStream(Rc::clone(connection))), is_reused }
    }

    pub(super) fn single(sender: http1::SendRequest<RequestBody>) -> Self {
        Self { held: Held::Single(sender), is_reused: false }
    }

    pub(super) fn is_http2(&self) -> bool {
        matches!(self.held, Held::Shared(_))
    }

    /// The request is on its way when this returns; the future, which is small without it, waits for the reply.
    pub(super) fn send(&mut self, request: http::Request<RequestBody>) -> impl Future<Output = Sent> + use<> {
        match &mut self.held {
            Held::Exclusive { connection, .. } => Either::Left(connection.sender.try_send_request(request)),
            Held::Single(sender) => Either::Left(sender.try_send_request(request)),
            Held::Shared(connection) => {
                let mut sender = connection.0.sender.clone();
                Either::Right(Box::pin(sender.try_send_request(request)))
            }
        }
    }

    /// No further request goes on this connection, if it is one that others would share.
    pub(super) fn retire(&self) {
        if let Held::Shared(stream) = &self.held {
            stream.0.is_retired.set(true);
        }
    }

    /// The reply has ended, and was seen to move at `moved`: the connection can serve again.
    pub(super) fn give_back(self, moved: Instant) {
        if let Held::Exclusive { connection, slot } = self.held {
            slot.put(connection, moved);
        }
    }
}

/// Runs hyper's HTTP/2 tasks on the worker that owns the connection.
#[derive(Clone, Copy)]
pub(super) struct LocalExecutor;

impl<F> hyper::rt::Executor<F> for LocalExecutor
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
