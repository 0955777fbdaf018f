//! One failure type for the request path, and the one table from a failure to status and body.
//!
//! A [`Failure`] has two faces: `message` is for the client and never holds a secret, a local path or a provider's
//! address; `cause` is for the log. What kind of failure it is decides everything else (status, code, type), in
//! [`Kind::facts`], so that two places can never answer the same failure differently.

use std::borrow::Cow;
use std::fmt;

use http::StatusCode;

/// Who has to do something about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Client,
    Plugin,
    Upstream,
    Gateway,
}

impl Origin {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Plugin => "plugin",
            Self::Upstream => "upstream",
            Self::Gateway => "gateway",
        }
    }
}

/// What went wrong. Every kind has its own `code` in the reply and in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    // The client's doing.
    MalformedRequest,
    KeyMissing,
    KeyMalformed,
    KeysDiffer,
    KeyUnknown,
    KeyDisabled,
    NoRoute,
    BodyTooLarge,
    BodyNotJson,
    BodyEdit,
    BodyBroken,
    OriginRefused,
    WebSocketUnsupported,
    // The gateway's state.
    ChannelDisabled,
    ChannelUnavailable,
    TooManyConnections,
    TooManyExchanges,
    InspectBudget,
    ShuttingDown,
    // The plugin's doing.
    PluginRefused,
    PluginTrapped,
    PluginDeadline,
    PluginMemory,
    PluginWaited,
    PluginAnswer,
    PluginOption,
    PluginSigning,
    PluginSecret,
    PluginEndpoint,
    PluginBackOff,
    PluginBusy,
    // The upstream's doing.
    UpstreamUnreachable,
    UpstreamTls,
    UpstreamConnectTimeout,
    UpstreamFirstByteTimeout,
    UpstreamIdleTimeout,
    UpstreamBroken,
}

/// Everything that follows from a [`Kind`].
pub struct Facts {
    pub status: StatusCode,
    pub code: &'static str,
    pub origin: Origin,
}

impl Kind {
    /// The table: kind → status, `code`, origin.
    #[must_use]
    pub fn facts(self) -> Facts {
        use Kind as K;
        use Origin::{Client, Gateway, Plugin, Upstream};
        let (status, code, origin) = match self {
            K::MalformedRequest => (400, "malformed_request", Client),
            K::KeyMissing => (401, "proxy_key_missing", Client),
            K::KeyMalformed => (401, "proxy_key_malformed", Client),
            K::KeysDiffer => (400, "proxy_keys_differ", Client),
            K::KeyUnknown => (403, "proxy_key_unknown", Client),
            K::KeyDisabled => (403, "proxy_key_disabled", Client),
            K::NoRoute => (404, "no_channel_for_request", Client),
            K::BodyTooLarge => (413, "body_too_large", Client),
            K::BodyNotJson => (415, "body_not_json", Client),
            K::BodyEdit => (400, "body_edit_failed", Client),
            K::BodyBroken => (400, "body_incomplete", Client),
            K::OriginRefused => (403, "origin_not_allowed", Client),
            K::WebSocketUnsupported => (400, "websocket_not_supported", Client),
            K::ChannelDisabled => (503, "channel_disabled", Gateway),
            K::ChannelUnavailable => (503, "channel_unavailable", Gateway),
            K::TooManyConnections => (503, "too_many_connections", Gateway),
            K::TooManyExchanges => (503, "too_many_exchanges", Gateway),
            K::InspectBudget => (503, "inspect_budget_exhausted", Gateway),
            K::ShuttingDown => (503, "shutting_down", Gateway),
            K::PluginRefused => (502, "plugin_refused", Plugin),
            K::PluginTrapped => (502, "plugin_trapped", Plugin),
            K::PluginDeadline => (502, "plugin_deadline_exceeded", Plugin),
            K::PluginMemory => (502, "plugin_memory_exceeded", Plugin),
            K::PluginWaited => (502, "plugin_tried_to_wait", Plugin),
            K::PluginAnswer => (502, "plugin_answer_invalid", Plugin),
            K::PluginOption => (502, "plugin_option_unknown", Plugin),
            K::PluginSigning => (502, "signing_scheme_unknown", Plugin),
            K::PluginSecret => (502, "plugin_secret_unknown", Plugin),
            K::PluginEndpoint => (502, "plugin_endpoint_unknown", Plugin),
            K::PluginBackOff => (503, "plugin_backing_off", Plugin),
            K::PluginBusy => (503, "plugin_not_ready", Plugin),
            K::UpstreamUnreachable => (502, "upstream_unreachable", Upstream),
            K::UpstreamTls => (502, "upstream_tls_failed", Upstream),
            K::UpstreamConnectTimeout => (504, "upstream_connect_timeout", Upstream),
            K::UpstreamFirstByteTimeout => (504, "upstream_first_byte_timeout", Upstream),
            K::UpstreamIdleTimeout => (504, "upstream_idle_timeout", Upstream),
            K::UpstreamBroken => (502, "upstream_broken", Upstream),
        };
        Facts { status: StatusCode::from_u16(status).expect("the table holds valid statuses"), code, origin }
    }
}

/// A failed exchange: what the client is told, and what the log is told beside it.
#[derive(Debug)]
pub struct Failure {
    pub kind: Kind,
    /// For the client.
    pub message: Cow<'static, str>,
    /// For the log only.
    pub cause: Option<String>,
    /// A plugin's refusal brings its own status and code.
    pub refusal: Option<(StatusCode, String)>,
    /// Seconds, for `Retry-After`.
    pub retry_after_s: Option<u32>,
}

impl Failure {
    pub fn new(kind: Kind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into(), cause: None, refusal: None, retry_after_s: None }
    }

    #[must_use]
    pub fn because(mut self, cause: impl fmt::Display) -> Self {
        self.cause = Some(cause.to_string());
        self
    }

    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.refusal.as_ref().map_or_else(|| self.kind.facts().status, |(status, _)| *status)
    }

    #[must_use]
    pub fn code(&self) -> &str {
        self.refusal.as_ref().map_or_else(|| self.kind.facts().code, |(_, code)| code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code(), self.message)?;
        match &self.cause {
            Some(cause) => write!(f, " ({cause})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}
