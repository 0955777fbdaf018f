//! Looks at a file's tree with the JSON Schema of its mirror in [`super::file`], and gives the sound part of it.
//!
//! The schema that editors are given is thus the one that is enforced, and every fault is found in one pass: what is
//! wrong is reported and left out, and the rest goes on to the checks of meaning. A general validator was not taken: it
//! would quote values, and would not name the nearest field. Only what the mirrors use is understood; a keyword beyond
//! that fails the test at the end of `file.rs`.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::document::{Json, Node, is_comment};
use super::problem::{Problems, Spot, member, nearest, shown};

/// The sound part of a node. None: nothing of it is.
pub(super) fn sound(node: &Node, schema: &Value, place: &str, problems: &mut Problems<'_>) -> Option<Value> {
    let spot = Spot { place: place.to_owned(), position: Some(node.position) };
    if let Some(alternatives) = schema.get("anyOf").and_then(Value::as_array) {
        let Some(alternative) = alternatives.iter().find(|alternative| admits(node, alternative)) else {
            let expected: Vec<_> = alternatives.iter().flat_map(types).collect();
            wrong_type(node, &expected, &spot, problems);
            return None;
        };
        return sound(node, alternative, place, problems);
    }
    if !admits(node, schema) {
        wrong_type(node, &types(schema), &spot, problems);
        return None;
    }
    if let Some(known) = schema.get("enum").and_then(Value::as_array)
        && !known.contains(&node.to_value())
    {
        let known: Vec<_> = known.iter().filter(|value| !value.is_null()).map(Value::to_string).collect();
        problems.error(&spot, "has a value that is not known", format!("write one of {}", known.join(", ")));
        return None;
    }
    match &node.json {
        Json::Number(number) => {
            let (min, max) = (schema.get("minimum"), schema.get("maximum"));
            let value = number.as_f64().unwrap_or_default();
            let below = min.and_then(Value::as_f64).is_some_and(|min| value < min);
            let above = max.and_then(Value::as_f64).is_some_and(|max| value > max);
            if below || above {
                let what = if below { "is too small" } else { "is too large" };
                let remedy = match (min, max) {
                    (Some(min), Some(max)) => format!("write a number from {min} to {max}"),
                    (Some(min), None) => format!("write a number of at least {min}"),
                    (_, max) => format!("write a number of at most {}", max.unwrap_or(&Value::Null)),
                };
                problems.error(&spot, what, remedy);
                return None;
            }
            Some(node.to_value())
        }
        Json::Array(items) => match schema.get("items") {
            Some(schema) => Some(
                (items.iter().enumerate())
                    .filter_map(|(index, item)| sound(item, schema, &format!("{place}[{index}]"), problems))
                    .collect(),
            ),
            None => Some(node.to_value()),
        },
        Json::Object(members) => Some(Value::Object(object(members, schema, place, problems))),
        _ => Some(node.to_value()),
    }
}

fn object(members: &[(String, Node)], schema: &Value, outer: &str, problems: &mut Problems<'_>) -> Map<String, Value> {
    let none = Map::new();
    let known = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
    let mut kept = Map::new();
    for (name, node) in members.iter().filter(|(name, _)| !is_comment(name)) {
        let place = member(outer, name);
        let value = match (known.get(name), schema.get("additionalProperties")) {
            // For editors only.
            (Some(_), _) if name == "$schema" => None,
            (Some(schema), _) | (None, Some(schema @ Value::Object(_))) => sound(node, schema, &place, problems),
            (None, Some(Value::Bool(false))) => {
                let spot = Spot { place: member(outer, &guarded(name)), position: Some(node.position) };
                let candidates = known.keys().map(String::as_str).filter(|name| *name != "$schema");
                let remedy = match nearest(name, candidates) {
                    Some(nearest) => {
                        format!("did you mean `{}`? (a name that begins with `_` is a comment)", shown(nearest))
                    }
                    None => "remove it".to_owned(),
                };
                problems.error(&spot, "is not a known field", remedy);
                None
            }
            (None, _) => Some(node.to_value()),
        };
        if let Some(value) = value {
            kept.insert(name.clone(), value);
        }
    }
    kept
}

/// The name of an unknown field, which may be a key in the wrong place: fields have letters and `_`, and no such length.
fn guarded(name: &str) -> Cow<'_, str> {
    let is_suspect = name.len() > 32 || name.bytes().any(|b| !b.is_ascii_alphabetic() && b != b'_');
    if is_suspect { Cow::Owned(name.chars().take(3).chain(['…']).collect()) } else { Cow::Borrowed(name) }
}

fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(only)) => vec![only],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn admits(node: &Node, schema: &Value) -> bool {
    let types = types(schema);
    types.is_empty()
        || types.iter().any(|name| match (*name, &node.json) {
            ("integer", Json::Number(number)) => number.is_i64() || number.is_u64(),
            ("number", Json::Number(_)) => true,
            (name, json) => name == type_of(json),
        })
}

fn type_of(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "boolean",
        Json::Number(_) => "number",
        Json::String(_) => "string",
        Json::Array(_) => "array",
        Json::Object(_) => "object",
    }
}

fn wrong_type(node: &Node, expected: &[&str], spot: &Spot, problems: &mut Problems<'_>) {
    let mut articles: Vec<_> = expected.iter().filter(|name| **name != "null").map(|name| with_article(name)).collect();
    articles.dedup();
    let what = format!("must be {}, not {}", articles.join(" or "), with_article(type_of(&node.json)));
    let remedy = match expected.first().copied() {
        Some("string") => "write it in double quotes",
        Some("boolean") => "write true or false, without quotes",
        Some("integer") => "write a whole number, without quotes",
        Some("array") => "write it in square brackets",
        Some("object") => "write it in curly brackets",
        _ => "write a value of that type",
    };
    problems.error(spot, what, remedy);
}

fn with_article(name: &str) -> &str {
    match name {
        "boolean" => "a boolean",
        "integer" => "a whole number",
        "number" => "a number",
        "string" => "a string",
        "array" => "a list",
        "object" => "an object",
        other => other,
    }
}
