//! The validated configuration: nothing optional that must be there.
//!
//! What the operator wrote is in [`file`]; this is what it means; [`load`] leads from one to the other. A [`Config`]
//! exists only if every check passed, so that nothing downstream asks "is this set?". Secrets have no `Display` and a
//! redacted `Debug`.

mod admin;
pub mod certificate;
mod channels;
mod document;
mod egress;
mod expand;
pub mod file;
mod gateway;
pub mod init;
mod keys;
pub mod load;
mod name;
pub mod problem;
mod shape;
#[cfg(test)]
mod tests;
mod url;

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::digest::sha256;
pub use admin::{Admin, AdminToken};
use certificate::Certificate;
pub use file::UsageSource;
use indexmap::IndexMap;
pub use name::{NAME_RULE, is_name};

/// The configuration of one generation.
#[derive(Debug, PartialEq)]
pub struct Config {
    pub gateway: Gateway,
    /// By id, in file order.
    pub channels: IndexMap<String, Arc<Channel>>,
    pub keys: Keys,
}

/// A named way to a provider.
#[derive(Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own, as the operator sets it")]
pub struct Channel {
    pub id: String,
    pub name: String,
    /// False too where a URL cannot be told because of an unset `${NAME}`: such a channel must never be connected to.
    pub active: bool,
    /// Why requests that need the upstream key cannot be served (`${NAME}` unset, a placeholder left in); for the operator.
    pub key_missing: Option<String>,
    /// No upstream key was given, so that none is missed: for providers that need none.
    pub is_keyless: bool,
    /// The plugin's name: `plugins/<plugin>.wasm`, or the embedded one.
    pub plugin: String,
    /// What the plugin's `configure` is given: the user's `settings` object with the legacy `path_rewrite` and
    /// `websocket_endpoints` added, as JSON text. Never holds a secret.
    pub settings: String,
    /// Where plain HTTP goes.
    pub http: Arc<Endpoint>,
    /// Where WebSocket connections go.
    pub websocket: Arc<Endpoint>,
    /// Further endpoints that a plan may name.
    pub endpoints: IndexMap<String, Arc<Endpoint>>,
    /// By name; `key` is the channel's (first) upstream key, absent when `key_missing` says so.
    pub secrets: IndexMap<String, Secret>,
    pub supports_websocket: bool,
    /// Higher is asked first.
    pub priority: i32,
    /// The share among equal priorities; those with 0 come last, as the proxy key lists them.
    pub weight: u32,
    pub timeouts: Timeouts,
    pub usage: UsageSource,
    /// Whether what the plugin is asked and answers is recorded in the state folder.
    pub capture: bool,
    /// How a new version of the plugin comes to serve; absent: at once.
    pub canary: Option<Canary>,
}

/// A trial of a new plugin version beside the one that serves.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub struct Canary {
    /// Of the channel's exchanges, from 1 to 99.
    pub percent: u32,
    pub window: Duration,
}

/// One upstream address, resolved from a URL at load time.
#[derive(PartialEq, Eq, Hash, Clone)]
pub struct Endpoint {
    pub tls: bool,
    /// Where to connect: a name or an address, without brackets.
    pub host: String,
    pub port: u16,
    /// What goes before a plan's path: empty, or `/…` without a trailing slash.
    pub base_path: String,
    /// The `Host` header; also the name that the certificate must carry (without its port).
    pub authority: String,
    pub proxy: Option<EgressProxy>,
}

/// The way out, for networks from which a provider cannot be reached directly.
#[derive(PartialEq, Eq, Hash, Clone)]
pub struct EgressProxy {
    pub kind: ProxyKind,
    pub host: String,
    pub port: u16,
    /// User and password.
    pub login: Option<(String, Secret)>,
}

#[derive(Debug, PartialEq, Eq, Hash, Clone, Copy)]
pub enum ProxyKind {
    /// `CONNECT` for every upstream, TLS or not.
    Http,
    /// Names are resolved by the proxy.
    Socks5,
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub struct Timeouts {
    /// Until the connection, TLS included, stands.
    pub connect: Duration,
    /// From the request's last byte to the reply's head.
    pub first_byte: Duration,
    /// Between two pieces of a reply.
    pub idle: Duration,
}

/// A provider's key or another named secret of a channel.
#[derive(PartialEq, Eq, Hash, Clone)]
pub struct Secret(Arc<str>);

impl Secret {
    #[must_use]
    pub fn new(value: &str) -> Self {
        Self(value.into())
    }

    /// The value itself: only for putting it into an upstream request.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl fmt::Debug for EgressProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}://{}:{}", self.kind, self.host, self.port)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(
            f,
            "{scheme}://{}:{}{} (Host: {}, proxy: {:?})",
            self.host, self.port, self.base_path, self.authority, self.proxy
        )
    }
}

/// Proxy keys by the SHA-256 of the key; the keys themselves are not kept.
#[derive(Default, PartialEq)]
pub struct Keys {
    pub by_digest: HashMap<[u8; 32], Arc<ProxyKey>>,
}

