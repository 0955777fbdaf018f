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
    HeadTooLarge,
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
    WebSocketUnsupported,
    WebSocketHandshake,
    WebSocketUpgradeRequired,
    OriginNotAllowed,
    QueryInvalid,
    AdminTokenRequired,
    AdminTokenWrong,
    CommandRefused,
    // The gateway's state.
    ChannelDisabled,
    ChannelUnavailable,
    TooManyConnections,
    TooManyExchanges,
    InspectBudget,
    Stopping,
    StatisticsUnavailable,
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
    /// Every kind, in order.
    pub const ALL: [Self; 45] = [
        Self::MalformedRequest,
        Self::HeadTooLarge,
        Self::KeyMissing,
        Self::KeyMalformed,
        Self::KeysDiffer,
        Self::KeyUnknown,
        Self::KeyDisabled,
        Self::NoRoute,
        Self::BodyTooLarge,
        Self::BodyNotJson,
        Self::BodyEdit,
        Self::BodyBroken,
        Self::WebSocketUnsupported,
        Self::WebSocketHandshake,
        Self::WebSocketUpgradeRequired,
        Self::OriginNotAllowed,
        Self::QueryInvalid,
        Self::AdminTokenRequired,
        Self::AdminTokenWrong,
        Self::CommandRefused,
        Self::ChannelDisabled,
        Self::ChannelUnavailable,
        Self::TooManyConnections,
        Self::TooManyExchanges,
        Self::InspectBudget,
        Self::Stopping,
        Self::StatisticsUnavailable,
        Self::PluginRefused,
        Self::PluginTrapped,
        Self::PluginDeadline,
        Self::PluginMemory,
        Self::PluginWaited,
        Self::PluginAnswer,
        Self::PluginOption,
        Self::PluginSigning,
        Self::PluginSecret,
        Self::PluginEndpoint,
        Self::PluginBackOff,
        Self::PluginBusy,
        Self::UpstreamUnreachable,
        Self::UpstreamTls,
        Self::UpstreamConnectTimeout,
        Self::UpstreamFirstByteTimeout,
        Self::UpstreamIdleTimeout,
        Self::UpstreamBroken,
    ];

    /// The table: kind → status, `code`, origin.
    #[must_use]
    pub fn facts(self) -> Facts {
        use Kind as K;
        use Origin::{Client, Gateway, Plugin, Upstream};
        let (status, code, origin) = match self {
            K::MalformedRequest => (400, "malformed_request", Client),
            K::HeadTooLarge => (431, "head_too_large", Client),
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
            K::WebSocketUnsupported => (400, "websocket_not_supported", Client),
            K::WebSocketHandshake => (400, "websocket_handshake_invalid", Client),
            K::WebSocketUpgradeRequired => (426, "websocket_upgrade_required", Client),
            K::OriginNotAllowed => (403, "origin_not_allowed", Client),
            K::QueryInvalid => (400, "query_invalid", Client),
            K::AdminTokenRequired => (401, "admin_token_required", Client),
            K::AdminTokenWrong => (401, "admin_token_wrong", Client),
            K::CommandRefused => (409, "command_refused", Client),
            K::ChannelDisabled => (503, "channel_disabled", Gateway),
            K::ChannelUnavailable => (503, "channel_unavailable", Gateway),
            K::TooManyConnections => (503, "too_many_connections", Gateway),
            K::TooManyExchanges => (503, "too_many_exchanges", Gateway),
            K::InspectBudget => (503, "inspect_budget_exhausted", Gateway),
            K::Stopping => (503, "gateway_stopping", Gateway),
            K::StatisticsUnavailable => (503, "statistics_unavailable", Gateway),
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
            K::PluginBackOff => (502, "plugin_backing_off", Plugin),
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

    /// After a head that two parties could read differently, nothing more on this connection can be trusted.
    pub fn closes_connection(self) -> bool {
        matches!(self, Self::MalformedRequest | Self::HeadTooLarge)
    }
}

/// A failed exchange: what the client is told, and what the log is told beside it.
#[derive(Debug, Clone)]
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

    /// The reply's body, in a shape in which the SDKs of OpenAI (`error.message`, `type`, `code`), Anthropic (`type`,
    /// `error.type`), Gemini (`error.message`, `status`) and DashScope (`code`, `message`, `request_id`) each find theirs.
    pub fn to_json(&self, request_id: &str) -> String {
        let (kind, status) = names(self.status());
        let (code, message) = (self.code(), &self.message);
        serde_json::json!({
            "error": {"message": message, "type": kind, "code": code, "status": status},
            "type": "error",
            "code": code,
            "message": message,
            "request_id": request_id,
        })
        .to_string()
    }
}

/// A status in Anthropic's and OpenAI's `type`, and in Google's `status`.
fn names(status: StatusCode) -> (&'static str, &'static str) {
    match status.as_u16() {
        401 => ("authentication_error", "UNAUTHENTICATED"),
        403 => ("permission_error", "PERMISSION_DENIED"),
        404 => ("not_found_error", "NOT_FOUND"),
        429 => ("rate_limit_error", "RESOURCE_EXHAUSTED"),
        400..=499 => ("invalid_request_error", "INVALID_ARGUMENT"),
        503 => ("overloaded_error", "UNAVAILABLE"),
        504 => ("api_error", "DEADLINE_EXCEEDED"),
        _ => ("api_error", "UNAVAILABLE"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_carries_every_sdk_s_fields_and_never_the_cause() {
        let failure = Failure::new(Kind::UpstreamUnreachable, "the upstream cannot be reached").because("10.0.0.7:443");
        let json: serde_json::Value = serde_json::from_str(&failure.to_json("r1")).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "error": {
                    "message": "the upstream cannot be reached",
                    "type": "api_error",
                    "code": "upstream_unreachable",
                    "status": "UNAVAILABLE",
                },
                "type": "error",
                "code": "upstream_unreachable",
                "message": "the upstream cannot be reached",
                "request_id": "r1",
            })
        );
    }
}
