//! One client connection: HTTP/1.1 or HTTP/2, told apart by the first bytes, or under TLS by what was agreed on there.
//!
//! Three limits hold it: a head must be complete within `head_timeout` of its first byte, an idle connection is closed
//! after `keep_alive`, and so is one whose client has taken no byte of a reply for as long. None arms a timer or asks for
//! the time at each request: the connection notes what it waits for, and the worker looks over its connections every now
//! and then and notes since when.

mod client_io;
mod pieces;

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, TcpStream};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};

pub use client_io::refusal;

use crate::config::Limits;
use crate::error::Failure;
use crate::exchange::head;
use crate::exchange::relay::Reply;
use crate::exchange::relay::websocket::Accepted;
use crate::exchange::worker::Worker;
use crate::exchange::{self, Client};
use crate::pages::{self, Page};
use crate::stream::Stream;

use super::{preface, tls};
use client_io::ClientIo;
use pieces::InPieces;

/// hyper takes no smaller read buffer.
const HTTP1_BUFFER_BYTES_MIN: usize = 8192;
/// hyper's default; any other number costs it an allocation for each request.
const HTTP1_HEADERS_DEFAULT: usize = 100;
const HTTP2_STREAMS_MAX: u32 = 256;
/// What a client may send ahead on a stream; the connection's window holds them all, so that streams whose upstream reads
/// nothing at the moment never hold up their neighbours.
const HTTP2_STREAM_WINDOW_BYTES: u32 = 256 << 10;
const HTTP2_CONNECTION_WINDOW_BYTES: u32 = HTTP2_STREAM_WINDOW_BYTES * HTTP2_STREAMS_MAX;
/// What is kept of a reply, for each stream, that the client has no room for.
const HTTP2_SEND_BUFFER_BYTES: usize = 64 << 10;
const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(30);
/// Silence after which the system asks whether the client's machine is still there.
const TCP_KEEPALIVE: Duration = Duration::from_mins(1);
/// How long a client may go on sending after the last reply, unread, before the connection is cut.
const LINGER: Duration = Duration::from_secs(2);
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Bytes of a head have come, or the connection is new.
    Head,
    Idle,
    Busy,
    /// The last reply is out; the client has not closed yet.
    Lingering,
    /// It speaks HTTP no longer: whoever relays the WebSocket looks after it.
    Switched,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Nothing,
    /// Close after the exchanges under way.
    Finish,
    /// Close now.
    Close,
}

/// What the worker knows of a connection.
pub struct Connection {
    phase: Cell<Phase>,
    /// When a sweep first saw this phase, if one has.
    since: Cell<Option<Instant>>,
    active: Cell<u32>,
    /// Of a reply of the service, something may still be in hyper's buffer.
    unflushed: Cell<bool>,
    /// The client takes no more bytes at the moment.
    blocked: Cell<bool>,
    /// When a sweep first saw that, if one has.
    blocked_since: Cell<Option<Instant>>,
    asked: Cell<Asked>,
    waker: RefCell<Option<Waker>>,
    /// The WebSocket that this connection is to be switched to, once hyper has let go of it.
    accepted: RefCell<Option<Box<Accepted>>>,
}

impl Connection {
    pub fn new() -> Self {
        Self {
            phase: Cell::new(Phase::Head),
            since: Cell::new(None),
            active: Cell::new(0),
            unflushed: Cell::new(false),
            blocked: Cell::new(false),
            blocked_since: Cell::new(None),
            asked: Cell::new(Asked::Nothing),
            waker: RefCell::new(None),
            accepted: RefCell::new(None),
        }
    }

    /// Ends the connection after what it is doing.
    pub fn finish(&self) {
        self.ask(Asked::Finish);
    }

    /// Ends the connection if it has waited too long.
    pub fn sweep(&self, limits: &Limits) {
        let now = Instant::now();
        let since = self.since.get().unwrap_or(now);
        self.since.set(Some(since));
        let waited = now - since;
        match self.phase.get() {
            Phase::Head if waited > limits.head_timeout => self.ask(Asked::Close),
            // Over HTTP/2 the end takes a client that plays its part.
            Phase::Idle if waited > 2 * limits.keep_alive => self.ask(Asked::Close),
            Phase::Idle if waited > limits.keep_alive => self.ask(Asked::Finish),
            Phase::Lingering if waited > LINGER => self.ask(Asked::Close),
            Phase::Head | Phase::Idle | Phase::Busy | Phase::Lingering | Phase::Switched => {}
        }
        if self.blocked.get() {
            let since = self.blocked_since.get().unwrap_or(now);
            self.blocked_since.set(Some(since));
            if now - since > limits.keep_alive {
                self.ask(Asked::Close);
            }
        }
    }

