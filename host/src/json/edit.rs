//! Edits of a JSON body that leave every other byte as it was: white space, order, spellings, duplicates elsewhere.
//!
//! The body is validated once, then walked for each edit, so that an edit sees what those before it did. A member
//! that occurs more than once is edited at every occurrence, and each occurrence of a parent must be a container:
//! whichever of them the upstream's parser takes, the edit holds. It does not reformat: an inserted member is written
//! without white space, a removed one takes along one comma and the white space on that side.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::pointer::{Pointer, Token};
use super::query::Query;
use super::scan::{Documents, Malformed, Scanner};
use super::text;

/// An honest body has one occurrence of a member; each one more can add a whole value to the result.
pub const OCCURRENCES_MAX: usize = 64;

/// One change of a body. Values are JSON texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyEdit {
    Set { pointer: Pointer, value: String },
    SetIfAbsent { pointer: Pointer, value: String },
    Remove { pointer: Pointer },
}

impl BodyEdit {
    pub fn pointer(&self) -> &Pointer {
        match self {
            Self::Set { pointer, .. } | Self::SetIfAbsent { pointer, .. } | Self::Remove { pointer } => pointer,
        }
    }

    fn value(&self) -> Option<&str> {
        match self {
            Self::Set { value, .. } | Self::SetIfAbsent { value, .. } => Some(value),
            Self::Remove { .. } => None,
        }
    }
}

/// Which edit could not be made, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditError {
    pub pointer: String,
    pub reason: EditFault,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EditFault {
    /// The body's fault, and no edit's.
    BodyNotJson(Malformed),
    ValueNotJson(Malformed),
    ParentAbsent,
    ParentNotContainer,
    NotAnIndex,
    IndexBeyondEnd,
    RootRemoved,
    TooManyOccurrences,
}

impl fmt::Display for EditError {
    /// For clients and logs: a pointer may hold any character, and is shown without control characters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pointer = self.pointer.escape_debug();
        let reason = match self.reason {
            EditFault::BodyNotJson(malformed) => return write!(f, "the body is not JSON: {malformed}"),
            EditFault::ValueNotJson(malformed) => {
                return write!(f, "the edit at `{pointer}` has a value that is not JSON: {malformed}");
            }
            EditFault::ParentAbsent => "its parent is not in the body",
            EditFault::ParentNotContainer => "its parent is neither an object nor an array",
            EditFault::NotAnIndex => "its parent is an array, where only an index or `-` leads on",
            EditFault::IndexBeyondEnd => "the array is shorter; `-` appends",
            EditFault::RootRemoved => "the whole document cannot be removed",
            EditFault::TooManyOccurrences => "the body has its parent more than 64 times",
        };
        write!(f, "the edit at `{pointer}` cannot be made: {reason}")
    }
}

impl std::error::Error for EditError {}

/// The body after the edits, made in order; an error leaves nothing half done.
pub fn apply(body: &[u8], edits: &[BodyEdit]) -> Result<Vec<u8>, EditError> {
    if edits.is_empty() {
        return Ok(body.to_vec());
    }
    let nothing = Arc::new(Query::new([], 0));
    let check = |text: &[u8]| {
        let mut scanner = Scanner::new(Arc::clone(&nothing), Documents::One);
        scanner.push(text).and_then(|()| scanner.finish())
    };
    check(body).map_err(|malformed| EditError { pointer: String::new(), reason: EditFault::BodyNotJson(malformed) })?;

    let mut edited: Option<Vec<u8>> = None;
    for edit in edits {
        let fail = |reason| EditError { pointer: edit.pointer().to_string(), reason };
        if let Some(value) = edit.value() {
            check(value.as_bytes()).map_err(|malformed| fail(EditFault::ValueNotJson(malformed)))?;
        }
        let before = edited.as_deref().unwrap_or(body);
        if let Some(after) = apply_one(before, edit).map_err(fail)? {
            edited = Some(after);
        }
    }
    Ok(edited.unwrap_or_else(|| body.to_vec()))
}

