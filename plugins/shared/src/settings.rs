//! Reading a channel's settings: every error names the setting, what was expected, and for an unknown name the nearest
//! known one.
//!
//! Read by hand from JSON values rather than derived: the messages are what the operator sees when a version is
//! refused. A name that begins with `_` is a comment.

use serde_json::{Map, Value};

/// A JSON object of settings and its place, for the messages.
#[derive(Debug)]
pub struct Object<'v> {
    place: String,
    fields: &'v Map<String, Value>,
}

/// Parses the text that the host hands over; an empty text is an empty object.
pub fn parse(text: &str) -> Result<Value, String> {
    if text.is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    serde_json::from_str(text).map_err(|error| format!("the settings are not JSON: {error}"))
}

impl<'v> Object<'v> {
    /// The settings themselves, with no other names than `known`.
    pub fn root(value: &'v Value, known: &[&str]) -> Result<Self, String> {
        Self::new("settings".to_owned(), value)?.with_names(known)
    }

    fn new(place: String, value: &'v Value) -> Result<Self, String> {
        match value {
            Value::Object(fields) => Ok(Self { place, fields }),
            other => Err(format!("{place}: expected an object, found {}", kind(other))),
        }
    }

    /// Refuses names other than `known`.
    pub fn with_names(self, known: &[&str]) -> Result<Self, String> {
        let unknown = self.entries().map(|(name, _)| name).find(|name| !known.contains(name));
        match unknown {
            None => Ok(self),
            Some(name) => {
                let nearest = known.iter().min_by_key(|candidate| strsim::levenshtein(name, candidate));
                let hint = nearest.map(|nearest| format!("; did you mean `{nearest}`?")).unwrap_or_default();
                Err(format!("{}: unknown setting `{name}`{hint} (known: {})", self.place, known.join(", ")))
            }
        }
    }

    /// The place of `name`, for a message.
    #[must_use]
    pub fn place(&self, name: &str) -> String {
        if name.starts_with('/') { format!("{}[\"{name}\"]", self.place) } else { format!("{}.{name}", self.place) }
    }

    /// All but comments.
    pub fn entries(&self) -> impl Iterator<Item = (&'v str, &'v Value)> {
        self.fields.iter().map(|(name, value)| (name.as_str(), value)).filter(|(name, _)| !name.starts_with('_'))
    }

    #[must_use]
    pub fn value(&self, name: &str) -> Option<&'v Value> {
        self.fields.get(name)
    }

    /// An absent object is an empty one to [`Object::entries`]: none.
    pub fn object(&self, name: &str) -> Result<Option<Object<'v>>, String> {
        self.value(name).map(|value| Object::new(self.place(name), value)).transpose()
    }

    pub fn string(&self, name: &str) -> Result<Option<&'v str>, String> {
        let Some(value) = self.value(name) else { return Ok(None) };
        match value {
            Value::String(text) => Ok(Some(text)),
            other => Err(format!("{}: expected a string, found {}", self.place(name), kind(other))),
        }
    }

    /// False where absent.
    pub fn flag(&self, name: &str) -> Result<bool, String> {
        match self.value(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(format!("{}: expected true or false, found {}", self.place(name), kind(other))),
        }
    }

    /// Empty where absent.
    pub fn strings(&self, name: &str) -> Result<Vec<&'v str>, String> {
        let Some(value) = self.value(name) else { return Ok(Vec::new()) };
        let wrong = |found: &Value| format!("{}: expected a list of strings, found {}", self.place(name), kind(found));
        let Value::Array(items) = value else { return Err(wrong(value)) };
        items.iter().map(|item| item.as_str().ok_or_else(|| wrong(item))).collect()
    }
}

/// What a value is, in an operator's words.
#[must_use]
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_unknown_setting_is_refused_with_the_nearest_known_one() {
        let value = json!({"prefx": "/v1", "_note": 1});
        let error = Object::root(&value, &["prefix", "models"]).unwrap_err();
        assert!(error.starts_with("settings: unknown setting `prefx`; did you mean `prefix`?"), "{error}");
    }

    #[test]
    fn a_comment_is_no_setting() {
        assert!(Object::root(&json!({"_note": 1}), &[]).is_ok());
    }

    #[test]
    fn a_wrong_type_is_named_with_its_place() {
        let value = json!({"a": 1, "b": {}, "c": ["x", 2], "/d": null});
        let root = Object::root(&value, &["a", "b", "c", "/d"]).unwrap();
        assert_eq!(root.string("a").unwrap_err(), "settings.a: expected a string, found a number");
        assert_eq!(root.flag("b").unwrap_err(), "settings.b: expected true or false, found an object");
        assert_eq!(root.strings("c").unwrap_err(), "settings.c: expected a list of strings, found a number");
        assert_eq!(root.object("/d").unwrap_err(), "settings[\"/d\"]: expected an object, found null");
        assert!(parse("{").unwrap_err().starts_with("the settings are not JSON"));
    }
}