/// Without the digests: a short key can be found from one.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.by_digest.values()).finish()
    }
}

impl Keys {
    /// What a proxy key is looked up by.
    #[must_use]
    pub fn digest(key: &[u8]) -> [u8; 32] {
        sha256(key)
    }
}

/// What is known of a proxy key; never the key.
#[derive(Debug, PartialEq, Eq)]
pub struct ProxyKey {
    /// Its public name.
    pub id: String,
    pub active: bool,
    /// Ids of existing channels, at least one.
    pub channels: Vec<String>,
    pub tags: Vec<String>,
    /// For people.
    pub description: Option<String>,
}

/// What concerns the process, from `conf/gateway.json`; every field has a default.
#[derive(Debug, PartialEq, Clone)]
pub struct Gateway {
    pub limits: Limits,
    pub websocket: WebSocket,
    pub sandbox: Sandbox,
    /// Per plugin name, in place of `sandbox`.
    pub plugin_sandbox: HashMap<String, Sandbox>,
    /// Without it, channels are asked in the built-in order.
    pub router: Option<Arc<Router>>,
    /// With which the gateway's own port speaks TLS; without it, plain HTTP.
    pub tls: Option<Arc<Certificate>>,
    /// PEM file with further trusted roots.
    pub trusted_ca: Option<PathBuf>,
    /// Origins whose browsers may call: exact values, or `*`.
    pub cors_origins: Vec<String>,
    pub admin: Admin,
    pub access_log: AccessLog,
    /// Of a file; `None`: never.
    pub access_log_rotation: Option<Rotation>,
    pub log: Log,
    pub statistics: Statistics,
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub struct Statistics {
    /// For how many days each request is kept as a line of its own; 0: not at all.
    pub request_log_days: u32,
}

/// The log of the process itself (not of the exchanges: see [`AccessLog`]).
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub struct Log {
    pub level: tracing::Level,
    pub format: LogFormat,
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, PartialEq, Eq, Clone)]
pub enum AccessLog {
    Off,
    Stdout,
    File(PathBuf),
}

/// When a log's file is full, and how many full ones are kept.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub struct Rotation {
    pub bytes_max: u64,
    /// At least one.
    pub files_kept: u32,
}

#[derive(Debug, PartialEq, Eq, Clone)]
pub struct Limits {
    pub connections_max: usize,
    pub in_flight_max: usize,
    pub header_bytes_max: usize,
    pub header_count_max: usize,
    /// From a connection's (or an exchange's) first byte to the end of the head.
    pub head_timeout: Duration,
    /// How long a client connection may stay without a request.
    pub keep_alive: Duration,
    pub inspect_bytes_max: usize,
    /// For all bodies that are being read at one time.
    pub inspect_budget_bytes: usize,
    pub drain: Duration,
}

/// What holds for open WebSockets.
#[derive(Debug, PartialEq, Eq, Clone)]
pub struct WebSocket {
    pub message_bytes_max: usize,
    /// For all messages that have come in part, or wait to be taken, at one time.
    pub message_budget_bytes: usize,
    /// Without a message in either direction.
    pub idle_timeout: Duration,
    /// After so much silence a side is asked; after as much again it counts as gone.
    pub ping_interval: Duration,
    pub close_when_disabled: bool,
}

#[derive(Debug, PartialEq, Eq, Clone)]
pub struct Sandbox {
    pub memory_bytes_max: usize,
    /// CPU time for one `decide`; absent: as suits the component, see [`Sandbox::for_component`].
    pub deadline: Option<Duration>,
    /// CPU time for instantiation and `configure`.
    pub configure_deadline: Duration,
    /// An instance is replaced after so many calls.
    pub calls_max: u32,
    /// A new instance for every call.
    pub fresh: bool,
    /// How many instances a channel has ready beside those at work; absent: one for each worker.
    pub spare_instances: Option<usize>,
    /// After a breach of the deadline, and in a crash loop, the channel's plugin is not asked for so long at first …
    pub back_off: Duration,
    /// … and for at most so long while it goes on.
    pub back_off_max: Duration,
}

/// A component of more bytes brings a language's runtime along: the smallest known such one (`QuickJS`) has 1.6 MB, a plugin
/// in Rust or C some tens of kilobytes.
const SCRIPTING_BYTES_MIN: usize = 1 << 20;
const DEADLINE: Duration = Duration::from_millis(10);
const SCRIPTING_DEADLINE: Duration = Duration::from_millis(50);

/// What chooses among the channels of a proxy key that has several.
#[derive(Debug, PartialEq, Eq, Clone)]
pub struct Router {
    /// The plugin's name, as a channel's.
    pub plugin: String,
    /// Handed to its `configure`, as JSON text.
    pub settings: String,
}

impl Sandbox {
    /// With nothing left open, for a component of this size.
    #[must_use]
    pub fn for_component(&self, bytes: usize) -> Self {
        let usual = if bytes >= SCRIPTING_BYTES_MIN { SCRIPTING_DEADLINE } else { DEADLINE };
        Self { deadline: Some(self.deadline.unwrap_or(usual)), ..self.clone() }
    }
}
