//! What the operator can set, and every check of it: a [`Config`] exists only if all of it makes sense.

use std::collections::BTreeMap;

use serde_json::Value;
use shared::rewrites::{PATH_REWRITE, Rewrites, WEBSOCKET_ENDPOINTS};
use shared::settings::{Object, kind, parse};
use shared::{BodyEdit, ChannelConfig, Credential, HeaderEdit, KEY, Placement};

/// Every setting, for the message about an unknown one.
const SETTINGS: &[&str] = &[
    "prefix",
    "rewrites",
    "key",
    "models",
    "aliases",
    "headers",
    "body",
    "stream_usage",
    PATH_REWRITE,
    WEBSOCKET_ENDPOINTS,
];

/// Headers that are not for settings to change, and whose they are.
const RESERVED: &[&str] = &[
    "authorization",
    "connection",
    "content-length",
    "cookie",
    "host",
    "keep-alive",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

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
    pub aliases: BTreeMap<String, String>,
    pub headers: Vec<HeaderEdit>,
    pub body: Vec<BodyEdit>,
    /// Ask for usage in streams, where the client did not say.
    pub stream_usage: bool,
}

impl Config {
    pub fn read(channel: &ChannelConfig) -> Result<Self, String> {
        let settings = parse(&channel.settings)?;
        let settings = Object::root(&settings, SETTINGS)?;
        Ok(Self {
            prefix: prefix(&settings)?,
            rewrites: Rewrites::read(&settings, &["rewrites"])?,
            key: key(&settings)?,
            models: settings.strings("models")?.into_iter().map(str::to_lowercase).collect(),
            aliases: aliases(&settings)?,
            headers: headers(&settings)?,
            body: body(&settings)?,
            stream_usage: settings.flag("stream_usage")?,
        })
    }

