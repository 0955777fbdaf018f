//! The configuration files as their authors write them, field by field.
//!
//! One source for three things: what is read, what is enforced ([`super::shape`]) and the JSON Schemas that editors
//! are given. Nothing is checked here beyond type and range; what the fields mean is in [`super::load`]. No struct
//! here has a `Debug`: they hold secrets.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

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
    /// For people; not used.
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
    /// For people; not used.
    pub description: Option<String>,
    /// Who holds it; plugins are told it as the tag `user:…`.
    pub user: Option<String>,
    /// Its public name, in logs and statistics; default: `key-` and 8 hex digits derived from the key.
    pub id: Option<String>,
    /// Told to plugins.
    pub tags: Option<Vec<String>>,
}

/// `conf/gateway.json`: what concerns the process. Every field has a default.
#[derive(Serialize, Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayFile {
    pub limits: LimitsFile,
    pub websocket: WebSocketFile,
    pub sandbox: SandboxFile,
    /// By plugin name: what differs from `sandbox`.
    pub plugin_sandbox: BTreeMap<String, SandboxFile>,
    /// TLS on the gateway's own port; without it, plain HTTP.
    pub tls: Option<TlsFile>,
    /// A PEM file with further trusted root certificates; relative to this file's folder.
    pub trusted_ca: Option<String>,
    /// Origins whose browsers may call, such as `https://chat.example.com`; `*` for all.
    pub cors_origins: Vec<String>,
    /// `stdout`, `off`, or a file's path (with a `/`), relative to this file's folder.
    pub access_log: AccessLogFile,
    pub log: LogFile,
}

/// A certificate and its key; the paths are relative to this file's folder.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsFile {
    /// A PEM file with the chain, the server's own certificate first.
    pub cert: Option<String>,
    /// A PEM file with the certificate's private key: PKCS #8, PKCS #1 or SEC 1, not encrypted.
    pub key: Option<String>,
}

/// A newtype for its default.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct AccessLogFile(pub String);

impl Default for AccessLogFile {
    fn default() -> Self {
        Self("stdout".to_owned())
    }
}

/// Bounds on what clients may ask for at a time.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsFile {
    /// Client connections.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connections_max: u32,
    /// Exchanges.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub in_flight_max: u32,
    /// Bytes of a request's head.
    #[schemars(range(min = 8192, max = 1_048_576))]
    pub header_bytes_max: u32,
    /// Headers of a request.
    #[schemars(range(min = 16, max = 1024))]
    pub header_count_max: u32,
    /// Milliseconds from a request's first byte to the end of its head.
    #[schemars(range(min = 100, max = 600_000))]
    pub head_timeout_ms: u32,
    /// Milliseconds that a client connection may stay without a request.
    #[schemars(range(min = 100, max = 3_600_000))]
    pub keep_alive_ms: u32,
    /// Bytes of a body that the gateway may read where a plugin asked for fields of it.
    #[schemars(range(min = 1024, max = 1_073_741_824))]
    pub inspect_bytes_max: u32,
    /// Bytes of all bodies that are being read at one time.
    #[schemars(range(min = 1024, max = 1_099_511_627_776_u64))]
    pub inspect_budget_bytes: u64,
    /// Milliseconds that exchanges may take to finish once the gateway has been told to stop.
    #[schemars(range(min = 0, max = 3_600_000))]
    pub drain_ms: u32,
}

impl Default for LimitsFile {
    fn default() -> Self {
        Self {
            connections_max: 20_000,
            in_flight_max: 10_000,
            header_bytes_max: 64 << 10,
            header_count_max: 100,
            head_timeout_ms: 10_000,
            keep_alive_ms: 75_000,
            inspect_bytes_max: 32 << 20,
            inspect_budget_bytes: 256 << 20,
            drain_ms: 30_000,
        }
    }
}

/// What holds for open WebSockets.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WebSocketFile {
    /// Bytes of one message, all its fragments together; a larger one closes the socket with 1009.
    #[schemars(range(min = 1024, max = 1_073_741_824))]
    pub message_bytes_max: u32,
    /// Bytes of all messages that have come in part, or wait to be taken, at one time.
    #[schemars(range(min = 1024, max = 1_099_511_627_776_u64))]
    pub message_budget_bytes: u64,
    /// Milliseconds without a message in either direction after which a socket is closed.
    #[schemars(range(min = 100, max = 86_400_000))]
    pub idle_timeout_ms: u32,
    /// Milliseconds of silence after which a side is asked with a ping; after as many again it counts as gone.
    #[schemars(range(min = 100, max = 3_600_000))]
    pub ping_interval_ms: u32,
    /// Whether open sockets are closed, with 1008, when their proxy key or channel is disabled; otherwise they live on.
    pub close_when_disabled: bool,
}

impl Default for WebSocketFile {
    fn default() -> Self {
        Self {
            message_bytes_max: 64 << 20,
            message_budget_bytes: 512 << 20,
            idle_timeout_ms: 3_600_000,
            ping_interval_ms: 30_000,
            close_when_disabled: false,
        }
    }
}

/// What a plugin may use.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SandboxFile {
    /// Bytes of memory of one instance.
    #[schemars(range(min = 1_048_576, max = 4_294_967_296_u64))]
    pub memory_bytes_max: u64,
    /// Milliseconds of CPU time for one decision.
    #[schemars(range(min = 1, max = 10_000))]
    pub deadline_ms: u32,
    /// Milliseconds of CPU time for starting and configuring an instance.
    #[schemars(range(min = 1, max = 60_000))]
    pub configure_deadline_ms: u32,
    /// An instance is replaced after so many calls.
    #[schemars(range(min = 1, max = 4_294_967_295_u64))]
    pub calls_max: u32,
    /// `pooled`: instances serve one call after another; `fresh`: a new one for every call.
    pub isolation: Isolation,
    /// Milliseconds for which a plugin is not asked after it broke its deadline.
    #[schemars(range(min = 1, max = 3_600_000))]
    pub back_off_ms: u32,
}

impl Default for SandboxFile {
    fn default() -> Self {
        Self {
            memory_bytes_max: 64 << 20,
            deadline_ms: 10,
            configure_deadline_ms: 500,
            calls_max: 100_000,
            isolation: Isolation::Pooled,
            back_off_ms: 1_000,
        }
    }
}

#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    Pooled,
    Fresh,
}

/// The log of the process itself.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogFile {
    pub level: Level,
    pub format: Format,
}

impl Default for LogFile {
    fn default() -> Self {
        Self { level: Level::Info, format: Format::Text }
    }
}

#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Text,
    Json,
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
