//! Settings: from the JSON that the operator writes to a type with `#[derive(Deserialize)]`.
//!
//! What is wrong is said so that the operator finds it: with its place, what was expected there and what was found; for an
//! unknown name, with the nearest known one.
//!
//! ```text
//! settings: unknown setting `prefx`; did you mean `prefix`? (known: prefix, models)
//! settings.prefix: expected a string, found a number
//! settings.models: expected a list of strings, found a string
//! settings.path_rewrite["/chat"]: expected a path that begins with `/`
//! ```
//!
//! - Every name that a struct does not have is refused, without `deny_unknown_fields`. (Serde does not tell the names of a
//!   struct with a `flatten` field: avoid it.)
//! - A name that begins with `_` is a comment wherever names are settings: in structs, maps and [`Table`]s. JSON that is
//!   taken as it is (`serde_json::Value`) keeps such names.
//! - A value that must be checked is a type of its own with `#[serde(try_from = "String")]`: its error comes out behind
//!   the value's place.
//! - Settings that may be left out are `Option`s or have `#[serde(default)]`.
//!
//! ```
//! use aiproxy_plugin_sdk::settings::{Table, from_json};
//! use serde::Deserialize;
//!
//! #[derive(Deserialize)]
//! struct Settings {
//!     /// A client's path → the provider's.
//!     paths: Table<Path, Path>,
//! }
//!
//! #[derive(Deserialize)]
//! #[serde(try_from = "String")]
//! struct Path(String);
//!
//! impl TryFrom<String> for Path {
//!     type Error = String;
//!
//!     fn try_from(text: String) -> Result<Self, String> {
//!         if text.starts_with('/') { Ok(Self(text)) } else { Err(format!("`{text}` does not begin with `/`")) }
//!     }
//! }
//!
//! let settings: Settings = from_json(r#"{"paths": {"/chat": "/v1/chat", "_note": "for old clients"}}"#).unwrap();
//! assert_eq!(settings.paths.0.len(), 1);
//! let error = from_json::<Settings>(r#"{"paths": {"/chat": "v1/chat"}}"#).err().unwrap();
//! assert_eq!(error, "settings.paths[\"/chat\"]: `v1/chat` does not begin with `/`");
//! ```

mod error;
mod node;
mod table;

pub use self::error::Error;
pub use self::table::Table;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Reads settings from the text that the host hands over; an empty text is an empty object.
pub fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let value = match text {
        "" => Value::Object(Map::new()),
        text => serde_json::from_str(text).map_err(|error| format!("the settings are not JSON: {error}"))?,
    };
    T::deserialize(node::Node(&value)).map_err(|error| format!("settings{error}"))
}

#[cfg(test)]
mod tests;