    /// Whether this channel is for a model, by either of its names.
    pub fn serves(&self, model: &str) -> bool {
        self.models.is_empty()
            || self.aliases.contains_key(model)
            || self.models.iter().any(|pattern| fits(pattern, &model.to_lowercase()))
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

fn prefix(settings: &Object) -> Result<String, String> {
    let prefix = settings.string("prefix")?.unwrap_or("/v1").trim_end_matches('/');
    let is_path = prefix.is_empty() || prefix.starts_with('/');
    if !is_path || prefix.bytes().any(|byte| byte <= b' ' || byte == 0x7f || b"?#".contains(&byte)) {
        let place = settings.place("prefix");
        return Err(format!("{place}: expected an empty text or a path such as `/v1`, found `{prefix}`"));
    }
    Ok(prefix.to_owned())
}

fn key(settings: &Object) -> Result<Option<Credential>, String> {
    let place = settings.place("key");
    let remedy = "write \"none\", {\"authorization\": \"Bearer\"}, {\"header\": \"api-key\"} or {\"query\": \"key\"}";
    let placement = match settings.value("key") {
        None => Placement::Authorization("Bearer".to_owned()),
        Some(Value::String(text)) if text == "none" => return Ok(None),
        Some(Value::Object(_)) => {
            let object = settings.object("key")?.expect("it is there");
            let object = object.with_names(&["authorization", "header", "query"])?;
            let mut entries = object.entries();
            let (Some((form, _)), None) = (entries.next(), entries.next()) else {
                return Err(format!("{place}: expected exactly one place; {remedy}"));
            };
            let name = object.string(form)?.unwrap_or_default();
            let place = object.place(form);
            match form {
                "authorization" => Placement::Authorization(token(name, &place)?),
                "header" => Placement::Header(header_name(name, &["authorization"], &place)?),
                _ => Placement::Query(token(name, &place)?),
            }
        }
        Some(other) => {
            let found = other.as_str().map_or(kind(other).to_owned(), |text| format!("\"{text}\""));
            return Err(format!("{place}: found {found}; {remedy}"));
        }
    };
    Ok(Some(Credential { secret: KEY.to_owned(), place: placement }))
}

fn aliases(settings: &Object) -> Result<BTreeMap<String, String>, String> {
    let Some(object) = settings.object("aliases")? else { return Ok(BTreeMap::new()) };
    let mut aliases = BTreeMap::new();
    for (name, _) in object.entries() {
        let model = object.string(name)?.unwrap_or_default();
        if model.is_empty() {
            return Err(format!("{}: expected the provider's name for the model", object.place(name)));
        }
        aliases.insert(name.to_owned(), model.to_owned());
    }
    Ok(aliases)
}

fn headers(settings: &Object) -> Result<Vec<HeaderEdit>, String> {
    let Some(object) = settings.object("headers")? else { return Ok(Vec::new()) };
    let object = object.with_names(&["set", "default", "remove"])?;
    let mut edits = Vec::new();
    for (table, edit) in [("set", HeaderEdit::Set as fn(_) -> _), ("default", HeaderEdit::SetIfAbsent)] {
        let Some(fields) = object.object(table)? else { continue };
        for (name, _) in fields.entries() {
            let place = fields.place(name);
            let value = fields.string(name)?.unwrap_or_default();
            if value.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
                return Err(format!("{place}: a header's value cannot have control characters"));
            }
            edits.push(edit((header_name(name, &[], &place)?, value.to_owned())));
        }
    }
    for name in object.strings("remove")? {
        edits.push(HeaderEdit::Remove(header_name(name, &[], &object.place("remove"))?));
    }
    Ok(edits)
}

fn body(settings: &Object) -> Result<Vec<BodyEdit>, String> {
    let Some(object) = settings.object("body")? else { return Ok(Vec::new()) };
    let object = object.with_names(&["set", "default", "remove"])?;
    let mut edits = Vec::new();
    for (table, edit) in [("set", BodyEdit::Set as fn(_) -> _), ("default", BodyEdit::SetIfAbsent)] {
        let Some(fields) = object.object(table)? else { continue };
        for (pointer, value) in fields.entries() {
            edits.push(edit((checked_pointer(pointer, &fields.place(pointer))?, value.to_string())));
        }
    }
    for pointer in object.strings("remove")? {
        edits.push(BodyEdit::Remove(checked_pointer(pointer, &object.place("remove"))?));
    }
    Ok(edits)
}

fn checked_pointer(pointer: &str, place: &str) -> Result<String, String> {
    if pointer.starts_with('/') && pointer.len() > 1 {
        return Ok(pointer.to_owned());
    }
    Err(format!("{place}: `{pointer}` is no JSON pointer; write `/{}`", pointer.trim_start_matches('/')))
}

/// A header's name in lower case, if settings may change that header; `allowed` are let through all the same.
fn header_name(name: &str, allowed: &[&str], place: &str) -> Result<String, String> {
    let name = token(name, place)?.to_ascii_lowercase();
    if RESERVED.contains(&name.as_str()) && !allowed.contains(&name.as_str()) {
        let remedy = if name == "authorization" { "; say in `key` where the key goes" } else { "" };
        return Err(format!("{place}: the header `{name}` is the gateway's own business{remedy}"));
    }
    Ok(name)
}

/// A token (RFC 9110, 5.6.2): the name of a header, an authorization scheme, here also of a query parameter.
fn token(text: &str, place: &str) -> Result<String, String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if text.is_empty() || !text.bytes().all(is_token) {
        return Err(format!("{place}: `{text}` is no name: expected letters, digits, `-`, `_` or `.`"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(settings: &str) -> Result<Config, String> {
        Config::read(&ChannelConfig {
            id: "mine".into(),
            name: "Mine".into(),
            settings: settings.into(),
            endpoints: Vec::new(),
            secrets: Vec::new(),
            options: Vec::new(),
        })
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_settings_name_and_a_remedy() {
        for (settings, expected) in [
            (r#"{"prefx": ""}"#, "settings: unknown setting `prefx`; did you mean `prefix`?"),
            (r#"{"prefix": "v1"}"#, "settings.prefix: expected an empty text or a path such as `/v1`, found `v1`"),
            (r#"{"prefix": "/v1?x"}"#, "settings.prefix: expected"),
            (r#"{"prefix": 1}"#, "settings.prefix: expected a string, found a number"),
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
            (r#"{"body": {"remove": ["/"]}}"#, "settings.body.remove: `/` is no JSON pointer"),
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
