//! What is wrong with a setting, and where.

use std::borrow::Cow;
use std::fmt::{self, Display};

use serde::de::{self, Expected, Unexpected};
use serde_json::Value;

/// What is wrong, in the operator's words. Its text begins with the place below the settings: `.prefix: expected …`.
///
/// Boxed, as it travels through every result of the reading code: that makes components smaller by a good part.
#[derive(Debug)]
pub struct Error(Box<Fault>);

#[derive(Debug)]
struct Fault {
    place: String,
    problem: Problem,
}

#[derive(Debug)]
enum Problem {
    /// Another type of value than what was expected.
    Type {
        expected: String,
        found: String,
    },
    Other(String),
}

impl Error {
    #[cold]
    #[inline(never)]
    pub(super) fn wrong_type(expected: &str, found: &str) -> Self {
        Self::of(Problem::Type { expected: in_words(expected).into_owned(), found: found.to_owned() })
    }

    #[cold]
    fn of(problem: Problem) -> Self {
        Self(Box::new(Fault { place: String::new(), problem }))
    }

    /// A name that is none of the known ones. `what` is a setting, or a value.
    #[cold]
    #[inline(never)]
    pub(super) fn unknown(what: &str, name: &str, known: &[&str]) -> Self {
        let Some(nearest) = known.iter().min_by_key(|candidate| strsim::levenshtein(name, candidate)) else {
            return Self::of(Problem::Other(format!("unknown {what} `{name}` (there are none)")));
        };
        let known = known.join(", ");
        Self::of(Problem::Other(format!("unknown {what} `{name}`; did you mean `{nearest}`? (known: {known})")))
    }

    /// One level further out: the setting stands in the object's entry `name`.
    #[cold]
    #[inline(never)]
    pub(super) fn in_entry(mut self, name: &str) -> Self {
        let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
        let step = if is_plain && !name.is_empty() { format!(".{name}") } else { format!("[\"{name}\"]") };
        self.0.place.insert_str(0, &step);
        self
    }

    /// One level further out: the setting is an item of a list. An item of a wrong type is said of the list.
    #[cold]
    #[inline(never)]
    pub(super) fn in_item(mut self, index: usize) -> Self {
        if self.0.place.is_empty()
            && let Problem::Type { expected, found } = &self.0.problem
            && let Some(items) = plural(expected)
        {
            let (expected, found) = (format!("a list of {items}"), format!("{found} at [{index}]"));
            return Self::of(Problem::Type { expected, found });
        }
        self.0.place.insert_str(0, &format!("[{index}]"));
        self
    }

    /// What items a list was expected to have, if this is the error of an item of a wrong type.
    pub(super) fn expected_items(&self) -> Option<&'static str> {
        match &self.0.problem {
            Problem::Type { expected, .. } if self.0.place.is_empty() => plural(expected),
            _ => None,
        }
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Fault { place, problem } = &*self.0;
        match problem {
            Problem::Type { expected, found } => write!(f, "{place}: expected {expected}, found {found}"),
            Problem::Other(text) => write!(f, "{place}: {text}"),
        }
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: Display>(message: T) -> Self {
        Self::of(Problem::Other(message.to_string()))
    }

    #[cold]
    #[inline(never)]
    fn invalid_type(unexpected: Unexpected, expected: &dyn Expected) -> Self {
        Self::wrong_type(&expected.to_string(), &found(&unexpected))
    }

    #[cold]
    #[inline(never)]
    fn invalid_value(unexpected: Unexpected, expected: &dyn Expected) -> Self {
        let found = match unexpected {
            Unexpected::Unsigned(number) => number.to_string(),
            Unexpected::Signed(number) => number.to_string(),
            Unexpected::Str(text) => format!("`{text}`"),
            other => found(&other),
        };
        let expected = expected.to_string();
        Self::of(Problem::Other(format!("expected {}, found {found}", in_words(&expected))))
    }

    fn unknown_field(name: &str, known: &'static [&'static str]) -> Self {
        Self::unknown("setting", name, known)
    }

    fn unknown_variant(name: &str, known: &'static [&'static str]) -> Self {
        Self::unknown("value", name, known)
    }

    fn missing_field(name: &'static str) -> Self {
        Self::of(Problem::Other(format!("the setting `{name}` is missing")))
    }

    fn duplicate_field(name: &'static str) -> Self {
        Self::of(Problem::Other(format!("the setting `{name}` stands there twice")))
    }
}

/// What a value is.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The same of what serde found.
fn found(unexpected: &Unexpected) -> String {
    match unexpected {
        Unexpected::Unit | Unexpected::Option => "null".to_owned(),
        Unexpected::Bool(_) => "a boolean".to_owned(),
        Unexpected::Unsigned(_) | Unexpected::Signed(_) | Unexpected::Float(_) => "a number".to_owned(),
        Unexpected::Str(_) | Unexpected::Char(_) => "a string".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "an object".to_owned(),
        Unexpected::Other(text) => (*text).to_owned(),
        _ => "something else".to_owned(),
    }
}

/// What serde's own types say of themselves, in the operator's words.
fn in_words(expected: &str) -> Cow<'_, str> {
    Cow::Borrowed(match expected {
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "an object",
        "f32" | "f64" => "a number",
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number from 0",
        "i8" => "a whole number from -128 to 127",
        "i16" => "a whole number from -32768 to 32767",
        "i32" | "i64" | "isize" => "a whole number",
        structure if structure.starts_with("struct ") => "an object",
        other => return Cow::Borrowed(other),
    })
}

fn plural(expected: &str) -> Option<&'static str> {
    match expected {
        "a string" => Some("strings"),
        "true or false" => Some("booleans"),
        "a number" => Some("numbers"),
        "an object" => Some("objects"),
        whole if whole.starts_with("a whole number") => Some("whole numbers"),
        _ => None,
    }
}
