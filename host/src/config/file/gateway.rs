//! `gateway.json` as its author writes it, and the defaults of every field.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// `conf/gateway.json`: what concerns the process. Every field has a default.
#[derive(Serialize, Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayFile {
    pub limits: LimitsFile,
    pub websocket: WebSocketFile,
    pub sandbox: SandboxFile,
    /// By plugin name: what differs from `sandbox`.
    pub plugin_sandbox: BTreeMap<String, SandboxFile>,
    /// What chooses among the channels of a proxy key that has several; without it, the built-in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub router: Option<RouterFile>,
    /// TLS on the gateway's own port; without it, plain HTTP.
    pub tls: Option<TlsFile>,
    /// A PEM file with further trusted root certificates; relative to this file's folder.
    pub trusted_ca: Option<String>,
    /// Origins whose browsers may call, such as `https://chat.example.com`; `*` for all.
    pub cors_origins: Vec<String>,
    /// Who may look at `/stats` and `/dashboard`.
    pub admin: AdminFile,
    /// `stdout`, `off`, or a file's path (with a `/`), relative to this file's folder.
    pub access_log: AccessLogFile,
    pub access_log_rotation: RotationFile,
    pub log: LogFile,
    pub statistics: StatisticsFile,
}

/// What is kept of exchanges, in the state folder.
#[derive(Serialize, Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields)]
pub struct StatisticsFile {
    /// Days for which each request is kept as a line of its own, beside the aggregates; 0: not at all.
    #[schemars(range(min = 0, max = 3650))]
    pub request_log_days: u32,
}

/// A plugin that exports the interface `router`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouterFile {
    /// `plugins/NAME.wasm`, or one inside the binary: `least-busy`, `spread`.
    pub plugin: Option<String>,
    /// Handed to the plugin.
    pub settings: Option<Map<String, Value>>,
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

/// Viewers on the machine itself need neither.
#[derive(Serialize, Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields)]
pub struct AdminFile {
    /// What viewers from elsewhere show: at least 16 visible ASCII characters, or `${NAME}` from the environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Whether everybody may look, without a token.
    pub public: bool,
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
    /// Milliseconds of CPU time for one decision. By default 10, or 50 for a component of 1 MiB and more, which brings a
    /// language's runtime along.
    #[schemars(range(min = 1, max = 10_000))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u32>,
    /// Milliseconds of CPU time for starting and configuring an instance.
    #[schemars(range(min = 1, max = 60_000))]
    pub configure_deadline_ms: u32,
    /// An instance is replaced after so many calls.
    #[schemars(range(min = 1, max = 4_294_967_295_u64))]
    pub calls_max: u32,
    /// `pooled`: instances serve one call after another; `fresh`: a new one for every call.
    pub isolation: Isolation,
    /// Instances that a channel has ready beside those at work. By default one for each worker.
    #[schemars(range(min = 1, max = 1000))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spare_instances: Option<u32>,
    /// Milliseconds for which a plugin is not asked after it broke its deadline, or failed five times in a row.
    #[schemars(range(min = 1, max = 3_600_000))]
    pub back_off_ms: u32,
    /// The pause doubles while the plugin goes on failing, up to so many milliseconds.
    #[schemars(range(min = 1, max = 3_600_000))]
    pub back_off_max_ms: u32,
}

impl Default for SandboxFile {
    fn default() -> Self {
        Self {
            memory_bytes_max: 64 << 20,
            deadline_ms: None,
            configure_deadline_ms: 500,
            calls_max: 100_000,
            isolation: Isolation::Pooled,
            spare_instances: None,
            back_off_ms: 1_000,
            back_off_max_ms: 60_000,
        }
    }
}

#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    Pooled,
    Fresh,
}

/// When the access log's file is begun anew.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RotationFile {
    /// Bytes from which on the file is renamed to `….1` and a new one begun; 0: never.
    #[schemars(range(min = 0, max = 1_099_511_627_776_u64))]
    pub bytes_max: u64,
    /// Renamed files that are kept.
    #[schemars(range(min = 1, max = 1000))]
    pub files_kept: u32,
}

impl Default for RotationFile {
    fn default() -> Self {
        Self { bytes_max: 100 << 20, files_kept: 5 }
    }
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
