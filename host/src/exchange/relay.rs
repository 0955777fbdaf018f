//! Streams the reply: frames go out as they come in, none is kept (but see [`Filtered`]).
//!
//! The end of a reply is told apart from its breaking off: an error ends the client's stream as broken, so that no
//! client takes half an answer for a whole one.

mod filtered;
pub mod websocket;

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use http::header::{HeaderName, HeaderValue};
use http_body::{Body, Frame, SizeHint};

use crate::error::Failure;
use crate::exchange::settle::Settle;
use crate::meter::Meter;
use crate::upstream::ReplyBody;

pub use filtered::Filtered;
use filtered::Polled;

/// On every reply, the gateway's own included.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-aiproxy-request-id");

/// The body of every reply to a client.
pub enum Reply {
    /// The gateway's own words.
    Whole(Option<Bytes>),
    Relayed(Box<Relayed>),
    /// None: the client's connection is to be switched to this WebSocket.
    Switch(Box<websocket::Accepted>),
}

/// An upstream's reply on its way.
pub struct Relayed {
    body: ReplyBody,
    settle: Settle,
    meter: Option<Meter>,
    /// Where the client shall not see all that the meter sees.
    filter: Option<Box<Filtered>>,
    ended: bool,
}

/// Joins the upstream's reply with the guard that settles the exchange.
pub fn relay(
    reply: Response<ReplyBody>,
    settle: Settle,
    meter: Option<Meter>,
    filter: Option<Box<Filtered>>,
) -> Response<Reply> {
    reply.map(|body| {
        let mut relayed = Relayed { body, settle, meter, filter, ended: false };
        if relayed.is_at_end() {
            relayed.end();
        }
        Reply::Relayed(Box::new(relayed))
    })
}

pub fn with_request_id<B>(reply: &mut Response<B>, request_id: &str) {
    let value = HeaderValue::from_str(request_id).expect("request ids are hexadecimal digits");
    reply.headers_mut().insert(REQUEST_ID, value);
}

impl Relayed {
    /// The next frame for the client.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Polled> {
        let Self { body, meter, filter, .. } = self;
        let mut upstream = || {
            let polled = ready!(Pin::new(&mut *body).poll_frame(cx));
            if let (Some(Ok(frame)), Some(meter)) = (&polled, &mut *meter)
                && let Some(data) = frame.data_ref()
            {
                meter.push(data);
            }
            Poll::Ready(polled)
        };
        match filter {
            None => upstream(),
            Some(filter) => filter.poll(upstream),
        }
    }

    /// Nothing is to come; false says nothing.
    fn is_at_end(&self) -> bool {
        self.filter.is_none() && self.body.is_end_stream()
    }

    fn end(&mut self) {
        if !self.ended {
            self.ended = true;
            self.settle.complete();
            if let Some(meter) = self.meter.take() {
                self.settle.usage(meter.finish());
            }
        }
    }
}

impl Drop for Relayed {
    /// A reply that was not relayed to its end has used what it has used.
    fn drop(&mut self) {
        if let Some(meter) = self.meter.take() {
            let mut usage = meter.finish();
            usage.is_partial = true;
            self.settle.usage(usage);
        }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let relayed = match self.get_mut() {
            Self::Whole(bytes) => return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Switch(_) => return Poll::Ready(None),
            Self::Relayed(relayed) => relayed,
        };
        match ready!(relayed.poll_next(cx)) {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    relayed.settle.relayed(data.len());
                }
                // With a length, hyper never asks for more than the last byte.
                if relayed.is_at_end() {
                    relayed.end();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(failure)) => {
                relayed.settle.broke(failure.clone());
                Poll::Ready(Some(Err(failure)))
            }
            None => {
                relayed.end();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Self::Switch(_) => true,
            Self::Relayed(relayed) => relayed.is_at_end(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Switch(_) => SizeHint::with_exact(0),
            Self::Relayed(relayed) if relayed.filter.is_some() => SizeHint::default(),
            Self::Relayed(relayed) => relayed.body.size_hint(),
        }
    }
}
