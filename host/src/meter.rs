//! Usage of a reply, read as it streams past: a JSON body, array elements, SSE events, NDJSON lines, and the messages of
//! a WebSocket ([`MessageMeter`]).
//!
//! A meter never holds a reply up, never keeps a piece of it and never fails an exchange: what cannot be read is
//! flagged and left out. It reads only what is not compressed.

mod extra_chunk;
mod message;
mod set;
mod sse;

use std::sync::Arc;

pub use extra_chunk::ExtraChunk;
pub use message::MessageMeter;
pub use set::{CompiledMeters, Fold, MeterError, MeterSpec, Usage};

use crate::json::{Documents, Scanner};
use set::Totals;
use sse::{EventStream, Part};

/// The meters of one reply.
#[derive(Debug)]
pub struct Meter {
    set: Arc<CompiledMeters>,
    scanner: Scanner,
    framing: Framing,
    totals: Totals,
}

#[derive(Debug)]
enum Framing {
    /// One text with a document or many; false after the first fault in it.
    Json {
        is_sound: bool,
    },
    Events {
        stream: EventStream,
        event: Event,
    },
}

/// How far an SSE event's data has been read.
#[derive(Debug, Default)]
struct Event {
    has_data: bool,
    /// How much of [`DONE`] it consists of so far; none: something else.
    done_matched: Option<usize>,
}

/// What ends many providers' streams in place of JSON.
const DONE: &[u8] = b"[DONE]";

impl Meter {
    /// None where the reply's headers say that it cannot be read: compressed, or of a type without JSON.
    pub fn new(set: Arc<CompiledMeters>, content_type: Option<&str>, content_encoding: Option<&str>) -> Option<Self> {
        if content_encoding.is_some_and(|coding| !coding.trim().eq_ignore_ascii_case("identity")) {
            return None;
        }
        let essence = content_type?.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let (framing, documents) = match &*essence {
            "text/event-stream" => {
                (Framing::Events { stream: EventStream::default(), event: Event::default() }, Documents::One)
            }
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" | "application/x-jsonlines" => {
                (Framing::Json { is_sound: true }, Documents::Lines)
            }
            "application/json" | "text/json" => (Framing::Json { is_sound: true }, Documents::Elements),
            other if other.ends_with("+json") => (Framing::Json { is_sound: true }, Documents::Elements),
            _ => return None,
        };
        let scanner = Scanner::new(Arc::clone(set.query()), documents);
        Some(Self { totals: Totals::new(&set), scanner, framing, set })
    }

    /// Whether the reply is a stream of events.
    pub fn reads_events(&self) -> bool {
        matches!(self.framing, Framing::Events { .. })
    }

    /// The next piece of the body.
    pub fn push(&mut self, chunk: &[u8]) {
        let Self { set, scanner, framing, totals } = self;
        match framing {
            Framing::Json { is_sound: false } => {}
            Framing::Json { is_sound } => {
                let mut rest = chunk;
                loop {
                    match scanner.next_document(&mut rest) {
                        Ok(true) => totals.count(set, scanner),
                        Ok(false) => break,
                        Err(_) => {
                            *is_sound = false;
                            totals.is_partial = true;
                            break;
                        }
                    }
                }
            }
            Framing::Events { stream, event } => stream.push(chunk, |part| match part {
                Part::Data(bytes) => event.data(scanner, bytes),
                Part::NextLine => event.next_line(scanner),
                Part::End => event.end(set, scanner, totals),
            }),
        }
    }

    /// The body is at its end, or will not go on: what was used as far as it could be read.
    pub fn finish(mut self) -> Usage {
        match &mut self.framing {
            Framing::Json { is_sound: true } => match self.scanner.finish() {
                Ok(true) => self.totals.count(&self.set, &self.scanner),
                Ok(false) => {}
                Err(_) => self.totals.is_partial = true,
            },
            // The standard drops an event without the blank line behind it; its tokens were used all the same.
            Framing::Events { event, .. } => event.end(&self.set, &mut self.scanner, &mut self.totals),
            Framing::Json { is_sound: false } => {}
        }
        self.totals.into_usage(&self.set)
    }
}

impl Event {
    fn begin(&mut self, scanner: &mut Scanner) {
        if !self.has_data {
            scanner.reset();
            *self = Self { has_data: true, done_matched: Some(0) };
        }
    }

    fn data(&mut self, scanner: &mut Scanner, bytes: &[u8]) {
        self.begin(scanner);
        self.done_matched =
            self.done_matched.and_then(|matched| DONE[matched..].starts_with(bytes).then(|| matched + bytes.len()));
        // A fault stays in the scanner until the event's end.
        let _ = scanner.push(bytes);
    }

    fn next_line(&mut self, scanner: &mut Scanner) {
        self.done_matched = None;
        let _ = scanner.push(b"\n");
    }

    fn end(&mut self, set: &CompiledMeters, scanner: &mut Scanner, totals: &mut Totals) {
        if std::mem::take(&mut self.has_data) && self.done_matched != Some(DONE.len()) {
            match scanner.finish() {
                Ok(_) => totals.count(set, scanner),
                Err(_) => totals.is_partial = true,
            }
        }
    }
}

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
