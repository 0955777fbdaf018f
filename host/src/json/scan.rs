//! A push scanner: validates JSON (RFC 8259) in pieces cut anywhere and remembers what stands at a query's pointers.
//!
//! Its verdict does not depend on where the pieces were cut, and it reads every byte: of members that occur twice the
//! last counts, as in every mainstream parser, so stopping at the first would let a client show the gateway one model
//! and the upstream another. It keeps no piece: only the captured texts, each bounded. It does not judge numbers
//! (any that the grammar allows) nor halves of surrogate pairs.
//!
//! The file is long because the grammar is one state machine and reads best in one place.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::query::{NONE, Query, ROOT};
use super::text;

/// How deep arrays and objects may nest.
pub const DEPTH_MAX: u8 = 128;

/// How documents follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Documents {
    /// One, and nothing behind it.
    One,
    /// Any number, with a line feed between two of them.
    Lines,
    /// Each element of a top-level array; where the top level is not an array, that is the only one.
    Elements,
}

/// Why the bytes are not JSON, or not what is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed {
    /// Bytes before the one at fault.
    pub at: usize,
    pub reason: Reason,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    UnexpectedByte,
    ControlByteInString,
    UnknownEscape,
    NotUtf8,
    TooDeep,
    ByteOrderMark,
    TrailingBytes,
    Incomplete,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = match self.reason {
            Reason::UnexpectedByte => "a byte that cannot stand here",
            Reason::ControlByteInString => "a control byte in a string, which must be escaped",
            Reason::UnknownEscape => "an unknown escape in a string",
            Reason::NotUtf8 => "bytes that are not UTF-8",
            Reason::TooDeep => "more than 128 arrays and objects inside each other",
            Reason::ByteOrderMark => "a byte order mark, which JSON does not allow",
            Reason::TrailingBytes => "bytes after the end of the document",
            Reason::Incomplete => "the document ends too early",
        };
        write!(f, "at byte {}: {reason}", self.at)
    }
}

impl std::error::Error for Malformed {}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Null,
    True,
    False,
    Number,
    String,
    Array,
    Object,
}

/// What stands at a pointer.
#[derive(Debug, Clone)]
pub struct Found<'a> {
    pub kind: Kind,
    /// In bytes from the beginning, quotes and brackets included.
    pub span: Range<usize>,
    captured: Option<&'a [u8]>,
    capture_bytes_max: usize,
}

impl<'a> Found<'a> {
    /// A string unquoted, another value as JSON text; none: longer than the query's limit.
    pub fn text(&self) -> Option<Cow<'a, str>> {
        let text = match self.kind {
            Kind::String => text::unescape(self.captured?.get(1..self.span.len() - 1)?),
            _ => String::from_utf8_lossy(self.captured?),
        };
        (text.len() <= self.capture_bytes_max).then_some(text)
    }
}

/// The state of reading one text.
#[derive(Debug)]
pub struct Scanner {
    query: Arc<Query>,
    documents: Documents,
    state: State,
    /// Arrays and objects that are open; of the innermost 128, a bit each says that it is an object.
    depth: u8,
    objects: u128,
    /// The depth at which a document begins: one inside the array of [`Documents::Elements`].
    base: u8,
    /// The innermost open container that the query leads to is at this depth; `base` when there is none.
    live: u8,
    /// The trie's node for that container.
    node: u32,
    /// The trie's node for the value that is about to come, or for the scalar being read.
    candidate: u32,
    /// For each open array that the query leads to, the index of its current element.
    indices: Vec<u64>,
    /// Bytes before the current piece.
    offset: usize,
    /// The string being read: whether it is a member's name, whether it has escapes, where its inside began in the
    /// current piece, and of a wanted name what earlier pieces held.
    is_name: bool,
    is_escaped: bool,
    name_from: usize,
    name: Vec<u8>,
    /// The beginning of a UTF-8 sequence that a piece's end has cut.
    cut: [u8; 4],
    cut_len: u8,
    slots: Vec<Slot>,
    /// The last step has ended a document.
    ended: bool,
    fault: Option<Malformed>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Start,
    Value,
    FirstElement,
    Element,
    FirstMember,
    Member,
    Colon,
    AfterValue,
    Done,
    String,
    Escape,
    Hex(u8),
    Number(Number),
    /// How much of `true`, `false` or `null` was read.
    Literal(Literal, u8),
}

#[derive(Debug, Clone, Copy)]
enum Literal {
    True,
    False,
    Null,
}

impl Literal {
    fn text(self) -> &'static [u8] {
        match self {
            Self::True => b"true",
            Self::False => b"false",
            Self::Null => b"null",
        }
    }
}

