//! JSON text as a tree that knows where each value stands, and which members were given twice.
//!
//! `serde_json` alone stops at the first fault of a typed value and forgets places and duplicates; so it is used here
//! for the grammar only (through `RawValue`, whose slices tell their offsets), and [`super::shape`] looks at the types.
//! Invariant: an error tells a place and a rule of the grammar, never a piece of the text.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Number, Value};

use super::problem::{Position, Problems, Spot, member};

/// Deeper than anything meant; the walk over the tree recurses.
const DEPTH_MAX: usize = 64;

pub(super) struct Node {
    pub position: Position,
    pub json: Json,
}

pub(super) enum Json {
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    Array(Vec<Node>),
    /// In file order; a name given twice is here twice.
    Object(Vec<(String, Node)>),
}

impl Node {
    /// The value of a member, the last one if there are several.
    pub fn member(&self, name: &str) -> Option<&Node> {
        match &self.json {
            Json::Object(members) => members.iter().rev().find(|(known, _)| known == name).map(|(_, node)| node),
            _ => None,
        }
    }

    /// Whether a member is there, be it of a wrong type; `null` is the same as leaving it out.
    pub fn gives(&self, name: &str) -> bool {
        self.member(name).is_some_and(|node| !matches!(node.json, Json::Null))
    }

    /// The value without places and without comments.
    pub fn to_value(&self) -> Value {
        match &self.json {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(number) => Value::Number(number.clone()),
            Json::String(text) => Value::String(text.clone()),
            Json::Array(items) => items.iter().map(Self::to_value).collect(),
            Json::Object(members) => members
                .iter()
                .filter(|(name, _)| !is_comment(name))
                .map(|(name, node)| (name.clone(), node.to_value()))
                .collect(),
        }
    }
}

/// JSON has no comments, so a member whose name begins with `_` is one.
pub(super) fn is_comment(name: &str) -> bool {
    name.starts_with('_')
}

/// Reads one file's text. Reports a fault of the grammar (then there is no tree) and each duplicate member.
pub(super) fn parse(bytes: &[u8], problems: &mut Problems<'_>) -> Option<Node> {
    // Some editors begin a file with a byte order mark, which JSON forbids.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(fault) => {
            let sound = std::str::from_utf8(&bytes[..fault.valid_up_to()]).expect("checked up to here");
            let position = Some(Places::of(sound).at(sound.len()));
            let spot = Spot { place: String::new(), position };
            problems.error(&spot, "is not UTF-8", "save the file in the encoding UTF-8");
            return None;
        }
    };
    let places = Places::of(text);
    let raw: &RawValue = match serde_json::from_str(text) {
        Ok(raw) => raw,
        Err(fault) => {
            problems.error(&places.fault(text, &fault), rule(&fault), remedy(&fault));
            return None;
        }
    };
    let mut tree = Tree { text, places: &places, problems };
    tree.node(raw.get(), "", 0)
}

/// The message of `serde_json` without its place; for text that is only split, never typed, it quotes nothing.
fn rule(fault: &serde_json::Error) -> String {
    let message = fault.to_string();
    let rule = message.split(" at line ").next().unwrap_or_default();
    format!("is not JSON: {rule}")
}

fn remedy(fault: &serde_json::Error) -> &'static str {
    // The commonest slip in a file written by hand, whose message does not tell it.
    if fault.to_string().starts_with("key must be a string") {
        "write a name in double quotes here, or remove the comma before"
    } else {
        "correct the JSON at this place"
    }
}

struct Tree<'t, 'p, 'f> {
    text: &'t str,
    places: &'t Places<'t>,
    problems: &'p mut Problems<'f>,
}

impl<'t> Tree<'t, '_, '_> {
    fn node(&mut self, raw: &'t str, place: &str, depth: usize) -> Option<Node> {
        // Both are slices of one text, so that the difference of their addresses is the offset.
        let offset = raw.as_ptr() as usize - self.text.as_ptr() as usize;
        let position = self.places.at(offset);
        let spot = Spot { place: place.to_owned(), position: Some(position) };
        if depth > DEPTH_MAX {
            self.problems.error(&spot, format!("is nested deeper than {DEPTH_MAX} levels"), "write it flatter");
            return None;
        }
        let json = match raw.as_bytes().first() {
            Some(b'{') => self.object(raw, place, depth, &spot),
            Some(b'[') => self.array(raw, place, depth),
            Some(b'"') => serde_json::from_str(raw).map(Json::String).or_else(|fault| self.refuse(&spot, &fault)),
            Some(b't') => Ok(Json::Bool(true)),
            Some(b'f') => Ok(Json::Bool(false)),
            Some(b'n') => Ok(Json::Null),
            _ => serde_json::from_str(raw).map(Json::Number).or_else(|fault| self.refuse(&spot, &fault)),
        };
        json.ok().map(|json| Node { position, json })
    }

    fn array(&mut self, raw: &'t str, place: &str, depth: usize) -> Result<Json, Told> {
        let items: Vec<&RawValue> = serde_json::from_str(raw).map_err(|_| Told)?;
        let nodes: Vec<_> = (items.iter().enumerate())
            .map(|(index, item)| self.node(item.get(), &format!("{place}[{index}]"), depth + 1))
            .collect();
        nodes.into_iter().collect::<Option<Vec<_>>>().map(Json::Array).ok_or(Told)
    }

