//! The client's body: still coming, or held because somebody had to look into it.
//!
//! Not a stage: what `classify` may read, `forward` may edit, and the upstream gets in the end.

use bytes::Bytes;
use http::request::Parts;
use hyper::body::Incoming;

use crate::error::{Failure, Kind};
use crate::exchange::classify::{self, Held, ReadLimits};
use crate::exchange::forward;
use crate::exchange::plan::Prepared;
use crate::exchange::worker::{Reservation, Worker};
use crate::upstream::RequestBody;

/// Where the body is.
pub enum Source {
    Open(Incoming),
    Held(Held),
}

impl Source {
    pub fn held(&self) -> Option<&Held> {
        match self {
            Self::Open(_) => None,
            Self::Held(held) => Some(held),
        }
    }

    pub async fn read_if_telling(self, parts: &Parts, limits: ReadLimits, worker: &Worker) -> Result<Self, Failure> {
        match self {
            Self::Open(body) if classify::is_readable(&parts.headers, &body, limits.bytes_max) => {
                Ok(Self::Held(classify::read(body, limits, &worker.shared).await?))
            }
            source => Ok(source),
        }
    }

    /// Edits need the whole body, whatever its type claims.
    pub async fn edited(self, prepared: &Prepared, limits: ReadLimits, worker: &Worker) -> Result<Self, Failure> {
        let held = match self {
            Self::Open(body) => classify::read(body, limits, &worker.shared).await?,
            Self::Held(held) => held,
        };
        if held.rest.is_some() {
            return Err(Failure::new(
                Kind::BodyTooLarge,
                "this channel changes the request's body, and the body is larger than may be read for that",
            ));
        }
        let bytes = forward::edited_body(held.bytes, &prepared.body_edits).await?;
        Ok(Self::Held(Held { bytes, ..held }))
    }

    pub fn into_request_body(self) -> (RequestBody, Option<Reservation>) {
        match self {
            Self::Open(body) => (RequestBody::stream(Bytes::new(), body), None),
            Self::Held(Held { bytes, trailers, rest: None, reservation }) => {
                (RequestBody::complete(bytes, trailers), Some(reservation))
            }
            Self::Held(Held { bytes, rest: Some(rest), reservation, .. }) => {
                (RequestBody::stream(bytes, rest), Some(reservation))
            }
        }
    }
}
