//! Takes the chunk with the usage, for which the host asked, out of a stream that a client did not ask it for.
//!
//! OpenAI's streams end with it where `stream_options.include_usage` is set: the event whose data has no choices (an
//! empty array) and an object `usage`. Every other byte goes on as it came. At most the one event that is being read is
//! held back, and of that no more than [`HELD_BYTES_MAX`]: a longer one streams through. A comment before an event's
//! first field belongs to no event and is never held back: some providers keep connections alive with them.

use std::sync::{Arc, LazyLock};

use bytes::{Bytes, BytesMut};

use super::Event;
use super::sse::{EventStream, Part};
use crate::json::{Documents, Kind, Pointer, Query, Scanner};

/// A chunk with usage has some hundred bytes.
const HELD_BYTES_MAX: usize = 64 << 10;

const CHOICES: usize = 0;
const FIRST_CHOICE: usize = 1;
const USAGE: usize = 2;

static QUERY: LazyLock<Arc<Query>> = LazyLock::new(|| {
    let pointers = ["/choices", "/choices/0", "/usage"].map(|text| Pointer::parse(text).expect("a pointer"));
    Arc::new(Query::new(&pointers, 0))
});

/// The filter of one stream.
#[derive(Debug)]
pub struct ExtraChunk {
    stream: EventStream,
    event: Event,
    scanner: Scanner,
    /// What has come of the current block in earlier pieces, and waits for its end.
    held: BytesMut,
    /// The current block is too long to be held.
    is_passing: bool,
    /// The last block ended with a carriage return: a line feed right behind it goes where the block went.
    after_return: bool,
    was_removed: bool,
}

impl Default for ExtraChunk {
    fn default() -> Self {
        Self {
            stream: EventStream::default(),
            event: Event::default(),
            scanner: Scanner::new(Arc::clone(&QUERY), Documents::One),
            held: BytesMut::new(),
            is_passing: false,
            after_return: false,
            was_removed: false,
        }
    }
}

impl ExtraChunk {
    /// The next piece of the stream; what may go on by now.
    pub fn push(&mut self, chunk: &Bytes) -> Bytes {
        let mut kept = Kept::default();
        let mut rest = &chunk[..];
        let mut begins_at = 0;
        while !rest.is_empty() {
            let at = chunk.len() - rest.len();
            if std::mem::take(&mut self.after_return) && rest[0] == b'\n' {
                begins_at = at + 1;
                if !self.was_removed {
                    kept.add(chunk, at..begins_at);
                }
            }
            let Self { stream, event, scanner, .. } = self;
            let ended = stream.next_block(&mut rest, |part| match part {
                Part::Data(bytes) => event.data(scanner, bytes),
                Part::NextLine => event.next_line(scanner),
                Part::End => {}
            });
            if ended {
                let end = chunk.len() - rest.len();
                self.after_return = chunk[end - 1] == b'\r';
                self.was_removed = self.end_block();
                if !self.was_removed {
                    kept.add_held(&mut self.held);
                    kept.add(chunk, begins_at..end);
                }
                self.held.clear();
                begins_at = end;
            }
        }
        let begun = &chunk[begins_at..];
        if self.is_passing || self.held.len() + begun.len() > HELD_BYTES_MAX {
            self.is_passing = true;
            kept.add_held(&mut self.held);
            kept.add(chunk, begins_at..chunk.len());
        } else {
            self.held.extend_from_slice(begun);
        }
        kept.into_bytes(chunk)
    }

    /// The stream is at its end, or will not go on: what is left of it. The standard drops an event without its blank
    /// line, but not every client does.
    pub fn finish(&mut self) -> Bytes {
        let held = std::mem::take(&mut self.held).freeze();
        if self.end_block() { Bytes::new() } else { held }
    }

    /// Whether the block that ends here is the one to take out.
    fn end_block(&mut self) -> bool {
        let is_extra = self.event.has_data && self.scanner.finish().is_ok() && self.has_usage_alone();
        self.event.has_data = false;
        !std::mem::take(&mut self.is_passing) && is_extra
    }

    fn has_usage_alone(&self) -> bool {
        let is = |pointer, kind| self.scanner.found(pointer).is_some_and(|found| found.kind == kind);
        is(CHOICES, Kind::Array) && self.scanner.found(FIRST_CHOICE).is_none() && is(USAGE, Kind::Object)
    }
}

/// What goes on of a piece and of what was held before it; copied only where that is not one stretch of the piece.
#[derive(Default)]
struct Kept {
    stretch: std::ops::Range<usize>,
    copy: Option<BytesMut>,
}

impl Kept {
    fn add(&mut self, chunk: &Bytes, range: std::ops::Range<usize>) {
        if let Some(copy) = &mut self.copy {
            copy.extend_from_slice(&chunk[range]);
        } else if self.stretch.is_empty() {
            self.stretch = range;
        } else if self.stretch.end == range.start {
            self.stretch.end = range.end;
        } else if !range.is_empty() {
            let mut copy = BytesMut::from(&chunk[self.stretch.clone()]);
            copy.extend_from_slice(&chunk[range]);
            self.copy = Some(copy);
        }
    }

    /// There is something held only before anything of the piece goes on.
    fn add_held(&mut self, held: &mut BytesMut) {
        if !held.is_empty() {
            self.copy = Some(std::mem::take(held));
        }
    }

    fn into_bytes(self, chunk: &Bytes) -> Bytes {
        self.copy.map_or_else(|| chunk.slice(self.stretch), BytesMut::freeze)
    }
}

#[cfg(test)]
mod tests;