    fn object(&mut self, raw: &'t str, place: &str, depth: usize, spot: &Spot) -> Result<Json, Told> {
        let members = match serde_json::Deserializer::from_str(raw).deserialize_map(Members) {
            Ok(members) => members,
            Err(fault) => return self.refuse(spot, &fault),
        };
        let mut nodes: Vec<(String, Node)> = Vec::with_capacity(members.len());
        let mut seen = std::collections::HashSet::new();
        let mut sound = true;
        for (name, value) in members {
            let place = member(place, &name);
            let Some(node) = self.node(value.get(), &place, depth + 1) else {
                sound = false;
                continue;
            };
            if !seen.insert(name.clone()) && !is_comment(&name) {
                let spot = Spot { place, position: Some(node.position) };
                self.problems.error(&spot, "is given twice in one object", "remove or rename one of the two");
            }
            nodes.push((name.into_owned(), node));
        }
        if sound { Ok(Json::Object(nodes)) } else { Err(Told) }
    }

    fn refuse(&mut self, spot: &Spot, fault: &serde_json::Error) -> Result<Json, Told> {
        self.problems.error(spot, rule(fault), remedy(fault));
        Err(Told)
    }
}

/// The problem has been reported.
struct Told;

/// The members of an object, unread and with duplicates.
struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
            members.push((Cow::Owned(name), value));
        }
        Ok(members)
    }
}

/// Offsets to lines and columns.
struct Places<'t> {
    text: &'t str,
    line_starts: Vec<usize>,
}

impl<'t> Places<'t> {
    fn of(text: &'t str) -> Self {
        let ends = memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1);
        Self { text, line_starts: std::iter::once(0).chain(ends).collect() }
    }

    fn at(&self, offset: usize) -> Position {
        let line = self.line_starts.partition_point(|start| *start <= offset);
        let start = self.line_starts[line - 1];
        Position { line, column: self.text[start..offset].chars().count() + 1 }
    }

    /// `serde_json` counts columns in bytes, from 0 at the start of a line.
    fn fault(&self, text: &str, fault: &serde_json::Error) -> Spot {
        let start = self.line_starts.get(fault.line().saturating_sub(1)).copied().unwrap_or(text.len());
        let mut offset = (start + fault.column().saturating_sub(1)).min(text.len());
        while !text.is_char_boundary(offset) {
            offset -= 1;
        }
        Spot { place: String::new(), position: Some(self.at(offset)) }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read(text: &[u8]) -> (Option<Value>, Vec<String>) {
        let mut problems = Problems::of(Path::new("f"));
        let value = parse(text, &mut problems).map(|node| node.to_value());
        (value, problems.into_vec().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn comments_and_a_byte_order_mark_are_passed_over() {
        let (value, problems) = read("\u{feff}{\"_c\": 1, \"_c\": 2, \"a\": [{\"_d\": 3, \"b\": 4.50}]}".as_bytes());
        assert_eq!(value.unwrap().to_string(), r#"{"a":[{"b":4.5}]}"#);
        assert!(problems.is_empty(), "{problems:?}");
    }

    #[test]
    fn faults_of_the_grammar_have_line_and_column() {
        for (text, expected) in [
            ("", "error: f:1:1: is not JSON: EOF while parsing a value; correct the JSON at this place"),
            (
                "{\n  \"é\": 1,\n}",
                "error: f:3:1: is not JSON: key must be a string; write a name in double quotes here, or remove the comma before",
            ),
            ("{\"é\" 1}", "error: f:1:6: is not JSON: expected `:`; correct the JSON at this place"),
            ("[1] 2", "error: f:1:5: is not JSON: trailing characters; correct the JSON at this place"),
            (
                "[\"\\ud800\"]",
                "error: f:1:2: [0]: is not JSON: unexpected end of hex escape; correct the JSON at this place",
            ),
            ("[1e999]", "error: f:1:2: [0]: is not JSON: number out of range; correct the JSON at this place"),
        ] {
            assert_eq!(read(text.as_bytes()).1, [expected], "{text}");
        }
        let (value, problems) = read(b"{\"a\":\n \"\xff\"}");
        assert!(value.is_none());
        assert_eq!(problems, ["error: f:2:3: is not UTF-8; save the file in the encoding UTF-8"]);
    }

    #[test]
    fn every_duplicate_member_is_reported_with_its_place() {
        let (_, problems) = read(b"{\"a\": {\"b\": 1,\n\"b\": 2}, \"c\": 1, \"c\": 1}");
        assert_eq!(
            problems,
            [
                "error: f:2:6: a.b: is given twice in one object; remove or rename one of the two",
                "error: f:2:23: c: is given twice in one object; remove or rename one of the two",
            ]
        );
    }

    #[test]
    fn deep_nesting_is_refused_without_recursing_into_it() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        let (value, problems) = read(deep.as_bytes());
        assert!(value.is_none());
        assert!(problems[0].ends_with("is nested deeper than 64 levels; write it flatter"), "{problems:?}");
    }
}
