//! What kind of request is this, and what does its body say?
//!
//! The body is read only where a plugin's profile (or the channel, for usage) asks for it, up to `inspect_bytes_max` and under a budget for the
//! whole process; what was read goes upstream unchanged. It is read to its end: JSON allows a member twice, parsers
//! take the last one, and a request must not be routed by one `model` and served by another.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::request::Parts;
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::error::{Failure, Kind};
use crate::exchange::worker::{Reservation, Shared};
use crate::exchange::{handshake, names};
use crate::json::{self, Documents};
use crate::multipart;
use crate::plugin::{Profile, Transport};

/// Looking through a body leaves the worker to other exchanges after so many bytes.
const SCAN_BYTES_MAX: usize = 256 << 10;

/// A body that has to be waited for must bring so many bytes in time: one that trickles would hold the budget for ever.
const PACE_BYTES: usize = 16 << 10;

/// The bounds within which a body is read.
#[derive(Debug, Clone, Copy)]
pub struct ReadLimits {
    pub bytes_max: usize,
    pub budget_bytes: usize,
    /// The longest time for the next [`PACE_BYTES`], or for the end.
    pub idle: Duration,
}

/// A body of which at least the beginning has been read.
pub struct Held {
    pub bytes: Bytes,
    pub trailers: Option<HeaderMap>,
    /// What is still to come, where the body is longer than may be read.
    pub rest: Option<Incoming>,
    pub reservation: Reservation,
}

impl Held {
    /// A body that is all there, and counts towards no budget.
    pub fn complete(bytes: Bytes, shared: &Arc<Shared>) -> Self {
        Self { bytes, trailers: None, rest: None, reservation: inspection(shared) }
    }
}

/// A held body's share of the budget for all of them.
fn inspection(shared: &Arc<Shared>) -> Reservation {
    Reservation::new(shared, |shared| &shared.inspected_bytes)
}

/// What the body says, in the words of a profile.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Facts {
    pub model: Option<String>,
    pub streaming: bool,
    pub body: Vec<Option<String>>,
}

pub fn transport(parts: &Parts) -> Transport {
    if handshake::is_asked_for(parts) { Transport::Websocket } else { Transport::Http }
}

/// Whether this body could tell what a profile asks for.
pub fn is_readable(headers: &HeaderMap, body: &Incoming, bytes_max: usize) -> bool {
    !body.is_end_stream()
        && !is_encoded(headers)
        && kind(headers) != Content::Other
        && body.size_hint().lower() <= bytes_max as u64
}

/// Whether the body is JSON, and can be read.
pub fn is_json(headers: &HeaderMap) -> bool {
    !is_encoded(headers) && kind(headers) == Content::Json
}