/// None: the edit changes nothing.
fn apply_one(body: &[u8], edit: &BodyEdit) -> Result<Option<Vec<u8>>, EditFault> {
    let Some((target, path)) = edit.pointer().tokens().split_last() else {
        return match edit {
            BodyEdit::Set { value, .. } => Ok(Some(value.as_bytes().to_vec())),
            BodyEdit::SetIfAbsent { .. } => Ok(None),
            BodyEdit::Remove { .. } => Err(EditFault::RootRemoved),
        };
    };
    let mut walk = Walk { body, edit, target, splices: Vec::new(), parents: 0 };
    walk.visit(skip_space(body, 0), path)?;
    if walk.splices.is_empty() {
        return Ok(None);
    }
    let added: usize = walk.splices.iter().map(|(_, text)| text.len()).sum();
    let mut edited = Vec::with_capacity(body.len() + added);
    let mut kept_from = 0;
    for (place, text) in &walk.splices {
        edited.extend_from_slice(&body[kept_from..place.start]);
        edited.extend_from_slice(text.as_bytes());
        kept_from = place.end;
    }
    edited.extend_from_slice(&body[kept_from..]);
    Ok(Some(edited))
}

/// One edit on its way through a valid document.
struct Walk<'a> {
    body: &'a [u8],
    edit: &'a BodyEdit,
    /// The last step of the pointer.
    target: &'a Token,
    /// What goes where, in ascending order.
    splices: Vec<(Range<usize>, String)>,
    /// Occurrences of the parent so far.
    parents: usize,
}

/// A member or an element.
struct Item {
    /// From the name, where there is one, to the end of the value.
    span: Range<usize>,
    value: Range<usize>,
    is_wanted: bool,
}

impl<'a> Walk<'a> {
    /// The value at `at`, with so much of the path still to go; returns its end. Recursion is bounded by the depth of
    /// a pointer.
    fn visit(&mut self, at: usize, path: &'a [Token]) -> Result<usize, EditFault> {
        let Some((step, rest)) = path.split_first() else {
            return self.edit_parent(at);
        };
        let mut items = Items::new(self.body, at, step)?;
        let mut is_absent = true;
        while let Some(value) = items.next_value() {
            if items.is_wanted {
                is_absent = false;
                items.at = self.visit(value, rest)?;
            } else {
                items.at = skip_value(self.body, value);
            }
        }
        if is_absent { Err(EditFault::ParentAbsent) } else { Ok(items.at) }
    }

    /// The container at `at` holds the target, or will.
    fn edit_parent(&mut self, at: usize) -> Result<usize, EditFault> {
        self.parents += 1;
        if self.parents > OCCURRENCES_MAX {
            return Err(EditFault::TooManyOccurrences);
        }
        let mut items = Items::new(self.body, at, self.target)?;
        let mut last_end = None;
        let mut removal = Removal::default();
        let mut is_absent = true;
        while let Some(item) = items.next_item() {
            last_end = Some(item.span.end);
            is_absent &= !item.is_wanted;
            match self.edit {
                BodyEdit::Set { value, .. } if item.is_wanted => self.splice(item.value, value.clone())?,
                BodyEdit::Remove { .. } => {
                    if let Some(gap) = removal.next(&item) {
                        self.splice(gap, String::new())?;
                    }
                }
                _ => {}
            }
        }
        if let Some(gap) = removal.end(last_end) {
            self.splice(gap, String::new())?;
        }
        if let Some(value) = self.edit.value()
            && is_absent
        {
            let comma = if last_end.is_some() { "," } else { "" };
            let text = if items.is_object {
                let name = serde_json::Value::from(&*self.target.name);
                format!("{comma}{name}:{value}")
            } else if &*self.target.name == "-" || self.target.index == Some(items.index) {
                format!("{comma}{value}")
            } else {
                return Err(EditFault::IndexBeyondEnd);
            };
            let place = last_end.unwrap_or(at + 1);
            self.splice(place..place, text)?;
        }
        Ok(items.at)
    }

    fn splice(&mut self, place: Range<usize>, text: String) -> Result<(), EditFault> {
        // A removal adds nothing, so only the others are counted.
        if !text.is_empty() && self.splices.len() >= OCCURRENCES_MAX {
            return Err(EditFault::TooManyOccurrences);
        }
        self.splices.push((place, text));
        Ok(())
    }
}