    fn ask(&self, what: Asked) {
        if self.asked.get() != Asked::Close {
            self.asked.set(what);
        }
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Notes whether the client took what was written.
    fn wrote<T>(&self, written: Poll<T>) -> Poll<T> {
        if written.is_pending() {
            self.blocked.set(true);
        } else if self.blocked.replace(false) {
            self.blocked_since.set(None);
        }
        written
    }

    fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.since.set(None);
    }

    /// The connection is as good as new: its first head is to come.
    pub(super) fn expect_head(&self) {
        self.enter(Phase::Head);
    }

    /// Resolves when anything is asked.
    pub(super) async fn asked(&self) {
        std::future::poll_fn(|cx| match self.poll_asked(Asked::Nothing, cx) {
            Asked::Nothing => Poll::Pending,
            Asked::Finish | Asked::Close => Poll::Ready(()),
        })
        .await;
    }

    /// What is asked; registers for a change from `known`.
    fn poll_asked(&self, known: Asked, cx: &Context<'_>) -> Asked {
        let asked = self.asked.get();
        if asked == known {
            let mut waker = self.waker.borrow_mut();
            if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                *waker = Some(cx.waker().clone());
            }
        }
        asked
    }
}

/// The WebSocket that a connection has been switched to, to its end.
pub type Switched = Pin<Box<dyn Future<Output = ()>>>;

/// Serves the connection to its end, or to the end of HTTP on it.
pub async fn serve(
    worker: Rc<Worker>,
    connection: Rc<Connection>,
    stream: TcpStream,
    peer: IpAddr,
) -> Option<Switched> {
    let (limits, certificate) = {
        let gateway = &worker.view().generation.config.gateway;
        (gateway.limits.clone(), gateway.tls.clone())
    };
    let stream = tokio::net::TcpStream::from_std(stream).ok()?;
    // Without it a small write waits for the client's delayed acknowledgement: 40 ms.
    let _ = stream.set_nodelay(true);
    // A client that vanishes without a word would never be noticed while the gateway has nothing to write.
    let _ = SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(TCP_KEEPALIVE));
    let is_tls = certificate.is_some();
    let (stream, is_http2) = if let Some(certificate) = certificate {
        tls::accept(stream, &certificate, &worker, &connection, limits.head_timeout).await?
    } else {
        let is_http2 = preface::is_http2(&stream, &connection, limits.head_timeout).await?;
        (Stream::Plain(stream), is_http2)
    };
    speak(worker, connection, stream, is_http2, Client::new(peer, is_tls), &limits).await
}

/// From the first request on, whatever the bytes are wrapped in.
async fn speak(
    worker: Rc<Worker>,
    connection: Rc<Connection>,
    stream: Stream<tokio::net::TcpStream>,
    is_http2: bool,
    client: Client,
    limits: &Limits,
) -> Option<Switched> {
    let io = TokioIo::new(ClientIo {
        stream,
        connection: connection.clone(),
        worker: worker.clone(),
        is_http2,
        refusal: Bytes::new(),
    });
    let service = service_fn({
        let connection = connection.clone();
        move |request| answer(worker.clone(), connection.clone(), client.clone(), request)
    });
    if is_http2 {
        let served = http2::Builder::new(LocalExecutor)
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(limits.header_bytes_max).unwrap_or(u32::MAX))
            .max_concurrent_streams(HTTP2_STREAMS_MAX)
            .initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
            .initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
            .max_send_buf_size(HTTP2_SEND_BUFFER_BYTES)
            .keep_alive_interval(HTTP2_PING_INTERVAL)
            .enable_connect_protocol()
            .serve_connection(io, service);
        drive(pin!(served), &connection, http2::Connection::graceful_shutdown).await;
        None
    } else {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(limits.header_bytes_max.max(HTTP1_BUFFER_BYTES_MIN));
        if limits.header_count_max != HTTP1_HEADERS_DEFAULT {
            builder.max_headers(limits.header_count_max);
        }
        let mut served = builder.serve_connection(io, service);
        let is_sound = drive(Pin::new(&mut served), &connection, http1::Connection::graceful_shutdown).await;
        // What is still in hyper's buffer is lost, and with it the words that open the socket.
        let is_told = is_sound && !connection.unflushed.get();
        let accepted = connection.accepted.take().filter(|_| is_told)?;
        connection.enter(Phase::Switched);
        let parts = served.into_parts();
        Some(Box::pin(accepted.run(parts.io.into_inner().stream, parts.read_buf)))
    }
}

