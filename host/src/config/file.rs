//! The configuration files as their authors write them, field by field.
//!
//! One source for three things: what is read, what is enforced ([`super::shape`]) and the JSON Schemas that editors
//! are given. Nothing is checked here beyond type and range; what the fields mean is in [`super::load`]. No struct
//! here has a `Debug`: they hold secrets.

mod gateway;

use std::collections::BTreeMap;

use indexmap::IndexMap;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Deserialize;
use serde_json::{Map, Value, json};

pub use self::gateway::{
    AccessLogFile, AdminFile, Format, GatewayFile, Isolation, Level, LimitsFile, LogFile, RotationFile, RouterFile,
    SandboxFile, StatisticsFile, TlsFile, WebSocketFile,
};

/// `conf/channels_config.json`: the ways to the providers.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChannelsFile {
    /// Channels by id: letters, digits, `.`, `_` and `-`, at most 64.
    #[schemars(with = "Option<BTreeMap<String, ChannelFile>>")]
    pub channels: Option<IndexMap<String, ChannelFile>>,
}

/// A named way to a provider.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChannelFile {
    /// For people; default: the channel's id.
    pub name: Option<String>,
    /// For people; shown on the dashboard.
    pub description: Option<String>,
    /// The provider's key. `${NAME}` is replaced from the environment.
    pub api_key: Option<String>,
    /// Several of the provider's keys, in place of `api_key`; the first that is set serves.
    pub api_keys: Option<Vec<String>>,
    /// Where requests go: `http://` or `https://`, host, port, path prefix. `${NAME}` is replaced from the environment.
    pub base_url: Option<String>,
    /// Another name for `base_url`.
    pub api_url: Option<String>,
    /// Where WebSocket connections go (`ws://` or `wss://`); default: `base_url`.
    pub websocket_url: Option<String>,
    /// The Host header and the name in the certificate; default: the host of `base_url`.
    pub host: Option<String>,
    /// Client path → upstream path; wins over the plugin's own rewrites.
    #[schemars(with = "Option<BTreeMap<String, String>>")]
    pub path_rewrite: Option<IndexMap<String, String>>,
    /// Handed to the plugin.
    pub websocket_endpoints: Option<Map<String, Value>>,
    /// Default: true if `websocket_url` or `websocket_endpoints` is given.
    pub supports_websocket: Option<bool>,
    /// Seconds until a connection, TLS included, must stand; default 10.
    #[schemars(range(min = 1, max = 600))]
    pub timeout: Option<u32>,
    /// Whether TLS is used, which the scheme of `base_url` says already; a contradiction is a warning.
    pub ssl: Option<bool>,
    /// Default: active.
    pub status: Option<Status>,
    /// The plugin that serves this channel; default: the channel's id.
    pub plugin: Option<String>,
    /// Handed to the plugin. Never put a secret here.
    pub settings: Option<Map<String, Value>>,
    /// Further secrets by name, for plugins that use more than the key. `${NAME}` is replaced from the environment.
    #[schemars(with = "Option<BTreeMap<String, String>>")]
    pub secrets: Option<IndexMap<String, String>>,
    /// Among a key's channels, higher is asked first; default 0.
    #[schemars(range(min = -1000, max = 1000))]
    pub priority: Option<i32>,
    /// The share among channels of equal priority; those with 0, the default, come last, as the proxy key lists them.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub weight: Option<u32>,
    /// Further URLs by name, that the plugin may choose among.
    #[schemars(with = "Option<BTreeMap<String, String>>")]
    pub endpoints: Option<IndexMap<String, String>>,
    /// The way out: `http://` or `socks5://`, `user:password@` allowed; `direct` for none. Default: from the
    /// environment (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`).
    pub proxy: Option<String>,
    /// Milliseconds from the request's last byte to the reply's head; default 600000.
    #[schemars(range(min = 1, max = 86_400_000))]
    pub first_byte_timeout_ms: Option<u32>,
    /// Milliseconds between two pieces of a reply; default 600000.
    #[schemars(range(min = 1, max = 86_400_000))]
    pub idle_timeout_ms: Option<u32>,
    /// How a stream's usage comes to be known: `read` what the provider says (the default), or `ask` for it where the
    /// client does not, and take the extra chunk out of the reply again.
    pub usage: Option<UsageSource>,
    /// Record the head of every request that the plugin is asked about, with its answer, for `plugin replay`; default false.
    pub capture: Option<bool>,
    /// A new version of the plugin first serves a share of the exchanges, and is withdrawn if it does worse.
    pub canary: Option<CanaryFile>,
}