/// Turns wanted items into gaps that take one comma with each of them.
#[derive(Default)]
struct Removal {
    /// Where the first of the wanted items since the last kept one begins.
    from: Option<usize>,
    kept_end: Option<usize>,
}

impl Removal {
    /// A kept item ends the gap before it, up to its own beginning.
    fn next(&mut self, item: &Item) -> Option<Range<usize>> {
        if item.is_wanted {
            self.from.get_or_insert(item.span.start);
            return None;
        }
        self.kept_end = Some(item.span.end);
        self.from.take().map(|from| from..item.span.start)
    }

    /// Without a kept item behind it, a gap begins at the end of the one before it.
    fn end(self, last_end: Option<usize>) -> Option<Range<usize>> {
        let from = self.from?;
        Some(self.kept_end.unwrap_or(from)..last_end?)
    }
}

/// The items of a container of a valid document.
struct Items<'a> {
    body: &'a [u8],
    step: &'a Token,
    is_object: bool,
    /// Behind what was read; at the end, behind the container.
    at: usize,
    /// How many items were begun before the current one; at the end, how many there are.
    index: u64,
    is_first: bool,
    item_start: usize,
    /// Whether the step leads to the current item.
    is_wanted: bool,
}

impl<'a> Items<'a> {
    fn new(body: &'a [u8], at: usize, step: &'a Token) -> Result<Self, EditFault> {
        let is_object = match body[at] {
            b'{' => true,
            b'[' if step.index.is_some() || &*step.name == "-" => false,
            b'[' => return Err(EditFault::NotAnIndex),
            _ => return Err(EditFault::ParentNotContainer),
        };
        Ok(Self { body, step, is_object, at: at + 1, index: 0, is_first: true, item_start: 0, is_wanted: false })
    }

    /// Where the next item's value begins. Before the next call, `at` must be set to its end.
    fn next_value(&mut self) -> Option<usize> {
        self.at = skip_space(self.body, self.at);
        if !self.is_first {
            self.index += 1;
        }
        match self.body[self.at] {
            b'}' | b']' => {
                self.at += 1;
                return None;
            }
            b',' => self.at = skip_space(self.body, self.at + 1),
            _ => {}
        }
        self.is_first = false;
        self.item_start = self.at;
        if !self.is_object {
            self.is_wanted = self.step.index == Some(self.index);
            return Some(self.at);
        }
        let name_end = skip_string(self.body, self.at);
        let name = &self.body[self.at + 1..name_end - 1];
        self.is_wanted = *name == *self.step.name.as_bytes()
            || memchr::memchr(b'\\', name).is_some() && *text::unescape(name) == *self.step.name;
        let colon = skip_space(self.body, name_end);
        Some(skip_space(self.body, colon + 1))
    }

    fn next_item(&mut self) -> Option<Item> {
        let start = self.next_value()?;
        let end = skip_value(self.body, start);
        self.at = end;
        Some(Item { span: self.item_start..end, value: start..end, is_wanted: self.is_wanted })
    }
}

fn skip_space(body: &[u8], mut at: usize) -> usize {
    while matches!(body[at], b' ' | b'\t' | b'\n' | b'\r') {
        at += 1;
    }
    at
}

/// From a string's opening quote to behind its closing one.
fn skip_string(body: &[u8], mut at: usize) -> usize {
    at += 1;
    loop {
        at += text::plain_run(&body[at..]).len;
        match body[at] {
            b'"' => return at + 1,
            _ => at += 2,
        }
    }
}

/// Behind the value that begins at `at`.
fn skip_value(body: &[u8], mut at: usize) -> usize {
    let mut depth = 0_usize;
    loop {
        match body[at] {
            b'"' => at = skip_string(body, at),
            b'{' | b'[' => {
                depth += 1;
                at += 1;
            }
            b'}' | b']' => {
                depth -= 1;
                at += 1;
            }
            // Inside a container, what stands between the scalars does not matter.
            _ if depth > 0 => {
                at += 1;
                continue;
            }
            _ => {
                while body
                    .get(at)
                    .is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
                {
                    at += 1;
                }
            }
        }
        if depth == 0 {
            return at;
        }
    }
}

#[cfg(test)]
mod tests;