/// Polls hyper's connection and what is asked of it, without a select's bookkeeping on every poll. True when it has come
/// to its own end.
async fn drive<C>(mut served: Pin<&mut C>, connection: &Connection, finish: impl Fn(Pin<&mut C>)) -> bool
where
    C: Future<Output = hyper::Result<()>>,
{
    let mut known = Asked::Nothing;
    std::future::poll_fn(|cx| {
        let asked = connection.poll_asked(known, cx);
        if asked != known {
            known = asked;
            match asked {
                Asked::Close => return Poll::Ready(false),
                Asked::Finish => finish(served.as_mut()),
                Asked::Nothing => {}
            }
            // Registers the waker for what may be asked next.
            connection.poll_asked(known, cx);
        }
        match served.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(())) => Poll::Ready(true),
            Poll::Ready(Err(error)) => {
                tracing::debug!(%error, "a client connection ended with an error");
                Poll::Ready(false)
            }
        }
    })
    .await
}

async fn answer(
    worker: Rc<Worker>,
    connection: Rc<Connection>,
    client: Client,
    mut request: Request<Incoming>,
) -> Result<Response<Guarded>, std::convert::Infallible> {
    let busy = Busy::new(connection.clone());
    // Over HTTP/2 a stream is switched, not the connection.
    let stream = (request.method() == Method::CONNECT).then(|| hyper::upgrade::on(&mut request));
    let is_sound = || head::check(&request, &worker.view().generation.config.gateway.limits).is_ok();
    let reply = match Page::of(request.method(), request.uri().path()) {
        // In a box: the future of what most requests are then has no room for it.
        Some(page) if is_sound() => Box::pin(pages::answer(page, &worker, &client, request)).await,
        // A head that is not is refused there, whatever it asks for.
        Some(_) | None => exchange::serve(worker, client, request).await,
    };
    let (head, reply) = reply.into_parts();
    let reply = match (reply, stream) {
        (Reply::Switch(accepted), None) => {
            connection.accepted.replace(Some(accepted));
            Guarded { reply: Reply::Whole(None), _busy: Some(busy) }
        }
        (Reply::Switch(accepted), Some(stream)) => {
            tokio::task::spawn_local(async move {
                let _busy = busy;
                if let Ok(stream) = stream.await {
                    accepted.run(InPieces(TokioIo::new(stream)), Bytes::new()).await;
                }
            });
            Guarded { reply: Reply::Whole(None), _busy: None }
        }
        (reply, _) => Guarded { reply, _busy: Some(busy) },
    };
    Ok(Response::from_parts(head, reply))
}

/// Keeps the connection's phase at busy from a request's head to its reply's end.
struct Busy(Rc<Connection>);

impl Busy {
    fn new(connection: Rc<Connection>) -> Self {
        connection.active.set(connection.active.get() + 1);
        connection.unflushed.set(true);
        connection.enter(Phase::Busy);
        Self(connection)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.active.set(self.0.active.get() - 1);
        if self.0.active.get() == 0 {
            self.0.enter(Phase::Idle);
        }
    }
}

struct Guarded {
    reply: Reply,
    /// Absent where what comes after the reply keeps the connection busy.
    _busy: Option<Busy>,
}

impl Body for Guarded {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        Pin::new(&mut self.reply).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.reply.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.reply.size_hint()
    }
}

/// Runs HTTP/2 streams on the worker's own thread.
#[derive(Clone, Copy)]
struct LocalExecutor;

impl<F> hyper::rt::Executor<F> for LocalExecutor
where
    F: Future<Output = ()> + 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