/// A trial of a new plugin version.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CanaryFile {
    /// Of the channel's exchanges; default 10.
    #[schemars(range(min = 1, max = 99))]
    pub percent: Option<u32>,
    /// How long; default 5. It goes on while either version has served fewer than 50 exchanges.
    #[schemars(range(min = 0.01, max = 10_080))]
    pub minutes: Option<f64>,
}

/// How a stream's usage comes to be known: as the provider tells it to the client, or because the host asks too.
#[derive(Deserialize, JsonSchema, Debug, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum UsageSource {
    #[default]
    Read,
    Ask,
}

#[derive(Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Active,
    Disabled,
    Inactive,
}

/// `conf/api_keys.json`: the proxy keys, as a list, or as an object with the list in `keys`.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum KeysFile {
    List(Vec<KeyFile>),
    Object(KeysObject),
}

/// For editors: only an object can carry `$schema`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeysObject {
    /// The proxy keys.
    pub keys: Option<Vec<KeyFile>>,
}

/// A credential that is handed to a client.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyFile {
    /// The key itself: 8 to 512 visible ASCII characters.
    pub proxy_key: Option<String>,
    /// The channel that it opens.
    pub channel: Option<String>,
    /// The channels that it opens, in place of `channel`.
    pub channels: Option<Vec<String>>,
    /// Default: active.
    pub status: Option<Status>,
    /// For people; shown on the dashboard.
    pub description: Option<String>,
    /// Who holds it; plugins are told it as the tag `user:…`.
    pub user: Option<String>,
    /// Its public name, in logs and statistics; default: `key-` and 8 hex digits derived from the key.
    pub id: Option<String>,
    /// Told to plugins.
    pub tags: Option<Vec<String>>,
}

/// The JSON Schema of a file, without references: editors and [`super::shape`] both read it as it stands.
#[must_use]
pub fn schema<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    allow_comments(&mut schema);
    let roots: Vec<&mut Value> = match schema.get("anyOf") {
        Some(_) => schema["anyOf"].as_array_mut().into_iter().flatten().collect(),
        None => vec![&mut schema],
    };
    for root in roots {
        if let Some(fields) = root.get_mut("properties").and_then(Value::as_object_mut) {
            fields.insert("$schema".to_owned(), json!({"type": "string", "description": "For editors."}));
        }
    }
    schema
}

/// Every object may carry comments: members whose names begin with `_`.
fn allow_comments(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            members.values_mut().for_each(allow_comments);
            if members.get("additionalProperties").is_some_and(|rule| *rule != Value::Bool(true)) {
                members.insert("patternProperties".to_owned(), json!({"^_": {}}));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(allow_comments),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those that `shape` enforces, and those that are for people and editors.
    const KEYWORDS: [&str; 14] = [
        "type",
        "properties",
        "additionalProperties",
        "patternProperties",
        "items",
        "enum",
        "anyOf",
        "minimum",
        "maximum",
        "$schema",
        "title",
        "description",
        "default",
        "format",
    ];

    #[test]
    fn the_schemas_use_only_keywords_that_are_enforced() {
        for schema in [schema::<ChannelsFile>(), schema::<KeysFile>(), schema::<GatewayFile>()] {
            look(&schema);
        }
    }

    fn look(schema: &Value) {
        let Value::Object(members) = schema else { return };
        for (keyword, value) in members {
            assert!(KEYWORDS.contains(&keyword.as_str()), "{keyword} in {schema}");
            match keyword.as_str() {
                "properties" => value.as_object().unwrap().values().for_each(look),
                "anyOf" => value.as_array().unwrap().iter().for_each(look),
                "items" | "additionalProperties" => look(value),
                _ => {}
            }
        }
    }

    #[test]
    fn every_field_is_described_and_has_its_range() {
        let schema = schema::<ChannelsFile>();
        let channel = &schema["properties"]["channels"]["additionalProperties"];
        for (name, field) in channel["properties"].as_object().unwrap() {
            assert!(field["description"].is_string(), "{name}");
        }
        assert_eq!(channel["additionalProperties"], false);
        assert_eq!(channel["properties"]["timeout"]["maximum"], 600);
        assert_eq!(self::schema::<GatewayFile>()["properties"]["limits"]["properties"]["drain_ms"]["default"], 30_000);
    }
}
