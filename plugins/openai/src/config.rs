//! What the operator can set: [`Settings`] as it is written, every check of it in [`values`], and [`Config`], what it
//! comes to.

mod values;

use aiproxy_plugin_sdk::settings::Table;
use aiproxy_plugin_sdk::{BodyEdit, Credential, HeaderEdit};
use serde::Deserialize;
use serde_json::Value;
use shared::rewrites::{PathRewrites, Rewrites, SocketRewrites};

use values::{HeaderName, HeaderValue, Key, Model, Pointer, Prefix};

/// The settings, as the README lists them.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Settings {
    prefix: Prefix,
    rewrites: PathRewrites,
    key: Key,
    models: Vec<String>,
    aliases: Table<String, Model>,
    headers: Headers,
    body: Body,
    stream_usage: bool,
    path_rewrite: PathRewrites,
    websocket_endpoints: SocketRewrites,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Headers {
    set: Table<HeaderName, HeaderValue>,
    default: Table<HeaderName, HeaderValue>,
    remove: Vec<HeaderName>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Body {
    set: Table<Pointer, Value>,
    default: Table<Pointer, Value>,
    remove: Vec<Pointer>,
}

/// What is done with requests; it exists only if all of the settings make sense.
#[derive(Debug)]
pub struct Config {
    /// Before every resource: empty, or `/…` without a trailing slash.
    pub prefix: String,
    pub rewrites: Rewrites,
    /// Where the key goes; none for a provider without keys.
    pub key: Option<Credential>,
    /// Patterns, in lower case; empty: all.
    models: Vec<String>,
    /// A client's name for a model → the provider's.
    aliases: Vec<(String, Model)>,
    pub headers: Vec<HeaderEdit>,
    pub body: Vec<BodyEdit>,
    /// Ask for usage in streams, where the client did not say.
    pub stream_usage: bool,
}

impl From<Settings> for Config {
    fn from(settings: Settings) -> Self {
        Self {
            prefix: settings.prefix.0,
            rewrites: Rewrites::new([settings.rewrites, settings.path_rewrite], settings.websocket_endpoints),
            key: settings.key.0,
            models: settings.models.into_iter().map(|model| model.to_lowercase()).collect(),
            aliases: settings.aliases.0,
            headers: settings.headers.edits(),
            body: settings.body.edits(),
            stream_usage: settings.stream_usage,
        }
    }
}

impl Config {
    /// Whether this channel is for a model, by either of its names.
    pub fn serves(&self, model: &str) -> bool {
        self.models.is_empty()
            || self.alias(model).is_some()
            || self.models.iter().any(|pattern| fits(pattern, &model.to_lowercase()))
    }

    /// The provider's name of a model that the client calls by another.
    pub fn alias(&self, model: &str) -> Option<&str> {
        self.aliases.iter().find(|(alias, _)| alias == model).map(|(_, model)| model.0.as_str())
    }
}

impl Headers {
    fn edits(self) -> Vec<HeaderEdit> {
        let set = self.set.into_iter().map(|(name, value)| HeaderEdit::Set((name.0, value.0)));
        let default = self.default.into_iter().map(|(name, value)| HeaderEdit::SetIfAbsent((name.0, value.0)));
        let remove = self.remove.into_iter().map(|name| HeaderEdit::Remove(name.0));
        set.chain(default).chain(remove).collect()
    }
}

impl Body {
    fn edits(self) -> Vec<BodyEdit> {
        let set = self.set.into_iter().map(|(pointer, value)| BodyEdit::Set((pointer.0, value.to_string())));
        let default = self.default.into_iter();
        let default = default.map(|(pointer, value)| BodyEdit::SetIfAbsent((pointer.0, value.to_string())));
        let remove = self.remove.into_iter().map(|pointer| BodyEdit::Remove(pointer.0));
        set.chain(default).chain(remove).collect()
    }
}

/// Whether a text fits a pattern in which `*` stands for any text.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(head) else { return false };
    let mut pieces: Vec<&str> = rest.split('*').collect();
    let tail = pieces.pop().unwrap_or_default();
    for piece in pieces {
        let Some(at) = text.find(piece) else { return false };
        text = &text[at + piece.len()..];
    }
    text.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use aiproxy_plugin_sdk::Placement;

    use super::*;

    fn read(settings: &str) -> Result<Config, String> {
        aiproxy_plugin_sdk::settings::from_json::<Settings>(settings).map(Config::from)
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_settings_name_and_a_remedy() {
        for (settings, expected) in [
            (r#"{"prefx": ""}"#, "settings: unknown setting `prefx`; did you mean `prefix`?"),
            (r#"{"prefix": "v1"}"#, "settings.prefix: expected an empty text or a path such as `/v1`, found `v1`"),
            (r#"{"prefix": "/v1?x"}"#, "settings.prefix: expected"),
            (r#"{"prefix": 1}"#, "settings.prefix: expected a string, found a number"),
            (r#"{"key": 1}"#, "settings.key: expected \"none\", {\"authorization\": \"Bearer\"}, "),
            (r#"{"key": "bearer"}"#, "settings.key: found \"bearer\"; write \"none\", {\"authorization\""),
            (r#"{"key": {"heder": "x"}}"#, "settings.key: unknown setting `heder`; did you mean `header`?"),
            (r#"{"key": {"header": "x", "query": "y"}}"#, "settings.key: expected exactly one place"),
            (r#"{"key": {}}"#, "settings.key: expected exactly one place"),
            (r#"{"key": {"header": "x y"}}"#, "settings.key.header: `x y` is no name"),
            (r#"{"key": {"header": "Host"}}"#, "settings.key.header: the header `host` is the gateway's own"),
            (r#"{"models": "gpt-*"}"#, "settings.models: expected a list of strings, found a string"),
            (r#"{"aliases": {"a": 1}}"#, "settings.aliases.a: expected a string, found a number"),
            (r#"{"aliases": {"a": ""}}"#, "settings.aliases.a: expected the provider's name for the model"),
            (r#"{"headers": {"x-title": "y"}}"#, "settings.headers: unknown setting `x-title`"),
            (r#"{"headers": {"set": {"Authorization": "x"}}}"#, "settings.headers.set.Authorization: the header"),
            (r#"{"headers": {"set": {"x": "a\nb"}}}"#, "settings.headers.set.x: a header's value"),
            (r#"{"body": {"set": {"user": 1}}}"#, "settings.body.set.user: `user` is no JSON pointer; write `/user`"),
            (r#"{"body": {"remove": ["/"]}}"#, "settings.body.remove[0]: `/` is no JSON pointer"),
            (r#"{"stream_usage": "yes"}"#, "settings.stream_usage: expected true or false, found a string"),
            (r#"{"rewrites": {"x": "/y"}}"#, "settings.rewrites.x: the path to rewrite must begin with `/`"),
            ("[]", "settings: expected an object, found a list"),
        ] {
            let error = read(settings).unwrap_err();
            assert!(error.starts_with(expected), "{settings}\n  {error}\n  {expected}");
        }
    }

    #[test]
    fn the_key_goes_where_the_settings_say() {
        for (settings, expected) in [
            ("{}", Some(Placement::Authorization("Bearer".into()))),
            (r#"{"key": {"authorization": "Token"}}"#, Some(Placement::Authorization("Token".into()))),
            (r#"{"key": {"header": "API-Key"}}"#, Some(Placement::Header("api-key".into()))),
            (r#"{"key": {"header": "authorization"}}"#, Some(Placement::Header("authorization".into()))),
            (r#"{"key": {"query": "api_key"}}"#, Some(Placement::Query("api_key".into()))),
            (r#"{"key": "none"}"#, None),
        ] {
            assert_eq!(read(settings).unwrap().key.map(|key| key.place), expected, "{settings}");
        }
    }

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text, expected) in [
            ("gpt-*", "gpt-4o", true),
            ("gpt-*", "gpt-", true),
            ("gpt-*", "chatgpt-4o", false),
            ("*-mini", "o4-mini", true),
            ("*-mini", "o4-mini-high", false),
            ("*/llama-*-instruct", "meta/llama-3-8b-instruct", true),
            ("*/llama-*-instruct", "llama-3-8b-instruct", false),
            ("a*a", "a", false),
            ("*", "", true),
            ("o3", "o3", true),
            ("o3", "o3-mini", false),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }
}