fn is_encoded(headers: &HeaderMap) -> bool {
    names::has(headers, &CONTENT_ENCODING)
        && headers.get(CONTENT_ENCODING).is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// Reads the body to its end, or to the limit.
pub async fn read(mut body: Incoming, limits: ReadLimits, shared: &Arc<Shared>) -> Result<Held, Failure> {
    let mut reservation = inspection(shared);
    let mut pieces = Pieces::default();
    let mut trailers = None;
    let mut pace = Pace { idle: limits.idle, running: None };
    while !body.is_end_stream() {
        let Some(frame) = next_frame(&mut body, &mut pace, pieces.len()).await? else { break };
        match frame.into_data() {
            Ok(data) => {
                if !reservation.grow(data.len(), limits.budget_bytes) {
                    return Err(Failure::new(
                        Kind::InspectBudget,
                        "the gateway is reading too many large requests at the moment; try again",
                    )
                    .retry_after(1));
                }
                pieces.push(data);
                if pieces.len() > limits.bytes_max {
                    return Ok(Held { bytes: pieces.joined(), trailers, rest: Some(body), reservation });
                }
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    Ok(Held { bytes: pieces.joined(), trailers, rest: None, reservation })
}

/// The time by which a body must have brought more; asked for only where it is waited for.
struct Pace {
    idle: Duration,
    /// The deadline, and the length that sets another.
    running: Option<(Instant, usize)>,
}

impl Pace {
    fn deadline(&mut self, length: usize) -> Instant {
        match self.running {
            Some((deadline, enough)) if length < enough => deadline,
            _ => {
                let deadline = Instant::now() + self.idle;
                self.running = Some((deadline, length + PACE_BYTES));
                deadline
            }
        }
    }
}

async fn next_frame(
    body: &mut Incoming,
    pace: &mut Pace,
    length: usize,
) -> Result<Option<http_body::Frame<Bytes>>, Failure> {
    // What came together with the head needs no timer.
    let next = match body.frame().now_or_never() {
        Some(next) => next,
        // In a box: the exchange's future, which is moved about, then has no room for a timer.
        None => Box::pin(tokio::time::timeout_at(pace.deadline(length), body.frame()))
            .await
            .map_err(|_| Failure::new(Kind::BodyBroken, "the request's body stopped coming, or comes too slowly"))?,
    };
    next.transpose()
        .map_err(|error| Failure::new(Kind::BodyBroken, "the request's body broke off or is malformed").because(error))
}

/// What the body says of the fields that the profile asks for.
pub async fn facts(headers: &HeaderMap, held: Option<&Held>, profile: &Profile, fields: &Fields) -> Facts {
    let mut facts = Facts { body: vec![None; profile.body.len()], ..Facts::default() };
    facts.streaming = accepts_events(headers);
    let Some(held) = held.filter(|held| held.rest.is_none()) else { return facts };
    match kind(headers) {
        Content::Json => fields.read_json(&held.bytes, &mut facts).await,
        Content::Multipart if profile.reads_model => {
            let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
            facts.model = form_model(content_type, &held.bytes).await;
        }
        Content::Multipart | Content::Other => {}
    }
    facts
}

pub fn accepts_events(headers: &HeaderMap) -> bool {
    let names_events = |value: &HeaderValue| {
        value.to_str().is_ok_and(|types| {
            let mut essences = types.split(',').map(|item| item.split(';').next().unwrap_or_default().trim());
            essences.any(|essence| essence.eq_ignore_ascii_case("text/event-stream"))
        })
    };
    names::has(headers, &ACCEPT) && headers.get_all(ACCEPT).iter().any(names_events)
}

/// The form's field `model`. A long form is searched on a thread of its own: a worker has other exchanges to serve.
async fn form_model(content_type: &str, body: &Bytes) -> Option<String> {
    if body.len() <= SCAN_BYTES_MAX {
        return multipart::field(content_type, body, "model");
    }
    let (content_type, body) = (content_type.to_owned(), body.clone());
    let search = tokio::task::spawn_blocking(move || multipart::field(&content_type, &body, "model"));
    search.await.ok().flatten()
}

/// The places in a JSON body that a profile asks for, ready to be looked for.
pub struct Fields {
    query: Arc<json::Query>,
    reads_model: bool,
}

/// `model` text longer than this, or another field's, counts as absent.
const FIELD_BYTES_MAX: usize = 4096;

impl Fields {
    /// `None` when the profile asks for nothing in the body.
    pub fn new(profile: &Profile) -> Option<Self> {
        let model = ["/model", "/stream"].into_iter().filter(|_| profile.reads_model).map(str::to_owned);
        let pointers: Vec<_> = model.chain(profile.body.iter().cloned()).collect();
        if pointers.is_empty() {
            return None;
        }
        let pointers: Vec<_> =
            pointers.iter().map(|text| json::Pointer::parse(text).expect("a profile's pointers are checked")).collect();
        Some(Self { query: Arc::new(json::Query::new(&pointers, FIELD_BYTES_MAX)), reads_model: profile.reads_model })
    }

    async fn read_json(&self, body: &[u8], facts: &mut Facts) {
        // What is not JSON is for the provider to refuse, in its own words.
        let Some(scanner) = scan(&self.query, body).await else { return };
        let text = |index| scanner.found_text(index).map(std::borrow::Cow::into_owned);
        let mut fields = 0;
        if self.reads_model {
            facts.model = text(0).filter(|_| scanner.found(0).is_some_and(|found| found.kind == json::Kind::String));
            facts.streaming |= scanner.found(1).is_some_and(|found| found.kind == json::Kind::True);
            fields = 2;
        }
        for (index, field) in facts.body.iter_mut().enumerate() {
            *field = text(fields + index);
        }
    }
}

/// Looks through a JSON body; none where it is no JSON.
pub async fn scan(query: &Arc<json::Query>, body: &[u8]) -> Option<json::Scanner> {
    let mut scanner = json::Scanner::new(query.clone(), Documents::One);
    for (index, piece) in body.chunks(SCAN_BYTES_MAX).enumerate() {
        if index > 0 {
            tokio::task::yield_now().await;
        }
        scanner.push(piece).ok()?;
    }
    scanner.finish().ok()?;
    Some(scanner)
}

#[derive(PartialEq, Eq)]
enum Content {
    Json,
    Multipart,
    Other,
}

fn kind(headers: &HeaderMap) -> Content {
    let Some(value) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else { return Content::Json };
    let essence = value.split(';').next().unwrap_or_default().trim();
    let is = |name: &str| essence.eq_ignore_ascii_case(name);
    let is_json_like = essence.len() > 5
        && essence.is_char_boundary(essence.len() - 5)
        && essence[essence.len() - 5..].eq_ignore_ascii_case("+json");
    if is("application/json") || is("text/json") || is_json_like {
        Content::Json
    } else if is("multipart/form-data") {
        Content::Multipart
    } else {
        Content::Other
    }
}

/// Pieces of a body; usually there is one, and then nothing is copied.
#[derive(Default)]
struct Pieces {
    first: Bytes,
    more: Option<BytesMut>,
}

impl Pieces {
    fn push(&mut self, piece: Bytes) {
        match &mut self.more {
            Some(more) => more.extend_from_slice(&piece),
            None if self.first.is_empty() => self.first = piece,
            None => {
                let mut more = BytesMut::with_capacity((self.first.len() + piece.len()) * 2);
                more.extend_from_slice(&self.first);
                more.extend_from_slice(&piece);
                self.more = Some(more);
            }
        }
    }

    fn len(&self) -> usize {
        self.more.as_ref().map_or(self.first.len(), BytesMut::len)
    }

    fn joined(self) -> Bytes {
        self.more.map_or(self.first, BytesMut::freeze)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_form_is_not_searched_on_the_worker() {
        let content_type = "multipart/form-data; boundary=xYz";
        let form = |file_bytes: usize| {
            let part = |disposition: &str, value: &str| {
                format!("--xYz\r\nContent-Disposition: form-data; {disposition}\r\n\r\n{value}\r\n")
            };
            let file = part("name=\"file\"; filename=\"a.wav\"", &"-".repeat(file_bytes));
            Bytes::from(format!("{file}{}--xYz--\r\n", part("name=\"model\"", "whisper")))
        };
        let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
        runtime.block_on(async {
            let short = form(1000);
            assert_eq!(form_model(content_type, &short).now_or_never(), Some(Some("whisper".into())), "no detour");
            // The only other thread is busy, so a search that goes there cannot be over.
            let (release, held) = std::sync::mpsc::channel::<()>();
            let busy = tokio::task::spawn_blocking(move || held.recv());
            let long = form(1 << 20);
            let mut search = Box::pin(form_model(content_type, &long));
            assert_eq!(search.as_mut().now_or_never(), None, "searched elsewhere");
            release.send(()).unwrap();
            busy.await.unwrap().unwrap();
            assert_eq!(search.await.as_deref(), Some("whisper"));
        });
    }
}