/// What has just been read of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    Minus,
    Zero,
    Integer,
    Point,
    Fraction,
    ExponentMark,
    ExponentSign,
    Exponent,
}

impl Number {
    fn may_end(self) -> bool {
        matches!(self, Self::Zero | Self::Integer | Self::Fraction | Self::Exponent)
    }
}

#[derive(Debug)]
struct Slot {
    state: SlotState,
    kind: Kind,
    start: usize,
    end: usize,
    /// Copied up to here.
    copied: usize,
    text: Vec<u8>,
    is_too_long: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SlotState {
    Absent,
    Open,
    Found,
}

impl Slot {
    /// Takes what the current piece holds of the value, up to `end`.
    fn copy(&mut self, chunk: &[u8], offset: usize, end: usize, bytes_max: usize) {
        let bytes = &chunk[self.copied - offset..end];
        self.copied = offset + end;
        // A byte of a string may be written with six, and there are the quotes.
        let room = if self.kind == Kind::String { bytes_max.saturating_mul(6).saturating_add(2) } else { bytes_max };
        if self.is_too_long || bytes.len() > room - self.text.len() {
            self.is_too_long = true;
            self.text.clear();
        } else {
            self.text.extend_from_slice(bytes);
        }
    }
}

impl Scanner {
    pub fn new(query: Arc<Query>, documents: Documents) -> Self {
        let slots = (0..query.slot_count()).map(|_| Slot {
            state: SlotState::Absent,
            kind: Kind::Null,
            start: 0,
            end: 0,
            copied: 0,
            text: Vec::new(),
            is_too_long: false,
        });
        Self {
            slots: slots.collect(),
            query,
            documents,
            state: State::Start,
            depth: 0,
            objects: 0,
            base: 0,
            live: 0,
            node: NONE,
            candidate: NONE,
            indices: Vec::new(),
            offset: 0,
            is_name: false,
            is_escaped: false,
            name_from: 0,
            name: Vec::new(),
            cut: [0; 4],
            cut_len: 0,
            ended: false,
            fault: None,
        }
    }

    /// Ready for another text; keeps its buffers.
    pub fn reset(&mut self) {
        self.forget(ROOT);
        self.state = State::Start;
        self.depth = 0;
        self.base = 0;
        self.live = 0;
        self.node = NONE;
        self.candidate = NONE;
        self.indices.clear();
        self.offset = 0;
        self.cut_len = 0;
        self.ended = false;
        self.fault = None;
    }

    /// The next piece. Where there may be several documents, what was found is of the last.
    pub fn push(&mut self, chunk: &[u8]) -> Result<(), Malformed> {
        let mut rest = chunk;
        while self.next_document(&mut rest)? {}
        Ok(())
    }

    /// Reads on in a piece and takes what was read from it: true at the end of a document, whose findings stand until
    /// the next call; false when the piece is used up.
    pub fn next_document(&mut self, chunk: &mut &[u8]) -> Result<bool, Malformed> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        match self.advance(chunk) {
            Ok((read, ended)) => {
                *chunk = &chunk[read..];
                self.offset += read;
                Ok(ended)
            }
            Err((at, reason)) => Err(self.fail(self.offset + at, reason)),
        }
    }

