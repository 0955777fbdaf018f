//! What goes up and what comes down, frame by frame.
//!
//! Neither side is ever collected here. A [`RequestBody`] notes when it moves, so that the wait for a reply counts from
//! the request's last byte, and when the client broke it, so that this is not taken for the upstream's fault. A
//! [`ReplyBody`] owns its connection: whoever drops it early closes the exchange, and at its end it gives the
//! connection back.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::error::{Failure, Kind};
use crate::upstream::pool::Lease;
use crate::upstream::timer::Timer;

/// Complete bodies go out in pieces of this size: each piece taken shows that the upload moves.
const PIECE_BYTES_MAX: usize = 256 * 1024;

/// A request's body.
pub struct RequestBody {
    /// Uploaded before `rest`; all there is when that is absent.
    bytes: Bytes,
    rest: Option<Incoming>,
    /// Uploaded last, where the body was read before.
    trailers: Option<HeaderMap>,
    /// Absent where nothing is worth watching: no body, or one of a single piece.
    progress: Option<Rc<Progress>>,
    /// Bytes of `rest` that have gone by, where somebody counts them.
    passed: Option<Rc<Cell<u64>>>,
}

/// How much of a request's body has gone up.
#[derive(Debug, Default)]
pub struct Uploaded {
    /// What was there at once.
    held: u64,
    passed: Option<Rc<Cell<u64>>>,
}

impl Uploaded {
    pub fn bytes(&self) -> u64 {
        self.held + self.passed.as_ref().map_or(0, |passed| passed.get())
    }
}

impl RequestBody {
    pub fn empty() -> Self {
        Self::complete(Bytes::new(), None)
    }

    /// A body that is all there; it goes out with its length, or in chunks where trailers follow it.
    pub fn complete(bytes: Bytes, trailers: Option<HeaderMap>) -> Self {
        Self { bytes, rest: None, trailers, progress: None, passed: None }
    }

    /// The client's body as it comes, behind what was already read of it. Its length goes out if the client gave one.
    pub fn stream(read_before: Bytes, rest: Incoming) -> Self {
        // What has nothing to come is complete: only such a request can be sent again.
        let rest = (!rest.is_end_stream()).then_some(rest);
        Self { bytes: read_before, rest, trailers: None, progress: None, passed: None }
    }

    /// Begins to count what goes up.
    pub fn count(&mut self) -> Uploaded {
        self.passed = self.rest.is_some().then(Rc::default);
        Uploaded { held: self.bytes.len() as u64, passed: self.passed.clone() }
    }

    /// Begins to note what becomes of the body, where that matters.
    pub(super) fn watch(&mut self) -> Option<Rc<Progress>> {
        if self.rest.as_ref().is_some_and(|rest| !rest.is_end_stream()) || self.bytes.len() > PIECE_BYTES_MAX {
            let progress = Progress { state: Cell::new(State::Held), moved: Cell::new(Instant::now()) };
            self.progress = Some(Rc::new(progress));
        }
        self.progress.clone()
    }

    /// A second copy, if it can be had without keeping bytes.
    pub(super) fn copy(&self) -> Option<Self> {
        self.rest.is_none().then(|| Self {
            bytes: self.bytes.clone(),
            rest: None,
            trailers: self.trailers.clone(),
            progress: self.progress.clone(),
            passed: None,
        })
    }

