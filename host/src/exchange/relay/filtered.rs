//! A reply's frames on their way through a filter that may hold some back.
//!
//! Its length is not known before its end, so it is never told. What follows the data (trailers, a failure, the end)
//! waits until the last that was held has gone on.

use std::task::{Poll, ready};

use bytes::Bytes;
use http_body::Frame;

use crate::error::Failure;
use crate::meter::ExtraChunk;

/// What a body gives when it is asked for a frame.
pub type Polled = Option<Result<Frame<Bytes>, Failure>>;

#[derive(Default)]
pub struct Filtered {
    filter: ExtraChunk,
    /// Comes behind what the filter held to the last.
    behind: Option<Polled>,
}

impl Filtered {
    /// The next frame for the client, given how to ask for the upstream's.
    pub fn poll(&mut self, mut upstream: impl FnMut() -> Poll<Polled>) -> Poll<Polled> {
        if let Some(behind) = self.behind.take() {
            return Poll::Ready(behind);
        }
        loop {
            let polled = ready!(upstream());
            let polled = match polled.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => {
                    let data = self.filter.push(&data);
                    if data.is_empty() {
                        continue;
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Ok(Err(trailers))) => Some(Ok(trailers)),
                Some(Err(failure)) => Some(Err(failure)),
                None => None,
            };
            let held = self.filter.finish();
            if held.is_empty() {
                return Poll::Ready(polled);
            }
            self.behind = Some(polled);
            return Poll::Ready(Some(Ok(Frame::data(held))));
        }
    }
}
