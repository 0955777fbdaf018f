//! What can be wrong with a request, and how each provider says so.
//!
//! A [`Fault`] says what is wrong; a [`Shape`] says in which protocol to complain. Status, code and wording per shape
//! are the providers' own, as far as their documentation and their SDKs show them.

use http::StatusCode;
use http::header::{HeaderName, HeaderValue, RETRY_AFTER};
use serde_json::{Value, json};

use super::reply::{Reply, json_with};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    KeyMissing,
    KeyWrong,
    /// A credential in a place where the provider takes none: whoever sent it leaks it.
    KeyMisplaced(&'static str),
    Path,
    /// A path that is a WebSocket's, and a request that opens none.
    Upgrade,
    /// Not JSON, or a field is missing or wrong; the text says which.
    Body(String),
    Model(String),
    /// bailian only: a job was asked for without (or an answer with) `X-DashScope-Async: enable`.
    AsyncOnly,
    SyncOnly,
    RateLimited,
    Internal,
}

/// The protocol in which an error is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    DashScope,
    /// bailian's OpenAI-compatible mode.
    Compatible,
    Anthropic,
    Gemini,
    /// Gemini's OpenAI-compatible mode: Gemini's error inside a list.
    GeminiCompatible,
}

impl Fault {
    pub fn reply(&self, shape: Shape, request_id: &str) -> Reply {
        let message = self.message(shape);
        let (status, body) = match shape {
            Shape::DashScope => {
                let (status, code) = self.dashscope();
                (status, json!({"code": code, "message": message, "request_id": request_id}))
            }
            Shape::Compatible => {
                let (status, code, kind) = self.compatible();
                let error = json!({"message": message, "type": kind, "param": null, "code": code});
                (status, json!({"error": error, "request_id": request_id}))
            }
            Shape::Anthropic => {
                let (status, kind) = self.anthropic();
                let error = json!({"type": kind, "message": message});
                (status, json!({"type": "error", "error": error, "request_id": request_id}))
            }
            Shape::Gemini => self.gemini(&message),
            Shape::GeminiCompatible => {
                let (status, body) = self.gemini(&message);
                (status, json!([body]))
            }
        };
        let status = StatusCode::from_u16(status).expect("the tables hold valid statuses");
        let mut reply = json_with(status, &body);
        let gemini = matches!(shape, Shape::Gemini | Shape::GeminiCompatible);
        // Gemini says in a detail of the body how long to wait.
        if *self == Self::RateLimited && !gemini {
            reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if let (false, Ok(id)) = (gemini, HeaderValue::from_str(request_id)) {
            reply.headers_mut().insert(HeaderName::from_static("x-request-id"), id);
        }
        reply
    }

    /// What a program goes by, for events that carry no status; Gemini's protocols have no such events.
    pub fn code(&self, shape: Shape) -> &'static str {
        match shape {
            Shape::DashScope => self.dashscope().1,
            _ => self.compatible().1,
        }
    }

    fn dashscope(&self) -> (u16, &'static str) {
        match self {
            Self::KeyMissing | Self::KeyWrong => (401, "InvalidApiKey"),
            Self::KeyMisplaced(_) | Self::Path | Self::Upgrade | Self::Body(_) => (400, "InvalidParameter"),
            Self::Model(_) => (404, "ModelNotFound"),
            Self::AsyncOnly | Self::SyncOnly => (403, "AccessDenied"),
            Self::RateLimited => (429, "Throttling.RateQuota"),
            Self::Internal => (500, "InternalError"),
        }
    }

    fn compatible(&self) -> (u16, &'static str, &'static str) {
        match self {
            Self::KeyMissing | Self::KeyWrong => (401, "invalid_api_key", "invalid_request_error"),
            Self::KeyMisplaced(_) | Self::Upgrade | Self::Body(_) => {
                (400, "invalid_parameter_error", "invalid_request_error")
            }
            Self::Path => (404, "not_found", "invalid_request_error"),
            Self::Model(_) => (404, "model_not_found", "invalid_request_error"),
            Self::AsyncOnly | Self::SyncOnly => (403, "access_denied", "access_denied"),
            Self::RateLimited => (429, "limit_requests", "limit_requests"),
            Self::Internal => (500, "internal_error", "internal_error"),
        }
    }

    fn anthropic(&self) -> (u16, &'static str) {
        match self {
            Self::KeyMissing | Self::KeyWrong => (401, "authentication_error"),
            Self::KeyMisplaced(_) | Self::Upgrade | Self::Body(_) => (400, "invalid_request_error"),
            Self::Path | Self::Model(_) => (404, "not_found_error"),
            Self::AsyncOnly | Self::SyncOnly => (403, "permission_error"),
            Self::RateLimited => (429, "rate_limit_error"),
            Self::Internal => (500, "api_error"),
        }
    }

    fn gemini(&self, message: &str) -> (u16, Value) {
        let (code, status) = match self {
            Self::KeyMissing | Self::AsyncOnly | Self::SyncOnly => (403, "PERMISSION_DENIED"),
            Self::KeyWrong | Self::KeyMisplaced(_) | Self::Upgrade | Self::Body(_) => (400, "INVALID_ARGUMENT"),
            Self::Path | Self::Model(_) => (404, "NOT_FOUND"),
            Self::RateLimited => (429, "RESOURCE_EXHAUSTED"),
            Self::Internal => (500, "INTERNAL"),
        };
        let mut error = json!({"code": code, "message": message, "status": status});
        match self {
            Self::KeyWrong => {
                error["details"] = json!([{
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": "API_KEY_INVALID",
                    "domain": "googleapis.com",
                    "metadata": {"service": "generativelanguage.googleapis.com"},
                }]);
            }
            Self::RateLimited => {
                error["details"] = json!([{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1s"}]);
            }
            _ => {}
        }
        (code, json!({"error": error}))
    }

    pub fn message(&self, shape: Shape) -> String {
        let gemini = matches!(shape, Shape::Gemini | Shape::GeminiCompatible);
        match self {
            Self::KeyMissing if gemini => "Method doesn't allow unregistered callers (callers without established \
                identity). Please use API Key or other form of API consumer identity to call this API."
                .into(),
            Self::KeyMissing => "No API-key provided.".into(),
            Self::KeyWrong if gemini => "API key not valid. Please pass a valid API key.".into(),
            Self::KeyWrong => "Invalid API-key provided.".into(),
            Self::KeyMisplaced(place) => format!("The demo upstream takes no credential in {place}."),
            Self::Path if gemini => "The requested URL was not found on this server.".into(),
            Self::Path => "url error, please check url!".into(),
            Self::Upgrade => "Can \"Upgrade\" only to \"WebSocket\".".into(),
            Self::Body(what) if gemini => format!("Invalid JSON payload received. {what}"),
            Self::Body(what) => format!("Required body invalid, please check the request body format: {what}"),
            Self::Model(model) if gemini => format!(
                "models/{model} is not found for this API version, or is not supported for this method. Call \
                ListModels to see the list of available models and their supported methods."
            ),
            Self::Model(model) => format!("The model `{model}` does not exist or you do not have access to it."),
            Self::AsyncOnly => "current user api does not support synchronous calls.".into(),
            Self::SyncOnly => "current user api does not support asynchronous calls.".into(),
            Self::RateLimited if gemini => {
                "You exceeded your current quota, please check your plan and billing details.".into()
            }
            Self::RateLimited => "Requests rate limit exceeded, please try again later.".into(),
            Self::Internal if gemini => "An internal error has occurred. Please retry.".into(),
            Self::Internal => "An internal error has occurred, please try again later.".into(),
        }
    }
}
