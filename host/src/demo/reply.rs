//! What the demo upstream sends back: one piece of JSON, or events with pauses between them.
//!
//! The first event leaves at once: whoever waits for it measures the gateway, not this file.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body::{Frame, SizeHint};
use serde_json::Value;
use tokio::time::{Instant, Sleep};

/// Long enough to see a reply grow, short enough to try it often.
pub const PAUSE: Duration = Duration::from_millis(20);

pub type Reply = Response<Body>;

pub enum Body {
    /// `None` once it was sent.
    Whole(Option<Bytes>),
    Paced {
        pieces: VecDeque<Bytes>,
        /// `None` before the first piece.
        pause: Option<Pin<Box<Sleep>>>,
    },
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Paced { pieces, pause } => {
                if pieces.is_empty() {
                    return Poll::Ready(None);
                }
                if let Some(pause) = pause {
                    if pause.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    pause.as_mut().reset(Instant::now() + PAUSE);
                } else {
                    *pause = Some(Box::pin(tokio::time::sleep(PAUSE)));
                }
                Poll::Ready(pieces.pop_front().map(|piece| Ok(Frame::data(piece))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Paced { pieces, .. } => pieces.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Paced { .. } => SizeHint::default(),
        }
    }
}

/// A JSON reply with status 200.
pub fn json(value: &Value) -> Reply {
    json_with(StatusCode::OK, value)
}

pub fn json_with(status: StatusCode, value: &Value) -> Reply {
    let mut reply = Response::new(Body::Whole(Some(value.to_string().into())));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

/// Pieces that leave one by one, framed by the caller.
pub fn paced(content_type: &'static str, pieces: impl IntoIterator<Item = String>) -> Reply {
    let pieces = pieces.into_iter().map(Bytes::from).collect();
    let mut reply = Response::new(Body::Paced { pieces, pause: None });
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    reply
}

/// Server-sent events, framed by the caller.
pub fn events(pieces: impl IntoIterator<Item = String>) -> Reply {
    paced("text/event-stream;charset=UTF-8", pieces)
}