    fn note(&self, state: State) {
        if let Some(progress) = &self.progress {
            progress.state.set(state);
            progress.moved.set(Instant::now());
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let this = self.get_mut();
        if !this.bytes.is_empty() {
            let piece = this.bytes.split_to(this.bytes.len().min(PIECE_BYTES_MAX));
            this.note(State::Held);
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        let Some(rest) = &mut this.rest else {
            return Poll::Ready(this.trailers.take().map(|trailers| Ok(cleaned(Frame::trailers(trailers)))));
        };
        match Pin::new(rest).poll_frame(cx) {
            Poll::Pending => {
                if let Some(progress) = &this.progress {
                    progress.state.set(State::Awaited);
                }
                Poll::Pending
            }
            Poll::Ready(Some(Ok(frame))) => {
                this.note(State::Held);
                if let (Some(passed), Some(data)) = (&this.passed, frame.data_ref()) {
                    passed.set(passed.get() + data.len() as u64);
                }
                Poll::Ready(Some(Ok(cleaned(frame))))
            }
            Poll::Ready(Some(Err(error))) => {
                this.note(State::Broken);
                Poll::Ready(Some(Err(body_broken().because(chain(&error)))))
            }
            Poll::Ready(None) => {
                this.note(State::Held);
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty() && self.trailers.is_none() && self.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let before = self.bytes.len() as u64;
        let Some(rest) = &self.rest else {
            // A length would leave no room for trailers.
            return if self.trailers.is_none() { SizeHint::with_exact(before) } else { SizeHint::default() };
        };
        let rest = rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(before.saturating_add(rest.lower()));
        if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(before)) {
            hint.set_upper(upper);
        }
        hint
    }
}

/// What becomes of a request's body while the exchange waits for its reply.
pub(super) struct Progress {
    state: Cell<State>,
    moved: Cell<Instant>,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    /// The upstream has what there was, or is not taking it.
    Held,
    /// The upstream would take more, and the client sends nothing.
    Awaited,
    Broken,
}

impl Progress {
    /// When the last piece was taken.
    pub(super) fn moved(&self) -> Instant {
        self.moved.get()
    }

    /// The failure, if the client broke its body off.
    pub(super) fn broken(&self) -> Option<Failure> {
        (self.state.get() == State::Broken).then(body_broken)
    }

    /// The failure, if it is the client who keeps everybody waiting.
    pub(super) fn stalled(&self) -> Option<Failure> {
        (self.state.get() == State::Awaited)
            .then(|| Failure::new(Kind::BodyBroken, "the request's body stopped coming before its end"))
    }
}

fn body_broken() -> Failure {
    Failure::new(Kind::BodyBroken, "the request's body broke off before its end")
}

/// A reply's body. Its error is the failure that ended it: what was passed on before is not a whole reply.
pub struct ReplyBody {
    frames: Incoming,
    /// Until the reply's end.
    open: Option<Open>,
}

/// What a reply holds while it comes.
pub(super) struct Open {
    pub(super) lease: Lease,
    pub(super) timer: Timer,
    /// The longest wait for a frame.
    pub(super) idle: Duration,
    /// When the reply was last seen to move and not to end.
    pub(super) moved: Instant,
    /// The request's body, which may still be on its way.
    pub(super) progress: Option<Rc<Progress>>,
}

impl Open {
    fn move_on(&mut self) {
        self.moved = Instant::now();
        self.timer.set(self.moved + self.idle);
    }
}

impl ReplyBody {
    pub(super) fn new(frames: Incoming, mut open: Open) -> Self {
        if frames.is_end_stream() {
            open.lease.give_back(open.moved);
            return Self { frames, open: None };
        }
        open.move_on();
        Self { frames, open: Some(open) }
    }

    /// Gives the connection back if this was the end. Asked after every frame, because whoever writes a body with a
    /// length stops polling at its last byte.
    fn settle(&mut self) {
        if self.frames.is_end_stream() {
            self.finish();
        }
    }

    fn finish(&mut self) {
        if let Some(open) = self.open.take() {
            open.lease.give_back(open.moved);
        }
    }

    fn fail(&mut self, cause: String) -> Failure {
        let broken = self.open.take().and_then(|open| open.progress).and_then(|progress| progress.broken());
        broken.unwrap_or_else(|| Failure::new(Kind::UpstreamBroken, "the upstream broke its reply off")).because(cause)
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.frames).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.settle();
                if let Some(open) = &mut this.open {
                    open.move_on();
                }
                Poll::Ready(Some(Ok(cleaned(frame))))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(this.fail(chain(&error))))),
            Poll::Ready(None) => {
                // hyper ends an HTTP/2 body cleanly when its stream is reset without an error, whole or not.
                let is_cut =
                    this.open.as_ref().is_some_and(|open| open.lease.is_http2()) && !this.frames.is_end_stream();
                if is_cut {
                    return Poll::Ready(Some(Err(this.fail("the stream was reset before its end".into()))));
                }
                this.finish();
                Poll::Ready(None)
            }
            Poll::Pending => {
                let Some(open) = &mut this.open else { return Poll::Pending };
                ready!(open.timer.poll(cx));
                let seconds = open.idle.as_secs_f32();
                this.open = None;
                let failure =
                    Failure::new(Kind::UpstreamIdleTimeout, "the upstream stopped in the middle of its reply");
                Poll::Ready(Some(Err(failure.because(format!("nothing came for {seconds} s")))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.frames.size_hint()
    }
}

/// Fields that mean something before a body only (RFC 9110, section 6.5.1), or on one connection only: as trailers they
/// would pass by everything that is done to headers, credentials included, to a peer that merges the two.
const NO_TRAILERS: &[&str] = &[
    "api-key",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "max-forwards",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-api-key",
    "x-goog-api-key",
];
const NO_TRAILER_PREFIXES: &[&str] = &["proxy-", "x-aiproxy-", "x-forwarded-"];

/// The frame, without the trailers that must not travel on.
fn cleaned(frame: Frame<Bytes>) -> Frame<Bytes> {
    if frame.is_data() {
        return frame;
    }
    match frame.into_trailers() {
        Ok(mut trailers) => {
            let is_out = |name: &HeaderName| {
                NO_TRAILERS.contains(&name.as_str())
                    || NO_TRAILER_PREFIXES.iter().any(|prefix| name.as_str().starts_with(prefix))
            };
            let out: Vec<HeaderName> = trailers.keys().filter(|name| is_out(name)).cloned().collect();
            for name in out {
                trailers.remove(name);
            }
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}

/// An error with what caused it: hyper's own texts name only the outermost.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