    /// The text is at its end. True if that ended a document (a number, which only what follows it can end).
    pub fn finish(&mut self) -> Result<bool, Malformed> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        if let State::Number(number) = self.state
            && self.depth == 0
            && number.may_end()
        {
            self.end_scalar(&[], 0);
        }
        match (self.state, self.documents) {
            (State::Done, _) | (State::Start, Documents::Lines) => Ok(std::mem::take(&mut self.ended)),
            _ => Err(self.fail(self.offset, Reason::Incomplete)),
        }
    }

    /// What stands at the query's `pointer`th pointer; to be relied on once the document has ended.
    pub fn found(&self, pointer: usize) -> Option<Found<'_>> {
        let slot = &self.slots[self.query.slot_of(pointer)];
        (slot.state == SlotState::Found).then(|| Found {
            kind: slot.kind,
            span: slot.start..slot.end,
            captured: (!slot.is_too_long).then_some(&slot.text),
            capture_bytes_max: self.query.capture_bytes_max,
        })
    }

    /// [`Found::text`], where "absent" and "too long" are the same to the caller.
    pub fn found_text(&self, pointer: usize) -> Option<Cow<'_, str>> {
        self.found(pointer)?.text()
    }

    fn fail(&mut self, at: usize, reason: Reason) -> Malformed {
        let fault = Malformed { at, reason };
        self.fault = Some(fault);
        fault
    }

    /// How much was read, and whether a document ended there. Errors hold the place within the piece.
    fn advance(&mut self, chunk: &[u8]) -> Result<(usize, bool), (usize, Reason)> {
        let mut at = 0;
        while !self.ended {
            match self.state {
                State::String => {
                    if !self.string(chunk, &mut at)? {
                        break;
                    }
                }
                State::Number(number) => {
                    if !self.number(number, chunk, &mut at)? {
                        break;
                    }
                }
                State::Escape | State::Hex(_) => {
                    let Some(&byte) = chunk.get(at) else { break };
                    self.escape(byte).map_err(|reason| (at, reason))?;
                    at += 1;
                }
                State::Literal(literal, read) => {
                    if !self.literal(literal, read, chunk, &mut at)? {
                        break;
                    }
                }
                _ => {
                    let Some(byte) = self.next_byte(chunk, &mut at) else { break };
                    self.structure(byte, chunk, &mut at)?;
                }
            }
        }
        self.suspend(chunk, at);
        Ok((at, std::mem::take(&mut self.ended)))
    }

    /// Skips white space.
    #[inline]
    fn next_byte(&mut self, chunk: &[u8], at: &mut usize) -> Option<u8> {
        loop {
            let byte = *chunk.get(*at)?;
            match byte {
                b' ' | b'\t' | b'\r' => {}
                b'\n' => {
                    if self.documents == Documents::Lines && matches!(self.state, State::Done) {
                        self.state = State::Start;
                    }
                }
                _ => return Some(byte),
            }
            *at += 1;
        }
    }

    /// A byte that is neither white space nor inside a scalar.
    #[inline]
    fn structure(&mut self, byte: u8, chunk: &[u8], at: &mut usize) -> Result<(), (usize, Reason)> {
        match self.state {
            State::Colon if byte == b':' => self.state = State::Value,
            State::Value => self.begin_value(byte, *at)?,
            State::AfterValue => match byte {
                b',' if self.in_object() => self.state = State::Member,
                b',' => {
                    if self.is_live() {
                        *self.indices.last_mut().expect("a live array has an index") += 1;
                    }
                    self.state = State::Element;
                }
                b'}' if self.in_object() => self.close(chunk, *at),
                b']' if !self.in_object() => self.close(chunk, *at),
                _ => return Err((*at, Reason::UnexpectedByte)),
            },
            State::FirstMember | State::Member if byte == b'"' => {
                self.is_name = true;
                self.begin_string(*at);
            }
            State::FirstMember if byte == b'}' => self.close(chunk, *at),
            State::FirstElement if byte == b']' => self.close(chunk, *at),
            State::FirstElement | State::Element => {
                if self.is_live() {
                    let index = *self.indices.last().expect("a live array has an index");
                    self.candidate = self.query.element(self.node, index);
                } else if self.depth == self.base {
                    self.begin_document();
                }
                self.begin_value(byte, *at)?;
            }
            State::Start if byte == b'[' && self.documents == Documents::Elements => {
                self.depth = 1;
                self.base = 1;
                self.live = 1;
                self.objects = 0;
                self.state = State::FirstElement;
            }
            State::Start if byte == 0xef && self.offset + *at == 0 => return Err((*at, Reason::ByteOrderMark)),
            State::Start => {
                self.begin_document();
                self.begin_value(byte, *at)?;
            }
            State::Done => return Err((*at, Reason::TrailingBytes)),
            _ => return Err((*at, Reason::UnexpectedByte)),
        }
        *at += 1;
        Ok(())
    }

    fn begin_document(&mut self) {
        self.forget(ROOT);
        self.candidate = ROOT;
    }

    #[inline]
    fn begin_value(&mut self, byte: u8, at: usize) -> Result<(), (usize, Reason)> {
        let (kind, state) = match byte {
            b'"' => (Kind::String, State::String),
            b'{' => (Kind::Object, State::FirstMember),
            b'[' => (Kind::Array, State::FirstElement),
            b'-' => (Kind::Number, State::Number(Number::Minus)),
            b'0' => (Kind::Number, State::Number(Number::Zero)),
            b'1'..=b'9' => (Kind::Number, State::Number(Number::Integer)),
            b't' => (Kind::True, State::Literal(Literal::True, 1)),
            b'f' => (Kind::False, State::Literal(Literal::False, 1)),
            b'n' => (Kind::Null, State::Literal(Literal::Null, 1)),
            _ => return Err((at, Reason::UnexpectedByte)),
        };
        if self.candidate != NONE {
            self.open_slot(kind, at);
        }
        match kind {
            Kind::String => {
                self.is_name = false;
                self.begin_string(at);
            }
            Kind::Object | Kind::Array => self.open_container(kind).map_err(|reason| (at, reason))?,
            _ => {}
        }
        self.state = state;
        Ok(())
    }

    #[inline]
    fn open_container(&mut self, kind: Kind) -> Result<(), Reason> {
        if self.depth == DEPTH_MAX {
            return Err(Reason::TooDeep);
        }
        self.objects = self.objects << 1 | u128::from(kind == Kind::Object);
        self.depth += 1;
        if self.candidate != NONE {
            self.live = self.depth;
            self.node = self.candidate;
            self.candidate = NONE;
            if kind == Kind::Array {
                self.indices.push(0);
            }
        }
        Ok(())
    }

    #[inline]
    fn close(&mut self, chunk: &[u8], at: usize) {
        if self.is_live() {
            if !self.in_object() {
                self.indices.pop();
            }
            self.end_slot(self.node, chunk, at + 1);
            self.node = self.query.parent(self.node);
            self.live -= 1;
        } else if self.depth == self.base {
            // The array around the documents: its end ends none of them.
            self.base = 0;
            self.live = 0;
            self.depth = 0;
            self.state = State::Done;
            return;
        }
        self.objects >>= 1;
        self.depth -= 1;
        self.end_value();
    }

    #[inline]
    fn end_scalar(&mut self, chunk: &[u8], end: usize) {
        if self.candidate != NONE {
            self.end_slot(self.candidate, chunk, end);
            self.candidate = NONE;
        }
        self.end_value();
    }

    #[inline]
    fn end_value(&mut self) {
        self.state = if self.depth == 0 { State::Done } else { State::AfterValue };
        self.ended = self.depth == self.base;
    }

    #[inline]
    fn in_object(&self) -> bool {
        self.objects & 1 == 1
    }

    /// Whether the innermost container is one that the query leads to.
    #[inline]
    fn is_live(&self) -> bool {
        self.depth == self.live && self.depth > self.base
    }

    #[inline]
    fn begin_string(&mut self, at: usize) {
        self.state = State::String;
        self.is_escaped = false;
        self.name_from = at + 1;
    }

    /// Inside a string. False: the piece is used up.
    #[inline]
    fn string(&mut self, chunk: &[u8], at: &mut usize) -> Result<bool, (usize, Reason)> {
        while self.cut_len > 0 {
            let Some(&byte) = chunk.get(*at) else { return Ok(false) };
            self.cut[self.cut_len as usize] = byte;
            self.cut_len += 1;
            match std::str::from_utf8(&self.cut[..self.cut_len as usize]) {
                Ok(_) => self.cut_len = 0,
                Err(error) if error.error_len().is_none() => {}
                Err(_) => return Err((*at, Reason::NotUtf8)),
            }
            *at += 1;
        }
        let run = text::plain_run(&chunk[*at..]);
        let end = *at + run.len;
        if !run.ascii {
            self.check_utf8(&chunk[*at..end], end == chunk.len()).map_err(|valid| (*at + valid, Reason::NotUtf8))?;
        }
        *at = end;
        match chunk.get(end) {
            None => return Ok(false),
            Some(b'"') => {
                if self.is_name {
                    self.end_name(chunk, end);
                    // Nearly always the colon follows at once.
                    if chunk.get(end + 1) == Some(&b':') {
                        self.state = State::Value;
                        *at += 1;
                    }
                } else {
                    self.end_scalar(chunk, end + 1);
                }
            }
            Some(b'\\') => {
                self.is_escaped = true;
                self.state = State::Escape;
            }
            Some(_) => return Err((end, Reason::ControlByteInString)),
        }
        *at += 1;
        Ok(true)
    }

    /// The error is how many of the bytes are right.
    #[inline(never)]
    fn check_utf8(&mut self, bytes: &[u8], may_be_cut: bool) -> Result<(), usize> {
        let Err(error) = std::str::from_utf8(bytes) else { return Ok(()) };
        let valid = error.valid_up_to();
        if error.error_len().is_some() || !may_be_cut {
            return Err(valid);
        }
        let cut = &bytes[valid..];
        self.cut[..cut.len()].copy_from_slice(cut);
        self.cut_len = cut.len() as u8;
        Ok(())
    }

    fn escape(&mut self, byte: u8) -> Result<(), Reason> {
        self.state = match (self.state, byte) {
            (State::Escape, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => State::String,
            (State::Escape, b'u') => State::Hex(4),
            (State::Hex(left), _) if byte.is_ascii_hexdigit() => {
                if left == 1 {
                    State::String
                } else {
                    State::Hex(left - 1)
                }
            }
            _ => return Err(Reason::UnknownEscape),
        };
        Ok(())
    }

    /// Only the names in a container that the query leads to, and leads further in, matter.
    #[inline]
    fn is_name_wanted(&self) -> bool {
        self.is_live() && self.query.has_children(self.node)
    }

    /// At a name's closing quote.
    #[inline]
    fn end_name(&mut self, chunk: &[u8], end: usize) {
        self.state = State::Colon;
        if self.is_name_wanted() {
            if self.name.is_empty() {
                self.candidate = self.query.member(self.node, &chunk[self.name_from..end], self.is_escaped);
            } else {
                self.keep_name(&chunk[self.name_from..end]);
                self.candidate = self.query.member(self.node, &self.name, self.is_escaped);
                self.name.clear();
            }
        }
    }

    /// Part of a name that pieces' ends have cut. A name that is too long to match is kept just so long: by two
    /// bytes, as one alone may be half of an escape and mean nothing.
    fn keep_name(&mut self, bytes: &[u8]) {
        let room = (self.query.name_bytes_max + 2).saturating_sub(self.name.len());
        self.name.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// Inside a number. False: the piece is used up.
    #[inline]
    fn number(&mut self, mut number: Number, chunk: &[u8], at: &mut usize) -> Result<bool, (usize, Reason)> {
        use Number as N;
        while let Some(&byte) = chunk.get(*at) {
            number = match (number, byte) {
                (N::Minus, b'0') => N::Zero,
                (N::Minus, b'1'..=b'9') | (N::Integer, b'0'..=b'9') => N::Integer,
                (N::Zero | N::Integer, b'.') => N::Point,
                (N::Point | N::Fraction, b'0'..=b'9') => N::Fraction,
                (N::Zero | N::Integer | N::Fraction, b'e' | b'E') => N::ExponentMark,
                (N::ExponentMark, b'+' | b'-') => N::ExponentSign,
                (N::ExponentMark | N::ExponentSign | N::Exponent, b'0'..=b'9') => N::Exponent,
                _ if number.may_end() => {
                    self.end_scalar(chunk, *at);
                    return Ok(true);
                }
                _ => return Err((*at, Reason::UnexpectedByte)),
            };
            *at += 1;
        }
        self.state = State::Number(number);
        Ok(false)
    }

    /// Inside a literal. False: the piece is used up.
    #[inline]
    fn literal(&mut self, literal: Literal, read: u8, chunk: &[u8], at: &mut usize) -> Result<bool, (usize, Reason)> {
        let missing = &literal.text()[read as usize..];
        let here = &chunk[*at..chunk.len().min(*at + missing.len())];
        let same = missing.iter().zip(here).take_while(|(a, b)| a == b).count();
        *at += same;
        if same < here.len() {
            return Err((*at, Reason::UnexpectedByte));
        }
        if same < missing.len() {
            self.state = State::Literal(literal, read + same as u8);
            return Ok(false);
        }
        self.end_scalar(chunk, *at);
        Ok(true)
    }

    /// Takes along what the rest of this scan needs of a piece that is used up to `end`.
    fn suspend(&mut self, chunk: &[u8], end: usize) {
        if matches!(self.state, State::String | State::Escape | State::Hex(_)) && self.is_name && self.is_name_wanted()
        {
            self.keep_name(&chunk[self.name_from..end]);
        }
        self.name_from = 0;
        for slot in &mut self.slots {
            if slot.state == SlotState::Open {
                slot.copy(chunk, self.offset, end, self.query.capture_bytes_max);
            }
        }
    }

    /// A value begins at the candidate; what was found there or below of an earlier one does not count any more.
    fn open_slot(&mut self, kind: Kind, at: usize) {
        self.forget(self.candidate);
        let slot = self.query.slot_at(self.candidate);
        if slot != NONE {
            let slot = &mut self.slots[slot as usize];
            slot.state = SlotState::Open;
            slot.kind = kind;
            slot.start = self.offset + at;
            slot.copied = slot.start;
            slot.is_too_long = false;
            slot.text.clear();
        }
    }

    fn end_slot(&mut self, node: u32, chunk: &[u8], end: usize) {
        let slot = self.query.slot_at(node);
        if slot != NONE {
            let slot = &mut self.slots[slot as usize];
            slot.copy(chunk, self.offset, end, self.query.capture_bytes_max);
            slot.state = SlotState::Found;
            slot.end = self.offset + end;
        }
    }

    fn forget(&mut self, node: u32) {
        for slot in &mut self.slots[self.query.below(node)] {
            slot.state = SlotState::Absent;
        }
    }
}

#[cfg(test)]
mod tests;
